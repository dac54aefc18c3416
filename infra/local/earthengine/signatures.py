"""The signatures of Earth Engine's algorithms, as the installed client knows them.

The `earthengine-api` wheel carries the list that the service answers at `/algorithms` (for the client's own tests).
It is served to clients as it is, and tells the arguments' names, types and defaults here. `ee` itself is not imported.
"""

from __future__ import annotations

import functools
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Argument:
    """One argument of an algorithm."""

    name: str
    """As in the expression."""
    type: str
    """For example `Image`, `List<String>`, `Object`."""
    optional: bool
    """Whether it may be absent."""
    default: Any
    """Its value when absent, as plain JSON."""


@dataclass(frozen=True)
class Signature:
    """One algorithm."""

    name: str
    """For example `Image.add`."""
    arguments: tuple[Argument, ...]
    """In order."""


@functools.cache
def listing() -> dict[str, Any]:
    """The body of the answer to `GET /algorithms`."""
    spec = importlib.util.find_spec("ee")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    for folder in folders:
        path = Path(folder) / "tests" / "algorithms.json"
        if path.is_file():
            loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return loaded
    raise RuntimeError(
        "The list of Earth Engine's algorithms was not found: install earthengine-api with its ee/tests/algorithms.json."
    )


@functools.cache
def signatures() -> dict[str, Signature]:
    """Every algorithm's signature by its name."""
    found = {}
    for entry in listing()["algorithms"]:
        name = entry["name"].removeprefix("algorithms/")
        arguments = tuple(
            Argument(
                a["argumentName"],
                a["type"].replace("<unknown bands>", ""),
                bool(a.get("optional", False)),
                a.get("defaultValue"),
            )
            for a in entry.get("arguments", ())
        )
        found[name] = Signature(name, arguments)
    return found
