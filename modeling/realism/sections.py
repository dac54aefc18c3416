"""The comparisons, one function a data set: each reads its data, makes its simulated counterpart, and measures."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from modeling.errors import ModelingError
from modeling.model import choose_model, load_model
from modeling.realism import pictures, polygons, seasons, slopes
from modeling.realism.classifier import Told, tell_apart
from modeling.realism.distance import Distance, Sample, blocks_of, measure
from modeling.realism.mapped import map_scene
from modeling.realism.patch_features import BLOCK_PX, Patches, features, together
from modeling.realism.scars import Scars, scars
from modeling.realism.scenes import HILLS_DEG, Scene, levelled, real_iburi, simulated_iburi
from modeling.scoring.tables import markdown_table

log = logging.getLogger(__name__)

FIRST_SEED = 8100
"""Seeds of all simulated counterparts start here; training, validation and tests use others."""
FOLDS = 5
"""Strips of the real scene, and the least number of simulated regions."""
VARIED = 16
"""Regions varied as for training, against whose range the real scene is held."""


@dataclass(frozen=True)
class Settings:
    """What a run is made with."""

    data: Path
    """Folder with the real data sets."""
    pictures: Path
    """Folder that receives the pictures."""
    seeds: int = FOLDS
    """Simulated regions a comparison."""
    size_px: int = 512
    """Their side."""

    @property
    def numbers(self) -> list[int]:
        """The seeds."""
        return list(range(FIRST_SEED, FIRST_SEED + self.seeds))


@dataclass(frozen=True)
class Section:
    """One part of the report."""

    title: str
    """Heading."""
    about: str
    """What was compared with what, and what the comparison cannot see."""
    distances: Sequence[Distance] = ()
    """All that was measured."""
    told: Sequence[Told] = ()
    """What classifiers could tell."""
    text: Sequence[str] = ()
    """Further Markdown."""
    figures: Mapping[str, Path] = field(default_factory=dict)
    """Caption -> picture."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """Further numbers for the JSON."""
    skipped: str = ""
    """Why there is nothing; empty when there is."""


def all_sections(settings: Settings, only: Sequence[str] = ()) -> dict[str, Section]:
    """Every comparison whose data are there; the others say why they are not."""
    made: dict[str, Section] = {}
    for name, (folder, make) in SECTIONS.items():
        if only and name not in only:
            continue
        log.info("comparing %s", name)
        if folder and not (settings.data / folder).is_dir():
            made[name] = Section(name.capitalize(), "", skipped=f"there is no folder {folder} in the data folder")
            continue
        try:
            made[name] = make(settings)
        except (ModelingError, OSError) as error:
            made[name] = Section(name.capitalize(), "", skipped=str(error))
    return made


def images(settings: Settings) -> Section:
    """The Iburi pair: reflectance, scars, and what a classifier tells."""
    real = real_iburi(settings.data / "iburi2018")
    others = [simulated_iburi(seed, settings.size_px) for seed in settings.numbers]
    found = _reflectances(real, others)
    own_scars, their_scars = scars(real, folds=FOLDS), [_scars(scene, n) for n, scene in enumerate(others)]
    joined = together([one.patches for one in their_scars], by_scene=True)
    found += _scar_distances(own_scars, joined)
    told = []
    floors: dict[str, list[float]] = {}
    level = [levelled(scene, real) for scene in others]
    for what, phases, scenes in (
        ("image after", ("post",), others),
        ("both images", ("pre", "post"), others),
        ("image after, levelled", ("post",), level),
        ("both images, levelled", ("pre", "post"), level),
    ):
        one = features(real, *phases, folds=FOLDS)
        parts = [features(scene, *phases, first_block=_first(n), folds=FOLDS) for n, scene in enumerate(scenes)]
        told.append(tell_apart(f"patches of 320 m, {what}", one, together(parts, by_scene=True)))
        floors[told[-1].what] = _floor(parts)
    told.append(tell_apart("scars", own_scars.patches, joined))
    floors["scars"] = _floor([one.patches for one in their_scars])
    shown = pictures.scenes_beside(settings.pictures / "iburi_pair.jpg", real, others[0])
    pieces = pictures.patches_beside(settings.pictures / "iburi_patches.jpg", real, others)
    giveaway = pictures.giveaways(settings.pictures / "iburi_giveaways.png", told)
    outside, of = _outside(real, [simulated_iburi(FIRST_SEED + 100 + n, 256, varied=True) for n in range(VARIED)])
    text = [
        _told_table(told, floors), _scar_text(own_scars, their_scars),
        f"Training varies the presets. Of {of} features of both images, the real scene's median lies within the range of "
        f"the medians of {VARIED} varied regions (256 pixels, any season) for {of - len(outside)}; outside: "
        f"{', '.join(outside) or 'none'}.",
        _giveaway_table(told),
    ]  # fmt: skip
    return Section(
        "The Iburi pair: images, scars, and what a classifier tells",
        "Real: the Sentinel-2 pair of `iburi2018` (red, green, blue; dates not recorded, taken from the look of leaves and "
        "snow to be early April and late October) with AW3D30. Simulated: the preset `iburi` in those seasons, nearly "
        f"cloudless, {settings.seeds} regions of {settings.size_px} pixels, resampled by the same two warps. Cloud (blue "
        "above 0.19 after) is left out on both sides. One real scene: what is measured is its distance, not that of real "
        "scenes at large. Scars are found on both sides by one rule: on hills, red 0.035 above the median of the "
        "surrounding 410 m, not green. "
        "Levelled: each band of each simulated image is moved and stretched to the real median and deciles on hills, so that "
        "only structure is left to tell the two apart; the light, haze and colours of two days differ between real scenes too.",
        found, told, text,
        {"Real above, simulated below; left before, right after, the same stretch": shown,
         "Pieces of 640 m of the image after, drawn at random": pieces,
         "The features that give the simulator away": giveaway},
        {"scar_share_of_hills": {"real": own_scars.share, "simulated": [one.share for one in their_scars]},
         "rule_on_simulated_truth": [{"recall": one.recall, "precision": one.precision} for one in their_scars],
         "outside_varied_regions": outside, "floor_auc": floors},
    )  # fmt: skip


def inventory(settings: Settings) -> Section:
    """The polygons of Noto 2024."""
    real = polygons.real_noto(settings.data / "noto2024")
    other = polygons.simulated(settings.numbers[:4], max(settings.size_px, 768))
    panels = {
        "area, log10 m2": "area", "elongation, log10 length/width": "elongation", "compactness, 1 = a circle": "compactness"
    }  # fmt: skip
    shown = pictures.cumulative(
        settings.pictures / "noto_shapes.png",
        {title: [("Noto 2024", real.shape[key]), ("simulated", other.shape[key])] for title, key in panels.items()},
    )
    rings = pictures.clustering(settings.pictures / "noto_clustering.png", {"Noto 2024": real, "simulated": other})
    return Section(
        "The landslides of Noto 2024: area, elongation, clustering",
        f"Real: {real.polygons} polygons of the latest sheets (scar and run-out in one, drawn on aerial photographs), "
        f"{len(real.block)} of them of 900 m2 and more. Simulated: {len(other.block)} landslides of the preset `iburi` in "
        "regions of 768 pixels. Both are burnt on a 10 m grid and measured there. Noto is another earthquake in other "
        "rock than the preset follows, and its small slides are drawn finer than Sentinel-2 sees. Clustering is taken "
        "within windows of 7.7 km that were interpreted and have 20 slides or more; a simulated region holds the whole "
        "shaken area, whose fading towards the edge counts as clustering beyond 400 m.",
        polygons.distances(real, other),
        figures={"Cumulative distributions": shown, "Pairs of landslides by distance": rings},
        values={"polygons": real.polygons, "compared": len(real.block), "simulated": len(other.block)},
    )


def course(settings: Settings) -> Section:
    """NDVI, reflectance and cloud of the Slovenian series."""
    folder = settings.data / "sentinel2_timeseries"
    real, other = seasons.read_series(folder), seasons.simulated_series(settings.numbers[:4])
    found = seasons.course(real, other)
    found += seasons.reflectance(seasons.read_reference(folder), seasons.simulated_reference(settings.numbers[:4]))
    clouds, shares = seasons.cloud(real, seasons.simulated_cloud(settings.numbers[:4], 500))
    months = {"real": seasons.monthly(real), "simulated": seasons.monthly(other)}
    shown = pictures.ndvi_course(settings.pictures / "slovenia_ndvi.png", months)
    table = markdown_table(
        ["square kilometres that are", "real, %", "simulated, %"],
        [[name, f"{100 * one:.0f}", f"{100 * two:.0f}"] for name, (one, two) in shares.items()],
    )
    both = sorted(set(months["real"]) & set(months["simulated"]))
    gap = float(np.mean([abs(months["real"][m][1] - months["simulated"][m][1]) for m in both]))
    return Section(
        "Slovenia 2015 to 2017: NDVI through the year, reflectance, cloud",
        "Real: one square kilometre, 68 dates of NDVI and cloud mask, and the clear ones of five undated scenes of 13 "
        "bands. Simulated: the preset `iburi` moved to that latitude and height (snow line 900 m in the depth of winter), "
        "three passes a month, the most wooded square kilometre of nine; levels differ where cover does. "
        "The real dates are not chosen by cloud beyond what the archive left; the simulator's passes are those that a "
        "pipeline would keep (12 % median cover), so shares of covered ground are not comparable, shapes of cloud are.",
        [*found, *clouds],
        text=[f"Mean absolute difference of the monthly medians of NDVI: {gap:.3f}.", table],
        figures={"NDVI by month, median and quartiles": shown},
        values={"monthly_ndvi_gap": gap, "cloud_shares": shares},
    )  # fmt: skip


def terrain(settings: Settings) -> Section:
    """The real elevation models."""
    found: list[Distance] = []
    curves: dict[str, list[tuple[str, Any]]] = {}
    grounds = slopes.real_grounds(settings.data)
    if not grounds:
        return Section("Terrain", "", skipped="there is no readable elevation model in the data folder")
    for ground in grounds:
        presets = ("iburi", "jiuzhaigou") if ground.name.startswith("Svalbard") else ("iburi",)
        for preset in presets:
            others = slopes.simulated_grounds(preset, settings.numbers[:4], settings.size_px, ground.pixel_m[1])
            found += slopes.distances(ground, others)
            for title, of in (("slope, degrees", slopes.slope), ("relief within 300 m, m", slopes.relief)):
                if preset == "iburi":
                    pooled = np.concatenate([of(other).ravel() for other in others])
                    key = f"{ground.name.split(' ')[0]}: {title}"
                    curves[key] = [("real", of(ground).ravel()), ("simulated", pooled)]
    shown = pictures.cumulative(settings.pictures / "terrain.png", curves, columns=2)
    return Section(
        "Terrain: slope, relief, curvature",
        "Real: AW3D30 at Iburi (repeated rows and columns taken out), 10 m heights of the Slovenian square kilometre "
        "(whole metres), 20 m heights of a corner of Svalbard (glaciers and steep flanks, no counterpart among the "
        "presets). Simulated: the preset's ground as a 30 m elevation model has it, or averaged to the real pixel. Only "
        "Iburi has a preset that means to be it.",
        found, figures={"Cumulative distributions, against the preset iburi": shown},
    )  # fmt: skip


def map_of_iburi(settings: Settings) -> Section:
    """The model that maps by default, on the real pair."""
    real = real_iburi(settings.data / "iburi2018")
    model = load_model(choose_model(real.layers))
    rule = scars(real)
    mapped = map_scene(real, model, rule.found)
    shown = pictures.map_beside(settings.pictures / "iburi_map.jpg", real, mapped, rule.found)
    rows = [[name, str(count), f"{km2:.3f}"] for name, (count, km2) in mapped.kinds.items()]
    seen = int(np.isfinite(mapped.probability).sum())
    missed, missed_km2, of = mapped.missed
    area = float((mapped.label > 0).sum() * 1e-4)
    text = [
        f"Model `{mapped.model}`, sha256 `{mapped.weights_hash[:16]}`, threshold {mapped.threshold:.3f}. Observed: "
        f"{seen * 1e-4:.1f} km2. Mapped: {int(mapped.label.max())} components of 900 m2 and more, {area:.3f} km2.",
        markdown_table(["mapped ground, first that holds", "components", "km2"], rows),
        f"Of {of} bright scars of the rule on observed ground, {missed} ({missed_km2:.3f} km2) are touched by nothing mapped.",
    ]
    return Section(
        "The zero-label default on the real Iburi pair",
        "Nobody has mapped this scene; kinds are told by plain rules, not by a truth, and the rule for scars is no truth "
        "either: it takes bright tracks, cuttings and autumn-dry grass for scars, and is blind to shaded ones.",
        text=text, figures={"The map beside the image": shown},
        values={"model": mapped.model, "weights_hash": mapped.weights_hash, "threshold": mapped.threshold,
                "kinds": mapped.kinds, "scars_missed": mapped.missed, "observed_km2": seen * 1e-4, "mapped_km2": area},
    )  # fmt: skip


SECTIONS: dict[str, tuple[str, Callable[[Settings], Section]]] = {
    "images": ("iburi2018", images),
    "landslides": ("noto2024", inventory),
    "seasons": ("sentinel2_timeseries", course),
    "terrain": ("", terrain),
    "map": ("iburi2018", map_of_iburi),
}
"""Name -> (folder that it needs, what makes it)."""


def _first(number: int) -> int:
    return 10_000_000 * (number + 1)


def _scars(scene: Scene, number: int) -> Scars:
    return scars(scene, first_block=_first(number), folds=FOLDS)


def _floor(parts: list[Patches]) -> list[float]:
    """AUC of the trees when each simulated region plays the real one against the others: regions differ, too."""
    floors = []
    for number, part in enumerate(parts):
        rest = [other for index, other in enumerate(parts) if index != number]
        folds = [Patches(p.names, p.values, p.block, np.full_like(p.fold, index)) for index, p in enumerate(rest)]
        joined = together(folds, by_scene=True)
        strips = Patches(part.names, part.values, part.block, np.minimum(part.fold, len(rest) - 1))
        floors.append(tell_apart(f"floor {number}", strips, joined, details=False).trees.value)
    return floors


def _outside(real: Scene, varied: Sequence[Scene]) -> tuple[list[str], int]:
    """Features whose median in the real scene no range of the varied regions' medians holds, and how many there are."""
    own = features(real, "pre", "post")
    every = [features(scene, "pre", "post") for scene in varied]
    medians = np.array([np.median(part.values, axis=0) for part in every if len(part.values)])
    at = np.median(own.values, axis=0)
    beyond = (at < medians.min(axis=0)) | (at > medians.max(axis=0))
    return [name for name, out in zip(own.names, beyond, strict=True) if out], len(own.names)


