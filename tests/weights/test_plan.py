"""Every tensor gets a place or a reason; anything unexplained is an error that names it."""

from pathlib import Path

import numpy as np
import paddle
import pytest
from google_npz import google_shapes
from helpers import draw_state, images, npz, official_shapes, preset, run

import paddle_cait as pc
from paddle_cait.weights.identify import fits, in_canonical_names
from paddle_cait.weights.plan import ModelSpec, make_plan
from paddle_cait.weights.tensors import Checkpoint, TensorRef
from paddle_cait.weights.wording import compact, grouped


def reference(tiny, tmp_path, state):
    return run(pc.create_model(tiny, npz(tmp_path / "reference.npz", state)), images(2, 48))


def test_a_fitting_file_loads_whole(tiny, state, tmp_path):
    model = pc.create_model(tiny, npz(tmp_path / "x.npz", state))
    report = model.load_report
    assert sorted(report.loaded) == sorted(state) and not (report.resized or report.left_out or report.kept)
    assert report.orientation.startswith("PyTorch") and len(report.sha256) == 64
    assert "tensors loaded" in report.summary()
    loaded = model.state_dict()
    np.testing.assert_array_equal(loaded["blocks.0.attn.proj.weight"].numpy(), state["blocks.0.attn.proj.weight"].T)
    np.testing.assert_array_equal(loaded["blocks.0.attn.proj_l.weight"].numpy(), state["blocks.0.attn.proj_l.weight"].T)


@pytest.mark.parametrize("wrap", ["module.", "_orig_mod.", "_orig_mod.module."])
def test_wrapper_prefixes(tiny, state, tmp_path, wrap):
    wrapped = npz(tmp_path / "x.npz", {wrap + k: v for k, v in state.items()})
    model = pc.create_model(tiny, wrapped)
    np.testing.assert_array_equal(run(model, images(2, 48)), reference(tiny, tmp_path, state))


def test_paddles_orientation_square_matrices_included(tiny, state, tmp_path):
    """Square matrices cannot tell their orientation; the others tell for them."""
    linear = [n for n in state if n.endswith("weight") and state[n].ndim == 2]
    assert {state[n].shape[0] == state[n].shape[1] for n in linear} == {True, False}
    turned = {n: np.ascontiguousarray(v.T) if n in linear else v for n, v in state.items()}
    model = pc.create_model(tiny, npz(tmp_path / "x.npz", turned))
    assert model.load_report.orientation.startswith("Paddle")
    np.testing.assert_array_equal(run(model, images(2, 48)), reference(tiny, tmp_path, state))


def test_contradicting_orientations_are_refused(tiny, state, tmp_path):
    state["blocks.1.mlp.fc1.weight"] = state["blocks.1.mlp.fc1.weight"].T
    with pytest.raises(pc.WeightsError, match=r"contradict each other.*blocks\.1\.mlp\.fc1\.weight are \[in, out\]"):
        pc.create_model(tiny, npz(tmp_path / "x.npz", state))


def test_paddlevit_names(tiny, state, tmp_path):
    renamed = {n.replace("patch_embed.proj", "patch_embed.patch_embed"): v for n, v in state.items()}
    model = pc.create_model(tiny, npz(tmp_path / "x.npz", renamed))
    assert model.load_report.layout == "paddlevit"
    np.testing.assert_array_equal(run(model, images(2, 48)), reference(tiny, tmp_path, state))


def test_a_missing_tensor(tiny, state, tmp_path):
    for i in range(3):
        del state[f"blocks.{i}.gamma_2"]
    with pytest.raises(pc.WeightsError, match=r"3 of the model's \d+ tensors are missing: blocks\.\{0-2\}\.gamma_2$"):
        pc.create_model(tiny, npz(tmp_path / "x.npz", state))


def test_an_unknown_tensor(tiny, state, tmp_path):
    state["head_dist.bias"] = np.zeros(7, np.float32)
    with pytest.raises(pc.WeightsError, match=r"1 tensors have no place in the model: head_dist\.bias"):
        pc.create_model(tiny, npz(tmp_path / "x.npz", state))


