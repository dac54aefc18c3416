"""What is kept of a campaign: a document in the bucket, the only memory that a watch or a step has.

A campaign is one physical earthquake, or a sequence whose areas overlap, under the id by which it was first taken up;
that id names its products for ever, whatever the USGS calls the event later. All times are UTC.
"""

from __future__ import annotations

import datetime as dt
from enum import StrEnum
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

FORMAT = 1
"""Version of the documents; raise it when old readers would misread a new one."""


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class State(StrEnum):
    """Where a campaign is in its life."""

    WAITING = "waiting for imagery"
    """Nothing to do before `Campaign.look_after`."""
    MAPPING = "mapping"
    """A step holds the lease and makes a version."""
    ASKING = "asking"
    """Its plan is over the budget; waits for `quakeslide approve`."""
    CLOSED = "closed"
    """Covered, past its horizon, or ended by hand; a stronger reason opens it again."""
    WITHDRAWN = "withdrawn"
    """The USGS has deleted the event: products are marked, nothing is erased."""


class Quake(_Document):
    """One earthquake as a campaign knows it."""

    id: str = Field(description="The id that the USGS prefers now.")
    ids: tuple[str, ...] = Field(description="Every id under which it has ever been known, sorted.")
    time: AwareDatetime = Field(description="Origin time.")
    updated: AwareDatetime = Field(description="When the USGS last changed the record.")
    lon: float = Field(description="Degrees, -180 to 180.")
    lat: float = Field(description="Degrees.")
    depth_km: float | None = Field(description="Depth, km.")
    magnitude: float = Field(description="Preferred magnitude.")
    title: str
    status: str = Field(description="automatic, reviewed or deleted.")
    simulated: bool = False
    shakemap: str = Field("", description="Its preferred ShakeMap's name and version, empty for none.")
    ground_failure: str = Field("", description="Its preferred ground-failure product's name and version.")


class Decision(_Document):
    """What the rule said of an earthquake, and why. Also the decision to do nothing is one."""

    at: AwareDatetime
    event_id: str
    magnitude: float | None
    wanted: bool
    basis: Literal["ground-failure", "magnitude", "record"] = Field(
        description="ground-failure: the USGS's landslide estimate; magnitude: magnitude, depth and steep land under "
        "shaking; record: the record itself says no (deleted, no earthquake, no magnitude)."
    )
    reason: str = Field(description="For people, with the numbers and the limits that were compared.")
    urgency: float = Field(0.0, ge=0, description="The larger, the earlier it is mapped; see `flows.campaign.rule`.")


class Area(_Document):
    """Where landslides are looked for."""

    wkt: str = Field(description="WGS84.")
    reason: str
    source: str = Field(description="As `AreaOfInterest.source`, or `sequence` for the union of several.")
    products: tuple[str, ...] = Field((), description="The ShakeMap versions that it comes from.")
    area_km2: float
    since: AwareDatetime
    steep_km2: float | None = Field(None, description="Land in it that can fail, as it was measured; None before.")


class Cost(_Document):
    """What a plan takes, estimated before launch, or what was used."""

    requests: int = 0
    bytes: int = Field(0, description="Pulled from Earth Engine, uncompressed.")
    eecu_hours: float = 0.0
    network_minutes: float = Field(0.0, description="Of the device that maps.")
    stored_bytes: int = Field(0, description="In the bucket.")

    def __add__(self, other: Cost) -> Cost:
        """The sum, field by field."""
        return Cost(**{name: getattr(self, name) + getattr(other, name) for name in Cost.model_fields})


class Approval(_Document):
    """What a person allowed, or is asked to allow."""

    asked: AwareDatetime
    question: str = Field(description="Which limit, how much is needed, what to do.")
    limit: Cost | None = Field(None, description="What the campaign may use in all once granted.")
    granted: AwareDatetime | None = None
    by: str = ""


class VersionNote(_Document):
    """What a campaign remembers of a version that it has published."""

    version: int
    run_key: str
    published: AwareDatetime
    kind: Literal["partial", "whole"] = Field(description="partial: the most dangerous part of the area first.")
    why: str = Field(description="What made it: first useful coverage, new scenes, a larger area, drawn polygons, …")
    area_km2: float
    shares: dict[str, float] = Field(
        description="Share of the campaign's area by what was seen: observed, cloud, shadow, not imaged, …; sums to 1."
    )
    observed_km2: float = Field(0.0, description="Area seen clearly before and after.")
    scenes_after: tuple[str, ...] = Field(description="Image ids of the phase after the event.")
    landslides: int
    landslide_area_m2: float
    cost: Cost = Cost()
    expected_share: float | None = Field(
        None,
        description="Share of the area that was expected to be seen when it was begun; what a look is compared with.",
    )


