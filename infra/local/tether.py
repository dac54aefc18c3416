"""Runs a command that ends when its parent ends, however that happens.

`python -m infra.local.tether PARENT_PID COMMAND...` starts the command in a session of its own and stops it, with
everything that it has started, as soon as one of these is true: stdin is closed (the parent holds the other end of the
pipe and the kernel closes it even after `kill -9`), the parent's pid is no longer ours, or a signal arrives. On Linux
the command also gets a SIGTERM should the tether itself be killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from types import FrameType

POLL_S = 0.3
GRACE_S = 6.0
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit code."""
    parent, command = int(arguments[0]), arguments[1:]
    told_to_end = False

    def end(_signal: int, _frame: FrameType | None) -> None:
        nonlocal told_to_end
        told_to_end = True

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, end)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    child = subprocess.Popen(  # noqa: S603 - the caller's own command
        command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_die_with_tether,  # noqa: PLW1509 - this process has one thread
    )
    try:
        while child.poll() is None and not told_to_end and os.getppid() == parent and not _closed(sys.stdin.fileno()):
            pass
    finally:
        _stop(child)
    return child.returncode


def _closed(descriptor: int) -> bool:
    """Wait a moment; whether nobody holds the other end of the pipe any more."""
    with contextlib.suppress(InterruptedError):
        readable, _, _ = select.select([descriptor], [], [], POLL_S)
        return bool(readable) and os.read(descriptor, 4096) == b""
    return False


def _stop(child: subprocess.Popen[bytes]) -> None:
    """Ask the command and all that it has started to end, then make them."""
    for number, patience in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, GRACE_S)):
        groups = {child.pid}
        for pid in _children() - {child.pid}:
            with contextlib.suppress(ProcessLookupError):
                groups.add(os.getpgid(pid))
        for group in groups:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, number)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            ended = child.poll() is not None
            for pid in _children() - {child.pid}:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            if ended and not _group_lives(child.pid) and not _children():
                return
            time.sleep(0.05)


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _children() -> set[int]:
    """Our children: the command, and on Linux what its dead processes have left behind."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as children:  # noqa: PTH123
            return {int(pid) for pid in children.read().split()}
    except OSError:
        return set()


def _die_with_tether() -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _prctl(option: int, value: int) -> None:
    """Linux only; elsewhere the pipe and the pid have to do."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
