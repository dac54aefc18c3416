"""The geology scheme as a run of an experiment: what each step makes of a trained network's maps, in pixels and counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modeling.bands import BandSet
from modeling.benchmark.compare import DoubleArray, Draws, Estimate, pixel_score
from modeling.data.batches import Block, Blocks
from modeling.errors import DataError
from modeling.experiments.engine import Desk
from modeling.geology.learning import HeldOut, LabelledGround, learn_rules, leave_one_domain_out
from modeling.geology.rules import NO_RULES, GeologyRules, default_rules
from modeling.geology.scheme import BlockMaps, map_block
from modeling.model import LandslideModel
from modeling.scoring.counting import LandslideCounts, count_landslides
from modeling.scoring.evaluate import BlockScore, Evaluation
from modeling.scoring.metrics import confusion
from modeling.scoring.objects import object_counts

NETWORK, AREA, SETTING, ELONGATION, SLOPE = "network", "area", "setting", "elongation", "slope"
RULES, LEARNT = "rules", "learnt"
SUBTRACTED = "subtracted"
"""Added to the name of an arm whose maps have the map before the event subtracted."""
STEPS: Mapping[str, str] = {
    NETWORK: "the network alone",
    AREA: "area rule alone",
    SETTING: "smallest area of 400 m² alone",
    ELONGATION: "elongation rule alone",
    SLOPE: "slope rule alone",
    RULES: "all rules",
    LEARNT: "all rules, thresholds learnt elsewhere",
    f"{NETWORK} {SUBTRACTED}": "subtraction alone",
    f"{RULES} {SUBTRACTED}": "subtraction and all rules",
    f"{LEARNT} {SUBTRACTED}": "subtraction and rules learnt elsewhere",
}
"""Arms of the scheme: name -> in words."""

SETTING_M2 = 400.0
"""What the pipeline drops of itself."""

_METRICS = ("precision", "recall", "iou", "f1")
Arm = Mapping[str, Any]


@dataclass(frozen=True)
class Scheme:
    """Apply the scheme, step by step, to the maps of a model that another run has trained.

    Thresholds are learnt on validation ground; those that judge a domain are learnt on the other domains.
    """

    start: str
    """Key of the run whose model it is, which the run must need."""
    learn_on: tuple[str, ...]
    """Domains on whose validation part thresholds are learnt."""
    tests: tuple[str, ...]
    """Domains whose test part is scored."""

    def __call__(self, desk: Desk) -> dict[str, Any]:
        """As `steps_of`."""
        bands = desk.source.band_set()
        parts = ("validation", self.learn_on), ("test", self.tests)
        learn_on, tests = (desk.source.blocks(part, bands, domains) for part, domains in parts)
        return steps_of(desk.model(self.start).to(desk.device), bands, learn_on, tests, desk.tell)


def steps_of(
    model: LandslideModel, bands: BandSet, learn_on: Blocks, tests: Blocks, tell: Callable[[int, int, str], None]
) -> dict[str, Any]:
    """Arm of `STEPS` -> its evaluation and its landslides counted one for one, block by block; and what was learnt.

    Blocks have the channels of `bands`: those of the network, slope, and for subtraction the image before. A domain of
    `tests` is judged by thresholds that were learnt on the other domains of `learn_on`. `tell` hears (done, total, what).
    """
    total, done = len(learn_on) + len(tests), 0
    labelled: dict[bool, list[LabelledGround]] = {False: [], True: []}
    for block in learn_on:
        maps = map_block(model, block, bands.channels, before=True)
        for subtracted, grounds in labelled.items():
            grounds.append(LabelledGround.of(maps, subtracted=subtracted))
        tell(done := done + 1, total, "maps to learn from")
    learnt: dict[tuple[bool, str], GeologyRules] = {}
    arms: dict[str, _Tally] = {name: _Tally() for name in STEPS}
    matched: dict[str, str] = {}
    for block in tests:
        maps = map_block(model, block, bands.channels, before=True)
        matched[block.name] = "" if maps.histograms is None else maps.histograms.why
        for name, tally in arms.items():
            subtracted = name.endswith(SUBTRACTED)
            if subtracted and maps.before is None:
                continue
            if (case := (subtracted, block.domain)) not in learnt:
                learnt[case] = _learnt(labelled[subtracted], block.domain)
            tally.add(block, maps, maps.under(_rules(name, maps, learnt[case]), subtracted=subtracted))
        tell(done := done + 1, total, "maps to test")
    several = len({ground.domain for ground in labelled[False]}) > 1
    held_out: Sequence[HeldOut] = leave_one_domain_out(labelled[False]) if several else ()
    return {
        "arms": {name: tally.to_json(model) for name, tally in arms.items() if tally.scores},
        "learnt": [
            {"subtracted": subtracted, "for": domain, "rules": rules.to_json()}
            for (subtracted, domain), rules in learnt.items()
        ],
        "held_out": [row.to_json() for row in held_out],
        "histograms": matched,
    }


def arm(results: Sequence[Mapping[str, Any]], name: str) -> list[Arm]:
    """One arm of the runs of all seeds, of those that have it; each with an `evaluation`, for `scores.score`."""
    return [result["arms"][name] for result in results if name in result.get("arms", {})]


def counted(arms: Sequence[Arm], metric: str, domain: str) -> Estimate:
    """precision, recall, iou or f1 in landslides counted one for one, over all seeds; raises `DataError` without a run."""
    values, strata = _counts(arms, domain)
    return Draws.of(strata).estimate(values, _statistic(metric))


def counted_difference(better: Sequence[Arm], worse: Sequence[Arm], metric: str, domain: str) -> Estimate:
    """The first arm's score minus the second's, on the same ground drawn again for both."""
    (first, strata), (second, _) = _counts(better, domain), _counts(worse, domain)
    return Draws.of(strata).difference(first, second, _statistic(metric))


class _Tally:
    """The scores of one arm, block by block."""

    def __init__(self) -> None:
        self.scores: list[BlockScore] = []
        self.counts: list[LandslideCounts] = []

    def add(self, block: Block, maps: BlockMaps, mask: Any) -> None:
        """Score one block's map."""
        self.scores.append(
            BlockScore(
                block.name, block.domain, confusion(mask, maps.truth, maps.valid),
                object_counts(mask, maps.truth, maps.valid, pixel_area_m2=maps.pixel_m**2), block.group,
            )
        )  # fmt: skip
        self.counts.append(count_landslides(mask, maps.truth, maps.valid))

    def to_json(self, model: LandslideModel) -> dict[str, Any]:
        """Plain values."""
        evaluation = Evaluation(tuple(self.scores), {}, model.temperature, model.threshold)
        return {"evaluation": evaluation.to_json(), "counted": [each.to_json() for each in self.counts]}


