"""Many tiles pulled by many threads while the service fails, in every way that is known of it: over real sockets, with
the stand-ins' faults. Nothing is lost, what succeeded is not asked again, and what was refused for good neither.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from email.utils import format_datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from fakes.pixel_server import PixelServer
from fakes.recorder import Asked, Recorder
from fakes.servers import serve

from gee.errors import GeeError, PermanentError, QuotaError, RequestTooLargeError, SessionError, TransientError
from gee.grid import tiles
from gee.pixels import fetch_pixels
from gee.session import Session, SessionConfig
from gee.types import Grid
from infra.local.faults import Fault
from infra.local.standin import Standin

WHOLE = Grid("EPSG:32654", (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_700_000.0), (320, 320))
TILES = [WHOLE.window(tile) for tile in tiles(WHOLE, 80)]
BANDS = {"place": "int32", "seen": "uint8"}
EXPRESSION = {"result": "0", "values": {"0": {"constantValue": "COPERNICUS/S2_HARMONIZED"}}}
THREADS = 8


class Tokens:
    """google.auth credentials that hand out `stale` first and `fresh` after each refresh."""

    token, valid = "stale", True

    def refresh(self, _: Any) -> None:
        """Get another token."""
        self.token = "fresh"

    def apply(self, headers: dict[str, str]) -> None:
        """Put the token on."""
        headers["authorization"] = f"Bearer {self.token}"


def known_pixels(grid: Grid) -> dict[str, npt.NDArray[Any]]:
    """Values that depend on the place only."""
    col = round((grid.transform[2] - 500_000) / 10) + np.arange(grid.shape_yx[1])
    row = round((4_700_000 - grid.transform[5]) / 10) + np.arange(grid.shape_yx[0])
    place = row[:, None] * 1000 + col[None, :]
    return {"place": place.astype(np.int32), "seen": (place % 6).astype(np.uint8)}


@contextmanager
def failing(*faults: dict[str, Any], **changes: Any) -> Iterator[tuple[Recorder, Session]]:
    """A service that fails so, seen by its recorder, and a session on it."""
    standin = Standin(
        PixelServer(known_pixels).app, [Fault.from_json({"match": "Pixels", **fault}) for fault in faults]
    )
    recorder = Recorder(standin)
    settings: dict[str, Any] = {"timeout_s": 20.0, "max_attempts": 8, "first_pause_s": 0.02, "max_per_s": 2_000.0}
    with serve(recorder) as url, Session(SessionConfig(url, "p", **(settings | changes)), Tokens()) as session:
        yield recorder, session


def pull(session: Session) -> None:
    """Every tile at once; checks every pixel."""
    with ThreadPoolExecutor(THREADS) as pool:
        for tile, pixels in zip(
            TILES, pool.map(lambda tile: fetch_pixels(session, EXPRESSION, tile, BANDS), TILES), strict=True
        ):
            for name, wanted in known_pixels(tile).items():
                np.testing.assert_array_equal(pixels[name], wanted)


def served_once(attempts: list[Asked]) -> bool:
    """Whether the last attempt is the only one that was answered whole and well."""
    return [each.status == 200 and each.whole for each in attempts] == [False] * (len(attempts) - 1) + [True]


PASSING: dict[str, tuple[dict[str, Any], ...]] = {
    "half of all 429": ({"share": 0.5, "seed": 4, "status": 429},),
    "every second 429": ({"every": 2, "status": 429},),
    "no more than 3 at a time": ({"above_concurrent": 3, "status": 429}, {"count": None, "delay_s": 0.03}),
    "no more than 10 a second": ({"above_per_s": 10, "status": 429},),
    "429 for a while": ({"for_s": 0.3, "status": 429},),
    "503 for a while": ({"for_s": 0.3, "status": 503},),
    "a third 500, 502, 504": (
        {"share": 0.1, "status": 500}, {"share": 0.1, "seed": 2, "status": 502}, {"share": 0.1, "seed": 3, "status": 504},
    ),
    "too many aggregations": ({"share": 0.5, "seed": 5, "status": 400, "message": "Too many concurrent aggregations."},),
    "reset before the answer": ({"share": 0.3, "seed": 6, "reset": "before"},),
    "reset inside the answer": ({"share": 0.3, "seed": 7, "reset": "after", "cut_after": 5000},),
    "half an answer": ({"share": 0.3, "seed": 8, "cut_after": 5000},),
    "an empty answer": ({"share": 0.3, "seed": 9, "answer": ""},),
}  # fmt: skip


@pytest.mark.parametrize("faults", PASSING.values(), ids=PASSING.keys())
def test_what_passes_is_waited_for(faults: tuple[dict[str, Any], ...]) -> None:
    with failing(*faults) as (recorder, session):
        pull(session)
        windows = recorder.by_window()
        assert len(windows) == len(TILES)
        if "answer" not in faults[0]:  # that one is a success to the server
            assert all(served_once(attempts) for attempts in windows.values())
        assert len(recorder.asked) > len(TILES), "the fault was met"
        counted = session.gate.counters
        assert (counted.asked, counted.succeeded) == (len(recorder.asked), len(TILES))
        assert counted.refused + counted.transient == len(recorder.asked) - len(TILES)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_honoured(status: int, form: str) -> None:
    until = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=2)
    told = "1" if form == "seconds" else format_datetime(until, usegmt=True)
    with failing({"count": 3, "status": status, "headers": {"Retry-After": told}}) as (recorder, session):
        pull(session)
        refused = [asked for asked in recorder.asked if asked.status == status]
        assert len(refused) == 3
        for asked in refused:
            again = next(
                each for each in recorder.asked if each.window == asked.window and each.began_s > asked.began_s
            )
            if form == "seconds":
                assert again.began_s - asked.began_s >= 1.0
            else:
                assert again.began_s >= time.monotonic() + until.timestamp() // 1 - time.time() - 0.01
        if status == 503:  # the service is away: nobody asks it meanwhile
            first, last = refused[0].began_s, refused[-1].began_s
            assert not [each for each in recorder.asked if last + 0.2 < each.began_s < first + 1.0]


def test_a_wait_beyond_all_patience_is_an_error_and_not_cut_short() -> None:
    started = time.monotonic()
    with (
        failing({"count": None, "status": 429, "headers": {"Retry-After": "3600"}}, patience_s=60.0) as (
            recorder,
            session,
        ),
        pytest.raises(TransientError, match=r"failed 1 times, the last time with HTTP 429") as caught,
    ):
        fetch_pixels(session, EXPRESSION, TILES[0], BANDS)
    assert (len(recorder.asked), caught.value.status) == (1, 429)
    assert time.monotonic() - started < 10


def test_a_429_storm_without_end_ends_with_the_patience() -> None:
    with (
        failing({"count": None, "status": 429}, patience_s=1.0) as (recorder, session),
        pytest.raises(TransientError, match="HTTP 429"),
    ):
        fetch_pixels(session, EXPRESSION, TILES[0], BANDS)
    assert 4 < len(recorder.asked) < 40, "ever less often"


def test_a_503_storm_without_end_ends_with_the_attempts() -> None:
    with failing({"count": None, "status": 503}, max_attempts=3) as (recorder, session):
        with pytest.raises(TransientError, match=r"failed 3 times.*HTTP 503"):
            fetch_pixels(session, EXPRESSION, TILES[0], BANDS)
        assert len(recorder.asked) == 3


def test_an_answer_that_trickles_meets_the_deadline() -> None:
    with failing({"count": 2, "bytes_per_s": 2000}, timeout_s=0.5) as (recorder, session):
        started = time.monotonic()
        pixels = fetch_pixels(session, EXPRESSION, TILES[0], BANDS)  # 32 kB would take 16 s
        assert 1.0 <= time.monotonic() - started < 12
        np.testing.assert_array_equal(pixels["place"], known_pixels(TILES[0])["place"])
        assert len(recorder.asked) == 3


def test_an_expired_token_is_renewed_once_for_all() -> None:
    with failing({"token": "stale", "status": 401}) as (recorder, session):
        pull(session)
        assert all(served_once(attempts) for attempts in recorder.by_window().values())
        stale = [asked.status for asked in recorder.asked if asked.token == "stale"]
        assert set(stale) == {401}
        assert len(stale) <= THREADS, "those that were under way"


def test_a_token_that_stays_refused_is_an_error_at_once() -> None:
    with (
        failing({"count": None, "status": 401}) as (recorder, session),
        pytest.raises(SessionError, match="refused the credentials"),
    ):
        fetch_pixels(session, EXPRESSION, TILES[0], BANDS)
    assert [asked.token for asked in recorder.asked] == ["stale", "fresh"]


@pytest.mark.parametrize("words", ["User memory limit exceeded.", "Computation timed out."])
def test_what_is_too_large_is_cut_and_what_was_learnt_is_kept(words: str) -> None:
    with failing({"above_pixels": 2000, "status": 400, "message": words}) as (recorder, session):
        pull(session)
        windows = recorder.by_window()
        assert all(len(attempts) == 1 for attempts in windows.values()), "nothing is asked twice"
        served = [asked for asked in recorder.asked if asked.status == 200]
        assert len(served) == 4 * len(TILES), "80 x 80 as four of 40 x 40"
        assert len(recorder.asked) - len(served) <= THREADS, "only those that were under way when the first was refused"
        before = len(recorder.asked)
        pull(session)
        assert len(recorder.asked) - before == 4 * len(TILES), "not refused once more"


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ({"status": 400, "message": "Image.select: no band B9."}, PermanentError, "Image.select: no band B9"),
        ({"status": 403, "message": "Permission denied."}, PermanentError, "computed from COPERNICUS/S2_HARMONIZED"),
        ({"status": 404, "message": "Asset not found."}, PermanentError, "80 x 80 pixels at 500000, 4700000"),
        ({"status": 400, "message": "User memory limit exceeded."}, RequestTooLargeError, "still too large"),
        ({"status": 429, "message": "EECU quota exceeded."}, QuotaError, "compute time of project p is used up"),
        ({"answer": "<html>sign in</html>" * 10_000, "answer_type": "text/html"}, PermanentError, "not a NumPy array"),
    ],
)
def test_what_is_final_is_asked_once(fault: dict[str, Any], kind: type[GeeError], words: str) -> None:
    with failing({"count": None, **fault}) as (recorder, session):
        with pytest.raises(kind, match=words):
            fetch_pixels(session, EXPRESSION, TILES[0], BANDS)
        assert all(len(attempts) == 1 for attempts in recorder.by_window().values())
        assert len(recorder.asked) == (2 if kind is RequestTooLargeError else 1), "80 and 40 pixels: 20 is too few"


def test_one_tile_that_fails_for_good_does_not_disturb_the_others() -> None:
    _, _, x, _, _, y = TILES[5].transform
    place = f'"translateX": {x:.1f}, "shearY": 0.0, "scaleY": -10.0, "translateY": {y:.1f}'
    with failing({"request_body": place, "status": 404, "message": "Not there."}) as (recorder, session):

        def one(tile: Grid) -> str:
            try:
                fetch_pixels(session, EXPRESSION, tile, BANDS)
            except PermanentError as error:
                return str(error)
            return ""

        with ThreadPoolExecutor(THREADS) as pool:
            told = list(pool.map(one, TILES))
        assert [bool(words) for words in told] == [tile == TILES[5] for tile in TILES]
        assert len(recorder.asked) == len(TILES)


def test_a_body_that_is_too_long_is_refused_once() -> None:
    with (
        failing({"count": None, "answer": "x" * 100_000}) as (recorder, session),
        pytest.raises(PermanentError, match="longer than the 50000 bytes"),
    ):
        session.fetch("POST", "/v1/projects/p/image:computePixels", {"grid": {}}, max_bytes=50_000)
    assert len(recorder.asked) == 1
