"""gee/access.py: readers are added, nobody loses anything, and rivals who change a policy are not overwritten."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fakes.assets import ROOT, AssetWorld, asset_world, image
from hypothesis import given
from hypothesis import strategies as st

from gee.access import READER, check_members, share, with_readers
from gee.assets import delete_asset, ensure_collection, ensure_folder
from gee.errors import AssetError
from gee.ingestion import write_assets

MEMBERS = st.lists(st.sampled_from(["allUsers", "user:a@b.c", "group:g@b.c", "domain:b.c"]), max_size=4)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AssetWorld]:
    with asset_world(tmp_path_factory.mktemp("world")) as world:
        yield world


@pytest.fixture
def world(running: AssetWorld) -> AssetWorld:
    running.forget()
    return running


def policy(world: AssetWorld, name: str) -> dict[str, list[str]]:
    answer = world.session.call("POST", f"/v1/{ROOT}/{name}:getIamPolicy", {})
    return {binding["role"]: binding["members"] for binding in answer["bindings"]}


@given(MEMBERS, MEMBERS, st.booleans())
def test_whoever_had_rights_keeps_them(had: list[str], wanted: list[str], conditional: bool) -> None:
    bindings: list[dict[str, Any]] = [{"role": "roles/owner", "members": ["user:me@b.c"]}]
    if conditional:
        bindings.append({"role": READER, "members": ["user:until@b.c"], "condition": {"expression": "false"}})
    if had:
        bindings.append({"role": READER, "members": had})
    before = {"bindings": bindings, "etag": "e", "version": 3}
    after = with_readers(before, wanted)
    if after is None:
        assert set(wanted) <= set(had)
        return
    assert {key: value for key, value in after.items() if key != "bindings"} == {"etag": "e", "version": 3}
    readers = [held for held in after["bindings"] if held["role"] == READER and "condition" not in held]
    assert len(readers) == 1
    assert readers[0]["members"][: len(had)] == had
    assert set(readers[0]["members"]) == {*had, *wanted}
    assert [held for held in after["bindings"] if held not in readers] == bindings[: 1 + conditional]
    assert before["bindings"] == bindings, "what was read is left as it was"


def test_an_asset_is_shared_and_once_is_enough(world: AssetWorld) -> None:
    ensure_collection(world.session, f"{ROOT}/seen")
    assert policy(world, "seen") == {"roles/owner": ["user:owner@localhost"]}
    assert share(world.session, f"{ROOT}/seen", ("allUsers", "user:a@b.c"))
    assert not share(world.session, f"{ROOT}/seen", ("user:a@b.c",))
    assert share(world.session, f"{ROOT}/seen", ("group:g@b.c",))
    assert policy(world, "seen") == {
        "roles/owner": ["user:owner@localhost"],
        READER: ["allUsers", "user:a@b.c", "group:g@b.c"],
    }


def test_nobody_is_the_default(world: AssetWorld) -> None:
    ensure_folder(world.session, f"{ROOT}/private")
    world.forget()
    assert not share(world.session, f"{ROOT}/private", ())
    assert world.asked("Policy") == 0


def test_rivals_do_not_overwrite_each_other(world: AssetWorld) -> None:
    ensure_folder(world.session, f"{ROOT}/contended")
    members = [f"user:u{n}@b.c" for n in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda member: share(world.session, f"{ROOT}/contended", (member,)), members))
    assert sorted(policy(world, "contended")[READER]) == members


def test_a_policy_that_changes_all_the_time_is_given_up(world: AssetWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gee.access.time.sleep", lambda _: None)
    ensure_folder(world.session, f"{ROOT}/restless")
    world.fault(match="setIamPolicy", status=409, count=100)
    with pytest.raises(AssetError, match=r"restless was changed by others 12 times in a row"):
        share(world.session, f"{ROOT}/restless", ("allUsers",))


def test_who_may_not_share_is_told_who_may(world: AssetWorld) -> None:
    ensure_folder(world.session, f"{ROOT}/foreign")
    world.fault(match="setIamPolicy", status=403, message="Permission denied.")
    with pytest.raises(AssetError, match=r"foreign could not be shared with allUsers: HTTP 403: Perm.*Only its owners"):
        share(world.session, f"{ROOT}/foreign", ("allUsers",))


@pytest.mark.parametrize("member", ["everyone", "user:", "user:a b@c", "a@b.c", "domain:a@b.c", "allusers"])
def test_a_member_that_is_nobody_is_refused(member: str) -> None:
    with pytest.raises(AssetError, match="is nobody: write allUsers, user:NAME@HOST"):
        check_members((member,))


def test_the_images_of_a_collection_are_read_with_its_policy(world: AssetWorld) -> None:
    ensure_collection(world.session, f"{ROOT}/shared")
    share(world.session, f"{ROOT}/shared", ("allUsers",))
    write_assets(world.session, [image("shared/one", world.cog())], 20)
    assert policy(world, "shared/one")[READER] == ["allUsers"]
    delete_asset(world.session, f"{ROOT}/shared/one")
    delete_asset(world.session, f"{ROOT}/shared")
    ensure_collection(world.session, f"{ROOT}/shared")
    assert READER not in policy(world, "shared"), "a new asset of the same name is private again"
