"""Bands as spectra: distances between two images, and piecewise linear functions of a band."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from infra.local.earthengine.algorithms.registry import algorithm
from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.grid import Array
from infra.local.earthengine.image import Image, leading
from infra.local.earthengine.pixeltype import DOUBLE
from infra.local.earthengine.raster import Pointwise


def squared_euclidean(a: Array, b: Array) -> Array:
    """Sum of squared differences over the first axis."""
    return np.asarray(((a - b) ** 2).sum(axis=0))


def angle(a: Array, b: Array) -> Array:
    """Angle between two spectra in radians (Kruse et al. 1993, doi:10.1016/0034-4257(93)90013-N, eq. 1)."""
    norm = np.sqrt((a * a).sum(axis=0) * (b * b).sum(axis=0))
    return np.asarray(np.arccos(np.clip((a * b).sum(axis=0) / norm, -1, 1)))


def divergence(a: Array, b: Array) -> Array:
    """Spectral information divergence (Chang 2000, doi:10.1109/18.857802): relative entropies both ways."""
    p, q = a / a.sum(axis=0), b / b.sum(axis=0)
    return np.asarray(((p - q) * (np.log(p) - np.log(q))).sum(axis=0))


METRICS: dict[str, Callable[[Array, Array], Array]] = {"sed": squared_euclidean, "sam": angle, "sid": divergence}
"""Distances by Earth Engine's names; the earth mover's distance is not known here."""


@algorithm("Image.spectralDistance")
def spectral_distance(image1: Image, image2: Image, metric: str = "sam") -> Image:
    """Distance of the spectra of two images of as many bands, band `distance`; masked where any band is."""
    if metric not in METRICS:
        raise ArgumentError(
            f"Image.spectralDistance: The metric '{metric}' is not known to the local stand-in; use {', '.join(METRICS)}."
        )
    count = len(image1.bands)
    if not count or count != len(image2.bands):
        raise ArgumentError(f"Image.spectralDistance: The images have {count} and {len(image2.bands)} bands.")

    def compute(*values: Array) -> Array:
        spectra = np.stack([v.astype("float64") for v in values])
        return METRICS[metric](spectra[:count], spectra[count:])

    bands = (*image1.bands, *image2.bands)
    node = Pointwise(tuple(b.node for b in bands), compute, DOUBLE, nan_is_masked=True)
    return image1.with_bands([replace(leading(*bands), id="distance", node=node, type=DOUBLE)])


BEYOND = ("extrapolate", "clamp", "mask", "input")


@algorithm("Image.interpolate")
def interpolate(image: Image, x: list[float], y: list[float], behavior: str = "extrapolate") -> Image:
    """The first band through a piecewise linear function of points (x, y), whose x grow."""
    if behavior not in BEYOND:
        raise ArgumentError(f"Image.interpolate: behavior must be one of {', '.join(BEYOND)}, got '{behavior}'.")
    xs, ys = np.asarray(x, "float64"), np.asarray(y, "float64")
    if len(xs) < 2 or len(xs) != len(ys) or (np.diff(xs) <= 0).any():
        raise ArgumentError("Image.interpolate: Two points or more are needed, with x strictly increasing.")

    def compute(values: Array) -> Array:
        found: Array = np.asarray(np.interp(values, xs, ys))
        below, above = values < xs[0], values > xs[-1]
        if behavior == "mask":
            return np.where(below | above, np.nan, found)
        if behavior == "input":
            return np.where(below | above, values, found)
        if behavior == "extrapolate":
            first, last = (ys[1] - ys[0]) / (xs[1] - xs[0]), (ys[-1] - ys[-2]) / (xs[-1] - xs[-2])
            found = np.where(below, ys[0] + (values - xs[0]) * first, found)
            found = np.where(above, ys[-1] + (values - xs[-1]) * last, found)
        return found

    band = image.bands[0]
    node = Pointwise((band.node,), compute, DOUBLE, nan_is_masked=True)
    return image.with_bands([replace(band, node=node, type=DOUBLE)])
