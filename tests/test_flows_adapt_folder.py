"""flows/adapt_folder.py: a folder of `quakeslide map-raster` is adapted without any service."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from fakes.options import raster_options
from fakes.quakes import SmallQuake
from fakes.shy import shy_network
from fakes.training import register_tiny

from flows import cli
from flows.adapt_folder import adapt_folder
from flows.adapt_parent import Rasters, folder_parent
from flows.adapt_request import AdaptRequest
from flows.adapt_trial.drawing import draw
from flows.adapt_trial.pair import AT, write_pair
from flows.copies import folder_run_key
from flows.errors import FlowError, PublicationError
from flows.facts import ReportFacts
from flows.interruption import INTERRUPTED
from flows.map_raster import map_raster_pair
from flows.settings import Settings, WorkSettings
from modeling.errors import RasterError


@pytest.mark.slow
def test_a_folder_is_adapted_into_a_new_one(
    small_quake: SmallQuake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_tiny(monkeypatch)
    settings = Settings(work=WorkSettings(scratch=str(tmp_path)))
    weights = str(shy_network(small_quake.region, tmp_path / "weights"))
    rasters = write_pair(small_quake.region, tmp_path)
    first = tmp_path / "first"
    map_raster_pair(
        rasters.pre, rasters.post, rasters.dem, first, bands=None, scale=None, weights=weights, name="pair",
        settings=settings,
    )  # fmt: skip
    with rasterio.open(first / "probability.tif") as file:
        probability = file.read(1)
    known = np.isfinite(probability)
    drawn = draw(small_quake.region.truth & known, probability >= 0.5, known, AT, count=16, seed=3)
    rows = [
        {"type": "Feature", "geometry": shapely.geometry.mapping(geometry), "properties": {"label": landslide}}
        for geometry, landslide in zip(drawn.geometries, drawn.landslide, strict=True)
    ]
    labels = tmp_path / "drawn.geojson"
    crs = {"type": "name", "properties": {"name": "EPSG:32648"}}
    labels.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": rows}))
    request = AdaptRequest(event_id=str(first), labels=str(labels), weights=weights, steps=0, reach_m=300)

    def refused(error: type[Exception], said: str, rasters: Rasters, out: Path) -> None:
        with pytest.raises(error, match=said):
            adapt_folder(request, rasters, out, settings)

    swapped = Rasters(rasters.post, rasters.pre, rasters.dem)
    refused(FlowError, "was not made from post.tif, pre.tif, dem.tif", swapped, tmp_path / "second")
    refused(PublicationError, "is not empty", rasters, first)
    assert not (tmp_path / "second").exists()

    outcome = adapt_folder(request, rasters, tmp_path / "second", settings)
    facts = ReportFacts.from_json((tmp_path / "second" / "facts.json").read_text())
    assert outcome.folder == tmp_path / "second"
    assert facts.adaptation == outcome.adaptation
    assert outcome.adaptation.judgement.verdict == "better"
    assert outcome.adaptation.parent_run_key == folder_run_key(first) != folder_run_key(tmp_path / "second")
    assert str(tmp_path) not in (tmp_path / "second" / "report.html").read_text(), "no path of this machine is told"
    assert not facts.event.simulated, "nobody has said that these rasters are"


def test_a_folder_made_from_bands_in_separate_files_wants_them_all(
    small_quake: SmallQuake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_tiny(monkeypatch)
    weights = str(shy_network(small_quake.region, tmp_path / "weights"))
    rasters = write_pair(small_quake.region, tmp_path, apart=True)
    first = tmp_path / "first"
    map_raster_pair(
        rasters.pre, rasters.post, rasters.dem, first, bands=None, scale=None, weights=weights, name="pair",
        settings=Settings(work=WorkSettings(scratch=str(tmp_path))),
    )  # fmt: skip
    with folder_parent(first, replace(rasters, post=rasters.post[::-1]), weights) as parent:
        assert {"red_pre", "nir_pre", "red_post", "nir_post"} <= set(parent.scene.layer_names)
    for fewer in (replace(rasters, pre=rasters.pre[1:]), replace(rasters, post=rasters.post[:-1])):
        with (
            pytest.raises(FlowError, match="give all rasters that it was made from"),
            folder_parent(first, fewer, weights),
        ):
            pass
    lost = replace(rasters, pre=(tmp_path / "lost.tif", *rasters.pre))
    with pytest.raises(RasterError, match=r"lost\.tif: there is no such file"), folder_parent(first, lost, weights):
        pass


def test_the_command_hands_on_all_rasters_and_promises_nothing_when_it_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rasters = Rasters((Path("pre_red.tif"), Path("pre_nir.tif")), (Path("red.tif"), Path("nir.tif")), Path("dem.tif"))
    rows = [
        {"type": "Feature", "geometry": shapely.geometry.mapping(square), "properties": {"label": number % 2 == 0}}
        for number, square in enumerate(shapely.box(x, 30, x + 0.001, 30.001) for x in np.arange(100, 100.1, 0.01))
    ]
    labels = tmp_path / "drawn.geojson"
    labels.write_text(json.dumps({"type": "FeatureCollection", "features": rows}))
    handed: list[Rasters] = []

    def stop(request: AdaptRequest, given: Rasters, out: Path, settings: Settings) -> None:
        handed.append(given)
        raise FlowError("that is enough")

    monkeypatch.setattr("flows.adapt_folder.adapt_folder", stop)
    options = map(str, raster_options(rasters))
    monkeypatch.setattr(sys, "argv", ["quakeslide", "adapt", str(tmp_path), str(labels), *options])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert (exit_.value.code, capsys.readouterr().err) == (cli.BAD_INPUT, "quakeslide: that is enough\n")
    assert handed == [rasters]

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("flows.adapt_folder.adapt_folder", interrupted)
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert exit_.value.code == INTERRUPTED
    assert capsys.readouterr().err == "interrupted; nothing is kept of this: the same command begins anew\n"
