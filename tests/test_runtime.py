"""The kernels that MKL is told to use, and what a signal does."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from paddle_cait import runtime

SKYLAKE = "avx2 avx512f avx512cd avx512bw avx512dq avx512vl"


@pytest.mark.parametrize(
    ("vendor", "flags", "kernels"),
    [
        ("AuthenticAMD", f"fpu sse2 {SKYLAKE} avx512_bf16", "7"),
        ("AuthenticAMD", "fpu sse2 avx2", "5"),
        ("AuthenticAMD", "fpu sse2 avx2 avx512f", "5"),  # a part of AVX-512: not what the kernels were made for
        ("AuthenticAMD", "fpu sse2", None),
        ("GenuineIntel", f"fpu sse2 {SKYLAKE}", None),  # MKL chooses well by itself
    ],
)
def test_mkls_kernels_follow_the_processor(tmp_path, monkeypatch, vendor, flags, kernels):
    file = tmp_path / "cpuinfo"
    file.write_text(f"processor\t: 0\nvendor_id\t: {vendor}\nflags\t\t: {flags}\nbugs\t\t: none\n\nprocessor\t: 1\n")
    monkeypatch.setattr(runtime, "_CPUINFO", file)
    assert runtime._mkl_kernels() == kernels


def test_other_systems_have_no_such_file(tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "_CPUINFO", tmp_path / "none")
    assert runtime._mkl_kernels() is None


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's own word for who handles signals")
def test_no_handler_of_paddle_stands_between_a_signal_and_its_end(tmp_path):
    """Paddle's own takes the allocator's lock: a process that was allocating when it was told to end hung instead."""
    program = (
        "from paddle_cait import runtime; runtime.prepare('cpu')\n"
        "status = dict(line.split(':', 1) for line in open('/proc/self/status') if ':' in line)\n"
        "print(int(status['SigCgt'], 16), flush=True)\n"
        "input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path
    ) as process:
        caught = int(process.stdout.readline())
        process.terminate()
        assert process.wait(timeout=30) == -signal.SIGTERM
    for one in (signal.SIGTERM, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL):
        assert not caught >> (one - 1) & 1, one.name
