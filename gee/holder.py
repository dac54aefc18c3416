"""Names of processes that hold leases, by which one on the same machine sees that another has died."""

from __future__ import annotations

import hashlib
import os
import socket
import uuid
from functools import cache
from pathlib import Path

import psutil


def new_holder() -> str:
    """A name for this process: `MACHINE.PID.UNIQUE`."""
    return f"{_machine()}.{os.getpid()}.{uuid.uuid4().hex[:8]}"


def has_died(holder: str) -> bool:
    """Whether a holder was a process of this very machine that is no more; False whenever that is not certain."""
    machine, _, rest = holder.partition(".")
    pid = rest.partition(".")[0]
    return machine == _machine() and pid.isdecimal() and not psutil.pid_exists(int(pid))


@cache
def _machine() -> str:
    """This machine since it was started, as seen from this container: elsewhere a number means another process."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        seen = f"{socket.gethostname()} {boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # no Linux: nobody is taken for a neighbour
        seen = uuid.uuid4().hex
    return hashlib.sha256(seen.encode()).hexdigest()[:12]
