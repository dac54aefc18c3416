"""The course of a training run as event files, which TensorBoard reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from tensorboardX import SummaryWriter

from modeling.training.progress import Tick

FOLDER = "tensorboard"


class TrainingLog:
    """Writes scalars below `folder/tensorboard`, and tells the caller of the run as well."""

    def __init__(self, folder: Path, *, step: int, tell: Callable[[Tick], None] | None) -> None:
        # With purge_step TensorBoard forgets what an interrupted run had written of the steps that are now done again.
        self._writer = SummaryWriter(str(folder / FOLDER), purge_step=step + 1 if step else None)
        self._tell = tell

    def __enter__(self) -> TrainingLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def tell(self, tick: Tick) -> None:
        """One moment of the run."""
        self._writer.add_scalar("training/loss", tick.loss, tick.step)
        self._writer.add_scalar("training/learning_rate", tick.learning_rate, tick.step)
        self._writer.add_scalar("training/patches_a_second", tick.patches_a_second, tick.step)
        if tick.row is not None:
            self._writer.add_scalar("validation/loss", tick.row.validation_loss, tick.step)
            self._writer.add_scalar("validation/f1", tick.row.validation_f1, tick.step)
            self._writer.add_scalar("validation/training_loss", tick.row.training_loss, tick.step)
            self._writer.flush()
        if self._tell is not None:
            self._tell(tick)
