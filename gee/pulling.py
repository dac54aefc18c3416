"""Pulls what a cube lacks: a pilot that tells the cost, the bulk within the budget, what is damaged, and the seal."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial

from gee.budget import Account, Budget, Estimate, Job
from gee.cube import create_cube, damaged_tiles, load_plan, pull_tile, seal_cube, survey
from gee.errors import CubeError
from gee.plan import CubePlan
from gee.records import TileRecord
from gee.reuse import Takeover, take_tile
from gee.session import Session, SessionConfig
from gee.types import Tile

log = logging.getLogger(__name__)

COPIES = 4
"""Tiles that are taken over side by side."""

Work = Callable[[Job], TileRecord]
Spread = Callable[[Work, Iterable[Job]], Iterator[TileRecord]]
"""Applies the work to all jobs, side by side where it can, and gives the records as they come. It takes a job only when
there is room for it: the budget is looked at then."""
Told = Callable[[int, int, TileRecord], None]
"""Tiles that are there, tiles of the cube, and the one that has just arrived."""


def one_by_one(work: Work, jobs: Iterable[Job]) -> Iterator[TileRecord]:
    """The plainest `Spread`."""
    return map(work, jobs)


def pull_cube(
    plan: CubePlan,
    session: Session | SessionConfig,
    endpoint: str = "",
    *,
    budget: Budget | None = None,
    spread: Spread = one_by_one,
    told: Told | None = None,
    takeover: Takeover | None = None,
    first: Sequence[str] = (),
) -> str:
    """Pull the tiles that are missing or of another size than recorded, seal the cube, and return its hash.

    With a budget a few tiles are pulled first; `BudgetError` is raised before the others when the whole would cost too
    much by them, and later when it turns out to. What was pulled stays, and counts when it is gone on with.
    What earlier cubes hold (`takeover`, made by `gee.reuse.find_takeover` for this plan) is taken from them beforehand.
    The tiles named in `first` are pulled before the others, in that order.
    Raises also what `create_cube`, `pull_tile` and `seal_cube` raise.
    """
    create_cube(plan, endpoint)
    records, missing = survey(plan, endpoint)
    account = Account(plan, budget or Budget(), records.values())
    done, here = len(plan.tiles) - len(missing), set[str]()
    config = session if isinstance(session, SessionConfig) else session.config
    work = partial(_pull, plan.uri, plan.plan_hash, config, endpoint)

    def arrived(record: TileRecord) -> None:
        nonlocal done
        done += 1
        here.add(record.name)
        account.add(record)
        if told is not None:
            told(done, len(plan.tiles), record)

    for record in _taken_over(plan, takeover, missing, endpoint):
        arrived(record)
    rank = {name: number for number, name in enumerate(first)}
    left = [tile for tile in missing if tile.name not in here]
    missing = tuple(sorted(left, key=lambda tile: rank.get(tile.name, len(rank))))
    for record in spread(work, account.pilot(missing)):
        arrived(record)
    if missing:
        log.info("the cube %s takes %s", plan.uri, account.estimate())
    while done < len(plan.tiles):  # more than once when tiles that were under way cost less than feared
        account.check()
        for record in spread(work, account.bulk(missing)):
            arrived(record)
    return seal_cube(plan, endpoint)


def _taken_over(
    plan: CubePlan, takeover: Takeover | None, missing: Sequence[Tile], endpoint: str
) -> Iterator[TileRecord]:
    """Copies what is missing from the earlier cubes that hold it, side by side; what is damaged there is left out."""
    if takeover is None or takeover.plan_hash != plan.plan_hash:
        return
    wanted = {tile.name for tile in missing}
    there = [taken for taken in takeover.tiles if taken.name in wanted]
    if not there:
        return
    copied = 0
    with ThreadPoolExecutor(COPIES, thread_name_prefix="take-over") as pool:
        for record in pool.map(lambda taken: take_tile(plan, taken, endpoint), there):
            if record is not None:
                copied += 1
                yield record
    log.info("%d of %d tiles of the cube %s were taken over from earlier ones", copied, len(plan.tiles), plan.uri)
    if copied < len(there):
        log.warning("%d tiles are gone or damaged in the earlier cubes: they are pulled", len(there) - copied)


def cost_of(plan: CubePlan, endpoint: str = "") -> Estimate:
    """What a cube has cost so far and will cost, by the records of its tiles."""
    return Account(plan, Budget(), survey(plan, endpoint)[0].values()).estimate()


def repair_cube(plan: CubePlan, session: Session | SessionConfig, endpoint: str = "") -> tuple[Tile, ...]:
    """Read every byte of a cube, pull again the tiles that are gone or damaged, and seal it; returns those tiles.

    Raises what `pull_tile` and `seal_cube` raise.
    """
    create_cube(plan, endpoint)
    damaged = damaged_tiles(plan, endpoint)
    for tile in damaged:
        pull_tile(plan, session, tile, endpoint)
    seal_cube(plan, endpoint)
    return damaged


def _pull(uri: str, plan_hash: str, config: SessionConfig, endpoint: str, job: Job) -> TileRecord:
    return pull_tile(_plan(uri, plan_hash, endpoint), config, job.tile, endpoint, profiled=job.profiled)


@lru_cache(maxsize=4)
def _plan(uri: str, plan_hash: str, endpoint: str) -> CubePlan:
    """The plan as the store has it, read once a process: it is far larger than what else a worker is told."""
    plan = load_plan(uri, endpoint)
    if plan.plan_hash != plan_hash:
        raise CubeError(f"{uri} holds the cube of another plan by now: take another address")
    return plan
