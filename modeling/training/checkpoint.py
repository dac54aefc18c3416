"""Training checkpoints: one safetensors file, replaced at once, that holds all that a run needs to go on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from modeling.errors import WeightsError
from modeling.training.progress import Progress, Row

_KEY = "training"


def save_checkpoint(
    path: Path,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    *,
    best: Mapping[str, torch.Tensor],
    progress: Progress,
    settings: Mapping[str, Any],
) -> None:
    """Write network, optimiser, best weights, progress and settings; a reader sees the old file or the new one.

    Any optimiser of torch: its tensors are stored as tensors, its plain values (a count, a flag) beside the progress.
    Learning rates are not stored: they follow from the step.
    """
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in best.items()}
    plain: dict[str, Any] = {}
    for index, state in optimiser.state_dict()["state"].items():
        for name, value in state.items():
            if isinstance(value, torch.Tensor):
                tensors[f"optimiser.{index}.{name}"] = value
            else:
                plain[f"{index}.{name}"] = value
    about = {"progress": asdict(progress), "settings": settings, "optimiser": plain}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    save_file(copies, str(partial), metadata={_KEY: json.dumps(about)})
    with partial.open("rb+") as file:
        os.fsync(file.fileno())  # a power cut must not leave a new name on unwritten bytes
    partial.replace(path)


def load_checkpoint(
    path: Path, network: nn.Module, optimiser: torch.optim.Optimizer, settings: Mapping[str, Any]
) -> tuple[Progress, dict[str, torch.Tensor]]:
    """Put a checkpoint into `network` and `optimiser`; returns the progress and the best weights so far.

    Raises `WeightsError` when the file is damaged or belongs to a run with other settings.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            about = json.loads((file.metadata() or {})[_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        stored = dict(about["progress"])
        stored["curve"] = tuple(Row(**row) for row in stored["curve"])
        progress, plain = Progress(**stored), dict(about["optimiser"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path} is not a usable checkpoint ({error}): delete it to start again") from error
    if other := _differing(about.get("settings"), json.loads(json.dumps(settings))):
        raise WeightsError(
            f"{path} belongs to a run with other settings ({', '.join(other)}): choose another folder or delete it"
        )
    try:
        network.load_state_dict(_part(tensors, "network."))
        state: dict[int, dict[str, Any]] = {}
        for key, value in (*_part(tensors, "optimiser.").items(), *plain.items()):
            index, name = key.split(".", 1)
            state.setdefault(int(index), {})[name] = value
        optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
    except (RuntimeError, ValueError, AttributeError) as error:
        raise WeightsError(f"{path} does not fit the network ({error}): delete it to start again") from error
    return progress, _part(tensors, "best.")


def _differing(stored: object, wanted: Mapping[str, Any]) -> list[str]:
    """The settings that are not the same, plain ones with their values."""
    if not isinstance(stored, dict):
        return ["none are stored"]
    names = sorted(name for name in stored.keys() | wanted.keys() if stored.get(name) != wanted.get(name))
    return [_told(name, stored.get(name), wanted.get(name)) for name in names]


def _told(name: str, stored: object, wanted: object) -> str:
    plain = all(value is None or isinstance(value, str | int) for value in (stored, wanted))
    return f"{name} was {stored}, is {wanted}" if plain else name


def _part(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
