"""Features as pixels: painting, drawing and styling of tables, and reducing their properties to an image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import shapely

from infra.local.earthengine import pixeltype
from infra.local.earthengine.algorithms.registry import algorithm
from infra.local.earthengine.algorithms.visualise import BYTE, COLOURS, translucent
from infra.local.earthengine.burning import burnt
from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.geometry import WGS84, Geometry
from infra.local.earthengine.grid import Array, PixelGrid
from infra.local.earthengine.image import Band, Image
from infra.local.earthengine.pixeltype import PixelType
from infra.local.earthengine.promote import to_geometry
from infra.local.earthengine.raster import Node, Raster, Run
from infra.local.earthengine.reducers import Reducer
from infra.local.earthengine.values import Collection, Feature


@dataclass(frozen=True, eq=False)
class Shapes:
    """Many geometries, of which those near a grid are found quickly."""

    geometries: tuple[Geometry, ...]
    """One for each feature."""
    tree: shapely.STRtree
    """Of the shapes in longitude and latitude."""

    @classmethod
    def of(cls, collection: Collection) -> Shapes:
        """Of the features of a collection."""
        geometries = tuple(to_geometry(e) for e in collection.elements)
        return cls(geometries, shapely.STRtree([g.require("Drawing").envelope if g.crs == WGS84 else g.lonlat().envelope
                                                for g in geometries]))  # fmt: skip

    def near(self, grid: PixelGrid, run: Run, margin_pixels: float) -> list[int]:
        """Places of the geometries that may touch a grid, in order."""
        height, width = grid.shape_yx
        m = round(margin_pixels) + 2
        lon, lat = run.coordinates(grid.window(-m, -m, height + 2 * m, width + 2 * m), WGS84)
        usable = np.isfinite(lon) & np.isfinite(lat) if lon.shape == lat.shape else np.asarray(True)
        if not usable.any():
            return []
        window = shapely.box(np.nanmin(lon), np.nanmin(lat), np.nanmax(lon), np.nanmax(lat))
        return sorted(int(i) for i in self.tree.query(window))


def burn(parts: list[tuple[Any, float]], grid: PixelGrid, dtype: Any) -> tuple[Array, Array]:
    """Values of shapes at the pixels whose centre lies in them, the last one on top, and where there is one."""
    values = np.zeros(grid.shape_yx, dtype)
    mask = np.zeros(grid.shape_yx, bool)
    solid = [(s, v) for s, v in parts if not s.is_empty]
    if solid:
        order = burnt([(s, i + 1) for i, (s, _) in enumerate(solid)], grid, "int32")
        mask = order > 0
        values[mask] = np.asarray([v for _, v in solid], dtype)[order[mask] - 1]
    return values, mask


def stroked(made: Any, width: float) -> Any:
    """The line along a shape's edge, or the disc about a point, so many coordinate units wide."""
    edge = made.boundary if made.area > 0 else made
    return edge.buffer(width / 2, quad_segs=4)


@dataclass(frozen=True, eq=False)
class Painted(Node):
    """A node with values painted over it."""

    source: Node
    """What lies below."""
    shapes: Shapes
    """What is painted."""
    values: tuple[float, ...]
    """The value of each shape."""
    widths: tuple[float, ...] | None
    """Width in pixels of each outline; None: shapes are filled."""
    type: PixelType
    """Type of the result."""

    def compute(self, grid: PixelGrid, run: Run) -> Raster:
        """See `Node.compute`."""
        below, mask = run.pixels(self.source, grid)
        size = grid.projection.pixel_size
        parts = []
        for i in self.shapes.near(grid, run, max(self.widths or (0,))):
            made = self.shapes.geometries[i].in_crs(grid.crs)
            if self.widths is not None:
                made = stroked(made, self.widths[i] * size)
            elif made.area == 0:
                made = stroked(made, size)
            parts.append((made, self.values[i]))
        values, painted = burn(parts, grid, self.type.dtype)
        return Raster(np.where(painted, values, pixeltype.cast(below, self.type)), mask | painted)


def _numbers(collection: Collection, value: Any, caller: str) -> tuple[float, ...]:
    """A number for each feature: the same one, or that of a property."""
    if isinstance(value, str):
        found = [e.get(value) for e in collection.elements]
        if any(isinstance(v, bool) or not isinstance(v, int | float) for v in found):
            raise ArgumentError(f"{caller}: The property '{value}' is not a number in every feature.")
        return tuple(found)
    return (float(value) if isinstance(value, float) else value,) * len(collection.elements)


@algorithm("Image.paint")
def paint(image: Image, featureCollection: Collection, color: Any = 0, width: Any = None) -> Image:
    """Features painted over an image, with a number or the number in a property; outlines of a width when given."""
    values = _numbers(featureCollection, 0 if color is None else color, "Image.paint")
    widths = None if width is None else _numbers(featureCollection, width, "Image.paint")
    shapes = Shapes.of(featureCollection)
    bands = []
    for band in image.bands:
        kind = pixeltype.union([band.type, *(PixelType.of_value(v) for v in set(values))])
        bands.append(replace(band, node=Painted(band.node, shapes, values, widths, kind), type=kind))
    return image.with_bands(bands)


@dataclass(frozen=True)
class Style:
    """How one feature is drawn."""

    stroke: tuple[int, int, int, int]
    """Colour and opacity of the outline."""
    fill: tuple[int, int, int, int] | None
    """Colour and opacity of the inside; None: nothing."""
    width: float
    """Of the outline in pixels."""
    point: float
    """Diameter of points in pixels."""


