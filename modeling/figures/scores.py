"""Scores as pictures: calibration, landslides by size, and networks beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from modeling.figures.canvas import COLOURS, FAINT, INK, dress, legend, new_figure, save, something
from modeling.scoring.bootstrap import Interval
from modeling.scoring.objects import ObjectCounts
from modeling.scoring.reliability import Reliability


@dataclass(frozen=True)
class Point:
    """One network in a plot of what it scores against what it costs."""

    name: str
    """Written beside the point."""
    cost: float
    """Where it lies along the horizontal axis, positive when that is logarithmic."""
    score: float
    """Where it lies along the vertical axis."""
    low: float | None = None
    """Lower end of the score's interval, if known."""
    high: float | None = None
    """Upper end."""
    group: str = ""
    """Points of one group have one colour, and a line in the legend."""


def reliability_diagram(path: Path, diagrams: Mapping[str, Reliability]) -> Path:
    """Observed share of landslides over predicted probability, and below it how many pixels each bin holds.

    A calibrated map lies on the diagonal; its expected calibration error stands in the legend.
    """
    something("diagram", diagrams)
    figure = new_figure(5.0, 5.6)
    above, below = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    dress(above, y_label="observed share of landslide", grid="both")
    dress(below, x_label="predicted probability", y_label="pixels")
    above.plot((0, 1), (0, 1), color=FAINT, linewidth=1.2, zorder=0)
    for number, (label, diagram) in enumerate(diagrams.items()):
        colour = COLOURS[number % len(COLOURS)]
        filled = [k for k, count in enumerate(diagram.pixels) if count]
        x, y = [diagram.probability[k] for k in filled], [diagram.observed[k] for k in filled]
        name = f"{label}: ECE {diagram.ece:.3f}"
        above.plot(x, y, color=colour, linewidth=1.4, marker="o", markersize=3.5, label=name)
        below.stairs(np.array(diagram.pixels, dtype=np.float64), np.array(diagram.edges), color=colour, linewidth=1.2)
    below.set_yscale("log")
    below.yaxis.set_minor_formatter(NullFormatter())
    below.yaxis.set_major_locator(LogLocator(numticks=4))
    above.set(xlim=(0, 1), ylim=(0, 1))
    # Even a single diagram is named here: the figure is nothing without its error.
    above.legend(frameon=False, fontsize=8, labelcolor=INK, loc="upper left")
    return save(figure, path)


def sizes(
    path: Path,
    counts: Mapping[str, ObjectCounts],
    *,
    recalls: Mapping[str, Sequence[Interval]] | None = None,
    title: str = "",
) -> Path:
    """The share of landslides found, by their size; with `recalls` (of `bootstrap.size_intervals`) as whiskers."""
    something("object count", counts)
    figure = new_figure(6.4, 3.4)
    axes = dress(figure.add_subplot(), x_label="area of the landslide", y_label="share found", title=title)
    rows = next(iter(counts.values())).by_size()
    width = 0.8 / len(counts)
    for number, (label, each) in enumerate(counts.items()):
        place = np.arange(len(rows)) + (number - (len(counts) - 1) / 2) * width
        values = np.array([row["recall"] or 0.0 for row in each.by_size()])
        axes.bar(place, values, width * 0.92, color=COLOURS[number % len(COLOURS)], label=label)
        if recalls is not None and label in recalls:
            ends = np.array([(interval.low, interval.high) for interval in recalls[label]]).T
            # Whiskers go from the bar's end: a draw may lie wholly on one side of it.
            reach = np.maximum(np.abs(ends - values) * ((ends[0] <= values), (ends[1] >= values)), 0)
            axes.errorbar(place, values, yerr=reach, fmt="none", ecolor=INK, elinewidth=0.8, capsize=2)
    axes.set_xticks(
        np.arange(len(rows)), [f"{_size_name(row['low_m2'], row['high_m2'])}\n{row['true']}" for row in rows]
    )
    axes.set_ylim(0, 1)
    axes.annotate(
        "landslides:", (0, 0), (-4, -16.5), "axes fraction", "offset points", ha="right", va="top", fontsize=7
    )
    legend(axes)
    return save(figure, path)


