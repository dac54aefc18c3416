"""flows/writeback.py: the inventory as Earth Engine reads it, under names that are known beforehand."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from fakes.plans import map_plan
from fakes.scenes import array_scene
from shapely.geometry import shape

from flows.settings import EarthEngineSettings, Settings
from flows.writeback import asset_names, write_csv
from modeling.inventory import SCHEMA, empty_inventory, vectorise


def test_assets_have_a_folder_of_their_own_for_each_run() -> None:
    settings = Settings(earthengine=EarthEngineSettings(project="p", asset_root="/maps/quakes/"))
    assert asset_names(map_plan(), settings) == {
        name: f"projects/p/assets/maps/quakes/us2000h8ty/0123456789abcdef/{name}"
        for name in ("probability", "mask", "observed", "landslides")
    }


def test_the_table_is_wgs84_with_every_column_and_blanks_for_what_is_unknown(tmp_path: Path) -> None:
    scene = array_scene((40, 50))
    probability = np.full((40, 50), 0.1, np.float32)
    probability[10:15, 10:20] = 0.9
    scene.layers["slope"][:] = np.nan
    inventory = vectorise(
        probability, threshold=0.5, transform=scene.grid.affine, crs=scene.grid.crs, slope_deg=scene.layers["slope"],
        elevation_m=scene.layers["elevation"], pre_date_days=np.full((40, 50), -1, np.int32),
        post_date_days=scene.date[1], observed=scene.observed[1], event_id="us1", version="1", model="ab",
        minimum_area_m2=0,
    )  # fmt: skip
    write_csv(inventory, tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [set(row) for row in rows] == [set(SCHEMA)]
    row = rows[0]
    assert (row["event_id"], float(row["area_m2"]), row["observed_post"]) == ("us1", 5000.0, "2018-09-10")
    assert (row["slope_mean_deg"], row["observed_pre"]) == ("", "")
    outline = shape(json.loads(row["geometry"]))
    assert (outline.centroid.x, outline.centroid.y) == pytest.approx(
        (float(row["centroid_lon"]), float(row["centroid_lat"])), abs=1e-6
    )


def test_a_table_of_nothing_has_its_columns(tmp_path: Path) -> None:
    write_csv(empty_inventory("EPSG:32654"), tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_text().strip().split(",") == [
        *(n for n in SCHEMA if n != "geometry"),
        "geometry",
    ]
