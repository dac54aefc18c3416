"""gee/profile.py: what a request cost, asked of the stand-in with the client's own header and algorithm."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import ee
import pytest
from fakes.earthengine import PROJECT, earth_engine

from gee.profile import eecu_seconds, total_eecu_s
from gee.session import Session, SessionConfig, connect

TEXT = """ EECU·s PeakMem Count  Description
  0.422     59k     6  Algorithm Image.reduceRegions
  0.236    568k    86  Loading assets: projects/google/charts_feature_example
   -       1.0M    12  (plumbing)
"""


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    home = tmp_path_factory.mktemp("ee")
    (home / "catalogue").mkdir()
    with (
        earth_engine(home / "catalogue", home / "state") as url,
        connect(SessionConfig(url, PROJECT, 20.0, 2, 8, 0.01)) as opened,
    ):
        yield opened


def test_the_first_column_is_summed() -> None:
    assert total_eecu_s(TEXT) == pytest.approx(0.658)
    assert total_eecu_s(" EECU·s PeakMem Count  Description\n") == 0


@pytest.mark.parametrize("text", ["", "\n", "no profile", "<html>", " EECU·s Count\n  many  1  x"])
def test_what_is_no_profile_costs_nothing_known(text: str) -> None:
    assert total_eecu_s(text) is None


def test_a_profiled_request_tells_its_cost(session: Session) -> None:
    ids: list[str] = []
    expression = ee.serializer.encode(ee.List.sequence(1, 20_000).reduce(ee.Reducer.sum()), for_cloud_api=True)
    for _ in range(2):
        session.fetch(
            "POST", f"{session.project_path}/value:compute", {"expression": expression}, on_profile=ids.append
        )
    assert len(set(ids)) == 2
    one, both = eecu_seconds(session, ids[:1]), eecu_seconds(session, ids)
    assert one is not None
    assert both is not None
    assert 0 < one < both < 20


def test_without_a_profile_the_cost_is_not_known(session: Session) -> None:
    assert eecu_seconds(session, []) is None
    assert eecu_seconds(session, ["forgotten"]) is None


def test_the_official_client_prints_the_same_profile(session: Session, tmp_path: Path) -> None:
    printed = io.StringIO()
    with ee.profilePrinting(destination=printed):
        assert ee.Number(1).add(1).getInfo() == 2
    assert total_eecu_s(printed.getvalue()) is not None
    assert "CPU seconds of the local stand-in" in printed.getvalue()