class ExpectedPass(_Document):
    """A pass of a satellite over the area that has not been seen in the catalogue yet."""

    satellite: str = Field(description="For example Sentinel-2A.")
    time: AwareDatetime
    orbit: int = Field(description="Relative orbit.")
    share: float = Field(description="Share of the area that it covers, 0 to 1.")


class Sight(_Document):
    """What a version could show, as a look at the catalogue found it."""

    at: AwareDatetime = Field(description="When the catalogue was asked; scenes up to then count.")
    scenes: tuple[str, ...] = Field((), description="Image ids after the event that reach the area.")
    left_out: tuple[str, ...] = Field(
        (), description="Of these those that cannot be used yet: their cloud mask is still to be computed."
    )
    expected_share: float = Field(0.0, description="Share of the area clear both before and after, by a coarse look.")
    tiles: int = Field(0, description="Tiles of the whole area's cube.")
    cost: Cost = Field(Cost(), description="Of mapping the whole area.")
    speed: str = Field("", description="Rate of the network by which `cost` was reckoned, and where it is from.")
    added_km2: float = Field(0.0, description="Area that was added since the last version began.")
    why: str = Field("", description="Why nothing can be mapped; empty when something can.")


class Attempt(_Document):
    """A version that is being made, written down before the first request, so that whoever goes on makes the same."""

    begun: AwareDatetime
    kind: Literal["partial", "whole"]
    why: str
    until: AwareDatetime = Field(description="End of the window after the event.")
    area_wkt: str = Field(description="What is mapped, WGS84: the campaign's area or the worst part of it.")
    area_km2: float
    products: tuple[str, ...] = Field((), description="As `Area.products`.")
    expected_share: float
    cost: Cost = Cost()


class Lease(_Document):
    """Who works on a campaign; others leave it alone until it ends."""

    holder: str = Field(description="A token of one process at one step.")
    until: AwareDatetime = Field(description="Renewed while the work goes on; past it the holder is taken for dead.")


class Transition(_Document):
    """One change of state."""

    at: AwareDatetime
    state: State
    why: str


class Campaign(_Document):
    """One campaign. Changed only by `flows.campaign.store`, by compare-and-swap on its generation."""

    format: int = FORMAT
    id: str = Field(description="Names its folder: `EventLayout.event_id`.")
    quakes: tuple[Quake, ...] = Field(description="Its earthquakes by origin time; most campaigns have one.")
    opened: AwareDatetime
    state: State = State.WAITING
    history: tuple[Transition, ...] = ()
    decisions: tuple[Decision, ...] = Field((), description="Those that changed something, oldest first.")
    area: Area | None = Field(None, description="None until a first step has made it.")
    urgency: float = 0.0
    versions: tuple[VersionNote, ...] = ()
    passes: tuple[ExpectedPass, ...] = Field((), description="The next expected passes, soonest first.")
    look_after: AwareDatetime = Field(description="When a step is due; a new ShakeMap brings it forward.")
    horizon: AwareDatetime = Field(description="When it is closed at the latest.")
    used: Cost = Cost()
    sight: Sight | None = Field(None, description="The last look; None before the first.")
    attempt: Attempt | None = Field(None, description="The version that is being made.")
    approval: Approval | None = None
    lease: Lease | None = None
    closed_by: str = Field("", description="Who closed it by hand; then only a person opens it again.")
    failures: int = Field(0, ge=0, description="Steps in a row that failed for a reason of their own.")
    unanswered: int = Field(0, ge=0, description="Steps in a row that failed because a service did not answer.")
    last_error: str = ""

    @property
    def mainshock(self) -> Quake:
        """The strongest of its earthquakes; of equal ones the first."""
        return max(self.quakes, key=lambda quake: (quake.magnitude, -quake.time.timestamp()))

    @property
    def first_time(self) -> dt.datetime:
        """Origin time of its first earthquake: images before are from before it."""
        return min(quake.time for quake in self.quakes)

    @property
    def last_time(self) -> dt.datetime:
        """Origin time of its last earthquake: images after are from after it."""
        return max(quake.time for quake in self.quakes)

    @property
    def ids(self) -> frozenset[str]:
        """Every id of every one of its earthquakes."""
        return frozenset(name for quake in self.quakes for name in quake.ids) | {self.id}

    @property
    def open(self) -> bool:
        """Whether more may come of it."""
        return self.state not in (State.CLOSED, State.WITHDRAWN)
