"""Mapping a pair of rasters that the user already has: the same network and the same products, no service needed."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from rasterio.warp import transform_geom
from shapely.geometry import mapping, shape
from shapely.geometry.base import BaseGeometry

from flows.alignment import AlignedScene, measure_alignment
from flows.copies import publish_to_folder
from flows.facts import EventFacts, Imagery, Provenance, ReportFacts, coverage, inventory_facts, landslides_of
from flows.geology import MapRules, map_rules, rules_facts, scene_before
from flows.layout import FACTS, short_hash
from flows.mapping import surveyed, write_layers, write_mask, write_probability
from flows.out_folder import require_free_folder
from flows.planning import code_version
from flows.product_set import sha256_of
from flows.run import say, show_result, shown_progress
from flows.scene import CodeArray, DayArray, FloatArray
from flows.scene_means import on_scene_means
from flows.scratch import scratch_folder
from flows.selection import AUTO, expected, may_map, model_of, select_model, zoo_of
from flows.settings import Settings
from flows.stated_settings import stated_settings
from flows.sure_claims import with_sure_claims
from flows.telling import trained_on_simulated, write_pages
from flows.totals import with_totals_range
from gee.types import PHASES, Grid, Observed
from modeling.model import LandslideModel
from modeling.rasters.raster_pair import RasterPair, Scaling, open_pair


@dataclass(frozen=True)
class PairBlock:
    """A window of a pair."""

    layers: Mapping[str, FloatArray]
    """Layer name -> (y, x) in physical units, NaN where nothing is known."""
    observed: CodeArray
    """(phase, y, x): codes of `gee.types.Observed`."""
    date: DayArray
    """(phase, y, x): -1, rasters do not say when they were taken."""


@dataclass(frozen=True)
class PairScene:
    """A pair of rasters, read like a cube."""

    pair: RasterPair
    """The open rasters."""

    @property
    def grid(self) -> Grid:
        """The grid of the map."""
        own = self.pair.grid
        return Grid(own.crs, own.transform, own.shape_yx)

    @property
    def layer_names(self) -> tuple[str, ...]:
        """The layers there are."""
        return self.pair.layer_names

    def read_tile(self, y: slice, x: slice, layers: Sequence[str] | None = None) -> PairBlock:
        """A window of the grid; layers that the rasters do not have are left out when none are named."""
        found, _ = self.pair.read((y, x), tuple(self.layer_names if layers is None else layers))
        seen = np.full((len(PHASES), y.stop - y.start, x.stop - x.start), Observed.NO_PASS, np.uint8)
        for index, phase in enumerate(PHASES):
            optical = [name for name in found if name.endswith(f"_{phase}")]
            known = np.logical_and.reduce([np.isfinite(found[name]) for name in optical]) if optical else True
            seen[index][np.broadcast_to(known, seen[index].shape)] = Observed.CLEAR
        return PairBlock(found, seen, np.full(seen.shape, -1, np.int32))


def map_raster_pair(
    pre: Sequence[Path], post: Sequence[Path], dem: Path, out: Path, *, bands: Sequence[str] | None,
    scale: float | None, weights: str, name: str, settings: Settings,
) -> Path:  # fmt: skip
    """Map landslides between two rasters into the new folder `out`; returns it.

    `pre` and `post` are the files of the image before and after: one of several bands, or several that hold them.
    Raises `RasterError` for unusable rasters, `PublicationError` when `out` holds something else, and leaves nothing
    behind then.
    """
    require_free_folder(out)
    with open_pair(pre, post, dem, bands=bands, scaling=Scaling(scale=scale)) as pair:
        plain = PairScene(pair)
        zoo = zoo_of(settings.model.model_copy(update={"weights": weights}))
        likely, _ = expected(zoo, plain.layer_names)
        # What is wrong with the rules is said before any work.
        map_rules(settings.model, likely.bands).require_possible(
            may_map(zoo, likely, plain.layer_names), plain.layer_names
        )
        inputs = hashes_of(pair, dem)
        with scratch_folder(settings.work, plain.grid.shape_yx) as folder, shown_progress():
            alignment = measure_alignment(plain, settings.alignment)
            scene = AlignedScene(plain, alignment)
            selection = select_model(scene, zoo, automatic=weights == AUTO, scene_means=settings.model.scene_means)
            model = model_of(selection, zoo).load()
            rules = map_rules(settings.model, model.bands).for_map(plain.grid)
            subtracted = rules.subtracts(model, scene)
            read = {
                "bands": None if bands is None else list(bands),
                "scale": scale,
                "alignment": settings.alignment.model_dump(mode="json"),
                **settings.model.model_dump(mode="json", exclude={"rules", "zoo"}),
                "rules": rules.to_json(),
            }
            run_key = short_hash(
                {"inputs": inputs, "read": read, "weights": model.weights_hash, "code": code_version(), "name": name}
            )
            say(
                f"{model.name} on {plain.grid.shape_yx[1]} x {plain.grid.shape_yx[0]} pixels of {plain.grid.pixel_m:g} m"
            )
            share = settings.model.scene_means
            write_probability(scene, on_scene_means(model, scene, share), folder / "probability.tif", settings.model)
            before = scene_before(scene, model) if subtracted else None
            sides, found = surveyed(
                scene, before, model, rules, folder, settings.model, event_id=name, run_key=run_key,
                before_model=None if before is None else on_scene_means(model, before, share),
            )  # fmt: skip
            inventory = found.kept
            write_mask(inventory, sides, scene.grid, folder / "mask.tif")
            write_layers(found, rules, folder)
            facts = ReportFacts(
                event=EventFacts(id=name, title=f"Landslides between {_named(pre)} and {_named(post)}"),
                coverage=coverage(sides.counts, scene.grid.pixel_m),
                inventory=inventory_facts(landslides_of(inventory)),
                imagery=tuple(
                    Imagery(phase, tuple(path.name for path in files), _given(files), cloud_masked=False)
                    for phase, files in zip(PHASES, (pre, post), strict=True)
                ),
                provenance=_provenance(model, rules, run_key, inputs, dem, settings),
                created=dt.datetime.now(dt.UTC).replace(microsecond=0),
                notes=(pair.note,) if pair.note else (),
                alignment=alignment,
                rules=rules_facts(rules, found, before),
                selection=selection,
            )
            facts = with_totals_range(with_sure_claims(facts, model, settings.model), model, settings.model)
            write_pages(facts, scene, inventory, folder)
            (folder / FACTS).write_text(facts.to_json())
            publish_to_folder(folder, out, facts, _footprint(scene.grid))
    show_result(facts, None, out)
    return out


def hashes_of(pair: RasterPair, dem: Path) -> dict[str, str]:
    """SHA-256 of what a map is made from: `pre`, `post` and `dem`, each of its file.

    Of several files it is that of theirs with the bands that each gives, in whatever order they are named.
    """
    return {**{phase: _hash_of(pair, phase) for phase in PHASES}, "dem": sha256_of(dem)}


def scene_hash(hashes: Mapping[str, str]) -> str:
    """What stands for a cube's hash where a map was made from rasters; takes what `hashes_of` gives."""
    return hashlib.sha256("".join(hashes.values()).encode()).hexdigest()


