"""Networks for one scene: with its means of light moved towards those of the training ground, where the settings say so."""

from __future__ import annotations

from dataclasses import replace

from flows.progress import report
from flows.scene import Scene
from flows.scene_blocks import SceneBlocks
from modeling.adaptation.scene_means import match_instead, match_scene
from modeling.model import LandslideModel

WINDOWS = 64
"""So many windows of a scene, evenly spread, tell its means."""
SETTING = "model.scene_means"
"""The share, as a version's provenance names it."""


def on_scene_means(model: LandslideModel, scene: Scene, share: float) -> LandslideModel:
    """`model` as it maps `scene` with this setting: under its own name and hash, with the scene's normalisation.

    With a share of 0 the model itself. Reads `WINDOWS` windows. Raises `DataError` for a share outside [0, 1].
    """
    if share == 0:
        return model
    report("look at the scene's light", 0, 1)
    made = match_scene(model, SceneBlocks(scene, model.bands, WINDOWS), share=share)
    report("look at the scene's light", 1, 1)
    return replace(made, name=model.name, weights_hash=model.weights_hash, card=model.card)


def on_means_instead(model: LandslideModel, held: Scene, scene: Scene, share: float) -> LandslideModel:
    """`model`, which was adapted on the means of light of the scene `held`, as it maps another one of the same ground.

    With a share of 0 the model itself. Reads `WINDOWS` windows of each.
    """
    if share == 0:
        return model
    held_blocks, blocks = (SceneBlocks(each, model.bands, WINDOWS) for each in (held, scene))
    return match_instead(model, held_blocks, blocks, share=share)
