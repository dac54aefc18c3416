"""Explanations as pictures: where a network looks, and which bands it listens to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from matplotlib.colors import LinearSegmentedColormap, ListedColormap

from modeling.errors import DataError
from modeling.figures.canvas import COLOURS, FALSE, INK, LANDSLIDE, MISSED, dress, new_figure, save, something

if TYPE_CHECKING:  # these load torch, which drawing does not need
    from modeling.explaining.ablation import Ablation
    from modeling.explaining.explain_attention import BandAttention

FloatArray = npt.NDArray[np.float32]
ByteArray = npt.NDArray[np.uint8]

_UNKNOWN = 255
_HEAT = LinearSegmentedColormap.from_list("heat", ["#2d0b3a00", "#7a1f5c80", "#f39c4ac0", "#fff3b0e0"])
_AGREEMENT = ListedColormap(["#f2f3f5", LANDSLIDE, MISSED, FALSE, "#9aa1ab"])


def cam_panels(
    path: Path,
    rgb: FloatArray,
    truth: ByteArray,
    probability: FloatArray,
    cam: FloatArray,
    *,
    threshold: float = 0.5,
    title: str = "",
) -> Path:
    """Four panels of one block: the image, the probability, what was right and wrong, and Grad-CAM over the image.

    `rgb` is (y, x, 3), reflectance or anything from 0 to 1, stretched here to its 2nd and 98th percentile; the others
    are (y, x), `truth` of 0, 1 and 255 where nothing is known. Raises `DataError` when shapes do not fit together.
    """
    shape = truth.shape
    if rgb.shape != (*shape, 3) or probability.shape != shape or cam.shape != shape:
        raise DataError(f"panels of {rgb.shape}, {shape}, {probability.shape} and {cam.shape} do not fit together")
    image = _stretched(rgb)
    aspect = shape[0] / shape[1]
    figure = new_figure(11.0, 2.6 * min(max(aspect, 0.4), 2.0) + 0.8)
    panels = figure.subplots(1, 4)
    mapped, real, known = probability >= threshold, truth == 1, truth != _UNKNOWN
    agreement = np.select([~known, mapped & real, real, mapped], [4, 1, 2, 3], 0)
    for axes, name in zip(panels, ("image", "probability", "", "Grad-CAM"), strict=True):
        axes.set_title(name, fontsize=9, color=INK)
        axes.set_axis_off()
    panels[0].imshow(image)
    panels[1].imshow(probability, cmap="magma", vmin=0, vmax=1)
    panels[2].imshow(agreement, cmap=_AGREEMENT, vmin=0, vmax=4, interpolation="nearest")
    panels[3].imshow(image)
    panels[3].imshow(cam, cmap=_HEAT, vmin=0, vmax=1)
    for place, (name, colour) in enumerate((("found", LANDSLIDE), ("missed", MISSED), ("false", FALSE))):
        panels[2].annotate(name, (0.17 + 0.33 * place, 1.0), (0, 4), "axes fraction", "offset points",
                           ha="center", va="bottom", fontsize=9, color=colour)  # fmt: skip
    if title:
        figure.suptitle(title, fontsize=10, color=INK)
    return save(figure, path)


def attention(path: Path, found: Sequence[BandAttention], *, title: str = "") -> Path:
    """Two tables of colour, attention by band: the band's weight beside the mean weight, and how much it moves them."""
    something("channel attention", found)
    bands = list(found[0].by_band)
    above = np.array([[each.by_band[band] - each.mean_weight for band in bands] for each in found])
    shift = np.array([[each.shift[band] for band in bands] for each in found])
    figure = new_figure(2.2 + 0.95 * len(bands), 1.7 + 0.3 * len(found))
    left, right = figure.subplots(1, 2, sharey=True)
    reach = max(float(np.abs(above).max()), 1e-9)
    most = max(float(shift.max()), 1e-9)
    for axes, values, name, colours, limits in (
        (left, above, "weight minus mean weight", "RdBu_r", (-reach, reach)),
        (right, shift, "shift of the weights without it", "Purples", (0.0, most)),
    ):
        shown = axes.imshow(values, cmap=colours, vmin=limits[0], vmax=limits[1], aspect="auto")
        dress(axes, title=name, grid="")
        axes.set_xticks(range(len(bands)), bands, rotation=60, ha="right", rotation_mode="anchor")
        bar = figure.colorbar(shown, ax=axes, pad=0.02)
        bar.ax.tick_params(labelsize=7, colors=INK)
    left.set_yticks(range(len(found)), [f"{each.module} ({len(each.weights)})" for each in found])
    if title:
        figure.suptitle(title, fontsize=10, color=INK)
    return save(figure, path)


def ablation(path: Path, found: Ablation, *, title: str = "") -> Path:
    """The F1 that each group of bands is worth, most first, with its interval."""
    something("group of bands", found.rows)
    rows = sorted(found.rows, key=lambda row: row.change.interval.value)
    figure = new_figure(6.4, 0.9 + 0.26 * len(rows))
    label = f"change of F1 ({found.whole['f1']:.3f}) with the bands {found.way}"
    axes = dress(figure.add_subplot(), x_label=label, title=title, grid="x")
    for place, row in enumerate(rows):
        change = row.change.interval
        colour = COLOURS[0] if len(row.channels) == 1 else COLOURS[1]
        axes.barh(place, change.value, 0.66, color=colour)
        axes.plot((change.low, change.high), (place, place), color=INK, linewidth=0.9)
    axes.axvline(0, color=INK, linewidth=0.6)
    axes.set_yticks(range(len(rows)), [row.group for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    return save(figure, path)


def _stretched(rgb: FloatArray) -> FloatArray:
    """(y, x, 3) from 0 to 1, between the 2nd and 98th percentile of each band; grey where nothing is known."""
    known: npt.NDArray[np.bool_] = np.asarray(np.isfinite(rgb).all(axis=2))
    if not known.any():
        return np.full(rgb.shape, 0.5, dtype=np.float32)
    low, high = np.percentile(rgb[known], (2, 98), axis=0)
    scaled = np.clip((rgb - low) / np.maximum(high - low, 1e-6), 0, 1)
    return np.where(known[:, :, np.newaxis], scaled, 0.5).astype(np.float32)
