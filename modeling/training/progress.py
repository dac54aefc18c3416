"""Where a training run stands: what it stores, what it tells, and when."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

_SECONDS_BETWEEN_TICKS = 0.5
_LARGEST_SHARE_OF_SAVING = 0.05


@dataclass(frozen=True)
class Row:
    """One validation."""

    step: int
    """Steps done by then."""
    training_loss: float
    """Mean over the steps since the row before."""
    validation_loss: float
    """Of the recipe's loss, over the validation set."""
    validation_f1: float
    """Pixel F1 at probability 0.5."""
    learning_rate: float
    """Of the last step."""


@dataclass(frozen=True)
class Tick:
    """What a run tells twice a second and after each validation."""

    step: int
    """Steps done."""
    steps: int
    """Of so many."""
    loss: float
    """Of the last step."""
    learning_rate: float
    """Of the last step."""
    patches_a_second: float
    """Since this process began to train, validations included."""
    row: Row | None = None
    """The validation after the last step, if there was one."""
    curve: tuple[Row, ...] = ()
    """All validations so far, those before an interruption as well."""


@dataclass(frozen=True)
class Progress:
    """Where a training run stands, besides its tensors."""

    step: int = 0
    """Steps done."""
    best_step: int = 0
    """The step of the best validation so far; 0 when there was none."""
    best_score: float | None = None
    """Its loss or F1, whichever the recipe selects by."""
    seconds: float = 0.0
    """Time spent training, over all interruptions."""
    loss_sum: float = 0.0
    """Training loss of the steps since the last validation, added up."""
    stopped_early: bool = False
    """Whether the recipe's patience ended the run."""
    curve: tuple[Row, ...] = ()
    """One row a validation."""

    def mean_loss(self) -> float:
        """Training loss since the last validation."""
        return self.loss_sum / max(self.step - (self.curve[-1].step if self.curve else 0), 1)

    def with_row(self, row: Row, *, select_by: str, patience: int | None) -> Progress:
        """After a validation: the best so far by `loss` or `f1`, and whether patience has run out."""
        score = row.validation_loss if select_by == "loss" else row.validation_f1
        sign = -1 if select_by == "loss" else 1
        better = not math.isnan(score) and (self.best_score is None or sign * score > sign * self.best_score)
        made = replace(self, loss_sum=0.0, curve=(*self.curve, row))
        if better:
            return replace(made, best_step=row.step, best_score=score)
        waited = sum(past.step > self.best_step for past in made.curve)
        return replace(made, stopped_early=patience is not None and waited >= patience)


class Pace:
    """The clock of a run: how long it took, when to tell, and when to save so that saving costs little."""

    def __init__(self, checkpoint_seconds: float, *, spent_before: float) -> None:
        self._begun = self._told = self._saved = time.monotonic()
        self._between_saves, self._spent_before = checkpoint_seconds, spent_before

    def seconds(self) -> float:
        """Time spent, with that before an interruption."""
        return self._spent_before + self.since_begun()

    def since_begun(self) -> float:
        """Time spent by this process."""
        return time.monotonic() - self._begun

    def tells(self) -> bool:
        """Whether it is time to tell; then it is not again for a while."""
        now = time.monotonic()
        due = now - self._told > _SECONDS_BETWEEN_TICKS
        self._told = now if due else self._told
        return due

    def saves(self) -> bool:
        """Whether it is time for a checkpoint."""
        return time.monotonic() - self._saved >= self._between_saves

    def saved(self, took_seconds: float) -> None:
        """A checkpoint was written; those of a large network are written more seldom, unless each step's is wanted."""
        self._saved = time.monotonic()
        if self._between_saves > 0:
            self._between_saves = max(self._between_saves, took_seconds / _LARGEST_SHARE_OF_SAVING)
