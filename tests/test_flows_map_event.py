"""One small event from the USGS feed to a published version: real clients, real sockets, a real Prefect server."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ee
import geopandas
import numpy as np
import pystac
import pytest
import rasterio
from fakes.quakes import EVENT_ID, GAP_COLUMNS, SmallQuake
from fakes.scenes import array_scene
from fakes.weights import random_model, untrained
from fakes.wiring import ask_prefect, forget_requests, requests_of, wired
from rich.console import Console
from rio_cogeo.cogeo import cog_validate

from flows.copies import download_version
from flows.errors import EventError, ServiceError
from flows.facts import ReportFacts
from flows.layout import FACTS, ITEM_NAME, PRODUCTS, EventLayout
from flows.map_event import map_event, map_probability, may_pass
from flows.publish import Publication, read_versions
from flows.reaching import connected
from flows.request import MapRequest
from flows.run import show_plan
from flows.settings import ModelSettings, Settings, load_settings
from flows.storage import Store
from flows.timing import WHOLE
from gee.errors import PermanentError, TransientError
from gee.types import Observed
from infra.local.stack import LocalStack
from modeling.errors import BandSetError, WeightsError
from modeling.geology.rules import GeologyRules
from modeling.geology.rules_file import LearntRules, write_rules
from modeling.vectors.inventory import SCHEMA


@dataclass(frozen=True)
class Mapped:
    """A published version and its copy on disk."""

    environment: dict[str, str]
    publication: Publication
    folder: Path
    tiles_pulled: int

    @property
    def facts(self) -> ReportFacts:
        return ReportFacts.from_json((self.folder / FACTS).read_text())

    def read(self, product: str) -> Any:
        with rasterio.open(self.folder / f"{product}.tif") as file:
            return file.read(1)


@pytest.fixture(scope="module")
def store(stack: LocalStack) -> Iterator[Store]:
    with Store("gs://whole-way", stack.endpoints.storage_url) as opened:
        yield opened


@pytest.fixture(scope="module")
def wiring(stack: LocalStack, some_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with wired(stack, "whole-way", some_weights, tmp_path_factory.mktemp("scratch")) as environment:
        yield environment


@pytest.fixture(scope="module")
def request_with_truth(small_quake: SmallQuake) -> MapRequest:
    return MapRequest(event_id=EVENT_ID, truth=str(small_quake.files.truth))


@pytest.fixture(scope="module")
def mapped(
    stack: LocalStack,
    wiring: dict[str, str],
    store: Store,
    request_with_truth: MapRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Mapped:
    """The event, mapped once for all tests of this file."""
    forget_requests(stack.endpoints.earthengine_url)
    publication = map_event(request_with_truth)
    pulled = cube_requests(stack)
    return Mapped(wiring, publication, download_version(store, publication, tmp_path_factory.mktemp("out")), pulled)


def cube_requests(stack: LocalStack) -> int:
    """How many tiles of 10 m pixels were asked for; the look at the terrain for the plan is coarser."""
    log = requests_of(stack.endpoints.earthengine_url)
    grids = [entry["detail"]["grid"] for entry in log if "computePixels" in entry["path"]]
    return sum(grid["affineTransform"]["scaleX"] == 10.0 for grid in grids)


def test_a_version_is_complete(mapped: Mapped) -> None:
    names = {product.filename for product in PRODUCTS.values() if product.required}
    assert {path.name for path in mapped.folder.iterdir()} == {*names, FACTS, "metrics.json", ITEM_NAME}
    assert mapped.publication.version == 1
    assert mapped.tiles_pulled == 6, "one request a tile of the lattice"
    assert mapped.facts.inventory.count > 0


@pytest.mark.parametrize("product", ["probability", "mask", "observed"])
def test_the_rasters_are_strictly_valid_cogs_on_one_utm_grid(mapped: Mapped, product: str) -> None:
    assert cog_validate(mapped.folder / f"{product}.tif", strict=True, quiet=True) == (True, [], [])
    with rasterio.open(mapped.folder / f"{product}.tif") as file, rasterio.open(mapped.folder / "mask.tif") as mask:
        assert (file.crs.to_epsg(), file.transform, file.shape) == (32648, mask.transform, mask.shape)
        assert (file.transform.c % 10, file.transform.f % 10) == (0, 0)


def test_the_item_validates_and_says_where_everything_comes_from(mapped: Mapped) -> None:
    item = pystac.Item.from_file(str(mapped.folder / ITEM_NAME))
    item.validate()
    told = json.dumps(item.to_dict(include_self_link=False, transform_hrefs=False))
    source = mapped.facts.provenance
    for known in (
        source.run_key,
        source.weights_hash,
        source.cube_hash,
        "USGS/SRTMGL1_003",
        "COPERNICUS/S2_HARMONIZED",
    ):
        assert known in told
    assert "simulated" in told


@pytest.mark.parametrize("suffix", ["gpkg", "parquet", "geojson"])
def test_the_inventory_reads_back_with_its_crs(mapped: Mapped, suffix: str) -> None:
    path = mapped.folder / f"landslides.{suffix}"
    frame = geopandas.read_parquet(path) if suffix == "parquet" else geopandas.read_file(path)
    assert frame.crs.to_epsg() == (4326 if suffix == "geojson" else 32648)
    assert set(SCHEMA) <= set(frame.columns)
    assert len(frame) == mapped.facts.inventory.count
    assert frame.geometry.is_valid.all()
    assert (frame["probability_mean"] > 0.5).all()


def test_nothing_is_said_of_what_was_not_observed(mapped: Mapped) -> None:
    probability, mask, observed = (mapped.read(name) for name in ("probability", "mask", "observed"))
    clear = observed == Observed.CLEAR
    assert 0.2 < clear.mean() < 0.9
    assert (np.isnan(probability) == ~clear).all()
    assert ((mask == 255) == ~clear).all()
    assert set(np.unique(mask[clear])) == {0, 1}


def test_how_the_images_lie_on_each_other_is_recorded(mapped: Mapped) -> None:
    alignment = mapped.facts.alignment
    assert alignment is not None
    assert alignment.shift.measured
    assert 4 <= alignment.shift.windows <= alignment.shift.looked_at
    item = pystac.Item.from_file(str(mapped.folder / ITEM_NAME))
    told = item.properties["quakeslide:alignment"]
    assert (told["measured"], told["corrected"]) == (alignment.shift.measured, alignment.corrected)
    assert mapped.facts.provenance.settings["alignment.radiometry"] == "none"


def test_a_swath_gap_is_named_as_the_reason(mapped: Mapped, small_quake: SmallQuake) -> None:
    observed = mapped.read("observed")
    with rasterio.open(mapped.folder / "observed.tif") as file:
        left = round((file.transform.c - small_quake.region.transform[2]) / 10)
    inside = observed != Observed.OUTSIDE
    gap = np.zeros_like(inside)
    gap[:, : GAP_COLUMNS - left] = True
    assert (inside & gap).sum() > 1000
    # What no pass has seen after the quake either cannot be under it: there is none in this region.
    assert np.isin(observed[inside & gap], [Observed.SWATH_GAP, Observed.CLOUD]).all()
    assert (observed[inside & gap] == Observed.SWATH_GAP).mean() > 0.8
    gap[:, : GAP_COLUMNS - left + 3] = True  # moving the image before by part of a pixel takes the pixels around each
    assert not (observed[inside & ~gap] == Observed.SWATH_GAP).any()
    rows = {row.label: row.area_km2 for row in mapped.facts.coverage.rows}
    assert rows["swath gap"] == pytest.approx((observed == Observed.SWATH_GAP).sum() / 1e4)
    assert "swath gap" in (mapped.folder / "report.html").read_text()


def test_the_report_opens_offline(mapped: Mapped) -> None:
    html = (mapped.folder / "report.html").read_text()
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!data:|#)""", html)
    assert "SIMULATED" in html.upper()
    assert mapped.facts.event.title in html


