"""The commands `quakeslide dataset …`: patches to train on, built, simulated, imported and looked at."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.errors import FlowError
from flows.moments import moment_of

if TYPE_CHECKING:
    from modeling.data.patch_split import Split
    from modeling.data.patches import PatchSet

_MOST_DIGITS = 18

app = typer.Typer(
    help="Patches to train and test networks on: build, simulate or import a data set, and look at one.",
    no_args_is_help=True,
)

Out = Annotated[Path, typer.Argument(help="The data set to write, for example noto.zarr (a Zarr v3 folder).")]
Parts = Annotated[
    str, typer.Option("--split", help="Shares of training and validation, or of training, validation and test (7:2:1).")
]
Distance = Annotated[
    int | None, typer.Option(min=0, help="Fewest pixels between patches of different parts; default: one patch.")
]
Seed = Annotated[int, typer.Option(min=0, help="Decides which patches are taken and where they go.")]
PatchPx = Annotated[int, typer.Option(min=8, max=4096, help="Side of a patch in pixels.")]
Licence = Annotated[
    str, typer.Option(help="Licence of the images and labels, for the cards of models trained on them.")
]


@app.command()
def build(
    out: Out,
    inventory: Annotated[
        list[Path],
        typer.Option(
            help="Polygons of landslides, any vector format; give it again for more files, FILE:LAYER for one layer of several. "
            "Those with a class or label of not-landslide are left out."
        ),
    ],
    extent: Annotated[
        list[Path] | None, typer.Option(help="Polygons of what was looked at; nothing counts outside of them.")
    ] = None,
    ignore: Annotated[
        list[Path] | None, typer.Option(help="Polygons where nothing is known, such as under cloud.")
    ] = None,
    pre: Annotated[
        list[Path] | None,
        typer.Option(help="GeoTIFF before the event; give it again for bands in separate files."),
    ] = None,
    post: Annotated[
        list[Path] | None,
        typer.Option(help="GeoTIFF after the event, on the same grid; give it again for bands in separate files."),
    ] = None,
    dem: Annotated[
        Path | None, typer.Option(help="GeoTIFF with elevation in metres, on any grid that covers them.")
    ] = None,
    bands: Annotated[
        str | None, typer.Option(help="Order of the bands, for example blue,green,red,nir; default: their names.")
    ] = None,
    scale: Annotated[
        float | None, typer.Option(help="Reflectance per digital number; default: 0.0001 for integers, 1 for floats.")
    ] = None,
    event: Annotated[str | None, typer.Option(help="USGS event id: imagery as `quakeslide map` takes it.")] = None,
    before: Annotated[
        str | None, typer.Option(help="Instead of an event: last day of the imagery before (2023-12-31).")
    ] = None,
    after: Annotated[str | None, typer.Option(help="First day of the imagery after.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of recorded data that the local stand-ins serve.")] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the event in tables; default: that of the event or of OUT.")
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(
            help="Layers to keep, for example slope,red_pre,red_post; default: those of the shipped band sets."
        ),
    ] = None,
    pixel_m: Annotated[float, typer.Option(min=0.1, help="Pixel size in metres where there is no imagery.")] = 10.0,
    patch_px: PatchPx = 88,
    split: Parts = "7:3",
    distance_px: Distance = None,
    negatives: Annotated[float, typer.Option(min=0, help="Patches without landslides for each one with.")] = 1.0,
    known: Annotated[float, typer.Option(min=0.01, max=1, help="Smallest share of a patch that must be known.")] = 0.5,
    seed: Seed = 0,
    licence: Licence = "unknown",
) -> None:
    """Cut patches from an inventory of polygons and imagery: clip, stack, cut and split in one step.

    Imagery comes from rasters (--pre, --post, --dem), from an event (--event), or from two dates (--before, --after), by
    way of Earth Engine or its local stand-in. Without any, patches hold truth and geolocation only.

    Patches lie side by side. Whole blocks of ground go to one part, and patches that are nearer than --distance-px to one
    of another part are left out.
    """
    from flows import dataset
    from flows.run import say, shown_progress
    from flows.services import services
    from flows.settings import load_settings
    from modeling.data.patch_build import Cut
    from modeling.data.patch_truth import read_inventory

    kinds = [
        kind
        for kind, given in {"--pre": pre or post or dem, "--event": event, "--before": before or after}.items()
        if given
    ]
    if len(kinds) > 1:
        raise FlowError(f"{' and '.join(kinds)} ask for different imagery: give one of them")
    order = dataset.Order(
        path=out,
        inventory=read_inventory(inventory, extents=extent or (), ignored=ignore or ()),
        domain=name or event or out.name.removesuffix(".zarr"),
        cut=Cut(patch_px, known, negatives, _split(split, distance_px, seed)),
        layers=_words(layers) or (),
        licence=licence,
        command=_command(),
    )
    for note in order.inventory.notes:
        say(f"note: {note}")
    settings = load_settings()
    if kinds in ([], ["--pre"]):
        with shown_progress():
            if not kinds:
                made = dataset.build_truth_only(order, pixel_m)
            elif not (pre and post):
                raise FlowError("one image before (--pre) and one after (--post) are needed")
            else:
                made = dataset.build_from_rasters(
                    order, pre, post, dem, bands=_words(bands), scale=scale, settings=settings
                )
        _show(made)
        return
    with services(settings, data, prefect=False) as reached, shown_progress():
        if event is not None:
            from flows.request import MapRequest

            made = dataset.build_from_event(order, MapRequest(event_id=event, force=True), reached)
        elif before is None or after is None:
            raise FlowError("two dates are needed: --before and --after")
        else:
            made = dataset.build_from_dates(order, moment_of(before, "--before"), moment_of(after, "--after"), reached)
    _show(made)


@app.command()
def simulate(
    out: Out,
    domains: Annotated[str, typer.Option(help="Domains and patches of each, for example iburi=500,jiuzhaigou=200.")],
    patch_px: PatchPx = 88,
    region_px: Annotated[int, typer.Option(min=64, max=4096, help="Side of a simulated region.")] = 768,
    split: Parts = "7:3",
    seed: Seed = 0,
    as_is: Annotated[
        bool, typer.Option("--as-is", help="Take the domains' numbers as they are instead of varying them.")
    ] = False,
    workers: Annotated[int, typer.Option(min=0, help="Processes that simulate; 0: one a core.")] = 0,
    cache: Annotated[
        Path, typer.Option(help="Folder that keeps simulated regions, so that an interrupted call goes on.")
    ] = Path(".quakeslide/regions"),
) -> None:
    """Simulate earthquakes and cut patches with truth to the pixel, half of them with landslides.

    Domains are iburi, jiuzhaigou, palu, luding, gorkha, kaikoura, noto, haiti, papua and hualien; any number of patches of
    each. No region is in two parts.
    """
    from flows import progress
    from flows.run import shown_progress
    from modeling.data.patch_simulate import simulate_patches

    with shown_progress():
        made = simulate_patches(
            out, _counts(domains), cache=cache, patch_px=patch_px, region_px=region_px, split=_split(split, None, seed),
            varied=not as_is, workers=workers or os.cpu_count() or 1, command=_command(), tell=progress.report,
        )  # fmt: skip
    _show(made)


@app.command("import")
def import_(
    out: Out,
    folder: Annotated[Path, typer.Argument(help="The folder of the data set.")],
    kind: Annotated[str, typer.Option(help="auto, landslide4sense, hr-gldd or folders.")] = "auto",
    patch_px: Annotated[
        int | None, typer.Option(min=8, max=4096, help="Side of a patch; default: that of the images, or 256.")
    ] = None,
    split: Parts = "7:3",
    distance_px: Distance = None,
    seed: Seed = 0,
    licence: Licence = "unknown",
) -> None:
    """Import Landslide4Sense (HDF5), HR-GLDD (npy), or folders of images and masks (GVLM, CAS, Bijie).

    Parts that the folders name (train, val, test) are kept; otherwise they are made. Every label is checked: 0 and 1, or
    0 and 255, or 0, 1 and 255 for what does not count.
    """
    from flows import progress
    from flows.run import shown_progress
    from modeling.data.patch_import import import_patches

    with shown_progress():
        made = import_patches(
            out, folder, kind=kind, split=_split(split, distance_px, seed), patch_px=patch_px, licence=licence,
            command=_command(), tell=progress.report,
        )  # fmt: skip
    _show(made)


@app.command()
def show(
    path: Annotated[Path, typer.Argument(help="The data set.")],
    verify: Annotated[bool, typer.Option("--verify", help="Read everything and hold it to the recorded hash.")] = False,
) -> None:
    """Check a data set and show what is in it."""
    from modeling.data.patches import open_patches

    opened = open_patches(path)
    if verify:
        opened.verify()
    _show(opened)


def _show(made: PatchSet) -> None:
    from rich.table import Table

    from flows.run import CONSOLE, say

    table = Table(
        title=f"{made.name}: {len(made):,} patches of {made.patch_px} x {made.patch_px} pixels", title_justify="left"
    )
    for column in ("domain", "part"):
        table.add_column(column)
    for column in ("patches", "with landslides", "without"):
        table.add_column(column, justify="right")
    for (domain, part), (positive, negative) in made.counts().items():
        table.add_row(domain, part, f"{positive + negative:,}", f"{positive:,}", f"{negative:,}")
    CONSOLE.print(table)
    about = made.about
    distance = f"at {about.distance_px:g} pixels" if about.distance_px is not None else "not known"
    if about.distance_px is None and made.systems:
        distance = "in different places"
    say(f"layers:   {', '.join(made.layers) or 'none, truth only'}")
    say(f"pixels:   {made.landslide_px.sum():,} of landslides")
    say(f"located:  {', '.join(made.systems) or 'no coordinates'}")
    say(f"split:    {about.split}; nearest patches of different parts: {distance}")
    say(f"source:   {about.source}")
    say(f"licence:  {about.licence}")
    say(f"sha256:   {made.sha256}")


def _split(text: str, distance_px: int | None, seed: int) -> Split:
    from modeling.data.patch_split import Split

    return Split.parse(text, distance_px=distance_px, seed=seed)


def _words(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(part.strip() for part in text.split(",") if part.strip())


def _counts(text: str) -> dict[str, int]:
    """`iburi=500,palu=200` as numbers."""
    counts: dict[str, int] = {}
    for part in _words(text) or ():
        domain, _, number = part.partition("=")
        if not number.isdecimal():
            raise FlowError(f"--domains {text!r} does not say how many patches of what: write iburi=500,jiuzhaigou=200")
        if domain in counts:
            raise FlowError(f"--domains {text!r} names {domain} twice: name each domain once")
        if len(number) > _MOST_DIGITS:
            raise FlowError(
                f"--domains: nobody can simulate as many patches of {domain} as a number of {len(number)} digits"
            )
        counts[domain] = int(number)
    return counts


def _command() -> str:
    """This command for people, with the names of files but not where they lie."""
    words = [Path(word).name if os.sep in word and not word.startswith("-") else word for word in sys.argv[1:]]
    return " ".join(["quakeslide", *words])