def _reflectances(real: Scene, others: Sequence[Scene]) -> list[Distance]:
    found = []
    for phase in ("pre", "post"):
        for ground, hills in (("hills", True), ("flat ground", False)):
            for colour in ("red", "green", "blue"):
                own = _values(real, f"{colour}_{phase}", phase, hills, 0)
                parts = [_values(scene, f"{colour}_{phase}", phase, hills, _first(n)) for n, scene in enumerate(others)]
                pooled = Sample(
                    np.concatenate([part.values for part in parts]), np.concatenate([part.block for part in parts])
                )
                when = "before" if phase == "pre" else "after"
                found.append(measure(f"{colour} {when}, {ground}", "reflectance", own, pooled))
    return found


def _values(scene: Scene, layer: str, phase: str, hills: bool, first: int) -> Sample:
    steep = np.nan_to_num(scene.layers["slope"]) >= HILLS_DEG
    inside = scene.known(phase) & (steep if hills else ~steep)
    values = np.where(inside, scene.layers[layer], np.nan)
    return Sample.of(values, blocks_of(scene.shape_yx, BLOCK_PX, first))


def _scar_distances(own: Scars, joined: Patches) -> list[Distance]:
    units = {"brightness": "reflectance", "surroundings": "reflectance", "contrast": "ratio", "colour": "ratio",
             "texture": "share of the mean", "edges": "1/pixel"}  # fmt: skip
    special = {"terrain: slope": "degrees", "terrain: height of fall": "m", "shape: area": "log10 m2",
               "shape: elongation": "log10 length/width", "shape: compactness": "1 = a circle"}  # fmt: skip
    return [
        measure(
            f"scars: {name}", special.get(name) or units[name.split(":")[0]],
            Sample.of(own.patches.values[:, index], own.patches.block), Sample.of(joined.values[:, index], joined.block),
        )
        for index, name in enumerate(own.patches.names)
    ]  # fmt: skip


