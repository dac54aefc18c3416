"""A model against the truth of a validation or test set: counts of pixels and landslides, block by block.

Everything that is reported follows from the counts, which add up over blocks: scores are those of the whole set and
never means over batches, and intervals come from drawing blocks again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby, islice
from math import isfinite
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from modeling.calibrated import calibrated_logit
from modeling.data.batches import IGNORE, Block, Blocks
from modeling.errors import DataError, ModelingError
from modeling.scoring.bootstrap import Interval, intervals, object_intervals
from modeling.scoring.counting import MatchedCounts, matched_counts
from modeling.scoring.metrics import Confusion, confusion
from modeling.scoring.objects import ObjectCounts, object_counts
from modeling.scoring.reliability import MarginHistogram, Reliability, reliability

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

Margin = Callable[[torch.Tensor], torch.Tensor]
"""Physical channel values (batch, channel, y, x) to the logit of "landslide" (batch, y, x)."""
Told = Callable[[int, int], None]
"""Hears (blocks done, blocks in all)."""

PIXEL_M2 = 100.0
"""Ground area of a pixel where a block does not say: that of 10 m, the grid of this package."""
BATCH_PIXELS = 1 << 17
"""So many pixels go through the network at once: 16 patches of 88 pixels, or half of a 512-pixel tile."""
PIECE_PX = 1024
"""Longest side that is computed in one piece."""
HALO_PX = 64
"""Context around a piece, thrown away."""


class Scorable(Protocol):
    """What evaluation asks of a model; `modeling.model.LandslideModel` is one."""

    @property
    def temperature(self) -> float:
        """Margins are divided by it."""
        ...

    @property
    def sure_margin(self) -> float:
        """Margin from which 0.9 and more is stated; 0: as the temperature says."""
        ...

    @property
    def threshold(self) -> float:
        """Probability from which a pixel counts as landslide."""
        ...

    def margin(self, x: torch.Tensor) -> torch.Tensor:
        """As `Margin`."""
        ...


@dataclass(frozen=True)
class BlockScore:
    """What was counted in one block."""

    name: str
    """Of the block."""
    domain: str
    """Where it comes from."""
    pixels: Confusion
    """Counted over the pixels with a truth."""
    objects: ObjectCounts
    """Landslides, by size."""
    group: str = ""
    """Blocks of one group are drawn together; empty: it lies apart from all others."""
    matched: MatchedCounts | None = None
    """Landslides one for one, by size; None where nobody asked for them."""

    def __add__(self, other: BlockScore) -> BlockScore:
        """Both as one, under the first one's name."""
        matched = None if self.matched is None or other.matched is None else self.matched + other.matched
        return replace(self, pixels=self.pixels + other.pixels, objects=self.objects + other.objects, matched=matched)


