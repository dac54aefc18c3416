"""flows/scene_means.py: a map on scene means is another run, its parent is adapted on the same, and by default nothing moves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from fakes.quakes import SmallQuake
from fakes.weights import untrained

from flows.adapt_parent import Rasters, folder_parent
from flows.adapt_trial.pair import write_pair
from flows.facts import ReportFacts
from flows.geology import scene_before
from flows.map_raster import map_raster_pair
from flows.mapping import write_probability
from flows.scene_blocks import SceneBlocks
from flows.scene_means import SETTING, on_means_instead, on_scene_means
from flows.settings import ModelSettings, Settings, WorkSettings
from modeling.adaptation.scene_means import of_light, scene_means
from modeling.model import load_model


@pytest.fixture(scope="module")
def weights(small_quake: SmallQuake, tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(untrained(small_quake.region, tmp_path_factory.mktemp("weights"), "tiny", "ten-band", share=0.05))


@pytest.fixture(scope="module")
def rasters(small_quake: SmallQuake, tmp_path_factory: pytest.TempPathFactory) -> Rasters:
    return write_pair(small_quake.region, tmp_path_factory.mktemp("pair"))


def mapped(rasters: Rasters, out: Path, weights: str, share: float) -> ReportFacts:
    settings = Settings(work=WorkSettings(scratch=str(out.parent)), model=ModelSettings(scene_means=share))
    map_raster_pair(
        rasters.pre, rasters.post, rasters.dem, out, bands=None, scale=None, weights=weights, name="hill",
        settings=settings,
    )  # fmt: skip
    return ReportFacts.from_json((out / "facts.json").read_text())


def probability(folder: Path) -> np.ndarray:
    with rasterio.open(folder / "probability.tif") as file:
        return np.asarray(file.read(1))


def test_the_parent_of_an_adaptation_maps_as_its_map_was_made(rasters: Rasters, weights: str, tmp_path: Path) -> None:
    plain, moved = (mapped(rasters, tmp_path / f"{share}", weights, share) for share in (0.0, 0.5))
    assert ModelSettings().scene_means == 0, "without the setting nothing is moved"
    assert (plain.provenance.settings[SETTING], moved.provenance.settings[SETTING]) == ("0.0", "0.5")
    assert plain.provenance.weights_hash == moved.provenance.weights_hash == load_model(weights).weights_hash
    assert plain.provenance.run_key != moved.provenance.run_key
    assert not np.allclose(probability(tmp_path / "0.0"), probability(tmp_path / "0.5"), equal_nan=True)
    for share in ("0.0", "0.5"):
        with folder_parent(tmp_path / share, rasters, weights) as parent:
            again = tmp_path / f"again-{share}.tif"
            write_probability(parent.scene, parent.model, again, ModelSettings())
        with rasterio.open(again) as file:
            np.testing.assert_array_equal(file.read(1), probability(tmp_path / share))


def test_a_network_for_a_scene_keeps_its_name_and_goes_its_share_of_the_way(
    rasters: Rasters, weights: str, tmp_path: Path
) -> None:
    mapped(rasters, tmp_path / "out", weights, 0.0)
    with folder_parent(tmp_path / "out", rasters, weights) as parent:
        model, scene = parent.model, parent.scene
        assert on_scene_means(model, scene, 0.0) is model
        made = on_scene_means(model, scene, 0.5)
        means = scene_means(SceneBlocks(scene, model.bands), model.bands)
    assert (made.name, made.weights_hash, made.card) == (model.name, model.weights_hash, model.card)
    for channel, mean, before, after in zip(
        model.channels, means, model.normalisation.offset, made.normalisation.offset, strict=True
    ):
        wanted = before + 0.5 * (mean - before) if of_light(channel) else before
        assert after == pytest.approx(wanted, abs=1e-6)


def test_a_network_adapted_on_the_light_after_sees_the_image_before_in_its_own(
    rasters: Rasters, small_quake: SmallQuake, tmp_path: Path
) -> None:
    weights = str(untrained(small_quake.region, tmp_path, "tiny", "rgb", share=0.05))
    mapped(rasters, tmp_path / "out", weights, 0.5)
    with folder_parent(tmp_path / "out", rasters, weights) as parent:
        plain, adapted, scene = load_model(weights), parent.model, parent.scene
        before = scene_before(scene, plain)
        assert on_means_instead(adapted, scene, before, 0.0) is adapted
        wanted = on_scene_means(plain, before, 0.5).normalisation
        made = on_means_instead(adapted, scene, before, 0.5).normalisation
        assert adapted.normalisation.offset != pytest.approx(wanted.offset, abs=1e-4), "the two lights differ"
        assert made.offset == pytest.approx(wanted.offset, abs=1e-6)
