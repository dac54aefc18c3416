"""`quakeslide reproduce`: the list, what is wrong told in one line, and a small experiment from end to end."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

from flows import cli, cli_reproduce
from flows.cli_runs import follower, numbers
from flows.errors import FlowError
from flows.progress import Progress, listen
from modeling.benchmark.ledger import Ledger
from modeling.benchmark.pool import Status
from modeling.data.patch_simulate import simulate_patches
from modeling.data.patch_split import Split
from modeling.errors import DataError
from modeling.experiments.engine import Desk, Effort, Experiment
from modeling.experiments.engine import Run as Piece
from modeling.experiments.findings import Findings
from modeling.experiments.setting import Setting

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs `quakeslide reproduce …` in this process and an empty folder: (exit status, stdout, stderr)."""
    app = typer.Typer(context_settings={"help_option_names": ["-h", "--help"]})
    cli_reproduce.register(app)
    app.command()(_other)
    monkeypatch.setattr(cli, "app", app)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("os.cpu_count", lambda: 1)  # one thread: two on a busy machine wait for each other

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["quakeslide", "reproduce", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        told = capsys.readouterr()
        return int(exit_.value.code or 0), told.out, told.err

    return call


def _other() -> None:
    """A second command, so that the first one has a name."""


def test_the_list_says_what_experiments_ask(run: Run, tmp_path: Path) -> None:
    status, out, _ = run("--list")
    assert status == 0
    assert "yang2024" in out
    assert "resu-senet" in out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "name an experiment"),
        (("yang2025",), "unknown experiment 'yang2025': choose one of yang2024"),
        (("yang2024", "--steps", 5, "--budget", "1h"), "not both"),
        (("yang2024", "--budget", "soon"), "'soon' is not a budget"),
        (("yang2024", "--seeds", "a"), "--seeds 'a' must be numbers"),
        (("yang2024", "--regions", "1,2"), "must be three numbers"),
        (("yang2024", "--mixes", "Q5"), "'Q' is no domain; there are iburi, jiuzhaigou"),
        (("yang2024", "--network", "resnet"), "'resnet' is not an entry"),
        (("yang2024", "--domains", "atlantis"), "unknown simulated domain 'atlantis'"),
        (("yang2024", "--data", "nowhere.zarr"), "nowhere.zarr: there is no such data set"),
        (("yang2024", "--report-only"), "there is nothing to report: no run of yang2024 has been begun in"),
        (("yang2024", "--device", "tpu"), "device 'tpu' cannot be used here"),
    ],
)
def test_what_is_wrong_is_said_before_any_work(
    run: Run, arguments: tuple[object, ...], says: str, tmp_path: Path
) -> None:
    status, _, err = run(*arguments)
    assert status == cli.BAD_INPUT
    assert says in err
    assert err.count("\n") == 1
    assert not list(tmp_path.rglob("runs"))


def test_the_help_says_that_a_dry_run_simulates_and_times(run: Run) -> None:
    status, out, _ = run("--help")
    told = " ".join(out.replace("│", " ").split())
    assert (status, "regions that are missing are simulated into --work, and some steps are timed" in told) == (0, True)


def test_a_report_tells_what_was_typed_and_not_where_the_work_lies() -> None:
    typed = [
        "reproduce",
        "xu2022",
        "--work",
        "/here/some where",
        "--seeds",
        "0",
        "--report-only",
        "--work=/there",
        "--out",
        "a b",
    ]
    assert cli_reproduce.command_of(typed) == "quakeslide reproduce xu2022 --seeds 0 --out 'a b'"


def test_numbers_with_commas() -> None:
    assert numbers("1, 2,", int, "--seeds") == [1, 2]
    with pytest.raises(FlowError, match="--rates"):
        numbers("1;2", float, "--rates")


def test_what_runs_tell_becomes_the_remark_of_their_stage() -> None:
    heard: list[Progress] = []
    stop = listen(heard.append)
    try:
        follow = follower()
        follow(Status("runs", 0, 2))
        follow(Status("one", 3, 9, "validation F1 0.500", job=True))
        follow(Status("one", 9, 9, job=True))
        follow(Status("runs", 1, 2))
    finally:
        stop()
    assert [(each.stage, each.done) for each in heard] == [("runs", 0), ("runs", 0), ("runs", 1)]
    assert heard[1].note == "one 3/9 (validation F1 0.500)"


@dataclass(frozen=True)
class Note:
    """A run that is done at once, or cannot be."""

    breaks: bool = False

    def __call__(self, desk: Desk) -> Mapping[str, Any]:
        if self.breaks:
            raise DataError("it cannot be done")
        return {}