def _hash_of(pair: RasterPair, phase: str) -> str:
    files = pair.phases[phase]
    if len(files) == 1:
        return sha256_of(Path(files[0].path))
    each = sorted(f"{' '.join(file.bands)} {sha256_of(Path(file.path))}" for file in files)
    return hashlib.sha256("\n".join(each).encode()).hexdigest()


def _named(files: Sequence[Path]) -> str:
    """The file, or the first of several and how many more there are."""
    return files[0].name if len(files) == 1 else f"{files[0].name} (with {len(files) - 1} more)"


def _given(files: Sequence[Path]) -> str:
    return f"{'a raster' if len(files) == 1 else 'rasters'} given by hand, date not stated"


def _provenance(
    model: LandslideModel, rules: MapRules, run_key: str, inputs: Mapping[str, str], dem: Path, settings: Settings
) -> Provenance:
    stated = stated_settings(settings, ("alignment", "model"), model=model.name, rules=rules.name)
    return Provenance(
        run_key=run_key, code_version=code_version(), model=model.name, band_set=model.bands.name,
        weights_hash=model.weights_hash, threshold=model.threshold,
        cube_hash=scene_hash(inputs), dem=dem.name, mask_rule="",
        area_reason="the extent of the rasters", settings_hash=short_hash(stated),
        settings=stated,
        trained_on_simulated=trained_on_simulated(model),
    )  # fmt: skip


def _footprint(grid: Grid) -> BaseGeometry:
    outline = shapely.segmentize(shapely.box(*grid.bounds), max_segment_length=5_000)
    return shape(transform_geom(grid.crs, "EPSG:4326", mapping(outline)))
