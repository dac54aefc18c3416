"""The flow that moves one campaign on by one step: look, decide, and map, ask, wait or close.

A step may be killed anywhere, and two may run at once: the lease lets one work, what it begins is written down before
it is begun, and what it has published is read from the bucket by whoever comes next.
"""

from __future__ import annotations

import datetime as dt
import logging
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.logging import get_run_logger

from flows import campaign_events
from flows.artifacts import timing_artifact
from flows.campaign import store as campaigns
from flows.campaign.budget import left_eecu_hours
from flows.campaign.look import look, request_of
from flows.campaign.machine import UNTROUBLED, Step, after_failure, next_look, next_step
from flows.campaign.model import Approval, Attempt, Campaign, State
from flows.campaign.notes import facts_of, note_of, unnoted, with_notes
from flows.campaign.outcome import after_look, made_before, without_ground
from flows.campaign.part import held_to_worst
from flows.campaign.record import moved
from flows.campaign.telling import markdown, title_of
from flows.errors import AreaError, FlowError, LeaseError, ServiceError
from flows.hiding import hiding_secrets
from flows.known_speed import known_speed
from flows.layout import EventLayout, key_of
from flows.links import browser_link
from flows.logs import redacted
from flows.map_event import map_event
from flows.publish import Publication
from flows.reaching import bucket, connected
from flows.settings import Settings, load_settings
from flows.storage import Store
from flows.timing import measured, timed
from flows.usgs import UsgsClient
from gee.errors import BudgetError, QuotaError, SessionError, StorageError, TransientError
from gee.session import Session

OUTAGES = (ServiceError, SessionError, TransientError, QuotaError, StorageError)
"""Failures of a service, not of a campaign: they pass when the service is back, or its quota is renewed."""
RENEWALS = 3
"""A lease is renewed so often before it would end."""


@flow(name="campaign-step", flow_run_name="step-{campaign_id}", persist_result=False)
def campaign_step(campaign_id: str, now: dt.datetime | None = None) -> str:
    """Move a campaign on by one step and return what was done, in words; `now` stands for the present.

    Nothing is done while another step holds the campaign. A step that fails is noted with its cause and is due again
    later; it raises what it failed with, so that the run is seen to have failed.
    """
    settings = load_settings()
    with hiding_secrets(), bucket(settings) as store, measured() as laps:
        try:
            return step(store, campaign_id, settings, now)
        finally:
            _try_to(lambda: _show(campaigns.load(store, campaign_id), _Clock(now).now()))
            timing_artifact(laps, campaign_id, "step", title=f"step of {campaign_id}")


def step(store: Store, campaign_id: str, settings: Settings, now: dt.datetime | None = None) -> str:
    """What `campaign_step` does, with a bucket that is open."""
    holder = secrets.token_hex(8)
    clock = _Clock(now)
    try:
        campaign = campaigns.lease(store, campaign_id, holder, clock.now(), settings)
    except LeaseError as error:
        return str(error)
    work = _Work(store, campaign.id, holder, settings, clock)
    try:
        with _renewed(work):
            return work.step()
    except LeaseError as error:
        return str(error)
    except BaseException as error:  # also an interruption: the campaign is due again soon
        work.failed(error)
        raise
    finally:
        _try_to(lambda: campaigns.release(store, campaign_id, holder))


class _Clock:
    """The present, or a moment that stands for it and goes on from there."""

    def __init__(self, start: dt.datetime | None) -> None:
        self._offset = dt.timedelta() if start is None else start - dt.datetime.now(dt.UTC)

    def now(self) -> dt.datetime:
        return dt.datetime.now(dt.UTC) + self._offset


