"""Dask clusters that are asked for and end with the run: of a Dask Gateway, or of the operator in Kubernetes.

Both packages are optional (`pip install 'quakeslide[cluster]'`). Who may have a cluster is the gateway's and Kubernetes'
own matter: credentials come from their own configuration, never from a setting of this program.

All workers of a gateway's cluster are alike, and what they are is set up where the gateway is: when they offer the
resource GPU (`flows.serving.RESOURCE`), they run networks as well. The operator gives workers of two kinds.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from flows.errors import FlowError, ServiceError
from flows.settings import DaskSettings

TEMPLATE = Path(__file__).resolve().parents[1] / "infra" / "kubernetes" / "dask-cluster.yaml"
"""What is asked of the operator; it is installed with the package `infra`."""

_PLACEHOLDER = re.compile(r"\{\{ (\w+) \}\}")


@contextmanager
def gateway_cluster(settings: DaskSettings) -> Iterator[Any]:
    """A cluster of the gateway at `settings.gateway`. Raises `FlowError` without its package, `ServiceError` otherwise."""
    try:
        from dask_gateway import Gateway, GatewayClusterError, GatewayServerError
    except ImportError as error:
        raise FlowError(
            "dask.gateway needs the package dask-gateway: pip install 'quakeslide[cluster]', or leave it empty"
        ) from error
    try:
        gateway = Gateway(settings.gateway)
        cluster = gateway.new_cluster()
    except (OSError, ValueError, GatewayClusterError, GatewayServerError) as error:
        raise ServiceError(f"the Dask Gateway at {settings.gateway} gives no cluster: {error}") from error
    try:
        cluster.scale(settings.workers)
        yield cluster
    finally:
        cluster.shutdown()
        gateway.close()


@contextmanager
def operator_cluster(settings: DaskSettings) -> Iterator[Any]:
    """A cluster of the operator in `settings.namespace`. Raises `FlowError` without its package, `ServiceError` otherwise."""
    try:
        from dask_kubernetes.operator import KubeCluster
    except ImportError as error:
        raise FlowError(
            "dask.namespace needs the package dask-kubernetes: pip install 'quakeslide[cluster]', or leave it empty"
        ) from error
    wanted = cluster_spec(f"quakeslide-{secrets.token_hex(4)}", settings)
    try:
        cluster = KubeCluster(namespace=settings.namespace, custom_cluster_spec=wanted, quiet=True)
    except Exception as error:  # its client raises what it likes: of HTTP, of Kubernetes, of configuration
        raise ServiceError(f"the Dask operator in {settings.namespace} gives no cluster: {error}") from error
    try:
        if settings.gpu_workers:
            _add_gpu_workers(cluster, settings)
        yield cluster
    finally:
        cluster.close()


def _add_gpu_workers(cluster: Any, settings: DaskSettings) -> None:
    wanted = gpu_worker_spec(settings)
    try:
        cluster.add_worker_group("gpu", custom_spec=wanted)
    except Exception as error:  # as above
        raise ServiceError(f"the Dask operator in {settings.namespace} gives no workers with a GPU: {error}") from error


def cluster_spec(name: str, settings: DaskSettings) -> dict[str, Any]:
    """The custom resource of a cluster whose workers pull, by the file `TEMPLATE`. Raises `FlowError` when it is damaged."""
    return _filled("cluster", settings, name)


def gpu_worker_spec(settings: DaskSettings) -> dict[str, Any]:
    """A group of workers with a GPU each, which run networks and nothing else. Raises as `cluster_spec` does."""
    return _filled("gpu", settings, "")


def _filled(part: str, settings: DaskSettings, name: str) -> dict[str, Any]:
    values = settings.model_dump() | {"name": name, "gpu_image": settings.gpu_image or settings.image}

    def fill(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: fill(each) for key, each in value.items()}
        if isinstance(value, list):
            return [fill(each) for each in value]
        found = _PLACEHOLDER.fullmatch(value) if isinstance(value, str) else None
        return values[found[1]] if found else value

    try:
        template = yaml.safe_load(TEMPLATE.read_text(encoding="utf-8"))
        return dict(fill(template[part]))
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise FlowError(f"{TEMPLATE} is no template of a Dask cluster: {error!r}") from error
