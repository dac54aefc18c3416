"""Tiny but real products of one version, and the facts about them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
import shapely

from flows.alignment import Alignment
from flows.facts import (
    EventFacts,
    Imagery,
    Landslide,
    Provenance,
    ReportFacts,
    Scores,
    coverage,
    inventory_facts,
)
from gee.types import Grid, Observed
from modeling.rasters.coregister import Shift
from modeling.rasters.radiometry import BandMatch, RadiometricMatch

GRID = Grid("EPSG:32654", (10.0, 0.0, 572_840.0, 0.0, -10.0, 4_735_730.0), (120, 160))
FOOTPRINT = shapely.box(141.88, 42.75, 141.91, 42.77)
CREATED = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
EVENT = EventFacts(
    id="us2000h8ty",
    title="M 6.6 - 27 km E of Tomakomai, Japan",
    time=dt.datetime(2018, 9, 5, 18, 7, 59, tzinfo=dt.UTC),
    magnitude=6.6,
    depth_km=35.0,
    lon=141.929,
    lat=42.686,
    url="https://earthquake.usgs.gov/earthquakes/eventpage/us2000h8ty",
)
SOURCE = Provenance(
    run_key="0123456789abcdef",
    code_version="0.1.0",
    model="resu-senet-slim_ten-band",
    band_set="ten-band",
    weights_hash="ab" * 32,
    threshold=0.41,
    cube_hash="cd" * 32,
    dem="USGS/SRTMGL1_003",
    mask_rule="pre: cs >= 0.60; post: cs >= 0.60",
    area_reason="intensity VI and more",
    settings_hash="ff00",
    settings={"area.minimum_mmi": "6.0"},
    attribution=("Contains modified Copernicus Sentinel data 2018",),
)
PRE = Imagery(
    "pre", ("S2/A",), "2018-06-07 to 2018-09-05", True, dt.date(2018, 8, 1), dt.date(2018, 8, 11)
)  # fmt: skip
POST = Imagery(
    "post", ("S2/B", "S2/C"), "2018-09-05 to 2018-11-04", True, dt.date(2018, 9, 10), dt.date(2018, 9, 15)
)  # fmt: skip
SCORES = (
    Scores("network", {"precision": 0.91, "recall": 0.85, "f1": 0.879, "iou": 0.784, "mcc": 0.87}, {"f1": 0.81}),
    Scores("dNDVI and slope", {"f1": 0.574}, {"f1": 0.41}),
)
ALIGNMENT = Alignment(
    Shift(True, "", 0.10, 0.66, 0.16, 0.07, 34, 56, 0.24, 0.12, 0.2), True, 10.0, "gentle",
    RadiometricMatch("invariant", (BandMatch("red", (0.05, 0.15), (0.04, 0.16), 2120, 0.02, 0.003),)),
)  # fmt: skip
COUNTS = {int(Observed.CLEAR): 14_000, int(Observed.CLOUD): 3_000, int(Observed.NO_PASS): 1_000}


def landslide(area_m2: float, number: int = 1, *, cut_off: bool = False) -> Landslide:
    """A landslide of one size."""
    day = dt.date(2018, 9, 10)
    return Landslide(area_m2, 141.9, 42.7, 120.0, 35.0, 28.4, 0.93, day, number, touches_unobserved=cut_off)


def facts(
    landslides: Sequence[Landslide] = (landslide(4_200.0), landslide(800.0, 2, cut_off=True)),
    *,
    counts: dict[int, int] | None = None,
    run_key: str = SOURCE.run_key,
    simulated: bool = False,
) -> ReportFacts:
    """Facts about a version; nothing in them depends on the clock."""
    return ReportFacts(
        event=replace(EVENT, simulated=simulated),
        coverage=coverage(COUNTS if counts is None else counts, GRID.pixel_m),
        inventory=inventory_facts(landslides),
        imagery=(PRE, POST),
        provenance=replace(SOURCE, run_key=run_key),
        created=CREATED,
    )


def write_rasters(folder: Path, observed: np.ndarray | None = None) -> None:
    """probability.tif, mask.tif and observed.tif on `GRID`."""
    codes = np.full(GRID.shape_yx, Observed.CLEAR, np.uint8) if observed is None else observed
    rows = np.linspace(0, 1, GRID.shape_yx[0], dtype=np.float32)
    probability = np.repeat(rows[:, None], GRID.shape_yx[1], axis=1)
    probability[codes != Observed.CLEAR] = np.nan
    mask = np.where(codes == Observed.CLEAR, probability > 0.5, 255).astype(np.uint8)
    for name, data, nodata in (("probability", probability, np.nan), ("mask", mask, 255), ("observed", codes, 255)):
        profile = {"driver": "GTiff", "crs": GRID.crs, "transform": GRID.affine, "count": 1, "nodata": nodata}
        height, width = data.shape
        with rasterio.open(
            folder / f"{name}.tif", "w", **profile, height=height, width=width, dtype=data.dtype
        ) as file:
            file.write(data, 1)


def polygons(count: int = 3) -> gpd.GeoDataFrame:
    """`count` squares of 60 m in a row from the middle of `GRID` to the right."""
    left, bottom, right, top = GRID.bounds
    x, y = (left + right) / 2, (bottom + top) / 2
    squares = [shapely.box(x + 100 * i, y, x + 100 * i + 60, y + 60) for i in range(count)]
    return gpd.GeoDataFrame({"area_m2": [3600.0] * count}, geometry=gpd.GeoSeries(squares, crs=GRID.crs), crs=GRID.crs)


def write_products(folder: Path, *, note: str = "") -> Path:
    """Every required product; `note` makes the report, and with it the version, differ."""
    folder.mkdir(parents=True, exist_ok=True)
    write_rasters(folder)
    for name in ("landslides.gpkg", "landslides.parquet", "landslides.geojson", "preview.png"):
        (folder / name).write_bytes(f"{name} stands here".encode())
    (folder / "report.html").write_text(f"<!doctype html><title>report</title>{note}")
    return folder
