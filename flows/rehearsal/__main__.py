"""`python -m flows.rehearsal --days 90 --out flows/reports`: rehearse and report; see the package."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

# Before anything imports Prefect, which reads them once.
os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")

import typer

from flows.errors import FlowError
from flows.interruption import INTERRUPTED


def main(
    days: Annotated[float, typer.Option(min=0.5, help="Simulated days.")] = 90.0,
    out: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("flows/reports"),
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is drawn.")] = 1,
    kills: Annotated[int, typer.Option(min=0, help="Processes that are killed.")] = 100,
    quakes: Annotated[int | None, typer.Option(help="Planted earthquakes; as many as fit by default.")] = None,
    steppers: Annotated[int, typer.Option(min=1, help="Processes that make steps.")] = 2,
    every: Annotated[float, typer.Option(min=1.0, help="Simulated minutes between two looks at the USGS.")] = 5.0,
    size_px: Annotated[int, typer.Option("--size-px", min=128, help="Side of a simulated region.")] = 256,
    data: Annotated[Path, typer.Option(help="Folder of the recorded week.")] = Path("../shared/data"),
    home: Annotated[Path, typer.Option(help="Folder of the stand-ins and of the state.")] = Path(
        ".quakeslide/rehearsal"
    ),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the rehearsal in --home.")] = False,
    feed_to_plan: Annotated[
        bool, typer.Option("--feed-to-plan", help="Measure feed to plan of 10 earthquakes (--quakes) instead.")
    ] = False,
    scene_to_version: Annotated[
        bool, typer.Option("--scene-to-version", help="Measure scene to version instead.")
    ] = False,
    bad_day: Annotated[
        bool, typer.Option("--bad-day", help="Rehearse one day with 50 earthquakes (--quakes) at once instead.")
    ] = False,
    side_px: Annotated[int, typer.Option("--side-px", min=256, help="Side of the area that is measured.")] = 5000,
) -> None:
    """Rehearse months of feed with everything that goes wrong in them, and report what came of it."""
    command = shlex.join(["python", "-m", "flows.rehearsal", *(part for part in sys.argv[1:] if part != "--resume")])
    with _ended_well():
        from flows.rehearsal import report
        from flows.rehearsal.bad_day import QUAKES, bad_day_figures, read_notes
        from flows.rehearsal.rehearse import Options, rehearse
        from flows.rehearsal.timing import measure

        if feed_to_plan:
            from flows.rehearsal.deployed import measure_feed

            apart = home.with_name(f"{home.name}-feed")
            _show(report.write(out, measure_feed(apart, side_px, seed, quakes or 10, command, say)))
            return
        if scene_to_version:
            _show(report.write(out, measure(home.with_name(f"{home.name}-timing"), side_px, seed, command, say)))
            return
        if bad_day:
            home, days, kills, quakes = home.with_name(f"{home.name}-bad-day"), 1.0, 0, quakes or QUAKES
        options = Options.of(
            days, seed, kills, quakes, steppers=steppers, every_minutes=every, size_px=size_px,
            data=str(data.resolve()), bad_day=bad_day,
        )  # fmt: skip
        done = rehearse(options, home.resolve(), resume=resume, say=say)
        found = bad_day_figures(done, read_notes(home), command) if bad_day else report.figures_of(done, command)
        whole = report.write(out, found)
        _show(found["bad_day"] if bad_day else whole)
    if not done.verdict.sound:
        raise typer.Exit(1)


@contextmanager
def _ended_well() -> Iterator[None]:
    """Say in one line what was wrong, or how to go on after Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        say("interrupted; go on with the same command and --resume")
        raise typer.Exit(INTERRUPTED) from None
    except FlowError as error:
        say(f"error: {error}")
        raise typer.Exit(2) from None


def say(line: str) -> None:
    """Tell the terminal how far it is."""
    typer.echo(line, err=True)


def _show(figures: dict[str, object]) -> None:
    for key in list(figures)[:10]:
        typer.echo(f"{key}: {figures[key]}")


if __name__ == "__main__":
    typer.run(main)
