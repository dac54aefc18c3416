"""A cube is the same however it was cut, is whole or not at all, and never gives a damaged byte for data."""

from __future__ import annotations

import dataclasses
import json
import pickle
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import xarray as xr
from fakes import cubes
from fakes.pixel_server import Fault, PixelServer
from fakes.servers import serve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gee.chunks import ARRAYS
from gee.cube import create_cube, damaged_tiles, load_plan, missing_tiles, pull_tile, seal_cube
from gee.errors import CubeError, PermanentError, StorageError
from gee.grid import geometry_mask
from gee.layout import CubePlace
from gee.plan import CubePlan
from gee.records import TileRecord, with_checksum
from gee.scenecube import Block, SceneCube, open_cube
from gee.session import Session, SessionConfig, connect
from gee.types import Observed, Tile
from infra.local.storage import create_app

SIDE_Y, SIDE_X = cubes.GRID.shape_yx
EVERYTHING = slice(0, SIDE_Y), slice(0, SIDE_X)


@pytest.fixture(scope="module")
def source() -> Iterator[tuple[PixelServer, Session]]:
    fake = PixelServer(cubes.pixels)
    with serve(fake.app) as url, connect(SessionConfig(url, "p", 20.0, 3, 8, 0.01)) as session:
        yield fake, session


@pytest.fixture
def earth(source: tuple[PixelServer, Session]) -> tuple[PixelServer, Session]:
    """The server with nothing asked and nothing planted."""
    fake, session = source
    fake.reset()
    return fake, session


def pulled(plan: CubePlan, session: Session, endpoint: str = "") -> SceneCube:
    create_cube(plan, endpoint)
    for tile in missing_tiles(plan, endpoint):
        pull_tile(plan, session, tile, endpoint)
    seal_cube(plan, endpoint)
    return open_cube(plan.uri, endpoint)


def expected(plan: CubePlan) -> tuple[dict[str, Any], Any, Any]:
    """What the cube should hold, computed from the known pixels without tiles."""
    whole = cubes.pixels(plan.grid)
    got = np.zeros(plan.grid.shape_yx, bool)
    for tile in plan.tiles:
        got[tile.slices_yx] = True
    layers = {}
    for layer in plan.layers:
        known = got & (whole[layer.name] != -32_768)
        layers[layer.name] = np.where(known, whole[layer.name] * np.float32(layer.scale), np.nan)
    observed = np.stack([whole["observed_pre"], whole["observed_post"]])
    observed[(observed == 1) & (whole["slope"] == -32_768)] = Observed.NO_TERRAIN
    observed[:, ~geometry_mask(plan.grid, plan.geometry) | ~got] = Observed.OUTSIDE
    date = np.where(got, np.stack([whole["date_pre"], whole["date_post"]]), -1)
    return layers, observed, date


def assert_block(block: Block, plan: CubePlan, y: slice, x: slice) -> None:
    layers, observed, date = expected(plan)
    for name, values in block.layers.items():
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, layers[name][y, x], rtol=1e-6)
    np.testing.assert_array_equal(block.observed, observed[:, y, x])
    np.testing.assert_array_equal(block.date, date[:, y, x])


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tile_px=st.integers(11, 140))
def test_a_cube_pulled_in_tiles_of_any_size_equals_the_whole(
    tile_px: int, earth: tuple[PixelServer, Session], tmp_path_factory: pytest.TempPathFactory
) -> None:
    fake, session = earth
    fake.asked.clear()
    plan = cubes.plan(str(tmp_path_factory.mktemp("cube") / "cube.zarr"), tile_px)
    cube = pulled(plan, session)
    assert_block(cube.read_tile(*EVERYTHING), plan, *EVERYTHING)
    assert sum(grid.shape_yx[0] * grid.shape_yx[1] for grid in fake.asked) == SIDE_Y * SIDE_X
    assert max(Counter(fake.asked).values()) == 1


