"""gee/quota.py: one limit for many processes, over a folder and over the Cloud Storage stand-in, through real sockets."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from fakes.asking_process import EXPRESSION
from fakes.servers import HTTP, serve

from gee import quota
from gee.errors import StorageError
from gee.holder import has_died
from gee.ledger import Lease, Ledger, Terms, renewed
from gee.quota import KEPT_STATES, TIDY_EVERY, Book, LedgerShare, open_share
from gee.session import SessionConfig, connect
from gee.store import open_store
from infra.local.earthengine import create_app as earth_engine
from infra.local.storage import create_app

QUICK = Terms(slots=12, lease_s=1.5, skew_s=0.2, renew_s=0.25)


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The Cloud Storage stand-in with an empty bucket `quota`."""
    with serve(create_app(tmp_path_factory.mktemp("storage"))) as endpoint:
        HTTP.post(f"{endpoint}/storage/v1/b?project=p", json={"name": "quota"}).raise_for_status()
        yield endpoint


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, bucket: str, tmp_path: Path) -> tuple[str, str]:
    """Address and endpoint of a ledger of this test's own."""
    return (str(tmp_path / "quota"), "") if request.param == "folder" else (f"gs://quota/{tmp_path.name}", bucket)


def soon(condition: Callable[[], bool], within_s: float = 8.0) -> bool:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


def wanting(share: LedgerShare, waiting: int) -> list[int]:
    """Let a share know of requests in flight and waiting; the returned list can be changed."""
    counts = [0, waiting]
    share.watch(lambda: (counts[0], counts[1]))
    return counts


def apart(place: tuple[str, str], terms: Terms = QUICK) -> LedgerShare:
    """A share as another process has it."""
    return LedgerShare(Book(f"{place[0]}/p", place[1]), terms)


def test_of_many_writers_of_one_key_exactly_one_wins(place: tuple[str, str]) -> None:
    store = open_store(*place)
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda index: store.create("x/1.json", b"%d" % index), range(8)))
    assert sum(won) == 1
    assert store.read("x/1.json") == b"%d" % won.index(True)
    assert list(store.sizes("x")) == ["x/1.json"], "nothing is left beside it"


def test_nothing_is_lost_when_many_write(place: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota, "TRIES", 200)  # eight without a pause: more than renewals ever meet
    terms = Terms(slots=1000)

    def join(holder: str) -> None:
        book = Book(*place)
        for _ in range(4):
            book.change(lambda state: renewed(state, time.time(), holder, 5, 0, terms))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(join, [f"h{index}" for index in range(8)]))
    last = Book(*place).newest()
    assert last.number == 32
    assert [lease.holder for lease in last.leases] == [f"h{index}" for index in range(8)]


def test_old_states_are_tidied_and_a_writer_who_slept_is_not_fooled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book, sleeper = Book(str(tmp_path)), Book(str(tmp_path))
    numbers = iter(range(1000))

    def go_on(state: Ledger) -> Ledger:
        return Ledger(state.number, "", (Lease("a", 1, 1, 0.0, float(next(numbers))),))

    def sleep_over(state: Ledger) -> Ledger:
        if state.number < 3:  # seen long ago: by now its successor has been written, used and tidied
            monkeypatch.setattr(quota, "STALE_S", 0.0)
            for _ in range(KEPT_STATES + 2 * TIDY_EVERY):
                book.change(go_on)
        return Ledger(state.number, "", (*state.leases, Lease("sleeper", 1, 1, 0.0, 9e9)))

    for _ in range(2):
        book.change(go_on)
    written = sleeper.change(sleep_over)
    assert written.number == KEPT_STATES + 2 * TIDY_EVERY + 3
    assert [lease.holder for lease in book.newest().leases] == ["a", "sleeper"]
    assert len(list(tmp_path.glob("*.json"))) <= KEPT_STATES + TIDY_EVERY + 1


def test_an_answer_lost_on_the_way_counts_once(bucket: str, tmp_path: Path) -> None:
    """The state was written and the connection broke: the client asks again and is told that there is one already."""
    book = Book(f"gs://quota/{tmp_path.name}", bucket)
    book.change(lambda state: Ledger(state.number, "", (Lease("a", 1, 1, 0.0, 1.0),)))
    HTTP.post(
        f"{bucket}/_standin/faults", json={"match": "upload", "reset": "after", "cut_after": 0}
    ).raise_for_status()
    assert book.change(lambda state: Ledger(state.number, "", (Lease("b", 1, 1, 0.0, 1.0),))).number == 2
    uploads = [entry for entry in HTTP.get(f"{bucket}/_standin/log").json()["requests"] if "upload" in entry["path"]]
    assert [entry["status"] for entry in uploads[-2:]] == [200, 412]
    assert uploads[-2]["fault"]


