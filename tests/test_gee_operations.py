"""gee/operations.py: one key, one operation, until it has ended."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from fakes.assets import ROOT, AssetWorld, asset_world, table

from gee import operations
from gee.assets import ensure_folder
from gee.errors import AssetError
from gee.ingestion import manifest_of
from gee.operations import FORGOTTEN, MAX_ATTEMPTS, Operation, operation_of, pauses_s, start_operation, wait_for

IMPORT = "/v1/projects/local/table:import"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AssetWorld]:
    with asset_world(tmp_path_factory.mktemp("world"), operation_s=0.4) as made:
        ensure_folder(made.session, f"{ROOT}/t")
        yield made


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "POLL_S", 0.02)


def request(world: AssetWorld, name: str, uri: str = "") -> dict[str, Any]:
    return {"tableManifest": manifest_of(table(f"t/{name}", uri or world.csv()))}


def ended(world: AssetWorld, operation: Operation) -> Operation:
    return wait_for(world.session, {"it": operation}, time.monotonic() + 20)["it"]


def test_the_same_key_is_the_same_operation_while_it_runs(world: AssetWorld) -> None:
    body = request(world, "same")
    first, second = (start_operation(world.session, IMPORT, body, "same") for _ in range(2))
    other = start_operation(world.session, IMPORT, request(world, "other"), "other")
    assert first.name == second.name != other.name
    assert (first.state, first.done) == ("PENDING", False)
    assert ended(world, first).state == "SUCCEEDED"


def test_what_has_failed_is_begun_anew(world: AssetWorld) -> None:
    body = request(world, "failing", "gs://quakeslide/nothing.csv")
    first = start_operation(world.session, IMPORT, body, "failing")
    assert (ended(world, first).state, "nothing.csv" in ended(world, first).problem) == ("FAILED", True)
    second = start_operation(world.session, IMPORT, body, "failing")
    assert second.name != first.name
    assert start_operation(world.session, IMPORT, body, "failing").name == second.name


def test_an_operation_that_nobody_remembers_has_ended(world: AssetWorld) -> None:
    gone = Operation("projects/local/operations/NOTHING", "RUNNING", done=False)
    assert ended(world, gone) == Operation(gone.name, FORGOTTEN, done=True)


def test_the_deadline_is_kept_and_nothing_is_cancelled(world: AssetWorld) -> None:
    operation = start_operation(world.session, IMPORT, request(world, "late"), "late")
    began = time.monotonic()
    seen = wait_for(world.session, {"late": operation}, began + 0.1)["late"]
    assert time.monotonic() - began >= 0.1
    assert not seen.done
    assert seen.state in seen.words
    assert seen.name in seen.words
    assert ended(world, operation).state == "SUCCEEDED"


def test_what_fails_for_ever_is_given_up(world: AssetWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "MAX_ATTEMPTS", 2)
    body = request(world, "vain", "gs://quakeslide/nothing.csv")
    for _ in range(2):
        ended(world, start_operation(world.session, IMPORT, body, "vain"))
    with pytest.raises(AssetError, match=r"vain was begun 2 times in vain, the last time it was FAILED since"):
        start_operation(world.session, IMPORT, body, "vain")
    assert MAX_ATTEMPTS > 2


def test_pauses_grow_to_their_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "POLL_S", 4.0)
    pauses = pauses_s()
    assert [next(pauses) for _ in range(5)] == [4.0, 6.0, 9.0, 13.5, 15.0]


def test_an_answer_without_metadata_is_read() -> None:
    assert operation_of({"name": "n"}) == Operation("n", "UNKNOWN", done=False)
    assert operation_of({"name": "n", "done": True, "error": {"code": 8}}).problem == "{'code': 8}"
