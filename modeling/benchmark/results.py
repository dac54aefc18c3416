"""What a benchmark found: rows of scores with intervals, costs, and the claims of the papers beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from modeling.benchmark.compare import DoubleArray, Draws, Estimate, object_f1, pixel_score
from modeling.benchmark.ledger import Ledger
from modeling.benchmark.plan import TOGETHER, Plan
from modeling.errors import DataError
from modeling.scoring.evaluate import BlockScore, Evaluation
from modeling.scoring.metrics import SCORES
from modeling.scoring.papers import LOWER_IS_BETTER, Claim

EVERYWHERE = "all"
"""Tested on the test parts of all domains together."""


@dataclass(frozen=True)
class Run:
    """One trained and tested network."""

    entry: str
    """Name of the plan's entry."""
    trained_on: str
    """Name of the training set."""
    seed: int
    """Of the plan."""
    about: Mapping[str, Any]
    """All else that was recorded, the evaluation apart."""
    evaluation: Evaluation
    """On the test part of all domains."""


@dataclass(frozen=True)
class Row:
    """One entry on one training set, tested on one domain or everywhere; over all seeds."""

    entry: str
    """Name of the plan's entry."""
    trained_on: str
    """Name of the training set."""
    tested_on: str
    """A domain, or `EVERYWHERE`."""
    scores: Mapping[str, Estimate]
    """Pixel scores by name."""
    object_f1: Estimate
    """F1 counted in landslides."""
    by_size: tuple[Mapping[str, Any], ...]
    """Found landslides by size, counts of all seeds together, as `ObjectCounts.by_size`."""
    ece: float
    """Expected calibration error, mean over seeds."""
    seeds: tuple[int, ...]
    """That finished."""


@dataclass(frozen=True)
class Finding:
    """A claim of a paper and what was measured here."""

    claim: Claim
    """As printed."""
    tested_on: str
    """A domain, `EVERYWHERE`, or what was counted; empty when one of the two networks did not take part."""
    measured: Estimate | None
    """The better one's score minus the worse one's; for costs the other way round. None: not tested."""

    @property
    def verdict(self) -> str:
        """`holds`, `reversed`, `undecided`, or `not tested`."""
        return "not tested" if self.measured is None else self.measured.verdict


