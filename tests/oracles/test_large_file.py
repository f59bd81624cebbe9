"""A 1.4 GB checkpoint converts and loads within 1.3 times its size in memory."""

import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers import ROOT, draw_state, official_shapes

import paddle_cait as pc

torch = pytest.importorskip("torch", reason="writes the file as the authors did: make oracles")

# Not getrusage: a child's maximum starts at its parent's.
PEAK = "print([line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0])"
CONVERT = (
    "from paddle_cait.cli.main import main; assert main(['convert', *sys.argv[1:3], '--model', 'cait_m48_448']) == 0"
)
LOAD = "import paddle_cait as pc; pc.create_model('cait_m48_448', weights=sys.argv[1])"


@pytest.mark.slow
def test_the_largest_checkpoint(tmp_path, capsys):
    source = tmp_path / "M48_448.pth"
    state = draw_state(official_shapes(pc.get_preset("cait_m48_448")))
    torch.save({"model": {f"module.{name}": torch.from_numpy(value) for name, value in state.items()}}, source)
    size = source.stat().st_size
    assert size > 1.4e9
    started = time.perf_counter()
    shutil.copyfile(source, tmp_path / "copy")
    copying = time.perf_counter() - started
    peaks, seconds = {}, {}
    for name, work in {"convert": CONVERT, "load": LOAD}.items():
        started = time.perf_counter()
        words = [
            sys.executable,
            "-W",
            "ignore",
            "-c",
            f"import sys; {work}; {PEAK}",
            str(source),
            str(tmp_path / "ours.pdparams"),
        ]
        done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, done.stderr[-2000:]
        seconds[name], peaks[name] = time.perf_counter() - started, int(done.stdout.split()[-1]) * 1024 / size
    with capsys.disabled():
        print(f"\n{size / 1e9:.2f} GB: cp {copying:.1f} s, ", end="")
        print(", ".join(f"{k} {seconds[k]:.1f} s at {peaks[k]:.2f}x the file in memory" for k in peaks))
    assert peaks["convert"] < 1.3 and peaks["load"] < 1.3
    again = pc.create_model("cait_m48_448", weights=tmp_path / "ours.pdparams").state_dict()
    for name in ("pos_embed", "blocks.47.attn.proj.weight", "head.bias"):
        expected = state[name].T if name.endswith("proj.weight") else state[name]
        np.testing.assert_array_equal(again[name].numpy(), expected)
