"""flows/cluster.py: tiles side by side, a few at a time, and an end at the first error."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from flows import cluster
from flows.cluster import dask_client, map_unordered
from flows.errors import ServiceError
from flows.settings import DaskSettings


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
