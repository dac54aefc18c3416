"""modeling/prediction/fuse.py, modeling/prediction/fold.py: fewer passes, the same function."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from modeling import networks
from modeling.networks.msf_litenet import MSFLiteNet
from modeling.prediction.fold import EnlargedConv, FoldedMSFLiteNet, margin_head, smoothed
from modeling.prediction.fuse import fuse
from modeling.training.losses import margin_of


def lively(network: nn.Module) -> nn.Module:
    """As if trained: batch norms that do something."""
    generator = torch.Generator().manual_seed(5)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.running_mean, module.bias.data):
                values.copy_(0.2 * torch.randn(values.shape, generator=generator))
            for values in (module.running_var, module.weight.data):
                values.copy_(0.5 + torch.rand(values.shape, generator=generator))
    return network.eval()


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.fixture(scope="module")
def msf() -> nn.Module:
    torch.manual_seed(0)
    return lively(networks.create("msf-litenet", in_channels=3, classes=2))


@pytest.fixture(scope="module")
def fused(msf: nn.Module) -> MSFLiteNet:
    made = fuse(msf, 3)
    assert isinstance(made, MSFLiteNet)
    return made


@pytest.mark.parametrize("name", ["msf-litenet", "cgnet", "resu-senet"])
def test_a_fused_network_gives_what_the_network_gives(name: str) -> None:
    torch.manual_seed(0)
    network = lively(networks.create(name, in_channels=3, classes=1))
    before = norms(network)
    fused = fuse(network, 3)
    x = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        expected = network(x)
        torch.testing.assert_close(fused(x), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
    assert norms(fused) < before
    assert norms(network) == before, "the network itself stays as it is"


class Twice(nn.Module):
    """Uses what its convolution gives a second time, past the batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return self.norm(y) + y


class Shared(nn.Module):
    """One convolution, two batch norms."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.one, self.two = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.two(self.conv(self.one(self.conv(x))))


@pytest.mark.parametrize("kind", [Twice, Shared])
def test_a_network_that_fusing_would_change_is_left_alone(kind: type[nn.Module]) -> None:
    network = lively(kind())
    fused, x = fuse(network, 3), torch.rand(1, 3, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(fused(x), network(x))
    assert norms(fused) == norms(network)


@settings(max_examples=15, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    input_scale=st.sampled_from([1, 2]),
    band_rows=st.sampled_from([None, 2, 6, 16, 64]),
)
def test_a_folded_network_is_the_network_at_every_pixel(
    msf: nn.Module, fused: MSFLiteNet, shape: tuple[int, int], input_scale: int, band_rows: int | None
) -> None:
    x = torch.rand(1, 3, *shape, generator=torch.Generator().manual_seed(shape[0]))
    with torch.inference_mode():
        large = functional.interpolate(x, scale_factor=input_scale, mode="bilinear") if input_scale > 1 else x
        plain = margin_of(msf(large))
        expected = functional.avg_pool2d(plain[:, None], input_scale)[:, 0]
        found = FoldedMSFLiteNet(fused, input_scale, band_rows).eval()(x)
    assert found.shape == (1, *shape)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def test_bands_need_their_margin(fused: MSFLiteNet, monkeypatch: pytest.MonkeyPatch) -> None:
    """The property above can fail: without the rows beside a band its edges would be others."""
    x = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        whole = FoldedMSFLiteNet(fused, 2).eval()(x)
        monkeypatch.setattr("modeling.prediction.fold._MARGIN_ROWS", 2)
        banded = FoldedMSFLiteNet(fused, 2, 16).eval()(x)
    assert float((banded - whole).abs().max()) > 1e-4


def test_a_convolution_of_the_doubled_input_is_one_of_the_input() -> None:
    conv = nn.Conv2d(4, 5, 3, stride=2, padding=1)
    x = torch.rand(2, 4, 9, 7)
    with torch.inference_mode():
        expected = conv(functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))
        torch.testing.assert_close(EnlargedConv(conv)(x), expected)


def test_doubling_and_averaging_is_one_filter() -> None:
    y = torch.rand(2, 1, 5, 6)
    doubled = functional.interpolate(y, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(smoothed(y), functional.avg_pool2d(doubled, 2))


@pytest.mark.parametrize("classes", [1, 2])
def test_the_margin_of_a_head(classes: int) -> None:
    head, x = nn.Conv2d(6, classes, 1), torch.rand(1, 6, 4, 4)
    with torch.inference_mode():
        torch.testing.assert_close(margin_head(head)(x)[:, 0], margin_of(head(x)))
