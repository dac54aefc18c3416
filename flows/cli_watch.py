"""`quakeslide watch` and `quakeslide decisions`: what the USGS lists, what is made of it, and why."""

from __future__ import annotations

import datetime as dt
import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from flows.watch import Look
    from flows.watching.journal import Seen


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(watch)
    app.command()(decisions)


def watch(
    once: Annotated[bool, typer.Option("--once", help="Look once and stop.")] = False,
    every: Annotated[
        float | None, typer.Option(min=1.0, help="Seconds from one look to the next; default: watch.every_s.")
    ] = None,
) -> None:
    """Watch the USGS feed, decide on every earthquake in it, and open a campaign for each that is to be mapped.

    What was missed while nobody watched is caught up, however long that was. Campaigns are worked on where workers run
    (`quakeslide local up`, or a deployment); `quakeslide status` shows them.
    """
    from flows.errors import ServiceError
    from flows.run import say
    from flows.services import services
    from flows.settings import load_settings
    from flows.watch import watch as flow

    with services(load_settings(), None, prefect=True) as settings:
        every = every or settings.watch.every_s
        while True:
            begun = time.monotonic()
            try:
                for line in told(flow()):
                    say(line)
            except ServiceError as error:
                if once:
                    raise
                say(f"{_clock(dt.datetime.now(dt.UTC))} {error}")
            if once:
                return
            time.sleep(max(0.0, every - (time.monotonic() - begun)))


def decisions(
    since: Annotated[
        str | None, typer.Option(help="First day of origin times (ISO 8601, UTC); default: the last seven days.")
    ] = None,
    wanted: Annotated[bool, typer.Option("--wanted", help="Only earthquakes that are or were to be mapped.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, a line for each earthquake.")] = False,
) -> None:
    """Show what was decided of every earthquake, also to do nothing, and why; what its campaign decided later as well."""
    from flows.campaign.store import campaigns_named
    from flows.moments import moment_of
    from flows.reaching import bucket
    from flows.run import CONSOLE
    from flows.services import services
    from flows.settings import load_settings
    from flows.watching.journal import days_since, with_later

    first = dt.datetime.now(dt.UTC) - dt.timedelta(days=7) if since is None else moment_of(since, "--since")
    with services(load_settings(), None, prefect=False) as settings, bucket(settings) as store:
        noted = [one for day in days_since(store, first.astimezone(dt.UTC).date()) for one in day.events.values()]
        known = campaigns_named(store, {one.campaign for one in noted} - {""})
    whole = [with_later(one, known[one.campaign]) if one.campaign in known else one for one in noted]
    found = _shown(whole, wanted=wanted)
    if as_json:
        for seen in found:
            typer.echo(json.dumps(seen.model_dump(mode="json")))
        return
    CONSOLE.print(_table(found))


def told(look: Look) -> list[str]:
    """What a look is worth saying, a line each; nothing when nothing has changed."""
    report = look.report
    if report is None:
        return [f"no answer: {look.trouble}"]
    clock = _clock(report.at)
    lines = [f"{clock} {one.kind} {one.campaign_id} ({one.title}): {one.reason}" for one in report.changes]
    lines += [f"{clock} to be tried again: {trouble}" for trouble in report.troubles]
    if report.decisions:
        wanted = sum(decision.wanted for decision in report.decisions)
        lines.append(f"{clock} {len(report.decisions)} decisions, {wanted} to map, the others to do nothing")
    if look.due:
        lines.append(f"{clock} due: {', '.join(look.due)}")
    return lines


def _shown(everything: list[Seen], *, wanted: bool) -> list[Seen]:
    """The earthquakes of which something was decided, the earliest decided first."""
    found = [seen for seen in everything if seen.decisions]
    kept = [seen for seen in found if not wanted or any(decision.wanted for decision in seen.decisions)]
    return sorted(kept, key=lambda seen: (seen.decisions[0].at, seen.id))


def _table(found: list[Seen]) -> Any:
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE, pad_edge=False)
    for name in ("decided (UTC)", "event", "title", "map", "why", "campaign"):
        table.add_column(name, no_wrap=name in ("decided (UTC)", "map"))
    for seen in found:
        for number, decision in enumerate(seen.decisions):
            first = number == 0
            table.add_row(
                f"{decision.at:%Y-%m-%d %H:%M}", decision.event_id, seen.title if first else "",
                "yes" if decision.wanted else "no", decision.reason, seen.campaign if first else "",
            )  # fmt: skip
    table.caption = f"{len(found)} earthquakes"
    return table


def _clock(moment: dt.datetime) -> str:
    return f"{moment:%H:%M:%S}"
