"""What the last versions have mapped already: only tiles of the network whose ground has changed are mapped again.

A map is told by the tags of its raster: of which cube it was made, with which model, how it was computed and how the
images were aligned. Where all that is the same, and every byte of the cube in and around a tile of the network is, the
network would give the same numbers: they are copied. The cubes' records (BLAKE3 of each tile) decide what is the same,
not the scenes' names.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.errors import RasterioError
from rasterio.windows import Window

from flows.alignment import Alignment
from flows.errors import FlowError, PublicationError, ServiceError
from flows.layout import PRODUCTS, EventLayout
from flows.product_set import sha256_of
from flows.publish import Publication, read_versions
from flows.scene import Slices
from flows.stac import multihash
from flows.storage import Store
from gee.cube import load_plan, open_place
from gee.errors import GeeError
from gee.plan import CubePlan
from gee.records import Manifest
from gee.types import Grid
from modeling.adaptation.ensemble import Ensemble
from modeling.model import LandslideModel
from modeling.prediction.inference import LARGEST_BATCH, Execution
from modeling.prediction.kept import KeptMap
from modeling.prediction.predict import Tile, lattice_tiles

METHOD = "1"
"""Raise it when the same cube, model and settings make other probabilities than before."""
LOOKED_AT = 3
"""So many of the last versions are looked at."""
MARGIN_PX = 32
"""Ground beyond a tile's window that decides its pixels as well: an image before that is moved is read so far around."""

_SAME = ("method", "plan_hash", "cube_hash", "model_digest", "alignment", "code_version", "computed_in", "tiling")


