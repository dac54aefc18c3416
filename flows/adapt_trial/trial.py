"""One event of the trial: mapped, drawn on, adapted, and held against its truth."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import rasterio
import shapely
from pydantic import TypeAdapter

from flows.adapt_folder import adapt_folder
from flows.adapt_parent import Rasters
from flows.adapt_request import AdaptRequest
from flows.adapt_trial.drawing import DrawnPolygons, draw, roughened
from flows.adapt_trial.pair import AT, CRS, write_pair
from flows.errors import FlowError
from flows.facts import ReportFacts
from flows.layout import FACTS
from flows.map_raster import map_raster_pair
from flows.settings import Settings, WorkSettings
from modeling.errors import ModelingError
from modeling.simulate import domain, simulate_region

Drawing = Literal["errors", "anywhere", "rough", "missed"]
BoolArray = npt.NDArray[np.bool_]

SIDE_PX = 512
FIRST_SEED = 7_100_000
DRAWINGS: dict[Drawing, str] = {
    "errors": "where the map is wrong first", "anywhere": "whatever the map says",
    "rough": "whatever the map says, outlines a pixel off", "missed": "landslides only that the map misses",
}  # fmt: skip
"""How polygons are drawn, for people."""


@dataclass(frozen=True)
class Case:
    """An event, and how its map is drawn on."""

    domain: str
    """Of the simulator."""
    seed: int
    """Of the region and of the polygons."""
    drawing: Drawing
    """Which landslides are drawn first."""
    polygons: int = 20
    """How many are drawn, half of them landslides."""

    @property
    def name(self) -> str:
        """For a file."""
        return f"{self.domain}-{self.seed}-{self.drawing}-{self.polygons}"


@dataclass(frozen=True)
class Trial:
    """What came of a case."""

    case: Case
    """It."""
    verdict: str
    """As told; `refused` where the map was refused after it was made, and where nothing that was tried did better."""
    chosen: str
    """The candidate."""
    told_before: float
    """Estimated F1 of the whole map before."""
    told_after: float
    """The same after; of the map that was made, or where none was, of what was judged."""
    f1_before: float
    """Pixel F1 of the whole observed map before."""
    f1_after: float
    """The same of the version that came of it, `unproven` ones too; that before where none did."""
    seconds: float
    """What adapting and judging took."""


_TRIALS = TypeAdapter(Trial)


def cases(domains: Sequence[str], events: int, polygons: int) -> list[Case]:
    """All cases: each event with each drawing."""
    return [
        Case(name, FIRST_SEED + 1000 * place + event, drawing, polygons)
        for event in range(events)
        for place, name in enumerate(domains)
        for drawing in DRAWINGS
    ]


def run_cases(
    wanted: Sequence[Case], work: Path, weights: str, seconds: float, processes: int, told: Callable[[int, int], None]
) -> Iterator[Trial]:
    """What came of each, in the order of completion; those in `work` are not tried again."""
    kept = [work / f"{case.name}.json" for case in wanted]
    yield from (_TRIALS.validate_json(path.read_bytes()) for path in kept if path.is_file())
    missing = [case for case, path in zip(wanted, kept, strict=True) if not path.is_file()]
    done = len(wanted) - len(missing)
    told(done, len(wanted))
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_silence) as pool:
        for future in as_completed([pool.submit(try_case, case, work, weights, seconds) for case in missing]):
            yield future.result()
            done += 1
            told(done, len(wanted))


def _silence() -> None:
    """What the commands say of each map is not shown."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nothing, stream)


def try_case(case: Case, work: Path, weights: str, seconds: float) -> Trial:
    """Map, draw, adapt and compare; the result is kept in `work`, the maps are not."""
    folder = work / case.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    settings = Settings(work=WorkSettings(scratch=str(folder)))
    region = simulate_region(
        domain(case.domain), seed=case.seed, shape_yx=(SIDE_PX, SIDE_PX), dates_pre=4, dates_post=2
    )
    truth, rasters, first = np.asarray(region.truth, bool), write_pair(region, folder), folder / "first"
    map_raster_pair(
        rasters.pre, rasters.post, rasters.dem, first, bands=None, scale=None, weights=weights, name=case.name,
        settings=settings,
    )  # fmt: skip
    threshold = ReportFacts.from_json((first / FACTS).read_text()).provenance.threshold
    before = _read(first)
    known, claimed = np.isfinite(before), before >= threshold
    right = truth if case.drawing in ("anywhere", "rough") else claimed
    drawn = draw(
        truth & known, right, known, AT, count=case.polygons, seed=case.seed, missed_only=case.drawing == "missed"
    )
    if case.drawing == "rough":
        drawn = roughened(drawn, AT.a, case.seed)
    labels = folder / "drawn.geojson"
    labels.write_text(geojson(drawn))
    request = AdaptRequest(event_id=str(first), labels=str(labels), weights=None, seconds=seconds, unproven=True)
    found = _adapted(case, request, rasters, folder, settings, (truth & known, claimed, threshold))
    (work / f"{case.name}.json").write_text(json.dumps(asdict(found), indent=1))
    shutil.rmtree(folder)
    return found


def geojson(drawn: DrawnPolygons) -> str:
    """The polygons as `quakeslide adapt` reads them."""
    rows = [
        {"type": "Feature", "geometry": json.loads(shapely.to_geojson(geometry)), "properties": {"label": landslide}}
        for geometry, landslide in zip(drawn.geometries, drawn.landslide, strict=True)
    ]
    return json.dumps(
        {"type": "FeatureCollection", "crs": {"type": "name", "properties": {"name": CRS}}, "features": rows}
    )


def _adapted(
    case: Case, request: AdaptRequest, rasters: Rasters, folder: Path, settings: Settings,
    ground: tuple[BoolArray, BoolArray, float],
) -> Trial:  # fmt: skip
    truth, claimed, threshold = ground
    was = f1_of(claimed, truth)
    try:
        outcome = adapt_folder(request, rasters, folder / "second", settings)
    except (FlowError, ModelingError) as error:  # too few landslides, or too near to each other
        return Trial(case, f"cannot be judged: {error}", "", 0.0, 0.0, was, was, 0.0)
    facts = outcome.adaptation
    judgement, whole = facts.judgement, facts.whole
    told = (
        (judgement.before["map_f1"].value, judgement.after["map_f1"].value)
        if whole is None
        else (whole.f1_before, whole.f1_after)
    )
    now = was if outcome.folder is None else f1_of(_read(outcome.folder) >= threshold, truth)
    verdict = judgement.verdict if outcome.folder is not None else "refused"
    return Trial(case, verdict, judgement.chosen, *told, was, now, facts.seconds)


def f1_of(claimed: BoolArray, truth: BoolArray) -> float:
    """Pixel F1."""
    return float(2 * (claimed & truth).sum() / max(int(claimed.sum()) + int(truth.sum()), 1))


def _read(folder: Path) -> Any:
    with rasterio.open(folder / "probability.tif", driver="GTiff") as file:
        return file.read(1)
