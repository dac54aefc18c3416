"""The steps of an adaptation: judge and adapt, map again, hold the change to its rule, make the products.

Each writes files into the working folder and nothing else, so that a flow can keep what is finished and go on with it.
"""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import numpy.typing as npt
import rasterio
import shapely
from rasterio.warp import transform as transform_points
from rasterio.windows import Window

from flows.adapt_facts import LARGEST_CHANGES, AdaptationFacts, ChangeRow, FarChange, MapChange
from flows.adapt_ground import (
    MapBefore,
    apart,
    check_on_map,
    class_of,
    drawn_ground,
    layer_window,
    near,
    undrawn_ground,
)
from flows.adapt_parent import Parent
from flows.adapt_pictures import adaptation_pictures
from flows.facts import ReportFacts, coverage, inventory_facts, landslides_of
from flows.geology import map_rules, rules_facts, scene_before
from flows.labels_file import Labels
from flows.layout import FACTS, PRODUCTS, short_hash
from flows.mapping import surveyed, windows, write_layers, write_mask, write_probability
from flows.planning import code_version
from flows.progress import report
from flows.scene import Scene, Slices
from flows.scene_means import SETTING, on_means_instead
from flows.settings import Settings
from flows.stated_settings import stated_settings
from flows.sure_claims import with_sure_claims
from flows.telling import write_pages
from gee.types import Grid
from modeling.adaptation.anchored import FewShot
from modeling.adaptation.changes import (
    CHANGE_LABELS,
    MARGIN_PX,
    Change,
    ChangeRule,
    Likeness,
    Patch,
    classify,
    features_of,
    flips,
    likeness_of,
    merged,
    within_budget,
)  # fmt: skip
from modeling.adaptation.drawn import Split, split_by_space
from modeling.adaptation.few_shot import adapt_few_shot
from modeling.adaptation.judging import AS_IT_WAS, Judgement
from modeling.model import LandslideModel, load_model, save_model
from modeling.prediction.allocator import keep_memory
from modeling.rasters.cog import Category, CogWriter, class_profile, probability_profile

Array = npt.NDArray[Any]

APART_M = (500.0, 250.0, 120.0, 60.0)
"""Polygons whose edges are nearer to each other than this are held out together: the largest that leaves enough groups."""
TILE_PX = 2048
"""Patches of changed pixels are told apart within tiles of this side."""
JUDGED = "judged.json"
"""File name of what came of adapting, before the map is made."""
MAPPED = "adapted.tif"
"""File name of the adapted network's map, before the rule for changes."""
_COLOURS = {
    Change.NONE: (255, 255, 255, 0), Change.ADDED: (215, 48, 39, 255), Change.REMOVED: (69, 117, 180, 255),
    Change.ADDED_ALIKE: (253, 174, 97, 255), Change.REMOVED_ALIKE: (145, 191, 219, 255),
    Change.KEPT_BACKGROUND: (118, 42, 131, 255), Change.KEPT_LANDSLIDE: (27, 120, 55, 255),
}  # fmt: skip


@dataclass(frozen=True)
class HowToAdapt:
    """What a user may choose."""

    few_shot: FewShot = field(default_factory=FewShot)
    """How the network is adapted."""
    rule: ChangeRule = field(default_factory=ChangeRule)
    """What may change where nobody has looked."""
    seed: int = 0
    """Of windows and draws."""

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return asdict(self)


def split_labels(labels: Labels, folds: int) -> Split:
    """The polygons split by space; raises `DataError` when they cannot be."""
    return split_by_space(apart(labels), class_of(labels), APART_M, folds)