@dataclass(frozen=True)
class Ground:
    """What a map was made of: the grid of a cube, and the bytes of its tiles."""

    grid: Grid
    """The grid."""
    tile_px: int
    """Side of a tile of the cube."""
    tiles: Mapping[tuple[int, int], str]
    """Row and column of each pulled tile -> its BLAKE3."""

    @classmethod
    def of(cls, plan: CubePlan, manifest: Manifest) -> Ground:
        """That of a sealed cube."""
        hashes = {record.name: record.blake3 for record in manifest.records}
        return cls(plan.grid, plan.tile_px, {(tile.row, tile.col): hashes[tile.name] for tile in plan.tiles})

    def origin_px(self) -> tuple[int, int]:
        """The first pixel, (down, right) from the origin of the coordinate system."""
        _, _, c, _, _, f = self.grid.transform
        return round(-f / self.grid.pixel_m), round(c / self.grid.pixel_m)

    def under(self, rows: slice, columns: slice) -> tuple[object, ...]:
        """What lies in a window (pixels of the grid) and `MARGIN_PX` around it, comparable with that of another grid."""
        down, right = self.origin_px()
        side, (height, width) = self.tile_px, self.grid.shape_yx
        top, bottom = max(0, rows.start - MARGIN_PX), min(height, rows.stop + MARGIN_PX)
        left, right_end = max(0, columns.start - MARGIN_PX), min(width, columns.stop + MARGIN_PX)
        hashes = tuple(
            self.tiles.get((row, column))
            for row in range(top // side, -(-bottom // side))
            for column in range(left // side, -(-right_end // side))
        )
        return (down + top, down + bottom, right + left, right + right_end, hashes)


@dataclass(frozen=True)
class Earlier:
    """The probability raster of an earlier version, and what it was made of."""

    version: int
    """Number of the version."""
    path: Path
    """The raster, its checksum verified."""
    tags: Mapping[str, str]
    """Its tags."""
    ground: Ground
    """What it was made of."""


@dataclass
class Again:
    """A map that may take from earlier ones. `told` says afterwards what it took."""

    ground: Ground
    """What this map is made of."""
    facts: Mapping[str, str]
    """What decides it beside the ground, the model and how it is computed."""
    earlier: Sequence[Earlier]
    """Maps that are candidates, the newest first."""
    told: str = field(default="", init=False)
    """What was taken, in words; empty for nothing."""
    mapped_share: float = field(default=1.0, init=False)
    """Share of the network's tiles that were not taken."""

    def execution(self, execution: Execution, wanted_px: int | None) -> Execution:
        """How it is computed: with tiles of the cube's, or of the size that was asked for.

        Larger ones would overlap less, but more would have to be mapped again when a little has changed.
        """
        side = min(execution.tile_px, wanted_px or self.ground.tile_px)
        if side == execution.tile_px or side < execution.halo_px:
            return execution
        smaller = (execution.tile_px + 2 * execution.halo_px) ** 2 // (side + 2 * execution.halo_px) ** 2
        batch = min(LARGEST_BATCH, execution.batch * smaller) if execution.device != "cpu" else execution.batch
        return replace(execution, tile_px=side, batch=max(1, batch))

    def kept(self, model: LandslideModel, execution: Execution) -> tuple[list[Tile] | None, KeptMap | None]:
        """The tiles of the network, and what an earlier version has of them; None when no version has any."""
        if execution.tile_px < max(1, execution.halo_px):
            return None, None
        tiles = lattice_tiles(self.ground.grid.shape_yx, execution.tile_px, execution.halo_px)
        best: tuple[int, Earlier, frozenset[int]] | None = None
        wanted = self._identity(model, execution)
        for one in self.earlier:
            if not wanted or {name: one.tags.get(name, "") for name in wanted} != wanted:
                continue
            changed = changed_tiles(tiles, self.ground, one.ground, execution)
            if len(changed) < len(tiles) and (best is None or len(changed) < best[0]):
                best = len(changed), one, changed
        if best is None:
            return tiles, None
        _, one, changed = best
        kept = KeptMap(tiles, changed, partial(_read, one, self.ground))
        if len(kept.computed) == len(tiles):
            return tiles, None
        self.mapped_share = len(kept.computed) / len(tiles)
        self.told = (
            f"{len(tiles) - len(kept.computed)} of {len(tiles)} tiles of the map are those of version {one.version}, "
            "whose ground has not changed"
        )
        return tiles, kept

    def tags(self, model: LandslideModel, kept: KeptMap | None) -> dict[str, str]:
        """What the raster says of itself, so that a later version can take from it."""
        digest = model_digest(model)
        said = {**self.facts, "method": METHOD, "tiling": "lattice", **({"model_digest": digest} if digest else {})}
        return {**said, "taken_over": self.told} if kept is not None else said

    def _identity(self, model: LandslideModel, execution: Execution) -> dict[str, str]:
        digest = model_digest(model)
        if not digest:
            return {}
        own = {
            **self.facts,
            "method": METHOD,
            "tiling": "lattice",
            "computed_in": str(execution),
            "model_digest": digest,
        }
        return {name: own[name] for name in _SAME if name not in ("plan_hash", "cube_hash")}


def again_for(
    store: Store, event: EventLayout, plan: CubePlan, alignment: Alignment, endpoint: str, folder: Path
) -> Again | None:
    """What the last versions of an event offer to a map of the cube of `plan`; their rasters are fetched into `folder`,
    which has to stay.

    Anything that cannot be read, or is not what its version says, is passed over. None when the cube is not there.
    Raises `ServiceError` when the bucket cannot be reached.
    """
    manifest = _manifest(plan, endpoint)
    if manifest is None:
        return None
    facts = {
        "plan_hash": plan.plan_hash,
        "cube_hash": manifest.cube_hash,
        "alignment": alignment_digest(alignment),
        "code_version": plan.code_version,
    }
    ground = Ground.of(plan, manifest)
    found = []
    for publication in reversed(read_versions(store, event)[-LOOKED_AT:]):
        earlier = _earlier(store, event, plan, publication, facts, endpoint, folder)
        if earlier is not None:
            found.append(earlier)
    return Again(ground, facts, found)


def changed_tiles(tiles: Sequence[Tile], now: Ground, then: Ground, execution: Execution) -> frozenset[int]:
    """Positions of the network's tiles that an earlier map has not, or has of other ground."""
    if (now.grid.crs, now.grid.pixel_m, now.tile_px) != (then.grid.crs, then.grid.pixel_m, then.tile_px):
        return frozenset(range(len(tiles)))
    before = {
        _placed(tile, then): then.under(tile[0].window, tile[1].window)
        for tile in lattice_tiles(then.grid.shape_yx, execution.tile_px, execution.halo_px)
    }
    return frozenset(
        number
        for number, tile in enumerate(tiles)
        if before.get(_placed(tile, now)) != now.under(tile[0].window, tile[1].window)
    )


def alignment_digest(alignment: Alignment) -> str:
    """What an alignment does to a scene, the same for two that do the same whatever was measured."""
    matched = json.loads(alignment.to_json())["radiometry"]
    text = json.dumps([alignment.corrected, *alignment.move_px, matched], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def model_digest(model: LandslideModel) -> str:
    """Everything of a model that decides its probabilities; empty for an ensemble, of which nothing is taken over."""
    if isinstance(model, Ensemble):
        return ""
    parts = (
        model.network_name, model.weights_hash, tuple(model.channels), repr(model.normalisation), model.temperature,
        model.sure_margin, model.input_scale, model.classes, model.storage,
    )  # fmt: skip
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _placed(tile: Tile, ground: Ground) -> tuple[int, ...]:
    """Where a tile lies, counted from the origin of the coordinate system: core, window and blend."""
    return tuple(
        edge + origin
        for span, origin in zip(tile, ground.origin_px(), strict=True)
        for part in (span.core, span.window, span.blend)
        for edge in (part.start, part.stop)
    )


def _read(earlier: Earlier, ground: Ground, where: Slices) -> npt.NDArray[np.float32]:
    """A window of the earlier raster, in pixels of the new grid."""
    shift = [now - then for now, then in zip(ground.origin_px(), earlier.ground.origin_px(), strict=True)]
    window = Window.from_slices(*(slice(one.start + s, one.stop + s) for one, s in zip(where, shift, strict=True)))
    with rasterio.open(earlier.path, driver="GTiff") as file:
        values: npt.NDArray[np.float32] = file.read(1, window=window)
    return values


def _earlier(
    store: Store,
    event: EventLayout,
    plan: CubePlan,
    publication: Publication,
    facts: Mapping[str, str],
    endpoint: str,
    folder: Path,
) -> Earlier | None:
    path = folder / f"{publication.version}.tif"
    try:
        item = store.read_bytes(publication.item_uri)
        if hashlib.sha256(item).hexdigest() != publication.item_sha256:
            raise PublicationError(f"{publication.item_uri} is damaged")
        described = json.loads(item)["assets"]["probability"]
        store.download_file(publication.assets["probability"], path)
        if multihash(sha256_of(path)) != described["file:checksum"]:
            raise PublicationError(f"{PRODUCTS['probability'].filename} of version {publication.version} is damaged")
        with rasterio.open(path, driver="GTiff") as file:
            tags, shape, crs = file.tags(), file.shape, file.crs
        if any(tags.get(name) != facts[name] for name in ("alignment", "code_version")):
            return None
        cube = load_plan(event.cube(tags["plan_hash"]), endpoint)
        manifest = _manifest(cube, endpoint)
        if manifest is None or (manifest.plan_hash, manifest.cube_hash) != (tags["plan_hash"], tags["cube_hash"]):
            return None
        if shape != cube.grid.shape_yx or crs != rasterio.crs.CRS.from_user_input(cube.grid.crs):
            return None
        if cube.layers != plan.layers:
            return None
        return Earlier(publication.version, path, tags, Ground.of(cube, manifest))
    except ServiceError:
        raise
    except (FlowError, GeeError, RasterioError, KeyError, ValueError, TypeError):
        return None


def _manifest(plan: CubePlan, endpoint: str) -> Manifest | None:
    store, place = open_place(plan.uri, endpoint)
    try:
        manifest = Manifest.from_json(store.read(place.manifest))
    except (FileNotFoundError, GeeError):
        return None
    recorded = [record.name for record in manifest.records]
    whole = manifest.plan_hash == plan.plan_hash and recorded == [tile.name for tile in plan.tiles]
    return manifest if whole else None
