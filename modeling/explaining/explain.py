"""Where a network looks: Grad-CAM maps of the pixels that it calls landslide."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from modeling.errors import ModelingError

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

CELL_PX = 8
"""Largest side, in pixels of the image, of a cell of the layer that Grad-CAM is drawn from."""


class Explainable(Protocol):
    """What explaining asks of a model; `modeling.model.LandslideModel` is one."""

    @property
    def network(self) -> nn.Module:
        """In evaluation mode."""
        ...

    @property
    def channels(self) -> tuple[str, ...]:
        """The input channels in order."""
        ...

    @property
    def temperature(self) -> float:
        """Logits are divided by it."""
        ...

    @property
    def threshold(self) -> float:
        """Probability from which a pixel counts as landslide."""
        ...

    def margin(self, x: torch.Tensor) -> torch.Tensor:
        """The uncalibrated logit of "landslide" (batch, y, x) of physical values (batch, channel, y, x)."""
        ...


def grad_cam(
    model: Explainable, x: torch.Tensor, *, layer: str | None = None, where: BoolArray | None = None
) -> FloatArray:
    """What the landslides of each image are seen by: float32 (batch, y, x), 0 to 1, for physical values (batch, ...).

    The score that is explained is the sum of the logits of "landslide" over the pixels `where`, (batch, y, x); by
    default those that the model maps as landslide, and all pixels of an image where there are none. A channel of
    `layer` weighs as much as the mean of the score's gradient over it; the map is the positive part of the weighted sum
    (Selvaraju et al. 2017, equations 1 and 2; over a set of pixels: Vinogradova et al. 2020), bilinearly enlarged and
    divided by its largest value. A map of zeros says that nothing in the layer speaks for a landslide.

    `layer` is the path of a module (`network.named_modules()`); by default that of `cam_layer`. Raises `ModelingError`
    when there is no such module or it does not give one map (batch, channel, y, x).
    """
    path = layer if layer is not None else cam_layer(model, x)
    features: list[torch.Tensor] = []

    def keep(_: nn.Module, __: object, output: object) -> torch.Tensor:
        features.append(_leaf(path, output))
        return features[-1].clone()  # the next module may change it in place, which a leaf does not allow

    with torch.enable_grad(), _hooked([_module(model.network, path)], keep), _sizes(model.network) as sizes:
        margin = model.margin(x.to(_device(model)))
        if not features:
            raise ModelingError(f"layer {path} takes no part in the prediction: choose another")
        chosen = _mapped(model, margin) if where is None else torch.from_numpy(where).to(margin.device)
        (gradient,) = torch.autograd.grad((margin * chosen).sum(), features[-1], allow_unused=True)
    if gradient is None:
        raise ModelingError(f"the prediction does not depend on what layer {path} gives: choose another")
    weights = gradient.mean((2, 3), keepdim=True)
    cam = functional.relu((weights * features[-1].detach()).sum(1, keepdim=True))
    cam = sizes.to_image(cam, (int(x.shape[-2]), int(x.shape[-1])))
    peak = cam.amax((1, 2), keepdim=True)
    result: FloatArray = torch.where(peak > 0, cam / peak, torch.zeros_like(cam)).cpu().numpy()
    return result


def cam_layer(model: Explainable, x: torch.Tensor, *, cell_px: int = CELL_PX) -> str:
    """The default layer of `grad_cam`: the outermost module, of several the last, on the grid that suits landslides.

    That is the coarsest grid with cells of at most `cell_px` pixels a side of the image, or the finest there is. On
    coarser ones, down to 1/32 in the middle of most networks, features stand for more of the network's depth, as in
    Grad-CAM's own examples; but a landslide of ten pixels is lost in a cell of 32. In a network with a decoder such a
    grid comes back behind its deepest part; in one without (FCN, DeepLabV3) it lies before it: ask for 32 there.
    Modules that give the logits themselves do not count, nor those without weights: one pool may serve many places.
    """
    maps: list[tuple[str, tuple[int, int, int]]] = []
    called: set[str] = set()
    paths = {module: path for path, module in model.network.named_modules() if any(True for _ in module.parameters())}

    def note(module: nn.Module, _: object, output: object) -> None:
        called.add(paths[module])
        if isinstance(output, torch.Tensor) and output.ndim == 4:
            channels, height, width = output.shape[1:]
            maps.append((paths[module], (channels, height, width)))

    with torch.no_grad(), _hooked(paths, note), _sizes(model.network) as sizes:
        model.margin(x[:1].to(_device(model)))
    _, (classes, _, _) = maps.pop()  # the network itself comes last
    cell = cell_px * sizes.given[0] / x.shape[-2]  # in pixels as the network sees them
    finest = max((height * width for _, (channels, height, width) in maps if channels > classes), default=0)
    wanted = min(sizes.padded[0] * sizes.padded[1] / cell**2, finest)
    possible = {
        path: (height * width, sum(path.startswith(f"{outer}.") for outer in called))
        for path, (channels, height, width) in maps
        if channels > classes and height * width >= wanted
    }
    if not possible:
        raise ModelingError("the network has no layer of maps that could be shown")
    best = min(possible.values())
    return next(path for path in reversed(possible) if possible[path] == best)


def without(x: torch.Tensor, channels: Sequence[int]) -> torch.Tensor:
    """`x` (batch, channel, y, x) with these channels unknown: the model then sees their mean over its training data."""
    changed = x.clone()
    changed[:, list(channels)] = float("nan")
    return changed


@dataclass
class _Sizes:
    """How large the image is inside a network: rows and columns."""

    given: tuple[int, int] = (0, 0)
    """As it comes in, enlarged by the model's input scale."""
    padded: tuple[int, int] = (0, 0)
    """The largest that any of its modules is given: networks pad below and to the right."""

    def to_image(self, cam: torch.Tensor, shape_yx: tuple[int, int]) -> torch.Tensor:
        """(batch, y, x) of the image from (batch, 1, y, x) of a layer: enlarge, crop the padding, undo the scale."""
        whole = functional.interpolate(cam, self.padded, mode="bilinear", align_corners=False)
        part = whole[..., : self.given[0], : self.given[1]]
        return functional.adaptive_avg_pool2d(part, shape_yx)[:, 0]


