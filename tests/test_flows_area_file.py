"""Areas from files: every format in any coordinate system, and everything that is no area."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas
import pytest
import shapely
from pyproj import Transformer
from shapely.geometry import MultiPolygon, Polygon, box

from flows.area import (
    area_from_file,
)
from flows.errors import AreaError

SQUARE = box(142.0, 42.0, 142.2, 42.1)


def write(path: Path, crs: str = "EPSG:4326", geometries: list[Any] | None = None) -> Path:
    frame = geopandas.GeoDataFrame(geometry=geometries or [SQUARE], crs="EPSG:4326").to_crs(crs)
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_file(path)
    return path


@pytest.mark.parametrize("suffix", [".geojson", ".gpkg", ".parquet", ".fgb", ".shp"])
@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:32654", "EPSG:3857"])
def test_every_format_in_any_coordinate_system_gives_the_same_area(tmp_path: Path, suffix: str, crs: str) -> None:
    area = area_from_file(write(tmp_path / f"aoi{suffix}", crs))
    assert area.geometry.symmetric_difference(SQUARE).area < 1e-6
    assert area.reason == f"given by file aoi{suffix}"


def test_the_format_is_told_by_the_content_not_by_the_name(tmp_path: Path) -> None:
    path = write(tmp_path / "aoi.gpkg").rename(tmp_path / "aoi.txt")
    assert area_from_file(path).geometry.area == pytest.approx(0.02)


@pytest.mark.parametrize("kind", ["geometry", "feature", "collection", "bom"])
def test_any_geojson_object_is_an_area(tmp_path: Path, kind: str) -> None:
    geometry = shapely.geometry.mapping(SQUARE)
    feature = {"type": "Feature", "properties": {}, "geometry": geometry}
    none = {"type": "Feature", "properties": {}, "geometry": None}
    value = {"geometry": geometry, "feature": feature}.get(
        kind, {"type": "FeatureCollection", "features": [none, feature]}
    )
    (tmp_path / "a.json").write_text(("\ufeff" if kind == "bom" else "") + json.dumps(value), encoding="utf-8")
    assert area_from_file(tmp_path / "a.json").geometry.equals(SQUARE)


VRT = '<OGRVRTDataSource><OGRVRTLayer name="x"><SrcDataSource>/etc/passwd</SrcDataSource></OGRVRTLayer>'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "aoi.gpkg is empty"),
        (b"some notes on landslides", "no file of polygons"),
        (VRT.encode(), "no file of polygons"),
        (b'{"type": "FeatureCollection", "features": []}', "holds no geometry"),
        (b'{"type": "Feature", "geometry": null}', "holds no geometry"),
        (b'{"type": "Point", "coordinates": [1, 2]}', "no polygons"),
        (b'{"type": "Topology"}', "its type is 'Topology'"),
        (b'{"type": "Polygon", "coordinates": [[["a"]]]}', "not GeoJSON that can be read"),
        (b'{"type": "FeatureCollection", "features": [{}]}', "not GeoJSON that can be read"),
        (b'{"a":' * 100_000, "not GeoJSON that can be read"),
        (b"{" * 10, "not GeoJSON that can be read"),
        (b'{"type": "Point", "coordinates": [1, 2], "crs": {"properties": {"name": "EPSG:0"}}}', "not GeoJSON"),
        (b"SQLite format 3\0 and then nothing of the kind", "cannot be read"),
        (b"PAR1 and then nothing of the kind", "not GeoParquet"),
        (b"\x00\x00\x27\x0a and then nothing", "cannot be read"),
    ],
)
def test_a_file_that_is_no_area_says_why(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "aoi.gpkg").write_bytes(content)
    with pytest.raises(AreaError, match=message):
        area_from_file(tmp_path / "aoi.gpkg")


def test_files_without_polygons_or_system_or_with_two_layers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AreaError, match="there is no file"):
        area_from_file(tmp_path / "none.gpkg")
    with pytest.raises(AreaError, match="no polygons"):
        area_from_file(write(tmp_path / "points.gpkg", geometries=[shapely.Point(1, 2)]))
    with pytest.raises(AreaError, match=r"bare.shp has no coordinate system"):
        bare = write(tmp_path / "bare.shp")
        bare.with_suffix(".prj").unlink()
        area_from_file(bare)
    two = write(tmp_path / "two.gpkg")
    geopandas.GeoDataFrame(geometry=[SQUARE], crs="EPSG:4326").to_file(two, layer="second")
    with pytest.raises(AreaError, match=r"2 layers \(two, second\)"):
        area_from_file(two)


def test_a_file_larger_than_the_cap_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.area_file.MAX_BYTES", 10)
    with pytest.raises(AreaError, match="more than the 10 that are read"):
        area_from_file(write(tmp_path / "aoi.gpkg"))


def test_polygons_of_a_pacific_map_are_split_at_the_antimeridian(tmp_path: Path) -> None:
    path = tmp_path / "fiji.gpkg"
    to_map = Transformer.from_crs("EPSG:4326", "EPSG:3832", always_xy=True)
    corners = [to_map.transform(*c) for c in [(179.5, -17), (180.5, -17), (180.5, -16), (179.5, -16)]]
    geopandas.GeoDataFrame(geometry=[Polygon(corners)], crs="EPSG:3832").to_file(path)
    geometry = area_from_file(path).geometry
    assert isinstance(geometry, MultiPolygon)
    assert geometry.area == pytest.approx(1.0)
