"""Worker processes: what they answer, how they end, and one short benchmark of the bundled demo."""

import json
import os
import signal
import subprocess
import sys

import pytest

import paddle_cait as pc
from paddle_cait.bench import cases, machine, rounds, run
from paddle_cait.bench.channel import Channel, WorkerError, without_paths
from paddle_cait.bench.check import LIMITS
from paddle_cait.bench.prepare import Sources
from paddle_cait.cli import bench as command

PRODUCT = {"kind": "matmul numpy", "side": 64, "precision": "fp32"}


def test_a_worker_works_when_told_and_sleeps_otherwise(tmp_path):
    with Channel(PRODUCT, 1, tmp_path) as worker:
        assert worker.ready["images"] == 1 and "version" in worker.ready["settings"]
        answer = worker.ask({"do": "run", "seconds": 0.01})
        assert len(answer["seconds"]) >= 2 and all(spent > 0 for spent in answer["seconds"])
        assert answer["idle"] < 0.1
        assert 5 < answer["peak_mb"] < 300  # its own: the process that started it holds Paddle
        pid = worker.process.pid
    assert worker.process.poll() is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_worker_that_dies_tells_how(tmp_path):
    with Channel(PRODUCT, 1, tmp_path) as worker:
        os.kill(worker.process.pid, signal.SIGKILL)
        with pytest.raises(WorkerError, match="ended by SIGKILL"):
            worker.ask({"do": "run", "seconds": 0.01})


def test_a_worker_that_cannot_prepare_tells_why(tmp_path):
    with pytest.raises(WorkerError, match="KeyError: 'no such kind'"):
        Channel({"kind": "no such kind"}, 1, tmp_path)


@pytest.mark.parametrize("kind", ["dygraph", "fused", "static", "train paddle"])
def test_settings_of_paddle_come_before_paddle(kind, tmp_path):
    """Half of them come too late once Paddle is imported, and an engine would be timed as no command runs it."""
    program = (
        "import os, sys\n"
        "from paddle_cait import runtime\n"
        "def prepare(device):\n"
        "    print('paddle' in sys.modules); sys.stdout.flush(); os._exit(0)\n"
        "runtime.prepare = prepare\n"
        "from paddle_cait.bench import worker\n"
        "worker._find(worker.KINDS[sys.argv[1]])({'model': 'demo_cait_digits'})\n"
    )
    done = subprocess.run([sys.executable, "-c", program, kind], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "False\n", done.stderr


def test_a_worker_that_does_not_answer_is_ended(tmp_path):
    with Channel(PRODUCT, 1, tmp_path) as worker:
        with pytest.raises(WorkerError, match="no answer in 0 seconds"):
            worker.ask({"do": "run", "seconds": 30.0}, limit=0.2)
        assert worker.process.poll() == -signal.SIGKILL


def test_reasons_hold_no_paths():
    assert without_paths("/home/me/x/model.onnx: bad\n  magic 1/2, see https://example.org/a/b") == (
        "model.onnx: bad magic 1/2, see https://example.org/a/b"
    )


def test_sources_are_made_once_and_taken_from_the_same_weights_alone(tmp_path, monkeypatch):
    made = []

    def make(spec, threads, scratch):
        made.append(spec["target"])
        return Ready()

    class Ready:
        ready = {"files": {"onnx": ["timm.onnx"]}}  # noqa: RUF012

        def __enter__(self):
            return self

        def __exit__(self, *exc):
            pass

    monkeypatch.setattr("paddle_cait.bench.prepare.Channel", make)
    spec = {"model": "demo_cait_digits", "threads": 1, "calib_dir": None, "calib_images": 1}
    for state, count in (("a", 1), ("a", 1), ("b", 2)):
        sources = Sources(spec, tmp_path / "scratch", state, tmp_path / "kept")
        assert sources.get("timm onnx").files == sources.get("timm onnx").files == {"onnx": ["timm.onnx"]}
        assert len(made) == count
    with pytest.raises(WorkerError, match="int8 needs --calib-dir"):
        sources.get("onnx:int8")
    (tmp_path / "kept" / "timm-openvino").mkdir()
    with pytest.raises(pc.ConfigError, match="not a benchmark's"):
        sources.get("timm openvino")


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(rounds, "REST", 0.0)
    return run.Settings(
        "demo_cait_digits", engines=("dygraph",), peers=(), batch_sizes=(3,), rounds=2, seconds=0.01, ceiling=0
    )


def test_a_short_benchmark(short, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(command, "bench", lambda settings, progress: run.bench(short))
    monkeypatch.setattr(machine, "describe", lambda: {**MACHINE})
    page, file = tmp_path / "page.md", tmp_path / "bench.json"
    args = parsed(
        "--model", "demo_cait_digits", "--output", str(page), "--json", str(file), "--export-dir", str(tmp_path)
    )
    assert command.run(args) == 0
    found = json.loads(file.read_text())
    (row,) = found["rows"]
    assert row["status"] == "ok" and len(row["rounds"]) == 2 and row["agreement"]["difference"] < 1e-5
    assert found["facts"]["multiply_adds"] == {"linear": 5345760, "convolution": 147456, "product": 2109632}
    text = page.read_text()
    assert "paddle_cait dygraph" in capsys.readouterr().out
    assert "| paddle_cait dygraph | fp32 |" in text and "A processor, 2 cores, avx2, 8 GB" in text
    assert str(tmp_path) not in text + file.read_text() and str(sys.prefix) not in text


MACHINE = {"cpu": "A processor", "cores": 2, "flags": ["avx2"], "memory_gb": 8, "system": "Linux x86_64"}


def parsed(*words):
    import argparse

    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(words)


def test_ctrl_c_keeps_what_was_measured(short):
    def interrupted(numbers):
        yield next(iter(numbers))
        raise KeyboardInterrupt

    result = run.bench(short, interrupted)
    assert result.interrupted and [len(row.rounds) for row in result.rows] == [1]


def test_a_wrong_engine_is_refused_before_it_is_timed(short, monkeypatch):
    monkeypatch.setitem(LIMITS, "fp32", -1.0)
    (row,) = run.bench(short).rows
    assert row.status == "refused" and "computes something else" in row.reason and not row.rounds


def test_absent_packages_and_bad_settings(monkeypatch):
    monkeypatch.setattr(cases.importlib.util, "find_spec", lambda name: None)
    assert {case.missing for case in cases.inference_cases((), ("eager", "compile"), ("fp32",))} == {"torch"}
    for settings, message in (
        (
            run.Settings("demo_cait_digits", engines=("tensorrt",)),
            "unknown engine 'tensorrt', expected some of dygraph",
        ),
        (run.Settings("deit_tiny_patch16_224", forms=True), "the ways to mix CaiT's heads"),
        (run.Settings("dino_vits16", steps="training"), "no classes"),
        (run.Settings("demo_cait_digits", steps="pipeline"), "needs --data-dir"),
        (run.Settings("demo_cait_digits", engines=("dygraph",), peers=(), precisions=("int8",)), "nothing to measure"),
    ):
        with pytest.raises(pc.ConfigError, match=message):
            run.bench(settings)


@pytest.mark.parametrize(
    "words", [["--rounds", "0"], ["--threads", "0"], ["--batch-sizes", "0"], ["--seconds", "-1"], ["--ceiling", "-1"]]
)
def test_flags_that_make_no_sense(words):
    with pytest.raises(pc.ConfigError, match=f"{words[0]} "):
        command.run(parsed("--model", "demo_cait_digits", *words))
    with pytest.raises(pc.ConfigError, match="--model is missing"):
        command.run(parsed())
