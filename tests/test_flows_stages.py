"""flows/stages.py: a stage is done once, whoever was killed or raced, and files of two attempts never mix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flows.errors import PublicationError, ServiceError
from flows.layout import EventLayout, RunLayout
from flows.stages import clear, once
from flows.storage import Store

NAMES = ("first.tif", "second.gpkg", "third.json")


@pytest.fixture
def run(store: Store) -> RunLayout:
    return EventLayout(store.bucket_url, "us1").run("0" * 16)


def folder(parent: Path, name: str) -> Path:
    made = parent / name
    made.mkdir()
    return made


def writer(where: Path, text: str) -> Callable[[], None]:
    def make() -> None:
        for name in NAMES:
            (where / name).write_text(f"{name} {text}")

    return make


def refuse() -> None:
    raise AssertionError("this stage was done already")


def test_a_stage_is_made_once_and_taken_from_the_bucket_then(store: Store, run: RunLayout, tmp_path: Path) -> None:
    a, b = folder(tmp_path, "a"), folder(tmp_path, "b")
    assert once(store, run, "map", a, NAMES, writer(a, "of a")) is True
    assert once(store, run, "map", b, NAMES, refuse) is False
    assert [(b / name).read_text() for name in NAMES] == [f"{name} of a" for name in NAMES]
    assert once(store, run, "products", b, NAMES, writer(b, "again")) is True, "another stage is another matter"


def test_an_attempt_that_dies_while_uploading_counts_for_nothing(store: Store, run: RunLayout, tmp_path: Path) -> None:
    a, b = folder(tmp_path, "a"), folder(tmp_path, "b")

    class Dying(Store):
        def upload_file(self, path: Path, uri: str, content_type: str, sha256: str) -> int:
            if path.name == NAMES[1]:
                raise ServiceError("the process dies here")
            return super().upload_file(path, uri, content_type, sha256)

    with Dying(store.bucket_url, store.address) as dying, pytest.raises(ServiceError, match="dies here"):
        once(dying, run, "map", a, NAMES, writer(a, "of a"))
    assert len(store.list(run.work(""))) == 1
    assert once(store, run, "map", b, NAMES, writer(b, "of b")) is True
    c = folder(tmp_path, "c")
    once(store, run, "map", c, NAMES, refuse)
    assert [(c / name).read_text() for name in NAMES] == [f"{name} of b" for name in NAMES]


def test_of_two_processes_the_first_to_finish_counts(store: Store, run: RunLayout, tmp_path: Path) -> None:
    a, b = folder(tmp_path, "a"), folder(tmp_path, "b")

    def slow() -> None:
        writer(a, "of the slow one")()
        assert once(store, run, "map", b, NAMES, writer(b, "of the quick one"))

    assert once(store, run, "map", a, NAMES, slow) is False
    assert {(a / name).read_text() for name in NAMES} == {f"{name} of the quick one" for name in NAMES}


def test_a_damaged_file_is_not_taken(store: Store, run: RunLayout, tmp_path: Path) -> None:
    a, b = folder(tmp_path, "a"), folder(tmp_path, "b")
    once(store, run, "map", a, NAMES, writer(a, "of a"))
    damaged = next(entry.uri for entry in store.list(run.work("")) if entry.uri.endswith(NAMES[0]))
    store.write_bytes(damaged, b"something else")
    with pytest.raises(PublicationError, match="is damaged"):
        once(store, run, "map", b, NAMES, refuse)


def test_clearing_removes_the_work_and_nothing_else(store: Store, run: RunLayout, tmp_path: Path) -> None:
    a = folder(tmp_path, "a")
    once(store, run, "map", a, NAMES, writer(a, "of a"))
    product = run.products("d").uri("mask.tif")
    store.write_bytes(product, b"kept")
    clear(store, run)
    clear(store, run)
    assert [entry.uri for entry in store.list(f"{run.root}/")] == [product]
