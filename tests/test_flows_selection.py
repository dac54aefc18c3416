"""flows/selection.py, choice.py and cli_select.py: the nearest network maps a scene, and people are told when none is near."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
import torch
from fakes.products import FOOTPRINT, GRID, SOURCE, facts
from fakes.scenes import ArrayScene, array_scene
from typer.testing import CliRunner

from flows import cli, wording
from flows.choice import BandDistance, Candidate, Selection
from flows.cli_select import write_files
from flows.progress import Progress, listen
from flows.report import render_report
from flows.selection import (
    AUTO,
    channels_of,
    expected,
    model_of,
    scene_fingerprint,
    select_model,
    weights_named,
    write_selection,
    zoo_of,
)
from flows.settings import ModelSettings
from flows.stac import make_item
from gee.types import Observed
from modeling.bands import band_set
from modeling.data.batches import Block
from modeling.domains.fingerprint import fingerprint_of
from modeling.domains.novelty import calibrated
from modeling.domains.sample_file import sample_path
from modeling.domains.select import rivals
from modeling.domains.zoo import Zoo, ZooModel
from modeling.errors import BandSetError, DataError, WeightsError
from modeling.model import WEIGHTS_FOLDER, LandslideModel, load_model

AUTOMATIC = ModelSettings()


def blocks(level: float, count: int = 30) -> list[Block]:
    """Ground whose red, green and blue lie about `level`."""
    rng = np.random.default_rng(int(1000 * level))
    return [
        Block(
            rng.normal(level, 0.004, (3, 16, 16)).astype(np.float32),
            np.zeros((16, 16), np.uint8),
            f"{level} {i}",
            "toy",
        )
        for i in range(count)
    ]


def member(name: str, level: float) -> ZooModel:
    """A model for red, green and blue that has learned from ground about `level`."""
    fingerprint = calibrated(fingerprint_of(blocks(level), band_set("rgb").channels, rows=300), blocks(level + 0.001))
    return ZooModel(name, band_set("rgb"), f"hash of {name}", fingerprint, validation_f1=0.7)


@pytest.fixture(scope="module")
def scene() -> ArrayScene:
    """Ground whose colours lie between 0.05 and 0.06."""
    return array_scene((96, 80))


@pytest.fixture(scope="module")
def zoo() -> Zoo:
    return Zoo((member("far", 0.4), member("near", 0.055)))


def test_the_richest_shipped_network_is_chosen_as_the_layers_allow(scene: ArrayScene) -> None:
    everything = zoo_of(AUTOMATIC)
    for colours, name in ((("red", "green", "blue", "nir"), "ten-band"), (("red", "green", "blue"), "rgb-terrain")):
        found = select_model(array_scene((96, 80), colours), everything, automatic=True)
        assert found.chosen == f"resu-senet-slim_{name}"
        likely, digest = expected(everything, array_scene((96, 80), colours).layer_names)
        assert likely.name == found.chosen
        assert digest == found.weights_hash == load_model(found.chosen).weights_hash
        assert weights_named(likely) == found.chosen
    with pytest.raises(BandSetError, match="at least red_post"):
        expected(everything, ["slope"])


def test_the_nearest_is_chosen_and_the_choice_can_be_read_again(scene: ArrayScene, zoo: Zoo) -> None:
    found = select_model(scene, zoo, automatic=True)
    assert found.chosen == "near"
    assert [one.name for one in found.candidates] == ["near", "far"]
    assert found.candidates[1].novel
    assert found.candidates[1].far_bands
    assert found.winner.mean is not None
    assert found.winner.mean.low < found.winner.mean.distance < found.winner.mean.high
    assert Selection.from_json(found.to_json()) == found
    assert select_model(scene, zoo, automatic=True) == found, "the same scene, the same choice"
    assert model_of(found, zoo).name == "near"
    with pytest.raises(DataError, match="near has changed"):
        model_of(found, Zoo((replace(zoo.models[1], weights_hash="another"),)))


class _Redder(LandslideModel):
    """A model that calls landslide what is redder than its `temperature`."""

    def probability(self, x: torch.Tensor) -> torch.Tensor:
        return torch.where(x[:, 0] > self.temperature, torch.tensor(0.9), torch.tensor(0.05))


def voter(name: str, level: float, redder_than: float) -> ZooModel:
    plain = load_model("resu-senet-slim_rgb")
    drawn = _Redder(**{**vars(plain), "name": name, "temperature": redder_than, "threshold": 0.5})
    return replace(member(name, level), loaded=drawn)


def test_of_four_the_one_that_agrees_with_most_others_is_chosen_and_not_the_nearest(scene: ArrayScene) -> None:
    red = float(np.median(scene.layers["red_post"]))
    four = Zoo((
        voter("near", 0.055, 1.0), voter("one", 0.4, red), voter("another", 0.6, red + 1e-4), voter("third", 0.5, red),
    ))  # fmt: skip
    assert {one.name for one in rivals(four.models, channels_of(four.models, scene.layer_names))} == {
        "near", "one", "another", "third",
    }  # fmt: skip
    told: list[Progress] = []
    deaf = listen(told.append)
    found = select_model(scene, four, automatic=True)
    deaf()
    assert found.signal == "disagreement"
    assert found.chosen in {"one", "another", "third"}
    assert found.candidates[-1].name == "near"
    assert found.candidates[-1].disagreement == 1
    assert found.winner.disagreement is not None
    assert found.winner.disagreement < 0.5
    assert any("agree by an F1 of" in reason for reason in found.winner.reasons)
    assert Progress("map with each model", 1, 1) in told
    assert select_model(scene, four, automatic=True, signal="mean_mmd2").chosen == "near"
    assert select_model(scene, Zoo(four.models[:3]), automatic=True).signal == "mean_mmd2", (
        "three cannot outvote a blind one"
    )
    assert Selection.from_json(found.to_json()) == found


def test_where_hardly_anything_was_seen_nobody_votes(scene: ArrayScene) -> None:
    four = Zoo(tuple(voter(name, level, 0.05) for name, level in (("a", 0.055), ("b", 0.4), ("c", 0.5), ("d", 0.6))))
    dark = ArrayScene(scene.grid, scene.layers, np.full_like(scene.observed, Observed.CLOUD), scene.date)
    found = select_model(dark, four, automatic=True)
    assert all(one.disagreement is None for one in found.candidates)
    assert found.signal == "mean_mmd2", "the record names no vote that was not held"


def test_several_models_on_the_same_channels_make_another_run_when_one_changes(scene: ArrayScene, zoo: Zoo) -> None:
    _, digest = expected(zoo, scene.layer_names)
    changed = replace(zoo.models[0], weights_hash="another")
    assert expected(Zoo((changed, zoo.models[1])), scene.layer_names)[1] != digest
    assert expected(Zoo(zoo.models[::-1]), scene.layer_names)[1] == digest


def test_only_what_was_observed_is_compared(scene: ArrayScene) -> None:
    codes = scene.observed.copy()
    codes[1, :48] = Observed.CLOUD
    bright = {
        **scene.layers,
        "red_post": np.where(codes[1] == Observed.CLOUD, 0.9, scene.layers["red_post"]).astype(np.float32),
    }
    hidden = ArrayScene(scene.grid, bright, codes, scene.date)
    found = scene_fingerprint(hidden, band_set("ten-band").channels)
    assert found.known == pytest.approx(0.5)
    assert found.take(("red_post",)).max() < 0.1


def test_a_scene_that_was_not_seen_is_still_mapped(scene: ArrayScene, zoo: Zoo) -> None:
    dark = ArrayScene(scene.grid, scene.layers, np.full_like(scene.observed, Observed.CLOUD), scene.date)
    found = select_model(dark, zoo, automatic=True)
    assert found.pixels == 0
    assert found.winner.mean is None
    assert found.warning == ""
    assert "none of the scene" in wording.selection(replace(facts(), selection=found))


def test_channels_are_those_that_the_layers_make(zoo: Zoo) -> None:
    models = (*zoo.models, *zoo_of(AUTOMATIC).models)
    assert channels_of(models, ("red_post", "nir_post")) == ("red_post", "ndvi_post")


def test_a_named_model_is_compared_and_not_replaced(scene: ArrayScene, tmp_path: Path) -> None:
    settings = ModelSettings(weights="resu-senet-slim_rgb")
    bright = ArrayScene(
        scene.grid, {name: 8 * layer for name, layer in scene.layers.items()}, scene.observed, scene.date
    )
    write_selection(bright, settings, tmp_path / "selection.json")
    found = Selection.from_json((tmp_path / "selection.json").read_text())
    assert (found.chosen, found.automatic) == ("resu-senet-slim_rgb", False)
    assert len(found.candidates) == 1
    assert found.winner.novel, "bright even ground is unlike anything"
    assert found.warning.startswith("resu-senet-slim_rgb is not near this region")
    with pytest.raises(BandSetError, match="needs the layers slope"):
        expected(zoo_of(ModelSettings(weights="resu-senet-slim_ten-band")), ["red_post"])
    with pytest.raises(WeightsError, match="no folder of models"):
        zoo_of(ModelSettings(zoo=("nowhere",)))


def test_a_region_far_from_all_models_is_told_everywhere(scene: ArrayScene, tmp_path: Path) -> None:
    found = select_model(scene, Zoo((member("far", 0.4), member("farther", 0.6))), automatic=True)
    assert found.chosen == "far"
    assert found.warning.startswith(
        "no model is near this region: it lies farther from what far learned from than 99 %"
    )
    told = replace(facts(), selection=found)
    assert wording.caveats(told)[0].title == "No model is near this region"
    simulated = replace(facts(simulated=True), selection=found)
    assert [caveat.title for caveat in wording.caveats(simulated)][1] == "No model is near this region"
    assert "No model is near" not in str(wording.caveats(facts()))
    page = render_report(told, ())
    assert "no model is near this region".capitalize() in page
    assert "Which network, and why" in page
    assert f"{found.candidates[0].mean.distance:.3f}" in page  # type: ignore[union-attr]
    assert "Which network, and why" not in render_report(facts(), ())
    item = make_item(told, FOOTPRINT, GRID, {})
    kept = pystac.Item.from_dict(item.to_dict()).properties
    assert kept["quakeslide:selection"]["chosen"] == "far"
    assert kept["quakeslide:selection_warning"] == found.warning
    assert make_item(facts(), FOOTPRINT, GRID, {}).properties["quakeslide:selection"] is None


def test_a_near_model_with_fewer_channels_is_mentioned() -> None:
    far = Candidate("rich", "1", "ten-band", mean=BandDistance(2, 1, 3), limit=1.0, novel=True, far_bands=("slope",))
    near = Candidate("poor", "2", "rgb", mean=BandDistance(0.1, 0, 0.2), limit=1.0, novel=False)
    found = Selection("rich", "1", True, "mean_mmd2", (far, near), pixels=10)
    assert found.heading == "The network is not near this region"
    assert found.warning == (
        "rich is not near this region: it lies farther from what rich learned from than 99 % of the ground on which that "
        "was validated (distance 2.00, limit 1.00). It differs most in slope. poor, which was not taken, is nearer. "
        "Expect more errors than its scores say."
    )


def test_the_choice_is_written_as_files(scene: ArrayScene, zoo: Zoo, tmp_path: Path) -> None:
    found = select_model(scene, zoo, automatic=True)
    write_files(found, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["selection.json", "selection.png"]
    assert json.loads((tmp_path / "out" / "selection.json").read_text())["chosen"] == "near"
    assert (tmp_path / "out" / "selection.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name an event or a cube"),
        (["us1", "--pre", "a.tif"], "name an event or a cube"),
        (["--pre", "a.tif", "--post", "b.tif"], "--dem"),
        (["--pre", "a.tif", "--pre", "b.tif", "--post", "c.tif", "--dem", "d.tif"], "a.tif: there is no such file"),
        (["us1", "--by", "guess"], "choose one of auto, disagreement, mean_mmd2"),
        (["us1", "--zoo", "nowhere"], "no folder of models nowhere"),
        (["nowhere.zarr"], "nowhere.zarr"),
    ],
)
def test_misuse_of_the_command_is_told(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli.app, ["select", *arguments])
    assert words in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_of_rasters_that_show_nothing_it_is_said_that_nothing_was_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    at = rasterio.Affine(10, 0, 600_000, 0, -10, 3_300_000)
    for name, bands in (("pre", 4), ("post", 4), ("dem", 1)):
        profile = {"driver": "GTiff", "count": bands, "height": 96, "width": 96, "dtype": "float32", "nodata": np.nan}
        with rasterio.open(f"{name}.tif", "w", **profile, crs="EPSG:32648", transform=at) as file:
            file.write(np.full((bands, 96, 96), np.nan, np.float32))
    files = ["--pre", "pre.tif", "--post", "post.tif", "--dem", "dem.tif", "--bands", "blue,green,red,nir"]
    result = CliRunner().invoke(cli.app, ["select", *files], catch_exceptions=False)
    assert "warning: hardly a pixel of the scene was seen" in result.output
    assert "would map it; selection/selection.json\n" in result.output
    assert [path.name for path in (tmp_path / "selection").iterdir()] == ["selection.json"]


def test_the_samples_of_the_shipped_models_lie_beside_them() -> None:
    for one in zoo_of(AUTOMATIC).models:
        assert sample_path(WEIGHTS_FOLDER / f"{one.name}.safetensors").is_file()
    assert AUTOMATIC.weights == AUTO
    assert SOURCE.model in {one.name for one in zoo_of(AUTOMATIC).models}
