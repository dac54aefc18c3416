"""The commands `quakeslide train` and `quakeslide recipes`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from flows.errors import FlowError

if TYPE_CHECKING:
    from rich.table import Table

    from modeling.model import LandslideModel
    from modeling.recipes import Adaptation
    from modeling.training.progress import Tick

_SECONDS_BETWEEN_LINES = 10.0


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("train")(train)
    app.command("recipes")(recipes)


def train(
    recipe: Annotated[str, typer.Option(help="How to train which network; `quakeslide recipes` lists them.")],
    data: Annotated[Path, typer.Option(help="Patch data set to train on; `quakeslide dataset` makes one.")],
    out: Annotated[Path, typer.Option(help="Folder that receives the model, its card and its curves.")] = Path(
        "models"
    ),
    name: Annotated[str | None, typer.Option(help="Name of the model; default: recipe and channels.")] = None,
    bands: Annotated[
        str | None,
        typer.Option(
            help="Band set (ten-band, rgb-terrain, rgb), or all; default: that of exactly these layers, else all."
        ),
    ] = None,
    domains: Annotated[str | None, typer.Option(help="Domains to use, for example iburi,palu; default: all.")] = None,
    start: Annotated[
        str | None, typer.Option(help="Weights to start from: a name of `quakeslide models`, or a .safetensors file.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, batches and dropout.")] = 0,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps, instead of the recipe's length.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the data, instead of that.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Patches a step on each device.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="The highest, instead of the recipe's.")] = None,
    patience: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many validations without a better one.")
    ] = None,
    augmentation: Annotated[str | None, typer.Option(help="Instead of the recipe's, for example physical.")] = None,
    precision: Annotated[
        Literal["float32", "bfloat16"] | None, typer.Option(help="What activations are computed in.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Use so many training patches only.")] = None,
    storage: Annotated[Literal["float16", "float32"], typer.Option(help="What matrices are stored as.")] = "float16",
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to train.")] = "auto",
    devices: Annotated[int, typer.Option(min=1, help="How many GPUs (or CPU processes) share each step.")] = 1,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that draw patches; default: none on a CPU, 4 on a GPU.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
) -> None:
    """Train a network of the papers on a data set, and write it with its card, its curves and its logs.

    The recipe says everything that its paper says: loss, optimiser, schedule, batch, normalisation, augmentation. The
    best weights by validation are kept, and calibrated there. An interrupted run goes on when the same command is given
    again, and ends with the same weights. Watch it with `tensorboard --logdir OUT`.

    Example: quakeslide dataset simulate iburi.zarr --domains iburi=700, then
    quakeslide train --recipe resu-senet --data iburi.zarr
    """
    from flows.out_folder import require_folder
    from flows.training import TrainRequest, run_training

    if steps is not None and epochs is not None:
        raise FlowError("--steps and --epochs are both given: give one of them")
    if learning_rate is not None and not learning_rate > 0:
        raise FlowError(f"--learning-rate {learning_rate} is not above 0")
    request = TrainRequest(
        recipe=recipe, data=str(data), out=str(out), name=name, bands=bands, domains=_listed(domains), start=start,
        seed=seed, steps=steps, epochs=epochs, batch=batch, learning_rate=learning_rate, patience=patience,
        augmentation=augmentation, precision=precision, limit=limit, storage=storage, device=device,
        devices=devices, workers=workers, threads=threads,
    )  # fmt: skip
    request.changed()  # what is wrong with it is said before anything is loaded
    require_folder(out)
    with _shown(request.recipe) as tell:
        found = run_training(request, tell)
    if found.leads:
        from flows.run import CONSOLE, say

        CONSOLE.print(_scores(found.model))
        say(f"{out / found.model.name}.safetensors, with its card (.md), its curves (.png) and its logs (.run)")


def recipes(
    name: Annotated[str | None, typer.Argument(help="Show all of one recipe, and where it comes from.")] = None,
) -> None:
    """List the recipes: how each network is trained, as its paper says, and how a trained one is adapted to other ground.

    `quakeslide train --recipe` takes those of the first table, `quakeslide adapt-unlabelled --recipe` the adversarial ones
    and those of self-training; transfers belong to `quakeslide reproduce`.
    """
    from rich.table import Column, Table

    from flows.run import CONSOLE
    from modeling.recipes import ADAPTATIONS, RECIPES, any_recipe

    if name is not None:
        table = Table("what", "value", title=name, title_justify="left")
        for what, value in _fields(asdict(any_recipe(name))):
            table.add_row(what, value)
        CONSOLE.print(table)
        return
    table = Table(Column("recipe", no_wrap=True), "loss", "optimiser", "length", "batch", "best by")
    for made in RECIPES.values():
        length = f"{made.epochs} epochs" if made.epochs is not None else f"{made.steps:,} steps"
        optimiser = f"{made.optimiser.name} {made.optimiser.learning_rate:g}"
        batch = f"{made.batch} x {made.patch_px} px"
        table.add_row(made.name, made.loss, optimiser, length, batch, made.select_by)
    CONSOLE.print(table)
    table = Table(Column("recipe of adaptation", no_wrap=True), "way", "optimiser", "length", "batch", "best by")
    for each in ADAPTATIONS.values():
        table.add_row(each.name, each.way, *_summary(each))
    CONSOLE.print(table)


def _summary(made: Adaptation) -> tuple[str, str, str, str]:
    """Optimiser, length, batch, and what is best, in a few words each."""
    from modeling.recipes import Adversarial, Transfer

    if isinstance(made, Transfer):
        rates = ", ".join(f"{leg.rate_factor:g}" for leg in made.legs)
        lengths = ", ".join(f"{leg.share:.3g}" for leg in made.legs)
        return f"a training recipe's x {rates}", f"its steps x {lengths}", "", ""
    optimiser = f"{made.optimiser.name} {made.optimiser.learning_rate:g}"
    if isinstance(made, Adversarial):
        optimiser += f", {made.discriminator.name} {made.discriminator.learning_rate:g}"
    return optimiser, f"{made.steps:,} steps", str(made.batch), made.select_by


def _fields(values: Mapping[str, Any], of: str = "") -> Iterator[tuple[str, str]]:
    """What a recipe holds, field by field, those of its parts after the part's name."""
    for what, value in values.items():
        name = f"{of} {what}".strip()
        if isinstance(value, dict):
            yield from _fields(value, name)
        elif isinstance(value, (list, tuple)) and value and all(isinstance(each, dict) for each in value):
            for number, each in enumerate(value, start=1):
                yield from _fields(each, f"{name} {number}")
        else:
            yield name, "" if value in (None, ()) else str(value)


