"""Pixels over a real socket: every class of failure, nothing lost, nothing refused asked twice."""

from __future__ import annotations

import json
import pickle
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from fakes.pixel_server import Fault, PixelServer, to_npy
from fakes.servers import serve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gee.errors import PermanentError, RequestTooLargeError, TransientError
from gee.grid import MAX_REQUEST_BYTES
from gee.pixels import decode_npy, fetch_pixels, parts
from gee.session import Session, SessionConfig, connect
from gee.types import Grid, Tile

GRID = Grid("EPSG:32654", (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_700_000.0), (150, 131))
BANDS = {"elevation": "int16", "date_post": "int32", "observed_post": "uint8"}
EXPRESSION = {
    "result": "0",
    "values": {
        "0": {"functionInvocationValue": {"functionName": "Image.load", "arguments": {"id": {"valueReference": "1"}}}},
        "1": {"constantValue": "USGS/SRTMGL1_003"},
    },
}


def known_pixels(grid: Grid) -> dict[str, npt.NDArray[Any]]:
    """Values that depend on the place only, so that any window of them can be checked."""
    col = round((grid.transform[2] - 500_000) / 10) + np.arange(grid.shape_yx[1])
    row = round((4_700_000 - grid.transform[5]) / 10) + np.arange(grid.shape_yx[0])
    place = row[:, None] * 1000 + col[None, :]
    return {
        "elevation": (place % 4001 - 2000).astype(np.int16),
        "date_post": place.astype(np.int32),
        "observed_post": (place % 6).astype(np.uint8),
    }


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[PixelServer, str]]:
    """A server of known pixels and its address."""
    fake = PixelServer(known_pixels)
    with serve(fake.app) as url:
        yield fake, url


@pytest.fixture
def server(running: tuple[PixelServer, str]) -> Iterator[tuple[PixelServer, Session]]:
    """The same with nothing asked and nothing planted, and a session that knows nothing and does not wait long."""
    fake, url = running
    fake.reset()
    with connect(config(url)) as session:
        yield fake, session


def config(url: str, **changes: Any) -> SessionConfig:
    return SessionConfig(url, "p", **{"timeout_s": 20.0, "max_attempts": 4, "first_pause_s": 0.01, **changes})


def assert_whole(pixels: dict[str, npt.NDArray[Any]]) -> None:
    wanted = known_pixels(GRID)
    assert list(pixels) == list(BANDS)
    for name, values in pixels.items():
        assert values.dtype == wanted[name].dtype
        np.testing.assert_array_equal(values, wanted[name])


def test_one_window_is_one_request_in_earth_engines_words(server: tuple[PixelServer, Session]) -> None:
    fake, session = server
    assert_whole(fetch_pixels(session, EXPRESSION, GRID, BANDS))
    assert fake.asked == [GRID]
    body = fake.bodies[0]
    assert (body["fileFormat"], body["bandIds"], body["expression"]) == ("NPY", list(BANDS), EXPRESSION)
    assert body["grid"]["dimensions"] == {"width": 131, "height": 150}
    assert "authorization" not in fake.headers[0], "a stand-in on the loopback gets no token"


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_passing_failure_is_waited_for(server: tuple[PixelServer, Session], status: int) -> None:
    fake, session = server
    fake.faults = [Fault(status), Fault(status)]
    assert_whole(fetch_pixels(session, EXPRESSION, GRID, BANDS))
    assert len(fake.asked) == 3


def test_too_many_aggregations_is_waited_for_although_it_comes_as_400(server: tuple[PixelServer, Session]) -> None:
    fake, session = server
    fake.faults = [Fault(400, "Too many concurrent aggregations.")]
    assert_whole(fetch_pixels(session, EXPRESSION, GRID, BANDS))
    assert len(fake.asked) == 2


def test_retry_after_is_honoured(server: tuple[PixelServer, Session]) -> None:
    fake, session = server
    fake.faults = [Fault(429, "Too many requests", {"Retry-After": "0.6"})]
    started = time.monotonic()
    assert_whole(fetch_pixels(session, EXPRESSION, GRID, BANDS))
    assert time.monotonic() - started >= 0.6


