"""flows/adapt.py: polygons drawn on a simulated map make a better version of it, or none; nothing flips in silence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
import shapely
import typer
from fakes.quakes import EVENT_ID, SmallQuake
from fakes.shy import shy_network
from fakes.training import Tiny
from fakes.wiring import wired
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

from flows import adapt as flow
from flows import cli_adapt
from flows.adapt import adapt_event
from flows.adapt_parent import Parent
from flows.adapt_request import AdaptRequest, Outcome
from flows.adapt_trial.drawing import DrawnPolygons, draw, scrambled
from flows.adapt_work import MAPPED
from flows.copies import download_version
from flows.errors import FlowError
from flows.facts import ReportFacts
from flows.labels_file import LabelsError
from flows.layout import FACTS, ITEM_NAME, PRODUCTS, EventLayout
from flows.map_event import map_event
from flows.publish import Publication, read_versions
from flows.request import MapRequest
from flows.settings import Settings
from flows.storage import Store
from infra.local.stack import LocalStack
from modeling import networks
from modeling.adaptation.changes import Change
from modeling.model import load_model
from modeling.uncertainty.conformal import ErrorModel, TotalsCalibration
from modeling.uncertainty.stored import Uncertainty, store_description, with_uncertainty

BUCKET = "drawn-on"
REACH_M = 400.0


@pytest.fixture(scope="module", autouse=True)
def tiny() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(networks._BUILDERS, "tiny", Tiny)  # type: ignore[arg-type]
        yield


@dataclass(frozen=True)
class Drawing:
    """A published first map, and polygons on it."""

    store: Store
    first: Publication
    folder: Path
    polygons: DrawnPolygons

    def write(self, path: Path, polygons: DrawnPolygons | None = None) -> Path:
        """The polygons as a file, in the coordinates of the map."""
        drawn = polygons or self.polygons
        rows = [
            {
                "type": "Feature",
                "geometry": shapely.geometry.mapping(geometry),
                "properties": {"class": "landslide" if landslide else "not landslide"},
            }
            for geometry, landslide in zip(drawn.geometries, drawn.landslide, strict=True)
        ]
        crs = {"type": "name", "properties": {"name": "EPSG:32648"}}
        path.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": rows}))
        return path

    @property
    def versions(self) -> tuple[Publication, ...]:
        """What is visible."""
        return read_versions(self.store, EventLayout(f"gs://{BUCKET}", EVENT_ID))

    def left(self) -> list[str]:
        """Objects of runs that were not published."""
        published = {one.run_key for one in self.versions}
        runs = self.store.list(f"gs://{BUCKET}/events/{EVENT_ID}/runs/")
        return [info.uri for info in runs if info.uri.split("/runs/")[1].split("/")[0] not in published]


def read(path: Path) -> Any:
    with rasterio.open(path) as file:
        return file.read(1)


@pytest.fixture(scope="module")
def drawing(stack: LocalStack, small_quake: SmallQuake, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drawing]:
    weights = shy_network(small_quake.region, tmp_path_factory.mktemp("shy"))
    errors = ErrorModel(centre=0.0, widening=0.0, reach=0.5, floor=1.0)
    totals = TotalsCalibration(errors, errors, 0.8, ("a", "b", "c", "d"), 48)
    store_description(weights, with_uncertainty(load_model(weights), Uncertainty(totals)))
    with wired(stack, BUCKET, weights, tmp_path_factory.mktemp("scratch")):
        publication = map_event(MapRequest(event_id=EVENT_ID))
        with Store(f"gs://{BUCKET}", stack.endpoints.storage_url) as store:
            folder = download_version(store, publication, tmp_path_factory.mktemp("first"))
            with rasterio.open(folder / "probability.tif") as file:
                probability, transform, crs, shape = file.read(1), file.transform, file.crs, file.shape
            with (
                rasterio.open(small_quake.files.truth) as source,
                WarpedVRT(
                    source, crs=crs, transform=transform, height=shape[0], width=shape[1],
                    resampling=Resampling.nearest,
                ) as warped,
            ):  # fmt: skip
                truth = warped.read(1) == 1
            known = np.isfinite(probability)
            polygons = draw(truth & known, probability >= 0.5, known, transform, count=16, seed=3)
            yield Drawing(store, publication, folder, polygons)


def asked(labels: Path, **changes: Any) -> AdaptRequest:
    given = {"steps": 0, "reach_m": REACH_M, "weights": None, **changes}
    return AdaptRequest(event_id=EVENT_ID, labels=str(labels), **given)


@pytest.fixture(scope="module")
def weights(drawing: Drawing) -> str:
    import os

    return os.environ["QUAKESLIDE_MODEL__WEIGHTS"]


@pytest.fixture(scope="module")
def adapted(drawing: Drawing, weights: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Path]:
    """The map, adapted once, after an interruption behind the judging."""
    labels = drawing.write(tmp_path_factory.mktemp("labels") / "drawn.geojson")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flow, "map_again", interrupted)
        with pytest.raises(KeyboardInterrupt):
            adapt_event(asked(labels, weights=weights))
    assert len(drawing.versions) == 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flow, "adapt", interrupted)  # what was judged is not judged again
        outcome = adapt_event(asked(labels, weights=weights))
    assert outcome.publication is not None
    return outcome, download_version(drawing.store, outcome.publication, tmp_path_factory.mktemp("second"))


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_better_version_follows_and_says_what_it_came_of(drawing: Drawing, adapted: tuple[Outcome, Path]) -> None:
    outcome, folder = adapted
    facts = ReportFacts.from_json((folder / FACTS).read_text())
    told = facts.adaptation
    assert told is not None
    assert (outcome.publication.version, told.parent_version) == (2, 1)  # type: ignore[union-attr]
    assert told.judgement.verdict == "better"
    assert told.judgement.gain["mcc"].value > 0.1
    assert told.right_after > told.right_before
    assert told.parent_run_key == drawing.first.run_key
    item = pystac.Item.from_file(str(folder / ITEM_NAME))
    item.validate()
    said = item.properties["quakeslide:adaptation"]
    assert (said["parent_version"], said["labels_sha256"]) == (1, told.labels_sha256)
    before = ReportFacts.from_json((drawing.folder / FACTS).read_text())
    assert before.totals is not None
    assert facts.totals is None, "intervals were fitted to the network before"
    assert facts.network is None
    stated = facts.provenance.settings
    assert stated.keys() == before.provenance.settings.keys()
    assert stated["model.weights"] == facts.provenance.model != before.provenance.settings["model.weights"]
    assert facts.provenance.settings_hash != before.provenance.settings_hash
    model = load_model(folder / "model.safetensors")
    assert model.weights_hash == said["model_sha256"] == facts.provenance.weights_hash
    assert model.card["adaptation"][-1]["judgement"]["verdict"] == "better"
    names = {
        PRODUCTS[key].filename for key in ("adaptation", "changes", "labels", "adapted_model", "adapted_model_json")
    }
    assert names <= {path.name for path in folder.iterdir()}
    html = (folder / "report.html").read_text()
    for words in ("Changed by an analyst", "held-out polygons", "Where nobody has looked", told.labels_sha256):
        assert words in html


def test_the_map_is_better_where_nobody_drew(
    drawing: Drawing, adapted: tuple[Outcome, Path], small_quake: SmallQuake
) -> None:
    before, after = (read(folder / "probability.tif") for folder in (drawing.folder, adapted[1]))
    assert (np.isfinite(before) == np.isfinite(after)).all()
    assert (after >= 0.5).sum() > 1.5 * (before >= 0.5).sum()


def test_every_change_where_nobody_looked_is_counted(drawing: Drawing, adapted: tuple[Outcome, Path]) -> None:
    outcome, folder = adapted
    before, after, codes = (
        read(drawing.folder / "probability.tif"),
        read(folder / "probability.tif"),
        read(folder / "changes.tif"),
    )
    changed = (before >= 0.5) != (after >= 0.5)
    taken = np.isin(codes, [Change.ADDED, Change.REMOVED, Change.ADDED_ALIKE, Change.REMOVED_ALIKE])
    assert (changed == taken).all()
    kept = np.isin(codes, [Change.KEPT_BACKGROUND, Change.KEPT_LANDSLIDE])
    assert (before[kept] == after[kept]).all()
    rows = {row.code: row.area_m2 for row in outcome.adaptation.changes}
    assert rows == {int(code): (codes == code).sum() * 100.0 for code in np.unique(codes) if code not in (0, 255)}


def test_the_same_polygons_again_are_no_work(
    drawing: Drawing, adapted: tuple[Outcome, Path], weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, "adapt", interrupted)
    again = adapt_event(asked(drawing.write(tmp_path / "same.geojson"), weights=weights, version=1))
    assert again.publication == adapted[0].publication
    assert len(drawing.versions) == 2
    assert drawing.left() == []


@pytest.mark.usefixtures("adapted")
def test_scrambled_polygons_are_refused_and_nothing_is_left(drawing: Drawing, weights: str, tmp_path: Path) -> None:
    labels = drawing.write(tmp_path / "drawn.geojson", scrambled(drawing.polygons, 4))
    outcome = adapt_event(asked(labels, weights=weights, version=1))
    assert outcome.publication is None
    assert outcome.adaptation.judgement.verdict != "better"
    assert len(drawing.versions) == 2
    assert drawing.left() == []
    with pytest.raises(typer.Exit) as left:
        cli_adapt._show(outcome, None)
    assert left.value.exit_code == cli_adapt.REFUSED


@pytest.mark.usefixtures("adapted")
def test_a_map_that_claims_more_than_it_finds_is_refused_after_all(
    drawing: Drawing, weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What windows let expect need not be what the network maps: here it calls everything a landslide."""

    def everything(parent: Parent, settings: Settings, folder: Path) -> None:
        with rasterio.open(parent.probability) as file:
            profile = {**file.profile, "driver": "GTiff"}
            with rasterio.open(folder / MAPPED, "w", **profile) as out:
                out.update_tags(**file.tags())
                out.write(np.where(np.isfinite(file.read(1)), 0.9, np.nan).astype(np.float32), 1)

    monkeypatch.setattr(flow, "map_again", everything)
    labels = drawing.write(tmp_path / "drawn.geojson")
    outcome = adapt_event(asked(labels, weights=weights, version=1, seed=5, reach_m=50_000))
    whole = outcome.adaptation.whole
    assert outcome.adaptation.judgement.verdict == "better"
    assert whole is not None
    assert whole.worse
    assert whole.claimed_after_m2 > 10 * whole.claimed_before_m2
    assert outcome.publication is None
    assert outcome.text.startswith("The map got worse, claiming more than it finds")
    assert len(drawing.versions) == 2
    assert drawing.left() == []


