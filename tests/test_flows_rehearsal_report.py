"""flows/rehearsal: its report, its state, its timing: figures that were measured apart stand together."""

from __future__ import annotations

import datetime as dt
import json
import platform
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.errors import FlowError
from flows.rehearsal import report
from flows.rehearsal import state as states
from flows.rehearsal.auditor import Verdict
from flows.rehearsal.bad_day import bad_day_figures, waits_s
from flows.rehearsal.rehearse import Options, Rehearsed, _begun
from flows.rehearsal.report import KEYS, code, figures_of, write
from flows.rehearsal.sites import MOST
from flows.rehearsal.state import Progressed, peak_mb
from flows.rehearsal.story import START, Story
from flows.rehearsal.timing import mirrored, stage_seconds

OPTIONS = Options.of(90.0, 1, 100, None, steppers=2, every_minutes=5.0, size_px=256, data="")


def a_rehearsal(verdict: Verdict) -> Rehearsed:
    end = START + dt.timedelta(days=90)
    story = Story(START, end, (), (), frozenset(), {"planted: plain": 3, "planted: deep": 0})
    memory = {"0": {"watch": 150.0, "step": 900.0}, "6": {"step": 950.0}, "7": {"step": 990.0}, "89": {"step": 960.0}}
    state = Progressed(
        {},
        end,
        killed=100,
        spent_s=7200.0,
        counts=Counter({"steps: version": 80}),
        worked_s={"poll": 12.0},
        memory=memory,
    )
    return Rehearsed(OPTIONS, state, story, verdict, recorded=True)


def test_a_bad_days_waits_are_counted_from_the_first_work_and_held_to_the_urgency(tmp_path: Path) -> None:
    notes = [
        {"at": f"2026-03-02T14:00:{second:02d}+00:00", "what": what, "campaign": name, "said": said, "took_s": 5.0}
        for second, what, name, said in (
            (6, "opened", "us1", ""), (10, "step", "us9", "wait: nothing new"), (15, "step", "us1", "version 1: first"),
            (22, "step", "us2", "version 1: first"), (40, "step", "us1", "version 2: more"), (55, "step", "us3", "version 1"),
        )
    ]  # fmt: skip
    assert waits_s(notes) == {"us1": 5.0, "us2": 12.0, "us3": 45.0}
    done = replace(a_rehearsal(Verdict(mapped=3)), urgency={"us1": 90.0, "us2": 40.0, "us3": 12.0})
    figures = bad_day_figures(done, notes, "python -m flows.rehearsal --bad-day")["bad_day"]
    assert figures["rank_correlation_urgency_wait"] == -1.0
    assert figures["first_version_s"] == [5.0, 12.0, 45.0]
    assert figures["first_version_s_least_urgent_third"] == [45.0, 45.0, 45.0]
    write(tmp_path, {"bad_day": figures})
    page = (tmp_path / "ninety_days.md").read_text()
    assert "| the most urgent third | 5.0, 5.0, 5.0 |" in page


def test_a_report_has_the_keys_that_are_judged_first_and_in_order(tmp_path: Path) -> None:
    verdict = Verdict(qualifying_events=27, mapped=27, versions=80)
    write(tmp_path, figures_of(a_rehearsal(verdict), "python -m flows.rehearsal"))
    figures = json.loads((tmp_path / "ninety_days.json").read_text())
    assert tuple(figures)[: len(KEYS)] == KEYS
    assert [figures[key] for key in KEYS[:8]] == [27, 27, 0, 0, 0, 100, 950.0, 960.0]
    assert (figures["feed_to_plan_s"], figures["scene_to_version_s"]) == (None, None)
    page = (tmp_path / "ninety_days.md").read_text()
    assert "python -m flows.rehearsal" in page
    assert "simulated" in page
    assert "Nothing to complain of" in page
    assert "| scene_to_version_s | not measured |" in page


def test_defects_are_told_and_counted(tmp_path: Path) -> None:
    verdict = Verdict(
        qualifying_events=2, mapped=1, missed=["us7 (plain): no campaign"], half_visible=["us8 version 1"]
    )
    figures = write(tmp_path, figures_of(a_rehearsal(verdict), "x"))
    assert (figures["missed"], figures["half_visible"], figures["sound"]) == (1, 1, False)
    page = (tmp_path / "ninety_days.md").read_text()
    assert "- us7 (plain): no campaign" in page
    assert "Nothing to complain of" not in page