@pytest.fixture
def cube(earth: tuple[PixelServer, Session], tmp_path: Path) -> SceneCube:
    """A cube of 2 x 3 tiles, of which one lies outside the area."""
    return pulled(cubes.plan(str(tmp_path / "cube.zarr"), 50, cubes.area_in(cubes.GRID, 3, 5, 96.4, 90)), earth[1])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.tuples(st.integers(0, SIDE_Y - 1), st.integers(1, SIDE_Y)),
    st.tuples(st.integers(0, SIDE_X - 1), st.integers(1, SIDE_X)),
)
def test_any_window_across_tiles_is_that_window_of_the_whole(
    cube: SceneCube, ys: tuple[int, int], xs: tuple[int, int]
) -> None:
    y, x = slice(ys[0], min(SIDE_Y, ys[0] + ys[1])), slice(xs[0], min(SIDE_X, xs[0] + xs[1]))
    assert_block(cube.read_tile(y, x), cube.plan, y, x)


def test_only_tiles_over_the_area_are_pulled(cube: SceneCube, earth: tuple[PixelServer, Session]) -> None:
    assert [tile.name for tile in cube.plan.tiles] == ["0000-0000", "0000-0001", "0001-0000", "0001-0001"]
    assert len(earth[0].asked) == 4
    block = cube.read_tile(slice(0, 50), slice(100, 121))
    assert (block.observed == Observed.OUTSIDE).all()
    assert (block.date == -1).all()
    assert all(np.isnan(values).all() for values in block.layers.values())


def test_pixels_around_the_area_are_outside_but_keep_their_values(cube: SceneCube) -> None:
    block = cube.read_tile(slice(0, 5), slice(0, 50))
    assert (block.observed == Observed.OUTSIDE).all()
    assert np.isfinite(block.layers["elevation"]).all()


def test_a_halo_reaches_beyond_the_grid(cube: SceneCube) -> None:
    block = cube.read_tile(slice(-8, SIDE_Y + 40), slice(-5, SIDE_X + 60), layers=("slope",))
    assert list(block.layers) == ["slope"]
    inner = slice(8, 8 + SIDE_Y), slice(5, 5 + SIDE_X)
    np.testing.assert_array_equal(block.layers["slope"][inner], cube.read_tile(*EVERYTHING).layers["slope"])
    beyond = np.ones(block.date.shape[1:], bool)
    beyond[inner] = False
    assert np.isnan(block.layers["slope"][beyond]).all()
    assert (block.observed[:, beyond] == Observed.OUTSIDE).all()
    far = cube.read_tile(slice(SIDE_Y + 2, SIDE_Y + 6), slice(0, 9))
    assert (far.observed == Observed.OUTSIDE).all()


def test_an_unknown_layer_is_named(cube: SceneCube) -> None:
    with pytest.raises(CubeError, match=r"no layer nir_pre.*elevation, slope"):
        cube.read_tile(slice(0, 1), slice(0, 1), layers=["nir_pre"])


def test_anyone_can_read_it_with_xarray(cube: SceneCube) -> None:
    with xr.open_zarr(cube.uri) as plain:
        assert plain["band"].values.tolist() == list(cube.layer_names)
        assert plain["phase"].values.tolist() == ["pre", "post"]
        physical = plain["stack"] * plain["scale"] + plain["offset"]
        layers, observed, date = expected(cube.plan)
        np.testing.assert_allclose(physical.sel(band="red_post"), layers["red_post"], rtol=1e-6)
        np.testing.assert_array_equal(plain["observed"], observed)
        np.testing.assert_array_equal(plain["date"], date)
        assert (plain["observed"].dtype, plain["date"].dtype) == (np.uint8, np.int32)
        assert plain["spatial_ref"].attrs["crs_wkt"].startswith('PROJCRS["WGS 84 / UTM zone 54N"')
        assert [float(v) for v in plain["spatial_ref"].attrs["GeoTransform"].split()] == [5e5, 10, 0, 4.7e6, 0, -10]
        assert (float(plain["x"][0]), float(plain["y"][0])) == (500_005.0, 4_699_995.0)
        assert plain.attrs["scenes_post"] == ["COPERNICUS/S2_HARMONIZED/c"]
        assert "cs >= 0.60" in plain.attrs["mask_rule"]
        assert plain["units"].values.tolist() == ["m", "degree", "1", "1"]


def test_every_array_carries_crc32c(cube: SceneCube) -> None:
    metadata = [json.loads(path.read_text()) for path in Path(cube.uri).glob("*/zarr.json")]
    assert len(metadata) == 11
    assert all(array["codecs"][-1]["name"] == "crc32c" for array in metadata)


