"""What the routes work on: assets, operations, maps, and the evaluation of expressions."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.local.earthengine import algorithms
from infra.local.earthengine.algorithms.registry import invoke
from infra.local.earthengine.context import Context
from infra.local.earthengine.errors import ArgumentError, NotFoundError
from infra.local.earthengine.graph import Graph
from infra.local.earthengine.image import Image
from infra.local.earthengine.library import AssetLibrary
from infra.local.earthengine.operations import Operations
from infra.local.earthengine.profiles import Profiles
from infra.local.earthengine.promote import promote
from infra.local.earthengine.sources import Reader
from infra.local.earthengine.store import JsonStore
from infra.local.earthengine.values import Collection

ALGORITHMS = algorithms.__all__
"""The themes whose algorithms are known; importing them fills the registry."""


@dataclass
class Service:
    """The state of one stand-in."""

    library: AssetLibrary
    """Assets."""
    reader: Reader
    """Reads rasters."""
    operations: Operations
    """Long-running work."""
    saved: JsonStore
    """Maps, thumbnails and table downloads by name, so that their addresses outlive a restart."""
    storage_endpoint: str = ""
    """Address of the Cloud Storage stand-in; empty when there is none."""
    profiles: Profiles = field(default_factory=Profiles)
    """What the requests cost that asked for it."""

    @property
    def state(self) -> Path:
        """The folder of everything that is remembered."""
        return self.library.state

    def context(self) -> Context:
        """The surroundings of a request that begins now."""
        return Context(self.library.view(), self.reader, self.profiles)

    def evaluate(self, expression: Any, context: Context | None = None) -> Any:
        """The value of an expression."""
        surroundings = context or self.context()
        return Graph(expression, lambda name, arguments: invoke(surroundings, name, arguments)).evaluate()

    def image(self, expression: Any) -> Image:
        """The value of an expression as an image; a collection is shown as its mosaic."""
        context = self.context()
        value = self.evaluate(expression, context)
        if isinstance(value, Collection):
            if value.images:
                mosaic: Image = invoke(context, "ImageCollection.mosaic", {"collection": value})
                return mosaic
            drawn: Image = invoke(context, "Collection.draw", {"collection": value, "color": "000000"})
            return drawn
        image: Image | None = promote("Image", value, context, "Expression")
        if image is None:
            raise ArgumentError("The expression's value is null, an image is needed.")
        return image

    def features(self, expression: Any) -> Collection:
        """The value of an expression as a feature collection."""
        context = self.context()
        collection: Collection | None = promote(
            "FeatureCollection", self.evaluate(expression, context), context, "Expression"
        )
        if collection is None:
            raise ArgumentError("The expression's value is null, a feature collection is needed.")
        return collection

    def save(self, kind: str, project: str, body: dict[str, Any]) -> str:
        """Keep a request under a new name `projects/P/KIND/ID`."""
        name = f"projects/{project}/{kind}/{uuid.uuid4().hex}"
        self.saved.put(name, body)
        return name

    def saved_request(self, name: str) -> dict[str, Any]:
        """A kept request. NotFoundError when there is none of that name."""
        body = self.saved.get(name)
        if body is None:
            raise NotFoundError(f"'{name}' does not exist.")
        return body
