"""How a training run goes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from modeling.errors import DataError
from modeling.figures.canvas import COLOURS, FAINT, dress, legend, new_figure, save, something


def curves(
    path: Path,
    steps: Sequence[int],
    series: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    title: str = "",
    best_step: int | None = None,
) -> Path:
    """Lines over `steps`, one pair of axes a quantity: {"loss": {"training": ..., "validation": ...}, "F1": {...}}.

    Values that are not finite are left out of their line. `best_step` is marked: the checkpoint that is kept. Raises
    `DataError` when there is nothing to draw or a line has another length than `steps`.
    """
    something("step", steps)
    something("quantity", series)
    figure = new_figure(6.4, 0.6 + 2.0 * len(series))
    for row, (quantity, lines) in enumerate(series.items(), start=1):
        axes = figure.add_subplot(len(series), 1, row)
        last = row == len(series)
        dress(axes, x_label="step" if last else "", y_label=quantity, title=title if row == 1 else "")
        for number, (label, values) in enumerate(lines.items()):
            if len(values) != len(steps):
                raise DataError(f"the line {label!r} of {quantity} has {len(values)} values for {len(steps)} steps")
            known = [(step, value) for step, value in zip(steps, values, strict=True) if math.isfinite(value)]
            axes.plot(
                [step for step, _ in known],
                [value for _, value in known],
                color=COLOURS[number % len(COLOURS)],
                linewidth=1.4,
                marker="o" if len(known) <= 40 else "",
                markersize=2.5,
                label=label,
            )
        if best_step is not None:
            axes.axvline(best_step, color=FAINT, linewidth=1.2, linestyle="--", zorder=0)
            if row == 1:
                axes.annotate("kept", (best_step, 1.0), xycoords=("data", "axes fraction"), fontsize=7, ha="right")
        legend(axes)
    return save(figure, path)
