"""Bringing the image before the event onto the one after: the shift measured and corrected, the radiometry matched.

What was measured is recorded whether or not anything was corrected. The image after stays as it is: the map, and every
truth that it is held to, lie on its grid.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice, product
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter
from scipy import ndimage

from flows.progress import report
from flows.scene import Block, CodeArray, DayArray, FloatArray, Scene, Slices
from flows.settings import AlignmentSettings
from gee.types import PHASES, Grid, Observed
from modeling.rasters.coregister import (
    LEAST_GROUND_PX,
    Shift,
    WindowShift,
    combine,
    margin_px,
    moved,
    shifted,
    stable_ground,
    taps,
    window_shift,
)
from modeling.rasters.radiometry import Histograms, Invariants, RadiometricMatch

WINDOW_PX = 128
"""Side of the windows that are matched; half of it for a scene that has few such windows."""
ENOUGH_WINDOWS = 64
"""Matched windows after which no further ones are looked at: their median is then known to a few hundredths of a pixel."""
BLOCK_PX = 512
"""Windows lie in blocks of this side, which are read once each: a cube is stored, and fetched, in such pieces."""
WINDOWS_PER_BLOCK = 8
"""Windows that are looked at in a block at most, those with the most gentle ground first: others lie elsewhere."""
MOST_BLOCKS = 96
"""Blocks that are read before the search for stable ground is given up."""
GENTLE_DEG = 5.0
"""Ground no steeper than this does not move with the sun: on the real pair of Iburi 2018, taken in two seasons, slopes
above 12 degrees lie half a pixel further south than the valley floors, because the light on them changed."""
RADIOMETRY_PX = 256
"""Side of the windows from which the radiometry is matched."""
RADIOMETRY_WINDOWS = 128
"""How many of them at most."""

_COLOURS = ("blue", "green", "red", "nir", "swir1", "swir2")
_MATCHED = ("green", "red", "nir")
_SLOPE_PX = 9
_FEW_WINDOWS = 9


@dataclass(frozen=True)
class Alignment:
    """How the image before lies to the one after, and what was done about it."""

    shift: Shift
    """What was measured."""
    corrected: bool
    """Whether the image before was moved by it."""
    pixel_m: float
    """Pixel size in metres."""
    ground: str = "any"
    """`gentle` when measured on ground no steeper than `GENTLE_DEG`, `any` where there is too little of that."""
    radiometry: RadiometricMatch | None = None
    """How its reflectances were changed; None when that was not asked for."""

    @property
    def east_m(self) -> float:
        """How far east the image before lay, metres."""
        return self.shift.dx_px * self.pixel_m

    @property
    def north_m(self) -> float:
        """How far north the image before lay, metres."""
        return -self.shift.dy_px * self.pixel_m

    @property
    def move_px(self) -> tuple[float, float]:
        """The correction (dy, dx) in pixels: zero when nothing was corrected."""
        return (self.shift.dy_px, self.shift.dx_px) if self.corrected else (0.0, 0.0)

    def to_json(self) -> str:
        """As JSON text."""
        return _ADAPTER.dump_json(self, indent=1).decode()

    @classmethod
    def from_json(cls, text: str) -> Alignment:
        """The inverse of `to_json`."""
        return _ADAPTER.validate_json(text)


_ADAPTER = TypeAdapter(Alignment)


def measure_alignment(scene: Scene, settings: AlignmentSettings) -> Alignment:
    """Measure the shift between the images of `scene`, decide whether to correct it, and match the radiometry if asked.

    Reads at most `MOST_BLOCKS` windows of `BLOCK_PX` and `RADIOMETRY_WINDOWS` of `RADIOMETRY_PX`, one at a time,
    scattered over the scene in an order that is always the same.
    """
    shift, ground = _measure_shift(scene, settings.maximum_shift_px)
    corrected = shift.measured and shift.length_px > settings.correct_above_px
    alignment = Alignment(shift, corrected, scene.grid.pixel_m, ground)
    if settings.radiometry == "none":
        return alignment
    return replace(alignment, radiometry=match_radiometry(AlignedScene(scene, alignment), settings.radiometry))


def write_alignment(scene: Scene, settings: AlignmentSettings, path: Path) -> None:
    """Measure the alignment of `scene` into the JSON file `path`."""
    path.write_text(measure_alignment(scene, settings).to_json())


@dataclass(frozen=True)
class AlignedBlock:
    """A window of an aligned scene."""

    layers: Mapping[str, FloatArray]
    """Layer name -> (y, x) in physical units, NaN where nothing is known."""
    observed: CodeArray
    """(phase, y, x): codes of `gee.types.Observed`."""
    date: DayArray
    """(phase, y, x): days since 1970-01-01, -1 where there is none."""


@dataclass(frozen=True)
class AlignedScene:
    """A scene whose image before is moved and matched as its alignment says; itself a `Scene`.

    What a pixel is does not depend on the window that it is read with. A pixel that would need one which was not observed
    is not observed, for the same reason; its date is that of the nearest pixel.
    """

    scene: Scene
    """What is read."""
    alignment: Alignment
    """What is done to it."""

    @property
    def grid(self) -> Grid:
        """The grid of everything that is read."""
        return self.scene.grid

    @property
    def layer_names(self) -> tuple[str, ...]:
        """The layers there are."""
        return self.scene.layer_names

    def read_tile(self, y: slice, x: slice, layers: tuple[str, ...] | None = None) -> AlignedBlock:
        """A window of the grid, within it; all layers when none are named."""
        if self.alignment.corrected:
            block = self._moved(y, x, layers)
        else:
            plain = self.scene.read_tile(y, x, layers)
            block = AlignedBlock(plain.layers, plain.observed, plain.date)
        match = self.alignment.radiometry
        if match is None:
            return block
        matched = {
            name: match.apply(name.removesuffix("_pre"), values) if name.endswith("_pre") else values
            for name, values in block.layers.items()
        }
        return replace(block, layers=matched)

    def _moved(self, y: slice, x: slice, layers: tuple[str, ...] | None) -> AlignedBlock:
        move = self.alignment.move_px
        reach = [max(abs(offset) for offset, _ in taps(axis)) for axis in move]
        wide = tuple(
            slice(max(0, one.start - far), min(size, one.stop + far))
            for one, far, size in zip((y, x), reach, self.grid.shape_yx, strict=True)
        )
        block = self.scene.read_tile(wide[0], wide[1], layers)
        own = tuple(slice(one.start - w.start, one.stop - w.start) for one, w in zip((y, x), wide, strict=True))
        values = {
            name: (shifted(layer, *move) if name.endswith("_pre") else layer)[own]
            for name, layer in block.layers.items()
        }
        before = PHASES.index("pre")
        observed, date = block.observed[:, *own].copy(), block.date[:, *own].copy()
        codes, days = _moved_codes(block.observed[before], block.date[before], move)
        observed[before], date[before] = codes[own], days[own]
        return AlignedBlock(values, observed, date)


def _moved_codes(codes: CodeArray, days: DayArray, move: tuple[float, float]) -> tuple[CodeArray, DayArray]:
    """Codes and days (y, x) of an image that is moved by `move`.

    `OUTSIDE` and `NO_TERRAIN` say something of the place, not of the image, and stay where they are; the image there may
    still be known, and then serves its neighbours.
    """
    known = (codes == Observed.CLEAR) | (codes == Observed.NO_TERRAIN) | ((codes == Observed.OUTSIDE) & (days >= 0))
    # The gravest reason among all pixels that are needed: 0 none, 1 no pass, then the other codes in their order.
    reason = np.where(known, 0, np.where(codes == Observed.OUTSIDE, Observed.NO_PASS, codes).astype(np.int16) + 1)
    for axis, along in zip((-2, -1), move, strict=True):
        reason = np.maximum.reduce([moved(reason, offset, axis, Observed.NO_PASS + 1) for offset, _ in taps(along)])
    nearest = days
    for axis, along in zip((-2, -1), move, strict=True):
        nearest = moved(nearest, int(np.floor(along + 0.5)), axis, -1)
    stays = (codes == Observed.OUTSIDE) | ((codes == Observed.NO_TERRAIN) & (reason == 0))
    moved_codes = np.where(stays, codes, np.where(reason == 0, Observed.CLEAR, reason - 1)).astype(np.uint8)
    return moved_codes, np.where(reason == 0, nearest, -1).astype(np.int32)


def _measure_shift(scene: Scene, maximum_px: float) -> tuple[Shift, str]:
    """The shift, on gentle ground if that suffices, else on any; and which."""
    colours = _matched_colours(scene, _MATCHED) or _matched_colours(scene, _COLOURS)
    if not colours:
        return Shift(False, "the images have no colour in common"), "any"
    # Further than what is believed, so that a larger shift is seen as such.
    reach, side = maximum_px + 2, WINDOW_PX
    rows, columns = (size // side for size in scene.grid.shape_yx)
    if rows * columns < _FEW_WINDOWS:
        side //= 2
    found: dict[str, list[WindowShift]] = {"gentle": [], "any": []}
    blocks = list(islice(_scattered(scene.grid, BLOCK_PX, whole=False), MOST_BLOCKS))
    most = max(WINDOWS_PER_BLOCK, ENOUGH_WINDOWS // max(1, len(blocks)))
    looked_at = 0
    for done, place in enumerate(blocks, start=1):
        windows = _windows_of(scene, place, side, colours, margin_px(reach))
        for window in islice(windows, most):
            looked_at += 1
            for kind, ground in window.grounds.items():
                if len(found[kind]) < ENOUGH_WINDOWS:
                    one = window_shift(window.pre, window.post, ground, reach_px=reach, centre_yx=window.centre_yx)
                    found[kind] += [one] if one is not None else []
        report("measure the shift", done, len(blocks))
        if len(found["gentle"]) == ENOUGH_WINDOWS:
            break
    report("measure the shift", len(blocks), len(blocks))
    gentle = combine(found["gentle"], looked_at, maximum_px=maximum_px)
    if gentle.measured:
        return gentle, "gentle"
    return combine(found["any"], looked_at, maximum_px=maximum_px), "any"


@dataclass(frozen=True)
class _Window:
    """A window with its margin."""

    centre_yx: tuple[float, float]
    pre: FloatArray
    post: FloatArray
    grounds: Mapping[str, npt.NDArray[np.bool_]]
    """Where it may be matched (y, x), by the kind of ground; without those that are too little."""


def _windows_of(scene: Scene, place: Slices, side: int, colours: tuple[str, ...], margin: int) -> list[_Window]:
    """All full windows of a block, those with the most gentle ground first, then those with the most of any."""
    sloped = ("slope",) if "slope" in scene.layer_names else ()
    block = scene.read_tile(*place, (*sloped, *(f"{c}_{phase}" for c in colours for phase in PHASES)))
    before, after = ({colour: block.layers[f"{colour}_{phase}"] for colour in colours} for phase in PHASES)
    grounds = {"any": stable_ground(before, after, _clear(block))}
    if sloped:
        grounds["gentle"] = grounds["any"] & _gentle(block.layers["slope"])
    # Beyond the block nothing is known: its windows at the edge have a little less ground.
    pre, post = (
        np.pad(np.stack(list(image.values())), [(0, 0), *[(margin, margin)] * 2], constant_values=np.nan)
        for image in (before, after)
    )
    wide = {kind: np.pad(ground, margin) for kind, ground in grounds.items()}
    found: list[tuple[tuple[int, ...], _Window]] = []
    for top, left in product(*(range(0, one.stop - one.start - side + 1, side) for one in place)):
        inside = slice(top, top + side), slice(left, left + side)
        around = slice(top, top + side + 2 * margin), slice(left, left + side + 2 * margin)
        sizes = {kind: int(ground[inside].sum()) for kind, ground in grounds.items()}
        centre = place[0].start + top + side / 2, place[1].start + left + side / 2
        usable = {kind: wide[kind][around] for kind, size in sizes.items() if size >= LEAST_GROUND_PX}
        window = _Window(centre, pre[:, *around], post[:, *around], usable)
        found.append(((-sizes.get("gentle", 0), -sizes["any"]), window))
    return [window for _, window in sorted(found, key=lambda one: one[0])]


def match_radiometry(scene: Scene, method: str) -> RadiometricMatch:
    """How to match the image before to the one after, by `histogram` or `invariant`, from stable ground of `scene`."""
    colours = _matched_colours(scene, _COLOURS)
    windows = list(islice(_scattered(scene.grid, RADIOMETRY_PX), RADIOMETRY_WINDOWS))
    collected = Histograms(colours) if method == "histogram" else Invariants(colours, len(windows))
    names = tuple(f"{colour}_{phase}" for colour in colours for phase in PHASES)
    for done, window in enumerate(windows, start=1):
        block = scene.read_tile(*window, layers=names)
        pre, post = ({colour: block.layers[f"{colour}_{phase}"] for colour in colours} for phase in PHASES)
        collected.add(pre, post, stable_ground(pre, post, _clear(block)))
        report("match the radiometry", done, len(windows))
    return collected.match()


def _matched_colours(scene: Scene, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """The colours of `wanted` that both images have."""
    return tuple(colour for colour in wanted if all(f"{colour}_{phase}" in scene.layer_names for phase in PHASES))


def _scattered(grid: Grid, side: int, *, whole: bool = True) -> Iterator[Slices]:
    """Windows of `side` pixels in an order that scatters them over the grid and is always the same.

    Full ones only (`whole`), or also those that the grid cuts.
    """
    rows, columns = (size // side if whole else -(-size // side) for size in grid.shape_yx)
    height, width = grid.shape_yx
    for number in np.random.default_rng(0).permutation(rows * columns).tolist():
        row, column = divmod(number, columns)
        yield (
            slice(row * side, min((row + 1) * side, height)),
            slice(column * side, min((column + 1) * side, width)),
        )


def _clear(block: Block) -> npt.NDArray[np.bool_]:
    """Where both images may have seen the ground (y, x); outside the area they may have, which their values say."""
    return np.asarray(np.isin(block.observed, (Observed.CLEAR, Observed.NO_TERRAIN, Observed.OUTSIDE)).all(axis=0))


def _gentle(slope_deg: FloatArray) -> npt.NDArray[np.bool_]:
    """Where the ground about a pixel is no steeper than `GENTLE_DEG` on average (y, x)."""
    mean = ndimage.uniform_filter(np.nan_to_num(slope_deg, nan=90.0), _SLOPE_PX, mode="nearest")
    return np.asarray(mean <= GENTLE_DEG)
