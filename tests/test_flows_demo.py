"""`quakeslide demo` as it ships: a quake that training never saw, mapped by the trained network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from flows.scoring import BASELINE
from modeling.model import available_models

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("msf-litenet_ten-band" not in available_models(), reason="the ten-band weights are not here"),
]
DEADLINE_S = 900


def demo(folder: Path) -> tuple[float, float, str]:
    """Run it in `folder`: (seconds, peak of the summed resident memory of all its processes in GB, what it said)."""
    ours = ("QUAKESLIDE_", "PREFECT_API", "STORAGE_EMULATOR", "CPL_GS", "GS_NO")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    command = [sys.executable, "-c", "from flows.cli import main; main()", "demo", "--out", "demo"]
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


@pytest.mark.timeout(1000)
def test_the_demo_finds_the_landslides_of_a_quake_that_training_never_saw(
    tmp_path: Path, record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]
) -> None:
    seconds, gigabytes, told = demo(tmp_path)
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
