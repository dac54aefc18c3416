"""flows/geology.py: rules and subtraction in a run, from the settings to the report, with every drop explained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from fakes.scenes import ArrayScene, array_scene
from fakes.weights import random_model

from flows.facts import RulesFacts
from flows.geology import MapRules, map_rules, mapped_before, rules_facts, scene_before
from flows.mapping import survey, write_layers, write_mask
from flows.settings import ModelSettings
from flows.wording import rules as worded
from gee.types import Observed
from modeling.bands import band_set
from modeling.errors import BandSetError, DataError
from modeling.geology.inventories import Judged
from modeling.geology.rules import GeologyRules, default_rules
from modeling.geology.rules_file import LearntRules, write_rules
from modeling.geology.subtraction import Histogrammed, subtract
from modeling.vectors.inventory import SCHEMA

Raster = npt.NDArray[np.float32]
BODIES = {
    "road": (100, 100, 1, 40),
    "landslide": (300, 505, 20, 35),
    "speck": (400, 10, 1, 2),
    "old": (490, 200, 12, 30),
}


@pytest.fixture
def scene() -> ArrayScene:
    made = array_scene((530, 560))
    made.layers["slope"][:] = 30
    return made


def ruled(name: str, bands: str = "ten-band") -> MapRules:
    return map_rules(ModelSettings(rules=name), band_set(bands))


def written(path: Path, values: Raster, scene: ArrayScene) -> Path:
    profile: dict[str, Any] = {"driver": "GTiff", "count": 1, "dtype": "float32", "height": 530, "width": 560}
    with rasterio.open(path, "w", **profile, crs="EPSG:32654", transform=scene.grid.affine) as file:
        file.write(values, 1)
    return path


def mapped(*names: str) -> Raster:
    values = np.full((530, 560), 0.1, np.float32)
    for name in names:
        top, left, height, width = BODIES[name]
        values[top : top + height, left : left + width] = 0.9
    return values


def surveyed(scene: ArrayScene, folder: Path, rules: MapRules, before: Raster | None = None) -> Judged:
    written(folder / "p.tif", mapped(*BODIES), scene)
    path = None if before is None else written(folder / "before.tif", before, scene)
    model = replace(random_model("rgb"), threshold=0.5)
    sides, found = survey(
        scene, model, folder / "p.tif", folder / "observed.tif", ModelSettings(), event_id="us1", run_key="k", rules=rules,
        before=path,
    )  # fmt: skip
    write_mask(found.kept, sides, scene.grid, folder / "mask.tif")
    return found


def test_what_rules_drop_is_written_with_the_reason_and_not_in_the_mask(scene: ArrayScene, tmp_path: Path) -> None:
    rules = ruled("geology").for_map(scene.grid)
    found = surveyed(scene, tmp_path, rules)
    assert found.counts == {"area": 1, "elongation": 1, "slope": 0, "before": 0}
    with rasterio.open(tmp_path / "mask.tif") as file:
        assert np.array_equal(file.read(1) == 1, mapped("landslide", "old") > 0.5)
    write_layers(found, rules, tmp_path)
    dropped = geopandas.read_file(tmp_path / "dropped.gpkg")
    assert dropped["dropped_because"].tolist() == [
        "elongation: 40.0 times as long as wide, more than 10",
        "area: 200 m² is less than 250 m²",
    ]
    assert set(SCHEMA) <= set(dropped.columns)
    told = rules_facts(rules, found)
    assert told is not None
    assert (told.regions, told.area_m2) == (2, 4200.0)


def test_what_was_mapped_before_is_subtracted_and_what_is_left_of_it_falls_to_the_rules(
    scene: ArrayScene, tmp_path: Path
) -> None:
    before = np.full((530, 560), 0.1, np.float32)
    before[490:502, 202:230] = 0.9  # the old scar but for two columns, of which the margin takes one
    rules = MapRules("geology", GeologyRules(2_000.0))
    found = surveyed(scene, tmp_path, rules, before)
    after = mapped(*BODIES) >= 0.5
    old = mapped("old") >= 0.5
    with rasterio.open(tmp_path / "mask.tif") as file:
        mask = file.read(1) == 1
    assert np.array_equal(mask & ~old, mapped("road", "landslide") >= 0.5), "nothing else is touched"
    assert not (mask & ~subtract(after, before >= 0.5)).any()
    reasons = found.dropped["dropped_because"].tolist()
    assert reasons[0].startswith("before: ")
    assert found.counts == {"area": 2, "elongation": 0, "slope": 0, "before": 1}, "the speck and the sliver"
    pixels = (found.kept["area_m2"].sum() + found.dropped["area_m2"].sum()) / 100
    assert pixels == after.sum(), "nothing disappears"
    told = rules_facts(rules, found)
    assert told is not None
    assert told.dropped["before"] == 1


def test_the_margin_reaches_over_the_edges_of_windows(scene: ArrayScene, tmp_path: Path) -> None:
    before = np.zeros((530, 560), np.float32)
    before[511, 511] = 1
    path = written(tmp_path / "b.tif", before, scene)
    whole = np.zeros((530, 560), bool)
    for rows in (slice(0, 512), slice(512, 530)):
        for columns in (slice(0, 512), slice(512, 560)):
            whole[rows, columns] = mapped_before(path, 0.5, (rows, columns), (530, 560))
    expected = np.zeros_like(whole)
    expected[510:513, 510:513] = True
    assert np.array_equal(whole, expected)


def test_without_rules_small_regions_are_dropped_as_ever(scene: ArrayScene, tmp_path: Path) -> None:
    rules = ruled("none")
    found = surveyed(scene, tmp_path, rules)
    assert (len(found.kept), len(found.dropped)) == (3, 0)
    write_layers(found, rules, tmp_path)
    assert not (tmp_path / "dropped.gpkg").exists()
    assert rules_facts(rules, found) is None


def test_of_themselves_only_networks_of_one_date_get_rules() -> None:
    assert ModelSettings().rules == "auto"
    assert [ruled("auto", bands).name for bands in ("rgb", "ten-band", "rgb-terrain")] == ["geology", "none", "none"]


def test_only_a_network_of_one_date_is_run_on_the_image_before(scene: ArrayScene) -> None:
    geology = ruled("geology")
    assert geology.subtracts(random_model("rgb"), scene)
    assert not geology.subtracts(random_model("ten-band"), scene)
    assert not ruled("none").subtracts(random_model("rgb"), scene)


def test_the_image_before_is_read_as_the_one_after_where_it_was_seen(scene: ArrayScene) -> None:
    scene.observed[0, :9] = Observed.CLOUD
    before = scene_before(scene, random_model("rgb"))
    assert not any(name.endswith("_pre") for name in before.layer_names)
    block = before.read_tile(slice(0, 20), slice(0, 30), ("red_post", "slope"))
    window = np.s_[0:20, 0:30]
    read = scene.read_tile(slice(0, 20), slice(0, 30)).layers["red_pre"]
    if before.histograms.match is None:
        np.testing.assert_array_equal(block.layers["red_post"], read)
    assert (block.observed[1, :9] == Observed.CLOUD).all()
    assert np.array_equal(block.observed[0], scene.observed[0][window])


def learnt(path: Path, **changes: Any) -> str:
    rules = LearntRules(
        GeologyRules(600.0, 8.0, 14.0), 10.0, "m", "ab" * 32, {"iburi": ("iburi-1",)}, False, {"learnt": 0.5}, ()
    )
    write_rules(path, replace(rules, **changes))
    return f"learnt:{path}"


def test_learnt_rules_say_where_they_come_from_and_name_no_file(scene: ArrayScene, tmp_path: Path) -> None:
    rules = ruled(learnt(tmp_path / "rules.json")).for_map(scene.grid)
    assert rules.rules == GeologyRules(600.0, 8.0, 14.0)
    told = rules_facts(rules, surveyed(scene, tmp_path, rules))
    assert told is not None
    assert told.learnt_on == "maps of m in iburi"
    assert str(tmp_path) not in str((told, rules.to_json()))


def test_learnt_rules_are_for_their_own_resolution_and_their_own_kind_of_map(scene: ArrayScene, tmp_path: Path) -> None:
    coarse = ruled(learnt(tmp_path / "a.json", pixel_m=3.0))
    with pytest.raises(DataError, match="3 m"):
        coarse.for_map(scene.grid)
    subtracted = ruled(learnt(tmp_path / "b.json", subtracted=True))
    assert subtracted.subtracts(random_model("rgb"), scene)
    with pytest.raises(BandSetError, match="one date"):
        subtracted.subtracts(random_model("ten-band"), scene)
    both, layers = [random_model("ten-band"), random_model("rgb")], scene.layer_names
    subtracted.require_possible(both, layers)
    coarse.require_possible(both[:1], layers)
    ruled("geology").require_possible(both[:1], layers)
    with pytest.raises(BandSetError, match="one date"):
        subtracted.require_possible(both[:1], layers)
    with pytest.raises(BandSetError, match="needs the image before"):
        subtracted.require_possible(both, [name for name in layers if not name.endswith("_pre")])
    with pytest.raises(DataError, match="no such rules"):
        ruled(f"learnt:{tmp_path / 'c.json'}")


def test_the_paper_s_rules_are_known_with_the_pixel_size(scene: ArrayScene) -> None:
    geology = ruled("geology")
    assert geology.for_map(scene.grid).rules == default_rules(10.0)
    with pytest.raises(ValueError, match="pattern"):
        ModelSettings(rules="nonsense")


def test_the_report_counts_what_each_rule_dropped() -> None:
    told = RulesFacts("geology", "at least 250 m²", {"area": 3, "elongation": 0, "slope": 2, "before": 1}, 5, 12_000.0)
    text = worded(_facts(told))
    assert "5 mapped regions" in text
    assert "3 too small, 2 on flat ground, 1 mapped on the image before as well" in text
    assert worded(_facts(None)) == ""
    assert "nothing" in worded(_facts(replace(told, regions=0)))


def _facts(rules: RulesFacts | None) -> Any:
    return type("Facts", (), {"rules": rules})()


def test_the_decision_about_histograms_is_told(scene: ArrayScene, tmp_path: Path) -> None:
    rules = ruled("geology").for_map(scene.grid)
    found = surveyed(scene, tmp_path, rules)
    before = replace(
        scene_before(scene, random_model("rgb")), histograms=Histogrammed({}, None, "not matched: because")
    )
    told = rules_facts(rules, found, before)
    assert told is not None
    assert told.subtraction == "not matched: because"
