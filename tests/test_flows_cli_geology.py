"""`quakeslide learn-rules`: from a labelled data set to a file of thresholds that a map takes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.data_sets import toy_set
from fakes.weights import random_model

from flows import cli
from flows.geology import map_rules
from flows.settings import ModelSettings
from modeling.data.patches import PatchSet
from modeling.geology.rules_file import read_rules
from modeling.model import save_model

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in this process: (exit status, stdout, stderr)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["quakeslide", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        told = capsys.readouterr()
        return int(exit_.value.code or 0), told.out, told.err

    return call


@pytest.fixture(scope="module")
def patches(tmp_path_factory: pytest.TempPathFactory) -> PatchSet:
    return toy_set(tmp_path_factory.mktemp("patches") / "toy.zarr", count=16, side=32)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(replace(random_model("rgb"), name="one-date"), tmp_path_factory.mktemp("weights"))


def test_rules_are_learnt_and_can_be_taken_for_a_map(
    run: Run, patches: PatchSet, weights: Path, tmp_path: Path
) -> None:
    out = tmp_path / "rules.json"
    status, told, err = run("learn-rules", weights, "--data", patches.path, "--out", out, "--subtract")
    assert (status, err) == (0, "")
    learnt = read_rules(out)
    assert learnt.subtracted
    assert learnt.model == "one-date"
    assert set(learnt.ground) == {"here", "there"}
    names = {name for names in learnt.ground.values() for name in names}
    assert names == {block.name for block in patches.blocks("validation", patches.band_set("rgb"))}
    assert "with what the others teach" in told
    assert "what the thresholds were chosen by, the mean over the domains of F1" in told
    for name, value in learnt.mean_f1.items():
        assert f"{name} {value:.3f}" in told
    assert learnt.mean_f1["learnt"] >= learnt.mean_f1["none"]
    model = random_model("rgb")
    assert map_rules(ModelSettings(rules=f"learnt:{out}"), model.bands).rules == learnt.rules


def test_rules_are_never_learnt_on_test_ground(run: Run, patches: PatchSet, weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "rules.json"
    status, _, err = run("learn-rules", weights, "--data", patches.path, "--part", "test", "--out", out)
    assert status == 2
    assert "test part" in err
    assert not out.exists()


def test_a_folder_is_no_file_for_rules(run: Run, patches: PatchSet, weights: Path, tmp_path: Path) -> None:
    status, out, err = run("learn-rules", weights, "--data", patches.path, "--out", tmp_path)
    assert (status, out) == (2, "")
    assert f"--out {tmp_path} is a folder: name a file for the rules" in err


def test_a_network_of_two_dates_cannot_be_subtracted(run: Run, patches: PatchSet, tmp_path: Path) -> None:
    weights = save_model(replace(random_model("ten-band"), name="two-dates"), tmp_path)
    status, _, err = run("learn-rules", weights, "--data", patches.path, "--subtract", "--out", tmp_path / "r.json")
    assert status == 2
    assert "one date" in err


def test_nothing_is_promised_of_an_interrupted_mapping(
    run: Run, patches: PatchSet, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("modeling.geology.scheme.map_block", interrupted)
    status, _, err = run("learn-rules", weights, "--data", patches.path, "--out", tmp_path / "r.json")
    assert (status, err) == (130, "interrupted; nothing is kept of this: the same command begins anew\n")
    assert not (tmp_path / "r.json").exists()
