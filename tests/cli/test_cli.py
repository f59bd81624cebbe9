"""The commands as people type them: output, exit status, one line for a mistake."""

import csv
import json
import os
import subprocess
import sys

import pytest
from helpers import ROOT, draw_state, npz, official_shapes, preset

import paddle_cait as pc
from paddle_cait.cli.main import VERBS, main

PRETRAINED = ROOT / "pretrained"
DIGITS = PRETRAINED / "demo_digits" / "digits.tar"  # its val_list.txt lies beside it


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Commands run from another folder and write only there."""
    monkeypatch.chdir(tmp_path)


def demo_eval(*more):
    words = ["eval", "--model", "demo_cait_digits", "--weights", str(PRETRAINED / "demo_cait_digits.pth"), "-j", "0"]
    return [*words, "--data", str(DIGITS), "--device", "cpu", *more]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0 and "example:\n  paddle-cait " + verb in text
    assert all(len(line) < 150 for line in text.splitlines())


def test_overview_and_version(capsys):
    assert main([]) == 0
    text = capsys.readouterr().out
    assert all(f"  {verb} " in text for verb in VERBS)
    assert main(["--version"]) == 0 and pc.__version__ in capsys.readouterr().out


def test_an_unknown_verb(capsys):
    assert main(["evaluate"]) == 2
    assert "expected one of: list, download, convert, eval" in capsys.readouterr().err


def test_the_demo_reproduces_pytorchs_count(capsys, tmp_path):
    assert main(["demo", "--json", "demo.json"]) == 0
    out = capsys.readouterr().out
    assert "354/360" in out and out.splitlines()[-1].startswith("PASS in ")
    found = json.loads((tmp_path / "demo.json").read_text())
    assert (found["top1_correct"], found["top5_correct"], found["n"]) == (354, 360, 360)
    assert found["loss"] == pytest.approx(0.094474, abs=2e-6)  # what PyTorch printed when the checkpoint was written
    assert found["verdict"]["status"] == "PASS"


def test_eval_writes_json_and_predictions(capsys, tmp_path):
    assert main(demo_eval("--json", "r.json", "--predictions", "p.csv")) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("PASS: top-1 98.333 (354/360) is within 0.001")
    found = json.loads((tmp_path / "r.json").read_text())
    keys = "n top1_correct top5_correct top1 top5 loss preprocess weights_sha256 dataset versions device verdict"
    assert set(keys.split()) <= set(found)
    assert found["preprocess"]["crop_pct"] == 1.0 and len(found["dataset"]["fingerprint"]) == 64
    assert found["versions"]["paddle_cait"] == pc.__version__
    rows = list(csv.DictReader((tmp_path / "p.csv").read_text().splitlines()))
    labels = dict(line.split() for line in (PRETRAINED / "demo_digits" / "val_list.txt").read_text().splitlines())
    assert len(rows) == 360 and {row["file"]: row["label"] for row in rows} == labels
    assert sum(row["label"] == row["top1"] for row in rows) == 354


def test_a_fail_exits_1(capsys, tmp_path):
    model = pc.create_model("demo_cait_digits", weights=PRETRAINED / "demo_cait_digits.pth")
    model.head.bias.set_value(model.head.bias.numpy()[::-1].copy() * 5)
    import paddle

    paddle.save(model.state_dict(), "worse.pdparams")
    assert main([*demo_eval(), "--weights", "worse.pdparams"]) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("FAIL: top-1 ")


def test_another_crop_is_not_comparable(capsys):
    assert main(demo_eval("--crop-pct", "0.9")) == 0
    assert "NOT COMPARABLE: crop_pct is 0.9, the published number used 1.0" in capsys.readouterr().out


def test_a_partial_run_is_not_comparable(capsys):
    assert main(demo_eval("--limit", "50")) == 0
    assert "NOT COMPARABLE: 50 images were evaluated, the published number is over 360" in capsys.readouterr().out


def test_configs_and_overrides(capsys, tmp_path):
    (tmp_path / "run.yaml").write_text(
        f"model: demo_cait_digits\nweights: {PRETRAINED / 'demo_cait_digits.pth'}\nworkers: 0\nlimit: 20\n"
        "resume: false\n"
        f"data: {DIGITS}\ndevice: cpu\nmean: [0.5, 0.5, 0.5]\n"
    )
    assert main(["eval", "-c", "run.yaml"]) == 0
    assert "20 of 360" in capsys.readouterr().out
    assert main(["eval", "-c", "run.yaml", "-o", "limit=30"]) == 0
    assert "30 of 360" in capsys.readouterr().out
    assert main(["eval", "-c", "run.yaml", "-o", "limit=30", "--limit", "40"]) == 0
    assert "40 of 360" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["eval"], "--data is missing"),
        (["eval", "--data", "x"], "give --model NAME or --suite FAMILY"),
        (["eval", "--data", "x", "--model", "cait_xxs24_224"], "--weights is missing"),
        (["eval", "--data", "x", "--model", "cait_xxs_24", "--weights", "x"], "did you mean cait_xxs24"),
        (["eval", "--data", "x", "--suite", "resnet"], "unknown family, expected one of cait, deit, deit3"),
        (["eval", "--data", "x", "--suite", "cait", "--weights-dir", "none"], "holds no file of the cait presets"),
        (["eval", "-o", "limits=3"], "unknown key 'limits': did you mean limit"),
        (["eval", "-o", "limit"], "expected KEY=VALUE"),
        (["eval", "-c", "none.yaml"], "none.yaml: cannot be read"),
        (["eval", "-o", "resume=3"], "resume is 3, expected true or false"),
        (["convert", "x.pth", "x.pth", "--model", "cait_xxs24_224"], "must end in .pdparams or .safetensors"),
        (["convert", "x.pth", "x.pdparams", "--model", "cait_xxs24_224"], "x.pth: "),
        (["convert", "x.pth", "x.pdparams", "--model", "nothing"], "unknown model 'nothing'"),
        (["demo", "--dir", "none"], "the bundled checkpoint is not there"),
        (["list", "--preset-file", "none.yaml"], "none.yaml: cannot be read"),
        (demo_eval("--device", "gpu:9"), "device is 'gpu:9', but"),
        (demo_eval("--device", "tpu"), "device is 'tpu', expected cpu, gpu or gpu:NUMBER"),
        (demo_eval("--batch-size", "0"), "batch_size is 0, expected at least 1"),
        (demo_eval("--limit", "0"), "limit is 0, expected at least 1"),
        (["finetune", "--model", "demo_cait_digits"], "--data-dir is missing: the folder with your photographs"),
        (["finetune", "--data-dir", "."], "--model is missing: the preset to train"),
        (demo_eval("--num-classes", "5"), "label"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_mistake_is_one_line_on_stderr_and_exit_2(words, message, capsys):
    assert main(words) == 2
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if line.startswith("paddle-cait ")]
    assert len(errors) == 1 and message in errors[0], captured.err


def test_the_suite_measures_what_is_there(capsys, tmp_path):
    words = ["eval", "--suite", "demo", "--weights-dir", str(PRETRAINED), "--data", str(DIGITS)]
    assert main([*words, "-j", "0", "--device", "cpu", "--output-dir", "out"]) == 0
    table = (tmp_path / "out" / "suite-demo.md").read_text()
    assert "| demo_cait_digits.digits | 360 | 98.333 (354) | 100.000 | 98.333 | 100.000 | PASS |" in table
    assert json.loads((tmp_path / "out" / "suite-demo.json").read_text())[0]["top1_correct"] == 354
    assert table.strip() in capsys.readouterr().out


def test_a_suite_lists_models_without_a_file(capsys, tmp_path):
    preset(tmp_path)
    (tmp_path / "presets.yaml").rename(tmp_path / "mine.yaml")
    text = (tmp_path / "mine.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(
        text.replace("      drawn:", "      absent:\n        licence: MIT\n      drawn:")
    )
    tiny = pc.get_preset("tiny.drawn", tmp_path / "mine.yaml")
    npz(tmp_path / "tiny.drawn.npz", draw_state(official_shapes(tiny)))
    assert (
        main(
            [
                "convert",
                "tiny.drawn.npz",
                "tiny.drawn.safetensors",
                "--model",
                "tiny.drawn",
                "--preset-file",
                "mine.yaml",
            ]
        )
        == 0
    )
    words = [
        "eval",
        "--suite",
        "mine",
        "--preset-file",
        "mine.yaml",
        "--weights-dir",
        ".",
        "--device",
        "cpu",
        "-j",
        "0",
    ]
    assert main([*words, "--data", str(DIGITS), "--list", str(short_list(tmp_path))]) in (0, 1)
    table = capsys.readouterr().out
    assert "| tiny.absent | - | - | - | - | - | NO FILE | - |" in table
    assert "| tiny.drawn | 12 |" in table


def short_list(folder):
    """Twelve of the bundled digits with labels below seven."""
    lines = (PRETRAINED / "demo_digits" / "val_list.txt").read_text().splitlines()
    chosen = [line for line in lines if int(line.split()[1]) < 7][:12]
    path = folder / "short.txt"
    path.write_text("\n".join(chosen) + "\n")
    return path


def test_convert_reports_and_writes_provenance(capsys, tmp_path):
    source = PRETRAINED / "demo_cait_digits.pth"
    assert main(["convert", str(source), "d.pdparams", "--model", "demo_cait_digits", "--json", "c.json"]) == 0
    out = capsys.readouterr().out
    assert "116 tensors loaded" in out and "wrote d.pdparams" in out and "Apache-2.0" in out
    beside = json.loads((tmp_path / "d.pdparams.json").read_text())
    assert beside["source"]["sha256"] == pc.load_weights(pc.create_model("demo_cait_digits"), source).sha256
    assert beside["output"]["layout"] == "paddle" and beside["versions"]["paddle_cait"] == pc.__version__
    assert sorted(os.listdir(tmp_path)) == ["c.json", "d.pdparams", "d.pdparams.json"]


def test_doctor_finds_this_machine_sound(capsys, tmp_path):
    assert main(["doctor", "--json", "d.json"]) == 0
    out = capsys.readouterr().out
    assert "Paddle computes, on cpu" in out and "FAIL" not in out
    assert all(len(check["text"]) > 5 for check in json.loads((tmp_path / "d.json").read_text())["checks"])


def test_doctor_says_what_to_do(monkeypatch):
    from paddle_cait.cli import doctor

    fake = {"paddlepaddle": "2.6.2", "paddlepaddle-gpu": "2.6.2", "numpy": "2.1.0"}
    monkeypatch.setattr(doctor, "installed", fake.get)
    assert any(x.status == "FAIL" and "pip uninstall" in x.text for x in doctor.paddle_wheels())
    assert any(x.status == "FAIL" and "numpy<2" in x.text for x in doctor.numpy_version())
    assert any(x.status == "FAIL" and "pip install tqdm" in x.text for x in doctor.packages())
    extras = [x.text for x in doctor.extras()]
    assert len(extras) == len(doctor.EXTRAS) and all(not text.endswith(": installed") for text in extras)
    assert "export to ONNX: needs paddle2onnx, onnx, onnxruntime, pip install 'paddle_cait[onnx]'" in extras
    monkeypatch.setenv("PADDLE_CAIT_HOME", "/proc/none")
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: not str(path).startswith("/proc"))
    assert [x.status for x in doctor.downloads()] == ["WARN"]
    monkeypatch.setattr(doctor, "installed", {"paddlepaddle": "3.3.1"}.get)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "nvidia-smi")
    monkeypatch.setattr(doctor, "_run", lambda command: "NVIDIA T4, 535.1")
    assert any(x.status == "WARN" and "install paddlepaddle-gpu" in x.text for x in doctor.gpu())
    monkeypatch.setattr(
        doctor.shutil, "disk_usage", lambda path: doctor.shutil._ntuple_diskusage(64 << 20, 0, 64 << 20)
    )
    assert any(x.status == "WARN" and "--workers" in x.text for x in doctor.shared_memory())
    monkeypatch.setenv("OMP_NUM_THREADS", "777")
    assert any(x.status == "WARN" and "unset it" in x.text for x in doctor.threads())
    monkeypatch.setenv("FLAGS_use_mkldnn", "1")
    assert any(x.status == "WARN" and "oneDNN" in x.text for x in doctor.flags())
    assert "libgl1" in doctor._library_hint("ImportError: libGL.so.1: cannot open shared object file")


@pytest.mark.parametrize("tool", ["eval", "convert"])
def test_tools_run_from_anywhere(tool):
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / f"{tool}.py"), "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0 and f"usage: paddle-cait {tool}" in done.stdout


def test_list_is_quick_and_survives_a_closed_pipe():
    done = subprocess.run(f"{sys.executable} -m paddle_cait list | head -1", shell=True, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("model") and not done.stderr