def test_what_was_measured_another_time_stays(tmp_path: Path) -> None:
    speed = {
        "area_km2": 2500.0, "side_px": 5000, "region_px": 625, "weights": "w", "machine": "m", "command": "c",
        "stages_s": {"version 1: map": 100.0}, "notes": ["a note"],
    }  # fmt: skip
    feed = {
        "area_km2": 2500.0, "quakes": 3, "seed": 1, "every_s": 30.0, "machine": "m", "command": "c", "median_s": 11.0,
        "code": "version 9.9.9",
        "all_s": [10.0, 12.0, 11.0], "stages_s": {"the record waits": [1.0, 2.0, 3.0]},
    }  # fmt: skip
    write(tmp_path, {"scene_to_version_s": 400.0, "speed": speed})
    write(tmp_path, {"feed_to_plan_s": 12.0, "feed": feed})
    figures = write(tmp_path, figures_of(a_rehearsal(Verdict(qualifying_events=1, mapped=1)), "x"))
    assert (figures["feed_to_plan_s"], figures["mapped"]) == (12.0, 1)
    page = (tmp_path / "ninety_days.md").read_text()
    assert "| version 1: map | 100.0 |" in page
    assert "Made by `c` on m, version 9.9.9, seed 1: 3 earthquakes" in page, "each part tells its own code"
    assert "Made by `c` on m, version not noted: one simulated region" in page
    assert f"Python {platform.python_version()}, in 2.0 hours, seed 1, {code()}." in page
    assert "| the record waits | 1.0, 2.0, 3.0 |" in page
    assert "The longest took 12.0 s, the middle one 11.0 s; all of them: 10.0, 12.0, 11.0 s." in page


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_code_is_told_by_its_commit_in_a_checkout() -> None:
    here = ["git", "-C", str(Path(report.__file__).parent), "rev-parse", "HEAD"]
    asked = subprocess.run(here, capture_output=True, text=True, check=False)
    if asked.returncode != 0:
        assert code().startswith("version ")
        assert "commit" not in code()
    else:
        assert f", commit {asked.stdout[:12]}" in code()


def test_memory_is_the_highest_of_any_worker_in_a_week() -> None:
    memory = {"0": {"watch": 1.0, "step": 5.0}, "3": {"step": 7.0}, "8": {"step": 9.0}}
    assert (peak_mb(memory, 0, 7), peak_mb(memory, 7, 14), peak_mb(memory, 20, 30)) == (7.0, 9.0, 0.0)


def test_a_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    state = Progressed({"seed": 1}, START, played=7, killed=2, spent_s=3.5, counts=Counter(looks=4))
    state.remember(0, "step", 10.0)
    state.remember(0, "step", 8.0)
    state.save(tmp_path)
    assert states.load(tmp_path) == state
    assert state.memory == {"0": {"step": 10.0}}


def test_a_damaged_state_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / states.FILE).write_text("{")
    with pytest.raises(FlowError, match="is damaged"):
        states.load(tmp_path)


def test_a_rehearsal_is_gone_on_with_only_when_asked_and_only_the_same(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert _begun(OPTIONS, home, resume=False).played == 0
    assert _begun(OPTIONS, home, resume=True).options["kills"] == 100
    with pytest.raises(FlowError, match="go on with --resume"):
        _begun(OPTIONS, home, resume=False)
    other = Options.of(90.0, 2, 100, None, steppers=2, every_minutes=5.0, size_px=256, data="")
    with pytest.raises(FlowError, match="with other seed"):
        _begun(other, home, resume=True)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(FlowError, match="holds no rehearsal"):
        _begun(OPTIONS, tmp_path, resume=False)


@pytest.mark.parametrize("quakes", [0, MOST + 1])
def test_more_earthquakes_than_places_are_refused(quakes: int) -> None:
    with pytest.raises(FlowError, match="--quakes"):
        Options.of(9.0, 1, 1, quakes, steppers=2, every_minutes=5.0, size_px=256, data="")


def test_a_region_is_continued_by_its_mirror_images() -> None:
    small = np.arange(12).reshape(3, 4)
    large = mirrored(small, 8)
    assert large.shape == (8, 8)
    assert (large[:3, :4] == small).all()
    assert (large[3:6, :4] == small[::-1]).all()
    assert (large[:3, 4:] == small[:, ::-1]).all()
    assert mirrored(np.stack([small, small]), 8).shape == (2, 8, 8)


def test_stages_are_summed_by_version_and_told_in_their_order() -> None:
    def run(name: str, flow: str, begun: int, ended: int | None) -> dict[str, Any]:
        times = [None if s is None else f"2026-01-01T00:00:{s:02d}+00:00" for s in (begun, ended)]
        return {"name": name, "flow_run_id": flow, "start_time": times[0], "end_time": times[1]}

    runs = [
        run("map-a1", "two", 30, 40), run("plan-b1", "one", 1, 3), run("pull-cube-c1", "one", 3, 9),
        run("plan-d1", "one", 10, 11), run("publish-e1", "two", 41, None), run("map-event-0", "step", 0, 50),
    ]  # fmt: skip
    assert list(stage_seconds(runs).items()) == [
        ("version 1: plan", 3.0), ("version 1: pull-cube", 6.0), ("version 2: map", 10.0),
    ]  # fmt: skip