class _Work:
    """One step of one campaign by one holder of its lease."""

    def __init__(self, store: Store, campaign_id: str, holder: str, settings: Settings, clock: _Clock) -> None:
        self.store, self.id, self.holder, self.settings, self.clock = store, campaign_id, holder, settings, clock

    def step(self) -> str:
        """Take note of what is published, decide, act."""
        campaign = self.reconciled()
        now = self.clock.now()
        wanted = next_step(campaign, now, None, self.settings.campaign)
        if wanted.kind == "look":
            campaign = self.looked(campaign, now)
            wanted = next_step(campaign, now, campaign.sight, self.settings.campaign)
        _log().info("%s: %s: %s", campaign.id, wanted.kind, wanted.why)
        if wanted.kind in ("partial", "whole"):
            return self.mapped(campaign, wanted)
        return self.settled(campaign, wanted)

    @timed("note versions")
    def reconciled(self) -> Campaign:
        """The campaign with every visible version noted, also one of a step that was killed before it could."""
        campaign = campaigns.load(self.store, self.id)
        notes = []
        made = False
        uris: dict[int, str] = {}
        for publication in unnoted(self.store, campaign):
            uris[publication.version] = publication.assets.get("report", publication.item_uri)
            facts = facts_of(self.store, publication)
            if facts is None:
                continue
            own = facts.campaign is not None and facts.adaptation is None
            made = made or own
            stored = _stored_bytes(self.store, publication)
            notes.append(note_of(publication, facts, campaign.attempt if own else None, stored))
        if not notes:
            return campaign
        now = self.clock.now()

        def note(present: Campaign) -> Campaign:
            after = with_notes(present, notes)
            if made and after.attempt is not None:
                sight = after.sight.model_copy(update={"added_km2": 0.0}) if after.sight else None
                after = after.model_copy(update={"attempt": None, "sight": sight, "look_after": now, **UNTROUBLED})
            return moved(after, State.WAITING, notes[-1].why, now) if after.state is State.MAPPING else after

        after = campaigns.change(self.store, self.id, note, self.holder)
        campaigns.mend_mark(self.store, self.id)
        for one in notes:
            uri = uris[one.version]
            campaign_events.emit(
                "published", self.id, title=after.mainshock.title, version=one.version, reason=one.why,
                landslides=one.landslides, landslide_area_m2=one.landslide_area_m2, shares=one.shares,
                url=browser_link(uri, self.settings.storage.endpoint), uri=uri,
            )  # fmt: skip
        return after

    @timed("look at the catalogue")
    def looked(self, campaign: Campaign, now: dt.datetime) -> Campaign:
        """The campaign after a look at the catalogue."""
        try:
            speed = known_speed(self.store, EventLayout(self.store.bucket_url, self.id))
            with self.services() as (usgs, session):
                found = look(campaign, now, self.settings, usgs, session, speed)
        except AreaError as error:
            why = str(error)
            return self.change(lambda present: without_ground(present, why, now))
        return self.change(lambda present: after_look(present, found, now))

    def mapped(self, campaign: Campaign, wanted: Step) -> str:
        """Make a version, or go on with the one that was begun, and note it."""
        attempt = campaign.attempt if wanted.resumes else None
        begun = campaign if attempt is not None else self.begun(campaign, wanted)
        attempt = begun.attempt
        if attempt is None:
            return "nothing was begun"
        try:
            made = map_event(request_of(begun, attempt, left_eecu_hours(begun, self.settings.campaign)))
        except BudgetError as error:
            return self.settled(begun, Step("ask", str(error)))
        after = self.reconciled()
        if after.attempt is not None:  # a run like this one was published, and noted, before
            after = self.change(lambda one: made_before(one, made.version, attempt, self.clock.now()))
        return f"version {made.version}: {wanted.why}"

    @timed("begin")
    def begun(self, campaign: Campaign, wanted: Step) -> Campaign:
        """The campaign with an attempt written down."""
        sight, area = campaign.sight, campaign.area
        if sight is None or area is None or wanted.kind not in ("partial", "whole"):
            raise FlowError(f"campaign {campaign.id} was not looked at: run the step again")
        attempt = Attempt(
            begun=self.clock.now(), kind="whole", why=wanted.why, until=sight.at, area_wkt=area.wkt,
            area_km2=area.area_km2, products=area.products, expected_share=sight.expected_share, cost=sight.cost,
        )  # fmt: skip
        if wanted.kind == "partial":
            with self.services() as (usgs, session):
                attempt = held_to_worst(campaign, attempt, self.settings, usgs, session)
        return self.change(
            lambda one: moved(one, State.MAPPING, wanted.why, attempt.begun).model_copy(update={"attempt": attempt})
        )

    def settled(self, campaign: Campaign, wanted: Step) -> str:
        """Ask, wait or close."""
        now = self.clock.now()

        def settle(present: Campaign) -> Campaign:
            if not present.open:  # withdrawn, or closed by hand, while this step looked
                return present.model_copy(update={"attempt": None})
            if present.quakes != campaign.quakes:  # a newer record came in: it is looked at first
                return moved(present, State.WAITING, "a newer record", now).model_copy(update={"look_after": now})
            if wanted.kind == "close":
                return moved(present, State.CLOSED, wanted.why, now).model_copy(update={"attempt": None})
            if wanted.kind == "ask":
                question = Approval(asked=now, question=wanted.why)
                return moved(present, State.ASKING, wanted.why, now).model_copy(update={"approval": question})
            until = wanted.until or next_look(present, now, self.settings.campaign)
            fresh = {"look_after": until, **UNTROUBLED}
            return moved(present, State.WAITING, wanted.why, now).model_copy(update=fresh)

        if wanted.kind == "nothing":
            return f"nothing: {wanted.why}"
        after = self.change(settle)
        if wanted.kind == "ask" and after.state is State.ASKING:
            campaign_events.emit("asking", self.id, title=after.mainshock.title, question=wanted.why)
        if wanted.kind == "close" and after.state is State.CLOSED:
            campaign_events.emit("closed", self.id, title=after.mainshock.title, reason=wanted.why)
        return f"{wanted.kind}: {wanted.why}"

    def failed(self, error: BaseException) -> None:
        """Note a failure with its cause, without secrets; when even that fails, the lease runs out and the next step tries."""
        now = self.clock.now()
        cause = (redacted(str(error)).strip() or type(error).__name__).splitlines()[0][:500]
        kind: campaign_events.Kind = "quota" if _comes_of(error, QuotaError) else "failed"

        def note(present: Campaign) -> Campaign:
            return after_failure(present, cause, now, outage=_is_outage(error))

        def tell() -> None:
            after = self.change(note)
            title = after.mainshock.title
            failures = after.failures + after.unanswered
            campaign_events.emit(kind, self.id, title=title, error=cause, failures=failures)

        _try_to(tell)

    @contextmanager
    def services(self) -> Iterator[tuple[UsgsClient, Session]]:
        """The USGS and Earth Engine, whose costs are accounted under the campaign."""
        usgs = self.settings.usgs
        with UsgsClient(usgs.url, usgs.timeout_s) as client, connected(self.settings, self.id) as session:
            yield client, session

    def change(self, how: campaigns.Change) -> Campaign:
        """Change the campaign while this step holds it."""
        return campaigns.change(self.store, self.id, how, self.holder)