def test_a_storm_that_does_not_pass_ends_after_the_set_attempts(server: tuple[PixelServer, Session]) -> None:
    fake, session = server
    fake.faults = [Fault(503, "The service is unavailable.")] * 9
    with pytest.raises(TransientError, match=r"4 times.*HTTP 503: The service is unavailable"):
        fetch_pixels(session, EXPRESSION, GRID, BANDS)
    assert len(fake.asked) == 4


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "Image.load: Image asset 'x' not found."),
        (403, "Permission denied."),
        (404, "Not found."),
        (409, "Conflict"),
    ],
)
def test_a_final_failure_stops_at_once_with_earth_engines_words(
    server: tuple[PixelServer, Session], status: int, message: str
) -> None:
    fake, session = server
    fake.faults = [Fault(status, message)]
    with pytest.raises(PermanentError) as caught:
        fetch_pixels(session, EXPRESSION, GRID, BANDS)
    assert str(caught.value) == (
        f"HTTP {status}: {message} (131 x 150 pixels at 500000, 4700000 in EPSG:32654, computed from USGS/SRTMGL1_003)"
    )
    assert (caught.value.status, len(fake.asked)) == (status, 1)


@pytest.mark.parametrize("memory_px", [19_649, 9_000, 2_000])
def test_a_memory_limit_cuts_the_window_and_nothing_refused_is_asked_again(
    server: tuple[PixelServer, Session], memory_px: int
) -> None:
    fake, session = server
    fake.memory_px = memory_px
    assert_whole(fetch_pixels(session, EXPRESSION, GRID, BANDS))
    assert max(Counter(fake.asked).values()) == 1
    served = [grid for grid in fake.asked if grid.shape_yx[0] * grid.shape_yx[1] <= fake.memory_px]
    assert sum(grid.shape_yx[0] * grid.shape_yx[1] for grid in served) == 150 * 131, "each pixel is served once"
    assert len(fake.asked) - len(served) <= 3, "one refusal a size: what was learnt holds for the rest"
    refused = len(fake.asked) - len(served)
    assert_whole(fetch_pixels(session, EXPRESSION, GRID, BANDS))
    assert len(fake.asked) == 2 * len(served) + refused, "and for the next window"


@pytest.mark.parametrize(
    "words", ["Computation timed out.", "Total request size (99 bytes) must be less than 50331648"]
)
def test_limits_of_time_and_bytes_cut_as_well(server: tuple[PixelServer, Session], words: str) -> None:
    fake, session = server
    fake.faults = [Fault(400, words)]
    assert_whole(fetch_pixels(session, EXPRESSION, GRID, BANDS))
    assert len(fake.asked) == 5


def test_what_was_learnt_is_of_one_expression_and_scale(server: tuple[PixelServer, Session]) -> None:
    fake, session = server
    fake.memory_px = 9_000
    fetch_pixels(session, EXPRESSION, GRID, BANDS)
    fake.reset()
    fetch_pixels(session, json.dumps(EXPRESSION, separators=(",", ":")), GRID, BANDS)
    assert len(fake.asked) == 4, "the same expression as text"
    fake.reset()
    fetch_pixels(session, {"result": "0", "values": {"0": {"constantValue": 2}}}, GRID, BANDS)
    assert len(fake.asked) == 1
    fake.reset()
    fetch_pixels(session, EXPRESSION, GRID, {"elevation": "int16"})
    assert len(fake.asked) == 1


