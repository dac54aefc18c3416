"""The flow of an adaptation: a published map and an analyst's polygons in, a new version out, if it is better.

What a stage has finished lies in the bucket, so that an interrupted run goes on; the version that comes of it names the one
before, the polygons and the network.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from prefect import flow
from prefect.logging import get_run_logger

from flows import artifacts, progress
from flows.adapt_facts import AdaptationFacts
from flows.adapt_folder import run_key
from flows.adapt_ground import check_on_map
from flows.adapt_parent import Parent, choose_version, plan_after, published_parent
from flows.adapt_request import AdaptRequest, Outcome, may_publish
from flows.adapt_work import JUDGED, MAPPED, adapt, hold, make_products, map_again, split_labels
from flows.facts import ReportFacts
from flows.labels_file import Labels, read_labels
from flows.layout import FACTS, PRODUCTS, EventLayout, RunLayout
from flows.map_event import publish, stage, stamp_assets, upload, write_assets
from flows.planning import MapPlan
from flows.publish import Publication, UploadedRun, find_publication
from flows.reaching import bucket
from flows.scratch import scratch_folder
from flows.settings import Settings, load_settings
from flows.stages import clear, once
from flows.storage import Store

_NETWORK = ("adapted_model", "adapted_model_json")
_HELD = ("probability", "changes", "adaptation")


@flow(name="adapt-event", flow_run_name="adapt-{request.event_id}", persist_result=False, validate_parameters=True)
def adapt_event(request: AdaptRequest) -> Outcome:
    """Adapt the map of an event and publish it as a new version, if it is better; the same request again is no work.

    Raises `LabelsError` naming the feature for polygons that cannot be used, before anything is written; `FlowError`,
    `GeeError` or `ModelingError` with one line that says what to do.
    """
    settings, log = load_settings(), get_run_logger()
    labels = read_labels(Path(request.labels))
    stop = progress.listen(progress.throttled(artifacts.progress_listener(request.event_id), every_s=2.0))
    try:
        with bucket(settings) as store:
            before = choose_version(store, request.event_id, request.version)
        with scratch_folder(settings.work, (1, 1)) as copy:
            plan: MapPlan = begin(request, settings, before, copy)
            with bucket(settings) as store:
                published = find_publication(store, plan.run.event, plan.run.run_key)
                if published is not None:
                    log.info("version %d has come of %s already", published.version, labels.name)
                    clear(store, plan.run)
                    kept = store.read_bytes(published.assets["adaptation"])
                    stamp_assets(settings, published)
                    return Outcome(AdaptationFacts.from_json(kept), published)
            with scratch_folder(settings.work, plan.cube.grid.shape_yx) as folder:
                judged: AdaptationFacts = judge(request, settings, before, copy, plan, folder)
                if not may_publish(judged, unproven=request.unproven):
                    with bucket(settings) as store:
                        clear(store, plan.run)
                    return Outcome(judged, None)
                held: AdaptationFacts = remap(request, settings, before, copy, plan, folder)
                if not may_publish(held, unproven=request.unproven):
                    with bucket(settings) as store:
                        clear(store, plan.run)
                    return Outcome(held, None)
                products(request, settings, before, copy, plan, folder)
                uploaded: UploadedRun = upload(plan, settings, folder)
                write_assets(plan, settings, folder, uploaded)
                facts = ReportFacts.from_json((folder / FACTS).read_text())
                preview = (folder / PRODUCTS["preview"].filename).read_bytes()
            made: Publication = publish(plan, settings, uploaded)
            stamp_assets(settings, made, uploaded)
            artifacts.result_artifacts(facts, made, preview)
            return Outcome(held, made)
    finally:
        stop()


def _opened(
    request: AdaptRequest, settings: Settings, store: Store, before: Publication, copy: Path
) -> tuple[Parent, Labels]:
    """The version to begin with, and the polygons in its coordinates; its products are copied to `copy` once."""
    parent = published_parent(store, settings.storage.endpoint, before, copy, request.weights)
    return parent, read_labels(Path(request.labels)).to_crs(parent.scene.grid.crs)


@stage("read the version")
def begin(request: AdaptRequest, settings: Settings, before: Publication, copy: Path) -> MapPlan:
    """The plan of the version that follows; polygons that cannot be used are refused, before anything is written."""
    with progress.step("read the version"), bucket(settings) as store:
        parent, labels = _opened(request, settings, store, before, copy)
        check_on_map(labels, parent.observed)
        split_labels(labels, request.how.few_shot.folds)
        key = run_key(parent, labels, request.how, settings, digest=before.digest, unproven=request.unproven)
        return plan_after(parent, EventLayout(f"gs://{settings.storage.bucket}", before.event_id).run(key))


@stage("adapt")
def judge(
    request: AdaptRequest, settings: Settings, before: Publication, copy: Path, plan: MapPlan, folder: Path
) -> AdaptationFacts:
    """Judge and adapt, once."""
    record = folder / JUDGED
    with bucket(settings) as store:
        parent, labels = _opened(request, settings, store, before, copy)
        _once(
            store, plan.run, "adapt", folder, lambda: adapt(parent, labels, request.how, settings, folder),
            lambda: _judged_files(record),
        )  # fmt: skip
    return AdaptationFacts.from_json(record.read_text())


@stage("map")
def remap(
    request: AdaptRequest, settings: Settings, before: Publication, copy: Path, plan: MapPlan, folder: Path
) -> AdaptationFacts:
    """Map with the adapted network, and hold the change to its rule, once each."""
    with bucket(settings) as store:
        parent, labels = _opened(request, settings, store, before, copy)
        once(store, plan.run, "map", folder, (MAPPED,), lambda: map_again(parent, settings, folder))
        names = tuple(PRODUCTS[key].filename for key in _HELD)
        _once(
            store, plan.run, "hold", folder, lambda: hold(parent, labels, request.how, folder), lambda: names
        )  # fmt: skip
    return AdaptationFacts.from_json((folder / PRODUCTS["adaptation"].filename).read_text())


@stage("products")
def products(
    request: AdaptRequest, settings: Settings, before: Publication, copy: Path, plan: MapPlan, folder: Path
) -> None:
    """Make the other products, once."""
    required = [product.filename for key, product in PRODUCTS.items() if product.required and key not in _HELD]
    dropped = PRODUCTS["dropped"].filename

    def names() -> tuple[str, ...]:
        return (*required, *([dropped] if (folder / dropped).is_file() else []), FACTS)

    with progress.step("products"), bucket(settings) as store:
        parent, labels = _opened(request, settings, store, before, copy)
        _once(
            store, plan.run, "products", folder,
            lambda: make_products(parent, labels, plan.run.run_key, settings, folder), names,
        )  # fmt: skip


def _judged_files(record: Path) -> tuple[str, ...]:
    """What `adapt` has written: no network when none was better."""
    made = AdaptationFacts.from_json(record.read_text())
    keys = ("labels", *(_NETWORK if made.model_sha256 else ()))
    return (record.name, *(PRODUCTS[key].filename for key in keys))


def _once(
    store: Store, run: RunLayout, name: str, folder: Path, make: Callable[[], object],
    files: Callable[[], tuple[str, ...]],
) -> None:  # fmt: skip
    """`flows.stages.once` for a stage whose files are known when it is done."""
    if not store.exists(run.work(f"{name}.json")):
        make()
        once(store, run, name, folder, files(), lambda: None)
        return
    once(store, run, name, folder, (), lambda: None)
