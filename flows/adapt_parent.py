"""The version that an adaptation begins with: what it says, its map, its network, and the scene that it was made from.

The scene is the one that the version itself was made from, told by its hash: nothing is planned anew, so that before and
after differ by the network alone.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from shapely.geometry import MultiPolygon, Polygon, shape
from shapely.geometry.base import BaseGeometry

from flows.alignment import AlignedScene
from flows.area_type import AreaOfInterest
from flows.copies import download_version
from flows.errors import EventError, FlowError, PublicationError
from flows.event import EarthquakeEvent
from flows.facts import EventFacts, ReportFacts
from flows.layout import FACTS, ITEM_NAME, PRODUCTS, EventLayout, RunLayout
from flows.map_raster import PairScene, hashes_of, scene_hash
from flows.planning import GIVEN, MapPlan
from flows.publish import Publication, read_versions
from flows.scene import Scene
from flows.scene_means import SETTING, on_scene_means
from flows.storage import Store
from gee.errors import CubeError
from gee.scenecube import SceneCube, open_cube
from modeling import networks
from modeling.model import LandslideModel, available_models, load_model
from modeling.rasters.raster_pair import Scaling, open_pair


@dataclass(frozen=True)
class Parent:
    """A version to begin with."""

    facts: ReportFacts
    """What it says."""
    folder: Path
    """A copy of its products."""
    scene: Scene
    """What it was made from, aligned as it was."""
    model: LandslideModel
    """Its network."""
    footprint: BaseGeometry
    """Its area, WGS84."""
    version: int | None = None
    """Its number; None for a folder of `map-raster`."""
    cube: SceneCube | None = None
    """The cube of its scene; None for a folder of `map-raster`."""

    @property
    def probability(self) -> Path:
        """Its map."""
        return self.folder / PRODUCTS["probability"].filename

    @property
    def observed(self) -> Path:
        """What it saw."""
        return self.folder / PRODUCTS["observed"].filename


def choose_version(store: Store, event_id: str, version: int | None) -> Publication:
    """A visible version of an event, the newest by default; `EventError` when there is none."""
    event = EventLayout(store.bucket_url, event_id)
    published = read_versions(store, event)
    if not published:
        raise EventError(
            f"event {event_id} has no published version in {store.bucket_url}: run `quakeslide map {event_id}`"
        )
    if version is None:
        return published[-1]
    if not 1 <= version <= len(published):
        raise EventError(f"event {event_id} has no version {version}: there are 1 to {len(published)}")
    return published[version - 1]


def published_parent(
    store: Store, endpoint: str, publication: Publication, folder: Path, weights: str | None
) -> Parent:
    """A published version as a parent, its products copied below `folder`.

    Raises `EventError` when its cube is no longer in the bucket, `FlowError` when its weights cannot be found.
    """
    copy = download_version(store, publication, folder)
    facts = ReportFacts.from_json((copy / FACTS).read_text())
    event = EventLayout(store.bucket_url, publication.event_id)
    cube = _cube_of(store, endpoint, event, facts.provenance.cube_hash, publication.version)
    scene: Scene = cube if facts.alignment is None else AlignedScene(cube, facts.alignment)
    return Parent(facts, copy, scene, _model(facts, copy, weights, scene), _footprint(copy), publication.version, cube)


@dataclass(frozen=True)
class Rasters:
    """What a folder of `quakeslide map-raster` was made from."""

    pre: tuple[Path, ...]
    """The image before: one file, or several that hold its bands."""
    post: tuple[Path, ...]
    """The image after, likewise."""
    dem: Path
    """The elevation model."""
    bands: tuple[str, ...] | None = None
    """The order of the bands; None: by their names."""
    scale: float | None = None
    """Reflectance per digital number; None: by the type."""


@contextmanager
def folder_parent(folder: Path, rasters: Rasters, weights: str | None) -> Iterator[Parent]:
    """A folder of `quakeslide map-raster` as a parent, with the rasters that it was made from.

    Raises `PublicationError` for a folder that is none, `RasterError` for unusable rasters and `FlowError` for others
    than those.
    """
    try:
        facts = ReportFacts.from_json((folder / FACTS).read_text())
    except (OSError, ValueError) as error:
        raise PublicationError(
            f"{folder} is no folder that `quakeslide map-raster` has written: {FACTS} is missing or damaged"
        ) from error
    pre, post, dem = rasters.pre, rasters.post, rasters.dem
    with open_pair(pre, post, dem, bands=rasters.bands, scaling=Scaling(scale=rasters.scale)) as pair:
        if scene_hash(hashes_of(pair, dem)) != facts.provenance.cube_hash:
            given = ", ".join(path.name for path in (*pre, *post, dem))
            raise FlowError(
                f"{folder} was not made from {given}: give all rasters that it was made from, and no others"
            )
        plain = PairScene(pair)
        scene: Scene = plain if facts.alignment is None else AlignedScene(plain, facts.alignment)
        yield Parent(facts, folder, scene, _model(facts, folder, weights, scene), _footprint(folder))


def plan_after(parent: Parent, run: RunLayout) -> MapPlan:
    """The plan of a version that follows a published one: the same event, area and cube, another run."""
    if parent.cube is None:
        raise FlowError("a folder of rasters has no plan: its adaptation is written into a folder")
    facts = parent.facts
    geometry = parent.footprint
    if not isinstance(geometry, (Polygon, MultiPolygon)):
        raise FlowError(f"the footprint of {facts.event.id} is a {geometry.geom_type}: its item is damaged")
    area = AreaOfInterest(geometry, facts.provenance.area_reason)
    model = parent.model
    return MapPlan(
        _event(facts.event, facts.created), area, parent.cube.plan, model.name, model.weights_hash, run, facts.notes
    )


def _event(facts: EventFacts, created: dt.datetime) -> EarthquakeEvent:
    time = facts.time or created
    return EarthquakeEvent(
        id=facts.id, ids=(facts.id,), time=time, updated=time, lon=facts.lon or 0.0, lat=facts.lat or 0.0,
        depth_km=facts.depth_km, magnitude=math.nan if facts.magnitude is None else facts.magnitude, magnitude_type="",
        place="", title=facts.title, status=GIVEN, alert=None, simulated=facts.simulated,
    )  # fmt: skip


def _cube_of(store: Store, endpoint: str, event: EventLayout, cube_hash: str, version: int) -> SceneCube:
    """The cube with that hash among those of the event."""
    prefix = f"{event.root}/cubes/"
    found = {
        match[0] for info in store.list(prefix) if (match := re.match(re.escape(prefix) + r"[0-9a-f]+\.zarr", info.uri))
    }
    for uri in sorted(found):
        try:
            cube = open_cube(uri, endpoint)
        except CubeError:  # one that a run has not finished
            continue
        if cube.cube_hash == cube_hash:
            return cube
    raise EventError(
        f"the scenes of version {version} of {event.event_id} are no longer in {prefix}: run `quakeslide map "
        f"{event.event_id}` again and adapt that version"
    )


def _model(facts: ReportFacts, folder: Path, weights: str | None, scene: Scene) -> LandslideModel:
    """The network that made a version, as it mapped its scene: from the version itself, by its name, or as given."""
    source = facts.provenance
    own = folder / PRODUCTS["adapted_model"].filename
    if own.is_file():
        model = replace(load_model(own), name=source.model)
    elif weights is not None:
        model = load_model(weights)
    elif source.model in available_models():
        model = load_model(source.model)
    else:
        raise FlowError(f"the network {source.model} does not ship with this program: give its file by --weights")
    if model.weights_hash != source.weights_hash:
        raise FlowError(
            f"the map was made by weights {source.weights_hash[:12]}…, {model.name} has {model.weights_hash[:12]}…: give "
            "the file that it was made by with --weights"
        )
    if not math.isclose(model.threshold, source.threshold, rel_tol=1e-6):
        raise FlowError(
            f"{model.name} was calibrated after the map was made (threshold {source.threshold:.3f} then, {model.threshold:.3f} "
            "now): map again, and adapt that"
        )
    if model.network_name not in networks.names():
        raise FlowError(
            f"{model.name} is an ensemble, which cannot be adapted: map with one of its members, and adapt that"
        )
    # A network that was adapted has learned on its parent's means already, and holds them.
    share = 0.0 if own.is_file() else float(source.settings.get(SETTING, 0.0))
    return on_scene_means(model, scene, share)


def _footprint(folder: Path) -> BaseGeometry:
    try:
        return shape(json.loads((folder / ITEM_NAME).read_bytes())["geometry"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PublicationError(f"{folder / ITEM_NAME} is missing or damaged ({error!r})") from error