def test_the_map_is_scored_beside_the_threshold(mapped: Mapped) -> None:
    metrics = json.loads((mapped.folder / "metrics.json").read_text())
    assert metrics["truth"] == "simulated"
    assert len(metrics["methods"]) == 2
    for scores in metrics["methods"].values():
        assert set(scores["pixel"]) == {"precision", "recall", "f1", "iou", "mcc"}
        assert set(scores["objects"]) == {"precision", "recall", "f1"}
    # A network that nobody trained guesses; a threshold on what changed does better.
    assert metrics["methods"]["dNDVI and slope threshold"]["pixel"]["f1"] > metrics["methods"]["tiny"]["pixel"]["f1"]


def test_the_results_are_earth_engine_assets(mapped: Mapped) -> None:
    names = earth_engine_assets(mapped.folder)
    with connected(load_settings()) as session:
        count = session.compute(ee.FeatureCollection(names["landslides"]).size())
        bands = {
            name: session.compute(ee.Image(names[name]).bandNames()) for name in ("probability", "mask", "observed")
        }
        published = ee.ImageCollection(mapped.facts.earth_engine_assets["mask"]).filter(ee.Filter.eq("version", 1))
        assert session.compute(published.aggregate_array("run_key")) == [mapped.publication.run_key]
    assert count == mapped.facts.inventory.count
    assert bands == {name: [name] for name in bands}


