"""A trained model made ready to map large scenes: how it is computed on this machine, and the model computed that way.

What makes it fast, in the order of what each brought when measured on two CPU cores: channels-last layout with batch norms
absorbed by their convolutions, an allocator that keeps its pages (`allocator`), bfloat16 where the model's own weights were
found to bear it (`precision`), and the folded ends of MSF-LiteNet (`fold`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, cast

import torch
from torch import nn
from torch.nn import functional

from modeling.adaptation.ensemble import Ensemble
from modeling.adaptation.tta import averaged, symmetries_of
from modeling.bands import BandSet, FloatArray, assemble
from modeling.calibrated import calibrated_logit
from modeling.data.normalise import Normalisation
from modeling.errors import DataError, ModelingError
from modeling.model import LandslideModel
from modeling.networks.msf_litenet import MSFLiteNet
from modeling.prediction.allocator import keep_memory
from modeling.prediction.fold import FoldedMSFLiteNet
from modeling.prediction.footprint import available_bytes, bytes_per_pixel
from modeling.prediction.fuse import fuse
from modeling.training.losses import margin_of

Precision = Literal["auto", "float32", "bfloat16"]

HALO_PX = 8
"""Measured on 1,408 x 1,408 simulated pixels with the shipped ten-band network: in tiles of 704 the map differs from that
of the whole scene at once by 0.00033 on average (0.00037 without a halo, as much with 16 or 32 px), and from one side of a
seam to the other it changes no more than elsewhere (1.3 times as much without a halo). In tiles of 512, whose attention to
channels sees less, by 0.0016, and F1 is 0.011 lower, with any halo; on another scene by 0.0005, and 0.001."""
LARGEST_TILE_PX = 2048
"""Beyond this a halo costs little and memory a lot."""
SMALLEST_TILE_PX = 256
STEP_PX = 64
"""Tiles are multiples of this."""
MOST_BYTES = 440_000_000
"""What tiles may take on a CPU: the same on any machine that has twice as much free, so that maps are the same too. Beside
it a process takes about 1 GB: libraries, what the heap holds free between tensors of different sizes, the COG's rows.
Measured in all: 1.5 GB for 5,000 x 5,000 px, 1.75 GB for 20,000 x 20,000, in windows of 720 px."""
GPU_SHARE = 0.6
"""Of a GPU's free memory, likewise."""
LARGEST_BATCH = 8
COMPILED_FROM_PX = 4_000_000_000
"""Pixels of a scene from which compilation is taken to pay on a GPU. An estimate, not a measurement: one that maps 30 Mpx/s
takes over two minutes for so many, of which a compiled network saves perhaps a third and its compilation takes as much."""

LANES = 2
"""Tiles that are in the network at once on a CPU, with half of the threads each: a lane that reads, normalises or blends
leaves no thread of another waiting, and two tiles of 704 px side by side take 0.87 of the time of one after the other."""

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_WAITING_COPIES = 2
"""Of a tile beside those in the network: the one that waits for it, and the one that is being read."""
_RESULT_BYTES = 24
"""A pixel's probability, weight and validity while tiles are blended."""
_BAND_ROWS = 224
"""Rows of full resolution, at most, that go through a folded network at a time: half the memory for 2 % more time."""
_ROWS_BYTES = 2**21
"""Rows are stacked and normalised in portions of about so much, which stay in a core's cache."""


@dataclass(frozen=True)
class Execution:
    """How a model is computed."""

    device: str
    """`cpu`, `cuda`, or `cuda:N`."""
    precision: Literal["float32", "bfloat16"]
    """The type of the network's weights and features; probabilities are float32."""
    tile_px: int
    """Side of a tile without its halo."""
    halo_px: int
    """What is read around it."""
    batch: int = 1
    """Tiles that go through the network together."""
    lanes: int = 1
    """Tiles, or batches of them, that are in the network at once, with an equal part of the threads each."""
    compiled: bool = False
    """Whether `torch.compile` makes one program of the network."""
    symmetries: int = 1
    """Mirror images and turns of each tile whose mean is taken (`modeling.adaptation.tta`), at so many times the cost."""

    def __str__(self) -> str:
        compiled = ", compiled" if self.compiled else ""
        compiled += f", mean of {self.symmetries} symmetries" if self.symmetries > 1 else ""
        batch = f", {self.batch} at a time" if self.batch > 1 else ""
        return f"{self.precision} on {self.device}, tiles of {self.tile_px} px + {self.halo_px}{batch}{compiled}"


