"""Explanations say what is known of networks that were built to be explained."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from modeling import bands, networks
from modeling.data.batches import IGNORE, Block
from modeling.data.normalise import Normalisation
from modeling.errors import DataError, ModelingError
from modeling.explaining.ablation import MOVED, UNKNOWN, Ablation, band_ablation, band_groups
from modeling.explaining.explain import Explainable, cam_layer, grad_cam
from modeling.explaining.explain_attention import attention_by_band
from modeling.forward import logits_of
from modeling.networks.attention import ChannelAttention, SqueezeExcitation
from modeling.networks.shape import pad_to_multiple
from modeling.training.losses import margin_of


@dataclass
class Explained:
    """A model without files: values are used as they are, unknown ones are 0."""

    network: nn.Module
    channels: tuple[str, ...]
    temperature: float = 1.0
    threshold: float = 0.5
    input_scale: int = 1
    normalisation: Normalisation = field(init=False)

    def __post_init__(self) -> None:
        self.network.eval()
        many = len(self.channels)
        self.normalisation = Normalisation("standardise", (0.0,) * many, (1.0,) * many, (0.0,) * many, (-9.0, 9.0))

    def margin(self, x: torch.Tensor) -> torch.Tensor:
        return margin_of(logits_of(self.network, self.normalisation, x, self.input_scale))


class Votes(nn.Module):
    """Band 0 averaged over 8 x 8 pixels speaks for a landslide, band 1 against it."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(2, 2, 8, stride=8, groups=2, bias=False)
        self.inplace = nn.ReLU(inplace=True)
        self.head = nn.Conv2d(2, 1, 1)
        nn.init.constant_(self.features.weight, 1 / 64)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([2.0, -1.0]).view(1, 2, 1, 1))
            self.head.bias.fill_(-0.5)  # type: ignore[union-attr]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.head(self.inplace(self.features(pad_to_multiple(x, 8))))
        y = functional.interpolate(y, scale_factor=8, mode="nearest")
        return y[..., : x.shape[-2], : x.shape[-1]]


def votes(scale: int = 1) -> Explained:
    return Explained(Votes(), ("for", "against"), input_scale=scale)


def spot(height: int = 44, width: int = 60) -> torch.Tensor:
    """Band 0 says landslide in the lower right, band 1 says none in the upper left."""
    x = torch.zeros(1, 2, height, width)
    x[:, 0, -12:, -12:] = 1
    x[:, 1, :12, :12] = 1
    return x


@pytest.mark.parametrize("scale", [1, 2])
def test_the_map_shows_what_speaks_for_a_landslide_and_not_what_speaks_against_it(scale: int) -> None:
    model: Explainable = votes(scale)
    (cam,) = grad_cam(model, spot(), layer="features")
    assert cam.shape == (44, 60)
    assert cam.dtype == np.float32
    assert cam.max() == 1
    assert cam[-10:, -10:].min() > 0.5
    assert np.all(cam[:20, :30] == 0)


def test_the_map_is_the_equation() -> None:
    x = torch.rand(2, 2, 16, 24)
    where = np.random.default_rng(0).random((2, 16, 24)) > 0.5
    features = functional.avg_pool2d(x, 8)
    votes_each = torch.from_numpy(where).reshape(2, 2, 8, 3, 8).sum((2, 4))  # pixels of the score in each cell
    weight = (votes_each[:, None] * torch.tensor([2.0, -1.0]).view(1, 2, 1, 1)).mean((2, 3), keepdim=True)
    expected = functional.interpolate(
        functional.relu((weight * features).sum(1, keepdim=True)), (16, 24), mode="bilinear", align_corners=False
    )[:, 0]
    expected = expected / expected.amax((1, 2), keepdim=True)
    torch.testing.assert_close(torch.from_numpy(grad_cam(votes(), x, layer="features", where=where)), expected)


def test_an_image_without_a_mapped_landslide_is_explained_over_all_its_pixels() -> None:
    x = spot()
    x[:, 0] *= 0.2  # too little to be mapped
    assert not (votes().margin(x) >= 0).any()
    (cam,) = grad_cam(votes(), x, layer="features")
    assert cam[-10:, -10:].min() > 0.5


def test_padding_does_not_move_the_map() -> None:
    """What the network adds to 44 x 60 pixels is what repeating the edge adds to them beforehand."""
    x = torch.zeros(1, 2, 44, 60)
    x[:, 0, 8:24, 16:40] = torch.rand(16, 24)
    padded = functional.pad(x, (0, 4, 0, 4), mode="replicate")
    where = np.zeros((1, 48, 64), dtype=bool)
    where[:, :44, :60] = True
    (small,) = grad_cam(votes(), x, layer="features", where=where[:, :44, :60])
    (large,) = grad_cam(votes(), padded, layer="features", where=where)
    np.testing.assert_allclose(small, large[:44, :60], atol=1e-6)


