"""What all figures share: size, ink, colours, and how a file comes into its place whole."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from modeling.errors import DataError

DPI = 120
INK, FAINT = "#1d2430", "#c9cdd3"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5c4b8a", "#7a7a7a")
"""Told apart with any colour vision (after Okabe and Ito), most different first."""
LANDSLIDE, MISSED, FALSE = "#009e73", "#d55e00", "#e69f00"


def new_figure(width_in: float, height_in: float) -> Figure:
    """An empty figure that lays out its axes by itself."""
    figure = Figure(figsize=(width_in, height_in), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def dress(axes: Axes, *, x_label: str = "", y_label: str = "", title: str = "", grid: str = "y") -> Axes:
    """The house's look: two spines, small ink, a faint grid along `grid` (x, y, both or empty)."""
    axes.set_xlabel(x_label, fontsize=9, color=INK)
    axes.set_ylabel(y_label, fontsize=9, color=INK)
    if title:
        axes.set_title(title, fontsize=10, color=INK, loc="left")
    axes.tick_params(labelsize=8, colors=INK, length=3, width=0.6)
    for name, spine in axes.spines.items():
        spine.set_visible(name in {"left", "bottom"})
        spine.set(linewidth=0.6, color=INK)
    axes.set_axisbelow(True)
    if grid:
        axes.grid(axis=grid, color=FAINT, linewidth=0.5)  # type: ignore[arg-type]  # one of matplotlib's three words
    return axes


def legend(axes: Axes) -> None:
    """A legend without a frame, where it covers least, when there is more than one thing to name."""
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > 1:
        axes.legend(handles, labels, frameon=False, fontsize=8, labelcolor=INK, loc="best")


def save(figure: Figure, path: Path) -> Path:
    """Write `figure` as the PNG or, for photographs, the JPEG `path`, complete or not at all; missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        if path.suffix == ".jpg":
            figure.savefig(beside, format="jpg", dpi=DPI, pil_kwargs={"quality": 88})
        else:
            figure.savefig(beside, format="png", dpi=DPI, metadata={"Software": None})
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def something(what: str, values: Iterable[object]) -> None:
    """Raise `DataError` when there is nothing to draw."""
    if not any(True for _ in values):
        raise DataError(f"there is nothing to draw: no {what}")
