"""How an event's results are called in Earth Engine: known before anything is written, and to those who only clear up."""

from __future__ import annotations

from collections.abc import Mapping

from flows.layout import TABLES, asset_folder, asset_label
from flows.settings import Settings

CATEGORIES = {"probability": False, "mask": True, "observed": True}
"""Products that become images, each with one band of its own name, and whether their values are codes."""
VERSION = "version"
"""Property that a published asset has."""


def asset_containers(event_id: str, settings: Settings) -> Mapping[str, str]:
    """Image collections and the folder of tables, by what they hold."""
    folder = asset_folder(settings.earthengine.project, settings.earthengine.asset_root, event_id)
    return {name: f"{folder}/{name}" for name in (*CATEGORIES, TABLES)}


def asset_names(event_id: str, settings: Settings, run_key: str, digest: str) -> Mapping[str, str]:
    """Asset ids of one attempt at a run, by what they are."""
    label = asset_label(run_key, digest)
    return {name: f"{container}/{label}" for name, container in asset_containers(event_id, settings).items()}