class Results:
    """All that a ledger holds, in tables; raises `DataError` when nothing was finished."""

    def __init__(
        self,
        plan: Plan,
        data: Mapping[str, Any],
        runs: Sequence[Run],
        costs: Mapping[str, Mapping[str, Any]],
        failed: Mapping[str, str],
    ) -> None:
        if not runs:
            raise DataError("there is nothing to report: no run is finished")
        self.plan, self.data, self.runs, self.costs, self.failed = plan, data, tuple(runs), costs, failed
        blocks = [block.name for block in runs[0].evaluation.blocks]
        for run in runs:
            if [block.name for block in run.evaluation.blocks] != blocks:
                raise DataError(f"{run.entry} with seed {run.seed} was tested on other blocks than {runs[0].entry}")

    @classmethod
    def load(cls, ledger: Ledger) -> Results:
        """Read a ledger; runs that are not finished are simply not there."""
        stated = ledger.plan()
        if stated is None:
            raise DataError(f"{ledger.folder} holds no benchmark")
        data = stated.pop("data", {})
        plan, finished = Plan.from_json(stated), ledger.finished()
        runs = [
            Run(
                about["entry"], about["trained_on"], about["seed"],
                {name: value for name, value in about.items() if name != "evaluation"},
                Evaluation.from_json(about["evaluation"]),
            )
            for about in finished.values()
            if "evaluation" in about
        ]  # fmt: skip
        order = {entry: place for place, entry in enumerate(plan.entries)}
        runs.sort(key=lambda run: (run.trained_on, order[run.entry], run.seed))
        costs = {about["entry"]: about for about in finished.values() if "speed" in about}
        failed = {key: about["failed"] for key, about in finished.items() if "failed" in about}
        return cls(plan, data, runs, costs, failed)

    @property
    def entries(self) -> tuple[str, ...]:
        """That have at least one finished run, in the plan's order."""
        return tuple(dict.fromkeys(run.entry for run in self.runs))

    @property
    def headline(self) -> str:
        """The training set of the main table."""
        return TOGETHER if self.plan.train_on == "together" else self.plan.domains[0]

    def of(self, entry: str, trained_on: str) -> list[Run]:
        """The runs of all seeds."""
        return [run for run in self.runs if run.entry == entry and run.trained_on == trained_on]

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """Every entry on every training set, tested everywhere and on each domain."""
        return tuple(
            self._row(entry, trained_on, tested_on)
            for trained_on in self.plan.training_sets
            for entry in self.entries
            if self.of(entry, trained_on)
            for tested_on in (EVERYWHERE, *self.plan.domains)
        )

    def row(self, entry: str, trained_on: str, tested_on: str) -> Row:
        """One row; raises `DataError` when it was not measured."""
        for row in self.rows:
            if (row.entry, row.trained_on, row.tested_on) == (entry, trained_on, tested_on):
                return row
        raise DataError(f"{entry} trained on {trained_on} was not tested on {tested_on}")

    def difference(self, better: str, worse: str, score: str, trained_on: str, tested_on: str) -> Estimate:
        """The first entry's score minus the second's, on the same ground drawn again for both."""
        first, second = self._pixels(better, trained_on, tested_on), self._pixels(worse, trained_on, tested_on)
        return self._draws(tested_on).difference(first, second, pixel_score(score))

    def findings(self, claims: Sequence[Claim]) -> list[Finding]:
        """Each claim, held beside what was measured on the simulated counterpart of its region, else everywhere."""
        return [self._finding(claim) for claim in claims]

    def _finding(self, claim: Claim) -> Finding:
        if claim.metric in LOWER_IS_BETTER:
            return self._cost_finding(claim)
        tested_on = claim.domain if claim.domain in self.plan.domains else EVERYWHERE
        trained_on = TOGETHER
        if self.plan.train_on == "each":
            trained_on = self.headline if tested_on == EVERYWHERE else tested_on
        if not (self.of(claim.better, trained_on) and self.of(claim.worse, trained_on)):
            return Finding(claim, "", None)
        measured = self.difference(claim.better, claim.worse, claim.metric, trained_on, tested_on)
        return Finding(claim, tested_on, measured)

    def _cost_finding(self, claim: Claim) -> Finding:
        if claim.better not in self.costs or claim.worse not in self.costs:
            return Finding(claim, "", None)
        saved = float(self.costs[claim.worse][claim.metric] - self.costs[claim.better][claim.metric])
        return Finding(claim, "counted", Estimate(saved, saved, saved, seeds=0, blocks=0))

    def _row(self, entry: str, trained_on: str, tested_on: str) -> Row:
        runs, draws = self.of(entry, trained_on), self._draws(tested_on)
        pixels, objects = self._pixels(entry, trained_on, tested_on), self._objects(entry, trained_on, tested_on)
        parts = [run.evaluation if tested_on == EVERYWHERE else run.evaluation.of(tested_on) for run in runs]
        first, *others = (part.objects for part in parts)
        reliabilities = [part.reliability() for part in parts]
        return Row(
            entry=entry,
            trained_on=trained_on,
            tested_on=tested_on,
            scores={name: draws.estimate(pixels, pixel_score(name)) for name in SCORES},
            object_f1=draws.estimate(objects, object_f1),
            by_size=tuple(sum(others, first).by_size()),
            ece=float(np.mean([each.ece for each in reliabilities if each is not None])),
            seeds=tuple(run.seed for run in runs),
        )

    def _pixels(self, entry: str, trained_on: str, tested_on: str) -> DoubleArray:
        """(seed, block, 4)."""
        runs = self.of(entry, trained_on)
        counts = [[block.pixels.counts for block in self._blocks(run.evaluation, tested_on)] for run in runs]
        return np.array(counts, dtype=np.float64)

    def _objects(self, entry: str, trained_on: str, tested_on: str) -> DoubleArray:
        """(seed, block, 4)."""
        runs = self.of(entry, trained_on)
        counts = [[block.objects.counts for block in self._blocks(run.evaluation, tested_on)] for run in runs]
        return np.array(counts, dtype=np.float64)

    def _draws(self, tested_on: str) -> Draws:
        return Draws.of([block.domain for block in self._blocks(self.runs[0].evaluation, tested_on)])

    @staticmethod
    def _blocks(evaluation: Evaluation, tested_on: str) -> Iterator[BlockScore]:
        return (block for block in evaluation.ground() if tested_on in {EVERYWHERE, block.domain})
