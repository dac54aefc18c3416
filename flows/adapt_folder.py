"""Adapting the map in a folder of `quakeslide map-raster`: no service is needed. And what names the run of an adaptation."""

from __future__ import annotations

from pathlib import Path

from flows.adapt_parent import Parent, Rasters, folder_parent
from flows.adapt_request import AdaptRequest, Outcome, may_publish
from flows.adapt_work import HowToAdapt, adapt, hold, make_products, map_again
from flows.copies import publish_to_folder
from flows.labels_file import Labels, read_labels
from flows.layout import RunIdentity
from flows.out_folder import require_free_folder
from flows.planning import code_version
from flows.scratch import scratch_folder
from flows.settings import Settings


def run_key(
    parent: Parent, labels: Labels, how: HowToAdapt, settings: Settings, *, digest: str = "", unproven: bool
) -> str:
    """What names the run: the version before, the polygons, and how."""
    source = parent.facts.provenance
    scenes = [scene for imagery in parent.facts.imagery for scene in imagery.scenes]
    return RunIdentity(
        event_id=parent.facts.event.id, area=parent.footprint.wkt, scene_ids=(*scenes, source.dem),
        settings={
            "parent": source.run_key, "parent_digest": digest, "labels": labels.sha256, "how": how.to_json(),
            "unproven": unproven, "model": settings.model.model_dump(mode="json", exclude={"weights"}),
        },
        weights_hash=source.weights_hash, code_version=code_version(),
    ).key  # fmt: skip


def adapt_folder(request: AdaptRequest, rasters: Rasters, out: Path, settings: Settings) -> Outcome:
    """Adapt the map in the folder `request.event_id`, and write the new one into the new folder `out` if it is better.

    `rasters` are those that it was made from. Raises `LabelsError` naming the feature for polygons that cannot be used,
    `FlowError` or `ModelingError` for all else, and leaves nothing behind then.
    """
    require_free_folder(out)
    labels, how = read_labels(Path(request.labels)), request.how
    with folder_parent(Path(request.event_id), rasters, request.weights) as parent:
        drawn = labels.to_crs(parent.scene.grid.crs)
        with scratch_folder(settings.work, parent.scene.grid.shape_yx) as work:
            judged = adapt(parent, drawn, how, settings, work)
            if not may_publish(judged, unproven=request.unproven):
                return Outcome(judged, None)
            map_again(parent, settings, work)
            adaptation = hold(parent, drawn, how, work)
            if not may_publish(adaptation, unproven=request.unproven):
                return Outcome(adaptation, None)
            key = run_key(parent, drawn, how, settings, unproven=request.unproven)
            facts = make_products(parent, drawn, key, settings, work)
            publish_to_folder(work, out, facts, parent.footprint)
    return Outcome(adaptation, None, out)
