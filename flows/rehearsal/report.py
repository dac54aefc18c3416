"""What a rehearsal found, as `ninety_days.json` and `ninety_days.md`. Parts that were measured another time are kept."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from flows.planning import code_version
from flows.rehearsal.auditor import SHOWN
from flows.rehearsal.kills import SERVICES
from flows.rehearsal.planted import KINDS
from flows.rehearsal.rehearse import SETTINGS, Rehearsed
from flows.rehearsal.state import peak_mb

NAME = "ninety_days"
KEYS = (
    "qualifying_events", "mapped", "missed", "duplicated", "half_visible", "kills", "peak_rss_mb_first_week",
    "peak_rss_mb_last_week", "feed_to_plan_s", "scene_to_version_s",
)  # fmt: skip
"""What is judged, in this order."""
LISTS = ("missed", "duplicated", "half_visible", "unwanted", "undecided", "unnoted")


def figures_of(outcome: Rehearsed, command: str) -> dict[str, Any]:
    """The figures of a rehearsal, as JSON has them."""
    verdict, state, days = outcome.verdict, outcome.state, outcome.options.days
    week = min(7.0, days / 2)
    first, last = (0, max(1, round(week))), (max(0, round(days - week)), round(days) + 2)
    defects = {name: getattr(verdict, name)[:SHOWN] for name in LISTS if getattr(verdict, name)}
    return {
        "qualifying_events": verdict.qualifying_events, "mapped": verdict.mapped, "missed": len(verdict.missed),
        "duplicated": len(verdict.duplicated), "half_visible": len(verdict.half_visible), "kills": state.killed,
        "peak_rss_mb_first_week": peak_mb(state.memory, *first), "peak_rss_mb_last_week": peak_mb(state.memory, *last),
        "versions": verdict.versions, "unwanted_versions": len(verdict.unwanted), "undecided": len(verdict.undecided),
        "unnoted": len(verdict.unnoted), "orphans_after_janitor": verdict.orphans, "sound": verdict.sound,
        "defects": defects, "by_outcome": dict(verdict.by_outcome), "simulated_days": days, "command": command,
        "seed": outcome.options.seed, "real_seconds": round(state.spent_s, 1), "machine": machine(), "code": code(),
        "background": "recorded week, repeated" if outcome.recorded else "simulated week, repeated",
        "story": {name: count for name, count in outcome.story.counts.items() if count},
        "counts": dict(sorted(state.counts.items())), "settings": dict(SETTINGS),
        "steppers": outcome.options.steppers, "poll_every_minutes": outcome.options.every_minutes,
        "worked_s": state.worked_s, "memory_mb_by_day": state.memory,
    }  # fmt: skip


def machine() -> str:
    """The machine in words."""
    cores, memory = psutil.cpu_count(logical=True), psutil.virtual_memory().total / 2**30
    return (
        f"{platform.system()} {platform.machine()}, {cores} cores, {memory:.0f} GB, Python {platform.python_version()}"
    )


def code() -> str:
    """The code that is running, in words: quakeslide's version and, in a checkout, the commit, and whether it was changed."""
    here, git = Path(__file__).parent, shutil.which("git")

    def said(*command: str) -> str:
        done = subprocess.run([str(git), "-C", str(here), *command], capture_output=True, text=True, check=False)  # noqa: S603
        return done.stdout.strip() if done.returncode == 0 else ""

    commit = said("rev-parse", "--short=12", "HEAD") if git else ""
    if not commit:
        return f"version {code_version()}"
    changed = said("status", "--porcelain", "--untracked-files=no", "--", ":/*.py")
    return f"version {code_version()}, commit {commit}{' with changes' if changed else ''}"


def write(out: Path, part: Mapping[str, Any]) -> dict[str, Any]:
    """Put figures into the report in `out`, beside those that are there; returns all of them."""
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"{NAME}.json"
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    whole = {**dict.fromkeys(KEYS), **known, **part}
    ordered = {**{key: whole.pop(key) for key in KEYS}, **whole}
    file.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (out / f"{NAME}.md").write_text(page(ordered), encoding="utf-8")
    return ordered


def page(figures: Mapping[str, Any]) -> str:
    """The report for people."""
    lines = [
        "# Ninety days", "",
        "All earthquakes, scenes, outages and kills here are **simulated**; the program, its processes and its sockets are "
        "real. Time is simulated, too: the clock runs as always while anything is at work, and leaps while nothing is.", "",
        *_table(("figure", "value"), [(key, _cell(figures.get(key))) for key in KEYS]),
    ]  # fmt: skip
    if "simulated_days" in figures:
        lines += _rehearsal(figures)
    if "feed" in figures:
        lines += _feed(figures["feed"], figures)
    if "speed" in figures:
        lines += _speed(figures["speed"], figures)
    if "bad_day" in figures:
        lines += _bad_day(figures["bad_day"])
    return "\n".join(lines) + "\n"


