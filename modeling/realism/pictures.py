"""Real beside simulated: images, patches, and the curves of what was compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from modeling.figures.canvas import COLOURS, FAINT, INK, LANDSLIDE, dress, legend, new_figure, save
from modeling.realism.classifier import Told
from modeling.realism.mapped import Mapped
from modeling.realism.polygons import RINGS_M, Inventory
from modeling.realism.scenes import FloatArray, Scene

_SHOWN_PX = 480
_LOW, _HIGH = (0.02, 0.04, 0.07), (0.24, 0.21, 0.20)
"""Reflectance of red, green, blue drawn black and white: the same in every image, so that they can be compared."""


def true_colour(scene: Scene, phase: str, window: tuple[slice, slice] = (slice(None), slice(None))) -> FloatArray:
    """(y, x, 3) in 0 to 1 of a window; unknown is white."""
    image = np.stack([scene.layers[f"{colour}_{phase}"][window] for colour in ("red", "green", "blue")], axis=-1)
    low, high = np.array(_LOW, np.float32), np.array(_HIGH, np.float32)
    return np.nan_to_num(np.clip((image - low) / (high - low), 0, 1) ** np.float32(0.75), nan=1.0)


def scenes_beside(path: Path, real: Scene, simulated: Scene) -> Path:
    """Both images of the real pair above those of a simulated pair, in the same colours."""
    figure = new_figure(9.0, 9.2)
    axes = figure.subplots(2, 2)
    for row, scene in enumerate((real, simulated)):
        window = _best_window(scene)
        for column, (phase, when) in enumerate((("pre", "before"), ("post", "after"))):
            axes[row, column].imshow(true_colour(scene, phase, window), interpolation="nearest")
            axes[row, column].set_title(f"{scene.name}, {when}", fontsize=9, color=INK, loc="left")
            axes[row, column].set_axis_off()
    return save(figure, path)


def patches_beside(path: Path, real: Scene, simulated: Sequence[Scene], *, side_px: int = 64, count: int = 8) -> Path:
    """Pieces of 640 m of the image after, drawn evenly from known ground: above real, below simulated."""
    figure = new_figure(1.25 * count, 5.2)
    axes = figure.subplots(4, count)
    rng = np.random.default_rng(0)
    for row in range(4):
        scene = real if row < 2 else simulated[row % len(simulated)]
        known = scene.known("post")
        for column in range(count):
            for _ in range(200):
                top, left = (int(rng.integers(size - side_px)) for size in scene.shape_yx)
                window = slice(top, top + side_px), slice(left, left + side_px)
                if known[window].mean() > 0.98:
                    break
            axes[row, column].imshow(true_colour(scene, "post", window), interpolation="nearest")
            axes[row, column].set_axis_off()
        axes[row, 0].set_title("real" if row < 2 else "simulated", fontsize=8, color=INK, loc="left")
    return save(figure, path)


def map_beside(path: Path, scene: Scene, mapped: Mapped, scars: npt.NDArray[np.bool_]) -> Path:
    """The image after with the outlines of the map, and beside it the map against the rule's scars."""
    seen = np.isfinite(mapped.probability)
    rows = slice(int(np.flatnonzero(seen.any(axis=1))[0]), None)
    figure = new_figure(16.0, 5.6)
    plain, drawn = figure.subplots(1, 2)
    image = true_colour(scene, "post", (rows, slice(None)))
    plain.imshow(image, interpolation="nearest")
    inside = mapped.label[rows] > 0
    outline = inside & ~ndimage.binary_erosion(inside)
    painted = 0.55 * image + 0.45
    kinds = {"#d55e00": scars[rows] & seen[rows], "#0072b2": inside & ~scars[rows], LANDSLIDE: inside & scars[rows]}
    for colour, mask in kinds.items():
        painted[mask] = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    overlaid = image.copy()
    overlaid[outline] = (1.0, 0.95, 0.1)
    plain.imshow(overlaid, interpolation="nearest")
    drawn.imshow(painted, interpolation="nearest")
    plain.set_title("image after, outlines of the map", fontsize=9, color=INK, loc="left")
    drawn.set_title(
        "green: map and bright scar; blue: map alone; orange: bright scar alone", fontsize=9, color=INK, loc="left"
    )
    for axes in (plain, drawn):
        axes.set_axis_off()
    return save(figure, path)