def test_polygons_that_cannot_be_used_are_named_and_nothing_is_written(
    drawing: Drawing, weights: str, tmp_path: Path
) -> None:
    with rasterio.open(drawing.folder / "observed.tif") as file:
        codes = file.read(1)
        hidden = np.argwhere(codes == 6)[50]
        gap = shapely.Point(file.transform @ (hidden[1] + 0.5, hidden[0] + 0.5)).buffer(11)
    first = drawing.polygons.geometries[0]
    for bad, landslide, said in (
        (gap, True, "feature 3 of drawn.geojson lies wholly on ground that was not observed"),
        (shapely.affinity.translate(first, 50_000), True, "feature 3 of drawn.geojson lies outside the map"),
        (first.centroid.buffer(0.5), True, "feature 3 of drawn.geojson covers the centre of no pixel"),
        (first, False, "feature 3 of drawn.geojson and feature 1 overlap"),
    ):
        geometries = (*drawing.polygons.geometries[:2], bad, *drawing.polygons.geometries[3:])
        classes = (*drawing.polygons.landslide[:2], landslide, *drawing.polygons.landslide[3:])
        labels = drawing.write(tmp_path / "drawn.geojson", DrawnPolygons(geometries, classes))
        before = len(drawing.versions), drawing.left()
        with pytest.raises(LabelsError, match=said):
            adapt_event(asked(labels, weights=weights, version=1))
        assert (len(drawing.versions), drawing.left()) == before


def test_an_event_without_a_version_or_with_other_weights_is_refused(
    drawing: Drawing, some_weights: Path, tmp_path: Path
) -> None:
    labels = drawing.write(tmp_path / "drawn.geojson")
    with pytest.raises(FlowError, match="has no published version"):
        adapt_event(AdaptRequest(event_id="us0nothere", labels=str(labels)))
    with pytest.raises(FlowError, match="has no version 9"):
        adapt_event(asked(labels, version=9))
    with pytest.raises(FlowError, match="give the file that it was made by"):
        adapt_event(asked(labels, version=1, weights=str(some_weights)))
