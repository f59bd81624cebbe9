"""Round trips bit for bit, provenance, and outputs that are whole or absent."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import paddle
import pytest
from helpers import ROOT, draw_state, images, npz, official_shapes, run

import paddle_cait as pc
from paddle_cait.files import sha256_file
from paddle_cait.weights.readers import open_checkpoint
from paddle_cait.weights.safetensors_files import write_safetensors
from paddle_cait.weights.tensors import OutTensor


def tensors(path):
    """Every tensor of a flat file, as its exact bytes."""
    with open_checkpoint(path) as checkpoint:
        return {name: (ref.dtype, ref.shape, ref.read().tobytes()) for name, ref in checkpoint.tree.items()}


def safetensors(path, state, dtype="float32"):
    with open(path, "wb") as file:
        write_safetensors(file, [OutTensor(n, v.shape, dtype, lambda v=v: v) for n, v in state.items()], {})
    return path


@pytest.mark.parametrize("source", ["npz", "safetensors"])
@pytest.mark.parametrize("ours", [".pdparams", ".safetensors"])
@pytest.mark.parametrize("back", [".pdparams", ".safetensors"])
def test_official_to_ours_and_back_is_bit_exact(tiny, state, tmp_path, source, ours, back):
    first = (npz if source == "npz" else safetensors)(tmp_path / f"official.{source}", state)
    middle, last = tmp_path / f"ours{ours}", tmp_path / f"again{back}"
    pc.convert(first, middle, model=tiny)
    pc.convert(middle, last, model=tiny, layout="official")
    assert tensors(last) == {n: ("float32", v.shape, v.tobytes()) for n, v in state.items()}
    turned = tensors(middle)
    assert turned["blocks.0.attn.proj.weight"][2] == state["blocks.0.attn.proj.weight"].T.tobytes()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("ours", [".pdparams", ".safetensors"])
def test_half_precision_round_trips_and_loads(tiny, state, tmp_path, dtype, ours):
    if dtype == "float16":
        halves = {n: v.astype(np.float16) for n, v in state.items()}
        exact = {n: v.astype(np.float32) for n, v in halves.items()}
    else:
        halves = {n: (v.view(np.uint32) >> 16).astype(np.uint16) for n, v in state.items()}
        exact = {n: (v.astype(np.uint32) << 16).view(np.float32) for n, v in halves.items()}
    first = safetensors(tmp_path / "half.safetensors", halves, dtype)
    pc.convert(first, tmp_path / f"ours{ours}", model=tiny)
    pc.convert(tmp_path / f"ours{ours}", tmp_path / "again.safetensors", model=tiny, layout="official")
    assert tensors(tmp_path / "again.safetensors") == {n: (dtype, v.shape, v.tobytes()) for n, v in halves.items()}
    model = pc.create_model(tiny, tmp_path / f"ours{ours}")
    np.testing.assert_array_equal(model.state_dict()["norm.bias"].numpy(), exact["norm.bias"])
    pc.convert(first, tmp_path / "wide.pdparams", model=tiny, dtype="float32")
    assert {d for d, _, _ in tensors(tmp_path / "wide.pdparams").values()} == {"float32"}


def test_paddle_itself_loads_what_we_write(tiny, state, tmp_path):
    pc.convert(npz(tmp_path / "x.npz", state), tmp_path / "ours.pdparams", model=tiny)
    reference = pc.create_model(tiny, tmp_path / "x.npz")
    model = pc.create_model(tiny)
    missing, unexpected = model.set_state_dict(paddle.load(str(tmp_path / "ours.pdparams")))
    assert not missing and not unexpected
    np.testing.assert_array_equal(run(model, images(2, 48)), run(reference, images(2, 48)))


def test_provenance(tiny, state, tmp_path):
    source = npz(tmp_path / "x.npz", {"module." + n: v for n, v in state.items()})
    report = pc.convert(source, tmp_path / "ours.safetensors", model=tiny)
    beside = json.loads((tmp_path / "ours.safetensors.json").read_text())
    assert beside["source"] == {
        "file": "x.npz",
        "bytes": source.stat().st_size,
        "sha256": sha256_file(source),
        "format": "npz",
        "layout": "official",
        "orientation": "PyTorch [out, in] matrices",
        "entry": "",
    }
    assert beside["output"]["sha256"] == sha256_file(tmp_path / "ours.safetensors")
    assert beside["tensors"] == len(report.loaded) == len(state)
    assert {"numpy", "python", "paddle_cait"} <= set(beside["versions"])


def test_a_refused_file_leaves_no_output(tiny, state, tmp_path):
    del state["norm.bias"]
    before = set(os.listdir(tmp_path))
    with pytest.raises(pc.WeightsError, match="norm.bias"):
        pc.convert(npz(tmp_path / "x.npz", state), tmp_path / "ours.pdparams", model=tiny)
    assert set(os.listdir(tmp_path)) == before | {"x.npz"}


def test_damage_found_while_reading_keeps_the_old_output(tiny, state, tmp_path):
    source = safetensors(tmp_path / "x.safetensors", state)
    pc.convert(source, tmp_path / "ours.pdparams", model=tiny)
    good = sha256_file(tmp_path / "ours.pdparams")
    zipped = npz(tmp_path / "y.npz", state)
    data = bytearray(zipped.read_bytes())
    at = data.find(state["norm.bias"].tobytes())
    data[at + 8] ^= 0xFF  # one flipped byte in one tensor
    zipped.write_bytes(data)
    with pytest.raises(pc.WeightsError, match=r"norm\.bias"):
        pc.convert(zipped, tmp_path / "ours.pdparams", model=tiny)
    assert sha256_file(tmp_path / "ours.pdparams") == good


def test_a_fine_tuned_file_of_other_classes(tiny, state, tmp_path):
    state["head.weight"], state["head.bias"] = state["head.weight"][:3], state["head.bias"][:3]
    source = npz(tmp_path / "x.npz", state)
    with pytest.raises(pc.WeightsError, match=r"head\.weight is \[40, 3\], expected \[40, 7\]"):
        pc.convert(source, tmp_path / "ours.pdparams", model=tiny)
    assert "head.weight" in pc.convert(source, tmp_path / "ours.pdparams", model=tiny, num_classes=3).loaded
    with pytest.raises(pc.WeightsError, match=r"pos_embed is \[1, 9, 40\], expected \[1, 16, 40\]"):
        pc.convert(source, tmp_path / "other.pdparams", model=tiny, num_classes=3, img_size=64)


def kill_convert(tmp_path, rounds, seed):
    """kill -9 at random moments: the output is whole or absent, and nothing else lies in its folder."""
    chosen = pc.get_preset("cait_xxs24_224")
    source = npz(tmp_path / "x.npz", draw_state(official_shapes(chosen)))
    folder = tmp_path / "out"
    folder.mkdir()
    rng = np.random.RandomState(seed)
    words = [sys.executable, str(ROOT / "tools" / "convert.py"), str(source), str(folder / "ours.pdparams")]
    words += ["--model", chosen.name]
    started = time.perf_counter()
    subprocess.run(words, check=True, capture_output=True)
    seconds = time.perf_counter() - started
    whole = sha256_file(folder / "ours.pdparams")
    outcomes = {True: 0, False: 0}
    for _ in range(rounds):
        for name in os.listdir(folder):
            (folder / name).unlink()
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0.6, 1.1) * seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
        names = set(os.listdir(folder))
        assert names <= {"ours.pdparams", "ours.pdparams.json"}, names
        if "ours.pdparams" in names:
            assert sha256_file(folder / "ours.pdparams") == whole and "ours.pdparams.json" in names
        outcomes["ours.pdparams" in names] += 1
    return outcomes


def test_kill_leaves_no_partial_output(tmp_path):
    kill_convert(tmp_path, rounds=3, seed=0)


@pytest.mark.slow
def test_twenty_kills_leave_no_partial_output(tmp_path):
    outcomes = kill_convert(tmp_path, rounds=20, seed=1)
    print(f"killed before the end: {outcomes[False]}, after: {outcomes[True]}")
    assert outcomes[False] >= 5
