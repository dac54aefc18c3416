"""flows/cluster.py: tiles side by side, a few at a time, and an end at the first error."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from fakes import cubes
from fakes.pixel_server import Fault, PixelServer
from fakes.servers import serve

from flows import cluster
from flows.cluster import dask_client, map_unordered
from flows.errors import ServiceError
from flows.settings import DaskSettings
from gee.ledger import Lease, Ledger
from gee.pulling import pull_cube
from gee.scenecube import open_cube
from gee.session import SessionConfig


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with dask_client(DaskSettings(), threads=4) as made:
        yield made


def test_the_cluster_of_this_process_listens_on_loopback_only(client: Any) -> None:
    assert client.submit(threading.get_ident).result() != threading.get_ident()
    addresses = {each.laddr.ip for each in psutil.Process().net_connections("inet") if each.status == "LISTEN"}
    assert addresses <= {"127.0.0.1", "::1"}


def test_every_item_is_worked_on_once_and_only_so_many_at_a_time(client: Any) -> None:
    handed_out = 0

    def items() -> Iterator[int]:
        nonlocal handed_out
        for item in range(20):
            handed_out += 1
            yield item

    found = []
    for result in map_unordered(client, lambda item: item * item, items(), in_flight=3):
        found.append(result)
        assert handed_out <= len(found) + 3
    assert sorted(found) == [item * item for item in range(20)]


def test_nothing_to_do_is_done_at_once(client: Any) -> None:
    assert list(map_unordered(client, abs, [], in_flight=4)) == []


def test_the_first_error_stops_the_rest(client: Any) -> None:
    begun = []

    def work(item: int) -> int:
        begun.append(item)
        time.sleep(0.01)
        if item == 3:
            raise ServiceError(f"tile {item} failed")
        return item

    with pytest.raises(ServiceError, match="tile 3 failed"):
        list(map_unordered(client, work, range(200), in_flight=4))
    time.sleep(0.1)
    assert len(begun) < 20


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_TIMEOUT", "1s")
    address = "tcp://127.0.0.1:9"
    with (
        pytest.raises(ServiceError, match=f"no Dask scheduler answers at {address}"),
        dask_client(DaskSettings(address=address), threads=1),
    ):
        pass
    with pytest.raises(ServiceError, match="nonsense"), dask_client(DaskSettings(address="nonsense"), threads=1):
        pass


def test_a_cluster_with_too_few_threads_is_used_and_said(caplog: pytest.LogCaptureFixture) -> None:
    options: dict[str, Any] = {"dashboard_address": "127.0.0.1:0", "worker_dashboard_address": "127.0.0.1:0"}
    few = {"n_workers": 1, "threads_per_worker": 2, "processes": False, "memory_limit": 0}
    with (
        cluster._cluster(**few, **options, protocol="tcp", host="127.0.0.1") as there,
        caplog.at_level(logging.WARNING, "flows.cluster"),
        dask_client(DaskSettings(address=there.scheduler_address), threads=40) as client,
    ):
        assert sorted(map_unordered(client, abs, [-3, 4], in_flight=2)) == [3, 4]
    assert "have 2 threads for 40 requests at a time" in caplog.text


@pytest.mark.slow
def test_worker_processes_share_the_quota_of_the_project(tmp_path: Path) -> None:
    """Two worker processes with twelve threads each pull one cube: never more than the project's six at a time."""
    fake = PixelServer(cubes.pixels)
    options: dict[str, Any] = {"dashboard_address": "127.0.0.1:0", "worker_dashboard_address": "127.0.0.1:0"}
    workers = {"n_workers": 2, "threads_per_worker": 12, "processes": True, "memory_limit": 0}
    with serve(fake.app) as url, cluster._cluster(**workers, **options, protocol="tcp", host="127.0.0.1") as there:
        fake.faults = [Fault(delay_s=0.15) for _ in range(500)]
        config = SessionConfig(url, "p", 20.0, 3, 6, 0.05, quota_uri=str(tmp_path / "quota"))
        plan = cubes.plan(str(tmp_path / "cube.zarr"), tile_px=8)
        with dask_client(DaskSettings(address=there.scheduler_address), threads=24) as client:
            sealed = pull_cube(plan, config, spread=partial(map_unordered, client, in_flight=24))
        assert len(fake.asked) == len(set(fake.asked)) == len(plan.tiles)
        assert 4 <= fake.most_in_flight <= 6
        holders = {lease.holder for lease in ledger_leases(tmp_path / "quota" / "p")}
        assert len(holders) == 2, "both workers had a part"
    assert open_cube(plan.uri).cube_hash == sealed


def ledger_leases(folder: Path) -> list[Lease]:
    """Every lease of every state that is kept."""
    return [lease for path in folder.glob("*.json") for lease in Ledger.from_json(path.read_bytes()).leases]
