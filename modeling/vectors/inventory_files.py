"""The files of an inventory: GeoPackage, GeoParquet and GeoJSON, all written before any becomes visible."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import geopandas as gpd
import pyarrow as pa
import pyogrio
import pyogrio.errors
from pyproj import CRS

from modeling.errors import InventoryError
from modeling.vectors.inventory import validate_inventory

LAYER = "landslides"
"""Name of the layer inside the GeoPackage."""

_WRITE_ERRORS = (OSError, pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, pa.ArrowException)


def write_inventory(frame: gpd.GeoDataFrame, folder: Path | str, stem: str) -> dict[str, Path]:
    """Write `folder/stem.gpkg`, `.parquet` and `.geojson`; returns `{"gpkg": path, "parquet": path, "geojson": path}`.

    GeoPackage and GeoParquet are in the inventory's own CRS. GeoJSON follows RFC 7946: WGS84, exterior rings
    counterclockwise, cut at the antimeridian, 7 decimals (a centimetre). Files are written beside the target, read
    back, and renamed all at the end. Raises `InventoryError` when `frame` is no inventory or a file cannot be
    written; then older files stay.
    """
    validate_inventory(frame)
    home = Path(folder)
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home, prefix=f".{stem}-", ignore_cleanup_errors=True) as beside:
            made = {kind: Path(beside) / f"{stem}.{kind}" for kind in _WRITERS}
            for kind, path in made.items():
                _WRITERS[kind](frame, path)
                _check(kind, path, frame)
            return {kind: _publish(path, home / path.name) for kind, path in made.items()}
    except _WRITE_ERRORS as error:
        raise InventoryError(f"the inventory cannot be written to {home / stem}.*: {error}") from error


def _publish(made: Path, target: Path) -> Path:
    return made.replace(target)


def _write_gpkg(frame: gpd.GeoDataFrame, path: Path) -> None:
    # The geometry type is stated because an empty frame cannot tell it.
    pyogrio.write_dataframe(frame, path, driver="GPKG", layer=LAYER, geometry_type="Polygon")


def _write_parquet(frame: gpd.GeoDataFrame, path: Path) -> None:
    frame.to_parquet(path, index=False, compression="zstd", schema_version="1.1.0", write_covering_bbox=True)


def _write_geojson(frame: gpd.GeoDataFrame, path: Path) -> None:
    pyogrio.write_dataframe(frame, path, driver="GeoJSON", RFC7946="YES", COORDINATE_PRECISION=7)


_WRITERS: Mapping[str, Callable[[gpd.GeoDataFrame, Path], None]] = {
    "gpkg": _write_gpkg,
    "parquet": _write_parquet,
    "geojson": _write_geojson,
}


def _check(kind: str, path: Path, frame: gpd.GeoDataFrame) -> None:
    """Read the file's own account of itself: a full disk can leave one that opens and lacks something."""
    if kind == "parquet":
        read = gpd.read_parquet(path, columns=["landslide_id", "geometry"])
        rows, crs = len(read), read.crs
    else:
        info = pyogrio.read_info(path, force_feature_count=True)
        rows, crs = info["features"], info["crs"]
        # The spatial index comes last: SQLite can lose it to a full disk and report success.
        if kind == "gpkg" and not info["capabilities"]["fast_spatial_filter"]:
            raise InventoryError(
                f"{path.name} cannot be written in full, its spatial index is not there: is the disk full?"
            )
    expected = CRS("EPSG:4326") if kind == "geojson" else CRS(frame.crs)
    if rows != len(frame) or crs is None or not CRS(crs).equals(expected, ignore_axis_order=True):
        raise InventoryError(
            f"{path.name} cannot be written in full, it has {rows} rows in {crs}, not {len(frame)} in {expected}: "
            "is the disk full?"
        )