def ndvi_course(path: Path, courses: Mapping[str, Mapping[int, tuple[float, float, float, int]]]) -> Path:
    """Monthly NDVI with quartiles, one line a source."""
    figure = new_figure(6.0, 3.4)
    axes = dress(figure.subplots(), x_label="month", y_label="NDVI of clear pixels")
    for number, (name, course) in enumerate(courses.items()):
        months = sorted(course)
        low, middle, high = (np.array([course[month][i] for month in months]) for i in range(3))
        axes.plot(months, middle, color=COLOURS[number], marker="o", markersize=3.5, label=name)
        axes.fill_between(months, low, high, color=COLOURS[number], alpha=0.18, linewidth=0)
    axes.set_xticks(range(1, 13))
    legend(axes)
    return save(figure, path)


def cumulative(
    path: Path, panels: Mapping[str, Sequence[tuple[str, npt.NDArray[np.floating]]]], columns: int = 3
) -> Path:
    """Cumulative distributions, one panel a quantity, one line a source."""
    rows = -(-len(panels) // columns)
    figure = new_figure(3.4 * columns, 2.7 * rows)
    grid = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for axes, (title, lines) in zip(grid, panels.items(), strict=False):
        dress(axes, x_label=title, y_label="share below")
        for number, (name, values) in enumerate(lines):
            share = np.linspace(0, 1, 201)
            at = np.quantile(values[np.isfinite(values)], share)
            axes.plot(at, share, color=COLOURS[number], linewidth=1.4, label=name)
        legend(axes)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    return save(figure, path)


def clustering(path: Path, inventories: Mapping[str, Inventory]) -> Path:
    """Pairs of landslides by distance, over those of evenly spread points; one thin line a window or region."""
    figure = new_figure(5.4, 3.6)
    axes = dress(figure.subplots(), x_label="distance, m", y_label="times as many pairs as even", grid="both")
    middle = np.sqrt(np.maximum(np.array(RINGS_M[:-1]), 25) * np.array(RINGS_M[1:]))
    for number, (name, inventory) in enumerate(inventories.items()):
        for line in inventory.clustering:
            axes.plot(middle, line, color=COLOURS[number], linewidth=0.6, alpha=0.35)
        axes.plot(middle, np.median(inventory.clustering, axis=0), color=COLOURS[number], linewidth=2.2, label=name)
    axes.axhline(1, color=FAINT)
    axes.set(xscale="log", yscale="log")
    legend(axes)
    return save(figure, path)


def giveaways(path: Path, told: Sequence[Told], most: int = 12) -> Path:
    """The features that alone tell real from simulated best, for each comparison."""
    figure = new_figure(4.6 * len(told), 4.2)
    for axes, one in zip(np.atleast_1d(figure.subplots(1, len(told))), told, strict=True):
        ranked = sorted(one.feature.items(), key=lambda item: -abs(item[1][0] - 0.5))[:most][::-1]
        dress(axes, x_label="AUC alone (above 0.5: larger in the real one)", title=one.what, grid="x")
        axes.barh([name for name, _ in ranked], [value[0] - 0.5 for _, value in ranked], left=0.5, color=COLOURS[0])
        axes.set_xlim(0, 1)
        axes.axvline(0.5, color=INK, linewidth=0.8)
    return save(figure, path)


def _best_window(scene: Scene) -> tuple[slice, slice]:
    """The window of both dates with most known ground."""
    known = scene.known("pre", "post").astype(np.float32)
    rows, columns = scene.shape_yx
    side = min(_SHOWN_PX, rows, columns)
    corners = [(top, left) for top in range(0, rows - side + 1, 40) for left in range(0, columns - side + 1, 40)]
    top, left = max(corners, key=lambda at: known[at[0] : at[0] + side : 8, at[1] : at[1] + side : 8].mean())
    return slice(top, top + side), slice(left, left + side)
