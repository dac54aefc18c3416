"""The mean over symmetries: truly symmetric, of true hillshades, the same in tiles, at the cost that it states."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from fakes.adaptation import Validation
from fakes.training import register_tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from modeling import networks
from modeling.adaptation.tta import SYMMETRIES, TTA, averaged, symmetries_of, turned, turned_back
from modeling.bands import BAND_SETS, BandSet
from modeling.data.normalise import Normalisation
from modeling.errors import DataError
from modeling.model import LandslideModel
from modeling.prediction.inference import Execution, choose, prepare
from modeling.prediction.predict import predict_tiles
from modeling.scoring.evaluate import evaluate

RGB = BAND_SETS["rgb"]
EDGES = BandSet("toy", ("first", "second", "third"), "for tests")


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    register_tiny(monkeypatch)


@dataclass(frozen=True)
class Lopsided:
    """A model that sees more on the left and above: what symmetries even out."""

    bands: BandSet = RGB

    def probability(self, channels: torch.Tensor, /) -> torch.Tensor:
        kernel = torch.tensor([[0.6, 0.3, 0.0], [0.2, 0.1, 0.0], [0.1, 0.0, 0.0]])[None, None]
        return torch.sigmoid(functional.conv2d(channels[:, :1].nan_to_num(0.0), kernel, padding=1)[:, 0])


@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_each_symmetry_is_undone(symmetry: tuple[bool, bool, bool]) -> None:
    x = torch.rand(2, 10, 5, 7) * 200
    kept = x.clone()
    back = turned_back(turned(BAND_SETS["ten-band"], x, symmetry), symmetry)
    others = [index for index, name in enumerate(BAND_SETS["ten-band"].channels) if name != "hillshade"]
    torch.testing.assert_close(back[:, others], x[:, others])
    assert torch.equal(x, kept)


def test_the_eight_symmetries_differ() -> None:
    x = torch.arange(12.0).view(1, 1, 3, 4).expand(1, 3, 3, 4)
    assert len({(made.shape, *made.flatten().tolist()) for made in (turned(RGB, x, each) for each in SYMMETRIES)}) == 8


@settings(max_examples=25, deadline=None)
@given(which=st.integers(0, 7), seed=st.integers(0, 1000))
def test_the_mean_turns_with_the_ground(which: int, seed: int) -> None:
    model = TTA(Lopsided())
    x = torch.randn(1, 3, 6, 9, generator=torch.Generator().manual_seed(seed))
    there = turned_back(model.probability(turned(RGB, x, SYMMETRIES[which])), SYMMETRIES[which])
    torch.testing.assert_close(there, model.probability(x))
    plain = turned_back(Lopsided().probability(turned(RGB, x, SYMMETRIES[1])), SYMMETRIES[1])
    assert not torch.allclose(plain, Lopsided().probability(x), atol=1e-3)


def test_a_mirrored_hillshade_is_that_of_the_mirrored_ground() -> None:
    y, x = torch.meshgrid(torch.arange(20.0), torch.arange(20.0), indexing="ij")
    height = 6 * torch.sin(x / 3 + y / 9) + 4 * torch.cos(y / 4)  # pixels of 10: slopes of up to 14 degrees

    def hillshade(z: torch.Tensor) -> torch.Tensor:
        """Lit from the west at 45 degrees."""
        east, north = torch.zeros_like(z), torch.zeros_like(z)
        east[:, 1:-1] = (z[:, 2:] - z[:, :-2]) / 20
        north[1:-1] = (z[:-2] - z[2:]) / 20
        # The light comes from (-1, 0, 1) / sqrt(2), the surface's normal is (-east, -north, 1).
        return 255 * (1 + east) / (2**0.5 * (1 + east**2 + north**2).sqrt())

    bands = BandSet("lit", ("hillshade",), "for tests")
    for symmetry in symmetries_of(bands):
        image = turned(bands, hillshade(height)[None, None], symmetry)[0, 0]
        ground = turned(BandSet("ground", ("height",), ""), height[None, None], symmetry)[0, 0]
        # Nearly: the part of the light that is linear in the slope changes its sign, the rest does not.
        torch.testing.assert_close(image[1:-1, 1:-1], hillshade(ground)[1:-1, 1:-1], atol=12.0, rtol=0)
        unlit = image if not symmetry[1] else 2 * 255 * 0.5**0.5 - image
        wrong = float((unlit - hillshade(ground)).abs().mean())
        assert float((image - hillshade(ground)).abs().mean()) < 6.0 and (not symmetry[1] or wrong > 20.0)
    assert len(symmetries_of(bands)) == 4 == TTA(Lopsided(bands)).passes


def test_scales_see_the_ground_larger_and_give_it_back() -> None:
    x = torch.rand(1, 3, 12, 10)
    seen: list[torch.Size] = []

    def probability(channels: torch.Tensor) -> torch.Tensor:
        seen.append(channels.shape[-2:])
        return channels[:, 0]

    found = averaged(probability, RGB, x, symmetries=1, scales=(1.0, 1.5))
    assert seen == [(12, 10), (18, 15)]
    assert found.shape == (1, 12, 10)
    torch.testing.assert_close(found, x[:, 0], atol=0.25, rtol=0)
    for wrong in ({"symmetries": 3}, {"scales": ()}, {"scales": (9.0,)}):
        with pytest.raises(DataError):
            TTA(Lopsided(), **wrong)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="aspect"):
        symmetries_of(BandSet("b", ("slope", "aspect"), ""))


def small_model(bands: BandSet) -> LandslideModel:
    torch.manual_seed(3)
    width = len(bands.channels)
    network = networks.create("tiny", in_channels=width, classes=2).eval()
    normalisation = Normalisation("standardise", (0.1,) * width, (0.1,) * width, (0.0,) * width, (-6.0, 6.0))
    return LandslideModel(
        "small", "tiny", network, bands, normalisation, temperature=2.0, threshold=0.4, weights_hash="h", card={}
    )


def test_tiled_prediction_takes_the_mean_by_an_option() -> None:
    model = small_model(EDGES)
    scene = np.random.default_rng(0).normal(0.1, 0.1, (3, 70, 90)).astype(np.float32)
    scene[:, 30:40, 30:40] = np.nan
    execution = choose(model, device="cpu", precision="float32", tile_px=128, symmetries=8)
    assert execution.symmetries == 8 and "mean of 8 symmetries" in str(execution)
    assert choose(small_model(BAND_SETS["ten-band"]), device="cpu", symmetries=8).symmetries == 4
    found = np.empty((70, 90), np.float32)

    def read(window: tuple[slice, slice]):  # type: ignore[no-untyped-def]
        layers = dict(zip(EDGES.channels, scene[:, *window], strict=True))
        return layers, np.ones(layers["first"].shape, bool)

    predict_tiles(prepare(model, execution), read, (70, 90), found.__setitem__, tile_px=128, halo_px=0)
    x = torch.from_numpy(scene)[None]
    with torch.inference_mode():
        expected = TTA(model).probability(x)[0].numpy()
    np.testing.assert_allclose(found, expected, atol=2e-4)
    alone = prepare(model, Execution("cpu", "float32", 128, 0)).probability(x)[0].numpy()
    assert np.abs(found - alone).max() > 1e-3


def test_it_is_scored_like_a_model_and_fits_its_threshold_to_the_source() -> None:
    model = TTA(small_model(EDGES), symmetries=4, threshold=0.4)
    fitted = model.fitted(Validation())
    scores = [evaluate(each, Validation()).scores()["f1"] for each in (model, fitted)]
    assert scores[1] >= scores[0]
    assert fitted.threshold != 0.4 and fitted == replace(model, threshold=fitted.threshold)
