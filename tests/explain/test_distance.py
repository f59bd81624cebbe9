"""Mean attention distance against the definition in plain loops; over many images, stopped and continued."""

import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import paddle
import pytest
from helpers import ROOT, draw_state, images, npz, official_shapes, photographs, preset

import paddle_cait as pc
from paddle_cait.data.loader import ImageDataset
from paddle_cait.data.sources import ImageSource
from paddle_cait.data.transforms import eval_transform
from paddle_cait.errors import DataError, PaddleCaitError
from paddle_cait.explain import distance_stream
from paddle_cait.explain.capture import AttentionMaps, capture_attention, watch_attention
from paddle_cait.explain.distance import DistanceMeter, distance_layers, mean_attention_distance
from paddle_cait.explain.distance_stream import stream_distance
from paddle_cait.layers.token_layout import TokenLayout

# kind -> (family, what it adds, prefix tokens)
KINDS = {
    "deit": ("deit", {}, 1),
    "distilled": ("deit", {"distilled": True}, 2),
    "registers": ("dinov2", {"num_register_tokens": 4}, 5),
    "hybrid": ("vit_hybrid", {}, 1),
    "cait": ("cait", {}, 0),
}


def drawn(tmp_path, kind="deit", **options):
    family, changes, _ = KINDS[kind]
    tiny = preset(tmp_path, kind, family, **changes)
    state = draw_state(official_shapes(tiny))
    if family == "dinov2":
        state["mask_token"] = np.ones((1, 40), "float32")
    model = pc.create_model(tiny, npz(tmp_path / "drawn.npz", state), **options)
    model.eval()
    return model


def by_definition(attention, grid, stride, prefix):
    """[B, heads, T, T] -> [B, heads], patch by patch."""
    places = [(row * stride[0], column * stride[1]) for row in range(grid[0]) for column in range(grid[1])]
    found = np.zeros(attention.shape[:2])
    for b, image in enumerate(attention.tolist()):
        for h, head in enumerate(image):
            means = []
            for query, here in enumerate(places):
                row = [abs(weight) for weight in head[prefix + query][prefix:]]
                if sum(row) > 0:
                    means.append(sum(w * math.dist(here, there) for w, there in zip(row, places)) / sum(row))
            found[b, h] = sum(means) / len(means) if means else 0.0
    return found


def metered(maps, names):
    meter = DistanceMeter()
    for name in names:
        values = maps[name]
        meter.see(name, maps.layouts[name], paddle.to_tensor(values) if isinstance(values, np.ndarray) else values)
    return meter.take(names)


def close(found, expected, rtol=1e-5):
    assert found.dtype == np.float64 and found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=rtol)


def made(kind="tokens", grid=(3, 4), stride=(16, 16), prefix=1, heads=3, batch=2, talking=False):
    """Sharp maps of two layers, whose heads and images differ."""
    layout = TokenLayout(kind, grid, stride, min(prefix, 1), max(prefix - 1, 0), rows_sum_to_one=not talking)
    maps = AttentionMaps({"blocks.0.attn": layout, "blocks.1.attn": layout}, "a model")
    rng, tokens = np.random.RandomState(7), prefix + grid[0] * grid[1]
    for name in maps.layouts:
        scores = rng.standard_normal((batch, heads, tokens, tokens)) * 4
        values = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        if talking:
            mixed = np.eye(heads) + 0.3 * rng.standard_normal((heads, heads))
            values = np.einsum("bhij,hg->bgij", values, mixed) - 0.01
            assert (values < 0).mean() > 0.2
        maps[name] = values.astype(np.float32)
    return maps


