"""What the header of a weights file says besides its tensors: the channels of the network's input and their normalisation.

Weights mean something only with the values they were learnt on, so the two lie in one file, as text that is only parsed.
They are one entry of the metadata: safetensors writes several in an order that changes from process to process.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors.torch import save

from modeling.bands import BandSet
from modeling.data.normalise import Normalisation
from modeling.errors import BandSetError, WeightsError

INPUT_KEY = "input"
"""The entry of the metadata: a JSON object of `bands` and `normalisation`."""
_LARGEST_HEADER_BYTES = 4 << 20


def packed(tensors: Mapping[str, torch.Tensor], bands: BandSet, normalisation: Normalisation) -> bytes:
    """A weights file; of equal parts the same bytes."""
    stated = json.dumps({"bands": bands.to_json(), "normalisation": normalisation.to_json()}, allow_nan=False)
    return bytes(save(dict(tensors), {INPUT_KEY: stated}))


def read_input(file: BinaryIO, path: Path) -> tuple[BandSet, Normalisation]:
    """The channels and the normalisation that the header of a weights file states; `path` is for messages.

    Only the header is read. Raises `WeightsError` when it lacks them, or they are damaged or do not fit together.
    """
    try:
        stated = read_metadata(file).get(INPUT_KEY)
        about = None if stated is None else json.loads(stated)
        if about is None:
            raise WeightsError("its header states neither channels nor normalisation")
        bands, normalisation = BandSet.from_json(about["bands"]), Normalisation.from_json(about["normalisation"])
    except (BandSetError, WeightsError) as error:
        raise WeightsError(f"{path}: {error}: {_REMEDY}") from error
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        what = f"its header's channels and normalisation cannot be read ({type(error).__name__}: {error})"
        raise WeightsError(f"{path}: {what}: {_REMEDY}") from error
    if (fitted := len(normalisation.offset)) != len(bands.channels):
        what = f"normalisation of {fitted} channels for a band set of {len(bands.channels)}"
        raise WeightsError(f"{path}: {what}: {_REMEDY}")
    return bands, normalisation


def read_metadata(file: BinaryIO) -> dict[str, str]:
    """The metadata in the header of a safetensors file; raises `ValueError` when there is no such header."""
    start = file.read(8)
    if len(start) < 8:
        raise ValueError(f"a file of {len(start)} bytes has no header")
    (length,) = struct.unpack("<Q", start)
    if length > _LARGEST_HEADER_BYTES:
        raise ValueError(f"a header of {length} bytes is too large, at most {_LARGEST_HEADER_BYTES} are read")
    try:
        header = json.loads(file.read(length))
    except RecursionError as error:
        raise ValueError("its header is nested too deeply") from error
    stated = header.get("__metadata__", {}) if isinstance(header, dict) else None
    if not isinstance(stated, dict) or not all(isinstance(value, str) for value in stated.values()):
        raise ValueError("its header's metadata are not texts by name")
    return stated


_REMEDY = "copy the file again from where it was made, or train the model again"
