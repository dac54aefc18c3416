"""JSON files that are there as a whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modeling.errors import DataError

_LARGEST_BYTES = 1 << 28


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    partial.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises `DataError` when it is none."""
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise DataError(f"{path} has {path.stat().st_size} bytes: too large for what it should be")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}): delete it to have it made again") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} holds no JSON object: delete it to have it made again")
    return content
