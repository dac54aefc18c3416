"""Written assets of the stand-in, as the real client sees them: updates, policies, quotas, filters, names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ee
import httpx
import pytest
from fakes.earthengine import PROJECT, ROOT, earth_engine

from infra.local.earthengine.asset_filter import parse
from infra.local.earthengine.errors import ArgumentError

FOLDER = f"{ROOT}/maps"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "catalogue").mkdir()
    with earth_engine(tmp_path / "catalogue", tmp_path / "state", operation_s=0.05, max_assets=6) as url:
        ee.data.createFolder(FOLDER)
        yield url


def collection(name: str, **properties: Any) -> str:
    ee.data.createAsset({"type": "IMAGE_COLLECTION", "properties": properties}, f"{FOLDER}/{name}")
    return f"{FOLDER}/{name}"


def test_properties_are_updated_removed_and_replaced(server: str) -> None:
    name = collection("c", event="us1", note="x")
    first = ee.data.getAsset(name)["updateTime"]
    ee.data.updateAsset(name, {"properties": {"version": 2, "event": "not named"}}, ['properties."version"'])
    assert ee.data.getAsset(name)["properties"] == {"event": "us1", "note": "x", "version": 2}
    assert ee.data.getAsset(name)["updateTime"] > first
    ee.data.updateAsset(name, {}, ["properties.note"])
    assert ee.data.getAsset(name)["properties"] == {"event": "us1", "version": 2}
    ee.data.updateAsset(name, {"properties": {"only": 1}, "start_time": "2018-09-05T00:00:00Z"}, [])
    found = ee.data.getAsset(name)
    assert (found["properties"], found["startTime"]) == ({"only": 1}, "2018-09-05T00:00:00Z")
    assert ee.ImageCollection(name).get("only").getInfo() == 1
    with pytest.raises(ee.EEException, match="Invalid update mask: 'bands' cannot be updated"):
        ee.data.updateAsset(name, {"bands": []}, ["bands"])
    with pytest.raises(ee.EEException, match="does not exist"):
        ee.data.updateAsset(f"{FOLDER}/nothing", {"properties": {}}, ["properties"])


def test_a_policy_is_replaced_when_nobody_was_quicker(server: str) -> None:
    name = collection("c")
    policy = ee.data.getIamPolicy(name)
    assert [held["role"] for held in policy["bindings"]] == ["roles/owner"]
    readers = {"role": "roles/viewer", "members": ["allUsers", "user:a@b.c"]}
    ee.data.setIamPolicy(name, {**policy, "bindings": [*policy["bindings"], readers]})
    with pytest.raises(ee.EEException, match="concurrent policy changes"):
        ee.data.setIamPolicy(name, {**policy, "bindings": []})
    changed = ee.data.getIamPolicy(name)
    assert changed["etag"] != policy["etag"]
    assert changed["bindings"][1] == readers
    ee.data.setIamPolicy(name, {"bindings": []})
    assert ee.data.getIamPolicy(name)["bindings"] == policy["bindings"], "the owner stays"
    for wrong, words in (
        ({"bindings": [{"role": "roles/king", "members": []}]}, "Role 'roles/king' is not supported"),
        ({"bindings": [{"role": "roles/viewer", "members": ["me"]}]}, "Invalid member 'me'"),
    ):
        with pytest.raises(ee.EEException, match=words):
            ee.data.setIamPolicy(name, wrong)
    with pytest.raises(ee.EEException, match="does not exist"):
        ee.data.getIamPolicy(f"{FOLDER}/nothing")


def test_policies_outlive_a_restart(tmp_path: Path) -> None:
    (tmp_path / "catalogue").mkdir()
    places = (tmp_path / "catalogue", tmp_path / "state")
    with earth_engine(*places):
        ee.data.createFolder(FOLDER)
        ee.data.setIamPolicy(FOLDER, {"bindings": [{"role": "roles/viewer", "members": ["allUsers"]}]})
        policy = ee.data.getIamPolicy(FOLDER)
    with earth_engine(*places):
        assert ee.data.getIamPolicy(FOLDER) == policy


def test_a_project_keeps_no_more_than_it_may(server: str) -> None:
    for n in range(5):
        ee.data.createFolder(f"{FOLDER}/f{n}")
    assert ee.data.getAssetRootQuota(ROOT)["asset_count"] == {"usage": 6, "limit": 6}
    with pytest.raises(ee.EEException, match=r"Asset count quota exceeded for '.*/assets': 7 assets, the maximum is 6"):
        ee.data.createFolder(f"{FOLDER}/one_more")
    ee.data.deleteAsset(f"{FOLDER}/f0")
    ee.data.createFolder(f"{FOLDER}/one_more")


def test_one_name_is_given_once_however_many_ask(server: str) -> None:
    def create(_: int) -> int:
        answer = httpx.post(
            f"{server}/v1/projects/{PROJECT}/assets", params={"assetId": "maps/once"}, json={"type": "FOLDER"}
        )
        return answer.status_code

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(create, range(8))) == [200, *[400] * 7]


@pytest.mark.parametrize("name", ["two words", "dot.ted", "é", "x" * 101])
def test_a_name_that_is_none_is_refused(server: str, name: str) -> None:
    answer = httpx.post(
        f"{server}/v1/projects/{PROJECT}/assets", params={"assetId": f"maps/{name}"}, json={"type": "FOLDER"}
    )
    assert answer.status_code == 400
    assert "must contain letters, digits, hyphens and underscores only" in answer.json()["error"]["message"]


def test_a_listing_is_filtered(server: str) -> None:
    for n, name in enumerate(("a", "b", "c")):
        collection(name, version=n, event="us1" if n else "us2")

    def found(text: str) -> list[str]:
        return [asset["id"][-1] for asset in ee.data.listAssets({"parent": FOLDER, "filter": text})["assets"]]

    assert found("properties.version >= 1") == ["b", "c"]
    assert found('properties.event = "us1" AND properties.version<2') == ["b"]
    assert found("type = TABLE") == []
    assert found("properties.version:*") == ["a", "b", "c"]
    assert found("properties.nothing:*") == found("properties.nothing < 5") == []
    basic = ee.data.listAssets({"parent": FOLDER, "view": "BASIC"})["assets"]
    assert all(set(asset) == {"type", "name", "id", "updateTime"} for asset in basic)
    with pytest.raises(ee.EEException, match="Invalid filter: 'version about 2'"):
        found("version about 2")


IMAGE = {
    "type": "IMAGE", "id": "p/x", "startTime": "2018-09-05T18:07:59.123456789Z", "sizeBytes": "1000",
    "properties": {"cloud:percent": 12.5, "title": "A AND B", "version": 2},
    "geometry": {"type": "Point", "coordinates": [142.0, 42.5]},
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("", True),
        ('startTime >= "2018-09-05T00:00:00Z" AND startTime < "2018-09-06T00:00:00.000Z"', True),
        ('startTime > "2018-09-06T00:00:00Z"', False), ('endTime > "2018-09-06T00:00:00Z"', False),
        ('properties."cloud:percent" < 20', True), ("properties.cloud:percent<12.5", False),
        ('properties.title = "A AND B" AND type=IMAGE', True), ("properties.title != 3", True),
        ("properties.version = 2", True), ("properties.version != 2", False), ("sizeBytes > 999", True),
        ("intersects(\"{'type':'Point','coordinates':[142,42.5]}\")", True),
        ("intersects(\"{'type':'Point','coordinates':[0,0]}\") AND type=IMAGE", False),
    ],
)  # fmt: skip
def test_a_filter_is_true_for_what_it_says(text: str, passes: bool) -> None:
    assert parse(text)(IMAGE) is passes


@pytest.mark.parametrize(
    "text", ["properties.version", "colour = 3", 'intersects("nowhere")', 'startTime > "soon"', "a = 1 OR b = 2"]
)
def test_what_is_no_filter_is_refused(text: str) -> None:
    with pytest.raises(ArgumentError, match="Invalid filter"):
        parse(text)(IMAGE)


def test_an_error_is_json_with_its_code(server: str) -> None:
    answer = httpx.get(f"{server}/v1/{FOLDER}/nothing")
    assert (answer.status_code, json.loads(answer.content)["error"]["status"]) == (404, "NOT_FOUND")
