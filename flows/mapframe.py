"""The frame around a map: its size, degrees along its edges, a scale bar, a north arrow, a legend."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar  # type: ignore[import-untyped]
from pyproj import Transformer

from flows.decimate import Bounds

DPI = 100
"""Pixels per inch of figures; fonts are sized in points of 1/72 inch."""

INK = "#1d2430"
"""Colour of text and frames."""

MAX_ASPECT, MIN_ASPECT = 1.35, 0.45
"""Height to width of a map's frame; a longer strip is drawn within it, with empty margins."""

_NICE = (0.5, 1.0, 2.0, 5.0)  # the half is for a logarithm that was rounded up to a whole number


def height_of(bounds: Bounds, width: float) -> float:
    """The height of a frame of `width` around `bounds`, in the same unit."""
    left, bottom, right, top = bounds
    return width * min(max((top - bottom) / (right - left), MIN_ASPECT), MAX_ASPECT)


def add_map(figure: Figure, box_in: tuple[float, float, float, float], bounds: Bounds, crs: str) -> Axes:
    """Axes that show `bounds` undistorted inside `box_in` (left, bottom, width, height in inches), with degrees."""
    width, height = figure.get_size_inches()
    left, bottom, box_width, box_height = box_in
    axes = figure.add_axes((left / width, bottom / height, box_width / width, box_height / height))
    axes.set_anchor("C")
    _degrees(axes, bounds, crs)
    axes.tick_params(labelsize=8, colors=INK, length=3, width=0.6)
    for spine in axes.spines.values():
        spine.set(linewidth=0.6, color=INK)
    return axes


def finish_map(axes: Axes, bounds: Bounds) -> None:
    """Fix the view to `bounds` after drawing and add the scale bar and the north arrow."""
    left, bottom, right, top = bounds
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    axes.set_aspect("equal", adjustable="box")
    _scale_bar(axes, bounds)
    _north_arrow(axes)


def add_legend(figure: Figure, entries: Sequence[Any], bottom_in: float) -> None:
    """One row of legend entries, centred, `bottom_in` inches above the lower edge."""
    if entries:
        figure.legend(
            handles=list(entries), loc="lower center", bbox_to_anchor=(0.5, bottom_in / figure.get_size_inches()[1]),
            ncols=len(entries), frameon=False, fontsize=9.5, labelcolor=INK, handlelength=1.8, columnspacing=1.6,
            borderaxespad=0,
        )  # fmt: skip


def encode(figure: Figure, media_type: str) -> tuple[bytes, tuple[int, int]]:
    """The figure as PNG or JPEG, and its width and height in pixels. The same figure gives the same bytes."""
    canvas = FigureCanvasAgg(figure)
    out = io.BytesIO()
    if media_type == "image/png":
        figure.savefig(out, format="png", dpi=DPI, metadata={"Software": None})
    else:
        figure.savefig(out, format="jpeg", dpi=DPI, pil_kwargs={"quality": 88, "optimize": True})
    return out.getvalue(), canvas.get_width_height()


def nice_length(longest: float) -> float:
    """The largest 1, 2 or 5 times a power of ten that is not longer than `longest`."""
    power = 10.0 ** math.floor(math.log10(longest))
    return max(step * power for step in _NICE if step * power <= longest)


def metres_label(metres: float) -> str:
    """A length for people: `500 m`, `2 km`."""
    return f"{metres / 1000:g} km" if metres >= 1000 else f"{metres:g} m"


def _degrees(axes: Axes, bounds: Bounds, crs: str) -> None:
    """Ticks at round longitudes along the lower edge and round latitudes along the left one."""
    left, bottom, right, top = bounds
    transformer = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    x, y = np.linspace(left, right, 64), np.linspace(bottom, top, 64)
    lon = np.unwrap(np.asarray(transformer.transform(x, np.full_like(x, bottom))[0]), period=360)
    lat = np.asarray(transformer.transform(np.full_like(y, left), y)[1])
    axes.set_xticks(*_ticks(lon, x, "E", "W"))
    axes.set_yticks(*_ticks(lat, y, "N", "S"))


def _ticks(degrees: Any, positions: Any, positive: str, negative: str) -> tuple[list[float], list[str]]:
    low, high = float(degrees.min()), float(degrees.max())
    if not (math.isfinite(low) and high > low):
        return [], []
    step = nice_length((high - low) / 2.5)
    values = np.arange(math.ceil(low / step), math.floor(high / step) + 1) * step
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    places = np.interp(values, degrees, positions) if degrees[0] < degrees[-1] else []
    labels = [_degree_label(float(value), digits, positive, negative) for value in values]
    return [float(place) for place in places], labels[: len(places)]


def _degree_label(value: float, digits: int, positive: str, negative: str) -> str:
    value = (value + 180.0) % 360.0 - 180.0
    side = positive if value > 0 else negative if value < 0 else ""
    return f"{abs(value):.{digits}f}°{side}"


def _scale_bar(axes: Axes, bounds: Bounds) -> None:
    left, _, right, _ = bounds
    length = nice_length((right - left) * 0.25)
    bar = AnchoredSizeBar(
        axes.transData, length, metres_label(length), "lower left",
        size_vertical=(right - left) * 0.004, label_top=True, color=INK, pad=0.4, borderpad=0.7, sep=3,
        fontproperties=FontProperties(size=8.5),
    )  # fmt: skip
    bar.patch.set(facecolor="white", alpha=0.85, edgecolor="none")
    bar.set_zorder(6)
    axes.add_artist(bar)


def _north_arrow(axes: Axes) -> None:
    box = {"boxstyle": "round,pad=0.3", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}
    axes.annotate(
        "▲\nN", xy=(1, 1), xycoords="axes fraction", xytext=(-10, -10), textcoords="offset points",
        ha="right", va="top", fontsize=11, fontweight="bold", linespacing=0.95, color=INK, bbox=box, zorder=7,
    )  # fmt: skip