def test_a_wrong_shape_and_a_wrong_type(tiny, state, tmp_path):
    state["norm.bias"] = np.zeros(41, np.float32)
    state["blocks.0.norm1.bias"] = np.zeros(40, np.int64)
    with pytest.raises(pc.WeightsError) as caught:
        pc.create_model(tiny, npz(tmp_path / "x.npz", state))
    assert "norm.bias is [41], expected [40]" in str(caught.value)
    assert "blocks.0.norm1.bias is int64, expected a floating-point tensor" in str(caught.value)


def test_nothing_is_loaded_from_a_file_that_does_not_fit(tiny, state, tmp_path):
    model = pc.create_model(tiny)
    before = {n: v.numpy() for n, v in model.state_dict().items()}
    state["norm.bias"] = np.zeros(41, np.float32)
    with pytest.raises(pc.WeightsError):
        pc.load_weights(model, npz(tmp_path / "x.npz", state))
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name])


def test_the_wrong_model_is_named(tmp_path, tiny):
    xxs = draw_state(official_shapes(pc.get_preset("cait_xxs24_224")))
    path = npz(tmp_path / "x.npz", xxs)
    with pytest.raises(pc.WeightsError, match=r"does not fit cait_xxs24_384.*It fits cait_xxs24_224\.") as caught:
        pc.convert(path, tmp_path / "out.pdparams", model="cait_xxs24_384")
    assert "pos_embed is [1, 196, 192], expected [1, 576, 192]" in str(caught.value)
    with pytest.raises(pc.WeightsError, match=r"It fits cait_xxs24_224\."):
        pc.create_model("cait_xxs36_224", weights=path)


def test_another_number_of_classes_leaves_the_classifier_out(tiny, state, tmp_path):
    path = npz(tmp_path / "x.npz", state)
    report = pc.create_model(tiny, path, num_classes=5).load_report
    assert set(report.left_out) == set(report.kept) == {"head.weight", "head.bias"}
    assert report.left_out["head.weight"] == "classifier of 7 classes, the model has 5"
    report = pc.create_model(tiny, path, num_classes=0).load_report
    assert set(report.left_out) == {"head.weight", "head.bias"} and not report.kept
    with pytest.raises(pc.WeightsError, match=r"head\.weight is \[40, 7\], expected \[40, 5\]"):
        other = pc.create_model(preset(tmp_path, num_classes=5))
        pc.load_weights(other, path)


def test_another_size_resamples_the_position_table(tiny, state, tmp_path):
    model = pc.create_model(tiny, npz(tmp_path / "x.npz", state), img_size=80)
    assert model.load_report.resized == {"pos_embed": "3x3 positions resampled to 5x5 by the rule 'deit'"}
    assert model.state_dict()["pos_embed"].shape == [1, 25, 40] or tuple(model.state_dict()["pos_embed"].shape) == (
        1,
        25,
        40,
    )


def test_the_same_number_of_patches_on_another_grid_is_resampled_too(tmp_path):
    square = preset(tmp_path, img_size=64)  # 4x4 patches
    state = draw_state(official_shapes(square))
    path = npz(tmp_path / "x.npz", state)
    wide = pc.create_model(square, path, img_size=(32, 128))  # 2x8, sixteen as well
    assert wide.load_report.resized == {"pos_embed": "4x4 positions resampled to 2x8 by the rule 'deit'"}
    paddle.save(wide.state_dict(), str(tmp_path / "wide.pdparams"))
    again = pc.create_model(square, tmp_path / "wide.pdparams", img_size=(32, 128))
    assert not again.load_report.resized
    np.testing.assert_array_equal(again.state_dict()["pos_embed"].numpy(), wide.state_dict()["pos_embed"].numpy())


def test_entries_of_a_training_checkpoint(tiny, state, tmp_path):
    other = draw_state(official_shapes(tiny), seed=1)
    tensors = {n: paddle.to_tensor(v) for n, v in state.items()}
    ema = {n: paddle.to_tensor(v) for n, v in other.items()}
    path = str(tmp_path / "train.pdparams")
    paddle.save({"model": tensors, "model_ema": ema, "epoch": 3, "best": {"top1": 1.0}}, path)
    report = pc.create_model(tiny, path).load_report
    assert report.entry == "model"
    assert report.left_out == {
        "model_ema": "another set of weights: choose it with entry='model_ema'",
        "epoch": "training state",
        "best": "training state",
    }
    model = pc.create_model(tiny, path, entry="model_ema")
    np.testing.assert_array_equal(model.state_dict()["norm.bias"].numpy(), other["norm.bias"])
    with pytest.raises(pc.WeightsError, match="has no entry 'ema' with weights, it has 'model', 'model_ema'"):
        pc.create_model(tiny, path, entry="ema")


