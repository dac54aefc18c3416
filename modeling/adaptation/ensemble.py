"""Ensembles: several models asked at once, what they say together, and where they disagree.

The mean is taken of calibrated probabilities (the linear pool), as deep ensembles do (Lakshminarayanan et al. 2017): it
is the probability under "one of these models is right", it is never surer than its surest member, and the difference
between its entropy and theirs is the information that the choice of the model holds. Under a shift, where members are sure
and wrong in different places, that caution is what is wanted. On ground like the source it is a little too unsure
(Ranjan and Gneiting 2010); the mean of logits (`logit`), which sharpens where all agree, is the other choice.

Members may see different channels: the ensemble takes all of them. It is stored as `<name>.ensemble.json`, which names
its members with their sha256, and is a `LandslideModel`, so it can stand wherever a model can.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional

from modeling.bands import BandSet
from modeling.calibrated import calibrated_logit
from modeling.data.batches import Blocks
from modeling.errors import DataError, WeightsError
from modeling.json_file import write_json
from modeling.model import (
    ENSEMBLE_SUFFIX,
    LandslideModel,
    available_models,
    load_model,
    read_description,
    save_model,
)

Pooling = Literal["probability", "logit"]
POOLINGS: tuple[Pooling, ...] = ("probability", "logit")
Kind = Literal["deviation", "mutual-information"]

_MOST_MEMBERS = 64


@dataclass(frozen=True)
class Ensemble(LandslideModel):
    """Models that are asked together; made by `ensemble_of`. Its temperature is 1: members are calibrated themselves."""

    members: tuple[LandslideModel, ...] = ()
    """In the order of their weights."""
    weights: tuple[float, ...] = ()
    """Shares in the mean; their sum is 1."""
    pooling: Pooling = "probability"
    """What the mean is taken of."""

    @property
    def keeps_back(self) -> bool:
        """Whether a member does, and so the mean."""
        return any(member.keeps_back for member in self.members)

    def margin(self, x: torch.Tensor) -> torch.Tensor:
        """The logit of the pooled probability, float32 (batch, y, x); see `LandslideModel.margin`."""
        return self.pooled(self.margins(x))

    def margins(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Each member's calibrated logit, float32 (batch, y, x); raises `DataError` for another shape of `x`."""
        if x.ndim != 4 or x.shape[1] != len(self.channels):
            wanted = f"(batch, {len(self.channels)}, y, x)"
            raise DataError(f"ensemble {self.name} takes {wanted} ({', '.join(self.channels)}), not {tuple(x.shape)}")
        seen = zip(self.members, self.seen_by(), strict=True)
        return [
            calibrated_logit(member.margin(x[:, channels]), member.temperature, member.sure_margin)
            for member, channels in seen
        ]

    def seen_by(self) -> list[list[int]]:
        """Which of the ensemble's channels each member sees, in its order."""
        return [[self.channels.index(channel) for channel in member.channels] for member in self.members]

    def pooled(self, margins: Sequence[torch.Tensor]) -> torch.Tensor:
        """What calibrated logits of the members, in order, make together: a logit again."""
        stacked = torch.stack(list(margins)).float()
        shares = torch.tensor(self.weights, device=stacked.device).view(-1, *[1] * (stacked.ndim - 1))
        if self.pooling == "logit":
            return (shares * stacked).sum(dim=0)
        # In logarithms, so that a probability of nearly one keeps its distance from it.
        landslide = torch.logsumexp(functional.logsigmoid(stacked) + shares.log(), dim=0)
        return landslide - torch.logsumexp(functional.logsigmoid(-stacked) + shares.log(), dim=0)


