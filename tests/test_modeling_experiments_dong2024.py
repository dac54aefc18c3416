"""Transfer in stages as an experiment: arms share what they begin from, and its tables stand beside the paper's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fakes.toy_source import ToySource, carry_out, register_toy, setting

from modeling.errors import DataError
from modeling.experiments.dong2024 import ARMS, EXPERIMENT, FEW, channels_of_paper, grounds_of, plan
from modeling.experiments.findings import Share
from modeling.experiments.registry import experiment
from modeling.experiments.work import Train


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    register_toy(monkeypatch)
    torch.set_num_threads(1)


def test_targets_share_a_source_and_go_through_the_domains_in_order() -> None:
    runs = {run.key: run for run in plan(setting())}
    assert grounds_of(setting(), "b") == ("a", ("c",))
    assert [key for key in runs if "--source-" in key] == ["tiny--source-a--seed0"]
    chain = ["tiny--c-progressive--seed0"]
    while runs[chain[-1]].needs:
        chain += runs[chain[-1]].needs
    assert chain == ["tiny--c-progressive--seed0", "tiny--c-between-1--seed0", "tiny--source-a--seed0"]
    steps = {key: run.effort.steps for key, run in runs.items()}
    longest = steps["tiny--source-a--seed0"] + steps["tiny--c-between-1--seed0"]
    assert steps["tiny--c-at-once--seed0"] == longest  # the same length without an order
    frozen = runs["tiny--c-frozen--seed0"].work
    assert isinstance(frozen, Train)
    assert frozen.frozen == ("trunk",)


def test_what_is_fine_tuned_on_is_few_and_nothing_else_sees_the_target() -> None:
    for run in plan(setting()):
        assert isinstance(run.work, Train)
        mix, target = run.work.mix, run.work.tests[0]
        if mix.parts:
            assert [(part.domain, part.patches) for part in mix.parts] == [(target, FEW)]
        elif "-all-" not in run.key and "--source-" not in run.key:
            assert target not in mix.domains, run.key
    assert channels_of_paper(setting()) == ("red_post", "green_post", "blue_post")


@pytest.mark.parametrize("domains", [("a",), ("a", "d")])
def test_without_a_target_that_can_be_reached_nothing_is_planned(domains: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match="another domain to come from"):
        plan(setting(domains=domains))


def test_two_domains_have_nothing_in_between() -> None:
    keys = [run.key for run in plan(setting(domains=("a", "b"), tests=("b",)))]
    assert not [key for key in keys if "progressive" in key or "together" in key or "between" in key]
    assert "tiny--b-direct--seed0" in keys


def test_the_experiment_runs_from_end_to_end(tmp_path: Path) -> None:
    chosen = setting(tests=("b",))
    found = carry_out(EXPERIMENT, chosen, tmp_path)
    findings = EXPERIMENT.reduce(chosen, found)
    arms, networks, costs = findings.tables
    assert len(arms.rows) == len(ARMS)
    assert [statement.measured is not None for statement in findings.statements[:6]] == [True] * 6
    assert all(statement.verdict for statement in findings.statements)
    assert any(row[0] == "`msf-litenet`" and row[1] == "2,541,708" == row[2] for row in costs.rows)
    assert any(row[0] == "`vgg-unet`" and row[5] == row[6] == "4,550,584.959" for row in costs.rows)
    assert networks.rows[0][0] == "`tiny`"  # b is no region of the paper, so its rows are not there
    assert len(networks.rows) == 1


def test_the_papers_rows_stand_beside_ours_where_the_region_is_the_papers() -> None:
    findings = EXPERIMENT.reduce(setting(domains=("a", "iburi"), tests=("iburi",)), {})
    rows = {row[0]: row for row in findings.tables[1].rows}
    assert rows["`msf-litenet`"][2] == Share(pytest.approx(0.954))
    assert rows["`fcn`"][1] is None
    assert {statement.verdict for statement in findings.statements} == {"not tested"}


def test_it_is_found_by_its_name_and_source_needs_no_rgb() -> None:
    assert experiment("dong2024") is EXPERIMENT
    bare = ToySource(replace(ToySource().bands, channels=("slope", "red_post")))
    assert channels_of_paper(setting(source=bare)) == ()
