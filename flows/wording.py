"""The sentences of the report: what was found, what is not known, what to beware of. Pure, from facts to words."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from flows.alignment import Alignment
from flows.facts import Coverage, Imagery, Provenance, ReportFacts
from gee.types import Observed


@dataclass(frozen=True)
class Caveat:
    """One thing that a reader must know before using the map."""

    title: str
    """In a few words."""
    text: str
    """In a sentence or two."""


def km2(value: float) -> str:
    """An area with as many digits as mean something: `1,234`, `56.7`, `0.123`."""
    if value == 0:
        return "0"
    digits = 0 if value >= 1000 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:,.{digits}f}"


def percent(value: float) -> str:
    """A share that is never rounded to nothing or to everything: `<0.1`, `42.3`, `>99.9`."""
    if 0 < value < 0.1:
        return "<0.1"
    if 99.9 < value < 100 - 1e-9:
        return ">99.9"
    return f"{value:.1f}".removesuffix(".0")


def landslides(count: int) -> str:
    """A number of landslides in words: `no landslide`, `1 landslide`, `1,234 landslides`."""
    if count == 0:
        return "no landslide"
    return f"{count:,} landslide" + ("s" if count > 1 else "")


def degrees(lon: float, lat: float) -> str:
    """A position for people, latitude first: `42.71234° N, 141.95678° E`."""
    return f"{abs(lat):.5f}° {'N' if lat >= 0 else 'S'}, {abs(lon):.5f}° {'E' if lon >= 0 else 'W'}"


def headline(facts: ReportFacts) -> str:
    """The result in a sentence."""
    inventory, seen = facts.inventory, facts.coverage
    if seen.observed_km2 == 0:
        return "Nothing could be seen: no part of the area has a clear image both before and after the event."
    where = f"in the {km2(seen.observed_km2)} km² that could be seen ({percent(seen.observed_percent)} % of the area)"
    if inventory.count == 0:
        return f"No landslide was found {where}."
    verb = "was" if inventory.count == 1 else "were"
    area = km2(inventory.total_area_m2 / 1e6)
    return f"{landslides(inventory.count).capitalize()} with a total area of {area} km² {verb} found {where}."


def totals(facts: ReportFacts) -> str:
    """How far the totals may be off, in a few sentences; empty where nothing was fitted, for then nothing is claimed."""
    held = facts.totals
    if held is None:
        return ""
    low, high = (km2(end / 1e6) for end in (held.area_low_m2, held.area_high_m2))
    kind = "simulated events" if held.simulated else "events"
    text = (
        f"On the ground that was seen, the true total area is expected between {low} and {high} km², and the number of "
        f"landslides between {held.count_low:,} and {held.count_high:,}: intervals made to hold for "
        f"{percent(100 * held.level)} % of events, by {kind} in regions that the network had not seen ({held.events} events in "
        f"{len(held.regions)} regions)."
    )
    if held.beyond:
        text += (
            " This scene is unlike all ground that the network was validated on: the true totals may well lie outside."
        )
    if facts.coverage.unobserved_km2:
        text += " They say nothing about the ground that was not seen."
    return text


def unknown(facts: ReportFacts) -> str:
    """What is not known, in one or two sentences; belongs beside every total."""
    seen = facts.coverage
    if seen.area_km2 == 0:
        return "The area is empty."
    if seen.unobserved_km2 == 0:
        text = "All of the area was seen."
    else:
        share = f"{km2(seen.unobserved_km2)} km² ({percent(seen.unobserved_percent)} % of the area)"
        text = (
            f"{share} was not seen: {_reasons(seen)}. "
            "How many landslides there are in that part is not known; the numbers here leave it out."
        )
    if facts.inventory.cut_off:
        count = facts.inventory.cut_off
        borders, those = ("borders", "Its") if count == 1 else ("border", "Their")
        text += (
            f" {landslides(count).capitalize()} {borders} on ground that was not seen. {those} true size may be larger."
        )
    return text


def caveats(facts: ReportFacts) -> tuple[Caveat, ...]:
    """Everything to beware of, the gravest first."""
    found = [caveat for holds, caveat in _GENERAL if holds(facts)]
    if facts.selection is not None and facts.selection.warning:
        warning = facts.selection.warning
        found.insert(int(facts.event.simulated), Caveat(facts.selection.heading, f"{warning[0].upper()}{warning[1:]}"))
    if facts.provenance.kept_back:
        found.append(
            Caveat("Few landslides have a probability of 0.9 and more", _KEPT_BACK + _when_sure(facts.provenance))
        )
    if bare := _phases(imagery for imagery in facts.imagery if not imagery.cloud_masked):
        found.append(Caveat("Clouds were not masked", _NO_MASK.format(phases=bare)))
    if assumed := _phases(imagery for imagery in facts.imagery if imagery.dates_assumed):
        found.append(Caveat("Dates are assumed", _NO_DATE.format(phases=assumed)))
    found.append(Caveat("Not every change is the earthquake's", _OTHER_CHANGE.format(gap=_gap(facts))))
    found.extend(Caveat("Note", note) for note in facts.notes)
    return tuple(found)


_RULES = {
    "area": "too small", "elongation": "as elongated as a road", "slope": "on flat ground",
    "before": "mapped on the image before as well",
}  # fmt: skip


def rules(facts: ReportFacts) -> str:
    """What the geology rules dropped, rule by rule, in a few sentences; empty without rules."""
    told = facts.rules
    if told is None:
        return ""
    learnt = f", learnt on {told.learnt_on}" if told.learnt_on else ""
    text = f"Rules kept what is {told.thresholds}{learnt}. "
    if not told.regions:
        return f"{text}They dropped nothing."
    counts = ", ".join(f"{count:,} {_RULES[name]}" for name, count in told.dropped.items() if count)
    text += f"They dropped {told.regions:,} mapped region{'' if told.regions == 1 else 's'}, {km2(told.area_m2 / 1e6)} km²: "
    return f"{text}{counts}. Each stands in dropped.gpkg with the reason."


def alignment(facts: ReportFacts) -> str:
    """How well the images lie on each other, in a sentence; empty when nobody looked."""
    aligned = facts.alignment
    if aligned is None:
        return ""
    shift = aligned.shift
    if not shift.measured:
        return f"How well the images before and after lie on each other could not be measured: {shift.why}."
    metres = shift.length_px * aligned.pixel_m
    if aligned.corrected:
        return f"The image before lay {metres:.1f} m from the one after ({_towards(aligned)}); that was corrected."
    return f"The images before and after lie on each other to {metres:.1f} m; nothing was moved."


def selection(facts: ReportFacts) -> str:
    """Why this network mapped, in a sentence or two; empty when nobody compared."""
    choice = facts.selection
    if choice is None:
        return ""
    own = choice.winner
    how = "was chosen by the program, without any label" if choice.automatic else "was named by hand"
    compared = f"{choice.pixels:,} pixels of the scene" if choice.pixels else "none of the scene, which was not seen"
    return f"{own.name} {how}: it {'; '.join(own.reasons)}. Compared were {compared}."


def _towards(aligned: Alignment) -> str:
    north, east = aligned.north_m, aligned.east_m
    return (
        f"{abs(north):.1f} m {'north' if north >= 0 else 'south'}, {abs(east):.1f} m {'east' if east >= 0 else 'west'}"
    )


_GENERAL: tuple[tuple[Callable[[ReportFacts], bool], Caveat], ...] = (
    (
        lambda facts: facts.event.simulated,
        Caveat(
            "This is a simulated example",
            "The earthquake, the images and the landslides are made up by a computer. No real place is shown.",
        ),
    ),
    (
        lambda facts: facts.coverage.unobserved_km2 > 0,
        Caveat(
            "“Not seen” is not “no landslide”",
            "Where the map is striped grey, nothing is known: there may be landslides, and no number counts them.",
        ),
    ),
    (
        lambda _facts: True,
        Caveat(
            "Made by a program, checked by nobody",
            "A neural network drew this map without human review. It misses landslides, above all small ones and those "
            "under trees or in shadow, and it takes other bare ground for landslides. "
            "Check before lives or money depend on it.",
        ),
    ),
    (
        lambda facts: facts.provenance.trained_on_simulated,
        Caveat(
            "The network has learned from simulated landslides only",
            "How well it does on real images of this region is not measured.",
        ),
    ),
)
_KEPT_BACK = (
    "In regions that it has not seen the network is often too sure. So 0.9 and more is kept for the pixels of which it is "
    "surest; all others have 0.89 at most, which does not speak against them. "
)
_NO_MASK = (
    "There was no cloud mask for the images {phases}: clouds and their shadows may hide landslides "
    "or be taken for them."
)
_NO_DATE = "When the images {phases} were taken is not recorded; their dates are taken for granted."
_OTHER_CHANGE = (
    "Whatever laid ground bare between the images before and after, such as rain, logging or works, "
    "may be mapped as well{gap}."
)
_PHASE_WORDS = {"pre": "before the event", "post": "after the event"}


def _phases(imagery: Iterable[Imagery]) -> str:
    return " and ".join(_PHASE_WORDS[one.phase] for one in imagery)


def _reasons(seen: Coverage) -> str:
    rows = [row for row in seen.rows if row.area_km2 > 0 and row.code != Observed.CLEAR]
    return ", ".join(f"{row.label} {km2(row.area_km2)} km²" for row in rows)


def _when_sure(source: Provenance) -> str:
    if source.wrong_when_sure is None:
        return "How often pixels with 0.9 and more are none was not measured for a map made like this one."
    share = f"{100 * source.wrong_when_sure:.1f} %" if source.wrong_when_sure else "none"
    return f"Of the pixels with 0.9 and more, {share} were wrong in the worst of the simulated regions it was tried on."


def _gap(facts: ReportFacts) -> str:
    pre, post = facts.phase("pre"), facts.phase("post")
    if not (pre and post and pre.first_date and post.last_date):
        return ""
    days = (post.last_date - pre.first_date).days
    return f"; they lie up to {days} day{'s' if days != 1 else ''} apart" if days > 0 else ""
