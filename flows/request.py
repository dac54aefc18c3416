"""What is asked of a mapping run: the parameters of the flow and of the commands that start it."""

from __future__ import annotations

import datetime as dt

from pydantic import BaseModel, ConfigDict, Field

from flows.campaign.context import CampaignContext
from flows.campaign.model import Quake


class MapRequest(BaseModel):
    """One request to map an event. All values are plain JSON, so that a deployment can be called with them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    event_id: str = Field(description="USGS event id, or a name of your own when area and time are both given.")
    area_wkt: str | None = Field(None, description="Area in WGS84 as WKT, instead of the one from the ShakeMap.")
    area_reason: str = Field("given by hand", description="Where that area comes from, for the report.")
    event_time: dt.datetime | None = Field(None, description="Origin time in UTC, instead of the USGS's.")
    force: bool = Field(False, description="Map the event even when it is below the rule.")
    truth: str | None = Field(None, description="Raster of known landslides (1 inside) to score the map against.")
    cut: bool = Field(True, description="Whether sea and flat ground are cut away from the area that is given.")
    before_time: dt.datetime | None = Field(
        None, description="End of the window before, where it is earlier than the origin: the first of a sequence."
    )
    after_time: dt.datetime | None = Field(
        None, description="End of the window after, at most `imagery.days_after` after the origin."
    )
    crs: str = Field(
        "",
        pattern=r"^(EPSG:32[67]\d\d)?$",
        description="UTM zone of the map; empty: that of the event's cubes so far, else that of the area.",
    )
    quake: Quake | None = Field(
        None, description="The earthquake as a campaign knows it, whose id EVENT_ID then is; the USGS is not asked."
    )
    eecu_hours: float | None = Field(
        None,
        ge=0,
        description="Compute that the cube may cost, instead of earthengine.eecu_hours_per_event; 0: no limit.",
    )
    campaign: CampaignContext | None = Field(None, description="What the report says of the campaign.")
