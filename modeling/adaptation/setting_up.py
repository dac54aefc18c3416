"""What every method that trains needs before its first step: a device, a type to compute in, a pool, a judge."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from modeling.adaptation.judge import Judge
from modeling.adaptation.target import pool_of
from modeling.data.batches import Blocks, Sampler
from modeling.errors import DataError, ModelingError
from modeling.model import LandslideModel
from modeling.recipes import Unlabelled
from modeling.training.feed import checked
from modeling.training.losses import LOSSES
from modeling.training.validation import require_usable


def judge_for(
    model: LandslideModel,
    source: Sampler,
    validation: Blocks,
    target: Blocks,
    how: Unlabelled,
    *,
    seed: int,
    device: str,
) -> Judge:
    """The target's pool, with patches as wide as the source's, and what networks are judged by.

    Raises `DataError` for data that cannot be used, `ModelingError` for a device that is not there.
    """
    require_usable(validation, model.channels)
    x, _ = checked(source.draw(0), 0, len(model.channels))
    pool = pool_of(target, model.bands, patch_px=min(x.shape[2:]), most_patches=how.most_patches, seed=seed)
    place = _device(device)
    return Judge(model, source, validation, pool, how.norms_of, place, _autocast(place, how.precision))


def identity(judge: Judge, settings: Any) -> dict[str, Any]:
    """What must be the same for a run to be gone on with: model, settings, and the target's ground."""
    ground = hashlib.sha256(judge.pool.patches.tobytes()).hexdigest()
    return {"model": judge.model.weights_hash, "settings": settings, "target": ground}


def loss_name(model: LandslideModel, wanted: str | None) -> str:
    """A loss by name; None: the one that the model was trained with, cross-entropy where its card does not say."""
    name = wanted or str(model.card.get("recipe", {}).get("loss", "cross-entropy"))
    if name not in LOSSES:
        raise DataError(f"unknown loss {name!r}: choose one of {', '.join(LOSSES)}")
    return name


def _device(name: str) -> torch.device:
    cuda = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "cpu")
    if name not in {"cpu", "cuda"} or (name == "cuda" and not cuda):
        raise ModelingError(f"cannot adapt on device {name!r}: auto and cpu are possible here{', and cuda' * cuda}")
    return torch.device(name)


def _autocast(device: torch.device, precision: str) -> Callable[[], AbstractContextManager[Any]]:
    if precision == "float32":
        return nullcontext
    return lambda: torch.autocast(device.type, torch.bfloat16)
