"""The flow: a USGS event in, a published version out. Small tasks that hand each other plans and URIs, never arrays.

A run that is interrupted anywhere and started again goes on where it stopped: the tiles of the cube, the probability
map and the products are in the bucket, and a version is visible complete or not at all.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from flows import artifacts, progress
from flows.alignment import AlignedScene, Alignment, write_alignment
from flows.campaign.budget import tile_pixels, used_for
from flows.choice import Selection
from flows.cluster import dask_client, map_unordered, threads_for
from flows.errors import FlowError, ServiceError
from flows.facts import ReportFacts, Scores
from flows.geology import map_rules, rules_facts, scene_before
from flows.hazard import danger_of
from flows.hiding import hiding_secrets
from flows.known_speed import known_speed
from flows.layout import ALIGNMENT, FACTS, NETWORK, PRODUCTS, SELECTION, EventLayout, asset_label
from flows.mapping import surveyed, write_layers, write_mask, write_probability
from flows.planning import GIVEN, MapPlan, check_rule, find_event, make_plan
from flows.publish import Publication, UploadedRun, find_publication, make_visible, upload_products
from flows.reaching import bucket, connected, session_config
from flows.remap import again_for
from flows.request import MapRequest
from flows.scene_means import on_scene_means
from flows.scoring import score, write_metrics
from flows.scratch import scratch_folder
from flows.selection import model_of, write_selection, zoo_of
from flows.settings import Settings, load_settings
from flows.speed import NetworkRun
from flows.stages import clear, once
from flows.sure_claims import with_sure_claims
from flows.tallies import count_mapped, counted
from flows.telling import make_facts, write_pages
from flows.tidy import tidy
from flows.timing import measured, timed
from flows.totals import with_totals_range
from flows.usgs import UsgsClient
from flows.writeback import check_targets, stamp_version, write_back
from gee import pulling
from gee.budget import Budget
from gee.cube import missing_tiles, pull_tile, survey
from gee.errors import AssetError, GeeError, TransientError
from gee.records import TileRecord
from gee.scenecube import SceneCube, open_cube
from gee.session import Session, connect
from gee.terrain import coarse_terrain
from gee.types import Tile
from modeling.model import LandslideModel


def may_pass(_task: Any, _run: Any, state: Any) -> bool:
    """Whether a task's failure may pass when tried again: only what a service or the network did, never bad input."""
    try:
        state.result()
    except (ServiceError, TransientError):
        return True
    except Exception:  # noqa: BLE001 - whatever else it was is raised again by the flow itself
        return False
    return False


def stage(name: str) -> Callable[[Callable[..., Any]], Any]:
    """A task of a flow that makes a version: timed, and retried twice when what failed may pass.

    Results stay in memory, and what it raises tells no secrets.
    """

    def made(function: Callable[..., Any]) -> Any:
        kept = task(
            name=name, retries=2, retry_delay_seconds=[2, 10], retry_condition_fn=may_pass, cache_policy=NO_CACHE,
            persist_result=False,
        )  # fmt: skip
        return kept(timed(name)(hiding_secrets()(function)))

    return made


@flow(name="map-event", flow_run_name="map-{request.event_id}", persist_result=False, validate_parameters=True)
def map_event(request: MapRequest) -> Publication:
    """Map one event and publish a version; the same event with nothing new returns the version there is.

    Raises `FlowError`, `GeeError` or `ModelingError` with one line that says what to do.
    """
    settings = load_settings()
    stop = progress.listen(progress.throttled(artifacts.progress_listener(request.event_id), every_s=2.0))
    with hiding_secrets(), measured() as laps:
        try:
            return _mapped(request, settings)
        finally:
            stop()
            artifacts.timing_artifact(laps, request.event_id, title=f"map of {request.event_id}")


