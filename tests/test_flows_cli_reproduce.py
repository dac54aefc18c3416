"""`quakeslide reproduce`: the list, what is wrong told in one line, and a small experiment from end to end."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from flows import cli, cli_reproduce
from flows.cli_runs import follower, numbers
from flows.errors import FlowError
from flows.progress import Progress, listen
from modeling.benchmark.pool import Status
from modeling.data.patch_simulate import simulate_patches
from modeling.data.patch_split import Split

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
