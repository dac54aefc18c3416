"""Band sets as data: which layers a network sees, in which order, and how each is derived.

A *layer* is a two-dimensional array in physical units (reflectance in [0, 1], slope in degrees, hillshade in [0, 255]).
The cube and the user's rasters hold layers; a band set names the channels of a network's input and what they need.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from modeling.errors import BandSetError

FloatArray = npt.NDArray[np.float32]

_MOST_CHANNELS = 1024
_NDVI = {"ndvi_pre": ("nir_pre", "red_pre"), "ndvi_post": ("nir_post", "red_post")}


@dataclass(frozen=True)
class BandSet:
    """An ordered set of network input channels."""

    name: str
    """The name a model states and a user types."""
    channels: tuple[str, ...]
    """Channel names, in the network's order."""
    about: str
    """Where the set comes from, for help texts and model cards."""

    @property
    def requires(self) -> tuple[str, ...]:
        """The layers that must exist for this set, without duplicates."""
        wanted = [name for channel in self.channels for name in _NDVI.get(channel, (channel,))]
        return tuple(dict.fromkeys(wanted))

    def missing_from(self, layers: Iterable[str]) -> tuple[str, ...]:
        """The required layers that are not among `layers`."""
        have = set(layers)
        return tuple(name for name in self.requires if name not in have)

    def to_json(self) -> dict[str, Any]:
        """Plain values for the header of a model's weights."""
        return {"name": self.name, "channels": list(self.channels), "about": self.about}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> BandSet:
        """The inverse of `to_json`; raises `BandSetError` when fields are missing or a channel is named twice.

        A stored set that has the name of one of `BAND_SETS` must have its channels as well.
        """
        try:
            name, channels, about = stored["name"], stored["channels"], stored["about"]
            if not (isinstance(name, str) and isinstance(channels, list) and isinstance(about, str)):
                raise TypeError("a name, a list of channels and words about them are expected")
            made = cls(name, tuple(map(_channel_name, channels)), about)
        except (KeyError, TypeError) as error:
            raise BandSetError(f"the stored band set cannot be read: {error!r}") from error
        if not 1 <= len(set(made.channels)) == len(made.channels) <= _MOST_CHANNELS:
            raise BandSetError(f"the stored band set {made.name!r} has no channels, too many, or one of them twice")
        if made.name in BAND_SETS and BAND_SETS[made.name].channels != made.channels:
            known = ", ".join(BAND_SETS[made.name].channels)
            raise BandSetError(
                f"the stored band set {made.name!r} has the channels {', '.join(made.channels)}, not {known}"
            )
        return made


BAND_SETS: Mapping[str, BandSet] = {
    band_set.name: band_set
    for band_set in (
        BandSet(
            "ten-band",
            (
                "slope", "hillshade",
                "red_pre", "green_pre", "blue_pre", "ndvi_pre",
                "red_post", "green_post", "blue_post", "ndvi_post",
            ),
            "slope, hillshade, then red, green, blue and NDVI before and after (Yang et al. 2024)",
        ),
        BandSet(
            "rgb-terrain",
            ("slope", "hillshade", "red_pre", "green_pre", "blue_pre", "red_post", "green_post", "blue_post"),
            "slope, hillshade, and red, green, blue before and after: for pairs without near infrared",
        ),
        BandSet(
            "rgb",
            ("red_post", "green_post", "blue_post"),
            "red, green, blue after the event only (Dong et al. 2024)",
        ),
    )
}  # fmt: skip


def band_set(name: str) -> BandSet:
    """The band set called `name`; raises `BandSetError` naming the ones there are."""
    try:
        return BAND_SETS[name]
    except KeyError:
        raise BandSetError(f"unknown band set {name!r}: choose one of {', '.join(BAND_SETS)}") from None


def assemble(wanted: BandSet, layers: Mapping[str, FloatArray], out: FloatArray | None = None) -> FloatArray:
    """Stack `layers` (each (y, x), physical units, NaN where unknown) into float32 (channel, y, x).

    NDVI = (nir - red) / (nir + red), zero where both are zero. Raises `BandSetError` when a layer is missing.
    """
    if missing := wanted.missing_from(layers):
        raise BandSetError(f"band set {wanted.name!r} needs the layers {', '.join(missing)}, which are not there")
    if out is None:
        out = np.empty((len(wanted.channels), *layers[wanted.requires[0]].shape), np.float32)
    for channel, name in zip(out, wanted.channels, strict=True):
        channel[...] = _channel(name, layers)
    return out


def _channel_name(stored: object) -> str:
    if not isinstance(stored, str) or not stored:
        raise TypeError(f"{stored!r} is not a channel's name")
    return stored


def _channel(name: str, layers: Mapping[str, FloatArray]) -> FloatArray:
    if name not in _NDVI:
        return layers[name]
    nir, red = (layers[layer].astype(np.float32, copy=False) for layer in _NDVI[name])
    total = nir + red
    # By infinity where there is no light: zero, and NaN where a layer is NaN; a masked division takes four times as long.
    divisor = np.where(total > 0, total, np.float32(np.inf)).astype(np.float32, copy=False)
    return (nir - red) / divisor