def _is_outage(error: BaseException | None) -> bool:
    """Whether a failure, or what it came of, is that of a service, or no failure but an interruption."""
    if error is None:
        return False
    return isinstance(error, OUTAGES) or not isinstance(error, Exception) or _is_outage(error.__cause__)


def _comes_of(error: BaseException | None, kind: type[BaseException]) -> bool:
    """Whether a failure is of a kind, or came of one."""
    return error is not None and (isinstance(error, kind) or _comes_of(error.__cause__, kind))


def _stored_bytes(store: Store, publication: Publication) -> int:
    prefix = publication.item_uri.rpartition("/")[0]
    return sum(info.size for info in store.list(f"{prefix}/"))


def _show(campaign: Campaign, now: dt.datetime) -> None:
    """The campaign on the page of the run."""
    create_markdown_artifact(
        key=key_of(campaign.id, "campaign"), markdown=markdown(campaign, now), description=title_of(campaign)
    )


@contextmanager
def _renewed(work: _Work) -> Iterator[None]:
    """Renew the lease from a thread of its own while the block runs."""
    ended = Event()
    every_s = 60 * work.settings.campaign.lease_minutes / RENEWALS

    def renew() -> None:
        while not ended.wait(every_s):
            try:
                campaigns.renew(work.store, work.id, work.holder, work.clock.now(), work.settings)
            except LeaseError as error:
                logging.getLogger(__name__).warning("%s", error)
                return
            except FlowError as error:  # the store does not answer: the next time may do
                logging.getLogger(__name__).warning("the lease of %s was not renewed: %s", work.id, error)

    thread = Thread(target=renew, name=f"lease of {work.id}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _try_to(act: Callable[[], object]) -> bool:
    """Do what must not hide an earlier failure by its own; returns whether it could be done."""
    try:
        act()
    except FlowError as error:
        logging.getLogger(__name__).warning("%s", error)
        return False
    return True


def _log() -> logging.Logger | logging.LoggerAdapter[logging.Logger]:
    try:
        return get_run_logger()
    except Exception:  # noqa: BLE001 - outside a flow there is no run to log to
        return logging.getLogger(__name__)
