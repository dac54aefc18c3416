"""A model adapted to a place by a few polygons that an analyst has drawn there, and judged by polygons it has not seen.

It is trained on the polygons and held on undrawn ground (`modeling.adaptation.anchored`), its decision then moved so that it
claims as much of that ground as the map before does, or as much as the drawn landslides ask for. What that is worth is
told by cross-validation over polygons, split by space (`modeling.adaptation.judging`).

The model that is returned is fitted to all polygons. No polygon is left to judge it by; its scores are those of its equals
from cross-validation, each judged on polygons that it has not seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import optimize, special
from torch import nn

from modeling.adaptation.anchored import Bench, FewShot, bench_of, cross_entropy, head_bias, shifted
from modeling.adaptation.drawn import BoolArray, Ground, Split, pixel_weights
from modeling.adaptation.judging import AS_IT_WAS, Held, Judgement, WholeMap, judge
from modeling.adaptation.result import adapted
from modeling.data.batches import FloatArray
from modeling.errors import DataError
from modeling.model import LandslideModel
from modeling.training.denormals import flushed_denormals

Told = Callable[[int, int, str], None]
"""Hears (units done, units in all, a remark)."""
Counts = npt.NDArray[np.float64]

LEAST_OF_A_CLASS = 2
"""Polygons of each class that are needed: one to learn from, one to judge by."""
LEAST_STEPS = 8
"""So many are taken, however slow the machine is."""
SUFFIX = "drawn"
"""What the name of an adapted model ends with."""
_TIMED_STEPS, _TIMINGS = 2, 4  # the fastest counts: other work on the machine comes and goes
_LOG_RANGE = 3.0  # the temperature changes by a factor of 20 at most


@dataclass(frozen=True)
class FewShotResult:
    """An adapted model and how good it is."""

    model: LandslideModel
    """Fitted to all polygons; the model as it was where it got worse, or nothing changed."""
    judgement: Judgement
    """On held-out polygons."""
    before: Counts
    """(polygon, 4) tp, fp, fn, tn of the model as it was."""
    after: Counts
    """(polygon, 4) of the adapted one, held out."""
    settings: FewShot
    """As followed: with fewer steps where time was short."""
    notes: tuple[str, ...]
    """What a reader should know."""
    seconds: float
    """What it took."""


@flushed_denormals()
def adapt_few_shot(
    model: LandslideModel, drawn: Ground, undrawn: Ground, landslide: BoolArray, split: Split,
    settings: FewShot | None = None, *, whole: WholeMap | None = None, seed: int = 0, device: str = "auto",
    told: Told | None = None,
) -> FewShotResult:  # fmt: skip
    """Adapt `model` to polygons: `landslide` (polygon,) is their class, `drawn` the windows around them.

    `undrawn` are windows from elsewhere in the scene, whose pixels nobody has labelled; `whole` is the map before, by default
    as these windows and the polygons tell it. `model` is not changed. Raises
    `DataError` when a class has fewer than `LEAST_OF_A_CLASS` polygons with observed pixels.
    """
    begun = time.monotonic()
    usable = np.bincount(drawn.owner[drawn.scored], minlength=len(landslide)) > 0
    for of_class, name in ((landslide, "landslide"), (~landslide, "not-landslide")):
        if (count := int((usable & of_class).sum())) < LEAST_OF_A_CLASS:
            raise DataError(f"{count} {name} polygons lie on observed ground: {LEAST_OF_A_CLASS} at least are needed")
    bench = bench_of(model, drawn, undrawn, landslide, settings or FewShot(), device, seed, whole)
    bench, notes = _within_time(bench, split.folds)
    before, after, margins = cross_validated(bench, split, told)
    judgement = judge(bench.settings.name, before, after, split.group.tolist(), bench.whole, seed=seed)
    made, everything = model, np.ones(len(landslide), bool)
    if judgement.chosen != AS_IT_WAS:
        temperature, network = _recalibrated(bench, bench.fitted(everything), margins)
        made = adapted(
            model, network.cpu(), method="few-shot", settings=asdict(bench.settings) | {"seed": seed},
            data={
                "landslide_polygons": int(landslide.sum()), "not_landslide_polygons": int((~landslide).sum()),
                "groups": judgement.groups, "folds": split.folds, "groups_apart_m": split.reach,
                "drawn_windows": len(drawn), "undrawn_windows": len(undrawn),
            },
            seconds=time.monotonic() - begun,
            calibration="temperature fitted to held-out drawn pixels, each class one half, and with the same weight to"
            " undrawn ground as the map before had it; the threshold is that of the model before",
            suffix=SUFFIX, found={"judgement": judgement.to_json()}, temperature=temperature,
        )  # fmt: skip
    return FewShotResult(made, judgement, before, after.counts, bench.settings, notes, time.monotonic() - begun)


def cross_validated(bench: Bench, split: Split, told: Told | None = None) -> tuple[Counts, Held, FloatArray]:
    """Counts (polygon, 4) before; what is said, held out, after; and held-out margins of the scored pixels in their order.

    The polygons of the fold that is held out are undrawn ground for the fit: the network sees their pixels as it sees all
    ground between polygons, without their class.
    """
    scored, drawn = bench.drawn.scored, len(bench.drawn)
    margins = bench.first[:drawn].copy()
    moved = np.zeros(2)  # where nobody has drawn, as the mean of the folds
    for fold in range(split.folds):
        kept = split.fold != fold
        held = np.flatnonzero(~kept[bench.drawn.own])
        found = bench.margins(bench.fitted(kept), np.append(held, np.arange(drawn, len(bench.windows))))
        margins[held] = found[: len(held)]
        moved += np.array(bench.moved(found[len(held) :])) / split.folds
        if told is not None:
            told(fold + 1, split.folds, f"part {fold + 1} of {split.folds} held out")
    truth, owner = bench.landslide[bench.drawn.owner[scored]], bench.drawn.owner[scored]
    then, now = (part[scored] >= bench.boundary for part in (bench.first[:drawn], margins))
    before, after = (_counts(part, truth, owner, len(bench.landslide)) for part in (then, now))
    both = np.bincount(owner[then & now & truth], minlength=len(bench.landslide)).astype(np.float64)
    gained, lost = moved + np.array([(now & ~then).sum(), (then & ~now).sum()])
    return before, Held(after, both, float(gained), float(lost)), margins[scored]


def _counts(claimed: BoolArray, truth: BoolArray, owner: npt.NDArray[np.int32], polygons: int) -> Counts:
    """(polygon, 4) tp, fp, fn, tn."""
    parts = (claimed & truth, claimed & ~truth, ~claimed & truth, ~claimed & ~truth)
    return np.stack([np.bincount(owner[part], minlength=polygons) for part in parts], axis=1).astype(np.float64)


def _recalibrated(bench: Bench, network: nn.Module, held_out: FloatArray) -> tuple[float, nn.Module]:
    """The temperature, and the network with its margin shifted so that the threshold stays where the decision is.

    Polygons are drawn where it is interesting and are no sample of the scene, so undrawn ground, as the first map has it,
    weighs as much as they do. A network without a bias at its end keeps its temperature.
    """
    model, scored = bench.model, bench.drawn.scored
    if head_bias(network, model) is None:
        return model.temperature, network
    truth = bench.landslide[bench.drawn.owner[scored]]
    weight = pixel_weights(bench.drawn, bench.landslide, np.ones(len(bench.landslide), bool))[scored].astype(np.float64)
    weight /= weight.sum()
    plain, first = bench.undrawn_sample(network)

    def loss(log_temperature: float) -> float:
        t = np.exp(log_temperature)
        z = bench.offset + (held_out - bench.boundary) / t
        drawn = -(weight * special.log_expit(np.where(truth, z, -z))).sum()
        return float(drawn + cross_entropy(bench.offset + (plain - bench.boundary) / t, first))

    middle = float(np.log(model.temperature))
    found = optimize.minimize_scalar(loss, bounds=(middle - _LOG_RANGE, middle + _LOG_RANGE), method="bounded")
    temperature = float(np.exp(found.x))
    return temperature, shifted(network, model, temperature * bench.offset - bench.boundary)


def _within_time(bench: Bench, folds: int) -> tuple[Bench, tuple[str, ...]]:
    """The bench with as many steps as its time allows, judged by a few timed ones."""
    settings = bench.settings
    if not settings.steps:
        return bench, ()
    everything = np.ones(len(bench.landslide), bool)
    few = bench.with_settings(replace(settings, steps=_TIMED_STEPS))
    moments = [time.monotonic()]
    for _ in range(1 + _TIMINGS):
        few.trained(everything)
        moments.append(time.monotonic())
    a_step = float(np.diff(moments)[1:].min()) / _TIMED_STEPS  # the first one also makes room for all that follow
    steps = min(settings.steps, max(int(settings.seconds / ((folds + 1) * a_step)), min(LEAST_STEPS, settings.steps)))
    note = (
        f"a step takes {a_step:.1f} s on this machine: to stay within {settings.seconds:g} s, {steps} steps were taken"
        f" instead of {settings.steps}"
    )
    return bench.with_settings(replace(settings, steps=steps)), () if steps == settings.steps else (note,)
