"""What differs between one scene and the next, and between simulated and real ones: light, air, snow, gaps, alignment.

Works on reflectance and terrain in physical units, before channels such as NDVI are derived from them, so that they
stay consistent. Layers of other units (8-bit pictures) are only shifted and blurred.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from modeling.data.batches import IGNORE, ByteArray, FloatArray

_STRETCH = 2**20
VISIBLE = ("blue", "green", "red", "nir")
# How much of the haze over dark ground each band gets: Rayleigh scattering falls with the fourth power of wavelength,
# aerosol more slowly; these lie between the two.
_HAZE = {"blue": 1.0, "green": 0.7, "red": 0.5, "nir": 0.25}
_OPTICAL = re.compile(
    r"(?P<colour>blue|green|red|nir|swir1|swir2|b\d+)(?P<dn>(_planet)?_dn)?(_(?P<phase>pre|post))?", re.IGNORECASE
)
_SENTINEL2 = {"b2": "blue", "b3": "green", "b4": "red", "b8": "nir", "b11": "swir1", "b12": "swir2"}
"""What a number alone (`B4`) says: it is that of Sentinel-2, as in Landslide4Sense. A picture's (`b4_dn`) says nothing."""
_SENTINEL2_BANDS = 12
"""Landslide4Sense numbers slope and elevation on from there."""


@dataclass(frozen=True)
class Scene:
    """Sizes of the changes; each phase (pre, post) of each patch draws its own. A size of 0 turns a change off."""

    gain: float = 0.15
    """Standard deviation of the log gain common to a phase: illumination, calibration, topographic correction."""
    band_gain: float = 0.06
    """The same, for each band alone: vegetation state, sensor, atmosphere."""
    contrast: float = 0.2
    """Standard deviation of the log contrast about the patch mean."""
    haze: float = 0.02
    """Standard deviation of the haze in blue reflectance; other bands get less."""
    shading: float = 0.1
    """Standard deviation of a smooth log gain across the patch: thin cloud, uneven illumination."""
    noise: float = 0.004
    """Largest standard deviation of white noise in reflectance."""
    shift_px: float = 0.8
    """Largest shift of the image before the event against the one after, in pixels."""
    blur_px: float = 0.5
    """Largest standard deviation of a Gaussian blur, in pixels."""
    snow: float = 0.12
    """Share of phases that get white patches: snow, or cloud that the mask has missed."""
    gap: float = 0.2
    """Share of phases in which nothing is known beyond a swath edge, or under clouds."""
    terrain_noise_deg: float = 1.5
    """Largest standard deviation of smooth noise on the slope: other surface models."""

    @property
    def changes_scene(self) -> bool:
        """Whether any of these is turned on."""
        return any(getattr(self, size.name) for size in fields(Scene))


@dataclass(frozen=True)
class Optical:
    """What the name of an optical layer says."""

    colour: str
    """Such as `red`, or `b4` where nobody knows what the band of that number shows."""
    phase: str
    """`pre` or `post`; a data set of one date has only `post`."""
    reflectance: bool
    """Whether values are reflectance, and not a picture's numbers."""


@lru_cache(maxsize=256)
def optical(name: str) -> Optical | None:
    """Take a layer's name apart (`red_pre`, `red_dn_post`, `red_planet_dn`, `B4`); None where it is no image."""
    match = _OPTICAL.fullmatch(name)
    if match is None:
        return None
    colour, phase = match["colour"].lower(), match["phase"] or "post"
    if match["dn"] or not colour[1:].isdigit():
        return Optical(colour, phase, reflectance=not match["dn"])
    if int(colour[1:]) > _SENTINEL2_BANDS:
        return None
    return Optical(_SENTINEL2.get(colour, colour), phase, reflectance=False)


def change_scene(
    layers: dict[str, FloatArray], truth: ByteArray, rng: np.random.Generator, sizes: Scene
) -> dict[str, FloatArray]:
    """The layers (y, x) of one patch as another day would have shown them; marks in `truth` what cannot be seen then."""
    layers = dict(layers)
    kinds = {name: kind for name in layers if (kind := optical(name))}
    for phase in ("pre", "post"):
        images = [name for name, kind in kinds.items() if kind.phase == phase]
        if not images:
            continue
        # The truth lies on the grid of the image after the event: only the one before may move against it.
        shift_px = sizes.shift_px if phase == "pre" else 0.0
        if shift_px or sizes.blur_px:
            moved = _resample(np.stack([layers[name] for name in images]), rng, shift_px, sizes.blur_px)
            layers |= dict(zip(images, moved, strict=True))
        present = [band for band in VISIBLE if f"{band}_{phase}" in layers]
        if not present:
            continue
        stack = _radiometry(np.stack([layers[f"{band}_{phase}"] for band in present]), present, rng, sizes)
        if rng.random() < sizes.snow:
            hidden = _add_snow(stack, rng)
            if phase == "post":  # what is white is no landslide, and a landslide that it hides does not count
                truth[hidden & (truth == 1)] = IGNORE
        if rng.random() < sizes.gap:
            unseen = _half_plane(truth.shape, rng) if rng.random() < 0.5 else _holes(truth.shape, rng)
            stack[:, unseen] = np.nan
            truth[unseen] = IGNORE
        layers |= {f"{band}_{phase}": stack[index] for index, band in enumerate(present)}
    if "slope" in layers and sizes.terrain_noise_deg:
        roughness = rng.uniform(0, sizes.terrain_noise_deg)
        smooth = roughness * smooth_field(truth.shape, rng, cells=24)
        layers["slope"] = np.clip(layers["slope"] + smooth, 0, 90).astype(np.float32)
    return layers


