"""Images: bands of lazy pixels with names, types, projections and properties."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.geometry import WORLD, Geometry
from infra.local.earthengine.grid import DEFAULT_PROJECTION, Projection
from infra.local.earthengine.pixeltype import PixelType
from infra.local.earthengine.raster import Constant, Node


@dataclass(frozen=True)
class Band:
    """One band of an image."""

    id: str
    """Name."""
    node: Node
    """Its pixels."""
    type: PixelType
    """Type of its pixels."""
    projection: Projection = DEFAULT_PROJECTION
    """Its default projection: the grid of its pixels, or one-degree pixels when it has none."""
    shape_yx: tuple[int, int] | None = None
    """Height and width on that grid, when known."""

    @property
    def has_grid(self) -> bool:
        """False for constants and composites, whose pixels are computed on whatever grid is asked for."""
        return self.projection != DEFAULT_PROJECTION

    def to_json(self) -> dict[str, Any]:
        """As `getInfo` shows it."""
        body: dict[str, Any] = {"id": self.id, "data_type": self.type.to_json()}
        if self.shape_yx is not None:
            body["dimensions"] = [self.shape_yx[1], self.shape_yx[0]]
        return {**body, "crs": self.projection.crs, "crs_transform": list(self.projection.transform)}


@dataclass(frozen=True)
class Element:
    """What collections hold: something with an id and properties."""

    id: str | None = None
    """Asset id of an image, index of a feature; None when computed."""
    properties: dict[str, Any] = field(default_factory=dict)
    """Named values, `system:index` and `system:time_start` (ms since 1970) among them."""

    def get(self, name: str) -> Any:
        """A property, None when there is none. `system:id` is the id."""
        if name == "system:id":
            return self.id
        return self.properties.get(name)


@dataclass(frozen=True)
class Image(Element):
    """An image of the server."""

    bands: tuple[Band, ...] = ()
    """Bands in order."""
    footprint: Geometry = WORLD
    """Where it has pixels; the whole world for constants and composites."""
    version: int | None = None
    """Version of the asset."""

    def band(self, name: str) -> Band:
        """A band by its name."""
        for band in self.bands:
            if band.id == name:
                return band
        raise ArgumentError(
            f"Image.select: Band pattern '{name}' did not match any bands. "
            f"Available bands: [{', '.join(b.id for b in self.bands)}]"
        )

    def with_bands(self, bands: Iterable[Band]) -> Image:
        """The same image with other bands; it keeps id, properties and footprint."""
        return replace(self, bands=tuple(bands))

    def to_json(self) -> dict[str, Any]:
        """As `getInfo` shows it."""
        body: dict[str, Any] = {"type": "Image", "bands": [b.to_json() for b in self.bands]}
        if self.id is not None:
            body["id"] = self.id
        if self.version is not None:
            body["version"] = self.version
        return {**body, "properties": self.properties}


def constant(value: Any, name: str = "constant") -> Image:
    """An image of a number, or of a list of numbers (bands `constant`, `constant_1`, …), the same everywhere."""
    values = value if isinstance(value, list | tuple) else [value]
    bands = []
    for i, v in enumerate(values):
        if isinstance(v, bool) or not isinstance(v, int | float):
            raise ArgumentError(f"Image.constant: The value must be a number or a list of numbers, got {v!r}.")
        kind = PixelType.of_value(v)
        bands.append(Band(name if i == 0 else f"{name}_{i}", Constant(v, kind), kind))
    return Image(bands=tuple(bands))


def masked_band(like: Band, name: str | None = None) -> Band:
    """A band of the same type that is masked everywhere."""
    return replace(like, id=name or like.id, node=Constant(0, like.type, valid=False))


def unique_name(name: str, taken: Iterable[str]) -> str:
    """The name, with `_1`, `_2`, … appended when it is taken."""
    used, candidate, count = set(taken), name, 0
    while candidate in used:
        count += 1
        candidate = f"{name}_{count}"
    return candidate


def select(
    image: Image, selectors: list[Any], new_names: list[str] | None = None, caller: str = "Image.select"
) -> Image:
    """Bands by name, index or regular expression, in the order of the selectors, renamed when names are given."""
    chosen: list[Band] = []
    for selector in selectors:
        chosen.extend(_matching(image, selector, caller))
    if new_names is not None:
        if len(new_names) != len(chosen):
            raise ArgumentError(
                f"{caller}: Number of new names ({len(new_names)}) must match the number of bands ({len(chosen)})."
            )
        chosen = [replace(band, id=str(name)) for band, name in zip(chosen, new_names, strict=True)]
    else:
        seen: list[Band] = []
        for band in chosen:
            seen.append(replace(band, id=unique_name(band.id, (b.id for b in seen))))
        chosen = seen
    return image.with_bands(chosen)


def _matching(image: Image, selector: Any, caller: str) -> list[Band]:
    available = f"Available bands: [{', '.join(b.id for b in image.bands)}]"
    if isinstance(selector, int) and not isinstance(selector, bool):
        if not -len(image.bands) <= selector < len(image.bands):
            raise ArgumentError(f"{caller}: Band index {selector} is out of range. {available}")
        return [image.bands[selector]]
    if not isinstance(selector, str):
        raise ArgumentError(f"{caller}: A band selector is a name or an index, got {selector!r}.")
    exact = [b for b in image.bands if b.id == selector]
    if exact:
        return exact
    try:
        pattern = re.compile(selector)
    except re.error as error:
        raise ArgumentError(f"{caller}: '{selector}' is not a valid band pattern: {error}.") from error
    found = [b for b in image.bands if pattern.fullmatch(b.id)]
    if not found:
        raise ArgumentError(f"{caller}: Band pattern '{selector}' did not match any bands. {available}")
    return found


def matched(first: Image, second: Image, caller: str) -> list[tuple[str, Band, Band]]:
    """The pairs of bands that a binary operation works on, with the name of each result.

    A single band goes with every band of the other image. Otherwise bands of the same names go together, or, when the
    images have as many bands but other names, those at the same place. Results are named after the longer image, the
    first one when both are as long.
    """
    a, b = first.bands, second.bands
    if len(a) == 1 and len(b) == 1:
        return [(a[0].id, a[0], b[0])]
    if len(b) == 1:
        return [(x.id, x, b[0]) for x in a]
    if len(a) == 1:
        return [(y.id, a[0], y) for y in b]
    by_name = {y.id: y for y in b}
    common = [(x.id, x, by_name[x.id]) for x in a if x.id in by_name]
    if len(a) == len(b) and len(common) != len(a):
        return [(x.id, x, y) for x, y in zip(a, b, strict=True)]
    if common or not a or not b:
        return common
    raise ArgumentError(
        f"{caller}: Images must have the same number of bands, one band, or common band names; "
        f"got [{', '.join(x.id for x in a)}] and [{', '.join(y.id for y in b)}]."
    )


def leading(*bands: Band) -> Band:
    """The band whose grid a result takes: the first that has one."""
    return next((b for b in bands if b.has_grid), bands[0])


def mapped(image: Image, change: Callable[[Band], Band]) -> Image:
    """The image with each band changed."""
    return image.with_bands(change(b) for b in image.bands)
