"""A rehearsal from its options to its report."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from flows.campaign import store as campaigns
from flows.clearing import clear_everything
from flows.errors import FlowError
from flows.layout import EventLayout
from flows.publish import read_versions
from flows.reaching import bucket
from flows.rehearsal import state as states
from flows.rehearsal.auditor import Verdict, gather, judge
from flows.rehearsal.background import background, invented_week, read_week
from flows.rehearsal.director import Director
from flows.rehearsal.kills import draw_kills
from flows.rehearsal.sites import DEM, MOST, SEA, make_regions, set_down, write_world
from flows.rehearsal.story import START, Story, tell, tell_bad_day
from flows.rehearsal.world import World
from flows.services import applied
from flows.settings import Settings
from flows.storage import Store
from infra.local.stack import LocalStack, StackError

REGIONS = 4
WEIGHTS = "resu-senet-slim_ten-band"
QUAKES_A_DAY = 0.45

SETTINGS: Mapping[str, str] = {
    "QUAKESLIDE_IMAGERY__DEMS": json.dumps([DEM, SEA]),
    "QUAKESLIDE_WATCH__MINIMUM_STEEP_KM2": "1",
    "QUAKESLIDE_CUBE__TILE_PX": "128",
    "QUAKESLIDE_CAMPAIGN__PARTIAL_ABOVE_TILES": "6",
    "QUAKESLIDE_MODEL__WEIGHTS": WEIGHTS,
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "WARNING",
}
"""What differs from the defaults, as the sites are a few kilometres wide."""


@dataclass(frozen=True)
class Options:
    """What a rehearsal is asked for."""

    days: float
    """Days of the story."""
    seed: int
    """Of everything that is drawn."""
    kills: int
    """Processes that are killed."""
    quakes: int
    """Planted earthquakes."""
    steppers: int
    """Processes that make steps."""
    every_minutes: float
    """From one look at the USGS to the next, on the story's clock."""
    size_px: int
    """Side of a simulated region."""
    data: str
    """Folder with the recorded week, which is simulated where it is not there."""
    bad_day: bool = False
    """One day with all earthquakes at once and nothing else that goes wrong, instead of the months."""

    @classmethod
    def of(cls, days: float, seed: int, kills: int, quakes: int | None, **rest: object) -> Options:
        """Options with as many planted earthquakes as fit the days, unless a number is given."""
        chosen = max(2, min(MOST, round(days * QUAKES_A_DAY))) if quakes is None else quakes
        if not 1 <= chosen <= MOST:
            raise FlowError(f"--quakes {chosen}: 1 to {MOST} are possible")
        return cls(days=days, seed=seed, kills=kills, quakes=chosen, **rest)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Rehearsed:
    """What a rehearsal came to."""

    options: Options
    """What was asked for."""
    state: states.Progressed
    """What was counted while it ran."""
    story: Story
    """What happened."""
    verdict: Verdict
    """What the judge says."""
    recorded: bool
    """Whether the background is the recorded week."""
    urgency: Mapping[str, float] = field(default_factory=dict)
    """Of each campaign, at the end."""


def rehearse(options: Options, home: Path, *, resume: bool, say: Callable[[str], None]) -> Rehearsed:
    """Play the story to its end and judge what came of it; an interrupted one is gone on with by `resume`.

    Raises `FlowError` when `home` holds another rehearsal, or one and `resume` is not given.
    """
    state = _begun(options, home, resume=resume)
    say(f"simulating {REGIONS} regions of {options.size_px} x {options.size_px} pixels")
    sites = set_down(make_regions(min(REGIONS, options.quakes), options.seed, options.size_px), options.quakes)
    catalogue = home / "catalogue"
    write_world(catalogue, sites)
    week = read_week(Path(options.data)) if options.data else None
    end = START + dt.timedelta(days=options.days)
    past = background(invented_week(options.seed) if week is None else week, START, end, options.seed)
    if options.bad_day:
        story = tell_bad_day(sites, past, seed=options.seed)
    else:
        story = tell(sites, past, days=options.days, seed=options.seed)
    kills = draw_kills(options.kills, story.start, story.end, options.seed)
    say(f"{len(story.happenings):,} things will happen in {options.days:g} days, {options.kills} kills among them")
    with services_up(home, catalogue, say) as (stack, settings, environment):
        world = World(stack, catalogue, sites)
        with bucket(settings) as store:
            director = Director(
                home, story, kills, state, world, store, environment, steppers=options.steppers,
                every=dt.timedelta(minutes=options.every_minutes), tell=say,
            )  # fmt: skip
            director.run()
            say("the story is over; looking at everything in the bucket")
            for service in ("usgs", "storage", "earthengine"):
                world.calm(service)
            verdict = _judged(store, settings, story, state)
            urgency = {one.id: one.urgency for one in campaigns.all_campaigns(store)}
        world.close()
    return Rehearsed(options, state, story, verdict, week is not None, urgency)


def _begun(options: Options, home: Path, *, resume: bool) -> states.Progressed:
    known = states.load(home)
    wanted = asdict(options)
    if known is None:
        if home.is_dir() and any(home.iterdir()):
            raise FlowError(f"{home} is not empty and holds no rehearsal: name another folder with --home")
        home.mkdir(parents=True, exist_ok=True)
        fresh = states.Progressed(wanted, START)
        fresh.save(home)
        return fresh
    if not resume:
        raise FlowError(
            f"{home} holds a rehearsal that is at {known.now:%Y-%m-%d %H:%M}: go on with --resume, or remove it"
        )
    if known.options != wanted:
        differs = sorted(name for name in wanted if known.options.get(name) != wanted[name])
        raise FlowError(f"{home} holds a rehearsal with other {', '.join(differs)}: give the same to go on with it")
    return known


@contextmanager
def services_up(
    home: Path, catalogue: Path, say: Callable[[str], None], more: Mapping[str, str] | None = None
) -> Iterator[tuple[LocalStack, Settings, dict[str, str]]]:
    """The stand-ins and a Prefect server, the settings with which they are reached, and a worker's environment."""
    scratch = home / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        with LocalStack(home / "stack", catalogues=[catalogue], usgs_folders=[], prefect=True, progress=say) as stack:
            own = {
                **stack.environment(), **(SETTINGS if more is None else more),
                "QUAKESLIDE_WORK__SCRATCH": str(scratch), "PREFECT_HOME": str(home / "prefect"),
                "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1",
            }  # fmt: skip
            with applied(own) as settings:
                yield stack, settings, dict(os.environ)
    except StackError as error:
        raise FlowError(str(error)) from error


def _judged(store: Store, settings: Settings, story: Story, state: states.Progressed) -> Verdict:
    """Let the janitor clear without grace, then read everything and judge it."""
    janitor = settings.janitor.model_copy(update={"orphan_hours": 1e-6})
    cleared = clear_everything(settings.model_copy(update={"janitor": janitor}), now=story.end)
    state.counts["objects cleared by the janitor"] = sum(cleared.removed.values())
    found = gather(store, story.start.date() - dt.timedelta(days=1), _orphans(store))
    verdict = judge(story.expected, story.listed, found)
    verdict.half_visible += state.half_visible
    return verdict


def _orphans(store: Store) -> int:
    """Objects below `runs/` that no version shows."""
    count = 0
    for name in store.folders(f"{store.bucket_url}/events/"):
        event = EventLayout(store.bucket_url, name)
        shown = {f"{version.item_uri.rpartition('/')[0]}/" for version in read_versions(store, event)}
        runs = store.list(f"{event.root}/runs/")
        count += sum(f"{info.uri.rpartition('/')[0]}/" not in shown for info in runs)
    return count
