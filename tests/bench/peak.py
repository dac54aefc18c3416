"""The most memory that a process of its own ever holds while it does some work."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from .cases import BenchError

DEADLINE_S = 3600


def peak_bytes() -> int:
    """The peak resident set of this process. Not `ru_maxrss`: that begins with the peak of the process that forked it."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def peak_mb(module: str, arguments: Sequence[object]) -> float:
    """Peak of `python -m MODULE ARGUMENTS`, which works and then prints its `peak_bytes`, in MB."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    if done.returncode:
        raise BenchError(f"{' '.join(command[2:])} ended with code {done.returncode}: {done.stderr[-500:]}")
    return float(done.stdout) / 1e6