def test_our_own_paddle_save(tiny, state, tmp_path):
    model = pc.create_model(tiny, npz(tmp_path / "x.npz", state))
    paddle.save(model.state_dict(), str(tmp_path / "ours.pdparams"))
    again = pc.create_model(tiny, tmp_path / "ours.pdparams")
    np.testing.assert_array_equal(run(again, images(2, 48)), run(model, images(2, 48)))


def test_compact_loses_nothing():
    names = [f"blocks.{i}.{n}" for i in (0, 1, 2, 5) for n in ("norm1.bias", "norm1.weight")] + ["cls_token"]
    assert compact(names) == "blocks.{0-2,5}.norm1.{bias,weight}, cls_token"
    assert compact(["blocks.7.x"]) == "blocks.7.x"
    assert compact(["a", "b.c"]) == "a, b.c"
    assert compact([]) == ""


def test_grouped_messages():
    lines = ["blocks.0.n is [1], expected [2]", "blocks.1.n is [1], expected [2]", "norm is [3], expected [4]"]
    assert grouped(lines) == ["blocks.{0-1}.n is [1], expected [2]", "norm is [3], expected [4]"]


def test_keys_that_are_no_text(tiny):
    """A pickle's dictionary may have any keys; they are names like others, and none of them fits."""

    def checkpoint(tree):
        return Checkpoint(Path("x.pth"), "pth-zip", {key: TensorRef(str(key), (3,), "float32", dict) for key in tree})

    model = pc.create_model(tiny)
    with pytest.raises(pc.WeightsError, match="2 tensors have no place in the model: 1, head.gamma"):
        make_plan(ModelSpec.of(model), checkpoint([1, "head.gamma"]))
    with pytest.raises(pc.WeightsError, match="two tensors are named 1, one by text and one by number"):
        make_plan(ModelSpec.of(model), checkpoint([1, "1"]))


SHAPES = [
    (),
    (0,),
    (1,),
    (3,),
    (40,),
    (40, 0),
    (3, 40),
    (40, 3),
    (1, 1, 40),
    (5, 8, 40),
    (40, 5, 8),
    (1, 1, 1, 64),
    (2, 2),
]
SHAPES += [(1, 9, 40), (1, 10, 40), (7, 7, 3, 64), (1, 1, 1, 1, 1)]


@pytest.mark.parametrize("layout", ["google", "hugging face", "official"])
def test_any_shapes_under_any_names_are_explained(layout, tmp_path):
    """Whatever the arrays of a hostile file are shaped as: an error that names tensors, never a traceback."""
    rng = np.random.RandomState(0)
    chosen = preset(tmp_path, family="vit_hybrid" if layout == "google" else "vit")
    keys = list(google_shapes(chosen.arch) if layout == "google" else official_shapes(chosen))
    if layout == "hugging face":
        parts = [f"attention.attention.{p}.{leaf}" for p in ("query", "key", "value") for leaf in ("weight", "bias")]
        keys = ["embeddings.cls_token", "embeddings.position_embeddings", "layernorm.weight", "classifier.bias"]
        keys += [f"encoder.layer.{i}.{part}" for i in range(3) for part in parts]
    keys += ["a#query", "#", "blocks.0.attn.qkv.weight#", "blocks.0.attn.qkv.weight#who", "pos_embed", "cls"]
    specs = [ModelSpec.of(pc.create_model(chosen, num_classes=classes)) for classes in (None, 0, 5)]
    for i in range(60):
        tree = {}
        for key in keys:
            array = np.zeros(SHAPES[rng.randint(len(SHAPES))], [np.float32, np.float16, np.int64][rng.randint(3)])
            tree[key] = TensorRef(key, array.shape, array.dtype.name, lambda array=array: array)
        file = Checkpoint(Path("x.npz"), "npz", tree)
        with pytest.raises(pc.WeightsError) as caught:
            make_plan(specs[i % 3], file)
        assert "\n" not in str(caught.value)
        try:
            shapes = in_canonical_names(file)[2].shapes
        except pc.WeightsError as error:
            assert "x.npz" in str(error)
        else:
            assert fits(shapes)
