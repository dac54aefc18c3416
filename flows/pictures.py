"""Pictures of one version: what was seen, what was found, and what was not seen. Matplotlib without a display."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import shapely
from geopandas import GeoDataFrame
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from flows.decimate import (
    Bounds,
    LayerReader,
    Raster,
    SlicesYX,
    area_window,
    decimate_layers,
    decimate_tif,
    window_bounds,
)
from flows.facts import combined_observed
from flows.mapframe import DPI, INK, add_legend, add_map, encode, finish_map, height_of
from flows.observed_colours import CODE_COLOURS
from gee.types import OBSERVED_LABELS, Grid, Observed

WIDTH_PX = 1200
"""Width of a picture of one map."""

MAX_PX = 1400
"""Longest side of the arrays behind a picture."""

Rgba = npt.NDArray[np.float32]

PANEL_PX = 1500
"""Width of the picture with before, after and result side by side."""

_HAZE_SHARE = 0.75
_REPORT_TYPE = "image/jpeg"  # a third of a PNG's bytes for photographs of land
_LEFT_IN, _RIGHT_IN = 0.62, 0.2
_OUTLINE = "#ffd60a"
_HALO = "#3a2f00"
_STRIPE, _GROUND = "#a9afb6", "#dfe2e6"
_PROBABILITY: Colormap = LinearSegmentedColormap.from_list(
    "probability", ["#f7f3e9", "#fbd98b", "#f39c4a", "#d1495b", "#7a1f5c", "#2d0b3a"]
)


@dataclass(frozen=True)
class Picture:
    """One picture of a report."""

    key: str
    """Name within the report: `map`, `detail`, `probability` or `coverage`."""
    title: str
    """Heading."""
    caption: str
    """What it shows, in a sentence or two."""
    alt: str
    """For readers who cannot see it."""
    data: bytes
    """The encoded image."""
    media_type: str
    """`image/png` or `image/jpeg`."""
    size_px: tuple[int, int]
    """Width and height."""


@dataclass(frozen=True)
class MapLayers:
    """What a map is drawn from: small arrays, each with its own bounds."""

    crs: str
    """Of all bounds and polygons."""
    bounds: Bounds
    """The part of the world that the map shows."""
    pre_rgb: Raster | None
    """Reflectance (3, y, x) red, green, blue before the event; None when there is none."""
    post_rgb: Raster
    """The same after it."""
    probability: Raster
    """(1, y, x), NaN where not observed."""
    observed: Raster
    """Combined codes (y, x) of `gee.types.Observed`."""
    landslides: GeoDataFrame
    """Polygons in `crs`."""


Draw = Callable[[Axes, MapLayers], None]


def map_layers(
    read: LayerReader,
    grid: Grid,
    probability: Path,
    observed: Path,
    landslides: GeoDataFrame,
    *,
    window: SlicesYX | None = None,
    with_pre: bool = True,
    max_px: int = MAX_PX,
) -> MapLayers:
    """Read what a map of `window` (the area, and a little around it, by default) needs, decimated to `max_px` a side.

    `read` gives `red_post green_post blue_post`, and the same with `_pre` unless `with_pre` is false. `observed` is a
    GeoTIFF of codes with one band a phase, or one in all.
    """
    window = window or area_window(observed, grid)
    bounds = window_bounds(grid, window)
    phases = ("pre", "post") if with_pre else ("post",)
    names = [f"{colour}_{phase}" for phase in phases for colour in ("red", "green", "blue")]
    rgb = decimate_layers(read, grid, names, window, max_px)  # both phases at once: a chunk holds all bands
    codes = decimate_tif(observed, bounds, max_px, codes=True)
    return MapLayers(
        crs=grid.crs,
        bounds=bounds,
        pre_rgb=Raster(rgb.data[:3], rgb.bounds) if with_pre else None,
        post_rgb=Raster(rgb.data[-3:], rgb.bounds),
        probability=decimate_tif(probability, bounds, max_px),
        observed=Raster(combined_observed(codes.data), codes.bounds),
        landslides=landslides.to_crs(grid.crs).cx[bounds[0] : bounds[2], bounds[1] : bounds[3]],
    )


def preview_png(layers: MapLayers, title: str) -> bytes:
    """The result on the image after the event, with legend, scale bar and north arrow: `preview.png`."""
    return encode(_map_figure(layers, title, _draw_result, _result_legend(layers)), "image/png")[0]


def report_pictures(overview: MapLayers, detail: MapLayers | None, *, simulated: bool) -> tuple[Picture, ...]:
    """The pictures of a report: the map, before and after in detail, the probability, and what was not observed."""
    prefix = "Simulated scene. " if simulated else ""
    count = len(overview.landslides)
    found = f"{count:,} mapped landslides" if count else "no mapped landslide"
    outlined = ", mapped landslides outlined in yellow" if count else ""
    pictures = [
        _picture(
            "map",
            "What was found",
            f"{prefix}The image after the event in natural colours{outlined}. "
            "Striped ground was not observed: nothing is known there.",
            f"Map of the area after the event with {found}; areas that were not observed are striped grey.",
            _map_figure(overview, "", _draw_result, _result_legend(overview)),
        ),
        _picture(
            "probability",
            "Landslide probability",
            f"{prefix}Probability that a pixel is landslide, by the network, from pale (unlikely) to dark (likely).",
            "Map of the landslide probability between 0 and 1; areas that were not observed are striped grey.",
            _map_figure(overview, "", _draw_probability, _unseen_legend(overview), _PROBABILITY),
        ),
        _picture(
            "coverage",
            "What was observed, and what was not",
            f"{prefix}Only the green part was seen clearly both before and after the event.",
            "Map of the observation state of the area: " + _codes_in_words(overview.observed.data) + ".",
            _map_figure(overview, "", _draw_coverage, _coverage_legend(overview)),
        ),
    ]
    if detail is not None:
        pictures.insert(1, _detail_picture(detail, prefix))
    return tuple(pictures)


def _detail_picture(detail: MapLayers, prefix: str) -> Picture:
    return _picture(
        "detail",
        "Before, after, result",
        f"{prefix}The part of the area with the most landslide area: before the event, after it, and what was mapped.",
        "The same piece of land before the event, after the event, and with the mapped landslides outlined.",
        _panel_figure(detail),
    )


def true_colour(rgb: Raster) -> Rgba:
    """Reflectance (3, y, x) as RGBA (y, x, 4) in [0, 1], transparent where unknown.

    Haze lifts each band by its own amount, so most of the darkest percentile is taken off each; all share one range.
    Taking off all of it would turn a plain forest grey.
    """
    values = np.moveaxis(np.asarray(rgb.data, dtype=np.float32), 0, -1)
    known = np.asarray(np.isfinite(values).all(axis=-1))
    out = np.zeros((*known.shape, 4), dtype=np.float32)
    if known.any():
        low, high = np.percentile(values[known], (1, 99), axis=0)
        low = low * _HAZE_SHARE
        span = max(float((high - low).max()), 1e-4)
        out[..., :3] = np.clip((np.where(known[..., None], values, 0) - low) / span, 0, 1) ** 0.8
        out[..., 3] = known
    return out


def stripes(codes: npt.NDArray[np.uint8]) -> Rgba:
    """Codes (y, x) as an overlay (y, x, 4): striped where not observed, a white veil outside, nothing elsewhere."""
    rows, columns = np.indices(codes.shape)
    period = max(max(codes.shape) // 110, 4)
    striped = ((rows + columns) // (period // 2)) % 2 == 0
    out = np.zeros((*codes.shape, 4), dtype=np.float32)
    unseen = (codes != Observed.CLEAR) & (codes != Observed.OUTSIDE)
    out[unseen & striped] = (*to_rgb(_STRIPE), 1)
    out[unseen & ~striped] = (*to_rgb(_GROUND), 1)
    out[codes == Observed.OUTSIDE] = (1, 1, 1, 0.6)
    return out


def _draw_result(axes: Axes, layers: MapLayers) -> None:
    _image(axes, true_colour(layers.post_rgb), layers.post_rgb.bounds)
    _image(axes, stripes(_enlarged(layers.observed.data)), layers.observed.bounds)
    _draw_outlines(axes, layers.landslides)


def _draw_post(axes: Axes, layers: MapLayers) -> None:
    _image(axes, true_colour(layers.post_rgb), layers.post_rgb.bounds)


def _draw_pre(axes: Axes, layers: MapLayers) -> None:
    if layers.pre_rgb is not None:
        _image(axes, true_colour(layers.pre_rgb), layers.pre_rgb.bounds)


def _draw_probability(axes: Axes, layers: MapLayers) -> None:
    left, bottom, right, top = layers.probability.bounds
    axes.imshow(
        layers.probability.data[0], cmap=_PROBABILITY, vmin=0, vmax=1, extent=(left, right, bottom, top),
        interpolation="nearest", aspect="auto",
    )  # fmt: skip
    _image(axes, stripes(_enlarged(layers.observed.data)), layers.observed.bounds)


def _draw_coverage(axes: Axes, layers: MapLayers) -> None:
    table = np.full((256, 4), (*to_rgb(CODE_COLOURS[Observed.OUTSIDE]), 1), dtype=np.float32)
    for code, colour in CODE_COLOURS.items():
        table[code, :3] = to_rgb(colour)
    _image(axes, table[layers.observed.data], layers.observed.bounds)


def _draw_outlines(axes: Axes, landslides: GeoDataFrame) -> None:
    polygons = shapely.get_parts(landslides.geometry.to_numpy())
    rings = [shapely.get_coordinates(ring) for ring in shapely.get_rings(polygons)]
    axes.add_collection(LineCollection(rings, colors=_HALO, linewidths=2.0, alpha=0.5), autolim=False)
    axes.add_collection(LineCollection(rings, colors=_OUTLINE, linewidths=1.0), autolim=False)


def _image(axes: Axes, rgba: Rgba, bounds: Bounds) -> None:
    left, bottom, right, top = bounds
    axes.imshow(rgba, extent=(left, right, bottom, top), interpolation="nearest", aspect="auto")


def _enlarged(codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Small rasters with more pixels, so that stripes stay fine."""
    times = max(800 // max(codes.shape), 1)
    return codes.repeat(times, axis=0).repeat(times, axis=1)


def _result_legend(layers: MapLayers) -> list[Artist]:
    outline = Line2D([], [], color=_OUTLINE, linewidth=2.5, label="mapped landslide")
    return [*([outline] if len(layers.landslides) else []), *_unseen_legend(layers)]


def _unseen_legend(layers: MapLayers) -> list[Artist]:
    codes = set(np.unique(layers.observed.data).tolist())
    entries: list[Artist] = []
    if codes - {Observed.CLEAR, Observed.OUTSIDE}:
        entries.append(Patch(facecolor=_GROUND, edgecolor=_STRIPE, hatch="//////", label="not observed"))
    if Observed.OUTSIDE in codes:
        entries.append(Patch(facecolor="#f4f4f4", edgecolor="#bbbbbb", label="outside the area"))
    return entries


def _coverage_legend(layers: MapLayers) -> list[Artist]:
    codes = [Observed(code) for code in np.unique(layers.observed.data).tolist() if code in CODE_COLOURS]
    return [Patch(facecolor=CODE_COLOURS[c], edgecolor="#999999", label=OBSERVED_LABELS[c]) for c in codes]


def _codes_in_words(codes: npt.NDArray[np.uint8]) -> str:
    inside = codes[codes != Observed.OUTSIDE]
    if not inside.size:
        return "no pixel lies inside the area"
    values, counts = np.unique(inside, return_counts=True)
    shares = sorted(zip(counts / inside.size, values.tolist(), strict=True), reverse=True)
    return ", ".join(f"{OBSERVED_LABELS.get(code, 'unknown')} {share:.0%}" for share, code in shares)


def _map_figure(
    layers: MapLayers, title: str, draw: Draw, legend: Sequence[Artist], scale: Colormap | None = None
) -> Figure:
    """One map over the width of a picture, with a title above and a legend below."""
    width = WIDTH_PX / DPI
    head, foot = (0.5 if title else 0.12), (0.95 if scale else 0.75 if legend else 0.4)
    inner = width - _LEFT_IN - _RIGHT_IN
    height = height_of(layers.bounds, inner)
    figure = Figure(figsize=(width, head + height + foot), dpi=DPI, facecolor="white")
    axes = add_map(figure, (_LEFT_IN, foot, inner, height), layers.bounds, layers.crs)
    draw(axes, layers)
    finish_map(axes, layers.bounds)
    if title:
        figure.text(0.5, 1 - 0.25 / (head + height + foot), title, ha="center", va="center", fontsize=13, color=INK)
    if scale is not None:
        _colour_scale(figure, scale)
    add_legend(figure, legend, 0.14)
    return figure


def _colour_scale(figure: Figure, scale: Colormap) -> None:
    height = figure.get_size_inches()[1]
    axes = figure.add_axes((0.72, 0.42 / height, 0.24, 0.13 / height))
    bar = figure.colorbar(ScalarMappable(Normalize(0, 1), scale), cax=axes, orientation="horizontal")
    bar.set_label("probability of landslide", fontsize=8.5, color=INK, labelpad=1)
    bar.ax.tick_params(labelsize=8, colors=INK, length=2)


def _panel_figure(layers: MapLayers) -> Figure:
    """Before, after and result side by side; without an image before the event, the other two."""
    parts: list[tuple[str, Draw]] = [("After", _draw_post), ("Mapped landslides", _draw_result)]
    if layers.pre_rgb is not None:
        parts.insert(0, ("Before", _draw_pre))
    width, gap, foot = PANEL_PX / DPI, 0.12, 0.5
    inner = (width - 2 * _RIGHT_IN - gap * (len(parts) - 1)) / len(parts)
    height = height_of(layers.bounds, inner)
    figure = Figure(figsize=(width, 0.4 + height + foot), dpi=DPI, facecolor="white")
    for index, (name, draw) in enumerate(parts):
        axes = add_map(figure, (_RIGHT_IN + index * (inner + gap), foot, inner, height), layers.bounds, layers.crs)
        draw(axes, layers)
        finish_map(axes, layers.bounds)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_facecolor(_GROUND)
        axes.set_title(name, fontsize=12, color=INK)
    add_legend(figure, _result_legend(layers), 0.13)
    return figure


def _picture(key: str, title: str, caption: str, alt: str, figure: Figure) -> Picture:
    data, size = encode(figure, _REPORT_TYPE)
    return Picture(key, title, caption, alt, data, _REPORT_TYPE, size)