def smooth_field(shape_yx: tuple[int, ...], rng: np.random.Generator, *, cells: int) -> FloatArray:
    """Smooth random field (y, x) of mean about 0 and standard deviation about 1, `cells` bumps across."""
    coarse = rng.standard_normal((cells + 3, cells + 3)).astype(np.float32)
    offset = rng.random(2)
    rows, columns = (np.arange(n, dtype=np.float32) / n * cells + o for n, o in zip(shape_yx, offset, strict=True))
    first = _interpolate(coarse, rows)
    second = _interpolate(np.ascontiguousarray(first.T), columns)
    field: FloatArray = np.float32(1.5) * np.ascontiguousarray(second.T)
    return field


def _interpolate(coarse: FloatArray, at: FloatArray) -> FloatArray:
    """Rows of `coarse` at fractional positions, smoothstep between them."""
    lower = at.astype(np.int64)
    t = at - lower
    t = (t * t * (3 - 2 * t))[:, None]
    between: FloatArray = coarse[lower] * (1 - t) + coarse[lower + 1] * t
    return between


def _resample(stack: FloatArray, rng: np.random.Generator, shift_px: float, blur_px: float) -> FloatArray:
    """Shift by a part of a pixel and blur, as two images of two orbits differ."""
    shift = rng.uniform(-shift_px, shift_px, 2)
    sigma = rng.uniform(0, blur_px)
    kernels = []
    width = math.hypot(sigma, 0.35)
    for offset in shift:
        reach = math.ceil(abs(offset) + 3 * width)
        at = np.arange(-reach, reach + 1) - offset
        kernel = np.exp(-0.5 * (at / width) ** 2)
        kernels.append((kernel / kernel.sum()).astype(np.float32))

    def filtered(array: FloatArray) -> FloatArray:
        rows = ndimage.correlate1d(array, kernels[0], axis=1, mode="nearest")
        both: FloatArray = ndimage.correlate1d(rows, kernels[1], axis=2, mode="nearest")
        return both

    known = np.isfinite(stack)
    if known.all():
        return filtered(stack)
    # Unknown pixels stay unknown and lend nothing to their neighbours.
    own = known[:1] if (known == known[:1]).all() else known  # the bands of an image mostly end together
    weight = filtered(own.astype(np.float32))
    mixed = filtered(np.where(known, stack, np.float32(0)))
    return np.where(known, mixed / np.maximum(weight, np.float32(1e-3)), np.float32(np.nan))


def _radiometry(stack: FloatArray, present: list[str], rng: np.random.Generator, sizes: Scene) -> FloatArray:
    """Gain, contrast, haze, shading and noise of one phase; reflectance stays at or above 0."""
    if not any((sizes.gain, sizes.band_gain, sizes.contrast, sizes.haze, sizes.shading, sizes.noise)):
        return stack
    count = len(present)
    gain = np.exp(rng.normal(0, sizes.gain) + rng.normal(0, sizes.band_gain, count))
    contrast = np.exp(rng.normal(0, sizes.contrast))
    haze = rng.normal(0, sizes.haze) * np.array([_HAZE[band] for band in present])
    known = np.isfinite(stack)
    mean = np.where(known, stack, 0).sum(axis=(1, 2)) / np.maximum(known.sum(axis=(1, 2)), 1)
    scale = (gain * contrast).astype(np.float32)[:, None, None]
    offset = (gain * mean * (1 - contrast) + haze).astype(np.float32)[:, None, None]
    out = stack * scale + offset
    size = stack.shape[1:]
    out *= np.exp(rng.uniform(0, sizes.shading) * smooth_field(size, rng, cells=3))
    out += rng.uniform(0, sizes.noise) * _white(out.shape, rng)
    possible: FloatArray = np.maximum(out, 0.0).astype(np.float32)
    return possible


def _white(shape: tuple[int, ...], rng: np.random.Generator) -> FloatArray:
    """White noise of standard deviation 1: a piece from anywhere in a long stretch of it, much quicker than new noise."""
    size = math.prod(shape)
    stretch = _noise(max(_STRETCH, 1 << (2 * size - 1).bit_length()))
    first = int(rng.integers(len(stretch) - size + 1))
    return stretch[first : first + size].reshape(shape)


@lru_cache(maxsize=4)
def _noise(count: int) -> FloatArray:
    return np.random.default_rng(count).standard_normal(count, dtype=np.float32)


def _add_snow(stack: FloatArray, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """White smooth-edged patches in all bands, in place; returns where they hide the ground."""
    shape = stack.shape[1:]
    field = smooth_field(shape, rng, cells=int(rng.integers(6, 40)))
    cover = np.clip((field - rng.uniform(0.8, 2.0)) * 2 + 0.5, 0, 1)
    bright = rng.uniform(0.25, 0.8) * (1 + 0.1 * smooth_field(shape, rng, cells=30))
    stack += cover * (bright - stack)
    return np.asarray(cover > 0.3)


def _holes(shape_yx: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    field = smooth_field(shape_yx, rng, cells=int(rng.integers(2, 12)))
    return np.asarray(field < np.quantile(field, rng.uniform(0.05, 0.7)))


def _half_plane(shape_yx: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    y, x = (np.arange(n) / n - 0.5 for n in shape_yx)
    angle, distance = rng.uniform(0, 2 * math.pi), rng.uniform(0.0, 0.45)
    return np.asarray(y[:, None] * math.sin(angle) + x[None, :] * math.cos(angle) > distance)
