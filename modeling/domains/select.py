"""Which model to map a new region with, without a label of it, and why.

Models that the region's layers allow come first, of them those with the richest channels. Of those, where there are
four, the one whose own map is nearest to what all say together, in which a model of several domains counts twice
(`modeling/reports/generalisation.md`). Fewer cannot outvote one that sees nothing: then the nearest one
is taken, by the mean over the channels of the squared MMD between the region and the model's training ground, as Yang et
al. 2024 chose for Luding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from modeling.domains.fingerprint import Fingerprint
from modeling.domains.mmd import Distances, distances_between
from modeling.domains.novelty import LEVEL, Novelty, novelty
from modeling.domains.own_maps import OwnMap
from modeling.domains.zoo import ZooModel
from modeling.errors import BandSetError, DataError

NEAREST = "mean_mmd2"
VOTED = "disagreement"
FEWEST_VOTES = 4
"""With fewer models on the same channels a single one that sees nothing leaves no majority of others to be held to."""

SIGNALS: Mapping[str, str] = {
    "mean_mmd2": "mean over the channels of the squared MMD between region and training ground",
    "joint_mmd2": "squared MMD of all channels together",
    "max_mmd2": "squared MMD of the channel that differs most",
    "relative_mmd2": "mean squared MMD as a share of what is normal on the model's own validation ground",
    "entropy": "mean entropy of the model's own map",
    "low_confidence": "share of unsure pixels of the model's own map",
    "disagreement": "how far the model's own map is from what all models say together",
}
"""What models can be ranked by: nearer 0 is better in all of them. The last three need `OwnMap`s."""

_OF_MAPS: Mapping[str, Callable[[OwnMap], float]] = {
    "entropy": lambda own: own.entropy,
    "low_confidence": lambda own: own.low_confidence,
    "disagreement": lambda own: own.disagreement,
}


@dataclass(frozen=True)
class Ranked:
    """A model and what is known of it for a region."""

    model: ZooModel
    """Which."""
    place: int
    """From 1, the best, on."""
    missing: tuple[str, ...]
    """Channels that it needs and the region lacks."""
    distances: Distances | None
    """Between the region and its training ground; None when that cannot be told."""
    signals: Mapping[str, float]
    """The value of each of `SIGNALS`; NaN where it is not known."""
    novelty: Novelty | None
    """Whether the region is farther than the model's own ground; None when that cannot be told."""
    reasons: tuple[str, ...]
    """Why it stands where it does, in words."""

    @property
    def usable(self) -> bool:
        """Whether the region has all channels that it needs."""
        return not self.missing


def distances(model: Fingerprint, region: Fingerprint) -> Distances:
    """The distances between a region and a model's training ground, over the model's channels.

    Where the region is known by some of its windows or patches only, the error is theirs, not that of single pixels.
    Raises `DataError` when the region lacks a channel.
    """
    values = region.take(model.channels)
    several = len({int(group) for group in region.groups}) >= _FEWEST_GROUPS
    groups = region.groups if region.sampled and several else None
    return distances_between(model.values, values, model.channels, groups_y=groups)


_FEWEST_GROUPS = 5


def rank(
    zoo: Sequence[ZooModel],
    region: Fingerprint | Sequence[str],
    *,
    by: str = NEAREST,
    own_maps: Mapping[str, OwnMap] | None = None,
    level: float = LEVEL,
) -> list[Ranked]:
    """All models for a region, best first: usable before others, then with a known signal, then richer channels, then `by`.

    Equal ones stand in the order of their validation scores. Where nothing of the region is known, `region` names its
    channels only. Raises `DataError` for an unknown signal.
    """
    if by not in SIGNALS:
        raise DataError(f"unknown signal {by!r}: choose one of {', '.join(SIGNALS)}")
    judged = [_judged(model, region, (own_maps or {}).get(model.name), level) for model in zoo]
    judged.sort(key=lambda one: _order(one, by))
    return [_placed(one, place, judged, by) for place, one in enumerate(judged, start=1)]


def rivals(zoo: Sequence[ZooModel], channels: Sequence[str]) -> list[ZooModel]:
    """The models of which one will be chosen where these channels are known: usable, and with the richest channels."""
    usable = [model for model in zoo if all(name in channels for name in model.bands.channels)]
    richest = max((len(model.bands.requires) for model in usable), default=0)
    return [model for model in usable if len(model.bands.requires) == richest]


