"""What a version says of the campaign that it belongs to: why it was made, what came before, what is still to come."""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from flows.campaign.model import Campaign, ExpectedPass, VersionNote


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PreviousVersion(_Document):
    """The version that this one is compared with."""

    version: int
    published: AwareDatetime
    area_km2: float = Field(description="Area that it mapped.")
    observed_km2: float
    landslides: int
    landslide_area_m2: float
    scenes_after: tuple[str, ...] = ()


class CampaignContext(_Document):
    """A campaign as one of its versions tells of it."""

    id: str
    kind: Literal["partial", "whole"] = Field(description="partial: the most dangerous part of the area first.")
    why: str = Field(description="What made this version.")
    area_km2: float = Field(description="Area of the whole campaign; a partial version maps some of it.")
    expected_share: float = Field(0.0, description="Share that was expected to be seen, by a coarse look.")
    earthquakes: tuple[str, ...] = Field((), description="Titles of its earthquakes, when there are several.")
    previous: PreviousVersion | None = None
    passes: tuple[ExpectedPass, ...] = Field((), description="The next expected passes, soonest first.")
    horizon: AwareDatetime | None = Field(None, description="When the campaign ends at the latest.")


def context_of(campaign: Campaign, kind: Literal["partial", "whole"], why: str, expected: float) -> CampaignContext:
    """What the next version of a campaign says of it."""
    looked = campaign.sight.at if campaign.sight else campaign.opened
    titles = tuple(quake.title for quake in campaign.quakes) if len(campaign.quakes) > 1 else ()
    return CampaignContext(
        id=campaign.id, kind=kind, why=why, area_km2=campaign.area.area_km2 if campaign.area else 0.0,
        expected_share=expected, earthquakes=titles, horizon=campaign.horizon,
        passes=tuple(one for one in campaign.passes if one.time > looked),
        previous=previous_of(campaign.versions[-1]) if campaign.versions else None,
    )  # fmt: skip


def previous_of(note: VersionNote) -> PreviousVersion:
    """A version as the next one refers to it."""
    names = set(PreviousVersion.model_fields)
    return PreviousVersion(**note.model_dump(include=names))
