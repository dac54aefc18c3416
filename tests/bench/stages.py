"""The stages, in the order in which they run: name -> module of this package."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from .cases import BenchError, Stage

STAGES = {
    "zarr": "engines",
    "layout": "layout",
    "pull": "pull",
    "clients": "clients",
    "memory": "memory",
    "cog": "cog",
    "vectors": "vectors",
    "training": "training",
    "inference": "inference",
    "scene-memory": "scene_memory",
    "scaling": "scaling",
}


def load(name: str) -> Stage:
    """The stage called `name`; raises `BenchError` when something that it compares with is not installed."""
    try:
        return cast(Stage, import_module(f".{STAGES[name]}", __package__))
    except ModuleNotFoundError as error:
        raise BenchError(
            f"{error}: install what is compared with, `pip install -c constraints.txt -e .[bench]`"
        ) from error
