"""A campaign in words and tables for a terminal: what it waits for, what it has published, what comes next. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence

from rich.table import Table

from flows.campaign.machine import covered_share
from flows.campaign.model import Campaign, Cost, State
from flows.wording import km2


def overview(campaigns: Sequence[Campaign], now: dt.datetime) -> Table:
    """All campaigns, one a row."""
    table = Table(title=f"Campaigns, {now:%Y-%m-%d %H:%M} UTC", title_justify="left")
    for name in ("campaign", "earthquake", "state", "versions", "seen", "next"):
        table.add_column(name, justify="right" if name in ("versions", "seen") else "left", overflow="fold")
    for campaign in campaigns:
        seen = last_seen(campaign)
        table.add_row(
            campaign.id, title_of(campaign), campaign.state.value, str(len(campaign.versions)),
            "–" if seen is None else f"{seen:.0%}", coming(campaign, now),
        )  # fmt: skip
    return table


def details(campaign: Campaign, now: dt.datetime) -> Iterator[Table]:
    """One campaign: what it is, its versions, its next passes, its history."""
    table = Table(title=title_of(campaign), show_header=False, title_justify="left")
    table.add_column("what")
    table.add_column("value", overflow="fold")
    for what, value in _facts(campaign, now):
        table.add_row(what, value)
    yield table
    if campaign.versions:
        yield _versions(campaign)
    if campaign.passes and campaign.open:
        yield _passes(campaign, now)
    yield _history(campaign)


def markdown(campaign: Campaign, now: dt.datetime) -> str:
    """One campaign as Markdown, for the page of a run."""
    lines = [f"# {title_of(campaign)}"]
    if campaign.mainshock.simulated:
        lines.append("**SIMULATED: this earthquake did not happen.**")
    lines.append(_rows(("what", "value"), _facts(campaign, now)))
    if campaign.versions:
        versions = (
            (str(note.version), note.kind, f"{note.published:%Y-%m-%d %H:%M}", _seen(note.shares, ", "),
             f"{note.landslides:,} ({km2(note.landslide_area_m2 / 1e6)} km²)", note.why)
            for note in campaign.versions
        )  # fmt: skip
        names = ("version", "kind", "published (UTC)", "of the campaign's area", "landslides", "why")
        lines += ["## Versions", _rows(names, versions)]
    if campaign.open and campaign.passes:
        coming = (
            (one.satellite, f"{one.time:%Y-%m-%d %H:%M}{'' if one.time > now else f' ({_FLOWN})'}", f"{one.share:.0%}")
            for one in campaign.passes
        )
        lines += ["## Next expected passes", _rows(("satellite", "time (UTC)", "of the area"), coming)]
    history = ((f"{one.at:%Y-%m-%d %H:%M}", one.state.value, one.why) for one in campaign.history)
    return "\n\n".join([*lines, "## History", _rows(("time (UTC)", "state", "why"), history)])


_FLOWN = "flown, its images are on their way"


def _rows(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    clean = [[cell.replace("|", "/").replace("\n", " ") for cell in row] for row in rows]
    lines = [names, ["---"] * len(names), *clean]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _seen(shares: dict[str, float], between: str) -> str:
    return between.join(f"{name} {share:.1%}" for name, share in shares.items() if share >= 0.0005)


def title_of(campaign: Campaign) -> str:
    """Its main shock's title, and how many earthquakes more there are; simulated ones are called so."""
    title = campaign.mainshock.title
    more = len(campaign.quakes) - 1
    simulated = campaign.mainshock.simulated and "simulated" not in title.lower()
    return f"{title}{f' and {more} more' if more else ''}{' (simulated)' if simulated else ''}"


def last_seen(campaign: Campaign) -> float | None:
    """Share of the area that the last version saw; None without a version."""
    return campaign.versions[-1].shares.get("observed", 0.0) if campaign.versions else None


