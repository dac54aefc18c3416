"""Fits to drawn polygons that are held where the model was on all other ground.

The loss of what is drawn, each class one half, plus that of moving on undrawn ground: the divergence of the adapted
probability from the first one (learning without forgetting: Li and Hoiem 2018, equation 2, at temperature 1), plus the squared
distance from the starting weights (L2-SP: Li, Grandvalet and Davoine 2018, equation 2). Batch norms keep their
statistics: a dozen windows around polygons are no sample of a scene.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from scipy import special
from torch import nn
from torch.nn import functional

from modeling.adaptation.drawn import BoolArray, DoubleArray, Ground, pixel_weights
from modeling.adaptation.judging import WholeMap
from modeling.calibrated import margin_range
from modeling.data.batches import FloatArray
from modeling.errors import DataError
from modeling.forward import logits_of
from modeling.model import LandslideModel
from modeling.prediction.inference import computes_bfloat16
from modeling.scoring.metrics import scores_of
from modeling.training.losses import margin_of

SHIFT = "shift"
"""The name of an adaptation without training: the decision alone moves."""
_AT_ONCE = 16
_SAMPLE = 200_000
_FARTHEST_SHIFT, _SHIFTS = 12.0, 481  # of calibrated logits, and how many are tried
_COST_OF_SHIFT = 0.03
"""What each 1 of a shift must promise of the F1 of the whole map: ten landslides tell little of a small gain. With polygons
drawn on simulated events whatever their maps say (12 events of domains that the network had not seen, 8 times 20 polygons)
a shift without it made 21 % of the maps worse by more than 0.003 and 34 % better, with it 0 and 27 %; with polygons drawn
where the map is wrong first 41 and 21 %, then 15 and 19 %."""
_LONGEST_GRADIENT = 1.0
_LEAST_CLAIMED = 0.02  # of undrawn ground: what is taken for landslide at least when changes are weighed


@dataclass(frozen=True)
class FewShot:
    """How a model is adapted."""

    steps: int = 64
    """Of training, at most; 0: the decision alone is shifted."""
    folds: int = 5
    """Of the cross-validation; fewer where there are fewer groups of polygons."""
    batch: int = 8
    """Windows a step: half with polygons, half undrawn."""
    rate: float = 1e-4
    """Adam's learning rate."""
    anchor: float = 1.0
    """Weight of staying where the model was on undrawn ground, to that of what was drawn."""
    l2_sp: float = 1e-2
    """Weight of the squared distance from the starting weights."""
    seconds: float = 150.0
    """Time for all of it; the first steps are timed, and on a slow machine less is tried, which is recorded."""

    def __post_init__(self) -> None:
        """Raise `DataError` for settings that cannot be followed."""
        if self.steps < 0:
            raise DataError(f"{self.steps} steps cannot be: give 0 or more")
        if self.folds < 2 or self.batch < 2:
            raise DataError(f"{self.folds} folds and {self.batch} windows a step: give 2 of each, or more")
        if not 0 < self.seconds < math.inf:
            raise DataError(f"--seconds {self.seconds:g} cannot be: give a finite number above 0")

    @property
    def name(self) -> str:
        """What it is called in a judgement."""
        return f"{self.steps} steps" if self.steps else SHIFT