@settings(deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(16, 400), st.integers(1, 40), st.integers(5_000, 10**6))
def test_any_tile_is_cut_into_parts_that_hold_every_pixel_once_and_keep_the_limits(
    height: int, width: int, side_px: int, pixel_bytes: int, limit_bytes: int
) -> None:
    tile = Tile(0, 0, 17, 23, (height, width))
    cut = parts(tile, side_px, pixel_bytes, limit_bytes)
    rows, cols = sorted({part.y0 for part in cut}), sorted({part.x0 for part in cut})
    assert len(cut) == len(rows) * len(cols)
    heights = {part.y0: part.shape_yx[0] for part in cut}
    widths = {part.x0: part.shape_yx[1] for part in cut}
    assert [y + heights[y] for y in rows] == [*rows[1:], 17 + height], "one after another, without gap or overlap"
    assert [x + widths[x] for x in cols] == [*cols[1:], 23 + width]
    for part in cut:
        assert part.shape_yx == (heights[part.y0], widths[part.x0])
        assert 1 <= min(part.shape_yx) <= max(part.shape_yx) <= side_px
        assert part.shape_yx[0] * part.shape_yx[1] * pixel_bytes <= limit_bytes
    assert max(heights.values()) - min(heights.values()) <= 1
    assert max(widths.values()) - min(widths.values()) <= 1


def test_a_pixel_that_is_too_heavy_is_said() -> None:
    with pytest.raises(PermanentError, match="a single pixel weighs 9 bytes"):
        parts(Tile(0, 0, 0, 0, (5, 5)), 10, 9, 8)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(33, 170), st.integers(33, 170), st.integers(1_100, 40_000))
def test_any_grid_under_any_limit_is_the_whole_and_nothing_is_asked_twice(
    running: tuple[PixelServer, str], height: int, width: int, memory_px: int
) -> None:
    fake, url = running
    fake.reset()
    fake.memory_px = memory_px
    grid = Grid(GRID.crs, GRID.transform, (height, width))
    with connect(config(url)) as session:
        try:
            pixels = fetch_pixels(session, EXPRESSION, grid, BANDS)
        except RequestTooLargeError:
            assert max(fake.asked[-1].shape_yx) < 64, "half of it would be below the floor"
        else:
            for name, wanted in known_pixels(grid).items():
                np.testing.assert_array_equal(pixels[name], wanted)
    assert max(Counter(fake.asked).values()) == 1


def test_the_label_and_the_profile_travel_with_the_request(server: tuple[PixelServer, Session]) -> None:
    fake, session = server
    profiles: list[str] = []
    with connect(config(session.config.url, workload_tag="us2000h8ty")) as tagged:
        assert_whole(fetch_pixels(tagged, EXPRESSION, GRID, BANDS, on_profile=profiles.append))
    assert fake.bodies[0]["workloadTag"] == "us2000h8ty"
    assert fake.headers[0]["x-earth-engine-computation-profiling"] == "1"
    fetch_pixels(session, EXPRESSION, GRID, BANDS)
    assert "workloadTag" not in fake.bodies[1]
    assert "x-earth-engine-computation-profiling" not in fake.headers[1]


def test_below_the_floor_it_gives_up(server: tuple[PixelServer, Session]) -> None:
    fake, session = server
    fake.memory_px = 10
    with pytest.raises(RequestTooLargeError, match=r"37, 32.*still too large.*User memory limit exceeded"):
        fetch_pixels(session, EXPRESSION, GRID, BANDS)
    assert max(Counter(fake.asked).values()) == 1


def test_a_window_above_the_byte_limit_is_never_sent_whole() -> None:
    grid = Grid("EPSG:32654", GRID.transform, (2_000, 5_000))  # 10 Mpx at 7 bytes: above 48 MiB
    fake = PixelServer(lambda grid: {"b": np.full(grid.shape_yx, 7, np.uint8), "c": np.zeros(grid.shape_yx, np.int32)})
    with serve(fake.app) as url, connect(config(url)) as session:
        pixels = fetch_pixels(session, EXPRESSION, grid, {"b": "uint8", "c": "int32"})
    assert (pixels["b"] == 7).all()
    assert [grid.shape_yx for grid in fake.asked] == [(2_000, 2_500)] * 2, "no more requests than needed"
    assert all(height * width * 7 <= MAX_REQUEST_BYTES for height, width in (grid.shape_yx for grid in fake.asked))


