"""What runs of itself, put on a Prefect server: work pools, the deployments of `infra/prefect.yaml`, and automations.

Everything may be done again at any time; what is there already is brought up to date, and runs under way go on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import httpx
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import PrefectException

from flows.errors import FlowError, ServiceError
from flows.settings import Settings

INFRA = Path(__file__).resolve().parents[1] / "infra"
"""The folder of the deployment's files; they are installed with the package `infra`."""

DEFINITION = INFRA / "prefect.yaml"
"""Prefect's own file of deployments."""

PoolType = Literal["process", "kubernetes"]

_TEMPLATES = {"kubernetes": INFRA / "kubernetes" / "pools.yaml"}
_DEADLINE_S = 300.0
_LAST_WORDS = 600


@dataclass(frozen=True)
class Deployed:
    """What a deployment has put on the server."""

    pools: tuple[str, ...]
    """Names of the work pools."""
    deployments: tuple[str, ...]
    """Names of the deployments, `flow/deployment`."""
    automations: tuple[str, ...]
    """Names of the automations beside those that belong to a deployment."""


def definition(settings: Settings, source: Path = DEFINITION) -> dict[str, Any]:
    """The file of deployments with the limits of the settings in it.

    Raises `FlowError` when it cannot be read.
    """
    try:
        value = yaml.safe_load(source.read_text(encoding="utf-8"))
        for each in value["deployments"]:
            if each["name"] == "campaign-step":
                each["concurrency_limit"]["limit"] = settings.campaign.at_once
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise FlowError(f"{source} is no file of deployments: {error!r}") from error
    return dict(value)


def pool_names(value: Mapping[str, Any]) -> tuple[str, ...]:
    """The work pools that the deployments of a definition name, in their order."""
    return tuple(dict.fromkeys(str(each["work_pool"]["name"]) for each in value["deployments"]))


def pool_template(kind: PoolType, pool: str, image: str) -> dict[str, Any] | None:
    """The base job template of a pool of this kind; None leaves it to Prefect.

    `image` is the image that holds this program, with the CPU or the GPU build where the pool's name stands in it as
    `{pool}`. Raises `FlowError` when a kind needs one and none is given.
    """
    if kind == "process":
        return None
    if not image:
        raise FlowError("pools of Kubernetes need --image, for example europe-docker.pkg.dev/P/quakeslide/{pool}:0.1.0")
    pools = yaml.safe_load(_TEMPLATES[kind].read_text(encoding="utf-8"))
    if pool not in pools:
        raise FlowError(f"{_TEMPLATES[kind]} describes no pool {pool!r}")
    template: dict[str, Any] = pools[pool]
    template["variables"]["properties"]["image"]["default"] = image.replace("{pool}", pool)
    return template


def deploy(
    settings: Settings,
    *,
    kind: PoolType = "process",
    image: str = "",
    source: Path = DEFINITION,
    say: Callable[[str], None] = lambda _: None,
) -> Deployed:
    """Put everything on the server that PREFECT_API_URL names; returns what is there then.

    Raises `FlowError` saying what is wrong, `ServiceError` when the server does not answer or refuses.
    """
    from flows.automations import put_automations

    value = definition(settings, source)
    templates = {pool: pool_template(kind, pool, image) for pool in pool_names(value)}
    with prefect_client() as client:
        for pool, template in templates.items():
            _put_pool(client, pool, kind, template)
            say(f"work pool {pool} ({kind})")
        _prefect_deploy(value)
        names = tuple(sorted(_deployment_names(client, value)))
        for name in names:
            say(f"deployment {name}")
        automations = put_automations(client, settings)
        for name in automations:
            say(f"automation {name}")
    return Deployed(tuple(templates), names, automations)


@contextmanager
def prefect_client() -> Iterator[SyncPrefectClient]:
    """Prefect's client inside the block; what it raises becomes a `ServiceError` that names the server's address."""
    require_server()
    try:
        with get_client(sync_client=True) as client:
            yield client
    except (httpx.HTTPError, PrefectException) as error:
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ServiceError(f"the Prefect server at {server_address()}: {line}") from error


def require_server() -> None:
    """Raise `ServiceError` when no Prefect server is set: Prefect would start one of its own, for a moment."""
    if not os.environ.get("PREFECT_API_URL"):
        raise ServiceError("no Prefect server is set: start one (quakeslide local up) and set PREFECT_API_URL")


def server_address() -> str:
    """The address of Prefect's server without a user's name or password in it."""
    url = httpx.URL(os.environ.get("PREFECT_API_URL", ""))
    return str(url.copy_with(username="", password="", query=None)) if url.userinfo else str(url)


def _put_pool(client: SyncPrefectClient, name: str, kind: str, template: dict[str, Any] | None) -> None:
    there = {pool.name: pool for pool in client.read_work_pools()}
    if name in there and there[name].type != kind:
        raise FlowError(
            f"the work pool {name} on {server_address()} is of kind {there[name].type}, not {kind}: "
            f"choose that kind, or delete it (prefect work-pool delete {name})"
        )
    if name in there and template is None:
        return  # a limit or a pause that an operator has set stays
    pool = WorkPoolCreate(name=name, type=kind, base_job_template=template or {})
    client.create_work_pool(pool, overwrite=True)


def _prefect_deploy(value: Mapping[str, Any]) -> None:
    """Deploy with Prefect's own command, as anyone would; raises `FlowError` with its last words."""
    with TemporaryDirectory(prefix="deploy-") as folder:
        path = Path(folder) / "prefect.yaml"
        path.write_text(json.dumps(value), encoding="utf-8")  # JSON is YAML, without its surprises
        command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(path)]
        try:
            done = subprocess.run(  # noqa: S603 - our own command
                command, cwd=folder, capture_output=True, text=True, timeout=_DEADLINE_S, check=False,
                env={**os.environ, "NO_COLOR": "1", "COLUMNS": "200", "PYTHONPATH": _python_path()},
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise ServiceError(f"`prefect deploy` to {server_address()} took longer than {_DEADLINE_S:.0f} s") from None
    if done.returncode:
        words = " ".join((done.stderr.strip() or done.stdout.strip()).split())
        raise FlowError(f"`prefect deploy` failed with status {done.returncode}: …{words[-_LAST_WORDS:]}")


def _python_path() -> str:
    """This program's folder and what the caller had: the command is run elsewhere, where no project lies."""
    return os.pathsep.join(part for part in (str(INFRA.parent), os.environ.get("PYTHONPATH", "")) if part)


def _deployment_names(client: SyncPrefectClient, value: Mapping[str, Any]) -> list[str]:
    wanted = {str(each["name"]) for each in value["deployments"]}
    flows = {flow.id: flow.name for flow in client.read_flows()}
    found = [each for each in client.read_deployments() if each.name in wanted]
    if missing := wanted - {each.name for each in found}:
        raise FlowError(f"`prefect deploy` left out {', '.join(sorted(missing))}")
    return [f"{flows.get(each.flow_id, '?')}/{each.name}" for each in found]
