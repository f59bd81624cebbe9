"""Gradient-weighted attention and Grad-CAM against timm's models and PyTorch's autograd in float64."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import torchvision_cpu  # noqa: F401  (before timm)

torch = pytest.importorskip("torch", reason="the oracle is PyTorch: make oracles")
timm = pytest.importorskip("timm", reason="the oracle is timm: make oracles")

import paddle  # noqa: E402
from helpers import draw_state, images, preset  # noqa: E402
from timm.models.cait import Cait  # noqa: E402
from timm.models.deit import VisionTransformerDistilled  # noqa: E402
from timm.models.gcvit import GlobalContextVit  # noqa: E402
from timm.models.vision_transformer import VisionTransformer  # noqa: E402

import paddle_cait as pc  # noqa: E402

TINY = {"img_size": 48, "patch_size": 16, "embed_dim": 40, "depth": 3, "num_heads": 5, "num_classes": 7}
GCVIT = {"embed_dim": 32, "depths": (2, 3, 2, 2), "num_heads": (2, 4, 8, 16), "mlp_ratio": 2.0, "num_classes": 7}


def pair(theirs, folder, family, **arch):
    """(timm's model in float64, ours), with the same drawn weights."""
    state = draw_state({name: tuple(value.shape) for name, value in theirs.state_dict().items()})
    theirs.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    torch.save(theirs.state_dict(), folder / "drawn.pth")
    ours = pc.create_model(preset(folder, family=family, **arch), folder / "drawn.pth")
    ours.eval()
    return theirs.double().eval(), ours


def relevance(theirs, maps, x, classes, prefix):
    """[B, patches] by Chefer's rule, with whole matrices; ``maps`` fills as ``theirs`` runs."""
    logits = theirs(torch.from_numpy(x).double())
    score = sum(logits[i, k] for i, k in enumerate(classes))
    found = torch.autograd.grad(score, list(maps))
    tokens = max(values.shape[-1] for values in maps)
    total = torch.eye(tokens, dtype=torch.float64).expand(len(x), -1, -1)
    for values, gradient in zip(maps, found):
        weighted = (values * gradient).clamp(min=0).mean(1)
        first = tokens - weighted.shape[-1]  # CaiT's patch blocks have no class token
        step = torch.zeros(len(x), tokens, tokens, dtype=torch.float64)
        step[:, first : first + weighted.shape[1], first:] = weighted.detach()
        total = total + step @ total
    return total[:, :prefix, prefix:].mean(1).numpy()


def kept(maps):
    """A hook that keeps what goes into a layer."""
    return lambda layer, inputs: maps.append(inputs[0])


@pytest.mark.parametrize("distilled", [False, True])
def test_gradient_attention_of_a_vit(tmp_path, distilled):
    kind = VisionTransformerDistilled if distilled else VisionTransformer
    theirs, ours = pair(kind(mlp_ratio=3.0, **TINY), tmp_path, "deit", **TINY, distilled=distilled)
    x, maps = images(3, 48), []
    for block in theirs.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_pre_hook(kept(maps))
    expected = relevance(theirs, maps, x, [1, 6, 2], 2 if distilled else 1)
    found = pc.explain.gradient_attention(ours, paddle.to_tensor(x), [1, 6, 2]).reshape(3, -1)
    print(f"max |difference| {np.abs(found - expected).max():.2e}, values up to {expected.max():.3f}")
    assert expected.std() > 1e-3
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_gradient_attention_of_cait(tmp_path):
    arch = {**TINY, "mlp_ratio": 3.0, "depth_token_only": 2, "mlp_ratio_token_only": 2.0}
    theirs, ours = pair(Cait(**arch), tmp_path, "cait", **arch)
    x, maps = images(3, 48), []
    for block in theirs.blocks:  # timm drops on [B, H, N, N], after the heads were mixed
        block.attn.attn_drop.register_forward_pre_hook(kept(maps))
    for block in theirs.blocks_token_only:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_pre_hook(kept(maps))
    expected = relevance(theirs, maps, x, [1, 6, 2], 1)
    found = pc.explain.gradient_attention(ours, paddle.to_tensor(x), [1, 6, 2]).reshape(3, -1)
    assert expected.std() > 1e-4
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("level", [1, 3])
def test_grad_cam_of_gcvit(tmp_path, level):
    arch = {key: list(value) if isinstance(value, tuple) else value for key, value in GCVIT.items()}
    theirs, ours = pair(GlobalContextVit(img_size=64, layer_scale=None, **GCVIT), tmp_path, "gcvit", **arch)
    x, seen = images(3, 64), []
    # timm ends a level with its norm (the last one) and begins it with the downsampling
    theirs.stages[level].blocks[-1].register_forward_hook(lambda layer, inputs, output: seen.append(output))
    logits = theirs(torch.from_numpy(x).double())
    (gradient,) = torch.autograd.grad(logits[:, 4].sum(), seen)
    expected = (gradient.mean((1, 2), keepdim=True) * seen[0]).sum(-1).clamp(min=0).detach().numpy()
    found = pc.explain.grad_cam(ours, paddle.to_tensor(x), 4, level)
    assert found.shape == expected.shape and expected.std() > 1e-4
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
