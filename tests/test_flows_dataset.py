"""flows/dataset.py and flows/cli_dataset.py: data sets from rasters, from an event and from two dates."""

from __future__ import annotations

import re
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from fakes.data_sets import hr_gldd, toy_set
from fakes.quakes import EVENT_ID, SmallQuake
from rasterio.features import shapes
from typer.testing import CliRunner

from flows.cli_dataset import _counts, app
from flows.errors import FlowError
from modeling.data.dataset import STORED_LAYERS
from modeling.data.patches import open_patches
from modeling.errors import ModelingError
from modeling.simulate import layers_of

RUNNER = CliRunner()
COLOURS = ("blue", "green", "red", "nir")
SMALL = ("--patch-px", "24", "--distance-px", "8")


def run(*arguments: object) -> str:
    result = RUNNER.invoke(app, [str(word) for word in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def inventory(small_quake: SmallQuake, tmp_path: Path) -> tuple[Path, Path]:
    """The landslides of the small quake, and the part of the region that was looked at, as polygons in degrees."""
    region = small_quake.region
    at = rasterio.Affine(*region.transform)
    found = [shapely.geometry.shape(one) for one, value in shapes(region.truth.astype(np.uint8), transform=at) if value]
    slides = geopandas.GeoDataFrame(geometry=found, crs=region.crs).to_crs("EPSG:4326")
    left, top = at @ (0, 0)
    right, bottom = at @ (256, 240)
    extent = geopandas.GeoDataFrame(geometry=[shapely.box(left, bottom, right, top)], crs=region.crs).to_crs(
        "EPSG:4326"
    )
    slides.to_file(tmp_path / "slides.gpkg")
    extent.to_file(tmp_path / "extent.gpkg")
    return tmp_path / "slides.gpkg", tmp_path / "extent.gpkg"


def rasters(quake: SmallQuake, folder: Path) -> list[str]:
    """The quake as rasters before and after and an elevation model: the options that name them."""
    whole, _ = layers_of(quake.region)
    parts = {phase: {c: whole[f"{c}_{phase}"] for c in COLOURS} for phase in ("pre", "post")}
    parts["dem"] = {"elevation": whole["elevation"]}
    options = []
    for name, bands in parts.items():
        path = folder / f"{name}.tif"
        profile = {
            "driver": "GTiff",
            "count": len(bands),
            "height": 256,
            "width": 256,
            "dtype": "float32",
            "nodata": np.nan,
        }
        where = {"crs": quake.region.crs, "transform": rasterio.Affine(*quake.region.transform)}
        with rasterio.open(path, "w", **profile, **where) as file:
            for number, (colour, values) in enumerate(bands.items(), start=1):
                file.write(values, number)
                file.set_band_description(number, colour)
        options += [f"--{name}", str(path)]
    return options


def test_from_rasters(small_quake: SmallQuake, inventory: tuple[Path, Path], tmp_path: Path) -> None:
    slides, extent = inventory
    out = tmp_path / "quake.zarr"
    told = run("build", out, "--inventory", slides, "--extent", extent, *rasters(small_quake, tmp_path), *SMALL)
    made = open_patches(out)
    assert set(made.layers) == set(STORED_LAYERS)
    assert made.systems == (small_quake.region.crs,)
    assert made.domains == ("quake",)
    assert made.about.distance_px is not None
    assert made.about.distance_px >= 8
    truth = small_quake.region.truth
    at = ~rasterio.Affine(*small_quake.region.transform)
    for index in range(len(made)):
        left, top = at @ (float(made.numbers["x"][index]), float(made.numbers["y"][index]))
        own, expected = made.truth(index), truth[round(top) : round(top) + 24, round(left) : round(left) + 24]
        np.testing.assert_array_equal(own[own != 255], expected[own != 255])
        assert round(top) <= 240 - 24 or (own[240 - round(top) :] == 255).all()
    assert "with landslides" in told
    assert "nearest patches of different parts" in told


def test_from_an_event_and_from_two_dates(
    services: dict[str, str], small_quake: SmallQuake, inventory: tuple[Path, Path], tmp_path: Path
) -> None:
    slides, extent = inventory
    common = ("--inventory", slides, "--extent", extent, *SMALL)
    run("build", tmp_path / "event.zarr", "--event", EVENT_ID, *common)
    by_event = open_patches(tmp_path / "event.zarr")
    assert by_event.domains == (EVENT_ID,)
    assert set(by_event.layers) == set(STORED_LAYERS)
    assert EVENT_ID in by_event.about.source
    assert by_event.positive.any()
    # What no pass before the event has seen does not count.
    at = ~rasterio.Affine(*small_quake.region.transform)
    lefts = [(at @ (float(x), 0))[0] for x in by_event.numbers["x"]]
    assert min(lefts) > 60
    moment = small_quake.region.event.time
    dates = ("--before", f"{moment:%Y-%m-%d}", "--after", f"{moment:%Y-%m-%dT%H:%M:%S}+00:00", "--name", "two")
    run("build", tmp_path / "dates.zarr", *dates, *common)
    by_dates = open_patches(tmp_path / "dates.zarr")
    assert by_dates.domains == ("two",)
    assert by_dates.layers == by_event.layers
    assert "composites up to" in by_dates.about.source


def test_without_imagery_there_is_truth(inventory: tuple[Path, Path], tmp_path: Path) -> None:
    told = run("build", tmp_path / "t.zarr", "--inventory", inventory[0], "--extent", inventory[1], *SMALL)
    assert "none, truth only" in told
    assert open_patches(tmp_path / "t.zarr").positive.any()


def test_polygons_drawn_for_adapt_make_an_inventory_of_the_landslides_among_them(
    inventory: tuple[Path, Path], tmp_path: Path
) -> None:
    slides = geopandas.read_file(inventory[0])
    plain = run("build", tmp_path / "plain.zarr", "--inventory", inventory[0], "--extent", inventory[1], *SMALL)
    away = slides.geometry.translate(0.0005, 0.0005)
    both = [*slides.geometry, *away]
    classes = ["landslide"] * len(slides) + ["not-landslide"] * len(slides)
    drawn = tmp_path / "drawn.geojson"
    geopandas.GeoDataFrame({"class": classes}, geometry=both, crs=slides.crs).to_file(drawn)
    told = run("build", tmp_path / "t.zarr", "--inventory", drawn, "--extent", inventory[1], *SMALL)
    assert f"note: drawn.geojson: {len(slides)} of {2 * len(slides)} polygons have the class 'not-landslide'" in told
    assert "note:" not in plain
    made = open_patches(tmp_path / "t.zarr")
    assert made.landslide_px.sum() == open_patches(tmp_path / "plain.zarr").landslide_px.sum()
    assert "are left out" in made.about.source
    assert str(tmp_path) not in made.about.source


def test_import_and_show(tmp_path: Path) -> None:
    told = run("import", tmp_path / "g.zarr", hr_gldd(tmp_path / "gldd"), "--licence", "CC-BY-4.0")
    again = run("show", tmp_path / "g.zarr", "--verify")
    assert "CC-BY-4.0" in told
    assert told.split("layers:")[1] == again.split("layers:")[1]
    made = open_patches(tmp_path / "g.zarr")
    assert str(tmp_path) not in str(made.about), "no path of this machine is told"


def test_simulate(tmp_path: Path) -> None:
    out, cache = tmp_path / "s.zarr", tmp_path / "cache"
    run("simulate", out, "--domains", "iburi=8", "--patch-px", 24, "--region-px", 128, "--cache", cache, "--workers", 1)
    assert len(open_patches(out)) == 8


def test_the_command_is_told_without_the_places_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = hr_gldd(tmp_path / "gldd")
    monkeypatch.setattr("sys.argv", ["quakeslide", "dataset", "import", str(tmp_path / "g.zarr"), str(folder)])
    run("import", tmp_path / "g.zarr", folder)
    assert open_patches(tmp_path / "g.zarr").about.command == "quakeslide dataset import g.zarr gldd"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--event", "x", "--before", "2020-01-01"), "--event and --before ask for different imagery"),
        (("--pre", "a.tif"), "one image before"),
        (("--split", "7"), "7:3 or 7:2:1"),
        (("--patch-px", "4000"), "do not fit into"),
    ],
)
def test_wrong_orders_are_refused_in_one_line(
    inventory: tuple[Path, Path], tmp_path: Path, more: tuple[str, ...], said: str
) -> None:
    with pytest.raises((FlowError, ModelingError), match=said):
        run("build", tmp_path / "a.zarr", "--inventory", inventory[0], *more)
    assert not (tmp_path / "a.zarr").exists()


def test_a_data_set_is_never_overwritten(inventory: tuple[Path, Path], tmp_path: Path) -> None:
    path = toy_set(tmp_path / "a.zarr").path
    with pytest.raises(ModelingError, match="is there already"):
        run("build", path, "--inventory", inventory[0], *SMALL)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        *((text, "write iburi=500,jiuzhaigou=200") for text in ("iburi", "iburi=x", "=4x")),
        ("iburi=8,iburi=9", "names iburi twice"),
        ("iburi=" + "9" * 20, "as many patches of iburi as a number of 20 digits"),
        ("iburi=" + "9" * 5000, "a number of 5000 digits"),
    ],
)
def test_domains_are_counted(text: str, said: str) -> None:
    assert _counts("iburi=500, palu=20") == {"iburi": 500, "palu": 20}
    with pytest.raises(FlowError, match=re.escape(said)):
        _counts(text)