def choose(
    model: LandslideModel,
    *,
    device: str = "auto",
    precision: Precision = "auto",
    tile_px: int | None = None,
    halo_px: int = HALO_PX,
    memory_bytes: int | None = None,
    compiled: bool | Literal["auto"] = False,
    pixels: int | None = None,
    symmetries: int = 1,
) -> Execution:
    """How to map scenes on this machine.

    `auto` takes the GPU if there is one, and bfloat16 if the device computes it and the model's proof says that it is
    harmless. Without `tile_px` the largest tile is taken that fits into `memory_bytes` (by default `MOST_BYTES`, less
    where less is free). `compiled` pays on a GPU only: on a CPU it was measured to bring 2 % for four minutes of
    compilation; `auto` compiles on a GPU for a scene of at least `COMPILED_FROM_PX` `pixels`. `symmetries` is as in
    `Execution`; where the channels allow fewer, fewer are taken. Raises `ModelingError` for a device that is not there.
    """
    images = len(symmetries_of(model.bands, symmetries))
    place = _device(device)
    kind = _precision(model, place, precision)
    lanes = 1 if place.type == "cuda" else min(LANES, torch.get_num_threads())
    compiles = compilation_pays(place, pixels) if compiled == "auto" else compiled
    if tile_px is not None:
        return Execution(str(place), kind, tile_px, halo_px, 1, lanes, compiles, images)
    needed = working_bytes_per_pixel(model, kind, place)
    free = available_bytes(place)
    limit = int(GPU_SHARE * free) if place.type == "cuda" else min(MOST_BYTES, free // 2)
    budget = limit if memory_bytes is None else memory_bytes
    side = _largest(budget / needed, halo_px)
    together = int(budget / needed) // (side + 2 * halo_px) ** 2 if place.type == "cuda" else 1
    return Execution(str(place), kind, side, halo_px, max(1, min(LARGEST_BATCH, together)), lanes, compiles, images)


def compilation_pays(device: torch.device, pixels: int | None) -> bool:
    """Whether a scene is large enough for `torch.compile`; of an unknown size it is not."""
    return device.type == "cuda" and pixels is not None and pixels >= COMPILED_FROM_PX


def working_bytes_per_pixel(
    model: LandslideModel, precision: Literal["float32", "bfloat16"], device: torch.device
) -> float:
    """Memory for each pixel of a tile and its halo: the network's, and of what is read and blended around it.

    On a CPU that of `LANES` tiles, also where there are fewer threads: the same tiles give the same map.
    """
    channels = len(model.channels)
    asked = model.members if isinstance(model, Ensemble) else (model,)
    network = max(_network_bytes(each, precision, banded=device.type == "cpu") for each in asked)
    if device.type == "cuda":
        return network + channels * torch.float32.itemsize + _RESULT_BYTES
    alone = not isinstance(model, Ensemble)
    waiting = channels * (_DTYPES[precision] if alone else torch.float32).itemsize
    return LANES * (network + (0 if alone else waiting) + _RESULT_BYTES) + _WAITING_COPIES * waiting


_known_bytes: dict[tuple[str, int, int, str, bool], float] = {}
"""Of networks that were asked for before, by all that decides it: a worker asks for each step of each campaign."""


def _network_bytes(model: LandslideModel, precision: Literal["float32", "bfloat16"], *, banded: bool) -> float:
    """Peak bytes of tensors for each pixel, see `bytes_per_pixel`."""
    key = repr(model.network), len(model.channels), model.input_scale, precision, banded
    if key not in _known_bytes:
        body = _body(model, banded=banded)
        _known_bytes[key] = bytes_per_pixel(body, len(model.channels), _DTYPES[precision])
    return _known_bytes[key]


def _largest(pixels: float, halo_px: int) -> int:
    """The side of the largest tile of which a window has at most so many pixels."""
    side = int(max(pixels, 0.0) ** 0.5) - 2 * halo_px
    return min(LARGEST_TILE_PX, max(SMALLEST_TILE_PX, side // STEP_PX * STEP_PX))


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ModelingError(f"unknown device {name!r}: auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise ModelingError(f"unknown device {name!r}: auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ModelingError(f"there is no device {name}: this process sees {torch.cuda.device_count()} GPUs")
    return device


def _precision(model: LandslideModel, device: torch.device, wanted: Precision) -> Literal["float32", "bfloat16"]:
    if wanted != "auto":
        if wanted not in _DTYPES:
            raise ModelingError(f"unknown precision {wanted!r}: auto, {' or '.join(_DTYPES)}")
        return wanted
    proven = model.bfloat16 is not None and model.bfloat16.harmless
    return "bfloat16" if proven and computes_bfloat16(device) else "float32"


def computes_bfloat16(device: torch.device) -> bool:
    """Whether a device has instructions for bfloat16; others take longer with it than without."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported())


class _Plain(nn.Module):
    """Any network: normalised input (B, channel, y, x) to the margin (B, y, x), float32."""

    def __init__(self, network: nn.Module, input_scale: int) -> None:
        super().__init__()
        self.network, self.input_scale = network, input_scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As `modeling.forward.logits_of` after the normalisation."""
        if self.input_scale == 1:
            return margin_of(self.network(x).float())
        large = functional.interpolate(x, scale_factor=self.input_scale, mode="bilinear", align_corners=False)
        margin = margin_of(self.network(large).float())
        return functional.avg_pool2d(margin[:, None], self.input_scale)[:, 0]


def _body(model: LandslideModel, *, banded: bool) -> nn.Module:
    """The model between normalisation and temperature, in float32 on the CPU, in as few passes as are known."""
    fused = fuse(model.network, len(model.channels))
    absorbed = not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    if isinstance(fused, MSFLiteNet) and absorbed and model.input_scale in (1, 2):
        return FoldedMSFLiteNet(fused, model.input_scale, _BAND_ROWS if banded else None).eval()
    return _Plain(fused, model.input_scale).eval()


@dataclass(frozen=True)
class FastModel:
    """A model computed as its `Execution` says; made by `prepare`."""

    bands: BandSet
    """The input channels in order."""
    execution: Execution
    """How it is computed."""
    normalisation: Normalisation
    """Of the model."""
    temperature: float
    """Of the model."""
    sure_margin: float
    """Of the model."""
    body: Callable[[torch.Tensor], torch.Tensor] = field(repr=False)
    """Normalised input (B, channel, y, x), channels-last, in the execution's type, to the margin (B, y, x)."""
    members: tuple[FastModel, ...] = ()
    """Of an ensemble, which has no body of its own."""
    ensemble: Ensemble | None = field(default=None, repr=False)
    """It says what its members see and how their margins are pooled."""

    def probability(self, channels: torch.Tensor) -> torch.Tensor:
        """As `LandslideModel.probability`, on the execution's device: float32 (batch, y, x)."""
        if channels.ndim != 4 or channels.shape[1] != len(self.bands.channels):
            wanted = f"(batch, {len(self.bands.channels)}, y, x)"
            raise DataError(f"the network takes {wanted}, not {tuple(channels.shape)}")
        with torch.inference_mode():
            if self.execution.symmetries == 1:
                return torch.sigmoid(self._margin(channels))
            return averaged(
                lambda x: torch.sigmoid(self._margin(x)), self.bands, channels, symmetries=self.execution.symmetries
            )

    def _margin(self, channels: torch.Tensor) -> torch.Tensor:
        """The calibrated logit, float32 (batch, y, x)."""
        if self.ensemble is None:
            return self._calibrated(self.body(self.normalised(channels)))
        seen = zip(self.members, self.ensemble.seen_by(), strict=True)
        return self.ensemble.pooled([member._margin(channels[:, indices]) for member, indices in seen])

    def _calibrated(self, margin: torch.Tensor) -> torch.Tensor:
        return calibrated_logit(margin.float(), self.temperature, self.sure_margin)

    def normalised(self, channels: torch.Tensor) -> torch.Tensor:
        """Physical values (batch, channel, y, x) as the body takes them: what `Normalisation.apply` gives."""
        x = channels.to(self.execution.device, non_blocking=True)
        dtype = _DTYPES[self.execution.precision]
        ready = torch.empty(x.shape, dtype=dtype, device=x.device, memory_format=torch.channels_last)
        for rows, exact, typed in _portions(ready):
            ready[:, :, rows] = self._scaled(exact.copy_(x[:, :, rows]), typed)
        return ready

    @property
    def input_type(self) -> torch.dtype | None:
        """The type that `make_ready` gives, None where a tile's input depends on more than its own values and place."""
        alone = self.ensemble is None and self.execution.symmetries == 1
        return _DTYPES[self.execution.precision] if alone and self.execution.device == "cpu" else None

    def make_ready(self, layers: Mapping[str, FloatArray], out: torch.Tensor) -> None:
        """Put layers (y, x), in physical units, as the body takes them into `out` (channel, y, x), of `input_type`."""
        for rows, exact, typed in _portions(out[None]):
            assemble(self.bands, {name: values[rows] for name, values in layers.items()}, out=exact[0].numpy())
            out[:, rows] = self._scaled(exact, typed)[0]

    def probability_of_ready(self, x: torch.Tensor) -> torch.Tensor:
        """As `probability`, of what `make_ready` gave: (batch, channel, y, x), channels-last."""
        with torch.inference_mode():
            return torch.sigmoid(self._calibrated(self.body(x)))

    def _scaled(self, exact: torch.Tensor, typed: torch.Tensor) -> torch.Tensor:
        """`Normalisation.apply` of `exact` (batch, channel, y, x), which is overwritten, in `typed`."""
        offset, scale, fill = (
            torch.tensor(values, dtype=torch.float32, device=exact.device).view(1, -1, 1, 1)
            for values in (self.normalisation.offset, self.normalisation.scale, self.normalisation.fill)
        )
        exact.sub_(offset).div_(scale).clamp_(*self.normalisation.clip)
        # About the fill value, because a NaN becomes zero ten times as fast as it is looked for and replaced.
        if any(self.normalisation.fill):
            exact.sub_(fill).nan_to_num_(nan=0.0).add_(fill)
        else:
            exact.nan_to_num_(nan=0.0)
        # The type first: a copy that changes type and layout in one takes twice as long.
        return typed.copy_(exact)


def _portions(ready: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
    """Rows of `ready` (batch, channel, y, x), with memory for them: float32, and in the type of `ready`.

    On a CPU as many as a core's cache holds; a GPU takes all at once.
    """
    batch, count, height, width = ready.shape
    row_bytes = batch * count * width * torch.float32.itemsize
    most = height if ready.device.type == "cuda" else min(height, max(1, _ROWS_BYTES // row_bytes))
    exact = torch.empty((batch, count, most, width), device=ready.device)
    typed = torch.empty(exact.shape, dtype=ready.dtype, device=ready.device)
    for top in range(0, height, most):
        rows = slice(top, min(top + most, height))
        yield rows, exact[:, :, : rows.stop - top], typed[:, :, : rows.stop - top]


def prepare(model: LandslideModel, execution: Execution) -> FastModel:
    """The model made ready; `model` stays as it is. Call from the process that maps: the allocator is told as well.

    Raises `ModelingError` when the execution's device is not there, as in an execution that another machine chose.
    """
    _device(execution.device)
    if execution.device == "cpu":
        keep_memory()
    if isinstance(model, Ensemble):
        ready = tuple(prepare(member, execution) for member in model.members)
        return FastModel(model.bands, execution, model.normalisation, 1.0, 0.0, ready[0].body, ready, model)
    # A GPU and a compiler want the network in one piece.
    banded = execution.device == "cpu" and not execution.compiled
    body = _body(model, banded=banded).to(_DTYPES[execution.precision])
    for module in body.modules():
        if isinstance(module, nn.BatchNorm2d):  # one that no convolution could absorb: its statistics need the range
            module.float()
    body.to(execution.device)
    body.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
    run = cast(Callable[[torch.Tensor], torch.Tensor], torch.compile(body) if execution.compiled else body)
    return FastModel(model.bands, execution, model.normalisation, model.temperature, model.sure_margin, run)
