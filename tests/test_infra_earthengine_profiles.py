"""Profiles of the Earth Engine stand-in: only for who asks, and the cost of what was really computed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ee
import httpx
import pytest
from fakes.earthengine import PROJECT, earth_engine
from fakes.servers import HTTP

from infra.local.earthengine.profiles import KEPT, Cost, Profiles

ASKING = {"X-Earth-Engine-Computation-Profiling": "1"}
NAMED = "x-earth-engine-computation-profile"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home: Path = tmp_path_factory.mktemp("ee")
    (home / "catalogue").mkdir()
    with earth_engine(home / "catalogue", home / "state") as address:
        yield address


def computed(url: str, value: Any, headers: dict[str, str] | None = None) -> httpx.Response:
    expression = ee.serializer.encode(value, for_cloud_api=True)
    return HTTP.post(f"{url}/v1/projects/{PROJECT}/value:compute", json={"expression": expression}, headers=headers)


def profile_of(ids: list[str], **options: Any) -> Any:
    return ee.ApiFunction.lookup("Profile.getProfiles").call(ids=ids, **options)


def test_only_who_asks_gets_a_profile(url: str) -> None:
    assert NAMED not in computed(url, ee.Number(1)).headers
    assert computed(url, ee.Number(1), ASKING).headers[NAMED]


def test_more_work_costs_more(url: str) -> None:
    little = computed(url, ee.Number(1), ASKING).headers[NAMED]
    much = computed(url, ee.List.sequence(1, 30_000).reduce(ee.Reducer.sum()), ASKING).headers[NAMED]
    lines = [computed(url, profile_of([key])).json()["result"].splitlines() for key in (little, much)]
    assert all(len(each) == 2 and each[0] == " EECU·s PeakMem Count  Description" for each in lines)
    costs = [float(each[1].split()[0]) for each in lines]
    assert 0 <= costs[0] < costs[1]
    assert computed(url, profile_of([])).json()["result"].splitlines() == [" EECU·s PeakMem Count  Description"]


def test_what_it_does_not_have_is_an_error(url: str) -> None:
    unknown = computed(url, profile_of(["x"]))
    assert (unknown.status_code, "Profile 'x' not found" in unknown.text) == (400, True)
    assert "not as 'json'" in computed(url, profile_of([], format="json")).text


def test_old_profiles_are_forgotten() -> None:
    profiles = Profiles()
    first, *_, last = [profiles.add(Cost(1.0, 1)) for _ in range(KEPT + 1)]
    assert profiles.get(first) is None
    assert profiles.get(last) == Cost(1.0, 1)
