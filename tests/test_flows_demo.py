"""The commands of the README as they ship, with the trained networks: the demo, and the real Iburi pair."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import rasterio
from rasterio.vrt import WarpedVRT

from flows.facts import ReportFacts
from flows.scoring import BASELINE
from gee.types import Observed
from modeling.model import available_models

pytestmark = pytest.mark.slow
DEADLINE_S = 900


def run(folder: Path, *arguments: object) -> tuple[float, float, str]:
    """Run a command in `folder`: (seconds, peak of the summed memory of all its processes in GB, what it said)."""
    ours = ("QUAKESLIDE_", "PREFECT_API", "STORAGE_EMULATOR", "CPL_GS", "GS_NO")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    command = [sys.executable, "-c", "from flows.cli import main; main()", *map(str, arguments)]
    began, peak = time.monotonic(), 0
    with (folder / "said.txt").open("w+") as said:
        process = psutil.Popen(command, cwd=folder, env=environment, stdout=said, stderr=subprocess.STDOUT)
        while process.poll() is None:
            peak = max(peak, resident(process))
            assert time.monotonic() - began < DEADLINE_S
            time.sleep(0.2)
        said.seek(0)
        told = said.read()
    assert process.returncode == 0, told
    return time.monotonic() - began, peak / 1e9, told


def resident(process: psutil.Process) -> int:
    total = 0
    for each in (process, *process.children(recursive=True)):
        try:
            total += each.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def needs(model: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(model not in available_models(), reason=f"the weights {model} are not here")


@needs("resu-senet-slim_ten-band")
@pytest.mark.timeout(1000)
def test_the_demo_finds_the_landslides_of_a_quake_that_training_never_saw(
    tmp_path: Path, record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]
) -> None:
    seconds, gigabytes, told = run(tmp_path, "demo", "--out", "demo")
    record_property("seconds", round(seconds))
    record_property("gigabytes", round(gigabytes, 2))
    with capsys.disabled():
        sys.stdout.write(f"\nquakeslide demo took {seconds:.0f} s and {gigabytes:.2f} GB\n")
    folder = next((tmp_path / "demo").glob("sim*/v0001"))
    metrics = json.loads((folder / "metrics.json").read_text())
    network, threshold = metrics["methods"][metrics["model"]], metrics["methods"][BASELINE]
    assert network["pixel"]["f1"] >= 0.80
    assert network["pixel"]["f1"] >= threshold["pixel"]["f1"] + 0.15
    for scores in (network, threshold):
        assert set(scores["pixel"]) == {"precision", "recall", "f1", "iou", "mcc"}
        assert set(scores["objects"]) == {"precision", "recall", "f1"}
    for words in ("SIMULATED", "area of interest", "mapped (observed)", "landslides found", "products:", "pixel F1"):
        assert words in told


@needs("resu-senet-slim_rgb-terrain")
@pytest.mark.timeout(1000)
def test_the_real_iburi_pair_is_mapped_where_it_was_seen(tmp_path: Path, shared_data: Path) -> None:
    _, _, told = run(tmp_path, "map", "us2000h8ty", "--data", shared_data, "--out", "out")
    folder = tmp_path / "out" / "us2000h8ty" / "v0001"
    with rasterio.open(folder / "observed.tif") as file, rasterio.open(folder / "mask.tif") as mask_file:
        observed, mask, grid = file.read(1), mask_file.read(1), file.profile
    with rasterio.open(folder / "probability.tif") as file:
        probability = file.read(1)
    inside, clear = observed != Observed.OUTSIDE, observed == Observed.CLEAR
    assert 0.3 < (observed == Observed.SWATH_GAP)[inside].mean() < 0.6, "the image before has a swath gap"
    assert (np.isnan(probability) == ~clear).all()
    assert (mask[~clear] == 255).all()
    assert "not observed: swath gap" in told
    assert "the acquisition dates of the pre phase were not recorded and are assumed" in told
    facts = ReportFacts.from_json((folder / "facts.json").read_text())
    assert (facts.provenance.model, facts.event.simulated) == ("resu-senet-slim_rgb-terrain", False)
    assert "Contains modified Copernicus Sentinel data 2018" in facts.provenance.attribution
    assert facts.inventory.count > 50
    # Bare ground is brighter in red than the forest and the fields around it.
    where = {"crs": grid["crs"], "transform": grid["transform"], "height": grid["height"], "width": grid["width"]}
    with rasterio.open(shared_data / "iburi2018" / "s2_post_B4.tif") as source, WarpedVRT(source, **where) as warped:
        red = warped.read(1).astype(float)
    assert red[mask == 1].mean() > 1.5 * red[mask == 0].mean()
    slope = facts.inventory.largest[0].mean_slope_deg
    assert slope is not None
    assert slope > 8
