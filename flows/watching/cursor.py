"""How far the feed has been worked off: one small document in the bucket, written last of all. Times are UTC."""

from __future__ import annotations

import datetime as dt

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from flows.campaign.model import FORMAT
from flows.errors import ServiceError
from flows.layout import CampaignsLayout
from flows.storage import PreconditionFailedError, Store
from flows.usgs import FeedState

LONGEST_WAIT = dt.timedelta(minutes=60)
"""An event that could not be read is asked for again after a minute, two, four, and at the latest after this."""


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Pending(_Document):
    """An event whose record could not be read when it was news."""

    since: AwareDatetime
    attempts: int = Field(ge=1)
    again: AwareDatetime = Field(description="Not asked for before.")
    why: str
    time: AwareDatetime | None = Field(None, description="Its origin time as far as it is known.")

    def failed(self, why: str, now: dt.datetime) -> Pending:
        """After a further attempt that failed."""
        attempts = self.attempts + 1
        return self.model_copy(update={"attempts": attempts, "again": now + _wait(attempts), "why": why})

    @classmethod
    def first(cls, why: str, now: dt.datetime, time: dt.datetime | None) -> Pending:
        """After the first attempt."""
        return cls(since=now, attempts=1, again=now + _wait(1), why=why, time=time)


def _wait(attempts: int) -> dt.timedelta:
    return min(LONGEST_WAIT, dt.timedelta(minutes=2.0 ** min(attempts - 1, 10)))


class Cursor(_Document):
    """What a watch must know of the ones before it."""

    format: int = FORMAT
    feed: str = ""
    etag: str = Field("", description="Of the last answer that was worked off.")
    last_modified: str = Field("", description="Likewise.")
    polled: AwareDatetime | None = Field(None, description="When the feed was last worked off.")
    swept: AwareDatetime | None = Field(
        None, description="When everything changed since the sweep before was asked for."
    )
    audited: AwareDatetime | None = Field(None, description="When each campaign's earthquakes were asked for by id.")
    pending: dict[str, Pending] = {}

    def validators(self, feed: str) -> FeedState:
        """What to send with a poll so that only news come back; of another feed nothing."""
        return FeedState(self.etag, self.last_modified) if feed == self.feed else FeedState()


def read_cursor(store: Store) -> tuple[Cursor, int]:
    """The cursor and its generation; a new one with generation 0 when there is none.

    One that cannot be read is no cursor either: then everything is asked for again, which changes nothing that was done.
    Raises `ServiceError` for one of a newer program.
    """
    uri = CampaignsLayout(store.bucket_url).cursor
    data, generation = store.read_with_generation(uri)
    if generation == 0:
        return Cursor(), 0
    try:
        found = Cursor.model_validate_json(data)
    except ValidationError:
        return Cursor(), generation
    if found.format != FORMAT:
        raise ServiceError(f"{uri} has format {found.format}, this program reads {FORMAT}: use the newer program")
    return found, generation


def write_cursor(store: Store, cursor: Cursor, generation: int) -> bool:
    """Write the cursor unless another watch has done so meanwhile; returns whether it was written.

    What the other does not know of, it will be sent again.
    """
    uri = CampaignsLayout(store.bucket_url).cursor
    try:
        store.write_bytes(uri, cursor.model_dump_json().encode(), "application/json", if_generation_match=generation)
    except PreconditionFailedError:
        return False
    return True
