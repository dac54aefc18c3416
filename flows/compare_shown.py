"""A comparison of two versions for people: a table in the terminal, and a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from rich.table import Table

from flows.compare import COLOURS, LABELS, Comparison, Difference
from flows.decimate import decimate_tif
from flows.mapframe import DPI, INK, add_legend, add_map, encode, finish_map, height_of
from flows.wording import km2

WIDTH_PX = 1200
"""Width of the picture."""


def comparison_table(found: Comparison) -> Table:
    """The comparison for a terminal."""
    first, second = found.sides
    simulated = " (simulated)" if found.simulated and "simulated" not in found.title.lower() else ""
    table = Table(title=f"{found.title}{simulated}", title_justify="left")
    table.add_column("what")
    for side in (first, second):
        table.add_column(f"version {side.version}", justify="right")
    table.add_column("difference", justify="right")
    more = second.observed_km2 - first.observed_km2
    table.add_row("observed, km²", km2(first.observed_km2), km2(second.observed_km2), _signed(more))
    table.add_row(
        "landslides", f"{first.landslides:,}", f"{second.landslides:,}", f"{second.landslides - first.landslides:+,}"
    )
    areas = [side.landslide_area_m2 / 1e6 for side in (first, second)]
    table.add_row("their area, km²", km2(areas[0]), km2(areas[1]), _signed(areas[1] - areas[0]))
    new = len(set(second.scenes_after) - set(first.scenes_after))
    table.add_row("images after", str(len(first.scenes_after)), str(len(second.scenes_after)), f"{new} new")
    table.add_section()
    for label, area in found.km2.items():
        table.add_row(label, "", "", f"{km2(area)} km²")
    table.add_section()
    for what, count in found.landslides.items():
        table.add_row(f"landslides {what}", "", "", f"{count:,}")
    return table


def _signed(value: float) -> str:
    return "0" if value == 0 else f"{'+' if value > 0 else '−'}{km2(abs(value))}"


def comparison_png(found: Comparison, path: Path) -> bytes:
    """The differences in compare.tif (`path`) as a map with a legend, PNG."""
    with rasterio.open(path) as source:
        bounds, crs = tuple(source.bounds), f"EPSG:{source.crs.to_epsg()}"
    width, edge, foot = WIDTH_PX / DPI, 0.2, 1.0
    height = height_of(bounds, width - 2 * edge)
    figure = Figure(figsize=(width, 0.5 + height + foot), dpi=DPI, facecolor="white")
    axes = add_map(figure, (edge + 0.42, foot, width - 2 * edge - 0.42, height), bounds, crs)
    raster = decimate_tif(path, bounds, WIDTH_PX, codes=True)
    values = raster.data.reshape(raster.data.shape[-2:])
    image = np.ones((*values.shape, 3), np.float32)
    for code in Difference:
        image[values == code] = to_rgb(COLOURS[code])
    left, bottom, right, top = raster.bounds
    axes.imshow(image, extent=(left, right, bottom, top), interpolation="nearest", aspect="auto")
    finish_map(axes, bounds)
    simulated = "SIMULATED. " if found.simulated else ""
    first, second = found.sides
    axes.set_title(f"{simulated}{found.title}: version {first.version} to {second.version}", fontsize=12, color=INK)
    present = [code for code in Difference if found.km2[LABELS[code]] > 0]
    entries = [Patch(facecolor=COLOURS[code], edgecolor="#888888", label=LABELS[code]) for code in present]
    add_legend(figure, entries[:4], 0.42)
    add_legend(figure, entries[4:], 0.13)
    return encode(figure, "image/png")[0]
