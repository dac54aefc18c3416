"""What is asked of a mapping run: the parameters of the flow and of the commands that start it."""

from __future__ import annotations

import datetime as dt

from pydantic import BaseModel, ConfigDict, Field


class MapRequest(BaseModel):
    """One request to map an event. All values are plain JSON, so that a deployment can be called with them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    event_id: str = Field(description="USGS event id, or a name of your own when area and time are both given.")
    area_wkt: str | None = Field(None, description="Area in WGS84 as WKT, instead of the one from the ShakeMap.")
    area_reason: str = Field("given by hand", description="Where that area comes from, for the report.")
    event_time: dt.datetime | None = Field(None, description="Origin time in UTC, instead of the USGS's.")
    force: bool = Field(False, description="Map the event even when it is below the rule.")
    truth: str | None = Field(None, description="Raster of known landslides (1 inside) to score the map against.")
