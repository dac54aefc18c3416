"""flows/cluster.py: tiles side by side, a few at a time, and an end at the first error."""

from __future__ import annotations

import gc
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import distributed
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


def test_what_is_left_of_a_connection_that_failed_takes_no_lock() -> None:
    """A service asks again and again at a wrong address; the collector may run while the next client starts."""
    gc.disable()
    try:
        told: list[Any] = []
        with (
            pytest.raises(ServiceError) as caught,
            dask_client(DaskSettings(address="nonsense"), threads=1),
        ):
            pass
        told += [caught, told]  # an error that somebody has kept, with all that its traceback holds, for the collector
        del caught, told

        def collected() -> None:
            with distributed.utils.LoopRunner._lock:  # as held by whoever starts a client
                gc.collect()

        collector = threading.Thread(target=collected, daemon=True)
        collector.start()
        collector.join(timeout=20)
        assert not collector.is_alive(), "the collector waits for a lock that its own thread holds"
    finally:
        gc.enable()


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


@contextmanager
def two_processes(threads: int) -> Iterator[Any]:
    """A cluster of two worker processes, each under a nanny that starts another when it dies."""
    options: dict[str, Any] = {"dashboard_address": "127.0.0.1:0", "worker_dashboard_address": "127.0.0.1:0"}
    workers = {"n_workers": 2, "threads_per_worker": threads, "processes": True, "memory_limit": 0}
    with cluster._cluster(**workers, **options, protocol="tcp", host="127.0.0.1") as there:
        yield there


def worked_on_by(folder: Path, item: int) -> int:
    """Runs on a worker: leaves a note with the worker's pid, and takes a moment."""
    (folder / f"{item}.{os.getpid()}").touch()
    time.sleep(0.1)
    return item


def test_a_worker_that_is_killed_costs_what_it_was_at_and_not_the_run(tmp_path: Path) -> None:
    with two_processes(2) as there, dask_client(DaskSettings(address=there.scheduler_address), threads=4) as client:
        found: list[int] = []
        killed = ""
        for item in map_unordered(client, partial(worked_on_by, tmp_path), range(40), in_flight=8):
            found.append(item)
            if len(found) == 10:  # one that has worked: on a busy machine another may still be starting
                killed = next(tmp_path.iterdir()).name.partition(".")[2]
                os.kill(int(killed), signal.SIGKILL)
        assert sorted(found) == list(range(40))
        notes = [path.name.split(".") for path in tmp_path.iterdir()]
        assert {pid for _, pid in notes} > {killed}, "others took over from the killed one"
        repeated = len(notes) - len({item for item, _ in notes})
        assert repeated <= 8, "only what it was at is done again"


def test_a_scheduler_that_is_lost_ends_the_run_with_a_word() -> None:
    with two_processes(1) as there, dask_client(DaskSettings(address=there.scheduler_address), threads=2) as client:
        results = map_unordered(client, slowly, range(100), in_flight=4)
        next(results)
        threading.Thread(target=there.close, kwargs={"timeout": 5}).start()
        with pytest.raises(ServiceError, match="the Dask scheduler was lost"):
            list(results)


def slowly(item: int) -> int:
    time.sleep(0.2)
    return item


@pytest.mark.slow
def test_a_worker_that_is_killed_in_mid_pull_costs_its_tiles_and_the_cube_is_the_same(tmp_path: Path) -> None:
    fake = PixelServer(cubes.pixels)
    with serve(fake.app) as url, two_processes(4) as there:
        fake.faults = [Fault(delay_s=0.2) for _ in range(500)]
        config = SessionConfig(url, "p", 20.0, 3, 8, 0.05)
        whole = pull_cube(cubes.plan(str(tmp_path / "whole.zarr"), tile_px=8), config)
        plan = cubes.plan(str(tmp_path / "cube.zarr"), tile_px=8)
        with dask_client(DaskSettings(address=there.scheduler_address), threads=8) as client:
            pid = min(client.run(os.getpid).values())
            threading.Timer(0.5, os.kill, (pid, signal.SIGKILL)).start()
            sealed = pull_cube(plan, config, spread=partial(map_unordered, client, in_flight=8))
            assert pid not in client.run(os.getpid).values()
    assert sealed == whole
    assert open_cube(plan.uri).cube_hash == sealed


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
