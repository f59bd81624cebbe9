"""Check this installation and machine. Each line says what was found and, where something is wrong, what to do.

Exit status 1 if anything is broken (FAIL); WARN lines cost speed or comparability, not correctness."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from paddle_cait import runtime
from paddle_cait.cli.common import add_json, write_json
from paddle_cait.versions import installed

EXAMPLE = "paddle-cait doctor"

OK, WARN, FAIL = "ok", "WARN", "FAIL"
# Distribution -> what needs it. None of them is optional; OpenCV is checked by loading it.
PACKAGES = {"pillow": "reads images", "pyyaml": "reads presets", "tqdm": "shows progress"}
# Extra of setup.py -> what it is for.
EXTRAS = {
    "onnx": "export to ONNX",
    "openvino": "export to OpenVINO",
    "int8": "export with int8 weights",
    "finetune": "pictures and scalars of finetune, its --tune linear",
    "explain": "explain",
    "app": "app",
    "keras": "reading Keras files",
    "hub": "download --hub",
}
MIB = 1 << 20


@dataclass(frozen=True)
class Line:
    status: str
    text: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    lines = []
    for check in (
        python,
        paddle_wheels,
        numpy_version,
        paddle_import,
        gpu,
        opencv,
        shared_memory,
        threads,
        flags,
        packages,
        extras,
        downloads,
    ):
        for line in check():
            print(f"{line.status:<5} {line.text}", flush=True)
            lines.append(line)
    write_json(args, {"checks": [asdict(line) for line in lines]})
    return 1 if any(line.status == FAIL for line in lines) else 0


def python() -> Iterator[Line]:
    version = platform.python_version()
    inside = (3, 9) <= sys.version_info[:2] <= (3, 13)
    hint = "" if inside else ": Paddle 2.6 needs 3.8-3.12 and Paddle 3.3 needs 3.9-3.13"
    yield Line(OK if inside else WARN, f"Python {version} on {platform.system()} {platform.machine()}{hint}")


def paddle_wheels() -> Iterator[Line]:
    cpu, card = installed("paddlepaddle"), installed("paddlepaddle-gpu")
    if cpu and card:
        yield Line(
            FAIL,
            f"paddlepaddle {cpu} and paddlepaddle-gpu {card} overwrite each other: `pip uninstall -y paddlepaddle "
            "paddlepaddle-gpu`, then install one of them",
        )
    elif not cpu and not card:
        yield Line(
            FAIL,
            "Paddle is not installed: `pip install 'paddle_cait[cpu]'`, or the GPU wheel for your CUDA version that "
            "paddlepaddle.org.cn names",
        )
    else:
        name, version = ("paddlepaddle", cpu) if cpu else ("paddlepaddle-gpu", card)
        tested = str(version).startswith(("2.6", "3.3"))
        yield Line(OK if tested else WARN, f"{name} {version}" + ("" if tested else ": tested are 2.6.2 and 3.3.1"))


def numpy_version() -> Iterator[Line]:
    version, paddle = installed("numpy"), installed("paddlepaddle") or installed("paddlepaddle-gpu")
    if version and paddle and paddle.startswith("2.") and int(version.split(".")[0]) >= 2:
        yield Line(FAIL, f"numpy {version} does not go with Paddle {paddle}: `pip install 'numpy<2'`")
    else:
        yield Line(OK if version else FAIL, f"numpy {version or 'is missing: pip install numpy'}")


def paddle_import() -> Iterator[Line]:
    """In a process of its own: a broken wheel may crash instead of raising."""
    if not (installed("paddlepaddle") or installed("paddlepaddle-gpu")):
        return
    code = (
        "import zlib, paddle; x = paddle.ones([8, 8]); assert float((x @ x).sum()) == 512; print(paddle.get_device())"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=300)
    if done.returncode == 0:
        yield Line(OK, f"Paddle computes, on {done.stdout.strip()}")
        return
    last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1][:300]
    yield Line(FAIL, f"Paddle does not work: {last}{_library_hint(done.stderr)}")


def gpu() -> Iterator[Line]:
    card_wheel = installed("paddlepaddle-gpu")
    smi = shutil.which("nvidia-smi")
    names = _run([smi, "--query-gpu=name,driver_version", "--format=csv,noheader"]) if smi else None
    if names and not card_wheel:
        yield Line(
            WARN, f"a GPU is there ({names.splitlines()[0]}) but Paddle is the CPU wheel: install paddlepaddle-gpu"
        )
    elif card_wheel and not names:
        yield Line(
            WARN, "paddlepaddle-gpu without a visible GPU: check the driver and `nvidia-smi`, or use the CPU wheel"
        )
    elif names:
        yield Line(OK, f"GPU: {names.splitlines()[0]}, {len(names.splitlines())} visible")
        if os.environ.get("NVIDIA_TF32_OVERRIDE") != "0":
            yield Line(
                WARN, "TF32 may be on, logits then agree to 1e-3 only: for parity checks set NVIDIA_TF32_OVERRIDE=0"
            )
    else:
        yield Line(OK, "no GPU, and none expected")


def opencv() -> Iterator[Line]:
    done = subprocess.run(
        [sys.executable, "-c", "import cv2; print(cv2.__version__)"], capture_output=True, text=True, timeout=120
    )
    if done.returncode == 0:
        yield Line(OK, f"OpenCV {done.stdout.strip()} (only the cv2 backend and videos need it)")
        return
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    yield Line(WARN, f"OpenCV does not load: {last}{_library_hint(done.stderr)}")


def shared_memory() -> Iterator[Line]:
    try:
        usage = shutil.disk_usage("/dev/shm")
    except OSError:
        yield Line(WARN, "/dev/shm is missing: images travel between processes without it, slower")
        return
    enough = usage.free >= 512 * MIB
    hint = (
        ""
        if enough
        else ": worker processes may die with a bus error; use --workers 0 to 2, or docker run --shm-size=8g"
    )
    yield Line(OK if enough else WARN, f"/dev/shm {usage.free // MIB} MiB free{hint}")


def threads() -> Iterator[Line]:
    cores = runtime.cores()
    value = os.environ.get("OMP_NUM_THREADS")
    if value is None:
        yield Line(
            OK,
            f"{cores} cores; the commands use all of them (Paddle's own default is 1: set OMP_NUM_THREADS)",
        )
    elif not value.isdigit() or int(value) != cores:
        yield Line(WARN, f"OMP_NUM_THREADS={value} on {cores} cores: unset it for full speed in one process")
    else:
        yield Line(OK, f"OMP_NUM_THREADS={value} on {cores} cores")


def flags() -> Iterator[Line]:
    one_dnn = os.environ.get("FLAGS_use_mkldnn", "0").lower()
    if one_dnn in ("1", "true"):
        yield Line(
            WARN,
            "FLAGS_use_mkldnn is on: some graphs run 100 times slower or crash with oneDNN on Paddle 3.3; unset it",
        )
    else:
        yield Line(OK, "oneDNN is off in dygraph")


def packages() -> Iterator[Line]:
    for name, purpose in PACKAGES.items():
        version = installed(name)
        yield Line(OK if version else FAIL, f"{name} {version or f'is missing ({purpose}): pip install {name}'}")


def extras() -> Iterator[Line]:
    """What else the package can do here, by its own list of extras; none of them has to be there."""
    try:
        wanted = importlib.metadata.requires("paddle_cait") or []
    except importlib.metadata.PackageNotFoundError:  # a checkout that is not installed
        return
    missing: dict[str, list[str]] = {}
    for requirement in wanted:
        found = re.match(r"""([\w.-]+).*extra == ['"](\w+)""", requirement)
        if found and found[2] in EXTRAS:
            missing.setdefault(found[2], []).extend([] if installed(found[1]) else [found[1]])
    for extra, lacking in missing.items():
        hint = f"needs {', '.join(lacking)}, pip install 'paddle_cait[{extra}]'" if lacking else "installed"
        yield Line(OK, f"{EXTRAS[extra]}: {hint}")


def downloads() -> Iterator[Line]:
    from paddle_cait.weights.cache import HOME, weights_folder

    folder = weights_folder()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = f"{shutil.disk_usage(there).free / (1 << 30):.1f} GiB free"
    if os.access(there, os.W_OK):
        yield Line(OK, f"downloads go to {folder} ({free}); {HOME} chooses another folder")
    else:
        yield Line(WARN, f"downloads cannot be written to {folder}: choose another folder with {HOME}")


def _library_hint(message: str) -> str:
    for library, remedy in (
        ("libGL", ": `apt-get install libgl1`, or `pip install opencv-python-headless` in place of opencv-python"),
        ("libgthread", ": `apt-get install libglib2.0-0`"),
        ("libgomp", ": `apt-get install libgomp1`"),
        ("libcuda", ": the NVIDIA driver is missing, or the container was started without GPUs"),
        ("libcudnn", ": install the cuDNN that the wheel was built for, see paddlepaddle.org.cn"),
        ("numpy.core.multiarray failed", ": numpy and OpenCV do not go together, `pip install -U opencv-python`"),
    ):
        if library in message:
            return remedy
    return ""


def _run(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
