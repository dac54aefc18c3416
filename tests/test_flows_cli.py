"""The command line: what is wrong with the input is said in one line, with exit status 2, and nothing is written."""

from __future__ import annotations

import datetime as dt
import json
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
import numpy as np
import pytest
import rasterio
import shapely
from fakes.quakes import EVENT_ID, SEA, SEA_EVENT_ID, WEAK_EVENT_ID, SmallQuake
from fakes.weights import untrained
from rasterio.transform import Affine
from rasterio.warp import transform_bounds

from flows import cli
from flows.asset_names import asset_containers
from flows.reaching import bucket, connected
from flows.settings import load_settings
from gee.assets import ensure_folder
from gee.ingestion import TableAsset, write_assets
from infra.local.stack import LocalStack
from modeling.model import available_models
from modeling.simulate import layers_of

DEAD = "http://127.0.0.1:9"
"""Nobody listens there."""

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in this process: (exit status, stdout, stderr)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["quakeslide", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        told = capsys.readouterr()
        return int(exit_.value.code or 0), told.out, told.err

    return call


@pytest.fixture
def refuses(run: Run, tmp_path: Path) -> Callable[..., str]:
    """Runs a command that must fail with one line, and leave no file and no object behind; returns the line."""

    def call(*arguments: object) -> str:
        before = everything_in(tmp_path)
        status, _, err = run(*arguments)
        assert status == cli.BAD_INPUT, err
        assert err.startswith("quakeslide: ")
        assert err.count("\n") == 1, err
        assert everything_in(tmp_path) == before
        return err

    return call


def everything_in(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def quakeslide(*arguments: object, limit_bytes: int | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a command in a process of its own, which may write no file larger than `limit_bytes`."""
    command = [sys.executable, "-c", "from flows.cli import main; main()", *map(str, arguments)]

    def limit() -> None:
        if limit_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, preexec_fn=limit)


def assert_nothing_stored(services: dict[str, str]) -> None:
    url = f"{services['QUAKESLIDE_STORAGE__ENDPOINT']}/storage/v1/b/{services['QUAKESLIDE_STORAGE__BUCKET']}/o"
    stored = [item["name"] for item in httpx.get(url).json().get("items", [])]
    assert [name for name in stored if not name.startswith("quota/")] == [], "but for the ledger of requests"


def area_file(folder: Path, bounds: Sequence[float]) -> Path:
    path = folder / "area.geojson"
    path.write_text(json.dumps(shapely.box(*bounds).__geo_interface__))
    return path


def bounds_of(quake: SmallQuake, inset_m: float = 600) -> tuple[float, ...]:
    height, width = quake.region.shape_yx
    left, top = quake.region.transform[2], quake.region.transform[5]
    box = shapely.box(left, top - 10 * height, left + 10 * width, top).buffer(-inset_m)
    return tuple(transform_bounds(quake.region.crs, "EPSG:4326", *box.bounds))


COMMANDS = [
    [],
    ["demo"],
    ["map"],
    ["plan"],
    ["map-raster"],
    ["select"],
    ["tidy"],
    ["train"],
    ["recipes"],
    ["evaluate"],
    ["benchmark"],
    ["explain"],
    ["dataset", "build"],
    ["dataset", "simulate"],
    ["dataset", "import"],
    ["dataset", "show"],
    ["models"],
    ["doctor"],
    ["local"],
    ["local", "up"],
    ["local", "password"],
    ["deploy"],
    ["worker"],
    ["janitor"],
    ["monitor"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help(run: Run, command: list[str]) -> None:
    status, out, err = run(*command, "--help")
    assert (status, err) == (0, "")
    assert "Usage:" in out


def test_no_command_shows_the_help(run: Run) -> None:
    status, out, err = run()
    assert status == cli.BAD_INPUT
    assert "map-raster" in out + err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], ["nonsense", "quakeslide --help"]),
        (["map"], ["Missing argument", "quakeslide map --help"]),
        (["map", "us1", "--bogus"], ["--bogus"]),
        (["demo", "--size", "12"], ["--size"]),
        (["demo", "--seed", "many"], ["--seed", "integer"]),
        (["map-raster", "--pre", "a.tif"], ["Missing option", "--post"]),
        (["map", "us1", "--event-date", "last week"], ["--event-date 'last week'", "2018-09-05"]),
        (["map", "us1", "--aoi", "nowhere.geojson"], ["nowhere.geojson", "--aoi"]),
        (["map", "us1", "--truth", "nowhere.tif"], ["nowhere.tif"]),
        (["plan", "us1", "--data", "nowhere"], ["nowhere", "no such folder"]),
    ],
)
def test_misuse_is_told_in_one_line(
    refuses: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QUAKESLIDE_LOCAL__HOME", str(tmp_path))
    line = refuses(*arguments)
    assert [word for word in words if word not in line] == []


def test_an_area_or_a_truth_of_another_kind_is_refused(refuses: Callable[..., str], tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("remember the milk")
    assert "notes.txt is no file of polygons" in refuses("plan", "us1", "--aoi", text)
    assert "notes.txt is not a GeoTIFF" in refuses("map", "us1", "--truth", text)


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("QUAKESLIDE_CUBE__TILE_PX", "7", ["cube.tile_px", "'7'", "64"]),
        ("QUAKESLIDE_CUBE__TILE_SIZE", "512", ["cube.tile_size"]),
        ("QUAKESLIDE_MODE", "somewhere", ["mode", "'somewhere'"]),
        ("QUAKESLIDE_EARTHENGINE_PROJECT", "mine", ["QUAKESLIDE_EARTHENGINE_PROJECT", "QUAKESLIDE_<GROUP>__<FIELD>"]),
    ],
)
def test_a_setting_that_is_wrong_is_named(
    refuses: Callable[..., str], monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: list[str]
) -> None:
    monkeypatch.setenv(variable, value)
    line = refuses("plan", "us1")
    assert [word for word in words if word not in line] == []


@pytest.mark.parametrize(
    ("event_id", "words"),
    [
        ("us0nothere", ["us0nothere"]),
        (WEAK_EVENT_ID, ["M 4.1 is below the rule's 5.5", "--force"]),
        (SEA_EVENT_ID, ["sea"]),
    ],
)
@pytest.mark.parametrize("command", ["plan", "map"])
def test_an_event_that_cannot_be_mapped_is_refused(
    refuses: Callable[..., str], services: dict[str, str], command: str, event_id: str, words: list[str]
) -> None:
    line = refuses(command, event_id)
    assert [word for word in words if word not in line] == []
    assert_nothing_stored(services)


def test_an_area_at_sea_is_refused(refuses: Callable[..., str], services: dict[str, str], tmp_path: Path) -> None:
    west, south, *_ = SEA
    aoi = area_file(tmp_path, (west + 0.2, south + 0.2, west + 0.3, south + 0.3))
    line = refuses("map", "anything", "--aoi", aoi, "--event-date", "2022-09-05")
    assert "sea" in line
    assert_nothing_stored(services)


@pytest.mark.parametrize("command", ["plan", "map"])
def test_no_scenes_is_said_with_what_was_looked_for(
    refuses: Callable[..., str], services: dict[str, str], small_quake: SmallQuake, tmp_path: Path, command: str
) -> None:
    aoi = area_file(tmp_path, bounds_of(small_quake))
    line = refuses(command, "anything", "--aoi", aoi, "--event-date", "1999-01-01")
    assert "no scene of the area" in line
    assert "in COPERNICUS/S2_HARMONIZED" in line
    assert "wait for the next pass" in line
    assert "1999-01-01" in line
    assert_nothing_stored(services)


@pytest.mark.parametrize(
    ("variable", "named"),
    [
        ("QUAKESLIDE_USGS__URL", "USGS"),
        ("QUAKESLIDE_EARTHENGINE__URL", "Earth Engine"),
        ("QUAKESLIDE_STORAGE__ENDPOINT", "Cloud Storage"),
        ("PREFECT_API_URL", "Prefect"),
    ],
)
def test_a_service_that_does_not_answer_is_named(
    refuses: Callable[..., str],
    services: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    named: str,
) -> None:
    monkeypatch.setenv(variable, DEAD)
    line = refuses("map", EVENT_ID)
    assert named in line
    assert DEAD in line
    assert_nothing_stored(services)


def test_a_bucket_that_is_not_there_is_named_before_any_work(
    refuses: Callable[..., str], services: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUAKESLIDE_STORAGE__BUCKET", "no-such-bucket")
    assert "gs://no-such-bucket" in refuses("map", EVENT_ID)


def test_unknown_weights_are_refused(
    refuses: Callable[..., str], services: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUAKESLIDE_MODEL__WEIGHTS", "nobody")
    assert "no model 'nobody'" in refuses("plan", EVENT_ID)


def test_an_output_folder_that_is_a_file_is_refused(
    refuses: Callable[..., str], services: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("mine")
    assert "taken is a file" in refuses("map", EVENT_ID, "--out", tmp_path / "taken")
    assert "taken is a file" in refuses("demo", "--out", tmp_path / "taken")


def test_a_working_folder_without_room_is_refused(
    refuses: Callable[..., str], services: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("QUAKESLIDE_WORK__SCRATCH", str(tmp_path / "nowhere"))
    line = refuses("map", EVENT_ID)
    assert "nowhere" in line
    assert "QUAKESLIDE_WORK__SCRATCH" in line


def test_a_plan_tells_what_a_run_would_take_and_launches_nothing(
    run: Run, services: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    status, out, err = run("plan", EVENT_ID)
    assert (status, err) == (0, "")
    told = " ".join(out.split())
    for word in ("M 6.0", "ShakeMap", "3 scenes", "clear coverage", "6 of 128 px", "expected time", "expected memory"):
        assert word in told
    assert_nothing_stored(services)
    assert everything_in(tmp_path) == set()


def test_the_doctor_names_what_fails_and_how_to_mend_it(
    run: Run, services: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    _, out, _ = run("doctor")
    found = {line.split("│")[1].strip(): line for line in out.splitlines() if line.startswith("│")}
    assert all(" ok " in found[name] for name in ("Python", "packages", "Earth Engine", "bucket", "USGS", "Prefect"))
    monkeypatch.setenv("QUAKESLIDE_USGS__URL", DEAD)
    status, out, _ = run("doctor")
    assert status == cli.BAD_INPUT
    line = next(line for line in out.splitlines() if line.startswith("│ USGS"))
    assert "FAIL" in line
    assert f"check the network and QUAKESLIDE_USGS__URL ({DEAD})" in line


def test_tidy_removes_what_was_never_published(
    run: Run, services: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings()
    folder = asset_containers(EVENT_ID, settings)["landslides"]
    label = f"{1:016x}_{2:016x}"
    with bucket(settings) as store, connected(settings) as session:
        uri = f"gs://{settings.storage.bucket}/left.csv"
        store.write_bytes(uri, b'a,geometry\n1,"POINT (1 2)"\n', "text/csv")
        ensure_folder(session, folder)
        write_assets(session, [TableAsset(f"{folder}/{label}", uri, "ab", {}, dt.datetime.now(dt.UTC))], 30)
    assert run("tidy", EVENT_ID)[:2] == (
        0,
        f"removed from Earth Engine: 0 that unpublished runs of {EVENT_ID} have left\n",
    )
    monkeypatch.setenv("QUAKESLIDE_EARTHENGINE__ORPHAN_HOURS", "0.000001")
    status, out, _ = run("tidy", EVENT_ID)
    assert (status, out.splitlines()[0]) == (0, f"removed: {folder}/{label}")
    assert "removed from Earth Engine: 1 that" in out


def test_models_are_listed(run: Run) -> None:
    status, out, _ = run("models")
    assert status == 0
    assert "Networks" in out
    assert [name for name in available_models() if f" {name} " not in out] == [], "names can be copied whole"


@pytest.fixture(scope="module")
def pair(small_quake: SmallQuake, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The composites of the small quake and its elevation as GeoTIFFs of a user."""
    folder = tmp_path_factory.mktemp("pair")
    layers, _ = layers_of(small_quake.region)
    colours = ("blue", "green", "red", "nir")
    files = {phase: {colour: layers[f"{colour}_{phase}"] for colour in colours} for phase in ("pre", "post")}
    files["dem"] = {"elevation": layers["elevation"]}
    return {name: write_raster(folder / f"{name}.tif", bands, small_quake) for name, bands in files.items()}


def write_raster(
    path: Path, bands: dict[str, np.ndarray], quake: SmallQuake, *, crs: bool = True, shift: int = 0
) -> Path:
    height, width = quake.region.shape_yx
    at = Affine(*quake.region.transform)
    profile = {"driver": "GTiff", "count": len(bands), "height": height, "width": width, "dtype": "float32"}
    where = {"transform": at @ Affine.translation(shift, 0), **({"crs": quake.region.crs} if crs else {})}
    with rasterio.open(path, "w", **profile, **where, nodata=np.nan) as file:
        for number, (name, values) in enumerate(bands.items(), start=1):
            file.write(values, number)
            file.set_band_description(number, name)
    return path


def test_rasters_that_do_not_fit_are_refused(
    refuses: Callable[..., str],
    pair: dict[str, Path],
    small_quake: SmallQuake,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QUAKESLIDE_WORK__SCRATCH", str(tmp_path))
    flat = {"red": np.full(small_quake.region.shape_yx, 0.1, np.float32)}
    shifted = write_raster(tmp_path / "shifted.tif", flat, small_quake, shift=4000)
    nowhere = write_raster(tmp_path / "nowhere.tif", flat, small_quake, crs=False)
    text = tmp_path / "text.tif"
    text.write_text("no raster at all")
    good = ["--post", pair["post"], "--dem", pair["dem"]]
    assert "shifted.tif" in refuses("map-raster", "--pre", shifted, *good)
    assert "nowhere.tif has no coordinate reference system" in refuses("map-raster", "--pre", nowhere, *good)
    assert "text.tif is not a GeoTIFF" in refuses("map-raster", "--pre", text, *good)
    assert "missing.tif" in refuses("map-raster", "--pre", tmp_path / "missing.tif", *good)
    several = refuses("map-raster", "--pre", tmp_path / "missing.tif", "--pre", pair["pre"], *good)
    assert "missing.tif: there is no such file" in several, "of several files the first counts as much as the last"
    assert "more than one file gives blue_pre" in refuses("map-raster", *["--pre", pair["pre"]] * 2, *good)
    twice = refuses("map-raster", *["--pre", pair["pre"]] * 2, *good, "--bands", "blue,green")
    assert "--bands blue,green is the order within one file" in twice
    full = ["map-raster", "--pre", pair["pre"], *good]
    assert "nobody" in refuses(*full, "--weights", "nobody")
    assert "is not empty" in refuses(*full, "--out", tmp_path)


@pytest.mark.parametrize("command", ["map-raster", pytest.param("map", marks=pytest.mark.slow)])
def test_a_full_disk_is_one_line_and_leaves_nothing(
    command: str, services: dict[str, str], pair: dict[str, Path], some_weights: Path, tmp_path: Path
) -> None:
    before = everything_in(tmp_path)
    rasters = ["--pre", pair["pre"], "--post", pair["post"], "--dem", pair["dem"], "--weights", some_weights]
    words = [EVENT_ID] if command == "map" else rasters
    done = quakeslide(command, *words, "--out", tmp_path / "out", limit_bytes=50_000)
    own = [line for line in done.stderr.splitlines() if not line.startswith("_tiffWriteProc")]  # of libtiff
    assert (done.returncode, len(own)) == (cli.BAD_INPUT, 1), done.stderr
    assert own[0].startswith("quakeslide: ")
    assert everything_in(tmp_path) == before
    versions = f"{services['QUAKESLIDE_STORAGE__ENDPOINT']}/{services['QUAKESLIDE_STORAGE__BUCKET']}/events/{EVENT_ID}"
    assert httpx.get(f"{versions}/versions.json").status_code == 404


def test_a_pair_of_rasters_becomes_a_complete_version(
    run: Run, pair: dict[str, Path], small_quake: SmallQuake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUAKESLIDE_WORK__SCRATCH", str(tmp_path))
    weights = untrained(small_quake.region, tmp_path / "weights", "tiny", "ten-band", share=0.03)
    rasters = ["--pre", pair["pre"], "--post", pair["post"], "--dem", pair["dem"], "--weights", weights]
    status, out, err = run("map-raster", *rasters, "--out", tmp_path / "out", "--name", "hill")
    assert (status, err) == (0, "")
    assert "report:" in out
    item = json.loads((tmp_path / "out" / "item.json").read_text())
    assert item["properties"]["quakeslide:run_key"]
    with rasterio.open(tmp_path / "out" / "probability.tif") as file:
        assert file.shape == small_quake.region.shape_yx
    assert {path.name for path in tmp_path.iterdir()} == {"weights", "out"}


def test_bands_in_separate_files_become_one_map(
    run: Run, pair: dict[str, Path], small_quake: SmallQuake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUAKESLIDE_WORK__SCRATCH", str(tmp_path))
    weights = untrained(small_quake.region, tmp_path / "weights", "tiny", "ten-band", share=0.03)
    images: dict[str, list[Path]] = {"pre": [], "post": []}
    for phase, files in images.items():
        with rasterio.open(pair[phase]) as file:
            for number, colour in enumerate(file.descriptions, start=1):
                band = {colour: file.read(number)}
                files.append(write_raster(tmp_path / f"{phase}_{colour}.tif", band, small_quake))
    given = [word for phase, files in images.items() for path in files for word in (f"--{phase}", path)]
    status, _, err = run("map-raster", *given, "--dem", pair["dem"], "--weights", weights, "--out", tmp_path / "out")
    assert (status, err) == (0, "")
    facts = json.loads((tmp_path / "out" / "facts.json").read_text())
    assert [one["scenes"] for one in facts["imagery"]] == [[path.name for path in files] for files in images.values()]


@pytest.mark.parametrize("command", [["map-raster"], ["adapt"], ["adapt-unlabelled"], ["select"], ["dataset", "build"]])
def test_the_help_says_that_bands_may_lie_in_separate_files(
    run: Run, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    _, out, _ = run(*command, "--help")
    for option in ("--pre", "--post"):
        line = next(line for line in out.splitlines() if line.lstrip("│* ").startswith(f"{option} "))
        assert "give it again for bands in separate files" in line


def test_a_command_in_a_process_of_its_own_is_as_quiet(services: dict[str, str], stack: LocalStack) -> None:
    done = quakeslide("map", "us0nothere")
    assert (done.returncode, done.stderr.count("\n")) == (cli.BAD_INPUT, 1), done.stderr
    assert "us0nothere" in done.stderr
    assert "Traceback" not in done.stdout
