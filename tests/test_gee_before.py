"""The window before an event, chosen by what coarse composites of real requests show."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import numpy as np
import pytest
from fakes.catalogue import CatalogueWriter
from fakes.cubes import area_in
from fakes.servers import serve

from gee.before import choose_before
from gee.errors import NoScenesError
from gee.masks import CloudScorePlus
from gee.phases import ImageryChoice
from gee.session import Session, open_session
from gee.types import Grid, Window
from gee.windows import YEAR, Choice, candidates
from infra.local.earthengine import create_app

SCORES = "GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED"
EVENT = dt.datetime(2021, 4, 10, tzinfo=dt.UTC)
GRID = Grid("EPSG:32654", (10.0, 0.0, 600_000.0, 0.0, -10.0, 4_730_000.0), (60, 80))
AREA = area_in(GRID, 8.5, 6.5, 70.5, 50.5)
GREEN, BARE = (300, 3500), (1500, 2000)
"""DN of red and near infrared: NDVI 0.84 and 0.14."""


def scene(catalogue: CatalogueWriter, name: str, time: dt.datetime, ground: tuple[int, int], clear: float) -> None:
    bands = {band: np.full((60, 80), dn, np.uint16) for band, dn in zip(("B4", "B8"), ground, strict=True)}
    catalogue.image(name, bands, GRID, time, {"CLOUDY_PIXEL_PERCENTAGE": 100 * (1 - clear)})
    score = np.where(np.arange(80) < 80 * clear, 0.9, 0.1).astype(np.float32)
    catalogue.image(f"{SCORES}/{name.rpartition('/')[2]}", {"cs": np.tile(score, (60, 1))}, GRID, time)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    catalogue = CatalogueWriter(tmp_path_factory.mktemp("catalogue"))
    days = dt.timedelta(days=1)
    for place, recent, last_year in (
        ("LEAFLESS", (BARE, 1.0), (GREEN, 1.0)),
        ("GREEN", (GREEN, 1.0), (GREEN, 1.0)),
        ("CLOUDY", (GREEN, 0.3), (GREEN, 0.9)),
        ("OVERCAST", (GREEN, 0.3), (GREEN, 0.4)),
    ):
        scene(catalogue, f"{place}/{place.lower()}_recent", EVENT - 20 * days, *recent)
        scene(catalogue, f"{place}/{place.lower()}_season", EVENT - YEAR + 10 * days, *last_year)
        scene(catalogue, f"{place}/{place.lower()}_after", EVENT + 5 * days, GREEN, 1.0)
    folder = catalogue.root
    with serve(create_app(folder, tmp_path_factory.mktemp("state"))) as url, open_session(url, "local") as opened:
        yield opened


def chosen(session: Session, collection: str, after_days: int = 60) -> Choice:
    windows = candidates(EVENT, days_before=90, days_after=60, years=2)
    masks = ImageryChoice((CloudScorePlus(collection=SCORES),), reasons=())
    after = Window(EVENT, EVENT + dt.timedelta(days=after_days))
    return choose_before(session, (collection,), AREA, masks, windows, after)


def test_green_months_before_are_taken(session: Session) -> None:
    assert (chosen(session, "GREEN").candidate.kind, chosen(session, "GREEN").why) == ("before", "")


def test_leafless_months_give_way_to_the_year_before(session: Session) -> None:
    choice = chosen(session, "LEAFLESS")
    assert (choice.candidate.kind, choice.candidate.years_back) == ("same season", 1)
    assert "is 0.14, leafless against 0.84" in choice.why


def test_a_collection_without_scenes_after_the_event_says_to_wait(session: Session) -> None:
    with pytest.raises(NoScenesError, match=r"2021-04-10 to 2021-04-12 in GREEN.*wait for the next pass"):
        chosen(session, "GREEN", after_days=2)


def test_a_missing_collection_is_passed_over(session: Session) -> None:
    windows = candidates(EVENT, days_before=90, days_after=60, years=1)
    after = Window(EVENT, EVENT + dt.timedelta(days=60))
    choice = choose_before(session, ("NOT/THERE", "GREEN"), AREA, ImageryChoice((), reasons=()), windows, after)
    assert choice.candidate.kind == "before"


@pytest.mark.parametrize(("place", "kind"), [("CLOUDY", "same season"), ("OVERCAST", "same season")])
def test_cloudy_months_give_way_to_what_is_clearest(session: Session, place: str, kind: str) -> None:
    choice = chosen(session, place)
    assert choice.candidate.kind == kind
    assert "is clear in the 90 days before the event" in choice.why