def bars(path: Path, values: Mapping[str, Interval | float], *, x_label: str, title: str = "") -> Path:
    """One line a name, in the order given, from the top: a point, and its interval where there is one."""
    something("value", values)
    figure = new_figure(6.4, 0.8 + 0.28 * len(values))
    axes = dress(figure.add_subplot(), x_label=x_label, title=title, grid="x")
    for row, value in enumerate(values.values()):
        if isinstance(value, Interval):
            axes.plot((value.low, value.high), (row, row), color=COLOURS[0], linewidth=1.6, solid_capstyle="butt")
        middle = value.value if isinstance(value, Interval) else value
        axes.plot([middle], [row], marker="o", markersize=4.5, color=COLOURS[0])
    axes.set_yticks(range(len(values)), list(values))
    axes.set_ylim(len(values) - 0.4, -0.6)
    return save(figure, path)


def benchmark(
    path: Path, points: Sequence[Point], *, cost_label: str, score_label: str, log_cost: bool = True, title: str = ""
) -> Path:
    """Score against cost: the networks to the upper left are the ones to take. Names are set so as not to overlap."""
    something("network", points)
    figure = new_figure(7.4, 5.0)
    axes = dress(figure.add_subplot(), x_label=cost_label, y_label=score_label, title=title, grid="both")
    if log_cost:
        axes.set_xscale("log")
    groups = list(dict.fromkeys(point.group for point in points))
    for number, group in enumerate(groups):
        colour = COLOURS[number % len(COLOURS)]
        members = [point for point in points if point.group == group]
        for point in members:
            if point.low is not None and point.high is not None:
                ends = (point.low, point.high)
                axes.plot((point.cost, point.cost), ends, color=colour, linewidth=1.0, alpha=0.6)
        costs, scores = [point.cost for point in members], [point.score for point in members]
        axes.plot(costs, scores, "o", markersize=5.5, color=colour, label=group or None)
    axes.margins(x=0.12, y=0.1)
    legend(axes)
    _name_points(figure, axes, points)
    return save(figure, path)


def _name_points(figure: Figure, axes: Axes, points: Sequence[Point]) -> None:
    """Write each name on the side of its point where it covers least of what is there already."""
    figure.draw_without_rendering()
    taken = [Bbox.from_extents(x - 5, y - 5, x + 5, y + 5) for x, y in (_pixel(axes, point) for point in points)]
    if (named := axes.get_legend()) is not None:
        taken.append(named.get_window_extent())
    sides = [
        (7, 0),
        (-7, 0),
        (0, 8),
        (0, -8),
        (7, 8),
        (7, -8),
        (-7, 8),
        (-7, -8),
        (9, 18),
        (9, -18),
        (-9, 18),
        (-9, -18),
    ]
    for point in points:
        best: tuple[float, Bbox, tuple[int, int]] | None = None
        place = point.cost, point.score
        label = axes.annotate(point.name, place, (0, 0), textcoords="offset points", fontsize=7.5, color=INK)
        label.set_in_layout(False)
        for side in sides:
            _put(label, side)
            box = label.get_window_extent()
            inside = axes.bbox.padded(4)
            beyond = max(inside.x0 - box.x0, 0) + max(box.x1 - inside.x1, 0)
            covered = beyond * box.height + sum(_shared(box, other) for other in taken)
            if best is None or covered < best[0] - 1e-6:
                best = covered, box, side
        if best is not None:
            _put(label, best[2])
            taken.append(best[1])


def _put(label: object, side: tuple[int, int]) -> None:
    right, up = side
    label.set(  # type: ignore[attr-defined]
        position=side,
        ha="left" if right > 0 else "right" if right < 0 else "center",
        va="bottom" if up > 0 else "top" if up < 0 else "center",
    )


def _pixel(axes: Axes, point: Point) -> tuple[float, float]:
    x, y = axes.transData.transform((point.cost, point.score))
    return float(x), float(y)


def _shared(one: Bbox, other: Bbox) -> float:
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return float(max(width, 0.0) * max(height, 0.0))


def _size_name(low_m2: float, high_m2: float | None) -> str:
    def area(value: float) -> str:
        return f"{value / 10_000:g} ha" if value >= 10_000 else f"{value:g} m²"

    if high_m2 is None:
        return f"over {area(low_m2)}"
    if low_m2 == 0:
        return f"under {area(high_m2)}"
    same = (low_m2 >= 10_000) == (high_m2 >= 10_000)
    return f"{area(low_m2).split()[0] if same else area(low_m2)} to {area(high_m2)}"
