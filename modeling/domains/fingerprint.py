"""A fingerprint of ground: a fixed number of pixels of it, stored beside a model or drawn from a new scene.

A pixel is a row of physical channel values as the network is given them (`modeling.bands.assemble`), before normalisation
and augmentation. A pixel of which one channel is unknown (NaN) is left out, so that rows hold all channels and distances
can be joint; how much of the ground was left out is kept. Labels are never read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from modeling import bands
from modeling.data.batches import Blocks
from modeling.errors import DataError

FloatArray = npt.NDArray[np.float32]
GroupArray = npt.NDArray[np.int32]
CountArray = npt.NDArray[np.int64]
Window = tuple[slice, slice]

ROWS = 2000
"""Pixels of a fingerprint: the standard error of a distance is then about a hundredth of what separates two domains."""
MOST_WINDOWS = 64
"""Windows of a scene that are read at most."""
_FEWEST_ROWS = 8
_OVERDRAWN = 4


@dataclass(frozen=True, eq=False)
class Reference:
    """How far pieces of the ground on which a model was validated lie from the ground on which it was trained."""

    bands: FloatArray
    """(piece, channel): squared MMD of each channel, in the order of the fingerprint's."""

    @property
    def mean(self) -> FloatArray:
        """(piece,): the mean over the channels."""
        return np.asarray(self.bands.mean(axis=1), np.float32)


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """Some pixels of a piece of ground, with all their channels."""

    channels: tuple[str, ...]
    """Names along the second axis of `values`."""
    values: FloatArray = field(repr=False)
    """(row, channel): physical values, all of them finite."""
    groups: GroupArray = field(repr=False)
    """(row,): the number of the region, patch square or window that each row comes from."""
    domains: tuple[str, ...]
    """The domain of each group."""
    known: float
    """Share of the ground of which all channels are known; only that was drawn from."""
    seed: int = 0
    """With which it was drawn."""
    about: str = ""
    """What it was drawn from, for people."""
    simulated: bool = False
    """Whether that is simulated ground."""
    sampled: bool = True
    """Whether the groups are some of many; False when each piece of the ground is among them."""
    reference: Reference | None = field(default=None, repr=False)
    """What counts as near; None where nobody has calibrated it."""

    def __post_init__(self) -> None:
        """Raise `DataError` when the parts do not fit together or a value is not finite."""
        rows, named = self.values.shape if self.values.ndim == 2 else (0, -1)
        if named != len(self.channels) or len(set(self.channels)) != named or self.groups.shape != (rows,):
            raise DataError(
                f"a fingerprint of {len(self.channels)} channels has values of shape {self.values.shape} and groups of"
                f" shape {self.groups.shape}"
            )
        if rows < _FEWEST_ROWS or not np.isfinite(self.values).all():
            raise DataError(f"a fingerprint of {rows} rows: at least {_FEWEST_ROWS} are needed, all values finite")
        if self.groups.min() < 0 or self.groups.max() >= len(self.domains):
            raise DataError(f"a fingerprint's groups run beyond the {len(self.domains)} that have a domain")
        if self.reference is not None and self.reference.bands.shape[1:] != (named,):
            raise DataError(f"a fingerprint's reference has shape {self.reference.bands.shape}, not (piece, {named})")

    def __len__(self) -> int:
        return len(self.values)

    def take(self, channels: Sequence[str]) -> FloatArray:
        """The values (row, channel) of these channels, in their order; raises `DataError` naming those that are missing."""
        if missing := [name for name in channels if name not in self.channels]:
            raise DataError(f"the fingerprint has no {', '.join(missing)}; it has {', '.join(self.channels)}")
        return self.values[:, [self.channels.index(name) for name in channels]]

    def rows(self, wanted: npt.NDArray[np.bool_]) -> Fingerprint:
        """The same with some of the rows only, without its reference."""
        return replace(self, values=self.values[wanted], groups=self.groups[wanted], reference=None)

    def of_domain(self, domain: str) -> Fingerprint:
        """The rows of one domain; raises `DataError` when there are too few."""
        return self.rows(np.array([name == domain for name in self.domains], bool)[self.groups])


