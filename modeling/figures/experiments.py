"""What an experiment found, as a picture: scores with intervals in groups, the paper's beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from matplotlib.axes import Axes

from modeling.figures.canvas import COLOURS, INK, dress, new_figure, save, something
from modeling.scoring.tables import Estimated

_PANEL_IN = (7.6, 2.9)
_WIDTH = 0.7
"""Share of a group's place that its marks fill."""


class Panel(Protocol):
    """Scores of several series in groups; `modeling.experiments.findings.Chart` is one."""

    @property
    def title(self) -> str:
        """What it shows."""
        ...

    @property
    def groups(self) -> tuple[str, ...]:
        """Names along the axis."""
        ...

    @property
    def series(self) -> Mapping[str, tuple[Estimated | None, ...]]:
        """Name -> one score a group."""
        ...

    @property
    def printed(self) -> Mapping[str, tuple[float | None, ...]]:
        """The same as a paper prints it."""
        ...

    @property
    def axis(self) -> str:
        """What is scored."""
        ...


def panels(path: Path, shown: Sequence[Panel], *, title: str = "") -> Path:
    """Write the panels one below the other: filled marks with intervals are ours, open diamonds the paper's."""
    something("panel", shown)
    figure = new_figure(_PANEL_IN[0], 0.5 + _PANEL_IN[1] * len(shown))
    if title:
        figure.suptitle(title, fontsize=10, color=INK, x=0.01, ha="left")
    for place, panel in enumerate(shown, start=1):
        axes = dress(figure.add_subplot(len(shown), 1, place), y_label=panel.axis, title=panel.title)
        _draw(axes, panel)
    return save(figure, path)


def _draw(axes: Axes, panel: Panel) -> None:
    names = list(panel.series)
    for number, name in enumerate(names):
        colour = COLOURS[number % len(COLOURS)]
        shift = (number - (len(names) - 1) / 2) * _WIDTH / max(len(names), 1)
        found = [(place + shift, each) for place, each in enumerate(panel.series[name]) if each is not None]
        for x, each in found:
            axes.plot((x, x), (each.low, each.high), color=colour, linewidth=1.4, alpha=0.7)
        axes.plot([x for x, _ in found], [each.value for _, each in found], "o", markersize=5, color=colour, label=name)
        there = [(place + shift, value) for place, value in enumerate(panel.printed.get(name, ())) if value is not None]
        if there:
            places, values = [place for place, _ in there], [value for _, value in there]
            marks = axes.plot(places, values, "D", markersize=6, color=colour, label=f"{name}, as printed")
            marks[0].set_markerfacecolor("white")
    axes.set_xticks(range(len(panel.groups)), [group.replace(" ", "\n") for group in panel.groups])
    axes.set_xlim(-0.6, len(panel.groups) - 0.4)
    axes.margins(y=0.12)
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > 1:
        axes.legend(
            handles, labels, frameon=False, fontsize=8, labelcolor=INK, loc="center left", bbox_to_anchor=(1.0, 0.5)
        )
