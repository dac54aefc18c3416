"""flows/rehearsal: two days with everything in them, interrupted and gone on with, in a few minutes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.rehearsal import state as states
from flows.rehearsal.crew import Worker
from flows.rehearsal.rehearse import SETTINGS

pytestmark = pytest.mark.slow

DEADLINE_S = 1500.0


def command(home: Path, *more: str) -> list[str]:
    options = ["--days", "2", "--quakes", "2", "--kills", "3", "--every", "20", "--data", str(home / "nothing")]
    folders = ["--out", str(home / "out"), "--home", str(home / "rehearsal")]
    return [sys.executable, "-m", "flows.rehearsal", *options, *folders, *more]


def test_two_days_are_rehearsed_interrupted_and_found_sound(tmp_path: Path) -> None:
    root = Path(__file__).parents[1]
    first = subprocess.Popen(command(tmp_path), cwd=root, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert first.stderr is not None
    end = time.monotonic() + DEADLINE_S
    while (known := states.load(tmp_path / "rehearsal")) is None or known.counts["looks at the USGS"] < 20:
        assert first.poll() is None, first.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.2)
    os.kill(first.pid, signal.SIGINT)
    _, said = first.communicate(timeout=120)
    assert first.returncode == 130, said
    assert "go on with the same command and --resume" in said
    again = subprocess.run(
        command(tmp_path, "--resume"), cwd=root, timeout=DEADLINE_S, capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stdout + again.stderr
    figures = json.loads((tmp_path / "out" / "ninety_days.json").read_text())
    assert figures["sound"] is True
    assert figures["qualifying_events"] == figures["mapped"] >= 1
    assert (figures["missed"], figures["duplicated"], figures["half_visible"]) == (0, 0, 0)
    assert figures["orphans_after_janitor"] == 0
    assert figures["kills"] == 3
    assert figures["peak_rss_mb_last_week"] > 0


def test_a_worker_that_is_killed_is_there_again_and_its_answer_to_what_fails_is_the_error(tmp_path: Path) -> None:
    nowhere = {
        **os.environ, **SETTINGS, "QUAKESLIDE_STORAGE__ENDPOINT": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1",
        "QUAKESLIDE_USGS__URL": "http://127.0.0.1:9", "QUAKESLIDE_EARTHENGINE__PROJECT": "p",
    }  # fmt: skip
    worker = Worker("watch", nowhere, tmp_path / "watch.log")
    try:
        for _ in range(2):
            end = time.monotonic() + 120
            while not worker.idle:
                assert worker.answer() is None
                assert time.monotonic() < end
                time.sleep(0.05)
            before = worker.process.pid
            worker.ask(do="poll", now="2026-01-01T00:00:00+00:00")
            assert not worker.idle
            worker.kill()
            assert worker.process.pid != before
    finally:
        worker.close()
    assert worker.process.poll() is not None
