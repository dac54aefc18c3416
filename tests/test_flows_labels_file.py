"""flows/labels_file.py: whatever format and coordinate system, the same polygons; what is wrong is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas
import pytest
import shapely

from flows.labels_file import LabelsError, read_labels

BOXES = [shapely.box(141.9 + 0.01 * i, 42.7, 141.904 + 0.01 * i, 42.703) for i in range(6)]
CLASSES: list[Any] = ["landslide", "Landslide", 1, "not_landslide", "No Landslide", False]


def features(changes: dict[int, dict[str, Any]] | None = None) -> dict[str, Any]:
    rows: list[dict[str, Any]] = [
        {"type": "Feature", "geometry": shapely.geometry.mapping(box), "properties": {"class": kind}}
        for box, kind in zip(BOXES, CLASSES, strict=True)
    ]
    for index, change in (changes or {}).items():
        rows[index] = {**rows[index], **change}
    return {"type": "FeatureCollection", "features": rows}


def written(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


def test_classes_are_understood_however_they_are_written(tmp_path: Path) -> None:
    labels = read_labels(written(tmp_path / "drawn.geojson", features()))
    assert [polygon.landslide for polygon in labels.polygons] == [True] * 3 + [False] * 3
    assert [polygon.number for polygon in labels.polygons] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("suffix", ["gpkg", "parquet", "fgb", "shp", "geojson"])
@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:32654"])
def test_any_format_in_any_system_gives_the_same_ground(tmp_path: Path, suffix: str, crs: str) -> None:
    frame = geopandas.GeoDataFrame({"label": ["slide"] * 3 + ["other"] * 3}, geometry=BOXES, crs="EPSG:4326").to_crs(
        crs
    )
    path = tmp_path / f"drawn.{suffix}"
    if suffix == "parquet":
        frame.to_parquet(path)
    elif suffix == "geojson" and crs != "EPSG:4326":
        frame.to_file(path, RFC7946="NO")
    else:
        frame.to_file(path, **({"SPATIAL_INDEX": "NO"} if suffix == "fgb" else {}))
    there = read_labels(path).to_crs("EPSG:32654")
    wanted = geopandas.GeoSeries(BOXES, crs=4326).to_crs(32654)
    for polygon, box in zip(there.polygons, wanted, strict=True):
        assert polygon.geometry.symmetric_difference(box).area < 1e-3 * box.area


def test_the_hash_is_that_of_what_was_drawn(tmp_path: Path) -> None:
    first = read_labels(written(tmp_path / "a.geojson", features()))
    (tmp_path / "b.geojson").write_text(json.dumps(features(), indent=3))
    other = read_labels(written(tmp_path / "c.geojson", features({0: {"properties": {"class": 0}}})))
    assert first.sha256 == read_labels(tmp_path / "b.geojson").sha256 != other.sha256


BOWTIE = {
    "type": "Polygon",
    "coordinates": [[[141.9, 42.7], [141.91, 42.71], [141.91, 42.7], [141.9, 42.71], [141.9, 42.7]]],
}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({3: {"properties": {"class": "maybe"}}}, "feature 4 of drawn.geojson has the unknown class 'maybe'"),
        ({2: {"properties": {}}}, "feature 3 of drawn.geojson has no class"),
        ({2: {"properties": {"class": None}}}, "feature 3 of drawn.geojson has no class"),
        ({4: {"geometry": None}}, "feature 5 of drawn.geojson has no geometry"),
        ({1: {"geometry": {"type": "Point", "coordinates": [1, 2]}}}, "feature 2 of drawn.geojson is a Point"),
        ({0: {"geometry": BOWTIE}}, r"feature 1 of drawn.geojson is no valid polygon \(Self-intersection"),
        ({i: {"properties": {"class": "landslide"}} for i in range(6)}, "no polygon of class not-landslide"),
        ({i: {"properties": {"class": "no"}} for i in range(6)}, "no polygon of class landslide"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, changes: dict[int, dict[str, Any]], said: str) -> None:
    with pytest.raises(LabelsError, match=said):
        read_labels(written(tmp_path / "drawn.geojson", features(changes)))


def test_too_few_polygons_and_files_of_other_kinds_are_refused(tmp_path: Path) -> None:
    few = features()
    few["features"] = few["features"][1:5]
    for path, said in (
        (written(tmp_path / "few.geojson", few), "has 4 polygons: draw at least 5"),
        (written(tmp_path / "list.geojson", {"type": "Topology"}), "it is no FeatureCollection"),
        (tmp_path / "none.gpkg", "there is no file"),
        (written(tmp_path / "text.gpkg", "polygons"), "is no file of polygons"),
    ):
        with pytest.raises(LabelsError, match=said):
            read_labels(path)
