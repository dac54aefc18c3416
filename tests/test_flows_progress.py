"""flows/progress.py: long stages are told as they go, and not more often than anyone wants to hear."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flows import progress
from flows.progress import Progress


@pytest.fixture
def heard() -> Iterator[list[Progress]]:
    reports: list[Progress] = []
    stop = progress.listen(reports.append)
    yield reports
    stop()
    stop()


def test_listeners_hear_until_they_stop(heard: list[Progress]) -> None:
    others: list[Progress] = []
    stop = progress.listen(others.append)
    progress.report("pull tiles", 1, 4, "2 MB")
    stop()
    progress.report("pull tiles", 2, 4)
    assert heard == [Progress("pull tiles", 1, 4, "2 MB"), Progress("pull tiles", 2, 4)]
    assert others == heard[:1]
    assert (heard[1].fraction, Progress("x", 3, 0).fraction) == (0.5, 0.0)


def test_a_step_is_begun_and_done_unless_it_fails(heard: list[Progress]) -> None:
    with progress.step("upload"):
        assert heard == [Progress("upload", 0, 1)]
    assert heard[1:] == [Progress("upload", 1, 1)]
    with pytest.raises(ValueError, match="broken"), progress.step("publish"):
        raise ValueError("broken")
    assert heard[2:] == [Progress("publish", 0, 1)]


def test_a_throttled_listener_hears_the_first_and_the_last_of_each_stage() -> None:
    reports: list[Progress] = []
    listener = progress.throttled(reports.append, every_s=60)
    for stage in ("pull", "map"):
        for done in range(1, 6):
            listener(Progress(stage, done, 5))
    assert [(each.stage, each.done) for each in reports] == [("pull", 1), ("pull", 5), ("map", 1), ("map", 5)]
