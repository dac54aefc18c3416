"""The shipped models are made from regions that are kept apart, and their cards say what was measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from modeling import bands
from modeling.data.dataset import STORED_LAYERS, store_region
from modeling.data.patch_simulate import RegionPlan
from modeling.domains.sample_file import load_fingerprint, sample_path
from modeling.model import load_model
from modeling.scoring.baseline import load_baseline
from modeling.training.shipped import RUNS, main, make, steps_within
from modeling.training.shipped_regions import HELD_OUT_DOMAIN, TRAINING_DOMAINS, Split, regions_of, shipped_split
from modeling.uncertainty.stored import uncertainty_of

SMALL = Split(
    (RegionPlan("iburi", 1), RegionPlan("palu", 2)),
    (RegionPlan("iburi", 3),),
    (RegionPlan("luding", 4),),
    tuple(RegionPlan(domain, 5 + number) for number, domain in enumerate(("haiti", "papua", "hualien"))),
)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A work folder whose regions are already there: scars that lost their vegetation on slopes."""
    for plan in (*SMALL.training, *SMALL.validation, *SMALL.held_out, *SMALL.events):
        rng = np.random.default_rng(plan.seed)
        truth = np.zeros((96, 96), dtype=bool)
        truth[20:50, 30:60] = True
        layers = {name: rng.uniform(0.04, 0.06, truth.shape).astype(np.float32) for name in STORED_LAYERS}
        layers |= {f"nir_{phase}": layers[f"nir_{phase}"] + np.float32(0.3) for phase in ("pre", "post")}
        layers["nir_post"][truth] -= np.float32(0.25)
        layers["red_post"][truth] += np.float32(0.15)
        layers["slope"] = np.where(truth, 35, 10).astype(np.float32)
        layers["hillshade"] = np.full(truth.shape, 180, dtype=np.float32)
        store_region(
            tmp_path / "regions" / plan.folder,
            plan.domain,
            plan.seed,
            layers=layers,
            truth=truth,
            valid=~(truth & False),
        )
    return tmp_path


def test_no_region_is_in_two_parts_and_the_held_out_domain_is_in_one() -> None:
    split = shipped_split()
    training, validation, held_out, events = ({plan.name for plan in part} for part in vars(split).values())
    assert not training & validation
    assert not (training | validation) & held_out
    assert not any(HELD_OUT_DOMAIN in name for name in training | validation)
    assert all(HELD_OUT_DOMAIN in name for name in held_out)
    assert not held_out & events
    assert not {plan.domain for plan in split.events} & set(TRAINING_DOMAINS)
    assert {plan.seed for plan in split.training}.isdisjoint(plan.seed for plan in split.validation)


def test_every_band_set_has_a_run_of_its_own() -> None:
    assert set(RUNS) == set(bands.BAND_SETS)
    assert all(run.bands == name for name, run in RUNS.items())
    assert all(run.start in RUNS for run in RUNS.values() if run.start)


def test_making_a_model_writes_weights_baseline_and_honest_cards(work: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    runs = {
        name: replace(run, recipe=replace(run.recipe, steps=4, batch=2, patch_px=64, validate_every=2))
        for name, run in RUNS.items()
    }
    out = tmp_path / "weights"
    path = make("rgb-terrain", SMALL, out=out, work=work, workers=1, runs=runs)
    assert not [left for left in out.iterdir() if "ten-band" in left.name], (
        "what it starts from is made, and not shipped with it"
    )
    assert path.name == "resu-senet-slim_rgb-terrain.safetensors"
    model = load_model(path)
    parts = model.card["data"]["parts"]
    assert {part: list(domains) for part, domains in parts.items()} == {
        "training": ["iburi", "palu"], "validation": ["iburi"], "held out": ["luding"],
    }  # fmt: skip
    assert parts["training"]["palu"].endswith("seeds 2")
    assert model.card["start"]["name"] == "resu-senet-slim_ten-band"
    assert model.card["scores"]["held out"]["baseline"]["pixels"]["f1"] > 0.95  # the toy is the baseline's home
    fitted = uncertainty_of(model)
    assert fitted is not None
    assert fitted.totals is not None
    assert (fitted.totals.domains, fitted.totals.level) == (("haiti", "papua", "hualien"), pytest.approx(2 / 3))
    text = path.with_suffix(".md").read_text(encoding="utf-8")
    assert "67 % intervals" in text
    assert "Trained on simulated data only" in text
    assert model.weights_hash in text
    assert f"{model.card['scores']['held out']['model']['pixels']['f1']:.3f}" in text
    sample = load_fingerprint(sample_path(path), model.card["sample"]["sha256"])
    assert sample.about == f"2 simulated regions of {', '.join(TRAINING_DOMAINS)}, randomised"
    assert sample.domains == ("iburi", "palu")
    assert load_baseline(out / "dndvi-slope.json").tuned_on == ("iburi-1", "palu-2")
    assert json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["card"]["recipe"]["steps"] == 4


def test_the_command_line_needs_to_know_which_model(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 2
    assert "--band-set" in capsys.readouterr().err


def test_minutes_become_steps(work: Path) -> None:
    run = replace(RUNS["rgb"], recipe=replace(RUNS["rgb"].recipe, batch=2, patch_px=64, input_scale=1))
    regions = regions_of(work / "regions", SMALL.training, 1)
    few, more = (steps_within(minutes, run, regions) for minutes in (0.5, 50.0))
    assert 1 <= few < more