def chosen(ranked: Sequence[Ranked]) -> Ranked:
    """The best model; raises `BandSetError` when none is usable, naming what the nearest to it would need."""
    for one in ranked:
        if one.usable:
            return one
    if not ranked:
        raise BandSetError("there is no model to choose from")
    least = min(ranked, key=lambda one: len(one.missing))
    raise BandSetError(
        f"no model can use this region's layers: {least.model.name} needs {', '.join(least.missing)} besides"
    )


def _judged(model: ZooModel, region: Fingerprint | Sequence[str], own: OwnMap | None, level: float) -> Ranked:
    there = region.channels if isinstance(region, Fingerprint) else region
    missing = tuple(name for name in model.bands.channels if name not in there)
    signals = dict.fromkeys(SIGNALS, math.nan)
    if own is not None:
        signals |= {name: value(own) for name, value in _OF_MAPS.items()}
    if missing or model.fingerprint is None or not isinstance(region, Fingerprint):
        return Ranked(model, 0, missing, None, signals, None, ())
    found = distances(model.fingerprint, region)
    held = None
    if model.fingerprint.reference is not None:
        held = novelty(found, model.fingerprint.reference, level)
        signals["relative_mmd2"] = held.distance / max(held.threshold, 1e-9)
    signals["mean_mmd2"] = found.mean
    signals["joint_mmd2"] = found.joint.squared
    signals["max_mmd2"] = found.bands[found.farthest].squared
    return Ranked(model, 0, (), found, signals, held, ())


def _order(one: Ranked, by: str) -> tuple[bool, bool, int, float, float, str]:
    value, score = one.signals[by], one.model.validation_f1
    unknown = math.isnan(value)
    return (
        not one.usable,
        unknown,
        -len(one.model.bands.requires),
        0.0 if unknown else value,
        0.0 if math.isnan(score) else -score,
        one.model.name,
    )


def _placed(one: Ranked, place: int, everyone: Sequence[Ranked], by: str) -> Ranked:
    return Ranked(
        one.model, place, one.missing, one.distances, one.signals, one.novelty, tuple(_reasons(one, everyone, by))
    )


def _reasons(one: Ranked, everyone: Sequence[Ranked], by: str) -> list[str]:
    if one.missing:
        return [f"needs {', '.join(one.missing)}, which the region lacks"]
    told = []
    same = [other for other in everyone if other.usable and other.model.bands.requires == one.model.bands.requires]
    richest = max(len(other.model.bands.requires) for other in everyone if other.usable)
    if len(one.model.bands.requires) == richest:
        told.append(f"uses {len(one.model.bands.channels)} channels, the most that the region allows")
    else:
        told.append(f"uses only {len(one.model.bands.channels)} channels")
    if one.distances is None:
        told.append(f"how near it is cannot be told: {one.model.why_none or 'nothing of the region is known'}")
    else:
        low, high = (
            one.distances.mean - 1.96 * one.distances.mean_error,
            one.distances.mean + 1.96 * one.distances.mean_error,
        )
        told.append(f"mean distance over its channels {one.distances.mean:.3f} ({low:.3f} to {high:.3f})")
    if not math.isnan(one.signals[VOTED]):
        told.append(f"its map and that of all models together agree by an F1 of {1 - one.signals[VOTED]:.2f}")
    known = [other for other in same if not math.isnan(other.signals[by])]
    if len(known) > 1 and one is min(known, key=lambda other: _order(other, by)):
        told.append(f"the best by {SIGNALS[by]} of {len(known)} models with these channels")
    told.extend(_novelty_reasons(one.novelty))
    if not math.isnan(one.model.validation_f1):
        told.append(f"F1 {one.model.validation_f1:.3f} on its own validation ground")
    return told


def _novelty_reasons(held: Novelty | None) -> list[str]:
    if held is None:
        return []
    told = []
    if held.novel:
        told.append(
            f"farther than {100 * held.level:.0f} % of what it was validated on ({held.distance:.3f}, limit"
            f" {held.threshold:.3f})"
        )
    else:
        told.append(f"near: {100 * held.p_value:.0f} % of its own validation pieces lie as far")
    if held.far_bands:
        told.append(f"far in {', '.join(held.far_bands)}")
    return told
