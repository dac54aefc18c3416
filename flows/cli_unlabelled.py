"""The command `quakeslide adapt-unlabelled`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from flows.errors import FlowError

if TYPE_CHECKING:
    from flows.adapt_parent import Parent
    from flows.unlabelled import Labelled
    from modeling.model import LandslideModel

_REGIONS = (6, 2, 1)
"""Simulated regions of each domain to train, choose and test on, where no data set is given."""
_REGION_PX = 384


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("adapt-unlabelled")(adapt_unlabelled)


def adapt_unlabelled(
    event: Annotated[
        str, typer.Argument(help="An event with a published version, or a folder of `quakeslide map-raster`.")
    ],
    way: Annotated[
        Literal["scene-means", "norms", "self-training", "adversarial"],
        typer.Option(
            help="scene-means: the scene's means of light, taken half of the way to those of the training ground. "
            "norms: batch-norm statistics of the scene. Both take seconds and train nothing. self-training: on its own "
            "surest pixels, beside labelled ground. adversarial: ADANet, maps that cannot be told from those of labelled "
            "ground."
        ),
    ] = "self-training",
    source: Annotated[
        Path | None,
        typer.Option(
            help="Patch data set with labels like those that the network has learned from; without it, regions of the "
            "simulated domains that its card names are made."
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="How the way trains, of those that `quakeslide recipes` lists for it; default: its own."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Of training, instead of the recipe's, for a way that trains.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder that receives the network and its card.")] = Path("models"),
    version: Annotated[int | None, typer.Option(min=1, help="The version of the event; default: the newest.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of draws.")] = 0,
    weights: Annotated[
        str | None, typer.Option(help="The .safetensors that made the map, if it does not ship.")
    ] = None,
    pre: Annotated[
        list[Path] | None,
        typer.Option(
            help="For a folder: the GeoTIFF before the event that it was made from; give it again for bands in separate files."
        ),
    ] = None,
    post: Annotated[
        list[Path] | None,
        typer.Option(help="For a folder: the GeoTIFF after the event; give it again for bands in separate files."),
    ] = None,
    dem: Annotated[Path | None, typer.Option(help="For a folder: the elevation model.")] = None,
    bands: Annotated[str | None, typer.Option(help="For a folder: the order of bands, as for map-raster.")] = None,
    scale: Annotated[float | None, typer.Option(help="For a folder: reflectance per digital number.")] = None,
    work: Annotated[Path, typer.Option(help="Folder that keeps simulated regions.")] = Path(".quakeslide/regions"),
    data: Annotated[Path | None, typer.Option(help="Folder of recorded data that the local stand-ins serve.")] = None,
) -> None:
    """Fit a network to the ground of a map without a label: to the images of its scene alone.

    What comes out is a network to map with, beside the one before; nothing is published. Nobody can know without labels
    whether it is better there: look at both maps, or draw polygons and let `quakeslide adapt` judge. How much of the
    ground changes its class is told. Measured on simulated regions, see `quakeslide reproduce generalisation`.
    """
    from flows.interruption import beginning_anew
    from flows.out_folder import require_folder
    from flows.run import say, shown_progress
    from flows.unlabelled import fitted, how_to, require_new
    from modeling.model import save_model
    from modeling.prediction.allocator import keep_memory

    how = how_to(way, recipe, steps)
    require_folder(out)
    keep_memory()
    given = (pre, post, dem)
    with (
        beginning_anew(),
        _parent(event, version, weights, given, bands, scale, data) as parent,
        shown_progress(),
    ):
        model = parent.model
        require_new(model, way, out)
        labelled = None if how is None else _source(source, model, weights, work)
        made, moved = fitted(model, parent.scene, way, how, labelled, seed=seed)
    path = save_model(made, out)
    say(
        f"{100 * moved.changed:.2f} % of the ground looked at changes its class; {100 * moved.before:.2f} % of it was landslide "
        f"before, {100 * moved.after:.2f} % is now"
    )
    if made.card["adaptation"][-1].get("chosen_step") == 0:
        say("no step of the training was fit to be kept: the network is the one before")
    say(f"network: {path}")
    say(f"map with it: `quakeslide map-raster --weights {path}` or the setting model.weights")


@contextmanager
def _parent(
    event: str, version: int | None, weights: str | None,
    given: tuple[list[Path] | None, list[Path] | None, Path | None], bands: str | None, scale: float | None,
    data: Path | None,
) -> Iterator[Parent]:  # fmt: skip
    """The map to begin with: of a folder, or of an event in the bucket."""
    from tempfile import TemporaryDirectory

    from flows.adapt_parent import Rasters, choose_version, folder_parent, published_parent
    from flows.reaching import bucket
    from flows.services import services
    from flows.settings import load_settings

    if Path(event).is_dir():
        before, after, terrain = given
        if not (before and after and terrain):
            raise FlowError(f"{event} is a folder: give the rasters that it was made from by --pre, --post and --dem")
        names = None if bands is None else tuple(part.strip() for part in bands.split(","))
        rasters = Rasters(tuple(before), tuple(after), terrain, names, scale)
        with folder_parent(Path(event), rasters, weights) as parent:
            yield parent
        return
    with (
        services(load_settings(), data, prefect=False) as settings,
        bucket(settings) as store,
        TemporaryDirectory() as copy,
    ):
        publication = choose_version(store, event, version)
        yield published_parent(store, settings.storage.endpoint, publication, Path(copy), weights)


def _source(path: Path | None, model: LandslideModel, weights: str | None, work: Path) -> Labelled:
    """Labelled ground: a data set of the user's, or simulated regions of the domains that the network has learned from."""
    from flows.progress import report
    from flows.unlabelled import Labelled
    from modeling.benchmark.data import Patches, Simulated
    from modeling.domains.sample_file import load_fingerprint, sample_path
    from modeling.model import WEIGHTS_FOLDER

    if path is not None:
        patches = Patches(path, model.bands.name)
        return Labelled(patches, patches.having("training"))
    sample = sample_path(Path(weights) if weights else WEIGHTS_FOLDER / f"{model.name}.safetensors")
    if not sample.is_file():
        raise FlowError(
            f"{model.name} does not say what it has learned from: give a patch data set with labels by --source, or take "
            "--way norms, which needs none"
        )
    domains = tuple(dict.fromkeys(load_fingerprint(sample).domains))
    simulated = Simulated(work, domains, *_REGIONS, size_px=_REGION_PX, bands=model.bands.name)
    simulated.prepare(os.cpu_count() or 1, lambda done, total: report("simulate regions", done, total))
    return Labelled(simulated, domains)