def test_alone_a_process_gets_everything_and_gives_it_back(place: tuple[str, str]) -> None:
    share = apart(place)
    demand = wanting(share, 30)
    assert share.concurrent == 0, "nothing before the ledger has answered"
    assert soon(lambda: share.concurrent == 12)
    assert share.per_s == 100
    demand[:] = 2, 1
    assert soon(lambda: share.concurrent == 3)
    assert soon(lambda: share.per_s == 25)
    share.end()
    assert Book(f"{place[0]}/p", place[1]).newest().leases == ()
    assert share.concurrent == 0


def test_a_newcomer_gets_its_part_and_the_slots_of_the_dead_come_back(place: tuple[str, str]) -> None:
    first, second = apart(place), apart(place)
    in_use = wanting(first, 12)
    assert soon(lambda: first.concurrent == 12)
    in_use[:] = 9, 30
    wanting(second, 30)
    assert soon(lambda: (first.concurrent, second.concurrent) == (6, 3)), "three more as soon as they are free"
    time.sleep(3 * QUICK.renew_s)
    assert second.concurrent == 3, "what is in flight is not handed to another"
    in_use[:] = 4, 30
    assert soon(lambda: (first.concurrent, second.concurrent) == (6, 6))
    first._closing.set()  # as if killed: nothing is given back
    first._give_back = lambda: None  # type: ignore[method-assign]
    assert soon(lambda: second.concurrent == 12, within_s=4 * QUICK.lease_s)
    second.end()


def test_an_idle_process_leaves_its_slots_to_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota, "IDLE_S", 0.3)
    share = apart((str(tmp_path), ""))
    demand = wanting(share, 12)
    assert soon(lambda: share.concurrent == 12)
    demand[:] = 0, 0
    assert soon(lambda: Book(str(tmp_path / "p")).newest().leases == ())
    assert soon(lambda: not share._thread.is_alive())  # type: ignore[union-attr]
    demand[:] = 0, 5
    assert soon(lambda: share.concurrent == 5), "and gets some again when it needs them"
    share.end()


def test_without_the_ledger_the_grant_holds_until_it_runs_out_then_one_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    share = apart((str(tmp_path / "quota"), ""))
    wanting(share, 12)
    assert soon(lambda: share.concurrent == 12)
    with caplog.at_level(logging.WARNING, "gee.quota"):
        (tmp_path / "quota").rename(tmp_path / "gone")
        (tmp_path / "quota").write_text("not a folder")
        assert soon(lambda: "the ledger of requests cannot be used" in caplog.text)
        assert share.concurrent == 12
        assert soon(lambda: share.concurrent == 1)
        assert share.per_s == pytest.approx(100 / 12)
        assert len(caplog.records) == 1, "said once, not each time"
        (tmp_path / "quota").unlink()
        (tmp_path / "gone").rename(tmp_path / "quota")
        assert soon(lambda: share.concurrent == 12)
        assert "answers again" in caplog.text
    share.end()


def test_a_ledger_that_went_back_is_not_trusted_until_all_leases_have_run_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = Book(str(tmp_path))
    for number in range(3):
        book.change(lambda state, n=number: Ledger(state.number, "", (Lease("a", 1, 1, 0.0, n),)))  # type: ignore[misc]
    for path in tmp_path.glob("*.json"):
        path.unlink()
    with pytest.raises(StorageError, match="went back from state 3 to 0"):
        book.newest()
    monkeypatch.setattr(quota, "FORGOTTEN_S", 0.0)
    assert book.newest() == Ledger()


def test_a_bucket_that_was_never_there_lets_one_request_go_on(bucket: str) -> None:
    share = apart(("gs://nowhere-at-all/quota", bucket))
    wanting(share, 12)
    assert share.concurrent == 0
    assert soon(lambda: share.concurrent == 1)
    share.end()


def test_a_process_has_one_share_of_a_ledger(tmp_path: Path) -> None:
    first = open_share(str(tmp_path), "p", terms=QUICK, concurrent=6)
    second = open_share(str(tmp_path), "p", terms=QUICK, concurrent=6)
    assert first is second
    assert open_share(str(tmp_path), "another").close() is None
    wanting(first, 10)
    assert soon(lambda: first.concurrent == 6)
    first.close()
    assert second.concurrent == 6
    second.close()
    assert Book(str(tmp_path / "p")).newest().leases == ()
    again = open_share(str(tmp_path), "p", terms=QUICK)
    assert again is not first
    again.close()
    with pytest.raises(StorageError, match="no address of a bucket"):
        open_share("s3://x", "p")


