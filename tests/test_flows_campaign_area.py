"""flows/campaign/area.py: the ground of one earthquake or of a sequence, by the newest ShakeMaps, never too large to map."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace

import pytest
import shapely
from fakes.campaigns import NOW, a_campaign, a_quake
from fakes.shakemaps import LAT, LON, cone, grid_xml

from flows.area_type import AreaOfInterest
from flows.campaign.area import added_km2, area_document, basis, is_outdated, shaken_ground
from flows.errors import AreaError, ContentMissingError
from flows.event import EarthquakeEvent, ProductRef
from flows.settings import AreaSettings
from flows.watching.identity import quake_of

TIME = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)
SETTINGS = AreaSettings(maximum_area_km2=40_000)


@dataclass(frozen=True)
class Files:
    """ShakeMaps by the last part of their address."""

    shaking: dict[str, tuple[float, float]]

    def content(self, url: str, max_bytes: int = 0) -> bytes:
        name = url.rpartition("/")[2]
        if name not in self.shaking:
            raise ContentMissingError(f"{url} is not there")
        return grid_xml(LON, LAT, cone(LON, LAT, *self.shaking[name])).encode()


FILES = Files({"one": (140.7, 42.0), "two": (141.3, 42.0), "one-2": (140.8, 42.1)})


def event(name: str, shakemap: str = "", version: str = "1") -> EarthquakeEvent:
    grid = (("download/grid.xml", f"https://earthquake.usgs.gov/{shakemap}"),)
    product = ProductRef("us", "shakemap", name, TIME, version, "UPDATE", 1, grid)
    return EarthquakeEvent(
        name, (name,), TIME, TIME, 141.0, 42.0, 10.0, 6.6, "mww", "here", f"M 6.6 - {name}", "reviewed", None,
        products=(product,) if shakemap else (),
    )  # fmt: skip


def uncut(area: AreaOfInterest) -> AreaOfInterest:
    return area


def test_one_earthquake_has_the_area_of_its_shakemap() -> None:
    area, products = shaken_ground([event("one", "one")], FILES, SETTINGS, uncut)
    assert (area.source, area.minimum_mmi) == ("shakemap", 6.0)
    assert products == (quake_of(event("one", "one")).shakemap,)
    kept = area_document(area, products, NOW)
    assert shapely.from_wkt(kept.wkt).symmetric_difference(area.geometry).area < 1e-5
    assert shapely.from_wkt(kept.wkt).is_valid
    assert kept.steep_km2 == pytest.approx(area.area_km2, abs=1e-3)


def test_a_sequence_has_the_ground_of_all_of_them() -> None:
    both, products = shaken_ground([event("one", "one"), event("two", "two")], FILES, SETTINGS, uncut)
    single = [shaken_ground([event(name, name)], FILES, SETTINGS, uncut)[0] for name in ("one", "two")]
    assert both.source == "sequence"
    assert both.geometry.symmetric_difference(single[0].geometry | single[1].geometry).area < 1e-9
    assert both.area_km2 < sum(one.area_km2 for one in single)
    assert len(products) == 2
    assert all(name in both.reason for name in ("us/one", "us/two"))


def test_an_earthquake_that_shook_nothing_strongly_adds_nothing() -> None:
    weak = replace(event("weak"), magnitude=4.0)
    alone, _ = shaken_ground([event("one", "one")], FILES, SETTINGS, uncut)
    both, products = shaken_ground([event("one", "one"), weak], FILES, SETTINGS, uncut)
    assert both.geometry.equals(alone.geometry)
    assert len(products) == 2
    with pytest.raises(AreaError, match="few landslides are to be expected"):
        shaken_ground([weak], FILES, SETTINGS, uncut)


def test_an_area_too_large_to_map_is_drawn_at_stronger_shaking_and_says_so() -> None:
    whole, _ = shaken_ground([event("one", "one")], FILES, SETTINGS, uncut)
    small = AreaSettings(maximum_area_km2=0.6 * whole.area_km2)
    area, _ = shaken_ground([event("one", "one")], FILES, small, uncut)
    assert area.area_km2 <= small.maximum_area_km2
    assert area.minimum_mmi == 6.5
    assert "drawn at MMI 6.5" in area.description
    with pytest.raises(AreaError):
        shaken_ground([event("one", "one")], FILES, AreaSettings(maximum_area_km2=1.0), uncut)


def test_an_area_is_outdated_when_a_shakemap_is_newer_or_an_earthquake_has_joined_or_is_gone() -> None:
    first = event("one", "one")
    area, products = shaken_ground([first], FILES, SETTINGS, uncut)
    campaign = a_campaign(id="one", quakes=(quake_of(first),), area=area_document(area, products, NOW))
    assert is_outdated(a_campaign())
    assert not is_outdated(campaign)
    newer = quake_of(event("one", "one-2", "2"))
    assert is_outdated(campaign.model_copy(update={"quakes": (newer,)}))
    joined = campaign.model_copy(update={"quakes": (*campaign.quakes, quake_of(event("two", "two")))})
    assert is_outdated(joined)
    gone = [quake.model_copy(update={"status": "deleted"}) for quake in joined.quakes[1:]]
    assert not is_outdated(joined.model_copy(update={"quakes": (*campaign.quakes, *gone)}))


def test_without_a_shakemap_magnitude_and_place_decide_whether_the_area_is_outdated() -> None:
    quake = a_quake(shakemap="")
    assert basis(quake) == basis(a_quake(shakemap="", status="reviewed"))
    assert basis(quake) != basis(a_quake(shakemap="", magnitude=6.8))


def test_only_ground_that_was_not_there_before_counts_as_added() -> None:
    one, two = (
        area_document(*shaken_ground([event("one", name)], FILES, SETTINGS, uncut), NOW) for name in ("one", "one-2")
    )
    assert added_km2(None, one) == 0.0
    assert added_km2(one, one) == pytest.approx(0.0, abs=1e-6)
    assert 0 < added_km2(one, two) < two.area_km2