def toy(setting: Setting) -> Sequence[Piece]:
    trained = [
        Piece(f"{network}--seed{seed}", Note(), effort=Effort(network, setting.steps))
        for seed in setting.seeds
        for network in setting.networks
    ]
    return [Piece("distances", Note()), Piece("broken", Note(breaks=True)), *trained]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """A toy experiment beside the papers' own, reports that are not written, steps of a second; what was measured."""
    made = Experiment("toy", "Nobody 1900", "Is it?", ("cgnet", "lanet"), toy, lambda setting, found: Findings((), ()))
    measured: list[tuple[str, ...]] = []

    def measure(setting: Setting, networks: Sequence[str], told: object = None) -> Mapping[str, float]:
        measured.append(tuple(networks))
        return dict.fromkeys(networks, 1.0)

    monkeypatch.setattr("modeling.experiments.registry.experiment", lambda name: made)
    monkeypatch.setattr("modeling.experiments.budget.measured", measure)
    monkeypatch.setattr(cli_reproduce, "_publish", lambda *given: None)
    return measured


def test_a_dry_run_says_what_is_left_of_what_was_begun(run: Run, asked: list[tuple[str, ...]], tmp_path: Path) -> None:
    simulate_patches(tmp_path / "mine.zarr", {"palu": 8}, cache=tmp_path / "cache", patch_px=32, region_px=128)
    options = ("toy", "--data", tmp_path / "mine.zarr", "--tests", "palu", "--seeds", "0,1", "--processes", 1)
    status, out, err = run(*options, "--budget", "4h", "--dry-run")
    assert (status, err) == (0, "")
    assert "6 runs, 14,400 steps in all, 3,600 of a full training run: about 4.0 hours here, 1 runs at a time" in out
    ledger = Ledger(tmp_path / ".quakeslide" / "experiments" / "toy")
    assert ledger.plan() is None, "a dry run begins nothing"

    assert run(*options, "--budget", "4h")[0] == 0
    assert asked == [("cgnet", "lanet")] * 2
    status, out, _ = run(*options, "--budget", "1h", "--dry-run")
    assert status == 0
    assert "6 of 6 runs are finished, 1 of them failed, at 3,600 steps of a full training run: nothing is left" in out
    assert len(asked) == 2, "nothing is left to measure"

    (ledger.folder / "runs" / "lanet--seed1.json").unlink()
    for limit in (("--budget", "1h"), ("--steps", 3600)):
        status, out, _ = run(*options, *limit, "--dry-run")
        assert status == 0
        assert "5 of 6 runs are finished, 1 of them failed; 1 are left, 3,600 steps in all, 3,600 of a full" in out
        assert "about 60 minutes here" in out
        assert asked.pop() == ("lanet",)
    (ledger.folder / "runs" / "distances.json").unlink()
    assert "4 of 6 runs are finished, 1 of them failed; 2 are left" in run(*options, "--budget", "1h", "--dry-run")[1]
    assert asked.pop() == ("lanet",)
    assert run(*options, "--budget", "1h")[0] == 0
    (ledger.folder / "runs" / "distances.json").unlink()
    assert "1 are left, 0 steps in all" in run(*options, "--budget", "1h", "--dry-run")[1]
    assert len(asked) == 2, "distances take no steps"
    before = {path: path.stat().st_mtime_ns for path in ledger.folder.rglob("*.json")}
    status, _, err = run(*options, "--steps", 7, "--dry-run")
    assert (status, "differs in steps" in err) == (cli.BAD_INPUT, True)
    assert before == {path: path.stat().st_mtime_ns for path in ledger.folder.rglob("*.json")}


@pytest.mark.slow
def test_an_experiment_on_the_users_patches_and_its_report_again(run: Run, tmp_path: Path) -> None:
    counts = {"iburi": 24, "palu": 24}
    simulate_patches(
        tmp_path / "mine.zarr", counts, cache=tmp_path / "cache", patch_px=32, region_px=128, split=Split((2, 1, 1))
    )
    common = ("yang2024", "--data", tmp_path / "mine.zarr", "--network", "cgnet", "--patches", 10, "--seeds", "0")
    options = ("--batch", 2, "--processes", 1, "--mixes", "Ib7P3,Ib10")
    status, out, err = run(*common, *options, "--steps", 3)
    assert (status, err) == (0, "")
    assert "report: reports/yang2024.md" in out
    stored = json.loads((tmp_path / "reports" / "yang2024.json").read_text())
    assert stored["runs"].keys() == {"cgnet--Ib7P3--seed0", "cgnet--Ib10--seed0", "mmd--iburi", "mmd--palu"}
    assert stored["data"]["kind"] == "patches"
    assert stored["failed"] == {}
    before = (tmp_path / "reports" / "yang2024.md").read_text().partition("## ")[2]
    assert run(*common, *options, "--report-only")[0] == 0
    assert (tmp_path / "reports" / "yang2024.md").read_text().partition("## ")[2] == before
    assert "--report-only" not in (tmp_path / "reports" / "yang2024.md").read_text()
    status, _, err = run(*common, *options, "--rate", 0.5, "--report-only")
    assert (status, "differs in rate" in err) == (cli.BAD_INPUT, True)
    status, _, err = run(*common, *options, "--steps", 4)
    assert (status, "differs in steps" in err) == (cli.BAD_INPUT, True)
    status, _, err = run(*common, "--mixes", "Ib99", "--steps", 3)
    assert (status, "takes 99 training patches of iburi" in err) == (cli.BAD_INPUT, True)
