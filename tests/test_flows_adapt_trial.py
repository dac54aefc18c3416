"""flows/adapt_trial: events whose truth is known are mapped, drawn on and adapted; what is finished is not done again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely

from flows.adapt_trial.drawing import DrawnPolygons, draw, roughened
from flows.adapt_trial.pair import AT
from flows.adapt_trial.report import markdown, write_report
from flows.adapt_trial.trial import DRAWINGS, Case, Trial, cases, f1_of, run_cases, try_case

ABOUT = {
    "made_on": "2026-01-01",
    "command": "python -m flows.adapt_trial",
    "device": "a machine",
    "network": "a network",
}
TRIALS = [
    Trial(Case("papua", 1, "errors"), "better", "all, 32 steps", 0.80, 0.85, 0.81, 0.84, 60.0),
    Trial(Case("luding", 2, "errors"), "better", "shift", 0.60, 0.66, 0.61, 0.60, 70.0),
    Trial(Case("luding", 2, "anywhere"), "unproven", "all, 16 steps", 0.60, 0.62, 0.61, 0.63, 70.0),
    Trial(Case("papua", 1, "anywhere"), "refused", "as it was", 0.80, 0.80, 0.81, 0.81, 50.0),
    Trial(Case("haiti", 3, "anywhere"), "cannot be judged: too few", "", 0.0, 0.0, 0.5, 0.5, 0.0),
]


def test_every_event_is_drawn_on_in_each_way() -> None:
    found = cases(["luding", "papua"], 2, 20)
    assert len(found) == len({case.name for case in found}) == 4 * len(DRAWINGS)
    assert {case.drawing for case in found} == set(DRAWINGS)
    assert len({case.seed for case in found}) == 4


def test_only_missed_landslides_are_drawn_where_that_is_asked() -> None:
    truth = np.zeros((120, 120), bool)
    for row in range(5, 110, 15):
        truth[row : row + 6, 10:16] = truth[row : row + 6, 40:46] = True
    mapped = truth & (np.arange(120) < 30)
    known = np.ones_like(truth)
    for missed_only in (False, True):
        drawn = draw(truth, mapped, known, AT, count=12, seed=1, missed_only=missed_only)
        x = [shape.centroid.x for shape, landslide in zip(drawn.geometries, drawn.landslide, strict=True) if landslide]
        found = [(value - AT.c) / AT.a < 30 for value in x]
        assert len(x) == 6
        assert sum(found) == (0 if missed_only else 3)


def test_rough_outlines_lie_a_pixel_off() -> None:
    drawn = DrawnPolygons((shapely.box(0, 0, 60, 60), shapely.box(100, 100, 101, 101)), (True, False))
    rough = roughened(drawn, 10.0, 3)
    assert rough.landslide == drawn.landslide
    for before, after in zip(drawn.geometries, rough.geometries, strict=True):
        assert after.is_valid
        assert before.centroid.distance(after.centroid) == pytest.approx(10)
    assert rough.geometries[0].area != pytest.approx(3600)


def test_the_report_says_what_became_of_each(tmp_path: Path) -> None:
    text = markdown(TRIALS, ABOUT)
    assert "| where the map is wrong first | better | 2 | 71.0 | 72.0 | +1.0 | -1.0 | +3.0 | 1 |" in text
    assert "| whatever the map says | refused | 1 | 81.0 |" in text
    assert "Of the 3 maps that were made" in text
    assert "differs from the real one by 3.0 points" in text
    assert "the signs agree in 2" in text
    assert "1 maps could not be judged: cannot be judged: too few." in text
    assert "| haiti | 3 | whatever the map says | cannot be judged |  | – | – | 50.0 | – |" in text
    assert "simulated" in text
    path = write_report(tmp_path, TRIALS[::-1], ABOUT)
    assert path.read_text() == markdown([TRIALS[1], TRIALS[0], TRIALS[4], TRIALS[2], TRIALS[3]], ABOUT), (
        "by drawing, domain and event"
    )
    stored = json.loads((tmp_path / "adapt.json").read_text())
    assert stored["simulated"]
    assert len(stored["trials"]) == 5


def test_the_f1_of_a_map_is_that_of_its_pixels() -> None:
    truth, claimed = np.arange(10) < 4, np.arange(10) % 2 == 0
    assert f1_of(claimed, truth) == pytest.approx(2 * 2 / (5 + 4))
    assert f1_of(np.zeros(10, bool), truth) == 0


@pytest.mark.slow
def test_a_case_is_tried_once(tmp_path: Path) -> None:
    case = replace(cases(["papua"], 1, 20)[0])
    found = try_case(case, tmp_path, "resu-senet-slim_ten-band", 1.0)
    assert found.verdict in ("better", "unproven", "refused")
    assert 0.5 < found.f1_before < 1
    assert [path.name for path in tmp_path.iterdir()] == [f"{case.name}.json"]
    told: list[tuple[int, int]] = []
    again = list(run_cases([case], tmp_path, "no such network", 1.0, 1, lambda *done: told.append(done)))
    assert again == [found]
    assert told == [(1, 1)]