def test_nothing_that_speaks_for_a_landslide_gives_zeros() -> None:
    x = spot()
    x[:, 0] = 0
    assert np.all(grad_cam(votes(), x) == 0)


def test_the_default_is_the_last_layer_before_the_logits_on_the_coarsest_grid() -> None:
    assert cam_layer(votes(), spot()) == "features"


@pytest.mark.parametrize("size", [64, 88, 128])
@pytest.mark.parametrize(
    ("name", "cell_px", "layer"),
    [
        ("msf-litenet", 32, "fusions.0"), ("msf-litenet", 16, "fusions.1"), ("msf-litenet", 8, "fusions.2"),
        ("resu-senet", 32, "encoder.2"), ("resu-senet", 8, "encoder.2"), ("macu-net", 16, "encoder.4"),
        ("unetplusplus", 16, "nodes.4-0"), ("unetplusplus", 8, "nodes.3-1"),
    ],
)  # fmt: skip
def test_the_default_lies_on_the_grid_asked_for_whatever_the_size_of_the_image(
    name: str, cell_px: int, layer: str, size: int
) -> None:
    """Pools of a fixed number of bins are finer or coarser than the trunk, as it happens."""
    model = Explained(networks.create(name, in_channels=3, classes=2), ("a", "b", "c"))
    assert cam_layer(model, torch.rand(1, 3, size, size), cell_px=cell_px) == layer


def test_a_network_that_sees_its_input_enlarged_has_coarser_layers_for_the_same_cells() -> None:
    model = Explained(networks.create("msf-litenet", in_channels=3, classes=2), ("a", "b", "c"), input_scale=2)
    assert cam_layer(model, torch.rand(1, 3, 64, 64), cell_px=8) == "fusions.1"
    assert cam_layer(model, torch.rand(1, 3, 64, 64)) == "fusions.1"


def test_layers_that_cannot_be_mapped_are_refused() -> None:
    with pytest.raises(ModelingError, match=r"no layer 'nothing'.*features"):
        grad_cam(votes(), spot(), layer="nothing")
    model = votes()
    model.network.unused = nn.Conv2d(1, 1, 1)
    with pytest.raises(ModelingError, match="takes no part"):
        grad_cam(model, spot(), layer="unused")
    network = networks.create("resu-senet", in_channels=2, classes=1)
    deep = Explained(network, ("a", "b"))
    flat = next(path for path, module in network.named_modules() if isinstance(module, nn.Linear))
    with pytest.raises(ModelingError, match="does not give one map"):
        grad_cam(deep, spot(), layer=flat)


@pytest.mark.parametrize("name", ["msf-litenet", "resu-senet", "resu-cbnet", "macu-net", "cgnet", "unetplusplus"])
def test_networks_are_explained_as_they_are_and_left_as_they_were(name: str) -> None:
    torch.manual_seed(0)
    model = Explained(networks.create(name, in_channels=2, classes=1), ("a", "b"))
    for parameter in model.network.parameters():
        parameter.requires_grad_(False)
    x = torch.rand(2, 2, 40, 52)
    x[0, 0, :5] = float("nan")
    with torch.inference_mode():
        before = model.margin(x)
    cam = grad_cam(model, x)
    assert cam.shape == (2, 40, 52)
    assert np.isfinite(cam).all()
    assert cam.min() >= 0
    assert cam.max() <= 1
    if any(isinstance(module, ChannelAttention) for module in model.network.modules()):
        for found in attention_by_band(model, x):
            assert set(found.by_band) == set(found.shift) == {"a", "b"}
            assert all(0 <= weight <= 1 for weight in (*found.by_band.values(), *found.weights))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.network.modules())
    with torch.inference_mode():
        assert torch.equal(model.margin(x), before)