def ensemble_of(
    members: Sequence[LandslideModel],
    weights: Sequence[float] | None = None,
    *,
    name: str = "ensemble",
    pooling: Pooling = "probability",
    validation: Blocks | None = None,
) -> Ensemble:
    """Models as one, with equal weights where none are given; weights are scaled to a sum of one, those of zero left out.

    The threshold is the best on `validation`, blocks of the source with the ensemble's channels, or without them the
    members' mean. Raises `DataError` for no member, an ensemble among them, or weights that are no shares.
    """
    given = [1.0] * len(members) if weights is None else [float(weight) for weight in weights]
    if len(given) != len(members) or not all(0 <= weight < math.inf for weight in given) or not sum(given) > 0:
        raise DataError(f"{len(members)} models with the weights {given}: one each, none negative, not all zero")
    if pooling not in POOLINGS:
        raise DataError(f"pooling {pooling!r} is not one of {', '.join(POOLINGS)}")
    if nested := [member.name for member in members if isinstance(member, Ensemble)]:
        raise DataError(f"{nested[0]} is an ensemble itself: give its members")
    kept = [(member, weight) for member, weight in zip(members, given, strict=True) if weight > 0]
    models, shares = tuple(m for m, _ in kept), tuple(weight / sum(given) for _, weight in kept)
    described = [(member.weights_hash, share) for member, share in zip(models, shares, strict=True)]
    made = Ensemble(
        name=name, network_name="ensemble", network=nn.ModuleList(member.network for member in models),
        bands=_joined([member.bands for member in models]), normalisation=models[0].normalisation, temperature=1.0,
        threshold=sum(share * member.threshold for member, share in zip(models, shares, strict=True)),
        weights_hash=hashlib.sha256(repr((pooling, described)).encode()).hexdigest(), card={}, classes=1,
        members=models, weights=shares, pooling=pooling,
    )  # fmt: skip
    threshold_from = "mean of the members' thresholds"
    if validation is not None:
        from modeling.scoring.calibrate import best_threshold  # not needed to predict, and slow to import
        from modeling.scoring.evaluate import evaluate
        from modeling.scoring.reliability import MarginHistogram

        found = evaluate(made, validation)
        threshold, _ = best_threshold(sum(found.margins.values(), MarginHistogram.empty()))
        made, threshold_from = replace(made, threshold=threshold), "best F1 on the source's validation part"
    return replace(made, card=_card(made, threshold_from))


def weights_of_distances(distances: Sequence[float], scale: float | None = None) -> tuple[float, ...]:
    """Shares that fall with a label-free distance from the target: exp(-distance / scale), scaled to a sum of one.

    Without `scale` it is the distances' standard deviation, so that their unit does not matter; equal ones give equal
    shares. Raises `DataError` for distances that are not finite.
    """
    if not distances or not all(math.isfinite(distance) for distance in distances):
        raise DataError(f"weights cannot be made of the distances {list(distances)}: finite ones are needed")
    if scale is not None and not 0 < scale < math.inf:
        raise DataError(f"a scale of {scale} must be positive")
    mean = sum(distances) / len(distances)
    unit = scale or math.sqrt(sum((distance - mean) ** 2 for distance in distances) / len(distances)) or 1.0
    powers = [math.exp((min(distances) - distance) / unit) for distance in distances]
    return tuple(power / sum(powers) for power in powers)


@dataclass(frozen=True)
class Disagreement:
    """What the members say, and how differently; float32 (batch, y, x) each."""

    mean: torch.Tensor = field(repr=False)
    """Weighted mean of the probabilities."""
    deviation: torch.Tensor = field(repr=False)
    """Weighted standard deviation of the probabilities, from 0 to 0.5."""
    mutual_information: torch.Tensor = field(repr=False)
    """Entropy of the mean less the mean entropy, in nats (Houlsby et al. 2011): what knowing the right model would tell."""


def disagreement(ensemble: Ensemble, x: torch.Tensor) -> Disagreement:
    """Where the members of an ensemble differ, of physical values (batch, channel, y, x)."""
    with torch.inference_mode():
        probability = torch.sigmoid(torch.stack(ensemble.margins(x)).double())
        shares = torch.tensor(ensemble.weights, dtype=torch.float64, device=x.device).view(-1, 1, 1, 1)
        mean = (shares * probability).sum(dim=0)
        deviation = (shares * (probability - mean) ** 2).sum(dim=0).sqrt()
        information = (_entropy(mean) - (shares * _entropy(probability)).sum(dim=0)).clamp(min=0)
    return Disagreement(mean.float(), deviation.float(), information.float())


@dataclass(frozen=True)
class DisagreementMap:
    """Disagreement as prediction takes a model, so that it is mapped tile by tile beside the probability."""

    ensemble: Ensemble
    """Whose members differ."""
    kind: Kind = "deviation"
    """What is mapped: `deviation` from 0 to 0.5, or `mutual-information` in nats from 0 to 0.69."""

    @property
    def bands(self) -> BandSet:
        """The ensemble's."""
        return self.ensemble.bands

    def probability(self, channels: torch.Tensor, /) -> torch.Tensor:
        """The disagreement, float32 (batch, y, x), under the name that prediction asks for."""
        found = disagreement(self.ensemble, channels)
        return found.deviation if self.kind == "deviation" else found.mutual_information