def adapt(parent: Parent, labels: Labels, how: HowToAdapt, settings: Settings, folder: Path) -> AdaptationFacts:
    """Judge and adapt: write the adapted network, the polygons, and what came of it (`JUDGED`) into `folder`.

    `labels` are in the coordinates of the map. Where it got worse, or nothing changed, no network is written. Raises
    `LabelsError` and `DataError` for polygons and for a file of rules that cannot be used, before any work.
    """
    model = parent.model
    check_on_map(labels, parent.observed)
    map_rules(settings.model, model.bands).for_map(parent.scene.grid).subtracts(model, parent.scene)  # or refused now
    split = split_labels(labels, how.few_shot.folds)
    keep_memory()
    report("look at polygons", 0, 1)
    before = _before(parent)
    drawn = drawn_ground(parent.scene, model.bands, labels, before)
    undrawn, whole = undrawn_ground(parent.scene, model.bands, labels, before, model.threshold, how.seed)
    report("look at polygons", 1, 1)
    result = adapt_few_shot(
        model, drawn, undrawn, class_of(labels), split, how.few_shot, whole=whole, seed=how.seed,
        device=settings.model.device, told=lambda done, total, note: report("adapt", done, total, note),
    )  # fmt: skip
    digest = ""
    if result.judgement.chosen != AS_IT_WAS:
        digest = load_model(save_model(replace(result.model, name=_stem()), folder)).weights_hash
    totals = result.before.sum(axis=1)
    judged = totals > 0
    right = [
        (table[judged][:, [0, 3]].sum(axis=1) * 2 > totals[judged]).sum() for table in (result.before, result.after)
    ]
    source, inventory = parent.facts.provenance, parent.facts.inventory
    facts = AdaptationFacts(
        parent_version=parent.version, parent_run_key=source.run_key, parent_model=source.model,
        parent_weights=source.weights_hash, labels_name=labels.name, labels_sha256=labels.sha256,
        landslide_polygons=labels.count(True), other_polygons=labels.count(False), folds=split.folds,
        groups_apart_m=split.reach, judgement=result.judgement, judged_polygons=int(judged.sum()),
        right_before=int(right[0]), right_after=int(right[1]), model_sha256=digest, seconds=round(result.seconds, 1),
        settings={name: str(value) for name, value in asdict(result.settings).items()} | {"seed": str(how.seed)},
        notes=result.notes, count_before=inventory.count, area_before_m2=inventory.total_area_m2,
    )  # fmt: skip
    _write_labels(labels, split, result.before, result.after, folder / PRODUCTS["labels"].filename)
    (folder / JUDGED).write_text(facts.to_json())
    return facts


def adapted_model(parent: Parent, folder: Path) -> LandslideModel:
    """The network that `adapt` has written."""
    name = parent.model.name if parent.model.name.endswith("-drawn") else f"{parent.model.name}-drawn"
    return replace(load_model(folder / PRODUCTS["adapted_model"].filename), name=name)


def map_again(parent: Parent, settings: Settings, folder: Path) -> None:
    """Map the scene with the adapted network into `MAPPED`."""
    write_probability(parent.scene, adapted_model(parent, folder), folder / MAPPED, settings.model)


def hold(parent: Parent, labels: Labels, how: HowToAdapt, folder: Path) -> AdaptationFacts:
    """Hold the change to its rule: write probability.tif, changes.tif and adaptation.json."""
    grid, model = parent.scene.grid, parent.model
    split = split_labels(labels, how.few_shot.folds)
    drawn = drawn_ground(parent.scene, model.bands, labels, _before(parent))
    likeness = likeness_of(drawn, class_of(labels), split.group, model.normalisation, how.rule, how.seed)
    codes = np.memmap(folder / "codes.bin", np.uint8, "w+", shape=grid.shape_yx)
    patches: list[Patch] = []
    far_landslide = far_observed = 0
    tiles = list(_tiles(grid))
    for done, window in enumerate(tiles, start=1):
        first, adapted = _read(parent.probability, window), _read(folder / MAPPED, window)
        seen = np.isfinite(first) & np.isfinite(adapted)
        looked = near(labels, how.rule.reach_m, grid, window)
        flip = flips(first, adapted, model.threshold)
        alike = _alike(parent.scene, model, window, (flip != 0) & ~looked, flip, likeness)
        codes[window], found = classify(flip, seen, looked, alike)
        patches += [replace(p, row=p.row + window[0].start, column=p.column + window[1].start) for p in found]
        far_observed += int((seen & ~looked).sum())
        far_landslide += int((seen & ~looked & (first >= model.threshold)).sum())
        report("what changes", done, len(tiles))
    alike_px = sum(patch.pixels for patch in patches if patch.alike)
    allowed = how.rule.allows(alike_px, far_landslide, far_observed)
    counts, claimed, gained = _write_held(parent, folder, codes, allowed)
    pixel_m2 = grid.pixel_m**2
    judged = AdaptationFacts.from_json((folder / JUDGED).read_text())
    facts = replace(
        judged,
        whole=_whole(judged.judgement, claimed, gained, pixel_m2),
        rule=_rule_text(how.rule), within_budget=allowed, far_count=len(patches),
        changes=tuple(
            ChangeRow(code, CHANGE_LABELS[Change(code)], count * pixel_m2)
            for code, count in sorted(counts.items())
            if code not in (Change.NONE, Change.UNOBSERVED)
        ),
        far=_largest(patches, grid, allowed),
    )  # fmt: skip
    (folder / PRODUCTS["adaptation"].filename).write_text(facts.to_json())
    return facts