def test_a_stopped_run_goes_on_where_it_was(earth: tuple[PixelServer, Session], tmp_path: Path) -> None:
    fake, session = earth
    plan = cubes.plan(str(tmp_path / "cube.zarr"))
    assert create_cube(plan)
    for tile in plan.tiles[:4]:
        pull_tile(plan, session, tile)
    with pytest.raises(CubeError, match="2 of 6 tiles are missing"):
        open_cube(plan.uri)
    with pytest.raises(CubeError, match=r"2 of 6 tiles of .* are missing, the first is 0001-0001"):
        seal_cube(plan)
    again = load_plan(plan.uri)
    assert not create_cube(again), "the same plan goes on with what is there"
    assert missing_tiles(again) == plan.tiles[4:]
    fake.asked.clear()
    resumed = pulled(again, session)
    assert len(fake.asked) == 2, "what had arrived is not asked for again"
    assert_block(resumed.read_tile(*EVERYTHING), plan, *EVERYTHING)


def test_a_tile_killed_between_its_chunks_and_its_record_has_not_arrived(
    earth: tuple[PixelServer, Session], tmp_path: Path
) -> None:
    plan = cubes.plan(str(tmp_path / "cube.zarr"))
    pulled(plan, earth[1])
    (tmp_path / "cube.tiles" / "0001-0002.json").unlink()
    (tmp_path / "cube.tiles" / "0000-0001.json").write_bytes(b'{"name": "0000-0001", "sha')
    assert [tile.name for tile in missing_tiles(plan)] == ["0000-0001", "0001-0002"]


def test_a_failing_tile_leaves_no_record(earth: tuple[PixelServer, Session], tmp_path: Path) -> None:
    fake, session = earth
    plan = cubes.plan(str(tmp_path / "cube.zarr"))
    create_cube(plan)
    fake.faults = [Fault(400, "Image.load: Image asset 'c' not found.")]
    with pytest.raises(PermanentError, match=r"^tile 0000-0000 of .*cube\.zarr: .*asset 'c' not found") as raised:
        pull_tile(plan, session, plan.tiles[0])
    assert raised.value.status == 400
    assert missing_tiles(plan) == plan.tiles
    assert not list(tmp_path.glob("cube.zarr/stack/c/**/*"))


def test_the_same_plan_gives_the_same_cube_to_the_bit(earth: tuple[PixelServer, Session], tmp_path: Path) -> None:
    first, second = (pulled(cubes.plan(str(tmp_path / name / "cube.zarr")), earth[1]) for name in ("first", "second"))
    assert first.cube_hash == second.cube_hash
    for layout in ARRAYS:
        for path in Path(first.uri, layout.name, "c").rglob("*"):
            if path.is_file():
                assert path.read_bytes() == Path(second.uri, path.relative_to(first.uri)).read_bytes()
    assert seal_cube(first.plan) == first.cube_hash, "sealing again changes nothing"