@dataclass(frozen=True)
class Evaluation:
    """Counts over a test set."""

    blocks: tuple[BlockScore, ...]
    """In the order of the set."""
    margins: Mapping[str, MarginHistogram]
    """Domain -> distribution of the margin; empty when a mask was scored, which has no probability."""
    temperature: float
    """What probabilities were computed with."""
    threshold: float
    """What the map was cut at."""
    sure_margin: float = 0.0
    """Margin from which a probability of 0.9 and more was stated; 0: as the temperature says."""

    @property
    def domains(self) -> tuple[str, ...]:
        """In the order in which they appear."""
        return tuple(dict.fromkeys(block.domain for block in self.blocks))

    @property
    def pixels(self) -> Confusion:
        """Pixel counts of the whole set."""
        return sum((block.pixels for block in self.blocks), Confusion())

    @property
    def objects(self) -> ObjectCounts:
        """Landslide counts of the whole set."""
        first, *others = (block.objects for block in self.blocks)
        return sum(others, first)

    @property
    def matched(self) -> MatchedCounts | None:
        """Landslides of the whole set one for one; None where they were not counted so."""
        first, *others = self.blocks
        return sum(others, first).matched

    def scores(self) -> dict[str, float]:
        """Pixel scores of the whole set, as `metrics.SCORES` names them."""
        return self.pixels.scores()

    def of(self, domain: str) -> Evaluation:
        """The part of one domain; raises `DataError` when there is none."""
        part = tuple(block for block in self.blocks if block.domain == domain)
        if not part:
            raise DataError(f"nothing of {domain!r} was evaluated: choose one of {', '.join(self.domains)}")
        return replace(self, blocks=part, margins={name: of for name, of in self.margins.items() if name == domain})

    def ground(self) -> tuple[BlockScore, ...]:
        """The counts of what lies apart on the ground: blocks of one group as one, in order of their first."""
        together: dict[tuple[str, str], BlockScore] = {}
        for block in self.blocks:
            key = block.domain, block.group or block.name
            together[key] = together[key] + block if key in together else replace(block, name=key[1])
        return tuple(together.values())

    def intervals(self, *, resamples: int = 1000, seed: int = 0) -> dict[str, Interval]:
        """95 % intervals of the pixel scores: pieces of ground are drawn again, each domain for itself."""
        ground = self.ground()
        parts, strata = [piece.pixels for piece in ground], [piece.domain for piece in ground]
        return intervals(parts, strata=strata, resamples=resamples, seed=seed)

    def object_intervals(self, *, resamples: int = 1000, seed: int = 0) -> dict[str, Interval]:
        """95 % intervals of precision, recall and F1 counted in landslides."""
        ground = self.ground()
        parts, strata = [piece.objects for piece in ground], [piece.domain for piece in ground]
        return object_intervals(parts, strata=strata, resamples=resamples, seed=seed)

    def matched_ground(self) -> list[MatchedCounts] | None:
        """Landslides one for one in each of `ground`; None where they were not counted so."""
        counted = [piece.matched for piece in self.ground() if piece.matched is not None]
        return counted if len(counted) == len(self.ground()) else None

    def matched_intervals(self, *, resamples: int = 1000, seed: int = 0) -> dict[str, Interval]:
        """95 % intervals of precision, recall and F1 of landslides one for one.

        Raises `DataError` where they were not counted so.
        """
        parts = self.matched_ground()
        if parts is None:
            raise DataError("landslides were not matched one for one in this evaluation: evaluate again with `matched`")
        return object_intervals(parts, strata=[piece.domain for piece in self.ground()], resamples=resamples, seed=seed)

    def reliability(self, bins: int = 15) -> Reliability | None:
        """How often a stated probability came true; None when a mask was scored."""
        if not self.margins:
            return None
        first, *others = self.margins.values()
        return reliability(sum(others, first), self.temperature, bins, sure_margin=self.sure_margin)

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` reads them."""
        return {
            "temperature": self.temperature,
            "threshold": self.threshold,
            **({"sure_margin": self.sure_margin} if self.sure_margin else {}),
            "blocks": [
                {
                    "name": block.name,
                    "domain": block.domain,
                    "group": block.group,
                    "pixels": list(block.pixels.counts),
                    "objects": block.objects.to_json(),
                    **({} if block.matched is None else {"matched": block.matched.to_json()}),
                }
                for block in self.blocks
            ],
            "margins": {domain: histogram.to_json() for domain, histogram in self.margins.items()},
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Evaluation:
        """The inverse of `to_json`; raises `DataError` when something is missing or not a count."""
        try:
            return cls(
                blocks=tuple(
                    BlockScore(
                        str(block["name"]),
                        str(block["domain"]),
                        Confusion(*(int(count) for count in block["pixels"])),
                        ObjectCounts.from_json(block["objects"]),
                        str(block["group"]),
                        MatchedCounts.from_json(block["matched"]) if "matched" in block else None,
                    )
                    for block in stored["blocks"]
                ),
                margins={domain: MarginHistogram.from_json(each) for domain, each in stored["margins"].items()},
                temperature=float(stored["temperature"]),
                threshold=float(stored["threshold"]),
                sure_margin=float(stored.get("sure_margin", 0.0)),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"this is not a stored evaluation: {error!r}") from error


def evaluate(
    model: Scorable,
    blocks: Blocks,
    *,
    device: torch.device | str = "cpu",
    matched: bool = False,
    told: Told | None = None,
) -> Evaluation:
    """Score a model with its own temperature and threshold; neither is ever fitted here.

    `matched` counts landslides one for one as well (`modeling.scoring.counting`).
    """
    return evaluate_margin(
        model.margin, blocks, temperature=model.temperature, threshold=model.threshold, sure_margin=model.sure_margin,
        device=device, matched=matched, told=told,
    )  # fmt: skip


def evaluate_margin(
    margin: Margin,
    blocks: Blocks,
    *,
    temperature: float = 1.0,
    threshold: float = 0.5,
    sure_margin: float = 0.0,
    device: torch.device | str = "cpu",
    matched: bool = False,
    told: Told | None = None,
) -> Evaluation:
    """Score the calibrated probability (`modeling.calibrated`) >= threshold over blocks; `matched` is as for `evaluate`.

    Raises `DataError` when there is no block or no pixel with a truth, `ModelingError` when the network gives NaN.
    """
    counted: list[BlockScore] = []
    histograms: dict[str, MarginHistogram] = {}
    for block, values in block_margins(margin, blocks, device=device):
        probability = torch.sigmoid(calibrated_logit(torch.from_numpy(values), temperature, sure_margin)).numpy()
        counted.append(_count(block, probability >= threshold, matched=matched))
        known = MarginHistogram.of(values, block.truth == 1, block.truth != IGNORE)
        histograms[block.domain] = histograms[block.domain] + known if block.domain in histograms else known
        if told is not None:
            told(len(counted), len(blocks))
    return _checked(Evaluation(tuple(counted), histograms, temperature, threshold, sure_margin))


def evaluate_mask(predict: Callable[[Block], BoolArray], blocks: Blocks, *, told: Told | None = None) -> Evaluation:
    """Score masks, bool (y, x), that come without a probability: a rule or somebody else's map."""
    counted: list[BlockScore] = []
    for block in blocks:
        counted.append(_count(block, predict(block), matched=False))
        if told is not None:
            told(len(counted), len(blocks))
    return _checked(Evaluation(tuple(counted), {}, 1.0, 0.5))


def block_margins(
    margin: Margin, blocks: Blocks, *, device: torch.device | str = "cpu", batch_pixels: int = BATCH_PIXELS
) -> Iterator[tuple[Block, FloatArray]]:
    """Every block in order with its margin, float32 (y, x).

    Neighbours of equal shape go through the network together, up to `batch_pixels`. A block longer than `PIECE_PX` is
    computed in pieces with `HALO_PX` of context around them, so that its memory is bounded.
    """
    for shape, alike in groupby(blocks, key=lambda block: block.channels.shape):
        if max(shape[1:]) > PIECE_PX:
            for block in alike:
                yield block, _in_pieces(margin, block, device)
            continue
        together = max(1, batch_pixels // (shape[1] * shape[2]))
        while batch := list(islice(alike, together)):
            values = _margins(margin, np.stack([block.channels for block in batch]), device)
            for block, each in zip(batch, values, strict=True):
                yield block, _finite(block, each)


def _in_pieces(margin: Margin, block: Block, device: torch.device | str) -> FloatArray:
    whole = np.empty(block.truth.shape, np.float32)
    rows, columns = block.truth.shape[0], block.truth.shape[1]
    for top in range(0, rows, PIECE_PX):
        for left in range(0, columns, PIECE_PX):
            core = slice(top, min(top + PIECE_PX, rows)), slice(left, min(left + PIECE_PX, columns))
            first = max(top - HALO_PX, 0), max(left - HALO_PX, 0)
            seen = slice(first[0], core[0].stop + HALO_PX), slice(first[1], core[1].stop + HALO_PX)
            values = _margins(margin, block.channels[:, *seen][np.newaxis], device)[0]
            height, width = core[0].stop - top, core[1].stop - left
            whole[core] = values[top - first[0] :, left - first[1] :][:height, :width]
    return _finite(block, whole)


def _margins(margin: Margin, channels: FloatArray, device: torch.device | str) -> FloatArray:
    with torch.inference_mode():
        x = torch.from_numpy(np.ascontiguousarray(channels, dtype=np.float32)).to(device)
        values: FloatArray = margin(x).float().cpu().numpy()
    return values


def _finite(block: Block, values: FloatArray) -> FloatArray:
    if not isfinite(float(values.sum(dtype=np.float64))):
        raise ModelingError(f"the network gave NaN or infinity for block {block.name}: its weights are damaged")
    return values


def _count(block: Block, mapped: BoolArray, *, matched: bool) -> BlockScore:
    truth, valid = block.truth == 1, block.truth != IGNORE
    if mapped.shape != truth.shape:
        raise DataError(f"the map of block {block.name} has shape {mapped.shape}, its truth has {truth.shape}")
    area = block.pixel_m2 if isfinite(block.pixel_m2) else PIXEL_M2
    return BlockScore(
        block.name,
        block.domain,
        confusion(mapped, truth, valid),
        object_counts(mapped, truth, valid, pixel_area_m2=area),
        block.group,
        matched_counts(mapped, truth, valid, pixel_area_m2=area) if matched else None,
    )


def _checked(result: Evaluation) -> Evaluation:
    if not result.blocks:
        raise DataError("there is nothing to evaluate: the split has no block")
    counts = result.pixels
    if counts.tp + counts.fp + counts.fn + counts.tn == 0:
        raise DataError(f"nothing can be scored: none of the {len(result.blocks)} blocks has a pixel with a truth")
    return result
