"""flows/campaign/store.py over a real socket: one campaign per earthquake, whoever races, and none overlooked."""

from __future__ import annotations

import datetime as dt
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from fakes.campaigns import NOW, a_campaign, a_decision, a_quake

from flows.campaign import index as indices
from flows.campaign import store as campaigns
from flows.campaign.index import Index, entry_of, read_index, write_index
from flows.campaign.model import Campaign, State
from flows.campaign.record import moved
from flows.campaign.turns import by_turn
from flows.errors import CampaignError, EventError, LeaseError
from flows.layout import CampaignsLayout
from flows.settings import Settings
from flows.storage import Store

SETTINGS = Settings()
MINUTE = dt.timedelta(minutes=1)


def opened(store: Store, name: str = "us1", *others: str, urgency: float = 1.0) -> Campaign:
    quake = a_quake(id=name, ids=tuple(sorted({name, *others})))
    return campaigns.open_campaign(store, quake, a_decision(event_id=name, urgency=urgency), SETTINGS, NOW)


def test_what_is_opened_is_read_back_and_stands_in_the_index(store: Store) -> None:
    made = opened(store, "us1", "ak7")
    assert campaigns.load(store, "us1") == made
    assert campaigns.index(store).named(["ak7"]) == "us1"
    assert campaigns.all_campaigns(store) == [made]


def test_an_empty_bucket_has_no_campaigns(store: Store) -> None:
    assert campaigns.index(store).campaigns == {}
    assert campaigns.due(store, NOW, SETTINGS) == []
    with pytest.raises(CampaignError, match="no campaign 'us1'"):
        campaigns.load(store, "us1")


def test_one_earthquake_under_two_ids_is_one_campaign_however_many_open_it_at_once(store: Store) -> None:
    names = [("us1", "ak7"), ("ak7", "us1"), ("ci3", "ak7")] * 3
    with ThreadPoolExecutor(9) as pool:
        made = list(pool.map(lambda ids: opened(store, *ids).id, names))
    assert len(set(made)) == 1
    assert len(campaigns.all_campaigns(store)) == 1


def test_an_opening_that_was_cut_off_is_finished_by_opening_or_noticing(store: Store) -> None:
    for name, finish in (("us1", opened), ("us2", None)):
        entry = entry_of(a_campaign(id=name, quakes=(a_quake(id=name, ids=(name,)),)))
        present, generation = read_index(store)
        write_index(store, present.holding(entry), generation)
        assert campaigns.open_campaigns(store) == [one for one in campaigns.all_campaigns(store) if one.open]
        if finish:
            finish(store, name)
        else:
            campaigns.notice(store, name, a_quake(id=name, ids=(name,)), a_decision(event_id=name), NOW)
        assert campaigns.load(store, name).look_after == NOW
    assert len(campaigns.due(store, NOW, SETTINGS)) == 2


def test_changes_at_the_same_time_are_all_kept(store: Store) -> None:
    opened(store)

    def one_more(_number: int) -> None:
        campaigns.change(store, "us1", lambda one: one.model_copy(update={"failures": one.failures + 1}))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one_more, range(16)))
    assert campaigns.load(store, "us1").failures == 16


def test_a_change_to_the_same_is_not_written(store: Store) -> None:
    opened(store)
    uri = CampaignsLayout(store.bucket_url).campaign("us1")
    _, before = store.read_with_generation(uri)
    campaigns.notice(store, "us1", a_quake(), a_decision(), NOW)
    assert store.read_with_generation(uri)[1] == before


def test_ids_and_states_are_found_in_the_index_after_a_change(store: Store) -> None:
    opened(store)
    campaigns.notice(store, "us1", a_quake(ids=("ci3", "us1"), updated=NOW), a_decision(), NOW)
    assert campaigns.index(store).named(["ci3"]) == "us1"
    campaigns.change(store, "us1", lambda one: moved(one, State.CLOSED, "covered", NOW))
    assert not campaigns.index(store).campaigns["us1"].open
    assert campaigns.open_campaigns(store) == []
    campaigns.notice(store, "us1", a_quake(ids=("ci3", "us1"), shakemap="v2", updated=NOW), a_decision(), NOW)
    assert [one.id for one in campaigns.due(store, NOW, SETTINGS)] == ["us1"]


def test_opening_and_closing_at_once_never_hides_an_open_campaign(store: Store) -> None:
    opened(store)
    start = threading.Barrier(2)

    def turn(state: State) -> None:
        start.wait()
        for _ in range(10):
            campaigns.change(store, "us1", lambda one: moved(one, state, "test", NOW))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(turn, [State.WAITING, State.CLOSED]))
    assert campaigns.index(store).campaigns["us1"].open or not campaigns.load(store, "us1").open
    campaigns.mend_index(store)
    assert campaigns.index(store).campaigns["us1"].state is campaigns.load(store, "us1").state


