"""The experiments by name; a file of an experiment is imported when it is asked for."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from modeling.errors import DataError
from modeling.experiments.engine import Experiment

_MODULES = ("yang2024", "dong2024", "xu2022", "dfpenet", "xing2026", "generalisation")


def names() -> tuple[str, ...]:
    """The experiments that are there."""
    return tuple(name for name in _MODULES if find_spec(_path(name)) is not None)


def experiment(name: str) -> Experiment:
    """The experiment called `name`; raises `DataError` naming the ones there are."""
    if name not in names():
        raise DataError(f"unknown experiment {name!r}: choose one of {', '.join(names())}")
    found = import_module(_path(name)).EXPERIMENT
    if not isinstance(found, Experiment):
        raise TypeError(f"{_path(name)}.EXPERIMENT is a {type(found).__name__}")
    return found


def _path(name: str) -> str:
    return f"modeling.experiments.{name}"