@dataclass(frozen=True, eq=False)
class Drawn(Node):
    """One colour channel of drawn features; masked where there is none."""

    shapes: Shapes
    """What is drawn."""
    styles: tuple[Style, ...]
    """How, for each shape."""
    channel: int
    """0 red, 1 green, 2 blue."""

    def compute(self, grid: PixelGrid, run: Run) -> Raster:
        """See `Node.compute`."""
        size = grid.projection.pixel_size
        widest = max((max(s.width, s.point) for s in self.styles), default=0)
        parts: list[tuple[Any, float]] = []
        opacities: list[float] = []
        for i in self.shapes.near(grid, run, widest):
            style, made = self.styles[i], self.shapes.geometries[i].in_crs(grid.crs)
            flat = made.geom_type in ("Point", "MultiPoint")
            if made.area > 0 and style.fill is not None:
                parts.append((made, style.fill[self.channel]))
                opacities.append(style.fill[3] / 255)
            width = style.point if flat else style.width
            if width > 0:
                parts.append((stroked(made, width * size), style.stroke[self.channel]))
                opacities.append(style.stroke[3] / 255)
        values, mask = burn(parts, grid, "uint8")
        if all(v == 1 for v in opacities):
            return Raster(values, mask)
        clear = [(shape, v) for (shape, _), v in zip(parts, opacities, strict=True)]
        fraction = burn(clear, grid, "float32")[0]
        return Raster(values, mask & (fraction > 0), fraction)


def _drawing(collection: Collection, styles: list[Style]) -> Image:
    shapes = Shapes.of(collection)
    return Image(bands=tuple(Band(n, Drawn(shapes, tuple(styles), i), BYTE) for i, n in enumerate(COLOURS)))


@algorithm("Collection.draw")
def draw(collection: Collection, color: str, pointRadius: int = 3, strokeWidth: int = 2) -> Image:
    """Features in a colour: outlines, filled insides, discs for points."""
    shown = translucent(color)
    style = Style(shown, shown, float(strokeWidth), 2.0 * pointRadius)
    return _drawing(collection, [style] * len(collection.elements))


@algorithm("Collection.style")
def style_collection(
    collection: Collection,
    color: str = "black",
    pointSize: int = 3,
    pointShape: str = "circle",
    width: float = 2,
    fillColor: str | None = None,
    styleProperty: str | None = None,
    neighborhood: int = 5,
    lineType: str = "solid",
) -> Image:
    """Features in colours, also by a dictionary in a property of each.

    Where drawings overlap, the last one is seen with its own opacity. All points are discs and all lines solid.
    """
    default = {"color": color, "pointSize": pointSize, "width": width, "fillColor": fillColor}
    styles = []
    for element in collection.elements:
        own = element.get(styleProperty) if styleProperty else None
        chosen = {**default, **(own if isinstance(own, dict) else {})}
        stroke, fill = translucent(str(chosen["color"])), chosen["fillColor"]
        # Without a fill of its own the inside has the colour of the outline, two thirds as opaque.
        inside = (*stroke[:3], round(stroke[3] * 0.66)) if fill is None else translucent(str(fill))
        styles.append(Style(stroke, inside, float(chosen["width"]), float(chosen["pointSize"])))
    return _drawing(collection, styles)


@dataclass(frozen=True, eq=False)
class FromProperties(Node):
    """A reducer over the properties of the features that a pixel lies in."""

    shapes: Shapes
    """The features' geometries."""
    values: tuple[tuple[float, ...], ...]
    """For each input of the reducer a number for each feature."""
    reducer: Reducer
    """What reduces them."""
    output: int
    """Which of its outputs."""
    type: PixelType
    """Type of the output."""

    def compute(self, grid: PixelGrid, run: Run) -> Raster:
        """See `Node.compute`."""
        places = self.shapes.near(grid, run, 1)
        if not places:
            return Raster(np.zeros(grid.shape_yx, self.type.dtype), np.zeros(grid.shape_yx, bool))
        layers = []
        for i in places:
            made = self.shapes.geometries[i].in_crs(grid.crs)
            solid = made if made.area > 0 else stroked(made, grid.projection.pixel_size)
            layers.append(burn([(solid, 1)], grid, "uint8")[1])
        mask = np.stack(layers)
        stacks = [
            np.broadcast_to(np.asarray([column[i] for i in places])[:, None, None], mask.shape)
            for column in self.values
        ]
        found, valid = self.reducer.pixels(stacks, mask)[self.output]
        return Raster(pixeltype.cast(np.asarray(found), self.type), np.broadcast_to(valid, grid.shape_yx) & mask.any(0))


@algorithm("Collection.reduceToImage")
def reduce_to_image(collection: Collection, properties: list[str], reducer: Reducer) -> Image:
    """A reducer over the properties of the features that each pixel's centre lies in."""
    if reducer.inputs != len(properties):
        raise ArgumentError(
            f"Collection.reduceToImage: Need {reducer.inputs} properties for {reducer.name}, got {len(properties)}."
        )
    kept = [e for e in collection.elements if all(e.get(p) is not None for p in properties)]
    chosen = Collection(elements=tuple(kept), images=False)
    values = tuple(_numbers(chosen, p, "Collection.reduceToImage") for p in properties)
    kinds = [PixelType.of_value(v) for column in values for v in set(column)] or [pixeltype.DOUBLE]
    kind = reducer.kind(kinds, len(kept))
    shapes = Shapes.of(chosen)
    nodes = [FromProperties(shapes, values, reducer, i, kind) for i in range(len(reducer.outputs))]
    return Image(bands=tuple(Band(name, node, kind) for name, node in zip(reducer.outputs, nodes, strict=True)))


@algorithm("Collection.union")
def union(collection: Collection, maxError: Any = None) -> Collection:
    """One feature of all geometries together."""
    feature = Feature("0", {}, to_geometry(collection))
    return Collection(elements=(feature,), images=False)
