"""Fingerprints as files: `<model>.sample.safetensors` beside the weights, its sha256 on the model's card.

Nothing in the file runs; sizes are capped before anything is read, and what does not fit together is refused.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from modeling.domains.fingerprint import Fingerprint, Reference
from modeling.errors import DataError, WeightsError
from modeling.weights_header import read_metadata

SUFFIX = ".sample.safetensors"
CARD_KEY = "sample"
"""Where a model's card says what its fingerprint is."""
_LARGEST_BYTES = 16 << 20
_FORMAT = "1"


def sample_path(weights: Path) -> Path:
    """Where the fingerprint of the model with these weights lies."""
    return weights.with_name(f"{weights.stem}{SUFFIX}")


def save_fingerprint(fingerprint: Fingerprint, path: Path) -> str:
    """Write a fingerprint, complete or not at all; returns the file's sha256."""
    blob = _packed(fingerprint)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(blob)
    partial.replace(path)
    return hashlib.sha256(blob).hexdigest()


def load_fingerprint(path: Path, sha256: str | None = None) -> Fingerprint:
    """Read a fingerprint. Raises `WeightsError` when it is missing, damaged, or has not the `sha256` that is stated."""
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise WeightsError(f"{path} has {path.stat().st_size} bytes: too large for a sample of training ground")
        blob = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"cannot read the sample {path}: {error.strerror}") from error
    digest = hashlib.sha256(blob).hexdigest()
    if sha256 is not None and digest != sha256:
        raise WeightsError(f"{path} was changed or damaged: its sha256 is {digest}, the model's card states {sha256}")
    try:
        return _unpacked(blob)
    except (SafetensorError, DataError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path} is not a sample of training ground: {error}") from error


def card_entry(fingerprint: Fingerprint, sha256: str) -> dict[str, Any]:
    """What a model's card says of its fingerprint."""
    return {
        "sha256": sha256,
        "rows": len(fingerprint),
        "seed": fingerprint.seed,
        "about": fingerprint.about,
        "pieces": 0 if fingerprint.reference is None else len(fingerprint.reference.bands),
    }


def _packed(fingerprint: Fingerprint) -> bytes:
    domains = list(dict.fromkeys(fingerprint.domains))
    arrays: dict[str, npt.NDArray[Any]] = {
        "values": np.ascontiguousarray(fingerprint.values),
        "groups": np.ascontiguousarray(fingerprint.groups),
        "domain_of_group": np.array([domains.index(name) for name in fingerprint.domains], np.int32),
    }
    if fingerprint.reference is not None:
        arrays["reference"] = np.ascontiguousarray(fingerprint.reference.bands)
    about = {
        "format": _FORMAT,
        "channels": list(fingerprint.channels),
        "domains": domains,
        "known": fingerprint.known,
        "seed": fingerprint.seed,
        "about": fingerprint.about,
        "simulated": fingerprint.simulated,
    }
    return bytes(save(arrays, {"fingerprint": json.dumps(about, allow_nan=False)}))


def _unpacked(blob: bytes) -> Fingerprint:
    arrays = load(blob)
    about = json.loads(read_metadata(io.BytesIO(blob))["fingerprint"])
    if about["format"] != _FORMAT:
        raise ValueError(f"its format is {about['format']!r}, this program reads {_FORMAT}")
    domains = [str(name) for name in about["domains"]]
    of_group = _array(arrays, "domain_of_group", np.int32, 1)
    if of_group.size and not 0 <= of_group.min() <= of_group.max() < len(domains):
        raise ValueError("a group has no domain")
    reference = None
    if "reference" in arrays:
        reference = Reference(_array(arrays, "reference", np.float32, 2))
        if not len(reference.bands) or not np.isfinite(reference.bands).all():
            raise ValueError("its reference is empty or not finite")
    known = float(about["known"])
    if not (math.isfinite(known) and isinstance(about["simulated"], bool)):
        raise ValueError(f"known {known}, simulated {about['simulated']!r}")
    return Fingerprint(
        channels=tuple(str(name) for name in about["channels"]),
        values=_array(arrays, "values", np.float32, 2),
        groups=_array(arrays, "groups", np.int32, 1),
        domains=tuple(domains[number] for number in of_group.tolist()),
        known=known,
        seed=int(about["seed"]),
        about=str(about["about"]),
        simulated=about["simulated"],
        reference=reference,
    )


def _array(arrays: Mapping[str, npt.NDArray[Any]], name: str, kind: type, axes: int) -> npt.NDArray[Any]:
    array = arrays[name]
    if array.dtype != np.dtype(kind) or array.ndim != axes:
        raise ValueError(f"{name} is {array.dtype} with {array.ndim} axes")
    return array
