"""`python -m tests.bench [STAGE ...]`: measure, show, and write the figures down.

A full run writes into `tests/bench`; one with `--quick` writes nothing unless `--out` says where.
"""

from __future__ import annotations

import argparse
import datetime as dt
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown

from gee.errors import GeeError

from .cases import BenchError, Row, Setting, measure, rows
from .machine import machine, versions
from .stages import STAGES, load
from .table import Run, markdown, save

HERE = Path(__file__).resolve().parent
REPETITIONS = 5
FAILURES = (BenchError, GeeError, OSError, RuntimeError, ValueError)
"""What ends one stage and not the others."""
SCRATCH_BYTES = 4 * 2**30
"""What the largest stage writes."""
COMPARED = (
    "quakeslide", "numpy", "numcodecs", "zarr", "zarrs", "tensorstore", "dask", "xarray", "earthengine-api", "xee", "geedim",
    "httpx", "aiohttp", "rasterio", "isal", "rio-cogeo", "shapely", "exactextract", "torch", "monai",
)  # fmt: skip


def run_stage(name: str, setting: Setting) -> tuple[Run, list[Row]]:
    """Measure one stage. Raises `BenchError` when a case did wrong."""
    stage = load(name)
    began, lines, values = time.monotonic(), [], {}
    for group in stage.groups(setting):
        measured = measure(group, setting)
        lines += rows(name, group, measured)
        values |= {f"{group.name}: {who}": each for who, each in measured.items()}
    run = Run(
        stage=name,
        date=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - began, 1),
        quick=setting.quick,
        machine=machine(),
        versions=versions(COMPARED),
        method=stage.__doc__ or "",
        values=values,
    )
    return run, lines


def main(arguments: list[str] | None = None) -> int:
    """Run the stages. Exit code 1 when one of them failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"{', '.join(STAGES)}; all when none is named")
    parser.add_argument("--quick", action="store_true", help="small sizes, once: does everything run?")
    parser.add_argument("--repetitions", type=int, default=REPETITIONS, help="how often each case runs")
    parser.add_argument("--out", type=Path, help="folder of results.json, runs.json and RESULTS.md")
    parser.add_argument(
        "--scratch", type=Path, default=_memory(), help="where the temporary files go (default: %(default)s)"
    )
    chosen = parser.parse_args(arguments)
    if unknown := sorted(set(chosen.stages) - set(STAGES)):
        parser.error(f"there is no stage {', '.join(unknown)}: choose of {', '.join(STAGES)}")
    out = chosen.out or (None if chosen.quick else HERE)
    console = Console(stderr=True, soft_wrap=True)
    failed = 0
    for name in chosen.stages or STAGES:
        console.print(f"[bold]{name}[/bold]")
        with tempfile.TemporaryDirectory(prefix=f"bench-{name}-", dir=chosen.scratch) as folder:
            setting = Setting(chosen.quick, 1 if chosen.quick else chosen.repetitions, Path(folder), _sayer(console))
            try:
                run, lines = run_stage(name, setting)
            except FAILURES as error:
                console.print(f"[red]{name} failed:[/red] {type(error).__name__}: {error}", highlight=False)
                failed += 1
                continue
        console.print(Markdown(markdown(lines, [run])))
        if out is not None:
            save(out, run, lines, list(STAGES))
    return 1 if failed else 0


def _memory() -> Path:
    """A folder in memory where there is one: how busy the disk is should not be measured."""
    shared = Path("/dev/shm")
    roomy = shared.is_dir() and shutil.disk_usage(shared).free > SCRATCH_BYTES
    return shared if roomy else Path(tempfile.gettempdir())


def _sayer(console: Console) -> Callable[[str], None]:
    began = time.monotonic()
    return lambda text: console.print(f"  {time.monotonic() - began:6.1f} s  {text}", highlight=False, markup=False)


if __name__ == "__main__":
    sys.exit(main())