@pytest.mark.parametrize("talking", [False, True])
@pytest.mark.parametrize("prefix", [0, 1, 2, 5])
@pytest.mark.parametrize(("grid", "stride"), [((3, 4), (16, 16)), ((5, 2), (8, 14))])
def test_is_the_definition(grid, stride, prefix, talking):
    maps = made(grid=grid, stride=stride, prefix=prefix, talking=talking)
    names = distance_layers(maps)
    assert names == list(maps)
    expected = np.stack([by_definition(maps[name], grid, stride, prefix) for name in names], axis=1)
    apart = np.diff(np.sort(expected.ravel()))
    assert apart.min() > 2e-5 * expected.max()  # none can be taken for another
    close(mean_attention_distance(maps), expected, 1e-12)
    close(metered(maps, names), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_of_models(kind, tmp_path):
    """Of a rectangle of patches, captured and measured while the model runs."""
    model, prefix = drawn(tmp_path, kind, img_size=(48, 64)), KINDS[kind][2]
    x, meter = paddle.to_tensor(images(2, 64)[:, :, :48]), DistanceMeter()
    with capture_attention(model) as maps, paddle.no_grad():
        names = distance_layers(maps, maps.layouts)
        with watch_attention(model, meter.see, names):
            model(x)
    assert distance_layers(maps) == names == [f"blocks.{i}.attn" for i in range(len(model.blocks))]
    found = mean_attention_distance(maps)
    step = model.patch_embed.stride
    for i, name in enumerate(names):
        assert maps.layouts[name].prefix == prefix
        assert maps.layouts[name].rows_sum_to_one == (kind != "cait")
        close(found[:, i], by_definition(maps[name].numpy(), (48 // step[0], 64 // step[1]), step, prefix), 1e-12)
    close(meter.take(names), found)


def test_of_a_uniform_map_is_the_mean_distance():
    """4 patches in a row, 10 pixels apart: 0, 10, 20, 30 from the first, 10, 0, 10, 20 from the second."""
    maps = AttentionMaps({"a": TokenLayout("tokens", (1, 4), (16, 10), class_tokens=1)}, "a model")
    maps["a"] = np.full((1, 1, 5, 5), 0.2, np.float32)
    assert mean_attention_distance(maps).tolist() == [[[12.5]]]


def test_half_precision():
    maps = made(prefix=2)
    for name in list(maps):
        maps[name] = paddle.to_tensor(maps[name]).astype("bfloat16")
    rounded = [maps[name].astype("float32").numpy() for name in maps]
    expected = np.stack([by_definition(one, (3, 4), (16, 16), 2) for one in rounded], axis=1)
    close(mean_attention_distance(maps), expected, 1e-12)
    close(metered(maps, list(maps)), expected)


def test_rows_without_weight():
    """A patch that gives nothing to patches is left out; a head of such patches looks 0 pixels far."""
    maps = made(talking=True, prefix=1)
    values = maps["blocks.0.attn"]
    values[0, 0, 3, 1:] = 0.0
    values[1, 2, :, 1:] = 0.0
    found = mean_attention_distance(maps)
    close(found[:, 0], by_definition(values, (3, 4), (16, 16), 1), 1e-12)
    assert found[1, 0, 2] == 0 and found[0, 0, 0] > 1
    close(metered(maps, list(maps)), found)
    values[0, 0, 4, 4] = np.nan  # what is no number is not hidden
    assert np.isnan(mean_attention_distance(maps)[0, 0, 0])


def test_the_meter_leaves_the_map_alone():
    maps = made(talking=True)
    tensor = paddle.to_tensor(maps["blocks.0.attn"])
    DistanceMeter().see("blocks.0.attn", maps.layouts["blocks.0.attn"], tensor)
    assert np.array_equal(tensor.numpy(), maps["blocks.0.attn"])


def test_refusals(tmp_path):
    with pytest.raises(PaddleCaitError, match="no attention was captured"):
        mean_attention_distance(AttentionMaps({}, "a model"))
    with pytest.raises(PaddleCaitError, match="class token alone asks"):
        mean_attention_distance(made("class"))
    with pytest.raises(PaddleCaitError, match="a window bounds it"):
        mean_attention_distance(made("windows"))
    maps = made()
    maps["blocks.1.attn"] = maps["blocks.1.attn"][:, :, :1]
    with pytest.raises(PaddleCaitError, match=r"blocks.1.attn: its map is \[2, 3, 1, 13\], expected .*create_model"):
        mean_attention_distance(maps)
    with pytest.raises(PaddleCaitError, match="blocks.1.attn"):
        metered(maps, list(maps))


@pytest.fixture(name="photographs")
def eleven_photographs(tmp_path):
    return photographs(tmp_path / "images", 11)


class Counted(ImageDataset):
    """Notes what is read; fails at image ``stop``."""

    def __init__(self, folder, model, stop=None, error=KeyboardInterrupt):
        names = sorted(path.name for path in folder.glob("*.png"))
        super().__init__(ImageSource("folder", folder, names, [0] * len(names), ""), eval_transform(model))
        self.read, self.stop, self.error = [], stop, error

    def __getitem__(self, i):
        if i == self.stop:
            raise self.error()
        self.read.append(i)
        return super().__getitem__(i)


def one_by_one(model, dataset):
    found = []
    for i in range(len(dataset)):
        with capture_attention(model) as maps, paddle.no_grad():
            model(paddle.to_tensor(dataset[i][0][None]))
        found.append(mean_attention_distance(maps)[0])
    return np.stack(found)


def test_many_images(tmp_path, photographs):
    model = drawn(tmp_path, "cait")
    model.train()
    found = stream_distance(model, Counted(photographs, model), batch_size=4, workers=0)
    assert model.training
    model.eval()
    dataset = Counted(photographs, model)
    expected = one_by_one(model, dataset)
    assert found.names == dataset.source.names and found.layers == [f"blocks.{i}.attn" for i in range(3)]
    assert found.skipped == [] and found.computed == 11
    close(found.values, expected)
    close(found.mean, expected.mean(0))
    close(found.spread, expected.std(0), 1e-3)
    some = stream_distance(model, dataset, batch_size=4, workers=2, indices=[7, 2])
    assert some.names == ["07.png", "02.png"]
    close(some.values, expected[[7, 2]])
    folded = pc.fuse(model)  # all patches ask in a folded CaiT
    close(stream_distance(folded, dataset, workers=0).values, expected, 1e-4)


def test_continues_where_it_was(tmp_path, photographs, monkeypatch):
    monkeypatch.setattr(distance_stream, "SAVED_EVERY", 0.0)
    model, state = drawn(tmp_path), tmp_path / "state.npz"
    expected = one_by_one(model, Counted(photographs, model))
    with pytest.raises(KeyboardInterrupt):
        stream_distance(model, Counted(photographs, model, stop=6), batch_size=4, workers=0, state=state)
    assert np.load(state)["names"].tolist() == [f"{i:02d}.png" for i in range(4)]
    assert not model.training
    rest = Counted(photographs, model)
    found = stream_distance(model, rest, batch_size=4, workers=0, state=state)
    assert rest.read == list(range(4, 11)) and found.computed == 7
    close(found.values, expected)
    again = stream_distance(model, Counted(photographs, model, stop=0), workers=0, state=state)
    assert again.computed == 0 and np.array_equal(again.values, found.values)


def test_is_saved_however_it_ends(tmp_path, photographs):
    """Long before the first half minute is over."""
    model, state = drawn(tmp_path), tmp_path / "state.npz"
    with pytest.raises(MemoryError):
        stream_distance(
            model, Counted(photographs, model, stop=9, error=MemoryError), batch_size=4, workers=0, state=state
        )
    assert len(np.load(state)["names"]) == 8


SCRIPT = """
import sys, time
from paddle_cait import runtime
runtime.prepare("cpu")
sys.path[:0] = [sys.argv[1] + "/tests", sys.argv[1] + "/tests/explain"]
from pathlib import Path
import paddle_cait as pc
from paddle_cait.explain import distance_stream
from test_distance import Counted

class Slow(Counted):
    def __getitem__(self, i):
        time.sleep(0.2 if i > 3 else 0)
        return super().__getitem__(i)

here = Path(sys.argv[2])
distance_stream.SAVED_EVERY = 0.0
model = pc.create_model("deit", here / "drawn.npz", preset_file=here / "presets.yaml")
distance_stream.stream_distance(model, Slow(here / "images", model), batch_size=2, workers=0, state=here / "state.npz")
"""


def test_kill_9(tmp_path, photographs):
    model, state = drawn(tmp_path), tmp_path / "state.npz"
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(ROOT), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
    )
    try:
        until = time.monotonic() + 60
        while not state.exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
    assert state.exists(), process.stderr.read()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    kept = len(np.load(state)["names"])
    assert 2 <= kept < 11
    assert [path.name for path in tmp_path.glob(".*")] == []
    rest = Counted(photographs, model)
    found = stream_distance(model, rest, batch_size=4, workers=0, state=state)
    assert rest.read == list(range(kept, 11))
    close(found.values, one_by_one(model, Counted(photographs, model)))


def test_a_state_of_something_else(tmp_path, photographs):
    model, state = drawn(tmp_path), tmp_path / "state.npz"
    stream_distance(model, Counted(photographs, model), workers=0, state=state)
    before = state.read_bytes()

    def refused(match, model=model, folder=photographs):
        with pytest.raises(PaddleCaitError, match=match) as caught:
            stream_distance(model, Counted(folder, model, stop=0), workers=0, state=state)
        assert "\n" not in str(caught.value)
        assert state.read_bytes() == before

    tiny = preset(tmp_path, "deit", "deit")
    other = npz(tmp_path / "other.npz", draw_state(official_shapes(tiny), seed=1))
    refused("is a state of other weights", pc.create_model(tiny, other))
    refused("is a state of other image size", drawn(tmp_path, img_size=32))
    refused("is a state of other model", drawn(tmp_path, "distilled"))
    refused("no file gave its weights", pc.create_model(tiny))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "00.png").write_bytes((photographs / "00.png").read_bytes())
    refused("is a state of other folder", folder=tmp_path / "elsewhere")


def test_a_damaged_state(tmp_path, photographs):
    model, state = drawn(tmp_path), tmp_path / "state.npz"
    stream_distance(model, Counted(photographs, model), workers=0, state=state)
    with np.load(state) as good:
        arrays = dict(good)
    whole = state.read_bytes()

    def refused():
        with pytest.raises(PaddleCaitError, match=r"state.npz: is no state of mean attention distances .*delete it"):
            stream_distance(model, Counted(photographs, model, stop=0), workers=0, state=state)

    for damaged in (b"", b"text", whole[:-30], whole.replace(b"(11, 3, 5)", b"(99, 9, 9)")):
        assert damaged != whole
        state.write_bytes(damaged)
        refused()
    changes = [{"values": arrays["values"][:5]}, {"identity": np.array("[]")}, {"names": np.array([[1]], object)}]
    for change in changes:
        np.savez(state, **{**arrays, **change})
        refused()
    np.savez(state, names=arrays["names"])
    refused()
    np.savez_compressed(state, **arrays)
    refused()


def test_unreadable_images(tmp_path, photographs):
    model, state = drawn(tmp_path), tmp_path / "state.npz"
    (photographs / "05.png").write_bytes(b"no image")
    dataset = Counted(photographs, model)
    with pytest.raises(DataError, match="05.png.*--on-error skip"):
        stream_distance(model, dataset, batch_size=3, workers=0, state=state)
    found = stream_distance(model, dataset, batch_size=3, workers=0, state=state, on_error="skip")
    assert len(found.names) == 10 and "05.png" not in found.names and found.values.shape == (10, 3, 5)
    assert [name for name, _ in found.skipped] == ["05.png"] and "05.png" in found.skipped[0][1]
    assert found.computed == 7
    with pytest.raises(DataError, match="none of the 1 images could be read: .*05.png"):
        stream_distance(model, dataset, workers=0, on_error="skip", indices=[5])
    with pytest.raises(DataError, match="no images"):
        stream_distance(model, dataset, workers=0, indices=[])


def test_models_that_are_refused(tmp_path, photographs):
    model = drawn(tmp_path)
    dataset = Counted(photographs, model, stop=0)
    with pytest.raises(PaddleCaitError, match=r"tiny.drawn: mean attention distance .* a window bounds it"):
        stream_distance(pc.create_model(preset(tmp_path, family="gcvit")), dataset, workers=0)
    with pytest.raises(PaddleCaitError, match="batch_size is 0"):
        stream_distance(model, dataset, batch_size=0)
    with pytest.raises(PaddleCaitError, match=r"blocks.2.attn: its map is \[8, 5, 1, 10\], .*create_model"):
        stream_distance(pc.fuse(model), Counted(photographs, model), workers=0)


@pytest.mark.parametrize("kind", ["deit", "cait"])
def test_weights_that_are_no_numbers(kind, tmp_path, photographs):
    model = drawn(tmp_path, kind)
    weight = model.blocks[1].attn.qkv.weight
    weight.set_value(paddle.full_like(weight, float("nan")))
    with pytest.raises(PaddleCaitError, match=r"00.png: gives numbers that are not finite"):
        stream_distance(model, Counted(photographs, model), workers=0)
