"""A scene as the unlabelled blocks that adaptation and selection of networks look at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from flows.mapping import NetworkReader, windows
from flows.scene import Scene, Slices
from modeling.bands import BandSet, assemble
from modeling.data.batches import IGNORE, Block
from modeling.domains.fingerprint import spread_evenly


@dataclass(frozen=True)
class SceneBlocks:
    """The windows of a scene as blocks of which no pixel has a truth, read anew on each pass."""

    scene: Scene
    """Imagery and terrain."""
    bands: BandSet
    """What a network sees; pixels of which not all of it was seen are NaN."""
    most: int | None = None
    """Only so many windows, evenly spread, always the same; all of them by default."""

    @property
    def windows(self) -> list[Slices]:
        """Where the blocks lie."""
        everywhere = list(windows(self.scene.grid))
        return everywhere if self.most is None else spread_evenly(everywhere, self.most, 0)

    def __len__(self) -> int:
        return len(self.windows)

    def __iter__(self) -> Iterator[Block]:
        read = NetworkReader(self.scene, self.bands)
        for number, window in enumerate(self.windows):
            layers, valid = read(window)
            channels = assemble(self.bands, layers)
            channels[:, ~valid] = np.nan
            yield Block(channels, np.full(valid.shape, IGNORE, np.uint8), f"window {number}", "scene")
