"""What is asked of a training run, and the run itself: shared by the command and the flow."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from modeling.recipes import Recipe
    from modeling.training.progress import Tick
    from modeling.training.train import TrainedModel


class TrainRequest(BaseModel):
    """One request to train. All values are plain JSON, so that a deployment can be called with them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    recipe: str = Field(description="A name that `quakeslide recipes` lists.")
    data: str = Field(description="Folder of a patch data set.")
    out: str = Field("models", description="Folder that receives the model, its card and its curves.")
    name: str | None = Field(None, description="Name of the model; default: recipe and channels.")
    bands: str | None = Field(None, description="A band set, or `all` layers; default: what the layers make.")
    domains: tuple[str, ...] | None = Field(None, description="Domains of the data set to use; default: all.")
    start: str | None = Field(None, description="A model to start from: its name, or its .safetensors file.")
    seed: int = Field(0, ge=0, description="Of weights, batches and dropout.")
    steps: int | None = Field(None, ge=1, description="Optimiser steps in all, instead of the recipe's length.")
    epochs: int | None = Field(None, ge=1, description="Passes over the data, instead of the recipe's length.")
    batch: int | None = Field(None, ge=1, description="Patches a step on each device, instead of the recipe's.")
    learning_rate: float | None = Field(None, gt=0, description="The highest, instead of the recipe's.")
    patience: int | None = Field(None, ge=1, description="Validations without a better one before it stops.")
    augmentation: str | None = Field(None, description="Instead of the recipe's.")
    precision: Literal["float32", "bfloat16"] | None = Field(None, description="Instead of the recipe's.")
    limit: int | None = Field(None, ge=1, description="Use so many training patches only.")
    storage: Literal["float16", "float32"] = Field("float16", description="What the model's matrices are stored as.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where to train.")
    devices: int = Field(1, ge=1, description="How many GPUs (or CPU processes).")
    workers: int | None = Field(None, ge=0, description="Processes that draw patches; default: 0 on a CPU, 4 a GPU.")
    threads: int | None = Field(None, ge=1, description="CPU threads; default: as torch chooses.")

    def changed(self) -> Recipe:
        """The recipe with all that is asked of it. Raises `DataError` for an unknown one or an impossible change."""
        from modeling.recipes import recipe

        made = recipe(self.recipe)
        changes: dict[str, Any] = {
            name: value
            for name in ("batch", "patience", "augmentation", "precision")
            if (value := getattr(self, name)) is not None
        }
        if self.steps is not None or self.epochs is not None:
            changes |= {"steps": self.steps, "epochs": self.epochs}
        if self.learning_rate is not None:
            changes["optimiser"] = replace(made.optimiser, learning_rate=self.learning_rate)
        return replace(made, **changes)

    def command(self) -> str:
        """The command line that asks for the same."""
        parts = ["quakeslide", "train"]
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if value is not None and value != field.default:
                text = ",".join(value) if isinstance(value, tuple) else str(value)
                parts += [f"--{name.replace('_', '-')}", text]
        return shlex.join(parts)


def run_training(request: TrainRequest, tell: Callable[[Tick], None] | None = None) -> TrainedModel:
    """Train as asked, or go on with it; files as `modeling.training.train_patches.train_on` writes them.

    Raises `ModelingError` in one line that says what to do.
    """
    from modeling.data.patches import open_patches
    from modeling.model import load_model
    from modeling.prediction.allocator import keep_memory
    from modeling.training.train_patches import train_on

    keep_memory()
    return train_on(
        open_patches(Path(request.data)),
        request.changed(),
        Path(request.out),
        bands=request.bands,
        domains=request.domains,
        seed=request.seed,
        start=None if request.start is None else load_model(request.start),
        device=request.device,
        devices=request.devices,
        workers=request.workers,
        threads=request.threads,
        name=request.name,
        limit=request.limit,
        storage=request.storage,
        command=request.command(),
        tell=tell,
    )


def weights_of(request: TrainRequest, found: TrainedModel) -> str:
    """The path of the weights that a run has written."""
    return str(Path(request.out) / f"{found.model.name}.safetensors")


def main(arguments: Sequence[str]) -> int:
    """`python -m flows.training REQUEST`: train, telling one JSON a line; how the flow trains on several devices."""
    from modeling.errors import ModelingError

    def say(told: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()

    try:
        request = TrainRequest.model_validate_json(arguments[0])
        found = run_training(request, lambda tick: say(asdict(tick)))
    except ModelingError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if found.leads:
        say({"weights": weights_of(request, found)})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