def test_an_index_entry_that_was_overtaken_is_written_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that closed a campaign is about to say so in the index while another opens it again, from end to end."""
    opened(store)
    campaigns.change(store, "us1", lambda one: moved(one, State.WAITING, "test", NOW))
    turns: list[State] = []

    def overtaken(store: Store, wanted: Index, generation: int) -> None:
        turns.append(wanted.campaigns["us1"].state)
        if len(turns) == 1:
            # The other announces that it is open, which puts the index back to what the first had read, ...
            campaigns.change(store, "us1", lambda one: moved(one, State.WAITING, "test", NOW))
            generation = read_index(store)[1]  # ... as if the first had read it just after that
        write_index(store, wanted, generation)

    monkeypatch.setattr(indices, "write_index", overtaken)
    campaigns.change(store, "us1", lambda one: moved(one, State.CLOSED, "test", NOW))
    assert turns[0] is State.CLOSED
    assert campaigns.load(store, "us1").open
    assert campaigns.index(store).campaigns["us1"].open


def test_one_step_holds_a_campaign(store: Store) -> None:
    opened(store)
    campaigns.lease(store, "us1", "one", NOW, SETTINGS)
    with pytest.raises(LeaseError, match="another step"):
        campaigns.lease(store, "us1", "two", NOW + MINUTE, SETTINGS)
    assert campaigns.due(store, NOW + MINUTE, SETTINGS) == []
    campaigns.renew(store, "us1", "one", NOW + 4 * MINUTE, SETTINGS)
    with pytest.raises(LeaseError):
        campaigns.lease(store, "us1", "two", NOW + 8 * MINUTE, SETTINGS)
    campaigns.release(store, "us1", "two")
    assert campaigns.load(store, "us1").lease is not None
    campaigns.release(store, "us1", "one")
    assert campaigns.due(store, NOW + 8 * MINUTE, SETTINGS) != []


def test_a_dead_step_loses_its_campaign_and_can_change_nothing_afterwards(store: Store) -> None:
    opened(store)
    campaigns.lease(store, "us1", "dead", NOW, SETTINGS)
    campaigns.lease(store, "us1", "alive", NOW + 6 * MINUTE, SETTINGS)
    with pytest.raises(LeaseError, match="taken over"):
        campaigns.renew(store, "us1", "dead", NOW + 6 * MINUTE, SETTINGS)
    with pytest.raises(LeaseError, match="taken over"):
        campaigns.change(store, "us1", lambda one: moved(one, State.MAPPING, "late", NOW), "dead")
    assert campaigns.load(store, "us1").state is State.WAITING


def test_the_more_urgent_come_first_as_many_as_there_are_places(store: Store) -> None:
    for number in range(7):
        opened(store, f"us{number}", urgency=float(number))
    assert [one.id for one in campaigns.ready(store, NOW, SETTINGS)] == ["us6", "us5", "us4", "us3"]
    campaigns.lease(store, "us6", "step", NOW, SETTINGS)
    assert [one.id for one in campaigns.ready(store, NOW, SETTINGS)] == ["us5", "us4", "us3"]


def test_the_least_urgent_has_its_turn_though_others_keep_coming() -> None:
    old = a_campaign(id="old", urgency=0.0)
    later = NOW + dt.timedelta(hours=12)
    fresh = [a_campaign(id=f"new{number}", urgency=100.0, look_after=later) for number in range(5)]
    assert by_turn([*fresh, old], later)[0].id == "old"
    assert by_turn([*fresh, old], NOW) == [old]


def test_a_withdrawn_campaign_is_never_due(store: Store) -> None:
    opened(store)
    campaigns.withdraw(store, "us1", "the USGS has deleted it", NOW)
    assert campaigns.due(store, NOW + MINUTE, SETTINGS) == []
    campaigns.notice(store, "us1", a_quake(updated=NOW), a_decision(), NOW)
    assert campaigns.due(store, NOW + MINUTE, SETTINGS) != []


@pytest.mark.parametrize("damage", [b"", b"{}", b"[1]", b'{"format": 1, "campaigns": 3}', b"\xff"])
def test_a_damaged_document_is_named(store: Store, damage: bytes) -> None:
    opened(store)
    layout = CampaignsLayout(store.bucket_url)
    store.write_bytes(layout.campaign("us1"), damage)
    with pytest.raises(CampaignError, match=r"us1\.json is damaged"):
        campaigns.load(store, "us1")
    if damage != b"{}":
        store.write_bytes(layout.index, damage)
        with pytest.raises(CampaignError, match=r"index\.json is damaged"):
            campaigns.index(store)


def test_an_id_that_is_no_name_is_refused(store: Store) -> None:
    with pytest.raises(EventError, match="cannot name a folder"):
        campaigns.load(store, "../events")


def test_an_index_that_is_gone_is_made_anew_so_that_nothing_is_taken_up_twice(store: Store) -> None:
    opened(store, "us1", "ak7")
    opened(store, "us2")
    campaigns.change(store, "us2", lambda one: moved(one, State.CLOSED, "covered", NOW))
    before = campaigns.index(store)
    store.delete(CampaignsLayout(store.bucket_url).index)
    assert opened(store, "ak7", "us1").id == "us1"
    assert campaigns.index(store) == before


def test_a_damaged_campaign_keeps_no_other_from_its_turn(store: Store) -> None:
    opened(store, "us1")
    opened(store, "us2")
    store.write_bytes(CampaignsLayout(store.bucket_url).campaign("us1"), b"{")
    assert [one.id for one in campaigns.due(store, NOW, SETTINGS)] == ["us2"]
    assert [one.id for one in campaigns.all_campaigns(store)] == ["us2"]