def _mapped(request: MapRequest, settings: Settings) -> Publication:
    """What `map_event` does, stage by stage."""
    plan: MapPlan = plan_event(request, settings)
    with bucket(settings) as store:
        artifacts.plan_artifact(plan, known_speed(store, plan.run.event))
        published = find_publication(store, plan.run.event, plan.run.run_key)
        if published is not None:
            get_run_logger().info("version %d of this run is published already", published.version)
            clear(store, plan.run)  # of an attempt that was killed after publishing
            stamp_assets(settings, published)
            return published
    with scratch_folder(settings.work, plan.cube.grid.shape_yx) as folder:
        pull_cube(plan, settings, request.eecu_hours)
        align(plan, settings, folder)
        choose_network(plan, settings, folder)
        map_probability(plan, settings, folder)
        make_products(plan, settings, folder, request)
        uploaded: UploadedRun = upload(plan, settings, folder)
        write_assets(plan, settings, folder, uploaded)
        facts, preview = _told(folder)
    publication: Publication = publish(plan, settings, uploaded)
    stamp_assets(settings, publication, uploaded)
    artifacts.result_artifacts(facts, publication, preview, settings.storage.endpoint)
    return publication


def _told(folder: Path) -> tuple[ReportFacts, bytes]:
    return ReportFacts.from_json((folder / FACTS).read_text()), (folder / "preview.png").read_bytes()


@stage("plan")
def plan_event(request: MapRequest, settings: Settings) -> MapPlan:
    """Find the event, apply the rule, and decide area, scenes, tiles and network."""
    with (
        progress.step("plan"),
        UsgsClient(settings.usgs.url, settings.usgs.timeout_s) as usgs,
        connected(settings) as session,
    ):
        event = find_event(request, usgs)
        get_run_logger().info("%s: %s", event.title, check_rule(event, request, settings))
        EventLayout(f"gs://{settings.storage.bucket}", event.id)  # an id that cannot name a folder fails here, early
        check_targets(event.id, settings)
        plan = make_plan(request, event, settings, session, usgs)
        log = get_run_logger()
        if taken := plan.takeover.describe(plan.cube):
            log.info("%s", taken)
        return replace(plan, worst_first=_worst_first(plan, request, settings, session, usgs))


def _worst_first(
    plan: MapPlan, request: MapRequest, settings: Settings, session: Session, usgs: UsgsClient
) -> tuple[str, ...]:
    """The order of the tiles; none where there are too few of them for it to matter, or where nothing tells the danger."""
    missing = {tile.name for tile in missing_tiles(plan.cube, settings.storage.endpoint)} - plan.takeover.names
    if len(missing) <= settings.campaign.partial_above_tiles or plan.event.status == GIVEN:
        return ()
    try:
        event = plan.event if request.quake is None else usgs.event(request.quake.id)
        danger = danger_of(
            [event], usgs, plan.cube, lambda: coarse_terrain(session, plan.cube.dem, plan.area.geometry)[1:]
        )
    except (FlowError, GeeError) as error:
        get_run_logger().warning("the tiles are pulled in no order of danger: %s", error)
        return ()
    get_run_logger().info("the most dangerous tiles come first: %s", danger.source)
    return danger.worst_first()


@stage("pull-cube")
def pull_cube(plan: MapPlan, settings: Settings, eecu_hours: float | None = None) -> str:
    """Pull the tiles that are missing, Dask-parallel and within the event's budget, and seal the cube; returns its hash.

    `eecu_hours` is that budget, instead of the one of the settings; 0 for none.
    """
    config = session_config(settings, plan.event.id)
    hours = settings.earthengine.eecu_hours_per_event if eecu_hours is None else eecu_hours
    threads = threads_for(settings.earthengine.max_concurrent_requests)

    def told(done: int, total: int, record: TileRecord) -> None:
        progress.report("pull tiles", done, total, f"{record.pulled_bytes / 1e6:.1f} MB")
        pulled(plan.cube.tile_px**2 if record.pulled_bytes else 0)

    # The threads of the cluster inside the process share these connections, which end with them.
    with (
        connect(config) as session,
        counted(settings, session) as pulled,
        dask_client(settings.dask, threads=threads) as client,
    ):
        return pulling.pull_cube(
            plan.cube, config, settings.storage.endpoint, budget=Budget(hours) if hours else Budget(),
            spread=partial(map_unordered, client, in_flight=2 * threads), told=told, takeover=plan.takeover,
            first=plan.worst_first,
        )  # fmt: skip