def make_products(parent: Parent, labels: Labels, run_key: str, settings: Settings, folder: Path) -> ReportFacts:
    """Write the other products of the version into `folder`; returns what it says."""
    model, scene, event = adapted_model(parent, folder), parent.scene, parent.facts.event
    adaptation = AdaptationFacts.from_json((folder / PRODUCTS["adaptation"].filename).read_text())
    rules = map_rules(settings.model, model.bands).for_map(scene.grid)
    before = scene_before(scene, model) if rules.subtracts(model, scene) else None
    # The network holds the means of light of the image after; the one before has its own.
    share = float(parent.facts.provenance.settings.get(SETTING, 0.0))
    sides, found = surveyed(
        scene, before, model, rules, folder, settings.model, event_id=event.id, run_key=run_key,
        before_model=None if before is None else on_means_instead(model, scene, before, share),
    )  # fmt: skip
    write_mask(found.kept, sides, scene.grid, folder / "mask.tif")
    write_layers(found, rules, folder)
    # What the map was made with now; the means of light that the network holds stay the parent's.
    stated = stated_settings(settings, ("model",), model=model.name, rules=rules.name)
    stated = {**parent.facts.provenance.settings, **{name: value for name, value in stated.items() if name != SETTING}}
    facts = replace(
        parent.facts,
        coverage=coverage(sides.counts, scene.grid.pixel_m),
        inventory=inventory_facts(landslides_of(found.kept)),
        provenance=replace(
            parent.facts.provenance, run_key=run_key, code_version=code_version(), model=model.name,
            weights_hash=model.weights_hash, threshold=model.threshold,
            settings_hash=short_hash(stated), settings=stated,
        ),
        created=dt.datetime.now(dt.UTC).replace(microsecond=0),
        scores=(),
        rules=rules_facts(rules, found, before),
        adaptation=adaptation,
        totals=None,  # they were fitted to the network before
        network=None,
    )  # fmt: skip
    facts = with_sure_claims(facts, model, settings.model)
    was = geopandas.read_parquet(parent.folder / PRODUCTS["landslides_parquet"].filename)
    pictures = adaptation_pictures(scene, labels, was, found.kept, folder, simulated=event.simulated)
    write_pages(facts, scene, found.kept, folder, extra=pictures)
    (folder / FACTS).write_text(facts.to_json())
    return facts


def _before(parent: Parent) -> MapBefore:
    return MapBefore(parent.probability, parent.folder / PRODUCTS["changes"].filename)


def _stem() -> str:
    return Path(PRODUCTS["adapted_model"].filename).stem


def _alike(
    scene: Scene, model: LandslideModel, window: Slices, wanted: Array, flip: Array, likeness: Likeness
) -> Array:
    """(y, x) whether changed pixels where nobody looked are like what was drawn of the class that they change to."""
    alike = np.zeros(wanted.shape, bool)
    for part in _parts(wanted.shape):
        rows, columns = np.nonzero(wanted[part])
        if not len(rows):
            continue
        place = tuple(slice(w.start + p.start, w.start + p.stop) for w, p in zip(window, part, strict=True))
        features = features_of(layer_window(scene, model.bands, (place[0], place[1]), MARGIN_PX), model.normalisation)
        values = features[:, rows + MARGIN_PX, columns + MARGIN_PX].T
        alike[part][rows, columns] = likeness.like(values, flip[part][rows, columns] > 0)
    return alike


