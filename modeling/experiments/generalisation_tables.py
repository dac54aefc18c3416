"""From finished judgements to the tables of `generalisation`: scores by region, confidence, totals, selection."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from modeling.benchmark.compare import UNDECIDED, Estimate
from modeling.domains.select import VOTED
from modeling.experiments.engine import Finished
from modeling.experiments.findings import Amount, Cell, Chart, Findings, Share, Statement, Table
from modeling.experiments.generalisation_arms import FEW, MULTI, ON_MEANS, OWN, WITH_FEW
from modeling.experiments.generalisation_choice import PICK, Choice, arms_of, decide, outer
from modeling.experiments.generalisation_scores import NEAR, Judgements, Scored, rank_correlation
from modeling.experiments.generalisation_works import ADAPTED_SHARE, SEVERAL
from modeling.experiments.setting import Setting

GAIN, LOSS, WRONG, PICKS = 0.15, 0.03, 0.02, 0.8
"""What was asked for: gain of the default over one domain, loss of 20 patches against 700, wrong claims, good picks."""

_LABELLED = {
    WITH_FEW: "f1_20_patches", f"{FEW}{ON_MEANS}": "f1_20_patches_on_scene_means", FEW: "f1_20_patches_as_trained",
    OWN: "f1_700_patches", f"{OWN}{ON_MEANS}": "f1_700_patches_on_scene_means",
}  # fmt: skip
LEAST_SURE = 0.05
"""A map that is sure of fewer landslide pixels than this is not wrong because it says nothing: that is no success."""


def reduce(setting: Setting, found: Finished) -> Findings:
    """All figures of what is finished so far."""
    there: Judgements = {target: each for target in setting.domains if (each := outer(setting, found, target))}
    choices = {target: choice for target in there if (choice := decide(setting, found, target)) is not None}
    if not choices:
        return Findings((), (), (), ("No region is judged yet.",))
    scored = Scored({target: there[target] for target in choices}, choices)
    figures, statements = _figures(scored)
    tables = (
        _regions(scored), _arms(scored), _confidence(scored), _intervals(scored), _signals(scored), _decided(choices),
    )  # fmt: skip
    few = f"Models of one domain, and those `{OWN}`, had {setting.patches} patches of it."
    return Findings(
        tables, statements, (_chart(scored),), (*_NOTES, few), figures, ("arms", "zoo"), ours=True,
        recipe="all arms alike: focal + dice loss, Adam with warm-up and polynomial decay, standardised channels, augmentation "
        "`physical`, checkpoint by validation F1",
        tested="labels of test ground were only read to score it and to decide for other regions (images were adapted to)",
    )  # fmt: skip


def _figures(scored: Scored) -> tuple[dict[str, Any], tuple[Statement, ...]]:
    default = scored.macro(scored.default)
    oracle = scored.macro(lambda target: scored.counts(target, scored.best_single(target)))
    domain = scored.fixed_single()
    unseen = [target for target in scored.regions if domain in scored.singles(target)]
    fixed = scored.macro(domain, unseen)
    figures: dict[str, Estimate] = {
        "macro_f1_default": scored.estimate(default),
        "macro_f1_best_single": scored.estimate(oracle),
        "macro_f1_best_single_on_scene_means": scored.estimate(scored.macro(scored.best_single_on_means)),
        "macro_f1_fixed_single": scored.estimate(fixed),
        "gain_over_best_single": scored.estimate(default - oracle),
        "gain_over_fixed_single": scored.estimate(scored.macro(scored.default, unseen) - fixed),
        "macro_f1_multi_domain": scored.estimate(scored.macro(MULTI)),
        "wrong_at_090": scored.ratio(scored.sure("wrong", "claimed")),
        "wrong_at_090_before": scored.ratio(scored.sure("wrong", "claimed", as_trained=True)),
        "wrong_of_all_sure": scored.ratio(scored.sure("wrong_both", "claimed_both")),
        "landslides_at_090": scored.ratio(scored.sure("wrong", "landslides", correct=True)),
        "selection_within_005": scored.ratio(scored.near(VOTED)),
        "selection_decided_within_005": scored.ratio(scored.near()),
        "always_multi_domain_within_005": scored.ratio(scored.near(MULTI)),
        "totals_area_covered": scored.ratio(scored.covered("area")),
        "totals_count_covered": scored.ratio(scored.covered("count")),
    }
    owned = [arm for arm in (OWN, f"{OWN}{ON_MEANS}") if scored.has(arm)]
    own, headroom = max(owned, key=lambda arm: float(scored.macro(arm)[0]), default=""), ""
    if own:
        figures["gain_of_700_patches_over_best_single"] = scored.estimate(scored.macro(own) - oracle)
        headroom = f"; 700 labelled patches of the region itself gain {_points(figures['gain_of_700_patches_over_best_single'])}"
    reached = figures["landslides_at_090"].value
    wrong = figures["wrong_at_090"]
    regions = len(scored.regions)
    claiming = sum(math.isfinite(scored.in_region(scored.sure("wrong", "claimed"), each)) for each in scored.regions)
    landslides = scored.sure("wrong", "landslides", correct=True)
    sure = sum(scored.in_region(landslides, each) >= LEAST_SURE for each in scored.regions)
    says = [
        Statement(
            "The zero-label default is better than the best single-domain model by 15 points of macro F1",
            _plus(figures["gain_over_best_single"], -GAIN),
            "macro F1 of the default minus that of the single-domain model that is best in each region by its labels, less "
            f"15 points; with such models on scene means it is {_points(figures['macro_f1_best_single_on_scene_means'])}, "
            f"as trained {_points(figures['macro_f1_best_single'])}{headroom}",
        ),
        Statement(
            "The same against one single-domain model for all regions",
            _plus(figures["gain_over_fixed_single"], -GAIN),
            f"the default minus the model of {domain}, the best one on the mean, over the regions that it has not seen, "
            "less 15 points",
        ),
        Statement(
            "At most 2 % of the claims with a probability of 0.9 and more are wrong",
            _minus(WRONG, wrong) if math.isfinite(wrong.value) else None,
            f"2 % minus the share of pixels mapped as landslide with 0.9 and more that are none, over the {claiming} of "
            f"{regions} regions with such pixels; {100 * reached:.1f} % of the landslide pixels are mapped so surely, and in "
            f"{sure} regions at least {100 * LEAST_SURE:.0f} %: silence is no success. Of all sure pixels, background as well, "
            f"{100 * figures['wrong_of_all_sure'].value:.1f} % are wrong",
            "" if 2 * sure > regions else UNDECIDED,
        ),
        Statement(
            "The selection's pick is within 5 points of the best of the zoo for 80 % of events",
            _plus(figures["selection_within_005"], -PICKS),
            "share of events with the signal that the flow selects by (disagreement of models), less 80 %; "
            "the multi-domain model is in the zoo, "
            f"and taking it always does for {100 * figures['always_multi_domain_within_005'].value:.0f} %",
        ),
    ]
    stated = float(np.mean([choice.totals.level for choice in scored.choices.values()]))
    says += [
        Statement(
            f"Intervals on the total {what} hold the truth at their stated rate on unseen events",
            _plus(figures[f"totals_{what}_covered"], -stated),
            f"share of events whose interval does, less {100 * stated:.0f} %",
        )
        for what in ("area", "count")
    ]
    figures |= {name: scored.estimate(scored.macro(arm)) for arm, name in _LABELLED.items() if scored.has(arm)}
    if all(scored.has(arm) for arm in _LABELLED):
        says.append(
            Statement(
                "With 20 labelled patches F1 is within 3 points of a model of 700 patches of the region",
                _plus(scored.estimate(scored.macro(WITH_FEW) - scored.macro(own)), LOSS),
                f"F1 of `{WITH_FEW}` minus that of `{own}`, the better one of the two with 700, plus 3 points",
            )
        )
    plain = {name: _known(each.to_json()) for name, each in figures.items()}
    plain["wrong_at_090"] |= {"regions_with_claims": claiming, "regions": regions}
    return plain, tuple(says)


def _regions(scored: Scored) -> Table:
    named = [arm for arm in (WITH_FEW, FEW, OWN) if scored.has(arm)]
    rows: list[tuple[Cell, ...]] = []
    for target in scored.regions:
        best = scored.best_single(target)
        arms = [scored.counts(target, best), scored.counts(target, MULTI), scored.default(target)]
        arms += [scored.counts(target, arm) for arm in named]
        rows.append((target, best, *map(scored.of_region, arms), scored.choices[target].arm))
    head = ("region left out", "best single is", "best single (by labels)", MULTI, "default", *named, "default is")
    return Table(
        "F1 in the region that was left out", head, tuple(rows), "Pixel F1, per cent, over the region's events."
    )


def _arms(scored: Scored) -> Table:
    """What each way without labels does, against the multi-domain model as it is."""
    results = [result for each in scored.there.values() for result in each.values()]
    base = scored.macro(MULTI)
    rows: list[tuple[Cell, ...]] = []
    for arm in arms_of(results[0]):
        if not all(arm in arms_of(result) for result in results):
            continue
        values = scored.macro(arm)
        gain = scored.estimate(values - base)
        verdict = "helps" if gain.low > 0 else "harms" if gain.high < 0 else "undecided"
        rows.append((arm, scored.estimate(values), gain, "–" if arm == MULTI else verdict))
    note = "Macro F1 over the regions left out, and what it gains over the multi-domain model; no label of the region is read."
    return Table(
        "What each way of mapping without labels does", ("way", "macro F1", "gain", "verdict"), tuple(rows), note
    )


def _confidence(scored: Scored) -> Table:
    shares = (
        scored.sure("wrong", "claimed", as_trained=True),
        scored.sure("wrong", "claimed"),
        scored.sure("wrong", "landslides", correct=True),
        scored.sure("wrong_both", "claimed_both"),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            target,
            Amount(scored.choices[target].temperature, digits=2),
            *(_share(scored.in_region(share, target)) for share in shares),
        )
        for target in scored.regions
    ]
    head = (
        "region left out", "temperature times", "wrong at 0.9, as trained", "wrong at 0.9", "landslide pixels at 0.9",
        "wrong of all sure pixels",
    )  # fmt: skip
    note = (
        "Wrong: of the pixels mapped as landslide with a probability of 0.9 and more, those that are none (a dash: no "
        "such pixel). The factor comes "
        "from regions near by MMD, judged by models that had not seen them; the last column counts sure background as well."
    )
    return Table("Confident and wrong", head, tuple(rows), note)


def _intervals(scored: Scored) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for target in scored.regions:
        fitted = scored.choices[target].totals
        covered = [Share(scored.in_region(scored.covered(name), target)) for name in ("area", "count")]
        width = Amount(scored.width(target), digits=1)
        rows.append((target, f"{100 * fitted.level:g} %", *covered, width, str(len(fitted.domains))))
    head = (
        "region left out",
        "stated",
        "area covered",
        "count covered",
        "upper / lower end of area",
        "regions fitted to",
    )
    note = (
        "Share of events whose true total over observed ground lies in its interval. Hierarchical conformal prediction, "
        "fitted to other regions by models that had seen neither; the rate holds over regions, not within one."
    )
    return Table("Intervals on an event's total area and count", head, tuple(rows), note)


def _signals(scored: Scored) -> Table:
    first = next(iter(next(iter(scored.there.values())).values()))
    rows: list[tuple[Cell, ...]] = []
    for signal in (arm.removeprefix(PICK) for arm in arms_of(first) if arm.startswith(PICK)):
        rank = scored.ratio(rank_correlation(signal))
        told = (Amount(value, digits=2) for value in (rank.value, rank.low, rank.high))
        rows.append((f"`{signal}`", *told, scored.ratio(scored.near(signal))))
    head = ("signal", "Spearman", "low", "high", f"pick within {100 * NEAR:g} points of the best [95 %]")
    note = (
        "Over the zoo of every unseen event: rank correlation of the F1 with the signal (turned, so that 1 is a perfect "
        "ranking), and how often the model that it picks is nearly the best."
    )
    return Table("What picks a model without labels", head, tuple(rows), note)


def _decided(choices: Mapping[str, Choice]) -> Table:
    rows = tuple(
        (each.target, each.arm, f"`{each.signal}`", Amount(each.temperature, digits=2)) for each in choices.values()
    )
    head = ("region left out", "default way", "signal that selects", "temperature times")
    return Table("What the other regions decided for each region", head, rows)


def _chart(scored: Scored) -> Chart:
    labelled = {f"with {FEW}": WITH_FEW, OWN: OWN}  # legends are short
    drawn = {
        "best single (by labels)": [scored.counts(target, scored.best_single(target)) for target in scored.regions],
        MULTI: [scored.counts(target, MULTI) for target in scored.regions],
        "default": [scored.default(target) for target in scored.regions],
        **{
            name: [scored.counts(target, arm) for target in scored.regions]
            for name, arm in labelled.items()
            if scored.has(arm)
        },
    }
    series: Mapping[str, tuple[Estimate | None, ...]] = {
        name: tuple(scored.of_region(each) for each in counts) for name, counts in drawn.items()
    }
    return Chart("regions left out", tuple(scored.regions), series)


def _points(one: Estimate) -> str:
    return f"{100 * one.value:.1f}"


def _share(value: float) -> Share | None:
    return Share(value) if math.isfinite(value) else None


def _known(values: Mapping[str, float]) -> dict[str, Any]:
    """JSON has no NaN."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _plus(one: Estimate, amount: float) -> Estimate:
    return Estimate(one.value + amount, one.low + amount, one.high + amount, one.seeds, one.blocks)