def _rehearsal(figures: Mapping[str, Any]) -> list[str]:
    counts, story = figures["counts"], figures["story"]
    services = ", ".join(SERVICES)
    found = "Nothing to complain of." if figures["sound"] else "**Defects were found**, see below."
    lines = [
        "", f"## The rehearsal of {figures['simulated_days']:g} days", "", f"{found} Made by", "",
        f"    {figures['command']}", "",
        f"on {figures['machine']}, in {figures['real_seconds'] / 3600:.1f} hours, seed {figures['seed']}, "
        f"{_code(figures)}.", "",
        f"- **Feed**: {figures['background']}, with new ids and shifted times, under the real query and feed protocol of the "
        "USGS stand-in. Its earthquakes are at sea in the simulated world: where the rule asks for one, a campaign finds no "
        "land and is closed.",
        "- **Planted earthquakes** at places of their own, each with a simulated region of a few kilometres, ShakeMap, "
        "estimate of landslides, and scenes that come into the catalogue when their time has come; seven passes after "
        "each, five days apart.",
        f"- **Work**: one watch that looks every {figures['poll_every_minutes']:g} simulated minutes, and "
        f"{figures['steppers']} processes that make the steps that are due; three in a hundred steps are started twice.",
        f"- **Kills**: `kill -9` of a process at work, of the watch, of a step, or of a stand-in ({services}).",
        "- **Judged**: what lies in the bucket at the end, against what the story says is to come of each earthquake; every "
        "object that a version names is read, and its checksum made again; after each kill of a step the versions of its "
        "campaign are looked at as well. Memory is the high-water mark of a process, begun anew for each piece of work.",
        "", *_table(("in the story", "how often"), [(name, _cell(count)) for name, count in story.items()]),
        "", *_table(("what happened", "how often"), [(name, _cell(count)) for name, count in counts.items()]),
        "", *_table(("what the workers did", "s in all"), [(name, _cell(s)) for name, s in figures.get("worked_s", {}).items()]),
        "", *_table(("kind of planted earthquake", "what it is"), [(name, words) for name, (words, _) in KINDS.items()]),
        "", *_table(("setting", "value, as the regions are small"), list(figures["settings"].items())),
    ]  # fmt: skip
    for name, shown in figures["defects"].items():
        lines += ["", f"### {name.replace('_', ' ').capitalize()}", "", *(f"- {line}" for line in shown)]
    return lines


def _feed(feed: Mapping[str, Any], figures: Mapping[str, Any]) -> list[str]:
    return [
        "", f"## From feed to plan, {feed['area_km2']:,.0f} km²", "",
        f"Made by `{feed['command']}` on {feed['machine']}, {_code(feed)}, seed {feed['seed']}: "
        f"{feed['quakes']} earthquakes at moments drawn at random, each from the moment the USGS lists it, with ShakeMap and "
        f"estimate of landslides, to a campaign "
        f"with area, scenes and cost, everything as deployed and on the real clock (Prefect's schedule, a watch that looks "
        f"every {feed['every_s']:g} s, automation, worker, step). The longest took {_cell(figures['feed_to_plan_s'])} s, "
        f"the middle one {_cell(feed['median_s'])} s; all of them: {_cell(feed['all_s'])} s.", "",
        *_table(("stage", "least, median, most (s)"), [(name, _cell(value)) for name, value in feed["stages_s"].items()]),
    ]  # fmt: skip


def _speed(speed: Mapping[str, Any], figures: Mapping[str, Any]) -> list[str]:
    return [
        "", f"## From scene to version, {speed['area_km2']:,.0f} km²", "",
        f"Made by `{speed['command']}` on {speed['machine']}, {_code(speed)}: one simulated "
        f"region of {speed['region_px']} pixels a side, mirrored to {speed['side_px']:,} x {speed['side_px']:,} pixels, "
        f"one scene before and one after, mapped with "
        f"{speed['weights']}. From the first clear scene in the catalogue to the version of the whole area, "
        f"{_cell(figures['scene_to_version_s'])} s, when a step is due then. Stages called feed came before the scene.", "",
        *_table(("stage", "s"), [(name, _cell(value)) for name, value in speed["stages_s"].items()]),
        "", *(f"- {line}" for line in speed["notes"]),
    ]  # fmt: skip


def _bad_day(figures: Mapping[str, Any]) -> list[str]:
    waits = [(name, figures[f"first_version_s{key}"]) for name, key in (
        ("all", ""), ("the most urgent third", "_most_urgent_third"), ("the least urgent third", "_least_urgent_third"),
    )]  # fmt: skip
    lines = [
        "", f"## A bad day: {figures['earthquakes']} earthquakes within half an hour", "",
        f"Made by `{figures['command']}` on {figures['machine']}, {_code(figures)}, seed {figures['seed']}: "
        f"earthquakes at as many places, and one scene of each at the same moment, worked on by {figures['steppers']} processes. "
        f"{figures['mapped']} were mapped, "
        f"{figures['failed_steps']} steps failed. The correlation of the ranks of urgency and wait is "
        f"{_cell(figures['rank_correlation_urgency_wait'])} (-1: always the most urgent first). From the beginning of work on "
        "the first to the first version of each, in seconds; each looks at the catalogue at times of its own:", "",
        *_table(("earthquakes", "least, median, most"), [(name, ", ".join(map(_cell, each))) for name, each in waits]),
    ]  # fmt: skip
    for name, shown in figures["defects"].items():
        lines += ["", f"### {name.replace('_', ' ').capitalize()}", "", *(f"- {line}" for line in shown)]
    return lines


def _code(part: Mapping[str, Any]) -> str:
    """The code that a part of the report was measured with; each part has its own."""
    return str(part.get("code", "version not noted"))


def _table(head: tuple[str, str], rows: list[tuple[str, str]]) -> list[str]:
    return [f"| {head[0]} | {head[1]} |", "|---|---|", *(f"| {one} | {other} |" for one, other in rows)]


def _cell(value: Any) -> str:
    if value is None:
        return "not measured"
    if isinstance(value, list):
        return ", ".join(_cell(one) for one in value)
    if isinstance(value, float):
        return f"{value:,.{1 if abs(value) >= 1 else 3}f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
