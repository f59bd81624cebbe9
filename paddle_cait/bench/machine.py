"""The machine a benchmark ran on, and how busy it was with other things. No name, address or path of it is told."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from pathlib import Path
from typing import Any

from paddle_cait import runtime

_FLAGS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "bf16", "i8mm")
_QUIET, _BUSY = 0.3, 0.5  # load averages: what to wait for, what to warn of


def describe() -> dict[str, Any]:
    """Processor, cores of this process, instruction sets that matter here, memory, system."""
    about = _read("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in about.splitlines() if line.startswith("model name")]
    found = set(" ".join(line for line in about.splitlines() if line.startswith(("flags", "Features"))).split())
    memory = _read("/proc/meminfo").partition("MemTotal:")[2].split()
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": runtime.cores(),
        "flags": [flag for flag in _FLAGS if flag in found],
        "memory_gb": round(int(memory[0]) / 2**20, 1) if memory else None,
        "system": f"{platform.system()} {platform.machine()}",
    }


def load() -> float:
    """How many processes wanted a core, on average over the last minute."""
    return os.getloadavg()[0]


def wait_until_quiet(seconds: float) -> float:
    """Wait for a load average below 0.3, as long as asked at most; returns the load."""
    until = time.monotonic() + seconds
    while load() > _QUIET and time.monotonic() < until:
        time.sleep(1.0)
    return load()


def too_busy(at_start: float) -> str:
    """A warning, or an empty string."""
    if at_start <= _BUSY:
        return ""
    return f"the load average was {at_start:.2f} at the start: something else is running (see --quiet-wait)"


def busy_seconds() -> float:
    """Core seconds that all processes have used since the machine started, and that its host has taken away."""
    with contextlib.suppress(OSError, ValueError):
        user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
        return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:  # not Linux
        return ""
