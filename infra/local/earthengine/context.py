"""What an algorithm may need beyond its arguments: the assets, and the evaluation of pixels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from infra.local.earthengine.image import Image
from infra.local.earthengine.profiles import Profiles
from infra.local.earthengine.sources import Reader
from infra.local.earthengine.values import Collection


class Assets(Protocol):
    """Finds assets by id; raises NotFoundError in Earth Engine's words."""

    def image(self, asset_id: str) -> Image:
        """An image asset."""
        ...

    def collection(self, asset_id: str) -> Collection:
        """An image collection."""
        ...

    def table(self, asset_id: str) -> Collection:
        """A table."""
        ...


@dataclass(frozen=True)
class Context:
    """The surroundings of one request."""

    assets: Assets
    """The catalogue and the written assets, as they were when the request came."""
    reader: Reader
    """Reads rasters."""
    profiles: Profiles = field(default_factory=Profiles)
    """What earlier requests cost."""
