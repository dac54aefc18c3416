"""Pictures of an adaptation: the maps before and after side by side, with what was drawn, and what changed where."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from geopandas import GeoDataFrame
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from flows.decimate import decimate_tif
from flows.labels_file import Labels
from flows.layout import PRODUCTS
from flows.mapframe import DPI, INK, add_legend, add_map, encode, finish_map, height_of
from flows.pictures import MapLayers, Picture, Rgba, map_layers, stripes, true_colour
from flows.scene import FloatArray, Scene, Slices
from modeling.adaptation.changes import Change

WIDTH_PX = 1500
_FOUND, _HALO = "#ffd60a", "#3a2f00"
_DRAWN = {True: "#ff3b6b", False: "#35d0ff"}
_DRAWN_WORDS = {True: "drawn: landslide", False: "drawn: not landslide"}
_CHANGES = {
    Change.ADDED: ("#d73027", "became landslide"),
    Change.REMOVED: ("#4575b4", "no landslide any more"),
    Change.ADDED_ALIKE: ("#fdae61", "became landslide, nobody looked"),
    Change.REMOVED_ALIKE: ("#7fcdee", "no longer, nobody looked"),
    Change.KEPT_BACKGROUND: ("#9b30c9", "kept as no landslide"),
    Change.KEPT_LANDSLIDE: ("#1b7837", "kept as landslide"),
}
_TYPE = "image/jpeg"
_GROUND = 0.55
"""How much the ground is paled under changes, so that these are seen."""


def adaptation_pictures(
    scene: Scene, labels: Labels, before: GeoDataFrame, after: GeoDataFrame, folder: Path, *, simulated: bool
) -> tuple[Picture, ...]:
    """Before and after side by side (`adaptation`), and the change map (`changes`).

    `folder` holds probability.tif, observed.tif and changes.tif; `labels` are in the coordinates of the map.
    """

    def read(window: Slices) -> Mapping[str, FloatArray]:
        return scene.read_tile(*window).layers

    layers = map_layers(
        read, scene.grid, folder / PRODUCTS["probability"].filename, folder / PRODUCTS["observed"].filename, after,
        with_pre=False,
    )  # fmt: skip
    prefix = "Simulated scene. " if simulated else ""
    side_by_side = _side_by_side(layers, labels, (before.to_crs(scene.grid.crs), layers.landslides))
    changed = _changed(layers, labels, folder / PRODUCTS["changes"].filename)
    counts = sum(polygon.landslide for polygon in labels.polygons), len(labels.polygons)
    return (
        _picture(
            "adaptation",
            "Before and after the analyst's polygons",
            f"{prefix}Left the version before, right this one: mapped landslides in yellow, drawn landslides in red, drawn "
            "other ground in blue.",
            f"The map before and after; {counts[0]} of {counts[1]} drawn polygons are landslides.",
            side_by_side,
        ),
        _picture(
            "changes",
            "What changed, and where nobody has looked",
            f"{prefix}Every pixel whose class changed or would have. Dark red and dark blue lie near a drawn polygon; orange "
            "and light blue lie where nobody has looked and are like what was drawn; violet and green would have changed "
            "and were kept as before.",
            "Map of the changes from the version before to this one, by kind.",
            changed,
        ),
    )


def _side_by_side(layers: MapLayers, labels: Labels, inventories: Iterable[GeoDataFrame]) -> Figure:
    figure, places = _frames(layers, ("Before", "After"))
    for axes, inventory in zip(places, inventories, strict=True):
        _background(axes, layers, 1.0)
        _outlines(axes, inventory.geometry.to_numpy(), _FOUND, 1.0)
        _drawn(axes, labels)
        _finish(axes, layers)
    entries: list[Artist] = [Line2D([], [], color=_FOUND, linewidth=2.5, label="mapped landslide")]
    add_legend(figure, [*entries, *_drawn_legend()], 0.13)
    return figure


def _changed(layers: MapLayers, labels: Labels, changes: Path) -> Figure:
    figure, (axes,) = _frames(layers, ("",))
    _background(axes, layers, _GROUND)
    codes = decimate_tif(changes, layers.bounds, WIDTH_PX, codes=True)
    image = np.zeros((*codes.data.shape[-2:], 4), np.float32)
    values = codes.data.reshape(codes.data.shape[-2:])
    present = set(np.unique(values).tolist())
    for code, (colour, _) in _CHANGES.items():
        image[values == code] = (*to_rgb(colour), 1)
    _image(axes, image, codes.bounds)
    _drawn(axes, labels)
    _finish(axes, layers)
    shown = [Patch(facecolor=colour, label=words) for code, (colour, words) in _CHANGES.items() if code in present]
    add_legend(figure, shown or _drawn_legend(), 0.13)
    return figure


def _frames(layers: MapLayers, names: tuple[str, ...]) -> tuple[Figure, list[Axes]]:
    width, gap, foot, edge = WIDTH_PX / DPI, 0.15, 0.5, 0.2
    inner = (width - 2 * edge - gap * (len(names) - 1)) / len(names)
    height = height_of(layers.bounds, inner)
    figure = Figure(figsize=(width, 0.4 + height + foot), dpi=DPI, facecolor="white")
    places = []
    for index, name in enumerate(names):
        axes = add_map(figure, (edge + index * (inner + gap), foot, inner, height), layers.bounds, layers.crs)
        axes.set_title(name, fontsize=12, color=INK)
        places.append(axes)
    return figure, places


def _background(axes: Axes, layers: MapLayers, strength: float) -> None:
    image = true_colour(layers.post_rgb)
    image[..., :3] = 1 - strength * (1 - image[..., :3])
    _image(axes, image, layers.post_rgb.bounds)
    codes = layers.observed.data
    times = max(800 // max(codes.shape), 1)
    _image(axes, stripes(codes.repeat(times, axis=0).repeat(times, axis=1)), layers.observed.bounds)


def _finish(axes: Axes, layers: MapLayers) -> None:
    finish_map(axes, layers.bounds)
    axes.set_xticks([])
    axes.set_yticks([])


def _image(axes: Axes, rgba: Rgba, bounds: tuple[float, float, float, float]) -> None:
    left, bottom, right, top = bounds
    axes.imshow(rgba, extent=(left, right, bottom, top), interpolation="nearest", aspect="auto")


def _drawn(axes: Axes, labels: Labels) -> None:
    for landslide, colour in _DRAWN.items():
        _outlines(axes, [one.geometry for one in labels.polygons if one.landslide == landslide], colour, 1.6)


def _outlines(axes: Axes, geometries: Any, colour: str, width: float) -> None:
    parts = shapely.get_parts(np.asarray(geometries, object))
    rings = [shapely.get_coordinates(ring) for ring in shapely.get_rings(parts)]
    axes.add_collection(LineCollection(rings, colors=_HALO, linewidths=width + 1.0, alpha=0.5), autolim=False)
    axes.add_collection(LineCollection(rings, colors=colour, linewidths=width), autolim=False)


def _drawn_legend() -> list[Artist]:
    return [Line2D([], [], color=colour, linewidth=2.5, label=_DRAWN_WORDS[kind]) for kind, colour in _DRAWN.items()]


def _picture(key: str, title: str, caption: str, alt: str, figure: Figure) -> Picture:
    data, size = encode(figure, _TYPE)
    return Picture(key, title, caption, alt, data, _TYPE, size)