def _write_held(
    parent: Parent, folder: Path, codes: Array, allowed: bool
) -> tuple[Mapping[int, int], tuple[int, int], int]:
    """Write probability.tif and changes.tif; returns the pixels of each code, those claimed before and after, and after only."""
    grid, counts = parent.scene.grid, Counter[int]()
    claimed, gained = [0, 0], 0
    with rasterio.open(folder / MAPPED, driver="GTiff") as file:
        tags = file.tags()
    categories = {int(code): Category(CHANGE_LABELS[code], colour) for code, colour in _COLOURS.items()}
    changes = class_profile(grid.crs, grid.affine, grid.shape_yx, ("change",), categories)
    own = {name: tags[name] for name in ("model", "threshold", "computed_in") if name in tags}
    own["weights_sha256"] = tags.get("weights_sha256", "")
    held = probability_profile(grid.crs, grid.affine, grid.shape_yx, own)
    with (
        CogWriter(folder / PRODUCTS["probability"].filename, held) as probability,
        CogWriter(folder / PRODUCTS["changes"].filename, changes) as changed,
    ):
        for window in windows(grid):
            final = within_budget(np.asarray(codes[window]), allowed)
            first, adapted = _read(parent.probability, window), _read(folder / MAPPED, window)
            made = merged(first, adapted, final)
            probability.write(window, made)
            changed.write(window, final)
            values, times = np.unique(final, return_counts=True)
            counts.update(dict(zip(values.tolist(), times.tolist(), strict=True)))
            then, now = first >= parent.model.threshold, made >= parent.model.threshold
            claimed = [claimed[0] + int(then.sum()), claimed[1] + int(now.sum())]
            gained += int((now & ~then).sum())
    return counts, (claimed[0], claimed[1]), gained


def _whole(judgement: Judgement, claimed: tuple[int, int], gained: int, pixel_m2: float) -> MapChange:
    """What became of the map as a whole, by the landslides that are found of those drawn and held out."""
    f1 = judgement.map_f1(gained, claimed[0] + gained - claimed[1])
    return MapChange(claimed[0] * pixel_m2, claimed[1] * pixel_m2, *f1)


def _rule_text(rule: ChangeRule) -> str:
    return (
        f"Ground within {rule.reach_m:,.0f} m of a drawn polygon counts as looked at. Elsewhere a change is taken only where "
        "most of a patch is like drawn polygons of the class that it changes to, and only while all such changes together "
        f"amount to no more than {rule.budget:.0%} of the landslide area that was mapped there before, or "
        f"{rule.least_budget:.1%} of the ground there. Everything else is kept as it was in the version before, and marked."
    )


def _largest(patches: list[Patch], grid: Grid, allowed: bool) -> tuple[FarChange, ...]:
    first = sorted(patches, key=lambda patch: (-patch.pixels, patch.row, patch.column))[:LARGEST_CHANGES]
    places = [grid.affine @ (patch.column, patch.row) for patch in first]
    lon, lat = transform_points(grid.crs, "EPSG:4326", [x for x, _ in places], [y for _, y in places])
    codes = [_code(patch, allowed) for patch in first]
    return tuple(
        FarChange(CHANGE_LABELS[code], patch.pixels * grid.pixel_m**2, x, y)
        for code, patch, x, y in zip(codes, first, lon, lat, strict=True)
    )


def _code(patch: Patch, allowed: bool) -> Change:
    if patch.alike and allowed:
        return Change.ADDED_ALIKE if patch.added else Change.REMOVED_ALIKE
    return Change.KEPT_BACKGROUND if patch.added else Change.KEPT_LANDSLIDE


def _write_labels(labels: Labels, split: Split, before: Array, after: Array, path: Path) -> None:
    """The polygons in WGS84 with what held-out models made of each."""
    features = []
    for index, polygon in enumerate(labels.to_crs("EPSG:4326").polygons):
        total = before[index].sum()
        share = [round(float(table[index][[0, 3]].sum() / total), 4) if total else None for table in (before, after)]
        told = {
            "number": polygon.number, "class": "landslide" if polygon.landslide else "not-landslide",
            "held_out_with": int(split.group[index]), "fold": int(split.fold[index]),
            "pixels": int(total), "right_before": share[0], "right_held_out": share[1],
        }  # fmt: skip
        features.append({"type": "Feature", "properties": told, "geometry": shapely.geometry.mapping(polygon.geometry)})
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))


def _tiles(grid: Grid) -> list[Slices]:
    height, width = grid.shape_yx
    return [
        (slice(top, min(top + TILE_PX, height)), slice(left, min(left + TILE_PX, width)))
        for top in range(0, height, TILE_PX)
        for left in range(0, width, TILE_PX)
    ]


def _parts(shape: tuple[int, ...], side: int = 512) -> list[Slices]:
    return [
        (slice(top, min(top + side, shape[0])), slice(left, min(left + side, shape[1])))
        for top in range(0, shape[0], side)
        for left in range(0, shape[1], side)
    ]


def _read(path: Path, window: Slices) -> Array:
    with rasterio.open(path, driver="GTiff") as file:
        values: Array = file.read(1, window=Window.from_slices(*window))
    return values
