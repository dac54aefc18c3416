"""`quakeslide calibrate`: what it refuses, which domains it takes, and that a dry run writes nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.cli_calibrate import _domains
from modeling.domains.sample_file import load_fingerprint, sample_path
from modeling.errors import DataError, WeightsError
from modeling.model import WEIGHTS_FOLDER, load_model
from modeling.simulate.domains import DOMAINS
from modeling.uncertainty.stored import uncertainty_of

NAME = "resu-senet-slim_rgb"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    for path in WEIGHTS_FOLDER.glob(f"{NAME}.*"):
        shutil.copy(path, tmp_path)
    return tmp_path / f"{NAME}.safetensors"


def test_by_default_it_takes_all_domains_that_the_model_has_not_learned_from(weights: Path) -> None:
    model, sample = load_model(weights), load_fingerprint(sample_path(weights))
    taken = _domains("", model, sample)
    assert set(taken) == set(DOMAINS) - set(sample.domains)
    assert len(taken) >= 4, "intervals of 80 % need four"
    assert _domains("papua,haiti", model, sample) == ("papua", "haiti")
    with pytest.raises(DataError, match="has learned from noto: name domains"):
        _domains("noto,haiti", model, sample)
    with pytest.raises(DataError, match="does not say what it has learned from"):
        _domains("", model, None)
    with pytest.raises(DataError, match="wenchuan"):
        _domains("wenchuan", model, sample)


def test_a_name_without_a_file_is_refused_in_one_line() -> None:
    found = CliRunner().invoke(app, ["calibrate", NAME])
    assert isinstance(found.exception, DataError)
    assert "safetensors" in str(found.exception)


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        (["--domains", "haiti,haiti,hualien"], "events of 3 domains and more that the model has not seen, not of 2"),
        (["--domains", "haiti,papua,hualien,haiti", "--level", "0.8"], "there are 3 (haiti, papua, hualien)"),
    ],
)
def test_too_few_domains_are_refused_before_anything_is_simulated(
    weights: Path, tmp_path: Path, options: list[str], fact: str
) -> None:
    work = tmp_path / "events"
    found = CliRunner().invoke(app, ["calibrate", str(weights), *options, "--work", str(work)])
    assert isinstance(found.exception, DataError)
    assert fact in str(found.exception)
    assert not work.exists()


def test_of_a_model_that_is_not_there_the_file_that_was_given_is_named(tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["calibrate", str(tmp_path / "nothing.safetensors")])
    assert isinstance(found.exception, WeightsError)
    assert "nothing.safetensors" in str(found.exception)
    assert "nothing.json" not in str(found.exception)


@pytest.mark.slow
def test_it_fits_measures_and_stores_and_a_dry_run_does_not(weights: Path, tmp_path: Path) -> None:
    events = ["--domains", "luding,papua,haiti", "--events", "2", "--level", "0.5", "--region-px", "128",
              "--work", str(tmp_path / "events")]  # fmt: skip
    description = weights.with_suffix(".json")
    before = description.read_bytes()
    dry = CliRunner().invoke(app, ["calibrate", str(weights), *events, "--dry-run"], catch_exceptions=False)
    assert dry.exit_code == 0
    assert description.read_bytes() == before
    CliRunner().invoke(app, ["calibrate", str(weights), *events], catch_exceptions=False)
    stored = uncertainty_of(load_model(weights))
    assert stored is not None
    assert stored.totals is not None
    assert stored.totals.events == 6
    assert stored.about["simulated"] is True
    assert json.loads(description.read_text())["sha256"] == json.loads(before)["sha256"]