def read_cube(plan: MapPlan, settings: Settings) -> SceneCube:
    """The cube of a plan; a chunk that has been damaged since it was pulled is pulled again when it is met."""
    config, endpoint = session_config(settings, plan.event.id), settings.storage.endpoint

    def mend(tile: Tile) -> TileRecord:
        with connect(config) as session:
            return pull_tile(plan.cube, session, tile, endpoint)

    return open_cube(plan.cube.uri, endpoint, mend=mend)


@stage("align")
def align(plan: MapPlan, settings: Settings, folder: Path) -> bool:
    """Measure how the image before lies to the one after into alignment.json; returns whether it was done now."""
    cube, path = read_cube(plan, settings), folder / ALIGNMENT
    with bucket(settings) as store:
        return once(
            store, plan.run, "align", folder, (path.name,), lambda: write_alignment(cube, settings.alignment, path)
        )


def _alignment(folder: Path) -> Alignment:
    return Alignment.from_json((folder / ALIGNMENT).read_text())


@stage("select")
def choose_network(plan: MapPlan, settings: Settings, folder: Path) -> bool:
    """Choose the network that maps into selection.json, by how near the scene is to each; returns whether it was done now."""
    scene, path = AlignedScene(read_cube(plan, settings), _alignment(folder)), folder / SELECTION
    with bucket(settings) as store:
        made = once(
            store, plan.run, "select", folder, (path.name,), lambda: write_selection(scene, settings.model, path)
        )
    selection = _selection(folder)
    log = get_run_logger()
    log.info("%s maps: %s", selection.chosen, "; ".join(selection.winner.reasons))
    for damaged in selection.left_out:
        log.warning("left out: %s", damaged)
    if selection.warning:
        log.warning("%s", selection.warning)
    return made


def _selection(folder: Path) -> Selection:
    return Selection.from_json((folder / SELECTION).read_text())


def _network(settings: Settings, folder: Path) -> LandslideModel:
    return model_of(_selection(folder), zoo_of(settings.model)).load()


@stage("map")
def map_probability(plan: MapPlan, settings: Settings, folder: Path) -> bool:
    """Stream the cube through the network into probability.tif, with how fast that went; returns whether it was done now."""
    alignment, path = _alignment(folder), folder / "probability.tif"
    scene = AlignedScene(read_cube(plan, settings), alignment)

    def make() -> None:
        # A cluster is asked only where one is set: in this process its threads would have nothing to add.
        serving = dask_client(settings.dask, threads=1) if settings.dask.elsewhere else nullcontext()
        began, share = time.monotonic(), 1.0
        with TemporaryDirectory(dir=folder) as beside, bucket(settings) as store, serving as client:
            again = None
            if settings.cube.lattice:
                again = again_for(store, plan.run.event, plan.cube, alignment, settings.storage.endpoint, Path(beside))
            chosen = _network(settings, folder)
            # Rules that this network does not allow are refused now, and not when all is mapped.
            map_rules(settings.model, chosen.bands).for_map(scene.grid).subtracts(chosen, scene)
            network = on_scene_means(chosen, scene, settings.model.scene_means)
            write_probability(
                scene, network, path, settings.model, client, again,
                served=bool(settings.dask.namespace and settings.dask.gpu_workers),
            )  # fmt: skip
            if again is not None and again.told:
                get_run_logger().info("%s", again.told)
                share = again.mapped_share
        run = NetworkRun(round(share * tile_pixels(plan.cube)), share, time.monotonic() - began)
        (folder / NETWORK).write_text(run.to_json())
        count_mapped(settings, run.pixels, run.seconds)

    with bucket(settings) as store:
        return once(store, plan.run, "map", folder, (path.name, NETWORK), make)


def _network_run(folder: Path) -> NetworkRun | None:
    """How fast the network has mapped; None when the map is one that was begun before this was kept."""
    path = folder / NETWORK
    return NetworkRun.from_json(path.read_text()) if path.is_file() else None


