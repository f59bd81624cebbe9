"""What travels in the wheel and the sdist, and that the commands work where there is no checkout."""

import json
import re
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

from helpers import unpack

from paddle_cait.versions import __version__

ROOT = Path(__file__).resolve().parents[2]
DEMO = {"README.md", "demo_cait_digits.pth", "demo_digits/digits.tar", "demo_digits/val_list.txt"}
MB = 1 << 20


def files(folder):
    """Relative names of all files below it that are not compiled code."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix() for path in found if "__pycache__" not in path.parts}


def contents(wheel):
    """File -> checksum; of the folder of metadata all but the list of files."""
    with zipfile.ZipFile(wheel) as archive:
        return {info.filename: info.CRC for info in archive.infolist() if not info.filename.endswith("/RECORD")}


def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return Parser().parsestr(archive.read(f"paddle_cait-{__version__}.dist-info/METADATA").decode())


def test_the_wheel_holds_the_package_its_configs_and_the_demo_and_nothing_else(checkout, wheel):
    expected = {f"paddle_cait/{name}" for name in files(checkout / "paddle_cait")}
    expected |= {f"paddle_cait/configs/{name}" for name in files(checkout / "configs")}
    expected |= {f"paddle_cait/pretrained/{name}" for name in DEMO}
    about, found = f"paddle_cait-{__version__}.dist-info/", set(contents(wheel))
    assert {name for name in found if not name.startswith(about)} == expected
    assert {f"{about}licenses/LICENSE", f"{about}entry_points.txt"} <= found
    assert wheel.stat().st_size < 1.5 * MB


def test_the_sdist_builds_the_same_wheel(sdist, wheel, builder, tmp_path):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    unpack(sdist, tmp_path)
    assert {"README.md", "LICENSE", "CHANGELOG.md", "pyproject.toml", "configs/models/cait.yaml"} <= names
    assert not [name for name in names if name.startswith(("tests", "docs", "pretrained/flowers"))]
    assert sdist.stat().st_size < 1.5 * MB
    assert contents(builder("wheel", tmp_path / f"paddle_cait-{__version__}", tmp_path / "wheel")) == contents(wheel)


def test_the_metadata_says_what_is_supported(wheel):
    about = metadata(wheel)
    lowest = re.fullmatch(r">=3\.(\d+)", about["Requires-Python"]).group(1)
    assert f'target-version = "py3{lowest}"' in (ROOT / "pyproject.toml").read_text()
    named = re.findall(r"Python :: 3\.(\d+)", "\n".join(about.get_all("Classifier")))
    assert named == [str(minor) for minor in range(int(lowest), int(lowest) + len(named))]
    needed = [line for line in about.get_all("Requires-Dist") if "extra ==" not in line]
    assert not [line for line in needed if "paddlepaddle" in line], "the user chooses the CPU or the GPU build"


def test_commands_that_need_no_paddle(run, installed, tmp_path):
    assert run("paddle-cait", "--version").stdout == f"paddle-cait {__version__}\n"
    listed = run("python", "-m", "paddle_cait", "list", "--family", "cait")
    assert "cait_xxs24_224" in listed.stdout and not listed.stderr
    assert run("python", "-m", "paddle_cait", "lists").returncode == 2
    where = run("python", "-c", "import paddle_cait; print(paddle_cait.__file__)").stdout
    assert Path(where).is_relative_to(installed.parent), "these tests would test the checkout"
    assert not list(tmp_path.iterdir())


def test_the_demo(run, tmp_path):
    done = run("paddle-cait", "demo")
    assert done.returncode == 0 and "354/360" in done.stdout, done.stderr
    assert not list(tmp_path.iterdir())


def test_a_conversion_and_an_evaluation(run, installed, tmp_path):
    (bundled,) = installed.parent.rglob("paddle_cait/pretrained")
    ours = ["demo.safetensors", "--model", "demo_cait_digits"]
    done = run("paddle-cait", "convert", bundled / "demo_cait_digits.pth", *ours)
    assert done.returncode == 0 and "116 tensors loaded" in done.stdout, done.stderr
    data = ["--data", bundled / "demo_digits" / "digits.tar", "--device", "cpu", "-j", 0]
    done = run("paddle-cait", "eval", "--weights", *ours, *data, "--json", "eval.json")
    found = json.loads((tmp_path / "eval.json").read_text())
    assert done.returncode == 0 and done.stdout.splitlines()[-1].startswith("PASS: top-1 98.333 (354/360)"), done.stderr
    assert (found["top1_correct"], found["n"], found["verdict"]["status"]) == (354, 360, "PASS")