def _listed(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(part.strip() for part in text.split(",") if part.strip())


def _scores(model: LandslideModel) -> Table:
    """Pixel scores of each part, as the card has them."""
    from rich.table import Table

    names = ("precision", "recall", "f1", "iou", "mcc")
    table = Table("part", *names, "f1, 95 %", title=model.name, title_justify="left")
    for part, methods in model.card["scores"].items():
        found = methods["model"]
        low, high = found.get("f1_interval", (None, None))
        interval = "" if low is None else f"{low:.3f} to {high:.3f}"
        table.add_row(part, *(f"{found['pixels'][name]:.3f}" for name in names), interval)
    return table


@contextmanager
def _shown(title: str) -> Iterator[Callable[[Tick], None]]:
    """A bar with loss and validation, or a line every ten seconds and for each validation where there is no terminal."""
    if not sys.stdout.isatty():
        yield _lines()
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from flows.run import CONSOLE

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=CONSOLE) as bars:
        task = bars.add_task(title, total=None, note="starting")

        def tell(tick: Tick) -> None:
            bars.update(task, completed=tick.step, total=tick.steps, note=note(tick))
            if tick.row is not None:
                bars.console.print(row_text(tick), highlight=False)

        yield tell


def _lines() -> Callable[[Tick], None]:
    from flows.run import say

    told = 0.0

    def tell(tick: Tick) -> None:
        nonlocal told
        if tick.row is not None:
            say(row_text(tick))
        elif time.monotonic() - told > _SECONDS_BETWEEN_LINES:
            say(f"  step {tick.step}/{tick.steps}  {note(tick)}")
            told = time.monotonic()

    return tell


def note(tick: Tick) -> str:
    """A moment of a run in a few words."""
    return f"loss {tick.loss:.4f}  {tick.patches_a_second:.1f} patches/s"


def row_text(tick: Tick) -> str:
    """A validation in a line."""
    row = tick.curve[-1]
    return (
        f"  step {row.step}/{tick.steps}  training loss {row.training_loss:.4f}  validation loss"
        f" {row.validation_loss:.4f}  F1 {row.validation_f1:.4f}"
    )
