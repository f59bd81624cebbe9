"""Training against PyTorch and timm: groups, schedule, losses, mixing, averages, and whole runs step by step."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import torchvision_cpu  # noqa: F401  (before timm)

torch = pytest.importorskip("torch", reason="the oracle is PyTorch: make oracles")
timm = pytest.importorskip("timm", reason="the oracle is timm: make oracles")

import paddle  # noqa: E402
from helpers import draw_state, preset  # noqa: E402
from test_gcvit import as_nvlabs  # noqa: E402
from timm.data.mixup import Mixup as TimmMixup  # noqa: E402
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy  # noqa: E402
from timm.optim import param_groups_layer_decay, param_groups_weight_decay  # noqa: E402
from timm.scheduler import CosineLRScheduler  # noqa: E402
from timm.utils import ModelEmaV2  # noqa: E402

import paddle_cait as pc  # noqa: E402
from paddle_cait.bench.timm_models import build  # noqa: E402
from paddle_cait.training.ema import Ema  # noqa: E402
from paddle_cait.training.groups import parameter_groups  # noqa: E402
from paddle_cait.training.losses import distillation_loss, soft_targets, total_loss  # noqa: E402
from paddle_cait.training.mixup import Mixing, Mixup  # noqa: E402
from paddle_cait.training.optimizer import Optimizer  # noqa: E402
from paddle_cait.training.schedule import Cosine  # noqa: E402
from paddle_cait.training.trainer import Objective, Trainer  # noqa: E402

NAMES = ["cait_xxs24_224", "deit_tiny_distilled_patch16_224", "vit_tiny_patch16_224", "deit3_small_patch16_224",
         "dinov2_vits14_reg", "gcvit_xxtiny"]  # fmt: skip


def our_shapes(name):
    with paddle.LazyGuard():
        return {key: tuple(p.shape) for key, p in pc.create_model(name).named_parameters()}


def their_names(name, model):
    """timm's parameter -> the authors'."""
    names = [key for key, _ in model.named_parameters()]
    if name.startswith("gcvit"):
        shapes = {key: torch.empty(p.shape, device="meta") for key, p in model.named_parameters()}
        return dict(zip(shapes, as_nvlabs(shapes)))
    swaps = {"ls1.gamma": "ls1.gamma", "reg_token": "register_tokens"}
    if name.startswith("deit3"):
        swaps = {"ls1.gamma": "gamma_1", "ls2.gamma": "gamma_2"}

    def rename(key):
        for theirs, ours in swaps.items():
            key = key.replace(theirs, ours)
        return key

    return {key: rename(key) for key in names}


@pytest.mark.parametrize("layer_decay", [None, 0.75])
@pytest.mark.parametrize("name", NAMES)
def test_groups_are_timms(name, layer_decay):
    with torch.device("meta"):
        model = build(pc.get_preset(name))
    listed = model.no_weight_decay()
    names = their_names(name, model)
    groups = (
        param_groups_layer_decay(model, 0.05, listed, layer_decay=layer_decay)
        if layer_decay
        else param_groups_weight_decay(model, 0.05, no_weight_decay_list=listed)
    )
    key_of = {id(p): names[key] for key, p in model.named_parameters()}
    theirs = {
        key_of[id(p)]: (round(group.get("lr_scale", 1.0), 9), group["weight_decay"])
        for group in groups
        for p in group["params"]
    }
    ours = {
        key: (round(group.scale, 9), group.decay)
        for group in parameter_groups(our_shapes(name), 0.05, layer_decay)
        for key in group.names
    }
    assert ours == theirs
    assert len({scale for scale, _ in ours.values()}) == (1 if layer_decay is None else len(set(theirs.values())) // 2)


@pytest.mark.parametrize("updates", [True, False])
def test_schedule_is_timms(updates):
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.3)
    epoch = 7
    t = 1 if updates else epoch
    theirs = CosineLRScheduler(
        optimizer, t_initial=70 // t, lr_min=1e-3, warmup_t=14 // t, warmup_lr_init=1e-4, t_in_epochs=True
    )
    ours = Cosine(0.3, 70, 14, 1e-4, 1e-3, t)
    for update in range(70):
        expected = theirs._get_lr(update // t)[0]
        assert abs(ours(update) - expected) < 1e-12, update


def logits(rows, classes, seed):
    return np.random.default_rng(seed).normal(0, 2, (rows, classes)).astype("float32")


def test_losses_are_timms():
    ours, labels = logits(6, 9, 0), np.array([0, 8, 3, 3, 1, 7])
    x = torch.from_numpy(ours).double()
    smoothed = LabelSmoothingCrossEntropy(0.1)(x, torch.from_numpy(labels))
    target = soft_targets(labels, 9, 0.1)
    found = total_loss(paddle.to_tensor(ours), paddle.to_tensor(target))
    assert abs(float(found) - float(smoothed)) < 1e-6
    mixed = (0.3 * target + 0.7 * target[::-1]).astype("float32")
    theirs = SoftTargetCrossEntropy()(x, torch.from_numpy(mixed).double())
    assert abs(float(total_loss(paddle.to_tensor(ours), paddle.to_tensor(mixed))) - float(theirs)) < 1e-6
    hard = (mixed > 0).astype("float32")
    theirs = torch.nn.BCEWithLogitsLoss()(x, torch.from_numpy(hard).double())
    assert abs(float(total_loss(paddle.to_tensor(ours), paddle.to_tensor(mixed), kind="bce")) - float(theirs)) < 1e-6


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_distillation_is_deits(kind):
    """The formula of facebookresearch/deit's DistillationLoss, in float64."""
    student, head, teacher = (logits(5, 7, seed) for seed in range(3))
    labels = np.array([1, 0, 6, 2, 2])
    s, h, t = (torch.from_numpy(x).double() for x in (student, head, teacher))
    base = torch.nn.functional.cross_entropy(s, torch.from_numpy(labels))
    if kind == "soft":
        divergence = torch.nn.functional.kl_div(
            torch.log_softmax(h / 3, 1), torch.log_softmax(t / 3, 1), reduction="sum", log_target=True
        )
        taught = divergence * 9 / h.numel()
    else:
        taught = torch.nn.functional.cross_entropy(h, t.argmax(1))
    expected = base * 0.7 + taught * 0.3
    both = paddle.to_tensor(student), paddle.to_tensor(head)
    target = paddle.to_tensor(soft_targets(labels, 7))
    found = total_loss(both, target, paddle.to_tensor(teacher), alpha=0.3, distillation=kind, temperature=3.0)
    assert abs(float(found) - float(expected)) < 1e-6
    one = total_loss(both[0], target, paddle.to_tensor(teacher), alpha=0.3, distillation=kind, temperature=3.0)
    alone = distillation_loss(both[0], paddle.to_tensor(teacher), kind, 3.0)
    assert abs(float(one) - float(base) * 0.7 - float(alone) * 0.3) < 1e-6


