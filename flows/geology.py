"""The geology scheme in a run: which rules a map gets, the map of the image before, and what is said of both."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.windows import Window

from flows.alignment import AlignedBlock, match_radiometry
from flows.facts import RulesFacts
from flows.scene import Scene, Slices
from flows.settings import ModelSettings
from gee.types import Grid
from modeling.bands import BandSet
from modeling.domains.zoo import ZooModel
from modeling.errors import BandSetError, DataError
from modeling.geology.inventories import Judged
from modeling.geology.rules import NO_RULES, GeologyRules, default_rules
from modeling.geology.rules_file import LearntRules, read_rules
from modeling.geology.subtraction import MARGIN_PX, Histogrammed, as_after, bands_before, decided, grown, is_single_date
from modeling.model import LandslideModel

_LEARNT = "learnt:"
_SAME_PIXEL = 0.1


@dataclass(frozen=True)
class MapRules:
    """The rules that one map gets."""

    name: str
    """`none`, `geology` or `learnt`."""
    rules: GeologyRules
    """Their thresholds; those of `geology` are only known with the pixel size (`for_map`)."""
    learnt: LearntRules | None = None
    """Where learnt thresholds come from."""

    @property
    def forgets_small(self) -> bool:
        """Whether small regions are dropped as they are found, by the setting, and not listed with a reason."""
        return self.name == "none"

    def for_map(self, grid: Grid) -> MapRules:
        """The thresholds for maps on `grid`; raises `DataError` when learnt ones are of another pixel size."""
        if self.name == "geology":
            return MapRules(self.name, default_rules(grid.pixel_m))
        if self.learnt is not None and abs(grid.pixel_m / self.learnt.pixel_m - 1) > _SAME_PIXEL:
            raise DataError(
                f"the rules were learnt on pixels of {self.learnt.pixel_m:g} m, this map has {grid.pixel_m:g} m: learn them "
                "on maps of that resolution, or use --rules geology"
            )
        return self

    def subtracts(self, model: LandslideModel, scene: Scene) -> bool:
        """Whether the image before is mapped as well and subtracted: with rules, for a network of one date.

        Raises `BandSetError` when learnt rules expect a subtraction that this network or scene does not allow.
        """
        if self.learnt is None:
            return self.name == "geology" and _subtractable(model, scene.layer_names)
        self.require_possible((model,), scene.layer_names)
        return self.learnt.subtracted

    def require_possible(self, models: Sequence[ZooModel | LandslideModel], layers: Collection[str]) -> None:
        """Raise `BandSetError` when none of the models that may map a scene of these layers allows what the rules expect."""
        if self.learnt is None or not self.learnt.subtracted or any(_subtractable(one, layers) for one in models):
            return
        names = " or ".join(one.name for one in models)
        raise BandSetError(
            f"the rules were learnt on maps with the map before the event subtracted, which {names} on this scene does not "
            "allow: it is for networks of one date, and needs the image before"
        )

    def to_json(self) -> dict[str, Any]:
        """What decides the result, for a run's identity: never the path of a file."""
        return {"name": self.name, "rules": None if self.name == "geology" else self.rules.to_json()}


def map_rules(settings: ModelSettings, bands: BandSet) -> MapRules:
    """The rules of the settings for a network that sees `bands`; raises `DataError` when the file of learnt ones is missing
    or something else.

    `auto` was chosen on the validation ground of the shipped networks (`modeling/reports/geology.md`): there the scheme
    made the maps of the network of one date better and those of the others, which see the change themselves, not.
    """
    if settings.rules == "auto":
        return MapRules("geology" if is_single_date(bands) else "none", NO_RULES)
    if settings.rules.startswith(_LEARNT):
        learnt = read_rules(Path(settings.rules.removeprefix(_LEARNT)))
        return MapRules("learnt", learnt.rules, learnt)
    return MapRules(settings.rules, NO_RULES)


@dataclass(frozen=True)
class SceneBefore:
    """A scene whose image after the event is the one before, for networks of one date."""

    scene: Scene
    """The scene itself."""
    histograms: Histogrammed
    """Whether the image before is matched to the one after, and how."""

    @property
    def grid(self) -> Grid:
        """That of the scene."""
        return self.scene.grid

    @property
    def layer_names(self) -> tuple[str, ...]:
        """The layers there are: none before."""
        return tuple(dict.fromkeys(_after(name) for name in self.scene.layer_names if not name.endswith("_post")))

    def read_tile(self, y: slice, x: slice, layers: tuple[str, ...] | None = None) -> AlignedBlock:
        """A window; what was not seen before is not seen after either."""
        wanted = self.layer_names if layers is None else layers
        block = self.scene.read_tile(y, x, tuple(_before(name) for name in wanted))
        found: Mapping[str, Any] = as_after(block.layers, self.histograms.match)
        first = [0] * len(block.observed)
        return AlignedBlock(found, block.observed[first], block.date[first])


def scene_before(scene: Scene, model: LandslideModel) -> SceneBefore:
    """The scene that a network of one date maps before the event, matched when its histograms differ."""
    colours = {name.removesuffix("_post") for name in model.bands.requires if name.endswith("_post")}
    return SceneBefore(scene, decided(match_radiometry(scene, "histogram"), colours))


def mapped_before(
    probability: Path, threshold: float, window: Slices, shape_yx: tuple[int, int]
) -> npt.NDArray[np.bool_]:
    """Where (y, x) a window of a map is, or lies within a margin of what is, mapped before the event."""
    wide = tuple(
        slice(max(part.start - MARGIN_PX, 0), min(part.stop + MARGIN_PX, size))
        for part, size in zip(window, shape_yx, strict=True)
    )
    with rasterio.open(probability, driver="GTiff") as file:
        mapped = file.read(1, window=Window.from_slices(*wide)) >= threshold
    inner = tuple(slice(w.start - o.start, w.stop - o.start) for w, o in zip(window, wide, strict=True))
    return np.ascontiguousarray(grown(mapped)[inner])


def rules_facts(rules: MapRules, found: Judged, before: SceneBefore | None = None) -> RulesFacts | None:
    """What is said of the rules in report and item; None without any."""
    if rules.name == "none":
        return None
    learnt = rules.learnt
    return RulesFacts(
        name=rules.name,
        thresholds=rules.rules.described(),
        dropped=found.counts,
        regions=len(found.dropped),
        area_m2=float(found.dropped["area_m2"].sum()),
        learnt_on="" if learnt is None else f"maps of {learnt.model} in {', '.join(learnt.ground)}",
        subtraction="" if before is None else before.histograms.why,
    )


def _subtractable(model: ZooModel | LandslideModel, layers: Collection[str]) -> bool:
    return is_single_date(model.bands) and not bands_before(model.bands).missing_from(layers)


def _before(name: str) -> str:
    return name.removesuffix("_post") + "_pre" if name.endswith("_post") else name


def _after(name: str) -> str:
    return name.removesuffix("_pre") + "_post" if name.endswith("_pre") else name