@dataclass(frozen=True, eq=False)
class Bench:
    """What all fits to one set of polygons share; made by `bench_of`."""

    model: LandslideModel
    """The model before."""
    drawn: Ground
    """Windows around polygons."""
    undrawn: Ground
    """Windows of ground that nobody has drawn on."""
    landslide: BoolArray
    """(polygon,) the class."""
    settings: FewShot
    """How."""
    device: torch.device
    """Where."""
    seed: int
    """Of the windows of each step."""
    start: nn.Module
    """The network before, on the device."""
    windows: FloatArray
    """(window, channel, y, x): the drawn ones, then the undrawn ones."""
    first: FloatArray
    """(window, y, x): margins of the map before where it is known, else of the model before in the windows."""
    whole: WholeMap
    """What is known of the map before."""
    context: FloatArray
    """(window, y, x): what those are more than the model's in the windows. A network sees more than a window when it maps, and
    some gather over all they see: added to what an adapted one says in the windows, which stands for the map it would make."""

    @property
    def boundary(self) -> float:
        """The margin from which a pixel counts as landslide."""
        return self.model.temperature * self.offset

    @property
    def offset(self) -> float:
        """The same as a calibrated logit: that of the threshold."""
        return float(special.logit(np.clip(self.model.threshold, 1e-6, 1 - 1e-6)))

    def margins(self, network: nn.Module, chosen: npt.NDArray[np.int64]) -> FloatArray:
        """Margins (window, y, x) of the windows `chosen`."""
        return _margins(self.model, network, self.windows[chosen], self.device) + self.context[chosen]

    def undrawn_sample(self, network: nn.Module) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Margins of `network` on undrawn ground, and the probability of the model before there: a sample of pixels."""
        count, seen = len(self.drawn), self.undrawn.observed
        order = np.random.default_rng(self.seed).permutation(int(seen.sum()))[:_SAMPLE]
        first = special.expit(self.first[count:][seen][order].astype(np.float64) / self.model.temperature)
        if network is self.start:
            return self.first[count:][seen][order].astype(np.float64), first
        return self.margins(network, np.arange(count, len(self.windows)))[seen][order].astype(np.float64), first

    def held_to_area(self, network: nn.Module, shift: float) -> nn.Module:
        """`network`, its decision moved so that undrawn ground has as much landslide as in the map before with this shift.

        As it is where that has none, or the network has no bias for it.
        """
        undrawn, pixels = self.first[len(self.drawn) :], self.undrawn.pixels
        wanted = float(pixels[undrawn + shift >= self.boundary].sum())
        if wanted == 0 or head_bias(self.start, self.model) is None:
            return network
        now = self.margins(network, np.arange(len(self.drawn), len(self.windows)))
        order = np.argsort(-now, axis=None)
        sums = pixels.reshape(-1)[order].cumsum()
        edge = now.reshape(-1)[order][min(int(np.searchsorted(sums, wanted)), len(sums) - 1)]
        return shifted(network, self.model, float(self.boundary - edge))

    def moved(self, undrawn: FloatArray) -> tuple[float, float]:
        """How many pixels of the scene are claimed that the map before does not, and the reverse, by margins (window, y, x) of
        undrawn ground.
        """
        now, then = undrawn >= self.boundary, self.first[len(self.drawn) :] >= self.boundary
        return float(self.undrawn.pixels[now & ~then].sum()), float(self.undrawn.pixels[then & ~now].sum())

    def with_settings(self, settings: FewShot) -> Bench:
        """The same with other settings."""
        return replace(self, settings=settings)

    def best_shift(self, kept: BoolArray) -> float:
        """What added to the margin is best for the map as a whole, and no worse on the `kept` polygons, as far as they tell.

        0 for a network that has no bias for it; never more than 0 where the landslides were drawn for being missed.
        """
        if head_bias(self.start, self.model) is None:
            return 0.0
        weight = pixel_weights(self.drawn, self.landslide, kept).astype(np.float64)
        truth = self.landslide[self.drawn.owner]
        first, undrawn = self.first[: len(self.drawn)], self.first[len(self.drawn) :]
        shifts = np.linspace(-_FARTHEST_SHIFT, _FARTHEST_SHIFT, _SHIFTS) * self.model.temperature
        edges = self.boundary - shifts[np.argsort(np.abs(shifts), kind="stable")]  # none first
        tp, fp = (_above(first, np.where(where, weight, 0), edges) for where in (truth, ~truth))
        counts = np.stack([tp, fp, weight[truth].sum() - tp, weight[~truth].sum() - fp], axis=-1)
        mcc = scores_of(counts)["mcc"]
        claimed = _above(undrawn, self.undrawn.pixels, edges) + _above(first, (weight > 0).astype(np.float64), edges)
        pixels = np.where(truth, weight > 0, False).astype(np.float64)
        found, missed = (pixels[where].sum() for where in (first >= self.boundary, first < self.boundary))
        above = _above(first, pixels, edges)
        landslides = self.whole.landslides(found, missed, found + missed)
        finds = self.whole.found(
            landslides, np.minimum(above, found) / found if found else np.nan,
            np.maximum(above - found, 0) / max(missed, 1.0), np.maximum(claimed[0] - claimed, 0),
        )  # fmt: skip
        map_f1 = self.whole.f1(finds, self.whole.claimed + claimed - claimed[0], landslides)
        map_f1 = map_f1 - _COST_OF_SHIFT * np.abs(edges - self.boundary) / self.model.temperature
        allowed = mcc >= mcc[0]
        if self.whole.one_sided(found, missed):
            allowed &= edges >= self.boundary
        return float(self.boundary - edges[np.where(allowed, map_f1, -np.inf).argmax()])

    def fitted(self, kept: BoolArray) -> nn.Module:
        """The network adapted to the polygons `kept`, in evaluation mode."""
        shift = self.best_shift(kept)
        return (
            self.held_to_area(self.trained(kept), shift)
            if self.settings.steps
            else shifted(self.start, self.model, shift)
        )

    def trained(self, kept: BoolArray) -> nn.Module:
        """The network trained on the polygons `kept`, in evaluation mode."""
        settings, rng = self.settings, np.random.default_rng((self.seed, *np.flatnonzero(kept).tolist()))
        network = copy.deepcopy(self.start)
        moving = list(network.parameters())
        origin = [parameter.detach().clone() for parameter in moving]
        optimiser = torch.optim.Adam(moving, settings.rate)
        weight = pixel_weights(self.drawn, self.landslide, kept)
        own, half = self.drawn.own, settings.batch // 2
        usable = kept[own] & (weight > 0).any(axis=(1, 2))
        of_class = [np.flatnonzero(usable & (self.landslide[own] == wanted)) for wanted in (True, False)]
        for _ in range(settings.steps):
            chosen = np.concatenate([rng.choice(which, -(-half // 2)) for which in of_class])
            if len(self.undrawn):
                plain = len(self.drawn) + rng.choice(len(self.undrawn), settings.batch - half)
                chosen = np.concatenate([chosen, plain])
            loss = self._loss(network, chosen, weight)
            for now, then in zip(moving, origin, strict=True):
                loss = loss + settings.l2_sp * ((now - then) ** 2).sum()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]  # torch's stubs
            nn.utils.clip_grad_norm_(moving, _LONGEST_GRADIENT)
            optimiser.step()
        return network

    def _loss(self, network: nn.Module, chosen: npt.NDArray[np.int64], weight: FloatArray) -> torch.Tensor:
        """What was drawn, each class one half, and undrawn ground held to the first map; windows by number."""
        count = len(self.drawn)
        here = torch.from_numpy(self.windows[chosen]).to(self.device)
        context = torch.from_numpy(self.context[chosen]).to(self.device)
        z = (_margin(self.model, network, here) + context) / self.model.temperature
        first = torch.from_numpy(self.first[chosen]).to(self.device) / self.model.temperature
        w, y = np.zeros(first.shape, np.float32), np.zeros(first.shape, np.float32)
        seen = np.zeros(first.shape, bool)
        for row, window in enumerate(chosen.tolist()):
            if window < count:
                owner = self.drawn.owner[window]
                w[row], y[row] = weight[window], np.where(owner >= 0, self.landslide[owner], False)
                seen[row] = self.drawn.observed[window] & (w[row] == 0)
            else:
                seen[row] = self.undrawn.observed[window - count]
        weights, truth, held = (torch.from_numpy(part).to(self.device) for part in (w, y, seen))
        each = functional.binary_cross_entropy_with_logits(z - self.offset, truth, reduction="none")
        total = z.new_zeros(())
        for part in (weights * truth, weights * (1 - truth)):
            total = total + 0.5 * (each * part).sum() / part.sum().clamp(min=1e-12)
        p = torch.sigmoid(first)
        moved = functional.binary_cross_entropy_with_logits(z, p, reduction="none")
        moved = moved - functional.binary_cross_entropy_with_logits(first, p, reduction="none")
        # By the pixels that the first map calls landslide, not by all: as many false alarms as there are landslides are a
        # few pixels of a hundred, and in a mean over all ground would cost next to nothing.
        claimed = (held & (first >= self.offset)).sum()
        few = _LEAST_CLAIMED * held.sum()
        return total + self.settings.anchor * (moved * held).sum() / torch.maximum(claimed, few).clamp(min=1)


def bench_of(
    model: LandslideModel,
    drawn: Ground,
    undrawn: Ground,
    landslide: BoolArray,
    settings: FewShot,
    device: str,
    seed: int,
    whole: WholeMap | None = None,
) -> Bench:
    """A bench; `device` is `auto`, `cpu` or `cuda`. `model` is not changed.

    `whole` is the map before, by default as the polygons and undrawn ground tell it.
    """
    where = torch.device(device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu")
    start = copy.deepcopy(model.network).to(where).eval()
    windows = np.concatenate([drawn.channels, undrawn.channels])
    inside = _margins(model, start, windows, where)
    first = np.concatenate(
        [
            _as_mapped(model, ground, part)
            for ground, part in ((drawn, inside[: len(drawn)]), (undrawn, inside[len(drawn) :]))
        ]
    )
    if whole is None:
        p = special.expit(first.astype(np.float64) / model.temperature)
        claims = np.where(p >= model.threshold, np.concatenate([drawn.scored, undrawn.pixels]), 0)
        whole = WholeMap(float(claims.sum()), float((claims * p).sum()))
    return Bench(model, drawn, undrawn, landslide, settings, where, seed, start, windows, first, whole, first - inside)


def _above(margins: FloatArray, weights: DoubleArray, edges: DoubleArray) -> DoubleArray:
    """(edge,) the weight that lies at and above each of them."""
    order = np.argsort(margins, axis=None)
    sums = np.append(weights.reshape(-1)[order][::-1].cumsum()[::-1], 0.0)
    return np.asarray(sums[np.searchsorted(margins.reshape(-1)[order], edges, "left")])


def cross_entropy(logit: npt.NDArray[np.float64], target: npt.NDArray[np.float64]) -> float:
    """Mean binary cross-entropy of logits to probabilities; 0 of nothing."""
    if not logit.size:
        return 0.0
    return float(-(target * special.log_expit(logit) + (1 - target) * special.log_expit(-logit)).mean())


def head_bias(network: nn.Module, model: LandslideModel) -> torch.Tensor | None:
    """The bias whose last element is added to the margin as it is, None when the network has none: found by trying."""
    x = torch.zeros(1, len(model.channels), 64, 64, device=next(network.parameters()).device)
    for module in reversed(_ends(network, model.classes)):
        if module.bias is None:
            continue
        with torch.no_grad():
            plain = margin_of(network(x).float())
            module.bias[-1] += 1.0
            moved = margin_of(network(x).float()) - plain
            module.bias[-1] -= 1.0
        if torch.allclose(moved, torch.ones_like(moved), atol=1e-3):
            return module.bias
    return None


def shifted(network: nn.Module, model: LandslideModel, shift: float) -> nn.Module:
    """A copy of the network with `shift` added to its margin; `DataError` when it has no bias that could take it."""
    made = copy.deepcopy(network)
    if shift == 0:
        return made
    bias = head_bias(made, model)
    if bias is None:
        raise DataError(f"{model.network_name} has no bias at its end: its decision cannot be shifted")
    with torch.no_grad():
        bias[-1] += shift
    return made


def _margin(model: LandslideModel, network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """(window, y, x), in bfloat16 inside where the device computes that."""
    with torch.autocast(x.device.type, torch.bfloat16, enabled=computes_bfloat16(x.device)):
        return margin_of(logits_of(network, model.normalisation, x, model.input_scale)).float()


def _as_mapped(model: LandslideModel, ground: Ground, inside: FloatArray) -> FloatArray:
    """Margins in windows, moved to what the map says where it is known."""
    if ground.mapped is None:
        return inside
    low, high = margin_range(ground.mapped, model.temperature, model.sure_margin)
    return np.where(np.isfinite(ground.mapped), np.clip(inside, low, high), inside).astype(np.float32)


def _margins(model: LandslideModel, network: nn.Module, windows: FloatArray, device: torch.device) -> FloatArray:
    found = np.empty((len(windows), *windows.shape[-2:]), np.float32)
    with torch.inference_mode():
        for low in range(0, len(windows), _AT_ONCE):
            x = torch.from_numpy(windows[low : low + _AT_ONCE]).to(device)
            found[low : low + _AT_ONCE] = _margin(model, network, x).cpu().numpy()
    return found


def _ends(network: nn.Module, classes: int) -> list[nn.Conv2d]:
    return [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.out_channels == classes]