@contextmanager
def _sizes(network: nn.Module) -> Iterator[_Sizes]:
    sizes = _Sizes()

    def outside(_: nn.Module, inputs: tuple[object, ...]) -> None:
        sizes.given = _shape_yx(inputs)

    def inside(_: nn.Module, inputs: tuple[object, ...]) -> None:
        sizes.padded = max(sizes.padded, _shape_yx(inputs), key=lambda shape: shape[0] * shape[1])

    handles = [module.register_forward_pre_hook(inside) for _, module in _leaves(network)]
    handles.append(network.register_forward_pre_hook(outside))
    try:
        yield sizes
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _hooked(modules: Iterable[nn.Module], hook: Callable[..., object]) -> Iterator[None]:
    handles = [module.register_forward_hook(hook) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _shape_yx(inputs: tuple[object, ...]) -> tuple[int, int]:
    first = inputs[0] if inputs else None
    return (
        (int(first.shape[-2]), int(first.shape[-1])) if isinstance(first, torch.Tensor) and first.ndim == 4 else (0, 0)
    )


def _leaf(path: str, output: object) -> torch.Tensor:
    """The features as the start of a graph: what comes before them needs no gradient."""
    if not isinstance(output, torch.Tensor) or output.ndim != 4:
        raise ModelingError(f"layer {path} does not give one map (batch, channel, y, x): choose another")
    return output.detach().requires_grad_(True)


def _mapped(model: Explainable, margin: torch.Tensor) -> torch.Tensor:
    mapped = torch.sigmoid(margin.detach() / model.temperature) >= model.threshold
    return mapped | ~mapped.flatten(1).any(1)[:, None, None]


def _leaves(network: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(path, module) for path, module in network.named_modules() if not any(module.children())]


def _module(network: nn.Module, path: str) -> nn.Module:
    try:
        return network.get_submodule(path)
    except AttributeError:
        ends = [name for name, _ in _leaves(network)]
        raise ModelingError(f"the network has no layer {path!r}: its layers go from {ends[0]} to {ends[-1]}") from None


def _device(model: Explainable) -> torch.device:
    return next(model.network.parameters()).device
