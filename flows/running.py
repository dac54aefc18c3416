"""What runs by itself on one machine: everything deployed on the stack's own server, a worker and the monitor beside it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from flows.automations import HEARTBEAT_S
from flows.deploy import DEFINITION, deploy
from flows.logs import logging_environment
from flows.settings import Settings
from infra.local.service import Service
from infra.local.stack import LocalStack

POLL_S = 2
"""How often the worker asks the server for runs, in seconds."""


def worker_environment() -> dict[str, str]:
    """The environment of a worker and of all runs that it starts; `{port}` stands for the port of its health page."""
    return {
        **os.environ,
        **logging_environment(),
        "PREFECT_WORKER_WEBSERVER_HOST": "127.0.0.1",
        "PREFECT_WORKER_WEBSERVER_PORT": "{port}",
        "PREFECT_WORKER_QUERY_SECONDS": str(POLL_S),
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_S),
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "DEBUG",
    }


def add_worker(
    stack: LocalStack, settings: Settings, say: Callable[[str], None], definition: Path = DEFINITION
) -> Service:
    """Deploy on the stack's server and start a worker that ends with the stack; returns it when it is well.

    The process's environment has to be that of the stack. Raises `FlowError` or `StackError`.
    """
    deploy(settings, source=definition, say=say)
    command = [sys.executable, "-m", "flows.worker"]
    return stack.add("worker", command, environment=worker_environment(), health_path="/health")


def add_monitor(stack: LocalStack) -> Service:
    """Start the page of metrics and health on a free port of loopback; it ends with the stack. Returns it when it is up.

    The process's environment has to be that of the stack. Raises `StackError`.
    """
    environment = {
        **os.environ, "QUAKESLIDE_METRICS__HOST": "127.0.0.1", "QUAKESLIDE_METRICS__PORT": "{port}",
    }  # fmt: skip
    # Not /health: the page is up also when something else is not well.
    return stack.add(
        "monitor", [sys.executable, "-m", "flows.monitoring"], environment=environment, health_path="/live"
    )
