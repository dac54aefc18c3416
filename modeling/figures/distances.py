"""How far a scene lies from what models have learned, channel by channel, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes

from modeling.figures.canvas import COLOURS, INK, dress, legend, new_figure, save, something

_LONGEST_NAME = 46


@dataclass(frozen=True)
class BandPoint:
    """A channel's distance to one model."""

    distance: float
    """Squared MMD."""
    low: float
    """Lower end of its interval."""
    high: float
    """Upper end."""
    far: bool
    """Whether it is farther than nearly all ground on which that model was validated."""


def distance_chart(path: Path, models: Mapping[str, Mapping[str, BandPoint]], channels: Sequence[str]) -> Path:
    """Distances with their intervals, one row a channel, one colour a model, hollow where they are far.

    Models stand in their order of rank; a model without a channel has no point there.
    """
    something("model", models)
    figure = new_figure(7.0, 1.6 + 0.16 * len(channels) * max(len(models), 2) ** 0.8)
    axes: Axes = figure.subplots()
    dress(axes, x_label="squared maximum mean discrepancy, with its 95 % interval", grid="x")
    gap = 0.7 / len(models)
    for number, (name, bands) in enumerate(models.items()):
        colour = COLOURS[number % len(COLOURS)]
        shift = (number - (len(models) - 1) / 2) * gap
        axes.plot([], [], "o", color=colour, markersize=4.5, label=name[:_LONGEST_NAME])
        for row, channel in enumerate(channels):
            point = bands.get(channel)
            if point is None:
                continue
            axes.plot((point.low, point.high), (row + shift, row + shift), color=colour, linewidth=1.2)
            axes.plot(
                point.distance, row + shift, "o", markersize=4.5, markeredgecolor=colour,
                color="white" if point.far else colour,
            )  # fmt: skip
    axes.plot(
        [], [], "o", markeredgecolor=INK, color="white", markersize=4.5, label="far: beyond 99 % of its own ground"
    )
    axes.set_yticks(range(len(channels)), channels)
    axes.set_ylim(len(channels) - 0.5, -0.5)
    axes.axvline(0, color=INK, linewidth=0.6)
    legend(axes)
    return save(figure, path)
