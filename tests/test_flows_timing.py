"""flows/timing.py: each stage's seconds are noted, whatever becomes of it, for every run that it is part of."""

from __future__ import annotations

import time

import pytest

from flows.timing import WHOLE, measured, timed


@timed("sleep")
def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def test_stages_are_rows_in_their_order_with_the_whole_at_the_end() -> None:
    with measured() as laps:
        sleep(0.06)
        with timed("nothing"):
            pass
        assert sleep(0.06) == 0.06
        rows = laps.rows()
    assert [row["stage"] for row in rows] == ["sleep", "nothing", WHOLE]
    assert [row["attempts"] for row in rows] == [2, 1, 1]
    slept, nothing = laps.laps
    assert 0.12 <= slept.seconds < 5
    assert nothing.seconds < slept.seconds
    assert float(rows[-1]["seconds"]) >= float(rows[0]["seconds"])
    assert rows[-1]["percent"] == 100


def test_a_stage_that_fails_says_so_until_it_is_done() -> None:
    with measured() as laps:
        with pytest.raises(ZeroDivisionError), timed("map"):
            raise ZeroDivisionError
        assert [row["ended"] for row in laps.rows()] == ["failed", ""]
        with timed("map"):
            pass
    assert [(lap.failed, lap.attempts) for lap in laps.laps] == [(False, 2)]


def test_a_run_inside_another_counts_for_both_and_nothing_counts_where_nobody_measures() -> None:
    sleep(0.0)
    with measured() as outer:
        with timed("look"):
            pass
        with measured() as inner:
            sleep(0.0)
        with timed("close"):
            pass
    assert [lap.stage for lap in outer.laps] == ["look", "sleep", "close"]
    assert [lap.stage for lap in inner.laps] == ["sleep"]