class Listening(nn.Module):
    """Two channels a band, then an attention that is set by hand."""

    def __init__(self, weights: tuple[float, ...]) -> None:
        super().__init__()
        self.spread = nn.Conv2d(2, 4, 1, groups=2, bias=False)
        self.attention = SqueezeExcitation(4, reduction=1)
        self.head = nn.Conv2d(4, 1, 1)
        nn.init.ones_(self.spread.weight)
        self.first, self.last = (layer for layer in self.attention.mlp if isinstance(layer, nn.Linear))
        for values in (self.first.weight, self.first.bias, self.last.weight):
            nn.init.zeros_(values)
        with torch.no_grad():
            self.last.bias.copy_(torch.logit(torch.tensor(weights)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.head(self.attention(self.spread(x)))
        return y


def test_a_band_weighs_what_its_channels_weigh() -> None:
    network = Listening((0.9, 0.7, 0.2, 0.1))
    with torch.no_grad():
        network.spread.weight[0] = 5.0  # a channel with large values speaks no louder than others
    model = Explained(network, ("heard", "unheard"))
    (found,) = attention_by_band(model, torch.rand(3, 2, 8, 8))
    assert (found.module, found.kind) == ("attention", "SqueezeExcitation")
    assert found.weights == pytest.approx((0.9, 0.7, 0.2, 0.1))
    assert found.by_band == pytest.approx({"heard": 0.8, "unheard": 0.15})
    assert found.mean_weight == pytest.approx(0.475)
    assert found.shift == pytest.approx({"heard": 0, "unheard": 0})
    json.dumps(found.to_json())


def test_a_band_that_sets_the_weights_shifts_them() -> None:
    network = Listening((0.5, 0.5, 0.5, 0.5))
    with torch.no_grad():
        network.first.weight[0, 0] = 1.0  # channel 0 holds the first band alone
        network.last.weight[:, 0] = 2.0
    (found,) = attention_by_band(Explained(network, ("sets", "follows")), torch.rand(3, 2, 8, 8))
    assert found.shift["sets"] > 0.1
    assert found.shift["follows"] == 0


def test_a_network_without_channel_attention_is_refused() -> None:
    with pytest.raises(ModelingError, match="no channel attention"):
        attention_by_band(votes(), spot())


class Threshold(nn.Module):
    """A landslide is where the first of three bands is above 0.5."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 1, 1)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([10.0, 0.0, 0.0]).view(1, 3, 1, 1))
            self.head.bias.fill_(-5.0)  # type: ignore[union-attr]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.head(x)
        return y


def some_blocks(count: int = 6) -> list[Block]:
    rng = np.random.default_rng(0)
    made = []
    for number in range(count):
        channels = rng.random((3, 24, 24)).astype(np.float32)
        truth = (channels[0] > 0.5).astype(np.uint8)
        truth[:2] = IGNORE
        made.append(Block(channels, truth, f"block-{number}", "toy"))
    return made


@pytest.mark.parametrize("way", [UNKNOWN, MOVED])
def test_only_the_band_that_decides_is_worth_something(way: str) -> None:
    model = Explained(Threshold(), ("ndvi_post", "red_post", "slope"))
    done: list[tuple[int, int]] = []
    found = band_ablation(model, some_blocks(), way=way, tell=lambda *counts: done.append(counts))
    assert found.whole["f1"] == 1
    rows = {row.group: row for row in found.rows}
    assert set(rows) == {"ndvi_post", "red_post", "slope", "all after"}
    for name in ("ndvi_post", "all after"):
        assert rows[name].change.interval.high < -0.3
    for name in ("red_post", "slope"):
        assert rows[name].change.interval.low == rows[name].change.interval.high == 0
    assert rows["ndvi_post"].scores["recall"] == (0 if way == UNKNOWN else pytest.approx(0.5, abs=0.05))
    assert done[-1] == (6, 6)
    assert isinstance(found, Ablation)
    json.dumps(found.to_json())


def test_blocks_that_lie_together_are_drawn_together() -> None:
    model = Explained(Threshold(), ("ndvi_post", "red_post", "slope"))
    blocks = [replace(block, group=f"region-{number // 3}") for number, block in enumerate(some_blocks())]
    apart, together = (band_ablation(model, each).rows[0].change.interval for each in (some_blocks(), blocks))
    assert (apart.blocks, together.blocks) == (6, 2)
    assert apart.value == together.value


def test_bands_that_were_moved_are_the_same_at_every_run() -> None:
    model = Explained(Threshold(), ("a", "b", "c"))
    runs = [band_ablation(model, some_blocks(), way=MOVED, seed=seed).to_json() for seed in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]


def test_groups_of_the_ten_bands() -> None:
    groups = band_groups(bands.band_set("ten-band").channels)
    assert groups["terrain"] == ("slope", "hillshade")
    assert groups["all NDVI"] == ("ndvi_pre", "ndvi_post")
    assert len(groups["all before"]) == len(groups["all after"]) == 4
    assert set(band_groups(bands.band_set("rgb").channels)) == {"red_post", "green_post", "blue_post"}


def test_ablation_of_what_is_not_there_is_refused() -> None:
    model = Explained(Threshold(), ("a", "b", "c"))
    with pytest.raises(DataError, match=r"'d'.*a, b, c"):
        band_ablation(model, some_blocks(), groups={"d": ("d",)})
    with pytest.raises(DataError, match="way"):
        band_ablation(model, some_blocks(), way="shuffled")
    with pytest.raises(DataError, match="block"):
        band_ablation(model, [])