def fingerprint_of(
    blocks: Blocks,
    channels: Sequence[str],
    *,
    rows: int = ROWS,
    seed: int = 0,
    about: str = "",
    simulated: bool = False,
) -> Fingerprint:
    """The fingerprint of `blocks`, whose channels are called `channels`: equally many pixels of each, drawn by `seed`.

    Where a block has too few known pixels the others give more. One pass, one block in memory at a time. Raises
    `DataError` when there is no block, or hardly a pixel of which all channels are known.
    """
    if len(blocks) == 0:
        raise DataError("there is no block to take a fingerprint of")
    drawn = _Drawn(rows, most_each=max(-(-_OVERDRAWN * rows // len(blocks)), _FEWEST_ROWS))
    groups: dict[str, int] = {}
    domains: list[str] = []
    for index, block in enumerate(blocks):
        key = block.group or block.name
        if key not in groups:
            groups[key] = len(domains)
            domains.append(block.domain)
        drawn.add(block.channels, groups[key], np.random.default_rng((seed, index)))
    values, of_group = drawn.chosen(np.ones(len(drawn.counts)), np.random.default_rng(seed))
    return Fingerprint(tuple(channels), values, of_group, tuple(domains), drawn.known, seed, about, simulated)


def fingerprint_of_scene(
    read: Callable[[Window], Mapping[str, FloatArray]],
    windows: Sequence[Window],
    channels: Sequence[str],
    *,
    rows: int = ROWS,
    seed: int = 0,
    most_windows: int = MOST_WINDOWS,
    about: str = "",
    simulated: bool = False,
    told: Callable[[int, int], None] | None = None,
) -> Fingerprint:
    """The fingerprint of a scene that is read window by window, at most `most_windows` of them, evenly spread.

    `read` gives the layers (y, x) of a window, NaN where unknown or where nothing was observed; `channels` are made of
    them. Each window gives pixels in proportion to what is known of it; each is a group of its own. Raises `DataError`
    when hardly anything of the scene is known.
    """
    wanted = bands.BandSet("fingerprint", tuple(channels), "")
    chosen = spread_evenly(windows, most_windows, seed)
    drawn = _Drawn(rows, most_each=rows)
    for index, window in enumerate(chosen):
        layers = read(window)
        drawn.add(bands.assemble(wanted, layers), index, np.random.default_rng((seed, index)))
        if told is not None:
            told(index + 1, len(chosen))
    values, groups = drawn.chosen(np.array(drawn.counts, float), np.random.default_rng(seed))
    return Fingerprint(
        tuple(channels), values, groups, ("scene",) * len(chosen), drawn.known, seed, about, simulated,
        sampled=len(chosen) < len(windows),
    )  # fmt: skip


def mixed(
    parts: Sequence[Fingerprint], shares: Sequence[float], *, rows: int = ROWS, seed: int = 0, about: str = ""
) -> Fingerprint:
    """The fingerprint of a mix of domains, for example of 500 and 200 patches: `shares` of rows from each of `parts`.

    Channels are those of the first part, which all must have. Raises `DataError` for shares that are no mix.
    """
    if len(parts) != len(shares) or not parts or min(shares) < 0 or sum(shares) <= 0:
        raise DataError(f"a mix of {len(parts)} fingerprints with the shares {list(shares)}: one share each, not all 0")
    rng = np.random.default_rng(seed)
    counts = _allotted(np.array(shares, float), np.array([len(part) for part in parts]), rows)
    values: list[FloatArray] = []
    groups: list[GroupArray] = []
    domains: list[str] = []
    for part, count in zip(parts, counts, strict=True):
        picked = np.sort(rng.permutation(len(part))[:count])
        values.append(part.take(parts[0].channels)[picked])
        groups.append(part.groups[picked] + len(domains))
        domains.extend(part.domains)
    known = float(np.average([part.known for part in parts], weights=shares))
    simulated = all(part.simulated for part in parts)
    return Fingerprint(
        parts[0].channels, np.concatenate(values), np.concatenate(groups).astype(np.int32), tuple(domains), known, seed,
        about, simulated,
    )  # fmt: skip


def known_pixels(channels: FloatArray) -> FloatArray:
    """The pixels (n, channel) of which all channels (channel, y, x) are known."""
    flat = channels.reshape(len(channels), -1)
    return flat[:, np.isfinite(flat).all(axis=0)].T


def spread_evenly(windows: Sequence[Window], most: int, seed: int) -> list[Window]:
    """At most `most` of the windows, one at random from each of as many equal stretches of their order."""
    if len(windows) <= most:
        return list(windows)
    edges = np.linspace(0, len(windows), most + 1)
    rng = np.random.default_rng(seed)
    return [windows[int(low + rng.random() * (high - low))] for low, high in pairwise(edges.tolist())]


class _Drawn:
    """Candidates of each block, from which the rows are chosen when all blocks have been seen."""

    def __init__(self, rows: int, most_each: int) -> None:
        self.rows, self.most_each = rows, most_each
        self.candidates: list[FloatArray] = []
        self.counts: list[int] = []
        self.groups: list[int] = []
        self._pixels = 0

    @property
    def known(self) -> float:
        return sum(self.counts) / max(self._pixels, 1)

    def add(self, channels: FloatArray, group: int, rng: np.random.Generator) -> None:
        pixels = known_pixels(channels)
        picked = rng.choice(len(pixels), min(self.most_each, len(pixels)), replace=False, shuffle=True)
        self.candidates.append(pixels[picked])
        self.counts.append(len(pixels))
        self.groups.append(group)
        self._pixels += math.prod(channels.shape[1:])

    def chosen(self, weights: npt.NDArray[np.float64], rng: np.random.Generator) -> tuple[FloatArray, GroupArray]:
        there = np.array([len(part) for part in self.candidates])
        if there.sum() < _FEWEST_ROWS:
            raise DataError(
                f"only {there.sum()} pixels have all channels: too few to compare this ground with any other"
            )
        counts = _allotted(weights, there, self.rows, rng)
        values = np.concatenate([part[:count] for part, count in zip(self.candidates, counts, strict=True)])
        return values, np.repeat(np.array(self.groups, np.int32), counts)


def _allotted(
    weights: npt.NDArray[np.float64], there: CountArray, rows: int, rng: np.random.Generator | None = None
) -> CountArray:
    """How many rows each stratum gives: in proportion to `weights`, at most what is `there`, `rows` together if they can.

    What is left of whole rows goes to the largest remainders, in an order drawn by `rng` among equal ones.
    """
    given = np.zeros(len(there), np.int64)
    order = np.arange(len(there)) if rng is None else rng.permutation(len(there))
    for _ in range(len(there)):  # each round fills a stratum, or is the last
        share = np.where(given < there, weights, 0)
        left = rows - int(given.sum())
        if left <= 0 or share.sum() == 0:
            break
        exact = left * share / share.sum()
        more = np.floor(exact).astype(np.int64)
        rest = order[np.argsort(-(exact - more)[order], kind="stable")][: left - int(more.sum())]
        more[rest] += 1
        given = np.minimum(given + more, there)
    return given
