"""Which network maps a scene, of those that can: chosen without labels, and what is said of the choice.

Before a scene is pulled only its layers are known; which of the models that they allow is best is decided when its
values are there, from windows spread over it: by their own maps of these where there are four, by distance else.
The same scene and the same models always give the same choice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from flows.choice import BandDistance, Candidate, Selection
from flows.layout import short_hash
from flows.mapping import seen, windows
from flows.progress import report
from flows.scene import FloatArray, Scene, Slices
from flows.scene_blocks import SceneBlocks
from flows.scene_means import on_scene_means
from flows.settings import ModelSettings
from gee.types import Observed
from modeling.bands import BandSet
from modeling.domains.fingerprint import Fingerprint, fingerprint_of_scene
from modeling.domains.own_maps import OwnMap, own_maps
from modeling.domains.select import FEWEST_VOTES, NEAREST, VOTED, Ranked, chosen, rank, rivals
from modeling.domains.zoo import LeftOut, Zoo, ZooModel, named_model, open_zoo
from modeling.errors import BandSetError, DataError
from modeling.model import WEIGHTS_FOLDER, choose_model

AUTO = "auto"
"""The setting by which the program chooses."""
MAPPED_WINDOWS = 8
"""So many windows of a scene are mapped by every model that may be chosen, so that their maps can be compared."""


def zoo_of(settings: ModelSettings) -> Zoo:
    """The models to choose from: all there are, or the one that the settings name."""
    if settings.weights != AUTO:
        return Zoo((named_model(settings.weights),))
    return open_zoo([Path(folder) for folder in settings.zoo])


def expected(zoo: Zoo, layers: Iterable[str]) -> tuple[ZooModel, str]:
    """What is known before a scene is: the likely model, and a hash of all models among which will be chosen.

    With one model, the hash is that of its weights. Raises `BandSetError` when no model can use these layers.
    """
    names = tuple(layers)
    if len(zoo.models) == 1:
        (only,) = zoo.models
        if missing := only.bands.missing_from(names):
            raise BandSetError(f"the model {only.name} needs the layers {', '.join(missing)}, which are not there")
        return only, only.weights_hash
    channels = channels_of(zoo.models, names)
    ranked = rank(zoo.models, channels)
    if not any(one.usable for one in ranked):
        choose_model(names)
    likely = chosen(ranked).model
    allowed = [one.model for one in ranked if one.usable]
    # Only these can be chosen: another model in the folder does not make another run.
    richest = [one for one in allowed if len(one.bands.requires) == len(likely.bands.requires)]
    if len(richest) == 1 and likely.fingerprint is not None:
        return likely, likely.weights_hash
    return likely, short_hash(sorted((one.name, one.weights_hash) for one in allowed))


def may_map(zoo: Zoo, likely: ZooModel, layers: Iterable[str]) -> list[ZooModel]:
    """The models one of which will be chosen for a scene of these layers, where `likely` is `expected`."""
    names = tuple(layers)
    return [
        one
        for one in zoo.models
        if not one.bands.missing_from(names) and len(one.bands.requires) == len(likely.bands.requires)
    ]


def channels_of(models: Sequence[ZooModel], layers: Sequence[str]) -> tuple[str, ...]:
    """The channels of any of these models that can be made of `layers`."""
    everything = dict.fromkeys(channel for model in models for channel in model.bands.channels)
    return tuple(name for name in everything if not BandSet(name, (name,), "").missing_from(layers))


def scene_fingerprint(
    scene: Scene, channels: Sequence[str], *, seed: int = 0, told: Callable[[int, int], None] | None = None
) -> Fingerprint:
    """The fingerprint of a scene, of pixels that were observed. Raises `DataError` when there are hardly any."""
    wanted = BandSet("compared", tuple(channels), "")

    def read(window: Slices) -> Mapping[str, FloatArray]:
        block = scene.read_tile(*window, layers=wanted.requires)
        hidden = seen(block, wanted) != Observed.CLEAR
        return {name: np.where(hidden, np.float32(np.nan), block.layers[name]) for name in wanted.requires}

    return fingerprint_of_scene(read, list(windows(scene.grid)), wanted.channels, seed=seed, told=told)


def scene_maps(scene: Scene, models: Sequence[ZooModel], scene_means: float = 0.0) -> Mapping[str, OwnMap]:
    """What the models' own maps of a few windows of a scene say of them; empty where nothing of these was seen.

    Each maps as it would map the scene, by the setting `scene_means`.

    All models are in memory at once. Raises `WeightsError` for weights that cannot be loaded.
    """
    channels = dict.fromkeys(name for one in models for name in one.bands.channels)
    voices = {one.name: one.voice for one in models}
    ground = SceneBlocks(scene, BandSet("compared", tuple(channels), ""), MAPPED_WINDOWS)
    loaded = [replace(on_scene_means(one.load(), scene, scene_means), name=one.name) for one in models]
    try:
        return own_maps(
            loaded, ground, ground.bands.channels, voices=voices,
            told=lambda done: report("map with each model", done, len(ground)),
        )  # fmt: skip
    except DataError:
        return {}


def select_model(
    scene: Scene, zoo: Zoo, *, automatic: bool, signal: str | None = None, scene_means: float = 0.0
) -> Selection:
    """Rank the models of `zoo` for `scene` and choose the best, by `signal` or by what suits their number.

    Reads a few windows; where four models or more can be chosen, each maps some. Where nothing was observed the channels
    and the validation scores decide. Raises `BandSetError` when no model can use the scene's layers.
    """
    channels = channels_of(zoo.models, scene.layer_names)
    candidates = rivals(zoo.models, channels)
    signal = signal or (VOTED if len(candidates) >= FEWEST_VOTES else NEAREST)
    maps: Mapping[str, OwnMap] = {}
    try:
        found = scene_fingerprint(scene, channels, told=lambda done, total: report("compare with models", done, total))
    except DataError:
        signal = NEAREST  # no map to vote on
        ranked, pixels, known = rank(zoo.models, channels, by=signal), 0, 0.0
    else:
        if signal == VOTED and len(candidates) > 1:
            maps = scene_maps(scene, candidates, scene_means)
            signal = VOTED if maps else NEAREST
        ranked, pixels, known = rank(zoo.models, found, by=signal, own_maps=maps), len(found), found.known
    best = chosen(ranked).model
    return Selection(
        chosen=best.name,
        weights_hash=best.weights_hash,
        automatic=automatic,
        signal=signal,
        candidates=tuple(_candidate(one) for one in ranked),
        left_out=tuple(_left_out(one) for one in zoo.left_out),
        pixels=pixels,
        known=known,
    )


def model_of(selection: Selection, zoo: Zoo) -> ZooModel:
    """The chosen model; raises `DataError` when it is not the one that was compared any more."""
    for model in zoo.models:
        if model.name == selection.chosen and model.weights_hash == selection.weights_hash:
            return model
    raise DataError(f"the model {selection.chosen} has changed since it was chosen: run again")


def weights_named(model: ZooModel) -> str:
    """The name of a model that ships, the path of any other: what `load_model` takes."""
    return model.name if model.path is None or model.path.parent == WEIGHTS_FOLDER else str(model.path)


def write_selection(scene: Scene, settings: ModelSettings, path: Path) -> None:
    """Choose the model for `scene` into the JSON file `path`."""
    found = select_model(scene, zoo_of(settings), automatic=settings.weights == AUTO, scene_means=settings.scene_means)
    path.write_text(found.to_json())


def _left_out(one: LeftOut) -> str:
    return f"{one.name}: {one.reason}"


def _candidate(one: Ranked) -> Candidate:
    score, found, held = one.model.validation_f1, one.distances, one.novelty
    return Candidate(
        name=one.model.name,
        weights_hash=one.model.weights_hash,
        band_set=one.model.bands.name,
        missing=one.missing,
        limit=None if held is None else held.threshold,
        disagreement=None if math.isnan(one.signals[VOTED]) else one.signals[VOTED],
        p_value=None if held is None else held.p_value,
        novel=None if held is None else held.novel,
        far_bands=() if held is None else held.far_bands,
        validation_f1=None if math.isnan(score) else score,
        reasons=one.reasons,
        mean=None if found is None else BandDistance(found.mean, *found.mean_interval()),
        joint=None if found is None else BandDistance(found.joint.squared, *found.joint.interval()),
        bands=None
        if found is None
        else {name: BandDistance(band.squared, *band.interval()) for name, band in found.bands.items()},
    )
