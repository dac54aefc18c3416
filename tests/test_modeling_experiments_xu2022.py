"""Adversarial adaptation as an experiment: the target's labels decide nothing, and controls stand beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes.toy_source import BANDS, ToyPieces, ToySource, carry_out, register_toy, setting

from modeling.bands import BandSet
from modeling.data.batches import IGNORE, Block, ByteArray, FloatArray
from modeling.errors import DataError
from modeling.experiments.engine import Experiment, Run
from modeling.experiments.findings import NOT_TESTED
from modeling.experiments.registry import experiment
from modeling.experiments.setting import Setting
from modeling.experiments.xu2022 import ARMS, EXPERIMENT, Adapt, Unlabelled, plan, source_and_targets

ONE = {"domains": ("a", "b"), "tests": ("b",)}
"""One source and one target."""


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    register_toy(monkeypatch)
    torch.set_num_threads(1)


def without_labels() -> Experiment:
    """The experiment less its upper end, which alone may see labels of the target."""

    def left(chosen: Setting) -> list[Run]:
        return [run for run in plan(chosen) if "-labels-" not in run.key]

    return replace(EXPERIMENT, plan=left)


def test_the_first_domain_is_the_source_and_the_tested_ones_are_targets() -> None:
    assert source_and_targets(setting()) == ("a", ("b", "c"))
    runs = {run.key: run for run in plan(setting())}
    assert len(runs) == 1 + 2 * (len(ARMS) - 1)
    for key, run in runs.items():
        if isinstance(run.work, Adapt):
            assert run.needs == ("tiny--a-source--seed0",), key
            assert run.work.mix.domains == ("a",)
    with pytest.raises(DataError, match="none of the others"):
        plan(setting(domains=("b", "a"), tests=("b",)))


def test_the_experiment_runs_from_end_to_end(tmp_path: Path) -> None:
    found = carry_out(EXPERIMENT, setting(**ONE), tmp_path)
    findings = EXPERIMENT.reduce(setting(**ONE), found)
    scores, course = findings.tables
    assert len(scores.rows) == len(ARMS)
    assert scores.rows[0][2] is None
    assert all(row[2] is not None for row in scores.rows[1:])
    assert [row[0] for row in course.rows] == [
        "`tiny` to b, continued, seed 0", "`tiny` to b, adversarial, seed 0",
    ]  # fmt: skip
    assert [statement.measured is not None for statement in findings.statements] == [True] * 4
    assert found["tiny--b-continued--seed0"]["course"][-1]["adversarial"] == 0.0
    assert found["tiny--b-adversarial--seed0"]["course"][-1]["adversarial"] > 0.0
    assert experiment("xu2022") is EXPERIMENT


def test_labels_of_the_target_change_nothing_but_the_upper_end(tmp_path: Path) -> None:
    def scored(chosen: Setting, folder: str) -> dict[str, Any]:
        found = carry_out(without_labels(), chosen, tmp_path / folder)
        return {key: each["evaluation"] for key, each in found.items()}

    hidden = setting(**ONE, source=ToySource(hidden=("b",)))
    assert scored(setting(**ONE), "seen") == scored(hidden, "hidden")


def test_unlabelled_ground_tells_no_label_even_by_its_order() -> None:
    pieces = ToyPieces("b", "training")
    blocks = list(Unlabelled(pieces, BANDS))
    other = list(Unlabelled(Turned(pieces), BANDS))
    assert [block.name for block in blocks] == [block.name for block in other]
    assert len(blocks) == len(pieces)
    assert all((block.truth == IGNORE).all() for block in blocks)


@dataclass(frozen=True)
class Turned:
    """Pieces in the opposite order, as other labels might have put them."""

    pieces: ToyPieces

    def __len__(self) -> int:
        return len(self.pieces)

    def read(self, index: int) -> tuple[dict[str, FloatArray], ByteArray]:
        return self.pieces.read(len(self) - 1 - index)

    def block(self, index: int, band_set: BandSet) -> Block:
        return self.pieces.block(len(self) - 1 - index, band_set)


def test_the_control_differs_from_the_adversary_in_its_weights_only() -> None:
    works = {run.work.arm: run.work for run in plan(setting(**ONE)) if isinstance(run.work, Adapt)}
    assert replace(works["continued"], arm="adversarial") == works["adversarial"]


def test_nothing_finished_is_a_report_all_the_same() -> None:
    findings = EXPERIMENT.reduce(setting(), {})
    assert {statement.verdict for statement in findings.statements} == {NOT_TESTED}
