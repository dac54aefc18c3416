"""`python -m infra.local.catalogue check DIR`, and `… add DIR ID FILE.tif …`: own scenes for the Earth Engine stand-in.

`check` says what is in a catalogue folder and what is wrong with it, naming file and field; exit status 2 when something
is. `add` copies GeoTIFFs into a catalogue folder and writes the JSON file that describes them. The format is told in
`infra/local/README.md`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from infra.local.earthengine.catalogue import Catalogue
from infra.local.earthengine.description import read_image
from infra.local.earthengine.errors import ServiceError
from infra.local.earthengine.image import Image
from infra.local.earthengine.records import to_image
from infra.local.earthengine.sources import Reader
from infra.local.earthengine.values import Date


class CatalogueError(ValueError):
    """A scene cannot be added; the message says why."""


def described(image: Image) -> str:
    """An image in one line: its id, time, bands with types, and grid."""
    bands = " ".join(f"{b.id}:{b.type.dtype}" for b in image.bands)
    first, time = image.bands[0], image.get("system:time_start")
    height, width = first.shape_yx or (0, 0)
    size = f"{width}x{height} {first.projection.crs} {first.projection.nominal_scale:.4g} m"
    when = "-" if time is None else Date(int(time)).datetime.isoformat()
    return f"{image.id}  {when}  {bands}  {size}"


def check(folder: Path) -> tuple[list[str], list[str]]:
    """The images of a catalogue folder, one line each, and what is wrong with it."""
    catalogue = Catalogue(folder, Reader())
    problems = catalogue.problems()
    lines = []
    for path in catalogue.refresh().images.values():
        try:
            lines.append(described(catalogue.image(path)))
        except ServiceError:
            continue  # told among the problems
    return lines, problems


def add(
    catalogue: Path,
    asset_id: str,
    rasters: Sequence[Path],
    *,
    bands: Sequence[str] = (),
    time: str | None = None,
    properties: Mapping[str, Any] | None = None,
    missing: Sequence[float] = (),
    replace: bool = False,
) -> Path:
    """Copy GeoTIFFs into a catalogue folder as the image `asset_id`; returns its JSON file.

    All bands of all files are taken in order, under the names `bands`, or b1, b2, …; `time` is ISO 8601, `missing` are
    values that mean no data besides the files' own. Raises `CatalogueError` when a raster cannot be used or the image is
    there already and `replace` is not given; nothing is written then.
    """
    target = catalogue / f"{asset_id}.json"
    if target.exists() and not replace:
        raise CatalogueError(f"{target} exists: give --replace to write it again, or choose another id")
    try:
        counts = [len(Reader().describe(str(path)).dtypes) for path in rasters]
    except ServiceError as error:
        raise CatalogueError(str(error)) from None
    names = list(bands) or [f"b{i}" for i in range(1, sum(counts) + 1)]
    if len(names) != sum(counts):
        raise CatalogueError(f"{len(names)} band names were given, the files have {sum(counts)} bands")
    files = [f"{target.stem}{'' if len(rasters) == 1 else f'_{i}'}.tif" for i in range(1, len(rasters) + 1)]
    places = [(file, band) for file, count in zip(files, counts, strict=True) for band in range(1, count + 1)]
    entry = {"missing": list(missing)} if missing else {}
    body = {
        "id": asset_id,
        "time_start": time,
        "properties": dict(properties or {}),
        "bands": [{"id": n, "file": f, "band": b, **entry} for n, (f, b) in zip(names, places, strict=True)],
    }
    _try_out(asset_id, body, dict(zip(files, rasters, strict=True)))
    target.parent.mkdir(parents=True, exist_ok=True)
    for file, raster in zip(files, rasters, strict=True):
        part = target.with_name(f".{file}.part")
        shutil.copyfile(raster, part)
        part.replace(target.with_name(file))
    part = target.with_name(f".{target.name}.part")
    part.write_text(json.dumps(body, indent=1, ensure_ascii=False), encoding="utf-8")
    part.replace(target)
    return target


def _try_out(asset_id: str, body: dict[str, Any], files: dict[str, Path]) -> None:
    """Read the description where it harms nothing; CatalogueError when it is wrong."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        path = root / "image.json"
        path.write_text(json.dumps(body), encoding="utf-8")
        for name, raster in files.items():
            (root / name).symlink_to(raster.resolve())
        try:
            to_image(read_image(path, root, 0), Reader())
        except ServiceError as error:
            raise CatalogueError(f"{asset_id}: {error}".replace(f"{root}/", "")) from None


def _property(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m infra.local.catalogue", description=str(__doc__).split("\n\n")[1])
    commands = made.add_subparsers(dest="command", required=True)
    checking = commands.add_parser("check", help="say what is in a catalogue folder, and what is wrong with it")
    checking.add_argument("folder", type=Path)
    adding = commands.add_parser("add", help="copy GeoTIFFs into a catalogue folder as one image")
    adding.add_argument("folder", type=Path, help="the catalogue folder; made when missing")
    adding.add_argument("id", help="asset id, for example COPERNICUS/S2_HARMONIZED/20180906T013031")
    adding.add_argument("files", type=Path, nargs="+", help="GeoTIFFs, tiled ones are read faster")
    adding.add_argument("--bands", default="", help="names of the bands in order, with commas; b1,b2,… by default")
    adding.add_argument("--time", help="when it was taken, ISO 8601 in UTC")
    adding.add_argument("--property", type=_property, action="append", default=[], help="NAME=VALUE; may be repeated")
    adding.add_argument("--missing", type=float, action="append", default=[], help="a value that means no data")
    adding.add_argument("--replace", action="store_true", help="write an image again that is there")
    return made


def main(arguments: list[str] | None = None) -> int:
    """Run a command; exit code 2 with a line on stderr for what is wrong."""
    chosen = parser().parse_args(arguments)
    try:
        if chosen.command == "add":
            path = add(
                chosen.folder,
                chosen.id,
                chosen.files,
                bands=[name for name in chosen.bands.split(",") if name],
                time=chosen.time,
                properties=dict(chosen.property),
                missing=chosen.missing,
                replace=chosen.replace,
            )
            sys.stdout.write(f"{path}\n")
            return 0
        lines, problems = check(chosen.folder)
    except (ServiceError, CatalogueError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.writelines(f"{line}\n" for line in lines)
    sys.stderr.writelines(f"{problem}\n" for problem in problems)
    return 2 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
