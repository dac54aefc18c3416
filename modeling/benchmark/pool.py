"""Many long jobs in one process or several, with live progress, that leave nothing running when they are interrupted."""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import torch

from modeling.errors import ModelingError
from modeling.prediction.allocator import keep_memory

_POLL_S = 0.2
_WATCH_S = 1.0


@dataclass(frozen=True)
class Status:
    """How far one job is, or a stage of all."""

    what: str
    """Key of a job, or the name of a stage."""
    done: int
    """Steps or jobs finished."""
    total: int
    """Of how many."""
    note: str = ""
    """A remark, for example the last validation."""
    job: bool = False
    """Whether it is of one job and not of a stage."""


Told = Callable[[Status], None]


@dataclass(frozen=True)
class Task:
    """One job: what is done, and what must be done before."""

    key: str
    """Its name."""
    act: Callable[[Told], None]
    """Does the job and keeps its result; it travels to other processes, so it must be picklable."""
    needs: tuple[str, ...] = ()
    """Keys of tasks that must have been done before."""


def run_all(tasks: Iterable[Task], told: Told, *, stage: str, total: int, processes: int = 1, threads: int = 1) -> None:
    """Do every task once, as early in their order as their needs allow; `total` counts those done before as well.

    Needs that are no task of these count as done. An exception of a task ends all. Raises `ModelingError` when a
    process was killed from outside, or when tasks wait for each other.
    """
    waiting = {task.key: task for task in tasks}
    done = total - len(waiting)
    if not waiting:
        return
    told(Status(stage, done, total))
    if processes == 1:
        torch.set_num_threads(threads)
        while waiting:
            task = _ready(waiting, ())[0]
            task.act(told)
            del waiting[task.key]
            done += 1
            told(Status(stage, done, total))
        return
    context = get_context("spawn")
    reports, stop = context.Queue(), context.Event()
    pool = ProcessPoolExecutor(
        processes, mp_context=context, initializer=_begin_worker, initargs=(threads, reports, os.getpid(), stop)
    )
    pending: dict[Future[None], str] = {}
    try:
        while waiting:
            for task in _ready(waiting, pending.values())[: processes - len(pending)]:
                pending[pool.submit(_act, task)] = task.key
            finished, _ = wait(pending, timeout=_POLL_S, return_when=FIRST_COMPLETED)
            for future in finished:
                future.result()
                del waiting[pending.pop(future)]
                done += 1
                told(Status(stage, done, total))
            _pass_on(reports, told)
    except BrokenProcessPool as error:
        raise ModelingError(
            "a training process was killed from outside, most likely for want of memory: run the same command again "
            "with --processes 1; what is finished is kept"
        ) from error
    except BaseException:
        stop.set()  # interrupted: what is under way has its checkpoint, nobody waits for it
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _ready(waiting: Mapping[str, Task], under_way: Iterable[str]) -> list[Task]:
    """What can be begun now, in order; nothing only while something is under way."""
    begun = set(under_way)
    ready = [
        task
        for key, task in waiting.items()
        if key not in begun and not any(need in waiting and need != key for need in task.needs)
    ]
    if not ready and not begun:
        raise ModelingError(f"the runs {', '.join(waiting)} wait for each other: none of them can be begun")
    return ready


_reports: Any = None
"""In a worker process: the queue to the process that started it."""


def _begin_worker(threads: int, reports: Any, parent: int, stop: Any) -> None:
    global _reports  # noqa: PLW0603 - a pool's initialiser has no other way to hand something to its tasks
    _reports = reports
    torch.set_num_threads(threads)
    keep_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the first one tells the others
    threading.Thread(target=_leave_with, args=(parent, stop), daemon=True).start()


def _leave_with(parent: int, stop: Any) -> None:
    """End this process when the one that started it says so or is gone: nobody must go on training unseen."""
    while os.getppid() == parent and not stop.wait(_WATCH_S):
        pass
    os._exit(1)


def _act(task: Task) -> None:
    task.act(_reports.put)


def _pass_on(reports: Any, told: Told) -> None:
    while True:
        try:
            told(reports.get_nowait())
        except queue.Empty:
            return
