"""A scene's mean light in the place of the training ground's: half of the way between them, before the network sees it.

Season, sun and soil move all of a scene's colours together, and what a network learned of "green" and "bright" moves with
them. So the mean of each channel of light (reflectance, NDVI) is moved towards that of the training ground, as relative
radiometric normalisation does between two dates, by a share of the distance: with all of it a scene of bare rock becomes a
meadow. It is adaptive batch normalisation (Li et al. 2018) of the input alone, shrunk as Schneider et al. 2020 shrink it;
the network's own statistics stay, and those of terrain as well. Nothing is trained and no label is read: one pass over the
scene, and the shift lies in the model's normalisation, so that whatever maps with a model maps with this one.
Standard deviations are left alone: a cloud that the mask has missed decides them.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from modeling.adaptation.ensemble import Ensemble
from modeling.adaptation.result import KEPT_CALIBRATION, adapted, copied
from modeling.bands import BandSet
from modeling.data.augment_scene import optical
from modeling.data.batches import Block, Blocks
from modeling.data.normalise import Normalisation
from modeling.errors import DataError
from modeling.model import LandslideModel

SHARE = 0.5
"""Of the way from the scene's mean to that of the training ground."""
LEAST_PIXELS = 1000
"""Of fewer known pixels the mean says nothing of a scene: the channel stays as it is."""

DoubleArray = npt.NDArray[np.float64]


def of_light(channel: str) -> bool:
    """Whether a channel changes with sun, air and season: an image's band or its NDVI, not terrain."""
    return optical(channel) is not None or channel.startswith("ndvi")


def match_scene(model: LandslideModel, scene: Blocks, *, share: float = SHARE) -> LandslideModel:
    """A copy of `model` for one scene, whose means of light it takes for `share` of the way to those it was trained with.

    `scene` are blocks with the model's channels in physical units, of which nothing but the channels is read; memory is
    bounded by one of them. Of an ensemble each member is matched. Raises `DataError` for a share outside [0, 1] and for
    blocks of other channels. Of a scene of which nothing is known the model comes back with no shift. The copy lies on the CPU,
    like that of every way of adapting.
    """
    if not 0 <= share <= 1:
        raise DataError(f"a share of {share} of the way to the training ground's means: it lies between 0 and 1")
    begun = time.monotonic()
    return _matched(model, scene_means(scene, model.bands), share, time.monotonic() - begun)


def match_instead(model: LandslideModel, held: Blocks, scene: Blocks, *, share: float) -> LandslideModel:
    """A copy of `model`, which holds the means of `held` by `share`, that holds those of `scene` in their place.

    For networks that were trained on after `match_scene`, whose training ground nobody has at hand: the shift is
    `share` x (scene - training ground), so the two differ by `share` x (scene - held). No ensembles.
    """
    between = scene_means(scene, model.bands) - scene_means(held, model.bands)
    light = np.array([of_light(channel) for channel in model.channels])
    move = np.where(light & np.isfinite(between), share * between, 0.0)
    offset = tuple(float(each) for each in np.asarray(model.normalisation.offset) + move)
    return replace(model, normalisation=replace(model.normalisation, offset=offset))


def scene_means(scene: Blocks, bands: BandSet) -> DoubleArray:
    """The mean of each channel (channel,) over all known pixels, NaN where fewer than `LEAST_PIXELS` are known."""
    total, known = np.zeros(len(bands.channels)), np.zeros(len(bands.channels), np.int64)
    for block in scene:
        sums, counts = _sums(block, bands)
        total += sums
        known += counts
    return np.where(known >= LEAST_PIXELS, total / np.maximum(known, 1), np.nan)


def _matched(model: LandslideModel, means: DoubleArray, share: float, seconds: float) -> LandslideModel:
    if isinstance(model, Ensemble):
        seen = zip(model.members, model.seen_by(), strict=True)
        members = tuple(_matched(member, means[channels], share, seconds) for member, channels in seen)
        return replace(model, name=f"{model.name}-scene-means", members=members)
    before = model.normalisation
    move = _shift(before, model.bands, means, share)
    offset = tuple(float(each) for each in np.asarray(before.offset) + move)
    return adapted(
        model,
        copied(model),
        method="scene means",
        settings={"share": share},
        data={"shift": {name: round(float(each), 6) for name, each in zip(model.channels, move, strict=True)}},
        seconds=seconds,
        calibration=KEPT_CALIBRATION,
        suffix="scene-means",
        normalisation=replace(before, offset=offset),
    )


def _shift(normalisation: Normalisation, bands: BandSet, means: DoubleArray, share: float) -> DoubleArray:
    """What each channel's offset moves by, physical units (channel,): 0 for terrain and for what is not known."""
    trained = np.asarray(normalisation.offset) + np.asarray(normalisation.fill) * np.asarray(normalisation.scale)
    light = np.array([of_light(channel) for channel in bands.channels])
    return np.where(light & np.isfinite(means), share * (means - trained), 0.0)


def _sums(block: Block, bands: BandSet) -> tuple[DoubleArray, npt.NDArray[np.int64]]:
    if len(block.channels) != len(bands.channels):
        raise DataError(
            f"block {block.name} has {len(block.channels)} channels, not {len(bands.channels)}: {', '.join(bands.channels)}"
        )
    flat = block.channels.reshape(len(block.channels), -1)
    return np.nansum(flat, axis=1, dtype=np.float64), np.isfinite(flat).sum(axis=1)