def earth_engine_assets(folder: Path) -> dict[str, str]:
    """What the STAC item of a version says."""
    held: dict[str, str] = pystac.Item.from_file(str(folder / ITEM_NAME)).properties["quakeslide:earth_engine_assets"]
    return held


def test_prefect_shows_plan_progress_and_result(mapped: Mapped) -> None:
    found = {each["key"]: each for each in ask_prefect(mapped.environment, "artifacts/latest/filter", limit=200)}
    kinds = {
        "plan": "table", "pull-tiles": "progress", "map-tiles": "progress", "map": "image", "coverage": "table",
        "version": "markdown", "timing": "table",
    }  # fmt: skip
    assert {name: found[f"{EVENT_ID}-{name}"]["type"] for name in kinds} == kinds
    assert "SIMULATED" in found[f"{EVENT_ID}-version"]["data"]
    assert f"[Report]({os.environ['QUAKESLIDE_STORAGE__ENDPOINT']}/" in found[f"{EVENT_ID}-version"]["data"]
    plan = {row["what"]: row["value"] for row in json.loads(found[f"{EVENT_ID}-plan"]["data"])}
    assert "minutes of the device that maps" in plan["mapping"]
    assert plan["storage"].endswith("MB kept in the bucket")


def timings(environment: dict[str, str]) -> list[list[dict[str, Any]]]:
    """The tables of the seconds of each stage, the newest run first."""
    wanted = {"artifacts": {"key": {"any_": [f"{EVENT_ID}-timing"]}}, "sort": "CREATED_DESC"}
    return [json.loads(one["data"]) for one in ask_prefect(environment, "artifacts/filter", **wanted)]


def test_prefect_shows_the_seconds_of_each_stage(mapped: Mapped) -> None:
    run = mapped.facts.network
    assert run is not None
    assert run.share == 1.0
    stages = [
        "plan", "pull-cube", "align", "select", "map", "products", "upload", "write-back", "publish", "stamp", WHOLE,
    ]  # fmt: skip
    # Other tests map the same event on this server, some of them in vain.
    complete = [rows for rows in timings(mapped.environment) if [row["stage"] for row in rows] == stages]
    rows = min(complete, key=lambda rows: abs(rows[4]["seconds"] - run.seconds))
    assert {row["ended"] for row in rows[:-1]} == {"done"}
    whole = rows[-1]["seconds"]
    assert 0.3 * whole < sum(row["seconds"] for row in rows[:-1]) <= whole + 1
    assert 0 < run.seconds <= rows[4]["seconds"] + 0.1