@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
def test_mixing_is_timms(mode, monkeypatch):
    """timm's images and targets, from the numbers that timm drew."""
    images, labels = np.random.default_rng(0).normal(size=(8, 3, 20, 28)).astype("float32"), np.arange(8) % 5
    theirs = TimmMixup(0.8, 1.0, None, 1.0, 0.5, mode, True, 0.1, 5)
    drawn = []
    original = timm.data.mixup.cutmix_bbox_and_lam

    def record(*args, **kwargs):
        found = original(*args, **kwargs)
        drawn.append(found)
        return found

    monkeypatch.setattr(timm.data.mixup, "cutmix_bbox_and_lam", record)
    seen = set()
    for seed in range(12):
        np.random.seed(seed)
        if mode == "batch":
            lam, use = theirs._params_per_batch()
            lams, uses = np.array([lam]), np.array([use])
        else:
            lams, uses = theirs._params_per_elem(8 if mode == "elem" else 4)
        np.random.seed(seed)
        drawn.clear()
        x, y = theirs(torch.from_numpy(images.copy()), torch.from_numpy(labels))
        boxes = iter(drawn)
        ours = []
        for lam, use in zip(lams, uses):
            if use:
                box, lam = next(boxes)
                ours.append((float(lam), tuple(int(b) for b in box)))
            else:
                ours.append((float(lam), None))
        ours = ours * 8 if mode == "batch" else ours + ours[::-1] if mode == "pair" else ours
        mixing = Mixing(np.array([one[0] for one in ours], np.float32), [one[1] for one in ours])
        np.testing.assert_allclose(mixing.apply(paddle.to_tensor(images)).numpy(), x.numpy(), atol=1e-6)
        np.testing.assert_allclose(mixing.targets(soft_targets(labels, 5, 0.1)), y.numpy(), atol=1e-6)
        seen |= set(uses.tolist())
    assert seen == {True, False}


@pytest.mark.parametrize("minmax", [None, (0.2, 0.8)])
def test_mixing_draws_as_timm(minmax):
    ours, rng = Mixup(0.8, 1.0, 0.9, 0.4, "elem", minmax), np.random.default_rng(0)
    theirs = TimmMixup(0.8, 1.0, minmax, 0.9, 0.4, "elem", True, 0.0, 5)
    np.random.seed(0)
    mine, other = [], []
    for _ in range(400):
        mixing = ours.draw(16, (20, 28), rng)
        mine += [[share, box is not None] for share, box in zip(mixing.share, mixing.boxes) if share < 1]
        lams, uses = theirs._params_per_elem(16)
        for lam, use in zip(lams, uses):
            if use and lam < 1:
                _, lam = timm.data.mixup.cutmix_bbox_and_lam((3, 20, 28), lam, theirs.cutmix_minmax)
            if lam < 1:
                other.append([float(lam), bool(use)])
    mine, other = np.array(mine, float), np.array(other, float)
    assert abs(len(mine) - len(other)) / 6400 < 0.03
    assert abs(mine[:, 1].mean() - other[:, 1].mean()) < 0.03
    for cut in (0, 1):
        found, expected = mine[mine[:, 1] == cut, 0], other[other[:, 1] == cut, 0]
        np.testing.assert_allclose(*(np.quantile(x, [0.1, 0.3, 0.5, 0.7, 0.9]) for x in (found, expected)), atol=0.05)


