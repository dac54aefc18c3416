"""Optical against optical and terrain: every factor of the data gets an arm, and what is missing is said."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fakes.toy_source import ToySource, carry_out, register_toy, setting

from modeling.bands import BandSet
from modeling.errors import BandSetError
from modeling.experiments.findings import Share
from modeling.experiments.registry import experiment
from modeling.experiments.scores import score
from modeling.experiments.xing2026 import EXPERIMENT, arms_of, factors_of, mix_of, plan, within

OPTICAL = ("red_post", "green_post", "blue_post")


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    register_toy(monkeypatch)
    torch.set_num_threads(1)


def with_channels(*channels: str) -> ToySource:
    return ToySource(BandSet("toy", channels, ""))


def test_every_factor_gets_an_arm_beside_none_and_all() -> None:
    arms = arms_of(setting())
    assert list(factors_of(setting())) == ["slope", "hillshade"]
    assert {arm: set(channels) - set(OPTICAL) for arm, channels in arms.items()} == {
        "optical": set(), "+slope": {"slope"}, "+hillshade": {"hillshade"}, "all": {"slope", "hillshade"},
    }  # fmt: skip
    assert all(set(OPTICAL) < set(channels) or channels == OPTICAL for channels in arms.values())


def test_curvature_aspect_and_wetness_are_terrain_too() -> None:
    many = setting(source=with_channels(*OPTICAL, "plan_curvature", "twi", "aspect_north", "aspect_east", "tpi"))
    assert arms_of(many)["optical"] == OPTICAL
    assert list(arms_of(many)) == ["optical", "+aspect", "+plan curvature", "+wetness", "+tpi", "all"]
    assert arms_of(many)["+aspect"] == (*OPTICAL, "aspect_north", "aspect_east")


def test_a_single_factor_is_all_there_is() -> None:
    assert list(arms_of(setting(source=with_channels(*OPTICAL, "slope")))) == ["optical", "all"]


def test_data_without_terrain_are_refused() -> None:
    with pytest.raises(BandSetError, match="terrain"):
        plan(setting(source=with_channels(*OPTICAL)))


def test_counted_patches_are_shared_among_the_domains() -> None:
    mix = mix_of(setting(patches=7))
    assert sum(part.patches for part in mix.parts) == 7
    assert {part.patches for part in mix.parts} == {2, 3}


def test_the_experiment_runs_from_end_to_end(tmp_path: Path) -> None:
    chosen = setting(domains=("a", "b"), tests=("a", "b", "c"))
    found = carry_out(EXPERIMENT, chosen, tmp_path)
    findings = EXPERIMENT.reduce(chosen, found)
    titles = [table.title for table in findings.tables]
    assert [title for title in titles if title.startswith("Tested on")] == [
        "Tested on a, b (own)",
        "Tested on c (unseen)",
    ]
    own, unseen, gains, *_ = findings.tables
    assert len(own.rows) == 4
    assert ("the paper, second unseen scene", Share(0.80)) in [row[:2] for row in unseen.rows]
    assert gains.rows[-1] == ("the paper, several factors", Share(0.021), Share(0.026), Share(0.069), Share(0.029))
    claimed = [statement for statement in findings.statements if "our question" not in statement.paper_says]
    assert len(claimed) == 4
    assert all(statement.measured is not None for statement in findings.statements)
    assert "wetness" in findings.notes[0]
    results = list(found.values())[:1]
    assert score(within(results, ("c",)), "f1") == score(results, "f1", "c")


def test_nothing_finished_is_a_report_all_the_same() -> None:
    findings = EXPERIMENT.reduce(setting(), {})
    assert {statement.verdict for statement in findings.statements} == {"not tested"}
    assert experiment("xing2026") is EXPERIMENT
