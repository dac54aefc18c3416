"""Training checkpoints: one safetensors file, replaced at once, that holds all that a run needs to go on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from modeling.errors import WeightsError

_KEY = "training"


@dataclass(frozen=True)
class Progress:
    """Where a training run stands, besides its tensors."""

    step: int
    """Steps done."""
    best_step: int
    """The step of the best validation so far; 0 when there was none."""
    best_f1: float
    """Its validation F1; -1 when there was none."""
    seconds: float
    """Time spent training, over all interruptions."""
    curve: tuple[tuple[int, float, float], ...] = ()
    """(step, mean training loss since the last row, validation F1) of each validation."""


def save_checkpoint(
    path: Path,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    *,
    best: Mapping[str, torch.Tensor],
    progress: Progress,
    settings: Mapping[str, Any],
) -> None:
    """Write network, Adam moments, best weights, progress and settings; a reader sees the old file or the new one."""
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in best.items()}
    for index, moments in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": torch.as_tensor(value) for name, value in moments.items()}
    about = {"progress": vars(progress), "settings": settings}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    save_file(plain, str(partial), metadata={_KEY: json.dumps(about)})
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
        stored["curve"] = tuple((int(step), float(loss), float(f1)) for step, loss, f1 in stored["curve"])
        progress = Progress(**stored)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path} is not a usable checkpoint ({error}): delete it to start again") from error
    if about["settings"] != json.loads(json.dumps(settings)):
        raise WeightsError(f"{path} belongs to a run with other settings: choose another folder or delete it")
    try:
        network.load_state_dict(_part(tensors, "network."))
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, tensor in _part(tensors, "optimiser.").items():
            index, name = key.split(".")
            state.setdefault(int(index), {})[name] = tensor
        optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
    except (RuntimeError, ValueError) as error:
        raise WeightsError(f"{path} does not fit the network ({error}): delete it to start again") from error
    return progress, _part(tensors, "best.")


def _part(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