@pytest.mark.parametrize("array", [layout.name for layout in ARRAYS])
@pytest.mark.parametrize("damage", ["deleted", "truncated", "one flipped bit", "a neighbour's chunk"])
def test_a_damaged_chunk_is_named_and_pulled_again(
    cube: SceneCube, earth: tuple[PixelServer, Session], damage: str, array: str
) -> None:
    path = Path(cube.uri, array, "c", "0", "0", "1")
    body = path.read_bytes()
    if damage == "deleted":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(body[: len(body) // 2])
    elif damage == "one flipped bit":
        path.write_bytes(body[:40] + bytes([body[40] ^ 16]) + body[41:])
    else:
        path.write_bytes(path.with_name("0").read_bytes())
    fresh = open_cube(cube.uri)
    fresh.read_tile(slice(50, 60), slice(0, 50))
    with pytest.raises(CubeError, match=rf"chunk cube\.zarr/{array}/c/0/0/1 of tile 0000-0001.*pull"):
        fresh.read_tile(slice(40, 60), slice(40, 60))
    assert [tile.name for tile in damaged_tiles(cube.plan)] == ["0000-0001"]
    if damage in ("deleted", "truncated"):
        assert [tile.name for tile in missing_tiles(cube.plan)] == ["0000-0001"]
    for tile in damaged_tiles(cube.plan):
        pull_tile(cube.plan, earth[1], tile)
    assert seal_cube(cube.plan) == cube.cube_hash
    assert_block(open_cube(cube.uri).read_tile(*EVERYTHING), cube.plan, *EVERYTHING)


def test_plain_zarr_refuses_a_flipped_bit_too(cube: SceneCube) -> None:
    path = Path(cube.uri, "stack", "c", "0", "0", "0")
    body = path.read_bytes()
    path.write_bytes(body[:-60] + bytes([body[-60] ^ 1]) + body[-59:])
    with xr.open_zarr(cube.uri) as plain, pytest.raises(ValueError, match=r"(?i)checksum"):
        plain["stack"][:, :10, :10].load()


def test_a_manifest_that_was_tampered_with_is_refused(cube: SceneCube) -> None:
    path = Path(cube.uri).parent / "cube.manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["crc32c"]
    manifest["tiles"][0]["blake3"] = "0" * 64
    path.write_bytes(with_checksum(manifest))
    with pytest.raises(CubeError, match="contradicts itself"):
        open_cube(cube.uri)
    assert seal_cube(cube.plan) == cube.cube_hash
    open_cube(cube.uri)


@pytest.mark.parametrize("name", ["cube.plan.json", "cube.manifest.json", "cube.tiles/0000-0001.json"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_bit_in_what_is_written_down_never_passes(cube: SceneCube, name: str, data: st.DataObject) -> None:
    path = Path(cube.uri).parent / name
    body = path.read_bytes()
    place = data.draw(st.integers(0, len(body) - 1))
    flipped = body[:place] + bytes([body[place] ^ 1 << data.draw(st.integers(0, 7))]) + body[place + 1 :]
    path.write_bytes(flipped)
    try:
        if name == "cube.tiles/0000-0001.json":
            missing = [tile.name for tile in missing_tiles(cube.plan)]
            assert missing == ["0000-0001"] or TileRecord.from_json(flipped) == TileRecord.from_json(body)
        elif name == "cube.plan.json":
            assert _refused(load_plan, cube.uri) or load_plan(cube.uri) == cube.plan
        else:
            assert _refused(open_cube, cube.uri) or open_cube(cube.uri)._records == cube._records
    finally:
        path.write_bytes(body)


def _refused(read: Any, uri: str) -> bool:
    try:
        read(uri)
    except CubeError:
        return True
    return False


def test_metadata_and_coordinates_that_are_gone_or_changed_are_named_and_written_again(cube: SceneCube) -> None:
    root = Path(cube.uri)
    (root / "x" / "c" / "0").unlink()
    (root / "stack" / "zarr.json").write_bytes((root / "stack" / "zarr.json").read_bytes().replace(b"zstd", b"zst4"))
    (root.parent / "cube.plan.json").write_bytes(b"{")
    with pytest.raises(CubeError, match=r"stack/zarr\.json, x/c/0 of .* are gone or changed"):
        cube.dataset()
    assert create_cube(cube.plan), "the plan itself was damaged"
    assert not create_cube(cube.plan)
    assert missing_tiles(cube.plan) == ()
    with cube.dataset() as plain:
        assert float(plain["x"][0]) == 500_005.0


def test_consolidated_metadata_of_others_hides_nothing(cube: SceneCube) -> None:
    root = Path(cube.uri) / "zarr.json"
    group = json.loads(root.read_text())
    group["consolidated_metadata"] = {"kind": "inline", "must_understand": False, "metadata": {}}
    root.write_text(json.dumps(group))
    assert_block(open_cube(cube.uri).read_tile(*EVERYTHING), cube.plan, *EVERYTHING)
    with pytest.raises(CubeError, match=r"zarr\.json of .* is gone or changed"):
        cube.dataset()
    create_cube(cube.plan)
    with xr.open_zarr(cube.uri) as plain:
        assert set(plain.data_vars) == {"stack", "observed", "date"}


def test_another_plan_does_not_write_into_a_cube(earth: tuple[PixelServer, Session], tmp_path: Path) -> None:
    uri = str(tmp_path / "cube.zarr")
    create_cube(cubes.plan(uri))
    with pytest.raises(CubeError, match="another plan"):
        create_cube(cubes.plan(uri, dem="JAXA/ALOS/AW3D30/V3_2"))
    with pytest.raises(CubeError, match="no cube at"):
        open_cube(str(tmp_path / "nothing.zarr"))


def test_a_cube_may_be_named_relative_to_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for near in ("cube.zarr", "./cube.zarr", "a/../cube.zarr/"):
        assert CubePlace.of(near) == CubePlace(str(tmp_path), "cube")
    assert CubePlace.of("gs://bucket/events/cube.zarr/") == CubePlace("gs://bucket/events", "cube")


def test_writers_that_would_share_a_chunk_are_refused(earth: tuple[PixelServer, Session], tmp_path: Path) -> None:
    plan = cubes.plan(str(tmp_path / "cube.zarr"))
    astride = Tile(0, 0, 0, 25, (50, 50))
    with pytest.raises(CubeError, match="share a chunk"):
        dataclasses.replace(plan, tiles=(astride,))
    with pytest.raises(CubeError, match="share a chunk"):
        dataclasses.replace(plan, tiles=plan.tiles + plan.tiles[:1])
    with pytest.raises(CubeError, match="no tile of the plan"):
        pull_tile(plan, earth[1], astride)


def test_a_plan_survives_json_and_its_hash_is_its_content(tmp_path: Path) -> None:
    plan = cubes.plan(str(tmp_path / "cube.zarr"))
    back = CubePlan.from_json(plan.to_json())
    assert back == plan
    assert back.plan_hash == plan.plan_hash
    assert dataclasses.replace(plan, uri="gs://b/x.zarr", code_version="9").plan_hash == plan.plan_hash
    assert cubes.plan(plan.uri, dem="other").plan_hash != plan.plan_hash
    assert plan.total_request_bytes == SIDE_Y * SIDE_X * (4 * 3 + 2 * 2 + 2 * 5)
    for broken in ("{}", "[]", '{"format": 99}', "no json"):
        with pytest.raises(CubeError, match="not a cube plan"):
            CubePlan.from_json(broken)


@pytest.mark.parametrize("uri", ["cube", "gs://bucket/cube.tif", "gs://bucket/.zarr", "/cube.zarr", ".zarr"])
def test_an_address_that_is_no_cubes_is_refused(uri: str) -> None:
    with pytest.raises(CubeError, match="no address of a cube"):
        create_cube(cubes.plan(uri))


def test_a_cube_in_a_bucket(earth: tuple[PixelServer, Session], tmp_path: Path) -> None:
    fake, session = earth
    fake.faults = [Fault(503), None, Fault(429)]
    with serve(create_app(tmp_path)) as endpoint:
        make_bucket(endpoint, "quakeslide")
        plan = cubes.plan("gs://quakeslide/events/us2000h8ty/cube.zarr")
        create_cube(plan, endpoint)
        task = pickle.loads(pickle.dumps((plan, session.config)))
        with ThreadPoolExecutor(4) as pool:
            records = list(pool.map(lambda tile: pull_tile(*task, tile, endpoint), plan.tiles))
        assert [record.name for record in records] == [tile.name for tile in plan.tiles]
        seal_cube(plan, endpoint)
        cube = pickle.loads(pickle.dumps(open_cube(plan.uri, endpoint)))
        assert_block(cube.read_tile(*EVERYTHING), plan, *EVERYTHING)
        with cube.dataset() as plain:
            np.testing.assert_array_equal(plain["observed"], expected(plan)[1])
        assert missing_tiles(plan, endpoint) == damaged_tiles(plan, endpoint) == ()


def test_a_bucket_that_is_not_there_is_named(tmp_path: Path) -> None:
    with serve(create_app(tmp_path)) as endpoint, pytest.raises(StorageError, match="gs://nowhere/cube"):
        create_cube(cubes.plan("gs://nowhere/cube.zarr"), endpoint)


def test_a_disk_that_refuses_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StorageError, match="file/cube"):
        create_cube(cubes.plan(str(tmp_path / "file" / "cube.zarr")))


def make_bucket(endpoint: str, name: str) -> None:
    httpx.post(f"{endpoint}/storage/v1/b?project=p", json={"name": name}, trust_env=False).raise_for_status()