def test_a_cut_body_is_asked_for_again(server: tuple[PixelServer, Session]) -> None:
    fake, session = server
    fake.faults = [Fault(body=lambda npy: npy[: len(npy) // 2]), Fault(body=lambda _: b"")]
    assert_whole(fetch_pixels(session, EXPRESSION, GRID, BANDS))
    assert len(fake.asked) == 3


def test_a_connection_that_breaks_inside_the_body_is_made_again() -> None:
    body = to_npy(known_pixels(GRID))
    with broken_then(body) as url, connect(config(url)) as session:
        assert_whole(fetch_pixels(session, EXPRESSION, GRID, BANDS))


def test_an_answer_that_does_not_come_meets_the_deadline() -> None:
    fake = PixelServer(known_pixels)
    fake.faults = [Fault(delay_s=8.0), None]
    with serve(fake.app) as url, connect(config(url, timeout_s=0.4)) as session:
        started = time.monotonic()
        assert_whole(fetch_pixels(session, EXPRESSION, GRID, BANDS))
        assert time.monotonic() - started < 7


def test_nobody_there_is_a_passing_failure_that_names_the_address() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with connect(config(url, max_attempts=2)) as session, pytest.raises(TransientError, match=url):
            fetch_pixels(session, EXPRESSION, GRID, BANDS)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda npy: b"<html>" + b" " * len(npy), "not a NumPy array"),
        (lambda npy: npy + b"more", "should be"),
        (lambda npy: npy.replace(b"(150, 131)", b"(131, 150)"), "asked for"),
        (lambda npy: npy.replace(b"date_post", b"date_past"), "date_past"),
        (lambda npy: npy.replace(b"'<i2'", b"'>i2'"), ">i2"),
    ],
)
def test_bytes_that_are_not_the_pixels_asked_for_are_refused(
    server: tuple[PixelServer, Session], change: Any, words: str
) -> None:
    fake, session = server
    fake.faults = [Fault(body=change)]
    with pytest.raises(PermanentError, match=words):
        fetch_pixels(session, EXPRESSION, GRID, BANDS)
    assert len(fake.asked) == 1


def test_a_pickled_body_is_not_opened() -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return pytest.fail, ("it was unpickled",)

    body = np.lib.format.magic(1, 0) + pickle.dumps(Evil())
    with pytest.raises(PermanentError):
        decode_npy(body, (1, 1), {"b": "uint8"})
    head = to_npy({"b": np.zeros((1, 1), np.uint8)}).replace(b"'|u1'", b"'|O' ")
    with pytest.raises(PermanentError, match="'O'"):
        decode_npy(head, (1, 1), {"b": "uint8"})


def test_no_more_requests_are_in_flight_than_allowed() -> None:
    fake = PixelServer(known_pixels)
    fake.faults = [Fault(delay_s=0.05) for _ in range(12)]
    with serve(fake.app) as url, connect(config(url, max_concurrent=3)) as session, ThreadPoolExecutor(12) as pool:
        fetched = pool.map(lambda _: fetch_pixels(session, EXPRESSION, GRID, BANDS), range(12))
        assert all(len(pixels) == 3 for pixels in fetched)
    assert fake.most_in_flight == 3


def test_a_session_travels_to_another_process_as_its_settings() -> None:
    settings = config("http://127.0.0.1:9")
    with connect(settings) as session:
        assert pickle.loads(pickle.dumps(session)) is session, "one session a process and settings"
        assert connect(pickle.loads(pickle.dumps(settings))) is session
    assert connect(settings) is not session, "a closed one is not handed out again"


class broken_then:  # noqa: N801 - reads as a phrase
    """A raw HTTP server that breaks the first connection inside the body, then answers `body`."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        head = f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {len(self._body)}\r\n\r\n".encode()
        for sent in (self._body[:1000], self._body):
            connection, _ = self._listener.accept()
            with connection:
                received = b""
                while b'"expression"' not in received or not received.rstrip().endswith(b"}"):
                    received += connection.recv(65536)
                connection.sendall(head + sent)

    def __enter__(self) -> str:
        self._thread.start()
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self._thread.join(timeout=5)
        self._listener.close()
