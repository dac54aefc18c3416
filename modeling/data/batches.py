"""What training and evaluation read: batches of patches drawn by number, and blocks of ground in a fixed order.

Training asks a `Sampler` for batch 0, 1, 2 ...; the batch depends on the number and the sampler's seed alone, so a run
that was interrupted goes on with the batches that it would have seen. Validation and test go over `Blocks`: whole
regions or patches, the same ones in the same order at every pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from modeling.errors import DataError

FloatArray = npt.NDArray[np.float32]
ByteArray = npt.NDArray[np.uint8]

IGNORE = 255
"""Truth code of pixels that do not count."""

Batch = tuple[FloatArray, ByteArray]
"""Channels (batch, channel, y, x) in physical units, NaN where unknown; truth (batch, y, x) of 0, 1, `IGNORE`."""


@runtime_checkable
class Sampler(Protocol):
    """A source of training batches."""

    def draw(self, number: int) -> Batch:
        """Batch `number`, from 0 upwards: the same one each time that it is asked for, from any thread."""
        ...


@dataclass(frozen=True, eq=False)
class Block:
    """A piece of ground with its truth: a whole region or one patch."""

    channels: FloatArray
    """(channel, y, x), physical units, NaN where unknown."""
    truth: ByteArray
    """(y, x): 0, 1, or `IGNORE` where a pixel does not count."""
    name: str
    """Unique among the blocks, for messages and tables."""
    domain: str
    """Where it comes from: the simulator's domain, the event, or the imported data set."""
    pixel_m2: float = math.nan
    """Ground area of a pixel in m²; NaN where it is not known."""
    group: str = ""
    """Blocks of one group lie together on the ground, so intervals draw them together; empty: it lies apart."""

    def __post_init__(self) -> None:
        """Raise `DataError` when channels and truth do not fit together."""
        if self.channels.ndim != 3 or self.channels.shape[1:] != self.truth.shape:
            raise DataError(
                f"block {self.name}: channels have shape {self.channels.shape}, truth has {self.truth.shape}; "
                "they must be (channel, y, x) and (y, x) of the same ground"
            )


@runtime_checkable
class Blocks(Protocol):
    """A validation or test set; every pass over it gives the same blocks in the same order, one in memory at a time."""

    def __len__(self) -> int:
        """How many blocks a pass gives."""
        ...

    def __iter__(self) -> Iterator[Block]:
        """A new pass from the first block on."""
        ...
