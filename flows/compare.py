"""Two versions of an event side by side: where they differ, and where only one of them saw the ground.

What one version did not see is never called a change: a landslide on ground that was not seen before is "newly seen".
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import numpy.typing as npt
import rasterio
from matplotlib.colors import to_rgb
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform_bounds
from rasterio.windows import Window

from flows.campaign.notes import facts_of
from flows.errors import PublicationError
from flows.facts import ReportFacts
from flows.layout import EventLayout
from flows.publish import Publication, read_versions
from flows.scratch import scratch_folder
from flows.settings import WorkSettings
from flows.storage import Store
from gee.types import Grid
from modeling.rasters.cog import Category, CogWriter, class_profile

Array = npt.NDArray[Any]

BLOCK_PX = 2048
"""Side of the windows in which the maps are compared."""
UNSEEN = 255


class Difference(IntEnum):
    """What two versions say of a pixel."""

    NEITHER = 0
    """Both saw it and found no landslide."""
    BOTH = 1
    """A landslide in both."""
    ADDED = 2
    """Seen by both, a landslide in the second only."""
    REMOVED = 3
    """Seen by both, a landslide in the first only."""
    NEWLY_SEEN = 4
    """Seen by the second only: no landslide."""
    NEWLY_SEEN_LANDSLIDE = 5
    """Seen by the second only: a landslide."""
    NO_LONGER_SEEN = 6
    """Seen by the first only: no landslide."""
    NO_LONGER_SEEN_LANDSLIDE = 7
    """Seen by the first only: a landslide."""


LABELS = {
    Difference.NEITHER: "no landslide in both", Difference.BOTH: "landslide in both",
    Difference.ADDED: "landslide now, not before", Difference.REMOVED: "landslide before, not now",
    Difference.NEWLY_SEEN: "newly seen, no landslide", Difference.NEWLY_SEEN_LANDSLIDE: "newly seen, landslide",
    Difference.NO_LONGER_SEEN: "no longer seen, no landslide before",
    Difference.NO_LONGER_SEEN_LANDSLIDE: "no longer seen, landslide before",
}  # fmt: skip
COLOURS = {
    Difference.NEITHER: "#eeeeee", Difference.BOTH: "#7a1f5c", Difference.ADDED: "#d73027",
    Difference.REMOVED: "#4575b4", Difference.NEWLY_SEEN: "#d9ead3", Difference.NEWLY_SEEN_LANDSLIDE: "#f39c4a",
    Difference.NO_LONGER_SEEN: "#c9ccd1", Difference.NO_LONGER_SEEN_LANDSLIDE: "#7fcdee",
}  # fmt: skip
"""How each is drawn, on the map and in the picture."""


@dataclass(frozen=True)
class Side:
    """One of the two versions in numbers."""

    version: int
    """Its number."""
    published: str
    """When it became visible, ISO 8601."""
    observed_km2: float
    """Area that it saw."""
    observed_percent: float
    """Share of its own area of interest."""
    landslides: int
    """How many it found."""
    landslide_area_m2: float
    """Their total area."""
    scenes_after: tuple[str, ...]
    """Its images after the event."""


@dataclass(frozen=True)
class Comparison:
    """Two versions of one event."""

    event_id: str
    """The event."""
    title: str
    """Its title."""
    simulated: bool
    """Whether it is simulated."""
    sides: tuple[Side, Side]
    """The earlier version that was named, and the later."""
    km2: dict[str, float]
    """Area by `LABELS`."""
    landslides: dict[str, int]
    """`in both`: polygons of the second that meet one of the first; `only in the second`, `only in the first`."""


def compare_versions(
    store: Store, event_id: str, numbers: tuple[int, int], out: Path, work: WorkSettings
) -> Comparison:
    """Compare two visible versions: write compare.tif and compare.json into `out`.

    Raises `PublicationError` for a number that is no version of the event.
    """
    event = EventLayout(store.bucket_url, event_id)
    first, second = (_version(store, event, number) for number in numbers)
    facts = [_facts(store, one) for one in (first, second)]
    pixels = sum(one.coverage.area_km2 + one.coverage.outside_km2 for one in facts) * 1e6 / 100.0
    out.mkdir(parents=True, exist_ok=True)
    with scratch_folder(work, (1, int(pixels))) as folder:
        masks, tables = [], []
        for number, one in zip(numbers, (first, second), strict=True):
            mask, table = folder / f"mask{number}.tif", folder / f"landslides{number}.parquet"
            store.download_file(one.assets["mask"], mask)
            store.download_file(one.assets["landslides_parquet"], table)
            masks.append(mask)
            tables.append(geopandas.read_parquet(table))
        counts, grid = write_differences(masks[0], masks[1], out / "compare.tif")
    found = Comparison(
        event_id=event_id, title=facts[1].event.title, simulated=facts[1].event.simulated,
        sides=(_side(first, facts[0]), _side(second, facts[1])),
        km2={LABELS[code]: counts.get(code, 0) * grid.pixel_m**2 / 1e6 for code in Difference},
        landslides=matched(tables[0], tables[1]),
    )  # fmt: skip
    (out / "compare.json").write_text(json.dumps(asdict(found), indent=1, ensure_ascii=False))
    return found


def differences(first: Array, second: Array) -> npt.NDArray[np.uint8]:
    """`Difference` codes (y, x) of two masks (1 landslide, 0 none, 255 not seen); `UNSEEN` where neither saw."""
    one, two = first == 1, second == 1
    seen_one, seen_two = first != UNSEEN, second != UNSEEN
    codes = np.full(first.shape, UNSEEN, np.uint8)
    both, only_two, only_one = seen_one & seen_two, ~seen_one & seen_two, seen_one & ~seen_two
    codes[both] = Difference.NEITHER
    codes[both & one & two] = Difference.BOTH
    codes[both & ~one & two] = Difference.ADDED
    codes[both & one & ~two] = Difference.REMOVED
    codes[only_two] = np.where(two[only_two], Difference.NEWLY_SEEN_LANDSLIDE, Difference.NEWLY_SEEN)
    codes[only_one] = np.where(one[only_one], Difference.NO_LONGER_SEEN_LANDSLIDE, Difference.NO_LONGER_SEEN)
    return codes


def write_differences(first: Path, second: Path, path: Path) -> tuple[dict[int, int], Grid]:
    """Write the `differences` of two mask files on the grid that holds both; pixels by code, and that grid.

    The grid is that of the second, extended; a first mask in another system is resampled to it (nearest).
    """
    with ExitStack() as stack:
        sources = [stack.enter_context(rasterio.open(name)) for name in (first, second)]
        grid = _common_grid(sources[0], sources[1])
        views = [
            stack.enter_context(
                WarpedVRT(
                    source, crs=grid.crs, transform=grid.affine, width=grid.shape_yx[1], height=grid.shape_yx[0],
                    resampling=Resampling.nearest, nodata=UNSEEN, src_nodata=UNSEEN,
                )
            )
            for source in sources
        ]  # fmt: skip
        counts: dict[int, int] = {}
        with CogWriter(path, _profile(grid)) as cog:
            for rows, columns in _blocks(grid.shape_yx):
                window = Window.from_slices(rows, columns)
                codes = differences(*(view.read(1, window=window) for view in views))
                cog.write((rows, columns), codes)
                for code, count in zip(*np.unique(codes, return_counts=True), strict=True):
                    counts[int(code)] = counts.get(int(code), 0) + int(count)
    return counts, grid


def matched(first: geopandas.GeoDataFrame, second: geopandas.GeoDataFrame) -> dict[str, int]:
    """How many landslide polygons meet one of the other version, and how many do not."""
    before = first.to_crs(second.crs) if len(first) and second.crs is not None else first
    found, known = (
        second.sindex.query(before.geometry, predicate="intersects") if len(before) and len(second) else ([], [])
    )
    return {
        "in both": len(set(known)),
        "only in the second": len(second) - len(set(known)),
        "only in the first": len(before) - len(set(found)),
    }


def _version(store: Store, event: EventLayout, number: int) -> Publication:
    there = read_versions(store, event)
    for one in there:
        if one.version == number:
            return one
    have = f"it has {len(there)}" if there else "it has none"
    raise PublicationError(f"event {event.event_id} has no version {number}: {have}")


def _facts(store: Store, publication: Publication) -> ReportFacts:
    facts = facts_of(store, publication)
    if facts is None:
        raise PublicationError(f"version {publication.version} is of before facts were kept: it cannot be compared")
    return facts


def _side(publication: Publication, facts: ReportFacts) -> Side:
    post = facts.phase("post")
    return Side(
        publication.version, publication.published.isoformat(), facts.coverage.observed_km2,
        facts.coverage.observed_percent, facts.inventory.count, facts.inventory.total_area_m2,
        post.scenes if post else (),
    )  # fmt: skip


def _common_grid(first: Any, second: Any) -> Grid:
    """The grid of the second file, extended by whole pixels to hold the first."""
    pixel = float(second.transform.a)
    left, bottom, right, top = transform_bounds(first.crs, second.crs, *first.bounds)
    west = second.bounds.left - pixel * max(0, math.ceil((second.bounds.left - left) / pixel - 1e-6))
    north = second.bounds.top + pixel * max(0, math.ceil((top - second.bounds.top) / pixel - 1e-6))
    east, south = max(right, second.bounds.right), min(bottom, second.bounds.bottom)
    width, height = math.ceil((east - west) / pixel - 1e-6), math.ceil((north - south) / pixel - 1e-6)
    return Grid(f"EPSG:{second.crs.to_epsg()}", (pixel, 0.0, west, 0.0, -pixel, north), (height, width))


def _blocks(shape_yx: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    height, width = shape_yx
    for y in range(0, height, BLOCK_PX):
        for x in range(0, width, BLOCK_PX):
            yield slice(y, min(y + BLOCK_PX, height)), slice(x, min(x + BLOCK_PX, width))


def _profile(grid: Grid) -> Any:
    categories = {}
    for code in Difference:
        red, green, blue = (round(255 * part) for part in to_rgb(COLOURS[code]))
        categories[int(code)] = Category(LABELS[code], (red, green, blue, 255))
    return class_profile(grid.crs, grid.transform, grid.shape_yx, ("difference",), categories)