@stage("products")
def make_products(plan: MapPlan, settings: Settings, folder: Path, request: MapRequest) -> bool:
    """Write everything a version consists of into `folder`; returns whether it was done now."""
    cube, alignment = read_cube(plan, settings), _alignment(folder)
    scene = AlignedScene(cube, alignment)

    model = _network(settings, folder)
    rules = map_rules(settings.model, model.bands).for_map(cube.grid)

    def make() -> None:
        before = scene_before(scene, model) if rules.subtracts(model, scene) else None
        sides, found = surveyed(
            scene, before, model, rules, folder, settings.model, event_id=plan.event.id, run_key=plan.run.run_key,
            before_model=None if before is None else on_scene_means(model, before, settings.model.scene_means),
        )  # fmt: skip
        inventory = found.kept
        write_mask(inventory, sides, cube.grid, folder / "mask.tif")
        write_layers(found, rules, folder)
        scores: tuple[Scores, ...] = ()
        if request.truth is not None:
            scores = score(scene, sides, inventory, Path(request.truth), model_name=model.name)
            write_metrics(scores, folder / "metrics.json", simulated=plan.event.simulated)
        facts = make_facts(plan, settings, model, cube.cube_hash, sides, inventory, scores, alignment)
        run = _network_run(folder)
        facts = replace(facts, rules=rules_facts(rules, found, before), selection=_selection(folder), network=run)
        if request.campaign is not None:
            arrived, _ = survey(plan.cube, settings.storage.endpoint)
            facts = replace(facts, campaign=request.campaign, used=used_for(plan.cube, arrived.values(), run))
        facts = with_totals_range(with_sure_claims(facts, model, settings.model), model, settings.model)
        write_pages(facts, scene, inventory, folder)
        (folder / FACTS).write_text(facts.to_json())

    metrics = ("metrics.json",) if request.truth is not None else ()
    dropped = () if rules.name == "none" else (PRODUCTS["dropped"].filename,)
    names = tuple(product.filename for key, product in PRODUCTS.items() if product.required and key != "probability")
    with progress.step("products"), bucket(settings) as store:
        return once(store, plan.run, "products", folder, (*names, *metrics, *dropped, FACTS), make)


@stage("upload")
def upload(plan: MapPlan, settings: Settings, folder: Path) -> UploadedRun:
    """Upload the products and their STAC item to where nobody looks yet."""
    facts = ReportFacts.from_json((folder / FACTS).read_text())
    with progress.step("upload"), bucket(settings) as store:
        return upload_products(store, plan.run, folder, facts, plan.area.geometry)


@stage("write-back")
def write_assets(plan: MapPlan, settings: Settings, folder: Path, uploaded: UploadedRun) -> Mapping[str, str]:
    """Write the results back as Earth Engine assets; returns their ids by what they are."""
    facts = ReportFacts.from_json((folder / FACTS).read_text())
    with progress.step("write back to Earth Engine"), bucket(settings) as store, connected(settings) as session:
        try:
            return write_back(session, store, plan, settings, folder, facts, uploaded)
        except AssetError:
            # A second process at the same run has published it, and with that has cleared away what this one needs.
            if find_publication(store, plan.run.event, plan.run.run_key) is None:
                raise
            return {}


@stage("publish")
def publish(plan: MapPlan, settings: Settings, uploaded: UploadedRun) -> Publication:
    """Make the version visible by one conditional write, then clear what the stages left."""
    with progress.step("publish"), bucket(settings) as store:
        publication = make_visible(store, uploaded)
        clear(store, plan.run)
        return publication


@stage("stamp")
def stamp_assets(settings: Settings, publication: Publication, uploaded: UploadedRun | None = None) -> None:
    """Give the version's assets their number and readers, and remove what given-up runs left; do it again at any time."""
    log = get_run_logger()
    event = EventLayout(f"gs://{settings.storage.bucket}", publication.event_id)
    own = uploaded.layout.digest if uploaded else publication.digest
    # The other attempt at this run became visible: nobody will ever publish what this one has written.
    lost = frozenset({asset_label(publication.run_key, own)} if own != publication.digest else ())
    with progress.step("stamp the version"), bucket(settings) as store, connected(settings) as session:
        for name in stamp_version(session, publication, settings):
            log.warning("%s of version %d is not there: somebody has deleted it", name, publication.version)
        try:
            for name in tidy(session, store, event, settings, dt.datetime.now(dt.UTC), lost):
                log.info("%s was left by a run that was never published: removed", name)
        except AssetError as error:  # the version is there, and so are its assets: a leftover can wait
            log.warning("what unpublished runs have left in Earth Engine could not be removed: %s", error)
