"""What is made of the scenes that were found: which cloud mask covers them, which reasons can be told, which pass is best.

The deciding functions are pure. What they need to know takes a request or two for each mask that is looked at, and one
for the least cloudy pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import ee
from shapely.geometry.base import BaseGeometry

from gee.catalog import linked_scenes
from gee.composites import Composite
from gee.errors import NoScenesError, RequestTooLargeError
from gee.grid import coarse_grid_for, geometry_mask
from gee.masks import CloudMask, Qa60, S2Cloudless, method_of, own_support
from gee.passes import best_pass, listed_clear_share, passes_of
from gee.pixels import fetch_pixels
from gee.reasons import REASONS, Reason, told
from gee.sentinel2 import USUAL_COMPOSITE, PhaseScenes, common_colours, pass_image
from gee.session import Session
from gee.types import Scene

COVERS = 0.8
"""A mask that this share of a phase's scenes has covers the phase: the others are left out. A better mask is worth a
scene or two, for instance the newest ones, for which it is not computed yet; but not most of them."""
SAMPLE_PX = 40_000
"""Pixels of the coarse sample in which the passes are compared."""


@dataclass(frozen=True)
class ImageryChoice:
    """What a user wants of the imagery."""

    masks: tuple[CloudMask, ...]
    """Cloud masks in order of preference; empty for none."""
    reasons: tuple[Reason, ...] = REASONS
    """Reasons apart from cloud that are told where the scenes allow it."""
    pre_composite: Composite = USUAL_COMPOSITE["pre"]
    """How the scenes before become one image."""
    post_composite: Composite = USUAL_COMPOSITE["post"]
    """How the scenes after become one image."""

    def composite(self, phase: str) -> Composite:
        """The composite of a phase."""
        return self.pre_composite if phase == "pre" else self.post_composite


@dataclass(frozen=True)
class Supported:
    """A cloud mask and the scenes that have it."""

    mask: CloudMask
    """The mask."""
    scenes: frozenset[str]
    """Ids of the scenes that have what it needs."""


@dataclass(frozen=True)
class MaskChoice:
    """The mask taken for the scenes of a phase."""

    mask: CloudMask | None
    """None when no scene has any of the masks."""
    scenes: tuple[Scene, ...]
    """The scenes that have it, by time."""
    left_out: tuple[str, ...]
    """Ids of the others."""
    why: str
    """Why not the one that was wanted most; empty when it is that one."""


def choose_phases(
    session: Session,
    pre: Sequence[Scene],
    post: Sequence[Scene],
    choice: ImageryChoice,
    geometry: BaseGeometry,
    *,
    terrain: bool = True,
) -> tuple[PhaseScenes, PhaseScenes]:
    """Both phases of an event over an area (WGS84), from the scenes that were listed for each.

    `terrain` says whether `gee.sentinel2.event_image` will be given an elevation model. Raises `NoScenesError` when a
    phase has no scene.
    """
    for phase, scenes in (("pre", pre), ("post", post)):
        _refuse_none(phase, scenes)
    support = find_support(session, choice.masks, (pre, post))
    before, after = (
        _phase(session, phase, scenes, support, choice, geometry, terrain)
        for phase, scenes in (("pre", pre), ("post", post))
    )
    return before, after


def choose_phase(
    session: Session,
    phase: str,
    scenes: Sequence[Scene],
    choice: ImageryChoice,
    geometry: BaseGeometry,
    *,
    terrain: bool = True,
) -> PhaseScenes:
    """One phase (`pre` or `post`) alone, as `choose_phases` does it: for a look at a window that may not be taken."""
    _refuse_none(phase, scenes)
    support = find_support(session, choice.masks, (scenes,))
    return _phase(session, phase, scenes, support, choice, geometry, terrain)


def find_support(
    session: Session, masks: Sequence[CloudMask], phases: Sequence[Sequence[Scene]]
) -> tuple[Supported, ...]:
    """Which scenes have what each mask needs, in the order of preference; stops at the first that covers all phases.

    Asks nothing for a mask that the scenes carry themselves, and whether images of the same name exist for the others.
    """
    found: list[Supported] = []
    for mask in masks:
        own = {scene.id: own_support(mask, scene) for scenes in phases for scene in scenes}
        linked = frozenset[str]()
        asked = [scene for scenes in phases for scene in scenes if own[scene.id] is None]
        if asked and not isinstance(mask, Qa60):
            linked = linked_scenes(session, mask.collection, asked)
        found.append(Supported(mask, linked | {name for name, carried in own.items() if carried}))
        if all(_share(scenes, found[-1]) >= COVERS for scenes in phases):
            break
    return tuple(found)


def choose_mask(scenes: Sequence[Scene], support: Sequence[Supported]) -> MaskChoice:
    """The first mask that covers the scenes; else the one that most of them have, the first of equals.

    Scenes that lack the mask's image are left out when others have it: an unmasked cloud in a composite is worse than
    a scene less. When no scene has any, all are used without a mask: no scene at all is worse than a cloud.
    """
    ordered = tuple(sorted(scenes, key=lambda scene: (scene.time, scene.id)))
    best = next((each for each in support if _share(ordered, each) >= COVERS), None)
    best = best or max(support, key=lambda each: _share(ordered, each), default=None)
    if best is None:
        return MaskChoice(None, ordered, (), "none is wanted")
    kept = tuple(scene for scene in ordered if scene.id in best.scenes)
    if not kept:
        return MaskChoice(None, ordered, (), f"{_lacking(ordered, support)} of {len(ordered)} scenes")
    before = support[: support.index(best)]
    why = f"{_lacking(ordered, before)} of {len(ordered)} scenes" if before else ""
    return MaskChoice(best.mask, kept, tuple(scene.id for scene in ordered if scene.id not in best.scenes), why)


def _share(scenes: Sequence[Scene], supported: Supported) -> float:
    return sum(scene.id in supported.scenes for scene in scenes) / max(1, len(scenes))


def _lacking(scenes: Sequence[Scene], support: Sequence[Supported]) -> str:
    return ", ".join(
        f"{method_of(each.mask)} for {sum(scene.id in each.scenes for scene in scenes)}" for each in support
    )


def _refuse_none(phase: str, scenes: Sequence[Scene]) -> None:
    if not scenes:
        raise NoScenesError(f"no scene for the phase {phase!r}: widen its window or wait for the next pass")


def _phase(
    session: Session,
    name: str,
    scenes: Sequence[Scene],
    support: Sequence[Supported],
    choice: ImageryChoice,
    geometry: BaseGeometry,
    terrain: bool,
) -> PhaseScenes:
    mask = choose_mask(scenes, support)
    composite = choice.composite(name)
    phase = PhaseScenes(name, mask.scenes, mask.mask, mask.left_out, mask.why, composite)
    if composite == "least_cloudy":
        phase = _least_cloudy(session, phase, geometry)
    reasons, untold = told(choice.reasons, phase.scenes, phase.mask, terrain=terrain)
    return replace(phase, reasons=reasons, untold=untold)


def _least_cloudy(session: Session, phase: PhaseScenes, geometry: BaseGeometry) -> PhaseScenes:
    passes, sampled = passes_of(phase.scenes), True
    try:
        shares = clear_shares(session, phase, geometry)
    except RequestTooLargeError:  # what the catalogue says of each granule has to do
        shares, sampled = tuple(listed_clear_share(one, geometry) for one in passes), False
    best, looked_at = best_pass(passes, shares, latest=phase.phase == "pre", sampled=sampled)
    return replace(phase, scenes=best.scenes, passes=looked_at)


def for_a_look(phase: PhaseScenes) -> PhaseScenes:
    """The same phase for a coarse sample of a large area: without what would be computed in full for it.

    Shadows of s2cloudless are found on grids of 20 and 100 m, whatever is asked for. Reasons apart from cloud are kept.
    """
    mask = replace(phase.mask, shadows=False) if isinstance(phase.mask, S2Cloudless) else phase.mask
    return replace(phase, mask=mask)


def clear_shares(session: Session, phase: PhaseScenes, geometry: BaseGeometry) -> tuple[float, ...]:
    """The share of an area (WGS84) that each pass of a phase saw clearly, from one coarse sample of them all."""
    passes, plain = passes_of(phase.scenes), replace(for_a_look(phase), reasons=())
    colours = common_colours(phase.scenes)
    if not colours:
        return tuple(listed_clear_share(one, geometry) for one in passes)
    coarse = coarse_grid_for(geometry, 10.0, SAMPLE_PX)
    bands = {f"pass_{number}": "uint8" for number in range(len(passes))}
    expression = ee.serializer.encode(pass_image(plain, passes, colours), for_cloud_api=True)
    inside = geometry_mask(coarse, geometry)
    if not inside.any():
        return tuple(0.0 for _ in passes)
    found = fetch_pixels(session, expression, coarse, bands)
    return tuple(float((found[name] > 0)[inside].mean()) for name in bands)