@contextmanager
def asking(**given: Any) -> Iterator[subprocess.Popen[str]]:
    """A process of `fakes.asking_process` that waits for its start."""
    command = [sys.executable, "-m", "fakes.asking_process", json.dumps(given)]
    where = {**os.environ, "PYTHONPATH": os.pathsep.join(str(Path(__file__).parents[up]) for up in (0, 1))}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**where, "OMP_NUM_THREADS": "1"}
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def together(given: dict[str, Any], delays_s: tuple[float, ...]) -> list[dict[str, int]]:
    """What processes report that begin after these delays."""
    with ExitStack() as stack:
        processes = [stack.enter_context(asking(**given)) for _ in delays_s]
        assert all(process.stdout and process.stdout.readline() == "ready\n" for process in processes)
        begun = time.monotonic()
        for delay, process in sorted(zip(delays_s, processes, strict=True), key=lambda pair: pair[0]):
            time.sleep(max(0.0, begun + delay - time.monotonic()))
            assert process.stdin
            process.stdin.write("go\n")
            process.stdin.flush()
        return [json.loads(process.communicate(timeout=60)[0]) for process in processes]


def most_at_once(log: list[dict[str, Any]]) -> int:
    """Requests under way at the same time, as the server saw them."""
    edges = [(entry["time"], 1) for entry in log] + [(entry["time"] + entry["ms"] / 1000, -1) for entry in log]
    under_way = most = 0
    for _, step in sorted(edges):
        under_way += step
        most = max(most, under_way)
    return most


def test_processes_that_pull_at_once_stay_within_the_quota_of_the_project(bucket: str, tmp_path: Path) -> None:
    """Three real processes, twelve threads each, eight slots altogether: Earth Engine never has to refuse one."""
    (tmp_path / "catalogue").mkdir()
    app = earth_engine(tmp_path / "catalogue", tmp_path / "state", latency_s=0.06, max_concurrent=8)
    with serve(app) as url:
        given = {
            "url": url,
            "project": "p",
            "max_concurrent": 8,
            "first_pause_s": 0.05,
            "max_per_s": 400,
        }
        shared = {"quota_uri": f"gs://quota/{tmp_path.name}", "storage_endpoint": bucket}
        told = together({**given, **shared, "threads": 12, "seconds": 5.0}, (0.0, 1.8, 2.4))
        log = HTTP.get(f"{url}/_standin/log").json()["requests"]
        assert [entry["status"] for entry in log if entry["status"] != 200] == []
        assert 6 <= most_at_once(log) <= 8
        assert all(each["refused"] == 0 for each in told)
        assert told[0]["most"] == 8, "alone it had all"
        assert all(each["most"] >= 2 for each in told)
        assert min(each["succeeded"] for each in told) > 0.2 * max(each["succeeded"] for each in told)
        assert Book(f"{shared['quota_uri']}/p", bucket).newest().leases == (), "all gave back what they had"
        HTTP.delete(f"{url}/_standin/log")
        alone = [SessionConfig(**given, workload_tag=tag) for tag in "abc"]
        with ExitStack() as stack, ThreadPoolExecutor(24) as pool:
            sessions = [stack.enter_context(connect(config)) for config in alone]
            asked = {"expression": EXPRESSION}
            list(pool.map(lambda session: session.call("POST", "/v1/projects/p/value:compute", asked), sessions * 8))
        log = HTTP.get(f"{url}/_standin/log").json()["requests"]
        assert {entry["status"] for entry in log} == {200, 429}, "each for itself they are too many"


def test_a_process_that_was_killed_here_leaves_its_slots_at_once(tmp_path: Path) -> None:
    script = (
        "import sys, time; from gee.quota import open_share; share = open_share(sys.argv[1], 'p', concurrent=12)\n"
        "while share.concurrent < 12: time.sleep(0.01)\n"
        "print('has all', flush=True); time.sleep(60)"
    )
    root = str(Path(__file__).parents[1])
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=root
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "has all\n"
        lease = Ledger.from_json(max((tmp_path / "p").glob("*.json")).read_bytes()).leases[0]
        assert (lease.granted, has_died(lease.holder)) == (12, False)
        process.kill()
        process.wait()
    assert has_died(lease.holder)
    assert not has_died(lease.holder.replace(lease.holder[:12], "0" * 12)), "a process of another machine"
    share = apart((str(tmp_path), ""), Terms(slots=12))
    wanting(share, 12)
    assert soon(lambda: share.concurrent == 12), "long before half a minute has passed"
    share.end()