def test_a_plan_before_launch_tells_requests_minutes_and_storage(
    mapped: Mapped, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.run.CONSOLE", Console(width=200, highlight=False))
    show_plan(MapRequest(event_id=EVENT_ID), load_settings())
    told = capsys.readouterr().out
    for words in (
        "requests",
        "minutes of the device that maps",
        "measured on this machine just now",
        "MB kept in the bucket",
    ):
        assert words in told


def test_a_run_that_fails_midway_shows_the_stages_so_far_and_tells_no_secret(
    mapped: Mapped, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise WeightsError("http://user:hunter2hunter2@models.example.org gives no weights")

    monkeypatch.setattr("flows.map_event.write_selection", broken)
    monkeypatch.setenv("QUAKESLIDE_MODEL__MINIMUM_AREA_M2", "777")  # another run
    with pytest.raises(WeightsError, match=r"models\.example\.org"):
        map_event(MapRequest(event_id=EVENT_ID))
    rows = timings(mapped.environment)[0]
    assert [row["stage"] for row in rows] == ["plan", "pull-cube", "align", "select", WHOLE]
    assert [row["ended"] for row in rows] == ["done", "done", "done", "failed", ""]
    (last,) = ask_prefect(mapped.environment, "flow_runs/filter", sort="START_TIME_DESC", limit=1)
    assert last["state"]["type"] == "FAILED"
    assert "models.example.org gives no weights" in last["state"]["message"]
    assert "hunter2" not in json.dumps(last)
    tasks = ask_prefect(mapped.environment, "task_runs/filter", flow_runs={"id": {"any_": [last["id"]]}})
    assert "hunter2" not in json.dumps(tasks)


def test_the_same_event_again_is_no_work(
    stack: LocalStack, mapped: Mapped, store: Store, request_with_truth: MapRequest
) -> None:
    forget_requests(stack.endpoints.earthengine_url)
    generation = store.read_with_generation(EventLayout("gs://whole-way", EVENT_ID).versions)[1]
    assert map_event(request_with_truth) == mapped.publication
    assert cube_requests(stack) == 0
    assert store.read_with_generation(EventLayout("gs://whole-way", EVENT_ID).versions)[1] == generation
    assert not store.list(EventLayout("gs://whole-way", EVENT_ID).run(mapped.publication.run_key).work(""))


def test_an_empty_result_is_published_with_complete_layers(
    stack: LocalStack, mapped: Mapped, store: Store, small_quake: SmallQuake, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    weights = untrained(small_quake.region, tmp_path / "weights", "never", "ten-band", share=0)
    monkeypatch.setenv("QUAKESLIDE_MODEL__WEIGHTS", str(weights))
    forget_requests(stack.endpoints.earthengine_url)
    publication = map_event(MapRequest(event_id=EVENT_ID))
    assert publication.version == 2
    assert cube_requests(stack) == 0, "the cube is that of the first version"
    assert [each.version for each in read_versions(store, EventLayout("gs://whole-way", EVENT_ID))] == [1, 2]
    folder = download_version(store, publication, tmp_path / "out")
    assert not (folder / "metrics.json").exists()
    for name in ("gpkg", "parquet", "geojson"):
        path = folder / f"landslides.{name}"
        frame = geopandas.read_parquet(path) if name == "parquet" else geopandas.read_file(path)
        assert len(frame) == 0
        if name != "geojson":  # a GeoJSON file without features has no place for columns
            assert set(SCHEMA) <= set(frame.columns)
        assert frame.crs is not None
    with rasterio.open(folder / "mask.tif") as mask:
        assert set(np.unique(mask.read(1))) == {0, 255}
    facts = ReportFacts.from_json((folder / FACTS).read_text())
    assert facts.inventory.count == 0
    assert pystac.Item.from_file(str(folder / ITEM_NAME)).validate()
    assert set(earth_engine_assets(folder)) == {"probability", "mask", "observed"}, "nothing found makes no table"
    with connected(load_settings()) as session:
        versions = ee.ImageCollection(facts.earth_engine_assets["observed"]).filter(ee.Filter.notNull(["version"]))
        assert session.compute(versions.sort("version").aggregate_array("version")) == [1, 2]


def test_rules_that_the_chosen_network_does_not_allow_are_refused_before_a_tile_is_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = array_scene((64, 64))
    rules = LearntRules(GeologyRules(600.0), 10.0, "m", "ab" * 32, {"iburi": ("iburi-1",)}, True, {}, ())
    write_rules(tmp_path / "rules.json", rules)
    settings = Settings(model=ModelSettings(rules=f"learnt:{tmp_path / 'rules.json'}", scene_means=0.0))
    mapped: list[str] = []
    for name, stand_in in {
        "_alignment": lambda *_: None,
        "read_cube": lambda *_: scene,
        "AlignedScene": lambda cube, _: cube,
        "bucket": lambda _: nullcontext(),
        "once": lambda *given: given[-1](),
        "again_for": lambda *_: None,
        "_network": lambda *_: random_model("ten-band"),
        "write_probability": lambda *_, **__: mapped.append("all"),
    }.items():
        monkeypatch.setattr(f"flows.map_event.{name}", stand_in)
    with pytest.raises(BandSetError, match="networks of one date"):
        map_probability.fn(SimpleNamespace(run=SimpleNamespace(event=None), cube=None), settings, tmp_path)
    assert mapped == []


def test_an_unknown_event_fails_at_once_and_writes_nothing(services: dict[str, str], stack: LocalStack) -> None:
    forget_requests(stack.endpoints.usgs_url)
    with pytest.raises(EventError, match="us0nothere"):
        map_event(MapRequest(event_id="us0nothere"))
    assert len(requests_of(stack.endpoints.usgs_url)) == 1, "a permanent error is not tried again"
    bucket = f"gs://{services['QUAKESLIDE_STORAGE__BUCKET']}"
    with Store(bucket, os.environ["QUAKESLIDE_STORAGE__ENDPOINT"]) as other:
        assert not other.list(f"{bucket}/")


class Failed:
    """The part of a Prefect state that is looked at."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def result(self) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (ServiceError("no answer"), True),
        (TransientError("HTTP 503"), True),
        (EventError("unknown"), False),
        (PermanentError("HTTP 400"), False),
        (WeightsError("damaged"), False),
        (ValueError("a mistake of ours"), False),
    ],
)
def test_only_what_may_pass_is_tried_again(error: Exception, again: bool) -> None:
    assert may_pass(None, None, Failed(error)) is again