def _told_table(told: Sequence[Told], floors: Mapping[str, list[float]]) -> str:
    rows = []
    for one in told:
        floor = floors[one.what]
        rows.append([
            one.what, str(one.real), *(f"{i.value:.3f} [{i.low:.3f}, {i.high:.3f}]" for i in (one.logistic, one.trees)),
            f"{np.mean(floor):.3f} ({min(floor):.3f} to {max(floor):.3f})",
        ])  # fmt: skip
    families = list(dict.fromkeys(family for one in told for family in one.family))
    by_family = [
        [one.what, *(f"{one.family[name]:.3f}" if name in one.family else "" for name in families)] for one in told
    ]
    return (
        "AUC of telling real from simulated, scored on ground apart from that fitted to (0.5: not at all; 1: always). The "
        "floor is the trees' AUC when each simulated region in turn plays the real one against the others: no two regions "
        "are alike.\n\n"
        + markdown_table(["what", "real ones", "logistic regression", "boosted trees", "floor, mean (range)"], rows)
        + "\n\nAUC of the trees on one family of features:\n\n"
        + markdown_table(["what", *families], by_family)
    )


def _scar_text(own: Scars, others: Sequence[Scars]) -> str:
    recall, precision = (np.mean([getattr(one, name) or 0.0 for one in others]) for name in ("recall", "precision"))
    return (
        f"The rule for scars takes {100 * own.share:.1f} % of the real hills and "
        f"{100 * float(np.mean([one.share for one in others])):.1f} % of the simulated ones; of the simulated landslides on "
        f"hills it finds {100 * recall:.0f} % of the area, and {100 * precision:.0f} % of what it finds is landslide."
    )


def _giveaway_table(told: Sequence[Told], most: int = 10) -> str:
    parts = []
    for one in told:
        ranked = sorted(one.feature.items(), key=lambda item: -abs(item[1][0] - 0.5))[:most]
        rows = [[name, f"{auc:.3f}", f"{real:.4g}", f"{other:.4g}"] for name, (auc, real, other) in ranked]
        parts.append(f"What gives it away, {one.what}:\n\n" + markdown_table(
            ["feature (spreads are natural logarithms)", "AUC alone", "real median", "simulated median"], rows
        ))  # fmt: skip
    return "\n\n".join(parts)
