"""flows/unlabelled.py: a network fitted to a scene without a label is another file, and says what it changed there."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.options import raster_options
from fakes.quakes import SmallQuake
from fakes.shy import shy_network
from fakes.training import register_tiny

from flows import cli
from flows.adapt_parent import Rasters
from flows.adapt_trial.pair import write_pair
from flows.interruption import INTERRUPTED
from flows.map_raster import map_raster_pair
from flows.settings import Settings, WorkSettings
from flows.unlabelled import RECIPES, SUFFIXES, how_to
from modeling.adaptation import auxiliary
from modeling.data.patch_simulate import simulate_patches
from modeling.data.patch_split import Split
from modeling.model import load_model
from modeling.recipes import ADAPTATIONS, Adversarial, adaptation

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs `quakeslide adapt-unlabelled …` in this process and an empty folder: (exit status, stdout, stderr)."""
    register_tiny(monkeypatch)
    monkeypatch.setitem(auxiliary.LEVELS, "tiny", "trunk")  # type: ignore[arg-type]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["quakeslide", "adapt-unlabelled", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        told = capsys.readouterr()
        return int(exit_.value.code or 0), told.out, told.err

    return call


def mapped(quake: SmallQuake, folder: Path, *, apart: bool = False) -> tuple[Path, Rasters, str]:
    """A folder of `map-raster`, its rasters and its network."""
    weights = str(shy_network(quake.region, folder / "weights"))
    rasters = write_pair(quake.region, folder, apart=apart)
    map_raster_pair(
        rasters.pre, rasters.post, rasters.dem, folder / "first", bands=None, scale=None, weights=weights, name="pair",
        settings=Settings(work=WorkSettings(scratch=str(folder))),
    )  # fmt: skip
    return folder / "first", rasters, weights


@pytest.mark.parametrize("way", ["scene-means", "norms", "self-training", "adversarial"])
def test_a_network_beside_the_one_before_comes_out(
    way: str, small_quake: SmallQuake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    first, rasters, weights = mapped(small_quake, tmp_path)
    before = Path(weights).read_bytes()
    source = tmp_path / "mine.zarr"
    if way in RECIPES:
        simulate_patches(
            source, {"luding": 24}, cache=tmp_path / "cache", patch_px=32, region_px=128, split=Split((2, 1, 1))
        )
    of = (*raster_options(rasters), "--weights", weights)
    how = ("--source", source, "--steps", 3) if way in RECIPES else ()
    status, out, err = run(first, "--way", way, *of, *how)
    assert (status, err) == (0, "")
    made = next((tmp_path / "models").glob("*.safetensors"))
    assert f"map with it: `quakeslide map-raster --weights models/{made.name}`" in out
    assert "of the ground looked at changes its class" in out
    fitted, shy = load_model(made), load_model(weights)
    assert fitted.weights_hash != shy.weights_hash
    assert Path(weights).read_bytes() == before
    assert made.stem == f"{shy.name}-{SUFFIXES[way]}"  # type: ignore[index]
    there = made.read_bytes()
    status, _, err = run(first, "--way", way, *of, *how, "--seed", 7)
    assert (status, f"models/{made.name} is there already" in err) == (cli.BAD_INPUT, True)
    assert made.read_bytes() == there
    entry = json.loads(made.with_suffix(".json").read_text())["card"]["adaptation"][-1]
    assert entry["before"]["sha256"] == shy.weights_hash
    if way in RECIPES:
        recipe = entry["settings"]
        assert (recipe["name"], recipe["steps"]) == (RECIPES[way], 3)  # type: ignore[index]
    assert "target is unknown" in entry["calibration"] or "nobody has measured" in entry["calibration"]


def test_what_is_missing_is_said_before_anything_is_done(small_quake: SmallQuake, tmp_path: Path, run: Run) -> None:
    first, rasters, weights = mapped(small_quake, tmp_path)
    status, _, err = run(first)
    assert (status, "give the rasters" in err) == (cli.BAD_INPUT, True)
    of = (*raster_options(rasters), "--weights", weights)
    status, _, err = run(first, *of)
    assert (status, "does not say what it has learned from" in err) == (cli.BAD_INPUT, True)
    status, _, err = run(first, "--way", "magic", *of)
    assert (status, "magic" in err) == (cli.BAD_INPUT, True)
    assert not (tmp_path / "models").exists()


def test_bands_in_separate_files_are_all_taken(
    small_quake: SmallQuake, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, rasters, weights = mapped(small_quake, tmp_path, apart=True)
    status, _, err = run(first, "--way", "norms", *raster_options(rasters), "--weights", weights)
    assert (status, err) == (0, "")
    lost = raster_options(replace(rasters, pre=(tmp_path / "lost.tif", *rasters.pre)))
    status, _, err = run(first, "--way", "norms", *lost, "--weights", weights)
    assert (status, "lost.tif: there is no such file" in err) == (cli.BAD_INPUT, True)

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("flows.unlabelled.fitted", interrupted)
    again = tmp_path / "again"
    status, _, err = run(first, "--way", "norms", *raster_options(rasters), "--weights", weights, "--out", again)
    assert (status, err) == (INTERRUPTED, "interrupted; nothing is kept of this: the same command begins anew\n")
    assert not again.exists()


def test_a_way_takes_its_own_recipes_only(tmp_path: Path, run: Run) -> None:
    status, _, err = run(tmp_path, "--way", "adversarial", "--recipe", "self-training")
    assert (status, "choose one of adanet, adanet-scene, adanet-control" in err) == (cli.BAD_INPUT, True)
    status, _, err = run(tmp_path, "--way", "norms", "--recipe", "adanet")
    assert (status, "leave out --recipe adanet" in err) == (cli.BAD_INPUT, True)
    status, _, err = run(tmp_path, "--way", "norms", "--steps", 5)
    assert (status, "trains nothing, so it has no steps: leave out --steps 5" in err) == (cli.BAD_INPUT, True)
    assert how_to("norms", None, None) is None
    assert how_to("scene-means", None, None) is None
    assert how_to("adversarial", None, None) is ADAPTATIONS["adanet-scene"]
    assert how_to("adversarial", "adanet", 7) == replace(adaptation("adanet", Adversarial), steps=7)
    assert how_to("self-training", None, None) is ADAPTATIONS["self-training"]
