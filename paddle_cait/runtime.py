"""Process-wide settings that make Paddle fast on a CPU and quiet everywhere.

They change the whole process, so commands apply them and ``import paddle_cait`` does not. Call :func:`prepare` before
paddle is imported in your own program if you want them too.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import sys
import warnings
from pathlib import Path

from paddle_cait.errors import ConfigError

# glibc's mallopt(3) parameters. Every operator's output is otherwise mapped and page-faulted anew.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3

# MKL's numbers for its kernels; those for AVX-512 are Skylake's.
_MKL_AVX2, _MKL_AVX512 = "5", "7"
_CPUINFO = Path("/proc/cpuinfo")
_AVX512 = frozenset(("avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"))


def prepare(device: str | None = None) -> str:
    """Import Paddle with these settings and choose the device; returns its name (``cpu``, ``gpu:0``).

    - one thread a core for matrix products, unless OMP_NUM_THREADS says otherwise (Paddle's default is one);
    - on AMD processors Paddle's MKL (of 2019) is told to use the kernels that it keeps from other makers' chips
      (MKL_DEBUG_CPU_TYPE; a matrix product on two cores of a Zen 5: 105 GF/s without, 250 with AVX2's, 490 with
      AVX-512's);
    - strided views off: copying one costs more than it saves on CPUs (measured 1.6x on CaiT with Paddle 3.3.1);
    - memory is kept between operators instead of returned to the system;
    - signals end the process as usual: Paddle's own handlers allocate memory to tell where they struck, and a process
      that was allocating then, as any that computes, hangs for ever (seen on SIGTERM with 3.3.1);
    - log lines below errors are silenced (GLOG_minloglevel says otherwise).
    """
    if "paddle" not in sys.modules:
        os.environ.setdefault("OMP_NUM_THREADS", str(cores()))
        os.environ.setdefault("GLOG_minloglevel", "2")
        if kernels := _mkl_kernels():
            os.environ.setdefault("MKL_DEBUG_CPU_TYPE", kernels)
    # On import Paddle warns of a missing ccache (nothing is compiled here) and of every OMP_NUM_THREADS but 1.
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.filterwarnings("ignore", message=".*ccache.*")
        import paddle
    paddle.disable_signal_handler()
    name = _choose(device)
    if name == "cpu":
        keep_memory()
        paddle.set_flags({"FLAGS_use_stride_kernel": False})
    paddle.set_device(name)
    return name


def _choose(device: str | None) -> str:
    import paddle

    cards = paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0
    local = os.environ.get("FLAGS_selected_gpus", "0").split(",")[0]  # set by paddle.distributed.launch
    if device in (None, "auto"):
        return f"gpu:{local}" if cards else "cpu"
    kind, _, number = str(device).partition(":")
    if kind not in ("cpu", "gpu") or (number and not number.isdigit()):
        raise ConfigError(f"device is {device!r}, expected cpu, gpu or gpu:NUMBER")
    if kind == "gpu" and int(number or local) >= cards:
        have = f"{cards} GPUs are visible" if paddle.is_compiled_with_cuda() else "this Paddle is built without CUDA"
        raise ConfigError(f"device is {device!r}, but {have}: `paddle-cait doctor` says more")
    return "cpu" if kind == "cpu" else f"gpu:{number or local}"


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _mkl_kernels() -> str | None:
    """The number of the best kernels that MKL would not choose by itself, for MKL_DEBUG_CPU_TYPE."""
    try:
        about = _CPUINFO.read_text()
    except OSError:  # not Linux
        return None
    flags = set(about.partition("\nflags")[2].partition("\n")[0].split())
    if "AuthenticAMD" not in about or "avx2" not in flags:
        return None
    return _MKL_AVX512 if flags >= _AVX512 else _MKL_AVX2


def keep_memory() -> None:
    """Tell the allocator to keep what it has freed. Does nothing where the C library is not glibc."""
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
        mallopt(_M_TOP_PAD, 256 << 20)