def coming(campaign: Campaign, now: dt.datetime) -> str:
    """What is waited for, in a few words."""
    if campaign.state is State.ASKING and campaign.approval is not None:
        return f"asks: {campaign.approval.question}"
    if not campaign.open:
        return campaign.history[-1].why if campaign.history else ""
    if campaign.lease is not None and campaign.lease.until > now:
        return "a step is at work"
    after = f"looks again {_when(campaign.look_after, now)}"
    if campaign.last_error:
        return f"{after}, after {campaign.failures + campaign.unanswered} failures: {campaign.last_error}"
    if (flown := next((one for one in campaign.passes if one.time <= now), None)) is not None:
        return f"{after}; {flown.satellite} passed at {flown.time:%Y-%m-%d %H:%M}, its images are on their way"
    soon = next(iter(campaign.passes), None)
    return after if soon is None else f"{after}; {soon.satellite} passes {_when(soon.time, now)}"


def cost_words(cost: Cost) -> str:
    """A cost in words."""
    return (
        f"{cost.requests:,} requests, {cost.bytes / 1e9:,.2f} GB pulled, {cost.eecu_hours:,.2f} EECU-hours, "
        f"{cost.network_minutes:,.1f} minutes of the device that maps, {cost.stored_bytes / 1e9:,.2f} GB kept"
    )


def _facts(campaign: Campaign, now: dt.datetime) -> Iterator[tuple[str, str]]:
    yield "state", campaign.state.value
    yield "next", coming(campaign, now)
    for quake in campaign.quakes:
        place = f"{quake.time:%Y-%m-%d %H:%M:%S} UTC, {quake.lat:.3f}, {quake.lon:.3f}"
        yield "earthquake", f"{quake.title}; {place}; ids {', '.join(quake.ids)}"
    if campaign.decisions:
        yield "decided", campaign.decisions[-1].reason
    if campaign.area is not None:
        yield "area", f"{km2(campaign.area.area_km2)} km²: {campaign.area.reason}"
    if campaign.sight is not None:
        at = f"{campaign.sight.at:%Y-%m-%d %H:%M} UTC"
        expected = campaign.sight.why or f"{campaign.sight.expected_share:.0%} of the area can be observed"
        yield "last look", f"{at}: {expected}, {len(campaign.sight.scenes)} scenes after the earthquake"
    if campaign.versions:
        yield "covered", f"{covered_share(campaign):.1%} of the ground that can be seen"
    if campaign.open and campaign.sight is not None and campaign.sight.tiles:
        speed = f" (at {campaign.sight.speed})" if campaign.sight.speed else ""
        yield "a version would take", f"{cost_words(campaign.sight.cost)}{speed}"
    yield "used", cost_words(campaign.used)
    yield "ends", f"{campaign.horizon:%Y-%m-%d %H:%M} UTC at the latest"


def _versions(campaign: Campaign) -> Table:
    table = Table(title="Versions", title_justify="left")
    for name in ("version", "published (UTC)", "of the campaign's area", "landslides", "why"):
        table.add_column(name, overflow="fold")
    for note in campaign.versions:
        seen = _seen(note.shares, "\n")
        found = f"{note.landslides:,}\n{km2(note.landslide_area_m2 / 1e6)} km²"
        table.add_row(f"{note.version}\n{note.kind}", f"{note.published:%Y-%m-%d %H:%M}", seen, found, note.why)
    return table


def _passes(campaign: Campaign, now: dt.datetime) -> Table:
    table = Table(title="Next expected passes", title_justify="left")
    for name in ("satellite", "orbit", "time (UTC)", "in", "of the area"):
        table.add_column(name)
    for one in campaign.passes:
        orbit = str(one.orbit) if one.orbit else "–"
        when = _when(one.time, now) if one.time > now else _FLOWN
        table.add_row(one.satellite, orbit, f"{one.time:%Y-%m-%d %H:%M}", when, f"{one.share:.0%}")
    return table


def _history(campaign: Campaign) -> Table:
    table = Table(title="History", title_justify="left")
    table.add_column("time (UTC)")
    table.add_column("state")
    table.add_column("why", overflow="fold")
    for entry in campaign.history:
        table.add_row(f"{entry.at:%Y-%m-%d %H:%M}", entry.state.value, entry.why)
    return table


def _when(moment: dt.datetime, now: dt.datetime) -> str:
    """How far away a moment is, in words."""
    hours = (moment - now) / dt.timedelta(hours=1)
    if hours <= 0:
        return "now"
    return (
        f"in {hours * 60:.0f} minutes"
        if hours < 2
        else f"in {hours:.0f} hours"
        if hours < 48
        else f"in {hours / 24:.1f} days"
    )
