"""flows/map_raster.py: a pair of rasters is read like a cube, and what they do not show is not observed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from fakes.quakes import SmallQuake
from fakes.weights import untrained

from flows.errors import PublicationError
from flows.facts import ReportFacts
from flows.geology import MapRules
from flows.interruption import INTERRUPTED, beginning_anew
from flows.map_raster import PairScene, map_raster_pair
from flows.settings import ModelSettings, Settings, WorkSettings
from gee.types import Observed
from modeling.errors import BandSetError, ModelingError
from modeling.geology.rules import GeologyRules
from modeling.geology.rules_file import LearntRules, write_rules
from modeling.rasters.raster_pair import open_pair
from modeling.simulate import layers_of

COLOURS = ("blue", "green", "red", "nir")
GAP = np.s_[:, :30]


@pytest.fixture(scope="module")
def layers(small_quake: SmallQuake) -> dict[str, np.ndarray]:
    """A corner of the small quake, with a gap in the image before."""
    whole, _ = layers_of(small_quake.region)
    cut = {name: values[40:168, 100:260].copy() for name, values in whole.items()}
    for colour in COLOURS:
        cut[f"{colour}_pre"][GAP] = np.nan
    return cut


def write(path: Path, bands: Mapping[str, np.ndarray]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = next(iter(bands.values())).shape
    profile = {"driver": "GTiff", "count": len(bands), "height": height, "width": width, "dtype": "float32"}
    at = rasterio.Affine(10, 0, 600_000, 0, -10, 3_300_000)
    with rasterio.open(path, "w", **profile, crs="EPSG:32648", transform=at, nodata=np.nan) as file:
        for number, (name, values) in enumerate(bands.items(), start=1):
            file.write(values, number)
            file.set_band_description(number, name)
    return path


@pytest.fixture
def files(layers: dict[str, np.ndarray], tmp_path: Path) -> dict[str, Path]:
    """Three rasters that bear the same name, each in a folder of its own."""
    made = {phase: {colour: layers[f"{colour}_{phase}"] for colour in COLOURS} for phase in ("pre", "post")}
    made["dem"] = {"elevation": layers["elevation"]}
    return {name: write(tmp_path / name / "image.tif", bands) for name, bands in made.items()}


@pytest.fixture(scope="module")
def weights(small_quake: SmallQuake, tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(untrained(small_quake.region, tmp_path_factory.mktemp("weights"), "tiny", "ten-band", share=0.05))


def map_them(
    files: Mapping[str, Path | Sequence[Path]], out: Path, weights: str, name: str = "hill", rules: str = "auto"
) -> ReportFacts:
    settings = Settings(work=WorkSettings(scratch=str(out.parent)), model=ModelSettings(rules=rules))
    (pre, post, dem) = ([made] if isinstance(made := files[what], Path) else made for what in ("pre", "post", "dem"))
    folder = map_raster_pair(
        pre, post, dem[0], out, bands=None, scale=None, weights=weights, name=name, settings=settings
    )
    return ReportFacts.from_json((folder / "facts.json").read_text())


def test_a_pair_is_read_like_a_cube(files: dict[str, Path]) -> None:
    with open_pair([files["pre"]], [files["post"]], files["dem"]) as pair:
        scene = PairScene(pair)
        block = scene.read_tile(slice(10, 50), slice(20, 60))
        assert scene.grid.crs == "EPSG:32648"
        assert {"slope", "elevation", "red_pre", "nir_post"} <= set(scene.layer_names)
    assert block.layers["red_post"].shape == (40, 40)
    assert (block.date == -1).all(), "rasters do not say when they were taken"
    before, after = block.observed
    assert (before[:, :10] == Observed.NO_PASS).all()
    assert (after[:, 10:] == Observed.CLEAR).mean() > 0.5


def test_what_the_images_do_not_show_is_not_observed(files: dict[str, Path], weights: str, tmp_path: Path) -> None:
    told = map_them(files, tmp_path / "out", weights)
    with (
        rasterio.open(tmp_path / "out" / "probability.tif") as file,
        rasterio.open(tmp_path / "out" / "observed.tif") as observed,
    ):
        probability, codes = file.read(1), observed.read(1)
    assert np.isnan(probability[GAP]).all()
    assert (codes[GAP] == Observed.NO_PASS).all()
    assert (np.isnan(probability) == (codes != Observed.CLEAR)).all()
    assert not any(imagery.cloud_masked for imagery in told.imagery)
    assert not told.event.simulated
    assert str(tmp_path) not in (tmp_path / "out" / "report.html").read_text(), "no path of this machine is told"
    item = json.loads((tmp_path / "out" / "item.json").read_text())
    assert item["bbox"][0] == pytest.approx(106.03, abs=0.01)


@pytest.fixture
def never_mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    def mapped(*_: object, **__: object) -> None:
        raise AssertionError("the tiles were mapped")

    monkeypatch.setattr("flows.map_raster.write_probability", mapped)


@pytest.mark.usefixtures("never_mapped")
def test_rules_for_maps_that_this_network_cannot_make_are_refused_before_any_is_made(
    files: dict[str, Path], weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = LearntRules(GeologyRules(600.0), 10.0, "m", "ab" * 32, {"iburi": ("iburi-1",)}, True, {}, ())
    write_rules(tmp_path / "rules.json", rules)
    learnt = f"learnt:{tmp_path / 'rules.json'}"
    with monkeypatch.context() as patch:
        patch.setattr("flows.map_raster.measure_alignment", pytest.fail)
        with pytest.raises(BandSetError, match="does not allow: it is for networks of one date"):
            map_them(files, tmp_path / "out", weights, rules=learnt)
    # Where several networks may map it is known when one is chosen.
    monkeypatch.setattr(MapRules, "require_possible", lambda *_: None)
    monkeypatch.setattr(MapRules, "subtracts", lambda *_: _refuse())
    with pytest.raises(BandSetError, match="not this one"):
        map_them(files, tmp_path / "out", weights, rules=learnt)
    assert not (tmp_path / "out").exists()


def _refuse() -> bool:
    raise BandSetError("not this one")


def test_an_interrupted_map_promises_nothing(
    files: dict[str, Path],
    weights: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("flows.map_raster.write_probability", interrupted)
    with pytest.raises(SystemExit) as left, beginning_anew():
        map_them(files, tmp_path / "out", weights)
    assert left.value.code == INTERRUPTED
    assert capsys.readouterr().err == "interrupted; nothing is kept of this: the same command begins anew\n"
    assert {path.name for path in tmp_path.iterdir()} == {"pre", "post", "dem"}, "nothing is left"


def test_images_that_do_not_lie_on_each_other_are_brought_together(
    small_quake: SmallQuake, weights: str, tmp_path: Path
) -> None:
    whole, _ = layers_of(small_quake.region)
    bands = {phase: {colour: whole[f"{colour}_{phase}"] for colour in COLOURS} for phase in ("pre", "post")}
    files = {name: write(tmp_path / name / "image.tif", image) for name, image in bands.items()}
    files["dem"] = write(tmp_path / "dem" / "image.tif", {"elevation": whole["elevation"]})
    before = map_them(files, tmp_path / "out", weights).alignment
    east = {colour: np.roll(band, 2, axis=1) for colour, band in bands["pre"].items()}
    files["pre"] = write(tmp_path / "east" / "image.tif", east)
    after = map_them(files, tmp_path / "moved", weights).alignment
    assert before is not None
    assert after is not None
    assert before.shift.measured
    assert after.corrected
    assert after.shift.dx_px - before.shift.dx_px == pytest.approx(2, abs=0.1)
    assert after.shift.dy_px - before.shift.dy_px == pytest.approx(0, abs=0.1)
    item = json.loads((tmp_path / "moved" / "item.json").read_text())
    assert item["properties"]["quakeslide:alignment"]["corrected"]
    assert "that was corrected" in (tmp_path / "moved" / "report.html").read_text()


def test_a_run_is_named_after_what_went_in_not_after_file_names(
    files: dict[str, Path], weights: str, tmp_path: Path
) -> None:
    first = map_them(files, tmp_path / "a", weights).provenance
    swapped = map_them(files | {"pre": files["post"], "post": files["pre"]}, tmp_path / "b", weights).provenance
    again = map_them(files, tmp_path / "c", weights).provenance
    assert first.run_key == again.run_key != swapped.run_key
    assert first.cube_hash == again.cube_hash != swapped.cube_hash


def test_bands_in_separate_files_give_the_map_of_one_file_and_are_all_told(
    files: dict[str, Path], layers: dict[str, np.ndarray], weights: str, tmp_path: Path
) -> None:
    apart = {
        phase: [write(tmp_path / f"{phase}_{colour}.tif", {"": layers[f"{colour}_{phase}"]}) for colour in COLOURS]
        for phase in ("pre", "post")
    }
    told = map_them(files | apart, tmp_path / "apart", weights)
    map_them(files, tmp_path / "whole", weights)
    with (
        rasterio.open(tmp_path / "apart" / "probability.tif") as ours,
        rasterio.open(tmp_path / "whole" / "probability.tif") as theirs,
    ):
        np.testing.assert_array_equal(ours.read(1), theirs.read(1))
    names = [tuple(f"{phase}_{colour}.tif" for colour in COLOURS) for phase in ("pre", "post")]
    assert [imagery.scenes for imagery in told.imagery] == names
    assert told.event.title == "Landslides between pre_blue.tif (with 3 more) and post_blue.tif (with 3 more)"
    report = (tmp_path / "apart" / "report.html").read_text()
    assert [name for phase in names for name in phase if name not in report] == []
    assert str(tmp_path) not in report
    turned = map_them(files | apart | {"pre": apart["pre"][::-1]}, tmp_path / "turned", weights).provenance
    assert (turned.run_key, turned.cube_hash) == (told.provenance.run_key, told.provenance.cube_hash)
    held = apart["pre"][0].read_bytes()
    apart["pre"][0].write_bytes(apart["pre"][1].read_bytes())
    apart["pre"][1].write_bytes(held)
    crossed = map_them(files | apart, tmp_path / "crossed", weights).provenance
    assert told.provenance.cube_hash != crossed.cube_hash, "the files say by their names which bands they hold"


def test_a_network_of_one_date_is_run_on_both_images_and_every_drop_is_told(
    files: dict[str, Path], small_quake: SmallQuake, tmp_path: Path
) -> None:
    one_date = str(untrained(small_quake.region, tmp_path / "weights", "one", "rgb", share=0.05))
    plain = map_them(files, tmp_path / "plain", one_date, rules="none")
    ruled = map_them(files, tmp_path / "ruled", one_date)
    assert plain.rules is None
    assert not (tmp_path / "plain" / "dropped.gpkg").exists()
    told = ruled.rules
    assert told is not None
    assert (told.name, told.regions) == ("geology", len(gpd.read_file(tmp_path / "ruled" / "dropped.gpkg")))
    assert told.dropped["before"] > 0, "an untrained network finds the same on both images"
    assert told.subtraction
    assert ruled.inventory.total_area_m2 < plain.inventory.total_area_m2 + told.area_m2
    assert ruled.provenance.run_key != plain.provenance.run_key
    assert "mapped on the image before as well" in (tmp_path / "ruled" / "report.html").read_text()
    item = json.loads((tmp_path / "ruled" / "item.json").read_text())
    assert item["properties"]["quakeslide:rules"]["dropped"] == dict(told.dropped)
    assert "dropped" in item["assets"]


def test_a_failure_leaves_nothing_behind(files: dict[str, Path], weights: str, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "mine.txt").write_text("keep")
    before = set(tmp_path.rglob("*"))
    with pytest.raises(PublicationError, match="is not empty"):
        map_them(files, taken, weights)
    with pytest.raises(ModelingError, match="nobody"):
        map_them(files, tmp_path / "out", "nobody")
    only_red = write(tmp_path / "red" / "image.tif", {"red": np.full((128, 160), 0.1, np.float32)})
    with pytest.raises(BandSetError, match="nir_pre"):
        map_them(files | {"pre": only_red, "post": only_red}, tmp_path / "out", weights)
    assert set(tmp_path.rglob("*")) == before | {only_red, only_red.parent}
