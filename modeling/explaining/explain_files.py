"""Everything that explains a model on a data set, as pictures and JSON in a folder."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from modeling.data.batches import Block, Blocks
from modeling.errors import DataError
from modeling.explaining.ablation import band_ablation
from modeling.explaining.explain import cam_layer, grad_cam
from modeling.explaining.explain_attention import attention_by_band
from modeling.figures.explain import ablation, attention, cam_panels
from modeling.json_file import write_json
from modeling.model import LandslideModel
from modeling.networks.attention import channel_attentions

FloatArray = npt.NDArray[np.float32]
Told = Callable[[str, int, int], None]

_RGB = (("red_post", "green_post", "blue_post"), ("red", "green", "blue"), ("B4", "B3", "B2"))
LARGEST_PX = 512
"""A block is looked at up to this side, around its middle."""


def explain(
    model: LandslideModel, blocks: Blocks, folder: Path, *, patches: int = 6, way: str = "unknown", told: Told
) -> dict[str, Path]:
    """Write Grad-CAM panels of the blocks with most landslide, channel attention by band, and band ablation.

    Returns what was written by name; a network without channel attention gives none. `told` hears (stage, done, total).
    Raises `DataError` when no block has a landslide.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written: dict[str, Path] = {}
    chosen = _most_landslide(blocks, patches)
    for number, block in enumerate(chosen):
        name = f"grad-cam-{number + 1}"
        written[name] = _panels(model, block, folder / f"{name}.png")
        told("Grad-CAM", number + 1, len(chosen))
    if channel_attentions(model.network):
        found = attention_by_band(model, _stack(chosen))
        written["attention"] = attention(folder / "attention.png", found, title=model.name)
        write_json(folder / "attention.json", {"model": model.name, "attention": [each.to_json() for each in found]})
        told("channel attention", 1, 1)
    ablated = band_ablation(model, blocks, way=way, tell=lambda done, total: told("band ablation", done, total))
    written["ablation"] = ablation(folder / "ablation.png", ablated, title=model.name)
    write_json(folder / "ablation.json", {"model": model.name, **ablated.to_json()})
    return written


def _most_landslide(blocks: Blocks, count: int) -> list[Block]:
    """The blocks with most landslide pixels, most first; only so many are in memory at once."""
    kept: list[tuple[int, int, Block]] = []
    for number, block in enumerate(blocks):
        cut = _middle(block)
        landslide = int((cut.truth == 1).sum())
        if landslide:
            heapq.heappush(kept, (landslide, -number, cut))
        if len(kept) > count:
            heapq.heappop(kept)
    if not kept:
        raise DataError(f"none of the {len(blocks)} blocks has a landslide: there is nothing to explain")
    return [block for _, _, block in sorted(kept, reverse=True)]


def _middle(block: Block) -> Block:
    rows, columns = block.truth.shape[0], block.truth.shape[1]
    top, left = max(rows - LARGEST_PX, 0) // 2, max(columns - LARGEST_PX, 0) // 2
    window = slice(top, top + LARGEST_PX), slice(left, left + LARGEST_PX)
    return Block(block.channels[:, *window], block.truth[window], block.name, block.domain, block.pixel_m2, block.group)


def _stack(blocks: list[Block]) -> torch.Tensor:
    """Those blocks that are as large as the first."""
    same = [block.channels for block in blocks if block.channels.shape == blocks[0].channels.shape]
    return torch.from_numpy(np.stack(same).astype(np.float32, copy=False))


def _panels(model: LandslideModel, block: Block, path: Path) -> Path:
    x = torch.from_numpy(block.channels.astype(np.float32, copy=False))[np.newaxis]
    probability: FloatArray = model.probability(x)[0].numpy()
    cam = grad_cam(model, x)[0]
    title = f"{model.name}, {block.name}, Grad-CAM of {cam_layer(model, x)}"
    return cam_panels(path, _rgb(model, block), block.truth, probability, cam, threshold=model.threshold, title=title)


def _rgb(model: LandslideModel, block: Block) -> FloatArray:
    """(y, x, 3): red, green, blue after the event, else the first channels that there are."""
    for names in _RGB:
        if set(names) <= set(model.channels):
            order = [model.channels.index(name) for name in names]
            break
    else:
        order = [min(number, len(model.channels) - 1) for number in range(3)]
    return np.moveaxis(block.channels[order], 0, -1).astype(np.float32, copy=False)
