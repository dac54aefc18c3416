"""How fast a network trains and maps on this device, timed on random input: speed does not depend on values."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from modeling.training.losses import focal_dice_loss

PATCH_PX = 88
"""Side of the patches that the ResU-SENet paper counts in."""
TILE_PX = 512
"""Side of the tiles that stand for mapping a scene."""


@dataclass(frozen=True)
class Speed:
    """The forward pass of one network, without reading, stitching or writing."""

    patches_per_s: float
    """Patches of `patch_px`, `batch` at a time."""
    km2_per_s: float
    """Ground mapped a second, one tile of `tile_px` at a time."""
    patch_px: int
    """Side of a patch in pixels."""
    batch: int
    """Patches at a time."""
    tile_px: int
    """Side of a tile in pixels."""
    pixel_m2: float
    """Ground area of a pixel."""
    precision: str
    """What was computed in."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Device:
    """What was measured on."""

    name: str
    """Processor or GPU."""
    threads: int
    """Threads of torch in one process."""
    torch: str
    """Its version."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def gpu_here() -> bool:
    """Whether torch can compute on a GPU of this machine."""
    return torch.cuda.is_available()


def this_device(device: str) -> Device:
    """The device as the report names it."""
    if torch.device(device).type == "cuda":
        return Device(torch.cuda.get_device_name(device), torch.get_num_threads(), torch.__version__)
    return Device(_processor(), torch.get_num_threads(), torch.__version__)


def inference_speed(
    forward: Callable[[torch.Tensor], torch.Tensor],
    channels: int,
    *,
    device: str = "cpu",
    batch: int = 8,
    pixel_m2: float = 100.0,
    patch_px: int = PATCH_PX,
    tile_px: int = TILE_PX,
    precision: str = "float32",
    seconds: float = 2.0,
) -> Speed:
    """Time `forward`, which takes physical values (batch, channel, y, x), on patches and on a tile."""

    def once(number: int, side: int) -> float:
        x = torch.rand(number, channels, side, side, device=device)
        with torch.inference_mode():
            return median_seconds(lambda: forward(x), device=device, seconds=seconds)

    tile_m2 = tile_px * tile_px * pixel_m2
    return Speed(
        patches_per_s=batch / once(batch, patch_px),
        km2_per_s=tile_m2 / 1e6 / once(1, tile_px),
        patch_px=patch_px,
        batch=batch,
        tile_px=tile_px,
        pixel_m2=pixel_m2,
        precision=precision,
    )


def training_seconds(
    network: nn.Module, channels: int, *, batch: int, patch_px: int, input_scale: int = 1, device: str = "cpu",
    bfloat16: bool = False, repeats: int = 2,
) -> float:  # fmt: skip
    """Seconds of one optimiser step on a batch of random patches: forward, loss, backward, update."""
    side = patch_px * input_scale
    x = torch.rand(batch, channels, side, side, device=device).contiguous(memory_format=torch.channels_last)
    truth = (torch.rand(batch, side, side, device=device) < 0.1).long()
    network.to(device).train()
    optimiser = torch.optim.Adam(network.parameters(), 1e-5)

    def step() -> None:
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=bfloat16):
            logits = network(x)
        optimiser.zero_grad(set_to_none=True)
        focal_dice_loss(logits, truth).backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    return median_seconds(step, device=device, seconds=0.0, least=repeats)


def median_seconds(act: Callable[[], object], *, device: str, seconds: float, least: int = 3) -> float:
    """Median duration of `act` after one call that does not count: at least `least` calls and about `seconds` in all."""
    gpu = torch.device(device).type == "cuda"

    def timed() -> float:
        started = time.perf_counter()
        act()
        if gpu:
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    timed()
    taken: list[float] = []
    while len(taken) < least or sum(taken) < seconds:
        taken.append(timed())
    return statistics.median(taken)


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 - read line by line, the first match ends it
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
