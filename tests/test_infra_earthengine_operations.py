"""Operations of the stand-in: their states, their queue, and that one request is one operation."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ee
import httpx
import pytest
from fakes.earthengine import PROJECT, ROOT, earth_engine

from infra.local.earthengine.errors import ServiceError
from infra.local.earthengine.operations import Operations
from infra.local.earthengine.store import JsonStore

OPERATIONS = f"projects/{PROJECT}/operations"


class Bench:
    """Operations whose work is recorded."""

    def __init__(self, folder: Path, duration_s: float, queue: int = 3000) -> None:
        self.done: list[str] = []
        self.operations = Operations(JsonStore(folder), duration_s, queue)
        self.operations.work = {"WORK": self._work}

    def _work(self, body: dict[str, Any]) -> list[str]:
        self.done.append(body["what"])
        return [body["what"]]

    def start(self, what: str, **more: Any) -> str:
        return str(self.operations.start(PROJECT, "WORK", what, {"what": what, **more})["name"])

    def state(self, name: str) -> str:
        return str(self.operations.get(name)["metadata"]["state"])

    def reaches(self, name: str, state: str) -> None:
        end = time.monotonic() + 10
        while self.state(name) != state:
            assert time.monotonic() < end, f"it is {self.state(name)}"
            time.sleep(0.005)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, 0.2)
    yield made
    made.operations.close()


def test_an_operation_waits_runs_and_ends(bench: Bench) -> None:
    name = bench.start("a")
    assert bench.state(name) == "PENDING"
    bench.reaches(name, "RUNNING")
    assert bench.done == [], "what it makes is there at its end"
    bench.reaches(name, "SUCCEEDED")
    told = bench.operations.get(name)
    assert (told["done"], told["metadata"]["destinationUris"], bench.done) == (True, ["a"], ["a"])


def test_two_run_at_a_time_and_the_others_wait(bench: Bench) -> None:
    names = [bench.start(str(n)) for n in range(4)]
    bench.reaches(names[1], "RUNNING")
    assert [bench.state(name) for name in names[2:]] == ["PENDING", "PENDING"]
    for name in names:  # the last two run side by side: either may end first
        bench.reaches(name, "SUCCEEDED")
    assert sorted(bench.done) == ["0", "1", "2", "3"]


@pytest.mark.parametrize("state", ["PENDING", "RUNNING"])
def test_what_is_cancelled_makes_nothing(tmp_path: Path, state: str) -> None:
    bench = Bench(tmp_path, 1.0)
    name = bench.start("a")
    bench.reaches(name, state)
    bench.operations.cancel(name)
    assert bench.state(name) in ("CANCELLING", "CANCELLED")
    bench.reaches(name, "CANCELLED")
    assert bench.operations.get(name)["error"] == {"code": 1, "message": "Cancelled."}
    with pytest.raises(ServiceError, match=r"has ended \(CANCELLED\) and cannot be cancelled"):
        bench.operations.cancel(name)
    bench.operations.close()
    assert bench.done == []


def test_one_request_is_one_operation_also_after_its_end(bench: Bench) -> None:
    first = bench.start("a", requestId="once")
    bench.reaches(first, "SUCCEEDED")
    assert bench.start("a", requestId="once") == first != bench.start("a", requestId="again")
    with pytest.raises(ServiceError, match="Invalid request id 'no_underscores'"):
        bench.start("a", requestId="no_underscores")


def test_the_queue_has_an_end(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 0.2, queue=2)
    names = [bench.start(str(n), requestId=f"r{n}") for n in range(2)]
    with pytest.raises(ServiceError, match=r"Too many tasks already in the queue \(2\)") as caught:
        bench.start("third")
    assert caught.value.code == 429
    assert bench.start("1", requestId="r1") == names[1], "one that is known needs no place"
    bench.reaches(names[0], "SUCCEEDED")
    bench.start("third")
    bench.operations.close()


def test_what_had_not_ended_is_begun_again(tmp_path: Path) -> None:
    first = Bench(tmp_path, 60.0)
    name, cancelled = first.start("a"), first.start("b")
    first.operations.cancel(cancelled)
    first.operations.close()
    second = Bench(tmp_path, 0.05)
    second.operations.resume()
    second.reaches(name, "SUCCEEDED")
    second.operations.close()
    assert (second.done, second.state(cancelled)) == (["a"], "CANCELLED")


def test_a_client_waits_lists_and_cancels(tmp_path: Path) -> None:
    (tmp_path / "catalogue").mkdir()
    with earth_engine(tmp_path / "catalogue", tmp_path / "state", operation_s=0.4) as url:
        ee.data.createFolder(f"{ROOT}/out")
        tasks = []
        for n in range(2):
            task = ee.batch.Export.table.toAsset(
                ee.FeatureCollection([ee.Feature(ee.Geometry.Point([0, 0]), {"n": n})]), f"task{n}", f"{ROOT}/out/t{n}"
            )
            task.start()
            tasks.append(task)
        tasks[1].cancel()
        held = httpx.post(f"{url}/v1/{OPERATIONS}/{tasks[0].id}:wait", json={"timeout": "0.05s"}).json()
        assert not held.get("done")
        held = httpx.post(f"{url}/v1/{OPERATIONS}/{tasks[0].id}:wait", json={"timeout": "10s"}).json()
        assert held["metadata"]["state"] == "SUCCEEDED"
        states = {each["metadata"]["description"]: each["metadata"]["state"] for each in ee.data.listOperations()}
        assert states == {"task0": "SUCCEEDED", "task1": "CANCELLED"}
        assert tasks[0].status()["state"] == "COMPLETED"
        assert [asset["id"] for asset in ee.data.listAssets(f"{ROOT}/out")["assets"]] == [f"{ROOT}/out/t0"]
        assert httpx.post(f"{url}/v1/{OPERATIONS}/{tasks[0].id}:wait", json={"timeout": "soon"}).status_code == 400