def save_ensemble(ensemble: Ensemble, folder: Path) -> Path:
    """Write `<name>.ensemble.json` into `folder`, and beside it the members that do not ship with the package.

    The JSON is written last, and as a whole. Raises `DataError` when two members have one name.
    """
    names = [member.name for member in ensemble.members]
    if len(set(names)) < len(names):
        raise DataError(f"members of {ensemble.name} share a name ({', '.join(names)}): rename them, they are files")
    shipped = set(available_models())
    listed = []
    for member, share in zip(ensemble.members, ensemble.weights, strict=True):
        if member.name in shipped and load_model(member.name).weights_hash == member.weights_hash:
            listed.append({"model": member.name, "sha256": member.weights_hash, "weight": share})
            continue
        written = save_model(member, folder)
        digest = hashlib.sha256(written.read_bytes()).hexdigest()
        listed.append({"model": written.name, "sha256": digest, "weight": share})
    path = folder / f"{ensemble.name}{ENSEMBLE_SUFFIX}"
    about = {"pooling": ensemble.pooling, "threshold": ensemble.threshold, "members": listed}
    write_json(path, {**about, "card": dict(ensemble.card)})
    return path


def load_ensemble(path: Path) -> Ensemble:
    """Read what `save_ensemble` wrote; `modeling.model.load_model` does so for names that end in `.ensemble.json`.

    Raises `WeightsError` when it is damaged, names a file outside its folder, or a member is not the one that it was.
    """
    about = read_description(path)
    try:
        listed = [(str(each["model"]), str(each["sha256"]), float(each["weight"])) for each in about["members"]]
        pooling, threshold, card = about["pooling"], float(about["threshold"]), dict(about["card"])
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path} is not an ensemble: {error!r}") from error
    if not 1 <= len(listed) <= _MOST_MEMBERS or not 0 <= threshold <= 1:
        raise WeightsError(
            f"{path}: {len(listed)} members (1 to {_MOST_MEMBERS}) or threshold {threshold} is out of range"
        )
    members = []
    for name, sha256, _ in listed:
        if name != Path(name).name:
            raise WeightsError(f"{path} names a member outside its folder: {name}")
        if name.endswith(ENSEMBLE_SUFFIX):
            raise WeightsError(f"{path} names an ensemble as a member: {name}")
        member = load_model(path.parent / name if name.endswith(".safetensors") else name)
        if member.weights_hash != sha256:
            raise WeightsError(f"{path}: member {name} has the sha256 {member.weights_hash}, {sha256} is stated")
        members.append(member)
    try:
        made = ensemble_of(
            members, [weight for _, _, weight in listed], name=path.name.removesuffix(ENSEMBLE_SUFFIX), pooling=pooling
        )
    except DataError as error:
        raise WeightsError(f"{path}: {error}") from error
    return replace(made, threshold=threshold, card=card)


def _joined(bands: Sequence[BandSet]) -> BandSet:
    """The channels of all, in the order in which they come; a set that holds all of them is taken as it is."""
    channels = tuple(dict.fromkeys(channel for each in bands for channel in each.channels))
    for each in bands:
        if set(each.channels) == set(channels):
            return each
    name = "+".join(dict.fromkeys(each.name for each in bands))
    return BandSet(name, channels, "the channels of an ensemble's members together")


def _card(ensemble: Ensemble, threshold_from: str) -> dict[str, Any]:
    each: list[Mapping[str, Any]] = [
        {"name": member.name, "sha256": member.weights_hash, "weight": share, "about": member.card.get("about", "")}
        for member, share in zip(ensemble.members, ensemble.weights, strict=True)
    ]
    entry = {
        "method": "ensemble",
        "settings": {"pooling": ensemble.pooling, "threshold_from": threshold_from},
        "data": {},
        "seconds": 0.0,
        "calibration": "members are calibrated on their sources; nobody has measured the ensemble on the target",
    }
    abouts = {str(member["about"]) for member in each}
    return {
        "about": abouts.pop() if len(abouts) == 1 else "ensemble of models trained on different data",
        "members": each,
        "adaptation": [entry],
        "scores": {},
    }


def _entropy(p: torch.Tensor) -> torch.Tensor:
    entropy: torch.Tensor = -(torch.special.xlogy(p, p) + torch.special.xlogy(1 - p, 1 - p))
    return entropy