class Batches:
    """The same drawn images and labels for both."""

    def __init__(self, size, classes, count=20, rows=4):
        rng = np.random.default_rng(7)
        self.pairs = [
            (rng.normal(size=(rows, 3, size, size)).astype("float32"), rng.integers(0, classes, rows))
            for _ in range(count)
        ]


CASES = ("cait", "deit_tiny_patch16_224")


def both_models(case, tmp_path):
    """(ours, timm's) with the same drawn weights."""
    if case == "cait":
        chosen = preset(tmp_path, embed_dim=48, num_heads=4, depth=4)
        theirs = timm.models.cait.Cait(**chosen.arch)
    else:
        chosen = pc.get_preset(case)
        theirs = timm.create_model(case)
    state = draw_state({name: tuple(value.shape) for name, value in theirs.state_dict().items()}, 3)
    theirs.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    file = tmp_path / "drawn.pth"
    torch.save({"model": theirs.state_dict()}, file)
    ours = pc.create_model(chosen, weights=file)
    return ours.train(), theirs.train(), chosen


@pytest.mark.parametrize("layer_decay", [None, 0.8])
@pytest.mark.parametrize("case", CASES)
def test_twenty_steps_follow_pytorch(case, layer_decay, tmp_path):
    ours, theirs, chosen = both_models(case, tmp_path)
    size, classes = chosen.arch["img_size"], chosen.num_classes
    listed = theirs.no_weight_decay()
    groups = (
        param_groups_layer_decay(theirs, 0.05, listed, layer_decay=layer_decay)
        if layer_decay
        else param_groups_weight_decay(theirs, 0.05, no_weight_decay_list=listed)
    )
    rate = 3e-4
    for group in groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)
    torch_optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95), eps=1e-7)
    shapes = {name: tuple(p.shape) for name, p in ours.named_parameters()}
    optimizer = Optimizer(ours, parameter_groups(shapes, 0.05, layer_decay), (0.9, 0.95), 1e-7, clip=5.0)
    trainer = Trainer(ours, Objective(classes, smoothing=0.1), optimizer)
    criterion = LabelSmoothingCrossEntropy(0.1)
    gradients = {}
    original = optimizer.clip_gradients

    def keep():
        if not gradients:
            gradients.update({name: p.grad.numpy() for name, p in ours.named_parameters()})
        return original()

    optimizer.clip_gradients = keep
    for step, (images, labels) in enumerate(Batches(size, classes).pairs):
        loss = criterion(theirs(torch.from_numpy(images)), torch.from_numpy(labels))
        loss.backward()
        if step == 0:
            expected = {name: p.grad.numpy().copy() for name, p in theirs.named_parameters()}
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 5.0)
        torch_optimizer.step()
        torch_optimizer.zero_grad()
        found = trainer.update([(paddle.to_tensor(images), labels)], rate, [np.random.default_rng(0)])
        assert abs(found - loss.item()) <= 1e-4 * abs(loss.item()), f"step {step}: {found} against {loss.item()}"
    linear = {f"{name}.weight" for name, layer in ours.named_sublayers() if isinstance(layer, paddle.nn.Linear)}
    largest = max(np.abs(value).max() for value in expected.values())
    for name, value in expected.items():
        mine = gradients[name].T if name in linear else gradients[name]
        scale = max(np.abs(value).max(), 1e-3 * largest)
        assert np.abs(mine - value).max() <= 1e-4 * scale, name
    for name, value in theirs.state_dict().items():
        mine = ours.state_dict()[name].numpy()
        mine = mine.T if name in linear else mine
        np.testing.assert_allclose(mine, value.numpy(), atol=2e-4, err_msg=name)


def test_the_average_is_timms(tmp_path):
    ours, theirs, _ = both_models("cait", tmp_path)
    mine, other = Ema(ours, 0.9), ModelEmaV2(theirs, 0.9)
    rng = np.random.default_rng(0)
    targets = dict(ours.named_parameters())
    for _ in range(3):
        for name, parameter in theirs.named_parameters():
            if parameter.ndim != 2:  # matrices are turned; the rest is the same in both
                change = rng.normal(size=tuple(parameter.shape)).astype("float32")
                parameter.data.add_(torch.from_numpy(change))
                targets[name].set_value(targets[name].numpy() + change)
        mine.update(ours)
        other.update(theirs)
    for name, value in other.module.state_dict().items():
        if value.ndim != 2:
            np.testing.assert_allclose(mine.average[name].numpy(), value.numpy(), atol=1e-5, err_msg=name)
    before = ours.pos_embed.numpy()
    with mine.applied(ours):
        assert (ours.pos_embed.numpy() == mine.average["pos_embed"].numpy()).all()
    assert (ours.pos_embed.numpy() == before).all()
