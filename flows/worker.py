"""A worker of this machine: takes the runs of several work pools from Prefect's server and runs each as a process.

`prefect worker start` serves one pool; on a single machine one process for all pools is enough. Runs begin in the
folder in which the worker was started, where `quakeslide.toml` is looked for. In Kubernetes, Prefect's own worker does this.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect.workers.process import ProcessJobConfiguration, ProcessWorker

POOLS = ("cpu", "gpu")
"""The work pools of `infra/prefect.yaml`."""

ENGINE = f"{sys.executable} -m prefect.engine"
"""What runs a flow run: named, so that Prefect looks for no project to install in the folder."""


class HereConfiguration(ProcessJobConfiguration):
    """How a run is started: by this Python, in this folder."""

    def prepare_for_flow_run(self, *arguments: Any, **options: Any) -> None:
        """Fill in what the deployment leaves open."""
        self.command = self.command or ENGINE
        self.working_dir = self.working_dir or Path.cwd()
        super().prepare_for_flow_run(*arguments, **options)


def _worker(pool: str) -> ProcessWorker:
    worker = ProcessWorker(work_pool_name=pool, name=f"{pool} on {os.uname().nodename}", create_pool_if_not_found=False)
    worker.job_configuration = HereConfiguration
    return worker


async def serve(pools: Sequence[str] = POOLS) -> None:
    """Work on the runs of all `pools` until a SIGTERM or SIGINT; runs that are under way are ended, then."""
    loop = asyncio.get_running_loop()
    tasks = [
        asyncio.ensure_future(_worker(pool).start(with_healthcheck=number == 0, printer=lambda *_: None))
        for number, pool in enumerate(pools)
    ]
    everything = asyncio.gather(*tasks)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, everything.cancel)
    try:
        await everything
    except asyncio.CancelledError:
        await asyncio.gather(*tasks, return_exceptions=True)


def main() -> None:
    """`python -m flows.worker [POOL...]`."""
    asyncio.run(serve(sys.argv[1:] or POOLS))


if __name__ == "__main__":
    main()
