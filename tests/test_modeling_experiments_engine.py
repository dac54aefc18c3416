"""The engine: what is done once, in which order, what is refused, and what survives a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from modeling.bands import band_set
from modeling.benchmark.data import Simulated
from modeling.benchmark.ledger import Ledger
from modeling.benchmark.pool import Status, Task, run_all
from modeling.errors import DataError, ModelingError
from modeling.experiments.budget import cost, networks_of, planned
from modeling.experiments.engine import Desk, Effort, Experiment, Finished, Run, execute, failed, finished, to_do
from modeling.experiments.findings import Findings
from modeling.experiments.mixes import Mix, Part
from modeling.experiments.registry import experiment, names
from modeling.experiments.setting import Setting
from modeling.experiments.work import Train


@dataclass(frozen=True)
class Note:
    """Writes down that it was done, and what those before it found."""

    text: str
    needs: tuple[str, ...] = ()
    breaks: bool = False

    def __call__(self, desk: Desk) -> Mapping[str, Any]:
        desk.tell(1, 1)
        if self.breaks:
            raise DataError("it cannot be done")
        if desk.needed:
            desk.kept.mkdir(parents=True, exist_ok=True)
        return {"text": self.text, "before": [desk.result(key)["text"] for key in self.needs]}


SETTING = Setting(
    Simulated(Path("nowhere"), ("iburi",)), ("cgnet",), (0,), steps=2, domains=("iburi",), tests=("iburi",), patch_px=32
)
NOTHING = Findings((), ())


def experiment_of(*runs: Run) -> Experiment:
    def plan(setting: Setting) -> Sequence[Run]:
        return runs

    def reduce(setting: Setting, found: Finished) -> Findings:
        return NOTHING

    return Experiment("toy", "Nobody 1900", "Is it?", ("cgnet",), plan, reduce)


def carry_out(made: Experiment, ledger: Ledger, setting: Setting = SETTING) -> list[str]:
    begun: list[str] = []

    def told(status: Status) -> None:
        if status.job:
            begun.append(status.what)

    execute(made, setting, ledger, told)
    return begun


def test_runs_wait_for_what_they_need_and_are_done_once(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    made = experiment_of(Run("late", Note("late", ("early",)), ("early",)), Run("early", Note("early")))
    assert carry_out(made, ledger) == ["early", "late"]
    assert finished(made, SETTING, ledger)["late"]["before"] == ["early"]
    assert carry_out(made, ledger) == []


def test_a_lost_model_is_made_again_but_not_what_was_made_of_it(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    made = experiment_of(Run("early", Note("early")), Run("late", Note("late", ("early",)), ("early",)))
    carry_out(made, ledger)
    (tmp_path / "kept" / "early").rmdir()
    assert carry_out(made, ledger) == ["early"]


def test_what_failed_is_kept_with_its_reason_and_takes_its_followers_along(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    made = experiment_of(
        Run("broken", Note("a", breaks=True)),
        Run("after", Note("b", ("broken",)), ("broken",)),
        Run("other", Note("c")),
    )
    carry_out(made, ledger)
    assert set(finished(made, SETTING, ledger)) == {"other"}
    reasons = failed(made, SETTING, ledger)
    assert reasons["broken"] == "it cannot be done"
    assert "needs broken, which failed: it cannot be done" in reasons["after"]


def test_another_work_under_an_old_key_is_refused(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    carry_out(experiment_of(Run("one", Note("first"))), ledger)
    with pytest.raises(DataError, match=r"did something else \(it differs in text\)"):
        carry_out(experiment_of(Run("one", Note("second"))), ledger)


def test_a_ledger_keeps_to_its_setting_but_takes_more_seeds(tmp_path: Path) -> None:
    ledger, made = Ledger(tmp_path), experiment_of(Run("one", Note("first")))
    carry_out(made, ledger)
    carry_out(made, ledger, replace(SETTING, seeds=(0, 1), processes=1, threads=2))
    with pytest.raises(DataError, match="differs in steps"):
        carry_out(made, ledger, replace(SETTING, steps=3))


@pytest.mark.parametrize(
    ("runs", "says"),
    [
        ((), "nothing to run"),
        ((Run("a", Note("1")), Run("a", Note("2"))), "two runs have the key 'a'"),
        ((Run("a", Note("1"), ("b",)),), "needs b, which is no run"),
        ((Run("a", Note("1"), ("b",)), Run("b", Note("2"), ("a",))), "wait for each other"),
    ],
)
def test_plans_that_cannot_be_carried_out(runs: tuple[Run, ...], says: str, tmp_path: Path) -> None:
    with pytest.raises(ModelingError, match=says):
        carry_out(experiment_of(*runs), Ledger(tmp_path))


def test_results_that_were_not_asked_for_are_not_given(tmp_path: Path) -> None:
    desk = Desk(SETTING.source, "cpu", tmp_path, tmp_path, False, {"there": tmp_path / "k" / "there"}, {}, "me", print)
    with pytest.raises(DataError, match="me did not say that it needs other"):
        desk.result("other")
    with pytest.raises(DataError, match="did not say"):
        desk.model("other")
    with pytest.raises(DataError, match="has kept no model"):
        desk.model("there")


def test_a_check_comes_before_any_run(tmp_path: Path) -> None:
    def refuse(setting: Setting) -> None:
        raise DataError("too few patches")

    ledger = Ledger(tmp_path)
    with pytest.raises(DataError, match="too few"):
        carry_out(replace(experiment_of(Run("one", Note("first"))), check=refuse), ledger)
    assert ledger.finished() == {}


def efforts(setting: Setting) -> Sequence[Run]:
    return [Run(f"{n}", Note("x"), effort=Effort("cgnet", setting.steps, 30.0)) for n in range(4)]


@pytest.mark.parametrize("processes", [1, 2])
def test_steps_fill_the_budget(processes: int) -> None:
    made, setting = replace(experiment_of(), plan=efforts), replace(SETTING, processes=processes)
    found = planned(made, setting, 100.0, {"cgnet": 0.1})
    spent = cost(efforts(found), found, {"cgnet": 0.1})
    assert spent.seconds <= 100 < spent.seconds + 4 * 0.1
    assert spent.steps == 4 * found.steps
    with pytest.raises(DataError, match="too few"):
        planned(made, setting, 0.1, {"cgnet": 0.1})


def test_the_rest_of_a_plan_is_known_and_reckoned(tmp_path: Path) -> None:
    ledger, setting = Ledger(tmp_path), replace(SETTING, steps=30, processes=4)
    long, short = Effort("cgnet", 30), Effort("lanet", 5)
    made = experiment_of(
        Run("source", Note("source"), effort=long),
        Run("tuned", Note("tuned", ("source",)), ("source",), short),
        Run("other", Note("other"), effort=long),
    )
    runs, rest = to_do(made, setting, ledger)
    assert [run.key for run in runs] == [run.key for run in rest] == ["source", "tuned", "other"]
    carry_out(made, ledger, setting)
    assert to_do(made, setting, ledger)[1] == []
    for key in ("tuned", "other"):
        (tmp_path / "runs" / f"{key}.json").unlink()
    _, rest = to_do(made, setting, ledger)
    assert [run.key for run in rest] == ["tuned", "other"]
    assert networks_of(rest) == ("lanet", "cgnet")
    spent = cost(rest, setting, {"cgnet": 0.1, "lanet": 1.0})
    assert (spent.runs, spent.steps) == (2, 35)
    assert spent.seconds == pytest.approx(5), "two runs do not fill four processes: the longer one decides"
    assert cost([], setting, {}).seconds == 0


def test_settings_that_leave_nothing_are_refused() -> None:
    for changed in ({"seeds": ()}, {"networks": ("cgnet", "cgnet")}, {"networks": ("nope",)}, {"steps": 0}):
        with pytest.raises(DataError):
            replace(SETTING, **changed)  # type: ignore[arg-type]


def test_a_recipe_is_the_papers_but_for_its_length() -> None:
    made = replace(SETTING, batch=3, rate=2e-3).recipe("resu-senet", steps=40)
    assert (made.steps, made.batch, made.patch_px, made.loss, made.normalisation) == (40, 3, 32, "dice", "min-max")
    assert made.optimiser.learning_rate == 2e-3
    assert SETTING.recipe("resu-senet").optimiser.learning_rate == 1e-4


def test_every_registered_experiment_can_be_planned_and_described() -> None:
    assert "yang2024" in names()
    for name in names():
        made = experiment(name)
        assert made.name == name
        assert made.asks.endswith("?")
    with pytest.raises(DataError, match="unknown experiment 'nope': choose one of yang2024"):
        experiment("nope")


def test_fine_tuning_begins_from_the_model_of_another_run(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    source = Simulated(tmp_path / "regions", ("palu",), 1, 1, 1, size_px=96)
    source.prepare(1)
    setting = replace(SETTING, source=source, batch=2)
    mix = Mix("Pa4", (Part("palu", 4),))
    recipe = setting.recipe("cgnet")
    runs = (
        Run("tuned", Train(recipe, mix, 0, ("palu",), start="source"), ("source",)),
        Run("source", Train(recipe, mix, 0, ())),
    )
    ledger, made = Ledger(tmp_path / "ledger"), experiment_of(*runs)
    execute(made, setting, ledger, lambda status: None)
    found = finished(made, setting, ledger)
    assert "evaluation" in found["tuned"]
    assert "evaluation" not in found["source"]
    assert (tmp_path / "ledger" / "kept" / "source" / "model.safetensors").is_file()
    assert not (tmp_path / "ledger" / "kept" / "tuned").exists()
    assert not list((tmp_path / "ledger" / "work").glob("*/*"))
    assert band_set("ten-band").channels


@pytest.mark.slow
def test_tasks_run_in_several_processes(tmp_path: Path) -> None:
    told: list[Status] = []
    tasks = [
        Task("a", Touch(tmp_path / "a")),
        Task("b", Touch(tmp_path / "b", after=tmp_path / "a"), ("a", "done before")),
    ]
    run_all(tasks, told.append, stage="runs", total=3, processes=2)
    assert (tmp_path / "b").exists()
    assert [status.done for status in told if not status.job] == [1, 2, 3]


@dataclass(frozen=True)
class Touch:
    """Leaves a file, once another is there."""

    path: Path
    after: Path | None = None

    def __call__(self, told: Any) -> None:
        if self.after is None or self.after.exists():
            self.path.touch()


@pytest.mark.slow
def test_a_killed_experiment_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    """Killed without warning in the middle of a training run; the second call ends with the weights of one that was not."""
    arguments = "yang2024 --network cgnet --patches 7 --steps 60 --batch 2 --patch-px 32 --regions 1,1,1 --region-px 96 --seeds 0"
    command = [sys.executable, "-c", "from flows.cli import main; main()", "reproduce", *arguments.split()]
    command += ["--processes", "2", "--domains", "palu", "--tests", "palu"]
    scores = []
    for name in ("whole", "killed"):
        full = [*command, "--work", str(tmp_path / name), "--out", str(tmp_path / name / "out")]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
        if name == "killed":
            first = subprocess.Popen(full, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
            log = tmp_path / name / "yang2024" / "work" / "cgnet--P7--seed0"
            deadline = time.monotonic() + 200
            while not log.exists() and first.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
            first.send_signal(signal.SIGKILL)
            first.wait()
        done = subprocess.run(full, env=environment, capture_output=True, text=True, timeout=250, check=False)
        assert done.returncode == 0, done.stderr
        scores.append(Ledger(tmp_path / name / "yang2024").read("cgnet--P7--seed0")["evaluation"])
    assert scores[0] == scores[1]
