"""`quakeslide evaluate`, `benchmark` and `explain`: small runs from end to end, and what is wrong told in one line."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import get_args

import pytest
import torch
import typer

from flows import cli, cli_evaluate
from flows.interruption import INTERRUPTED
from modeling import networks
from modeling.bands import BandSet
from modeling.benchmark.speed import inference_speed
from modeling.data.normalise import Normalisation
from modeling.data.patch_simulate import simulate_patches
from modeling.data.patch_split import Split
from modeling.data.patches import PatchSet, fit_normalisation
from modeling.explaining.ablation import WAYS
from modeling.model import LandslideModel, load_model, save_model

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in this process: (exit status, stdout, stderr)."""
    app = typer.Typer(context_settings={"help_option_names": ["-h", "--help"]})
    cli_evaluate.register(app)
    monkeypatch.setattr(cli, "app", app)

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["quakeslide", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        told = capsys.readouterr()
        return int(exit_.value.code or 0), told.out, told.err

    return call


@pytest.fixture(scope="module")
def patches(tmp_path_factory: pytest.TempPathFactory) -> PatchSet:
    folder = tmp_path_factory.mktemp("patches")
    counts = {"iburi": 12, "palu": 12}
    return simulate_patches(
        folder / "small.zarr", counts, cache=folder / "regions", patch_px=32, region_px=128, split=Split((2, 1, 1))
    )


@pytest.fixture(scope="module")
def weights(patches: PatchSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network."""
    torch.manual_seed(0)
    bands = patches.band_set("ten-band")
    network = networks.create("msf-litenet", in_channels=len(bands.channels), classes=2).eval()
    model = LandslideModel(
        "untrained", "msf-litenet", network, bands, fit_normalisation(patches, bands, "standardise"),
        temperature=1.0, threshold=0.5, weights_hash="", card={},
    )  # fmt: skip
    return save_model(model, tmp_path_factory.mktemp("weights"))


ANEW = "interrupted; nothing is kept of this: the same command begins anew\n"


@pytest.mark.parametrize(
    ("command", "does"),
    [("evaluate", "modeling.scoring.evaluate.evaluate"), ("explain", "modeling.explaining.explain_files.explain")],
)
def test_nothing_is_promised_of_what_keeps_nothing(
    run: Run, patches: PatchSet, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, does: str
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(does, interrupted)
    status, _, err = run(command, weights, "--data", patches.path, "--out", tmp_path / "out")
    assert (status, err) == (INTERRUPTED, ANEW)


@pytest.mark.parametrize("command", ["evaluate", "benchmark", "explain"])
def test_help_needs_no_network(run: Run, command: str) -> None:
    status, out, err = run(command, "--help")
    assert (status, err) == (0, "")
    assert "--out" in out


def test_evaluate_writes_a_report(run: Run, patches: PatchSet, weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "evaluation"
    status, said, err = run("evaluate", weights, "--data", patches.path, "--out", out)
    assert (status, err) == (0, ""), err
    assert "pixel F1" in said
    text = (out / "evaluation.md").read_text()
    assert "untrained on the test part of small" in text
    assert "## By domain" in text
    assert "The ground is simulated" in text
    assert "untrained does not say which domains it has learned from" in text
    stored = json.loads((out / "evaluation.json").read_text())
    assert (stored["simulated"], stored["model_learnt_from"]) == (True, None)
    assert len(stored["blocks"]) == sum(sum(both) for (_, part), both in patches.counts().items() if part == "test")
    assert {block["domain"] for block in stored["blocks"]} == {"iburi", "palu"}
    assert "Matched one for one" in text
    f1 = stored["scores"]["landslides"]["f1"]
    assert f1["low"] <= f1["value"] <= f1["high"]
    assert f"landslides F1 {f1['value']:.3f}" in said
    assert stored["reliability"]["ece"] >= 0
    assert (out / "reliability.png").is_file()
    assert (out / "sizes.png").is_file()


def test_scores_on_domains_that_the_model_has_learned_from_are_called_so(
    run: Run, patches: PatchSet, weights: Path, tmp_path: Path
) -> None:
    card = {"data": {"parts": {"training": {"palu": "many", "noto": "few"}}}}
    path = save_model(replace(load_model(weights), name="learned", card=card), tmp_path / "weights")
    for domains, seen in (("", ["palu"]), ("iburi", [])):
        out = tmp_path / f"of-{domains}"
        status, said, err = run("evaluate", path, "--data", patches.path, "--out", out, "--domains", domains)
        assert (status, err) == (0, "")
        stored = json.loads((out / "evaluation.json").read_text())
        assert (stored["model_learnt_from"], stored["scored_domains_learnt_from"]) == (["palu", "noto"], seen)
        for told in (" ".join(said.split()), (out / "evaluation.md").read_text()):
            assert ("learned has learned from palu, of the domains that are scored" in told) == bool(seen)


def test_explain_writes_pictures_and_numbers(run: Run, patches: PatchSet, weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "explanation"
    status, said, err = run("explain", weights, "--data", patches.path, "--out", out, "--patches", 2)
    assert (status, err) == (0, ""), err
    written = {path.name for path in out.iterdir()}
    assert written == {
        "grad-cam-1.png", "grad-cam-2.png", "attention.png", "attention.json", "ablation.png", "ablation.json",
    }  # fmt: skip
    assert "attention.png" in said
    ablation = json.loads((out / "ablation.json").read_text())
    assert {"slope", "red_pre"} <= {row["group"] for row in ablation["rows"]}
    attention = json.loads((out / "attention.json").read_text())["attention"]
    assert set(attention[0]["by_band"]) == set(patches.band_set("ten-band").channels)


def test_bands_are_taken_away_in_a_known_way_or_nothing_is_computed(
    run: Run, patches: PatchSet, weights: Path, tmp_path: Path
) -> None:
    parameters = inspect.signature(cli_evaluate.explain, eval_str=True).parameters
    assert get_args(get_args(parameters["way"].annotation)[0]) == WAYS
    status, _, err = run(
        "explain", weights, "--data", patches.path, "--way", "shuffled", "--out", tmp_path / "explanation"
    )
    assert status == cli.BAD_INPUT
    assert "'shuffled' is not one of 'unknown', 'moved'" in err
    assert not (tmp_path / "explanation").exists()


def test_a_benchmark_of_two_networks_on_patches(
    run: Run, patches: PatchSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = partial(inference_speed, tile_px=64, seconds=0.0)
    monkeypatch.setattr("modeling.benchmark.run.inference_speed", quick)
    arguments = (
        "benchmark", "--data", patches.path, "--bands", "ten-band", "--networks", "msf-litenet,cgnet:optical",
        "--seeds", "0", "--steps", "2", "--rates", "1e-3", "--batch", "2", "--processes", "1",
        "--work", tmp_path / "work", "--out", tmp_path / "out",
    )  # fmt: skip
    status, _, err = run(*arguments)
    assert (status, err) == (0, ""), err
    text = (tmp_path / "out" / "benchmark.md").read_text()
    assert "cgnet:optical" in text
    assert patches.sha256 in text
    assert "quakeslide benchmark --data" in text
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"benchmark.{e}" for e in ("md", "json", "csv", "png")
    }
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "work" / "runs").iterdir()}
    status, _, _ = run(*arguments)
    assert status == 0
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "work" / "runs").iterdir()}
    status, _, err = run(*(value if value != "1e-3" else "1e-2" for value in arguments))
    assert status == cli.BAD_INPUT
    assert "differs in rates" in err


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        (["--steps", "2", "--networks", "alexnet"], "'alexnet' is not an entry"),
        ([], "either --budget"),
        (["--steps", "2", "--budget", "1h"], "either --budget"),
        (["--steps", "2", "--seeds", "a"], "--seeds 'a'"),
        (["--steps", "2", "--regions", "1,2"], "three numbers"),
        (["--steps", "2", "--domains", "atlantis"], "unknown simulated domain"),
        (["--steps", "2", "--terms", "fair"], "'fair'"),
        (["--steps", "2", "--bands", "x-ray"], "unknown band set"),
    ],
)
def test_a_benchmark_that_cannot_be_is_refused(run: Run, tmp_path: Path, arguments: list[str], fact: str) -> None:
    status, _, err = run("benchmark", *arguments, "--work", tmp_path / "work", "--out", tmp_path / "out")
    assert status == cli.BAD_INPUT
    assert fact in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_data_set_without_a_test_part_is_refused(run: Run, weights: Path, patches: PatchSet, tmp_path: Path) -> None:
    two = simulate_patches(
        tmp_path / "two.zarr", {"iburi": 8}, cache=patches.path.parent / "regions", patch_px=32, region_px=128
    )
    status, _, err = run("evaluate", weights, "--data", two.path, "--out", tmp_path / "out")
    assert status == cli.BAD_INPUT
    assert "its test part is empty" in err
    status, _, err = run(
        "benchmark", "--data", two.path, "--steps", 2, "--networks", "cgnet", "--work", tmp_path / "work"
    )
    assert status == cli.BAD_INPUT
    assert "its test part of iburi is empty" in err


def test_a_model_of_other_bands_is_refused(run: Run, patches: PatchSet, tmp_path: Path) -> None:
    bands = BandSet("heat", ("slope", "thermal_post"), "")
    network = networks.create("msf-litenet", in_channels=2, classes=2).eval()
    plain = Normalisation("standardise", (0.0, 0.0), (1.0, 1.0), (0.0, 0.0), (-6.0, 6.0))
    model = LandslideModel(
        "warm", "msf-litenet", network, bands, plain, temperature=1.0, threshold=0.5, weights_hash="", card={}
    )
    path = save_model(model, tmp_path / "weights")
    for command in ("evaluate", "explain"):
        status, _, err = run(command, path, "--data", patches.path, "--out", tmp_path / "out")
        assert status == cli.BAD_INPUT
        assert f"model warm ({path}) is for other bands: {patches.path} has no thermal_post" in err
        assert not (tmp_path / "out").exists()
