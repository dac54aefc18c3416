"""Loading images, and their bands, names and properties."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from infra.local.earthengine import pixeltype
from infra.local.earthengine.algorithms.images_math import cast_band
from infra.local.earthengine.algorithms.registry import algorithm
from infra.local.earthengine.context import Context
from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.geometry import Geometry
from infra.local.earthengine.grid import PixelGrid, Projection
from infra.local.earthengine.image import Band, Image, constant, mapped, masked_band, select, unique_name
from infra.local.earthengine.pixeltype import PixelType
from infra.local.earthengine.promote import to_pixel_type
from infra.local.earthengine.raster import Constant, Node, Raster, Run
from infra.local.earthengine.values import Collection, Date


@algorithm("Image.load")
def load(context: Context, id: str, version: int = -1) -> Image:
    """An image asset."""
    return context.assets.image(id)


@algorithm("Image.constant")
def constant_image(value: Any) -> Image:
    """The same value everywhere, on no grid of its own."""
    if isinstance(value, dict):
        made = [constant(v, name) for name, v in value.items()]
        return Image(bands=tuple(b for image in made for b in image.bands))
    return constant(value)


@algorithm("Image.select")
def image_select(input: Image, bandSelectors: list[Any], newNames: list[str] | None = None) -> Image:
    """Bands by name, index or regular expression."""
    return select(input, bandSelectors, newNames)


@algorithm("Image.slice")
def image_slice(image: Image, start: int, end: int | None = None) -> Image:
    """Bands from `start` to before `end`, by their place."""
    return image.with_bands(image.bands[start:end])


@algorithm("Image.rename")
def rename(input: Image, names: list[str]) -> Image:
    """Bands under other names."""
    if len(names) != len(input.bands):
        raise ArgumentError(
            f"Image.rename: The number of names ({len(names)}) must match the number of bands ({len(input.bands)})."
        )
    return input.with_bands(replace(b, id=str(n)) for b, n in zip(input.bands, names, strict=True))


@algorithm("Image.addBands")
def add_bands(dstImg: Image, srcImg: Image, names: list[str] | None = None, overwrite: bool = False) -> Image:
    """The first image with the bands of the second after its own; equal names get `_1`, or replace with `overwrite`."""
    source = select(srcImg, names, caller="Image.addBands") if names is not None else srcImg
    bands = list(dstImg.bands)
    for band in source.bands:
        taken = [b.id for b in bands]
        if overwrite and band.id in taken:
            bands[taken.index(band.id)] = band
        else:
            bands.append(replace(band, id=unique_name(band.id, taken)))
    return replace(dstImg, bands=tuple(bands), id=None, version=None)


@algorithm("Image.cat")
def concatenate(images: list[Any]) -> Image:
    """The bands of all images in one, with the properties of the first."""
    made = [i if isinstance(i, Image) else constant(i) for i in images]
    if not made:
        return Image()
    result = made[0]
    for image in made[1:]:
        result = add_bands(result, image)
    return result


@algorithm("Image.bandNames")
def band_names(image: Image) -> list[str]:
    """Names of the bands in order."""
    return [b.id for b in image.bands]


@algorithm("Image.bandTypes")
def band_types(image: Image) -> dict[str, PixelType]:
    """Types of the bands by name."""
    return {b.id: b.type for b in image.bands}


@algorithm("Image.cast")
def cast(image: Image, bandTypes: dict[str, Any], bandOrder: list[str] | None = None) -> Image:
    """Bands as the given types, in the given order; a band that is missing becomes one that is masked everywhere."""
    types = {name: to_pixel_type(kind) for name, kind in bandTypes.items()}
    have = {b.id: b for b in image.bands}

    def made(name: str) -> Band:
        if name not in have:
            if name not in types:
                raise ArgumentError(
                    f"Image.cast: The band '{name}' is in the order but neither in the image nor typed."
                )
            return Band(name, Constant(0, types[name], valid=False), types[name])
        return cast_band(have[name], types[name]) if name in types else have[name]

    order = bandOrder if bandOrder is not None else [*have, *(n for n in types if n not in have)]
    return image.with_bands(made(str(n)) for n in order)


@algorithm("Image.metadata")
def metadata(image: Image, property: str, name: str | None = None) -> Image:
    """A constant image of a numeric property; masked where the image has no such property."""
    value = image.get(property)
    label = name or property
    if isinstance(value, bool) or not isinstance(value, int | float):
        if value is None:
            kind = PixelType("double")
            return Image(bands=(Band(label, Constant(0, kind, valid=False), kind),))
        raise ArgumentError(f"Image.metadata: The property '{property}' is not a number: {value!r}.")
    kind = PixelType("double", float(value), float(value))
    return Image(bands=(Band(label, Constant(float(value), kind), kind),))


@algorithm("Image.date")
def date(image: Image) -> Date | None:
    """`system:time_start` as a date."""
    value = image.get("system:time_start")
    return None if value is None else Date(int(value))


@algorithm("Image.projection")
def projection(image: Image) -> Projection:
    """The default projection of all bands; they must agree."""
    if not image.bands:
        raise ArgumentError("Image.projection: The image has no bands.")
    first = image.bands[0].projection
    if any(b.projection != first for b in image.bands):
        raise ArgumentError("Image.projection: The bands of the specified image contains different projections.")
    return first


@algorithm("Image.geometry")
def footprint(feature: Any, maxError: Any = None, proj: Any = None, geodesics: Any = None) -> Geometry:
    """Where the image has pixels."""
    result: Geometry = feature.footprint if isinstance(feature, Image) else feature.geometry
    return result


@algorithm("Image.linkCollection")
def link_collection(
    input: Image,
    imageCollection: Collection,
    linkedBands: Any = None,
    linkedProperties: Any = None,
    matchPropertyName: str = "system:index",
) -> Image:
    """Bands and properties of the image with the same value of a property, in place of its own of the same names.

    Where no image of the collection has that value the bands are masked and the properties null.
    """
    wanted = input.get(matchPropertyName)
    found = next(
        (e for e in imageCollection.elements if wanted is not None and e.get(matchPropertyName) == wanted), None
    )
    result = input
    bands = _as_list(linkedBands)
    if bands is not None:
        like: Image | None = found or (imageCollection.elements[0] if imageCollection.elements else None)
        if like is None:
            kind = PixelType("float")
            linked = Image(bands=tuple(Band(str(n), Constant(0, kind, valid=False), kind) for n in bands))
        else:
            linked = select(like, bands, caller="Image.linkCollection")
        if found is None:
            linked = mapped(linked, masked_band)
        result = replace(add_bands(input, linked, None, True), id=input.id, version=input.version)
    properties = _as_list(linkedProperties)
    if properties is not None:
        values = {p: None if found is None else found.get(p) for p in properties}
        result = replace(result, properties={**result.properties, **values})
    return result


def _as_list(value: Any) -> list[Any] | None:
    return None if value is None else value if isinstance(value, list) else [value]


@algorithm("Image.regexpRename")
def regexp_rename(input: Image, regex: str, replacement: str, all: bool = True) -> Image:
    """Bands renamed by a regular expression; `$1` in the replacement is its first group."""
    text = re.sub(r"\$(\d)", r"\\\1", replacement)
    return mapped(input, lambda b: replace(b, id=re.sub(regex, text, b.id, count=0 if all else 1)))


@algorithm("Image.remap")
def remap(image: Image, defaultValue: Any = None, bandName: str | None = None, **pairs: list[Any]) -> Image:
    """One band with values exchanged; those that are not in `from` become the default, or masked without one.

    The result's only band is `remapped`. (`from` and `to` are words of the language and come by name only.)
    """
    source = image.band(bandName) if bandName is not None else image.bands[0]
    before, after = pairs["from"], pairs["to"]
    if len(before) != len(after):
        raise ArgumentError(f"Image.remap: {len(before)} values to exchange for {len(after)}.")
    numbers = [*after, *([] if defaultValue is None else [defaultValue])]
    kind = pixeltype.union(PixelType.of_value(v) for v in numbers) if numbers else source.type
    node = Remapped(source.node, tuple(before), tuple(after), defaultValue, kind)
    return replace(image, bands=(replace(source, id="remapped", node=node, type=kind),), id=None, version=None)


@dataclass(frozen=True, eq=False)
class Remapped(Node):
    """A node with values exchanged."""

    source: Node
    """Gives the values."""
    before: tuple[float, ...]
    """Values to exchange."""
    after: tuple[float, ...]
    """What they become."""
    default: float | None
    """What the others become; None: masked."""
    type: PixelType
    """Type of the result."""

    def compute(self, grid: PixelGrid, run: Run) -> Raster:
        """See `Node.compute`."""
        values, mask = source = run.pixels(self.source, grid)
        found = np.zeros(grid.shape_yx, bool)
        result = np.full(grid.shape_yx, 0 if self.default is None else self.default, self.type.dtype)
        for old, new in zip(self.before, self.after, strict=True):
            at = (values == old) & ~found
            result[at] = new
            found |= at
        return Raster(result, mask if self.default is not None else mask & found, source.fraction)
