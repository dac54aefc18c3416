"""What each input band is worth: the scores of a trained model when it may not see it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from modeling.data.batches import IGNORE, Block, Blocks
from modeling.errors import DataError
from modeling.explaining.explain import Explainable, without
from modeling.scoring.bootstrap import Difference, difference
from modeling.scoring.metrics import Confusion, confusion

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

_Places = dict[tuple[str, str], Confusion]
"""Counts by domain and what lies apart in it, which the bootstrap draws together."""

UNKNOWN, MOVED = "unknown", "moved"
WAYS = (UNKNOWN, MOVED)
"""How bands are taken away.

`unknown`: the model sees their mean over its training data. `moved`: it sees them displaced within the block, so that
each has its own values and texture but no longer fits the others; that stays closer to what the model was trained on.
"""


@dataclass(frozen=True)
class AblationRow:
    """The scores without one group of bands."""

    group: str
    """Its name: a channel's, or that of several, as `band_groups` has them."""
    channels: tuple[str, ...]
    """What was taken away."""
    scores: Mapping[str, float]
    """As `metrics.Confusion.scores`, accumulated over all blocks."""
    change: Difference
    """F1 without the group minus F1 with all bands, paired by place: the more negative, the more the group is worth."""


@dataclass(frozen=True)
class Ablation:
    """What every group of bands is worth to one model on one set of blocks."""

    way: str
    """One of `WAYS`."""
    whole: Mapping[str, float]
    """Scores with all bands."""
    rows: tuple[AblationRow, ...]
    """One a group, in the order of the groups."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        rows = [
            {
                "group": row.group,
                "channels": list(row.channels),
                "scores": dict(row.scores),
                "f1_change": row.change.interval.to_json(),
            }
            for row in self.rows
        ]
        return {"way": self.way, "whole": dict(self.whole), "rows": rows}


def band_groups(channels: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Each channel alone, then what belongs together where there are several but not all: terrain, NDVI, before, after."""
    together = {
        "terrain": [name for name in channels if not name.endswith(("_pre", "_post"))],
        "all NDVI": [name for name in channels if name.startswith("ndvi_")],
        "all before": [name for name in channels if name.endswith("_pre")],
        "all after": [name for name in channels if name.endswith("_post")],
    }
    several = {name: tuple(group) for name, group in together.items() if 1 < len(group) < len(channels)}
    return {name: (name,) for name in channels} | several


def band_ablation(
    model: Explainable,
    blocks: Blocks,
    *,
    groups: Mapping[str, Sequence[str]] | None = None,
    way: str = UNKNOWN,
    seed: int = 0,
    tell: Callable[[int, int], None] | None = None,
) -> Ablation:
    """Score `model` over `blocks` with all bands and without each group (by default `band_groups`).

    `tell` is called with how many blocks are done, and how many there are. Nothing is trained anew: this says what the
    given model relies on, not what another could do without the bands. Raises `DataError` for an unknown way, a group
    with channels that the model does not have, or no block.
    """
    groups = groups if groups is not None else band_groups(model.channels)
    if way not in WAYS:
        raise DataError(f"unknown way {way!r} to take bands away: choose one of {', '.join(WAYS)}")
    if strange := [name for group in groups.values() for name in group if name not in model.channels]:
        raise DataError(f"the model has no channel {strange[0]!r}: it has {', '.join(model.channels)}")
    whole: _Places = defaultdict(Confusion)
    parts: dict[str, _Places] = {name: defaultdict(Confusion) for name in groups}
    for number, block in enumerate(blocks):
        x = torch.from_numpy(np.asarray(block.channels, dtype=np.float32))[None]
        place = block.domain, block.group or block.name
        whole[place] += _scored(model, x, block)
        for name, group in groups.items():
            taken = [model.channels.index(channel) for channel in group]
            changed = without(x, taken) if way == UNKNOWN else _moved(x, taken, (seed, number))
            parts[name][place] += _scored(model, changed, block)
        if tell is not None:
            tell(number + 1, len(blocks))
    if not whole:
        raise DataError("there is no block to score the model on")
    domains = [domain for domain, _ in whole]
    rows = [
        AblationRow(
            name,
            tuple(groups[name]),
            sum(part.values(), Confusion()).scores(),
            difference(list(part.values()), list(whole.values()), strata=domains, seed=seed),
        )
        for name, part in parts.items()
    ]
    return Ablation(way, sum(whole.values(), Confusion()).scores(), tuple(rows))


def _scored(model: Explainable, x: torch.Tensor, block: Block) -> Confusion:
    with torch.inference_mode():
        margin = model.margin(x.to(next(model.network.parameters()).device))[0]
        mapped = (torch.sigmoid(margin / model.temperature) >= model.threshold).cpu().numpy()
    return confusion(mapped, block.truth == 1, block.truth != IGNORE)


def _moved(x: torch.Tensor, channels: Sequence[int], seed: tuple[int, int]) -> torch.Tensor:
    """These channels together, rolled by between a quarter and three quarters of the block."""
    rng = np.random.default_rng(seed)
    shift = [int(rng.integers(side // 4, max(3 * side // 4, 1), endpoint=True)) for side in x.shape[-2:]]
    changed = x.clone()
    changed[:, list(channels)] = torch.roll(x[:, list(channels)], shift, dims=(2, 3))
    return changed