def _learnt(grounds: Sequence[LabelledGround], domain: str) -> GeologyRules:
    """Learnt on the other domains; without any, the default ones."""
    others = [ground for ground in grounds if ground.domain != domain]
    return learn_rules(others) if others else default_rules(grounds[0].pixel_m)


def _rules(name: str, maps: BlockMaps, learnt: GeologyRules) -> GeologyRules:
    whole = default_rules(maps.pixel_m)
    chosen: Mapping[str, Callable[[], GeologyRules]] = {
        NETWORK: lambda: NO_RULES,
        AREA: lambda: GeologyRules(minimum_area_m2=whole.minimum_area_m2),
        SETTING: lambda: GeologyRules(minimum_area_m2=SETTING_M2),
        ELONGATION: lambda: GeologyRules(maximum_length_width_ratio=whole.maximum_length_width_ratio),
        SLOPE: lambda: GeologyRules(minimum_slope_deg=whole.minimum_slope_deg),
        RULES: lambda: whole,
        LEARNT: lambda: learnt,
    }
    return chosen[name.partition(" ")[0]]()


def _counts(arms: Sequence[Arm], domain: str) -> tuple[DoubleArray, list[str]]:
    """(seed, block, 4) of right, wrong, missed and 0, and the domain of each block."""
    if not arms:
        raise DataError("there is no run to count landslides in")
    rows, strata = [], []
    for each in arms:
        blocks = each["evaluation"]["blocks"]
        kept = [index for index, block in enumerate(blocks) if domain in ("all", block["domain"])]
        rows.append([[*each["counted"][index], 0] for index in kept])
        strata = [str(blocks[index]["domain"]) for index in kept]
    return np.array(rows, dtype=np.float64), strata


def _statistic(metric: str) -> Callable[[DoubleArray], DoubleArray]:
    if metric not in _METRICS:
        raise DataError(f"landslides are counted into {', '.join(_METRICS)}, not {metric!r}")
    # Right, wrong and missed landslides stand where the same scores have hit, false and missed pixels.
    return pixel_score(metric)