def _minus(amount: float, one: Estimate) -> Estimate:
    return Estimate(amount - one.value, amount - one.high, amount - one.low, one.seeds, one.blocks)


_NOTES = (
    "Regions are the simulator's domains; every event is another piece of ground with a season, clouds and soil of its own. "
    "Intervals draw regions, events and seeds again: with so few regions they are wide, and rightly so.",
    "Everything that is decided for a region (default way, signal, temperature, intervals of totals) is decided on other "
    "regions, by models that had seen neither that region nor the one they were judged on.",
    f"`{ON_MEANS.strip()}`: the means of the event's light are moved half of the way to those of the training ground before the "
    "model sees it (`modeling.adaptation.scene_means`). Models that are selected are on scene means, those "
    "of a single domain that the default is held to are as trained.",
    "`macro_f1_best_single` takes for each region the single-domain model that is best there by the region's own labels, "
    "which nobody could choose; `macro_f1_fixed_single` takes one such model for all regions that it has not seen.",
    "Adaptation without labels sees the image that is mapped, as it would in use; its truth is read to count only.",
    f"Models of several domains train {SEVERAL} times as many steps as those of one: they have several times the ground, and "
    "still see each patch less often. Each model is the checkpoint that was best on its own validation ground. "
    f"The model of {FEW} is the multi-domain model, trained on for {2 * ADAPTED_SHARE:.0%} of the steps of one domain with half "
    f"of each batch from the {FEW}; self-training takes {ADAPTED_SHARE:.0%}, and sees the images of all the region's test "
    "events together.",
    f"`{WITH_FEW}` holds that model in the place of the self-trained one; how much of its score is the labels' is told by the "
    "default, which has none.",
    f"The {FEW} include those that the checkpoint is chosen on. They come from as many events of the region and nearly all "
    "hold landslides: patches that somebody chose well.",
    "Default, temperature and intervals are decided on the test ground of other regions, which is training ground in that "
    "sense; the region that they are decided for is not among it.",
    "Progressive transfer and adversarial adaptation are not among the ways: `dong2024` and `xu2022` measure them.",
)
