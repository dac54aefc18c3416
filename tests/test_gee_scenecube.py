"""gee/scenecube.py: a reader that mends what it finds damaged, keeps tiles at hand, and gives stored values too."""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from fakes import cubes
from fakes.pixel_server import PixelServer
from fakes.servers import HTTP, serve

from gee import scenecube
from gee.chunks import ARRAYS, STACK, TileArrays
from gee.cube import pull_tile
from gee.errors import CubeError, DamagedTileError
from gee.grid import geometry_mask
from gee.pulling import pull_cube
from gee.scenecube import SceneCube, open_cube
from gee.session import Session, SessionConfig, connect
from gee.types import Observed, Tile
from infra.local.storage import create_app

EVERYTHING = slice(0, cubes.GRID.shape_yx[0]), slice(0, cubes.GRID.shape_yx[1])


@pytest.fixture(scope="module")
def source() -> Iterator[tuple[PixelServer, Session]]:
    fake = PixelServer(cubes.pixels)
    with serve(fake.app) as url, connect(SessionConfig(url, "p", 20.0, 3, 8, 0.01)) as session:
        yield fake, session


@pytest.fixture
def cube(source: tuple[PixelServer, Session], tmp_path: Path) -> SceneCube:
    """A cube of 2 x 3 tiles that mends itself."""
    fake, session = source
    fake.reset()
    fake.pixels = cubes.pixels
    plan = cubes.plan(str(tmp_path / "cube.zarr"))
    pull_cube(plan, session)
    fake.asked.clear()
    return open_cube(plan.uri, mend=partial(pull_tile, plan, session.config))


def flip(cube: SceneCube, array: str, tile: str = "0/1") -> None:
    path = Path(cube.uri, array, "c", "0", tile)
    body = path.read_bytes()
    path.write_bytes(body[:50] + bytes([body[50] ^ 4]) + body[51:])


@pytest.mark.parametrize("array", [layout.name for layout in ARRAYS])
def test_a_damaged_tile_is_pulled_again_on_the_spot(
    cube: SceneCube, source: tuple[PixelServer, Session], array: str
) -> None:
    before = open_cube(cube.uri).read_tile(*EVERYTHING)
    flip(cube, array)
    with pytest.raises(DamagedTileError, match=rf"{array}/c/0/0/1") as raised:
        open_cube(cube.uri).read_tile(*EVERYTHING)
    assert raised.value.tile == "0000-0001"
    assert pickle.loads(pickle.dumps(raised.value)).tile == "0000-0001", "it travels from a worker"
    after = pickle.loads(pickle.dumps(cube)).read_tile(*EVERYTHING)
    assert [grid.shape_yx for grid in source[0].asked] == [(50, 50)], "that tile and no other"
    for name, values in before.layers.items():
        np.testing.assert_array_equal(after.layers[name], values)
    np.testing.assert_array_equal(after.observed, before.observed)
    open_cube(cube.uri).read_tile(*EVERYTHING)


def test_readers_that_meet_the_same_damage_mend_it_once(cube: SceneCube, source: tuple[PixelServer, Session]) -> None:
    flip(cube, "stack")
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: cube.read_tile(slice(0, 60), slice(30, 100)), range(6)))
    assert len(source[0].asked) == 1


def test_what_cannot_become_what_it_was_is_an_error(cube: SceneCube, source: tuple[PixelServer, Session]) -> None:
    flip(cube, "observed")
    source[0].pixels = lambda grid: {**cubes.pixels(grid), "red_post": cubes.pixels(grid)["red_pre"]}
    with pytest.raises(CubeError, match=r"observed/c/0/0/1 .*is another now, run again to seal"):
        cube.read_tile(*EVERYTHING)
    anew = pull_cube(cube.plan, source[1])
    assert anew != cube.cube_hash
    assert open_cube(cube.uri).cube_hash == anew


def test_stored_values_are_those_of_the_request(cube: SceneCube) -> None:
    stored = cube.read_stored(*EVERYTHING, layers=("red_post", "slope"))
    known = cubes.pixels(cube.grid)
    assert stored[STACK.name].dtype == np.int16
    np.testing.assert_array_equal(stored[STACK.name], np.stack([known["red_post"], known["slope"]]))
    outside = ~geometry_mask(cube.grid, cube.plan.geometry)
    assert (stored["observed"][:, outside] == Observed.OUTSIDE).all()


def test_rows_of_windows_decode_each_tile_once(cube: SceneCube, monkeypatch: pytest.MonkeyPatch) -> None:
    def decoded(reader: SceneCube) -> int:
        count = 0

        def counting(tile: Tile, bodies: Mapping[str, bytes] | None = None) -> TileArrays:
            nonlocal count
            count += 1
            return SceneCube._tile(reader, tile, bodies)

        monkeypatch.setattr(reader, "_tile", counting)
        for y in range(0, 93, 50):
            for x in range(0, 121, 50):
                reader.read_tile(slice(y - 5, y + 55), slice(x - 5, x + 55))
        return count

    assert decoded(open_cube(cube.uri)) == 6
    monkeypatch.setattr(scenecube, "CACHED_BYTES", 0)
    assert decoded(open_cube(cube.uri)) > 6


def test_in_a_bucket_the_chunks_of_a_window_are_asked_for_side_by_side(
    source: tuple[PixelServer, Session], tmp_path: Path
) -> None:
    source[0].reset()
    source[0].pixels = cubes.pixels
    with serve(create_app(tmp_path)) as endpoint:
        HTTP.post(f"{endpoint}/storage/v1/b?project=p", json={"name": "cubes"}).raise_for_status()
        plan = cubes.plan("gs://cubes/cube.zarr")
        pull_cube(plan, source[1], endpoint)
        cube = open_cube(plan.uri, endpoint, mend=partial(pull_tile, plan, source[1].config, endpoint=endpoint))
        HTTP.delete(f"{endpoint}/storage/v1/b/cubes/o/cube.zarr%2Fdate%2Fc%2F0%2F1%2F1").raise_for_status()
        source[0].asked.clear()
        HTTP.post(f"{endpoint}/_standin/faults", json={"match": "/c", "delay_s": 0.5, "count": 18}).raise_for_status()
        began = time.monotonic()
        block = cube.read_tile(*EVERYTHING)
        assert time.monotonic() - began < 0.5 * 18 / 2, "18 chunks that take 0.5 s each"
        assert len(source[0].asked) == 1, "the one that was gone"
        np.testing.assert_array_equal(block.date[0], cubes.pixels(plan.grid)["date_pre"])
