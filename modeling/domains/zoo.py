"""The models that there are, with what each learned from: those that ship with the package, and those in a user's folders.

A model whose files are damaged is named and left out with the reason, never in silence. Weights are only hashed here;
they are loaded when a model is used.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from modeling import networks
from modeling.bands import BandSet
from modeling.calibrated import is_calibration
from modeling.domains.fingerprint import Fingerprint
from modeling.domains.sample_file import CARD_KEY, SUFFIX, load_fingerprint, sample_path
from modeling.errors import ModelingError, WeightsError
from modeling.json_file import read_json
from modeling.model import WEIGHTS_FOLDER, LandslideModel, load_model
from modeling.weights_header import read_input


@dataclass(frozen=True)
class ZooModel:
    """A model that may be chosen."""

    name: str
    """Its name; with its folder's where two folders hold one of that name."""
    bands: BandSet
    """The channels that it needs."""
    weights_hash: str
    """sha256 of its weights."""
    fingerprint: Fingerprint | None = field(default=None, repr=False)
    """Of the ground that it was trained on; None for a model without one."""
    why_none: str = ""
    """Why there is no fingerprint."""
    validation_f1: float = math.nan
    """Pixel F1 on its validation ground, as its card states it."""
    simulated: bool = False
    """Whether it has learned from simulated landslides only."""
    domains: int = 1
    """How many domains it has learned from, as its card states; 1 where that is not stated."""
    path: Path | None = None
    """Its weights; None for a model that is in memory."""
    loaded: LandslideModel | None = field(default=None, repr=False)
    """The model itself where it is in memory."""

    @classmethod
    def of(cls, model: LandslideModel, fingerprint: Fingerprint | None = None) -> ZooModel:
        """A model that is in memory."""
        return cls(
            name=model.name,
            bands=model.bands,
            weights_hash=model.weights_hash,
            fingerprint=fingerprint,
            why_none="" if fingerprint is not None else _NO_SAMPLE,
            validation_f1=_validation_f1(model.card),
            simulated=_simulated(model.card),
            domains=_domains(model.card),
            loaded=model,
        )

    @property
    def voice(self) -> float:
        """How much it counts where models are asked together (`modeling.domains.own_maps`).

        That two is enough for several domains, and their number too much, was found on validation ground of simulated
        regions that the models had not seen.
        """
        return 2.0 if self.domains > 1 else 1.0

    def load(self) -> LandslideModel:
        """The model, ready for use; raises `WeightsError` as `load_model` does."""
        if self.loaded is not None:
            return self.loaded
        if self.path is None:
            raise WeightsError(f"{self.name} has neither weights in memory nor a file")
        return load_model(self.path)


@dataclass(frozen=True)
class LeftOut:
    """A model that cannot be used."""

    name: str
    """As its files are called."""
    reason: str
    """What is wrong with it."""


@dataclass(frozen=True)
class Zoo:
    """All models that were found."""

    models: tuple[ZooModel, ...]
    """Those that are whole."""
    left_out: tuple[LeftOut, ...] = ()
    """Those that are not."""


_NO_SAMPLE = "no sample of its training ground stands beside it"
_CALIBRATION = ("temperature", "sure_margin", "threshold")
_LARGEST = 1e300


def open_zoo(folders: Sequence[Path] = ()) -> Zoo:
    """The shipped models and those in `folders`, each checked against the hashes that are stated for it.

    Raises `WeightsError` for a folder that is not there; a damaged model is in `left_out`.
    """
    models: list[ZooModel] = []
    left_out: list[LeftOut] = []
    names: set[str] = set()
    for folder in (WEIGHTS_FOLDER, *folders):
        if not folder.is_dir():
            raise WeightsError(f"there is no folder of models {folder}")
        for path in sorted(folder.glob("*.safetensors")):
            if path.name.endswith(SUFFIX):
                continue
            name = path.stem if path.stem not in names else f"{folder.name}/{path.stem}"
            try:
                models.append(_opened(path, name))
                names.add(name)
            except ModelingError as error:
                left_out.append(LeftOut(name, str(error)))
    return Zoo(tuple(models), tuple(left_out))


def named_model(name_or_path: str | Path) -> ZooModel:
    """One model that somebody has named: of those that ship, or by the path of its weights.

    It can be used whatever its sample is like; what is wrong with that is said in `why_none`. Raises `WeightsError` as
    `load_model` does.
    """
    model = load_model(name_or_path)
    path = Path(name_or_path)
    path = path if path.suffix == ".safetensors" else WEIGHTS_FOLDER / f"{path.name}.safetensors"
    made = replace(ZooModel.of(model), path=path)
    try:
        found, why = _fingerprint_of(path, model.card, model.bands)
    except ModelingError as error:
        return replace(made, why_none=str(error))
    return replace(made, fingerprint=found, why_none=why)


def _opened(path: Path, name: str) -> ZooModel:
    description = path.with_suffix(".json")
    if not description.is_file():
        raise WeightsError(f"{path} has no description {description.name} beside it")
    about = read_json(description)
    card = about.get("card")
    if not isinstance(card, dict):
        raise WeightsError(f"{description} is not a model description")
    if about.get("network") not in networks.names():
        raise WeightsError(f"{description}: there is no network {about.get('network')!r} here")
    numbers = {key: about.get(key, 0.0 if key == "sure_margin" else None) for key in _CALIBRATION}
    if not is_calibration(*(_number(value) for value in numbers.values())):
        raise WeightsError(f"{description}: {numbers} are out of range")
    digest = _sha256(path)
    if digest != about.get("sha256"):
        stated = about.get("sha256")
        raise WeightsError(
            f"{path.name} was changed or damaged: its sha256 is {digest}, {description.name} states {stated}"
        )
    with path.open("rb") as file:
        bands, _ = read_input(file, path)
    fingerprint, why = _fingerprint_of(path, card, bands)
    return ZooModel(
        name=name,
        bands=bands,
        weights_hash=digest,
        fingerprint=fingerprint,
        why_none=why,
        validation_f1=_validation_f1(card),
        simulated=_simulated(card),
        domains=_domains(card),
        path=path,
    )


def _number(value: object) -> float:
    """A number of a file, not a number where it is none or too large to be one."""
    return float(value) if isinstance(value, int | float) and abs(value) < _LARGEST else math.nan


def _fingerprint_of(path: Path, card: Mapping[str, Any], bands: BandSet) -> tuple[Fingerprint | None, str]:
    """The fingerprint that the card states, or why there is none; raises `WeightsError` when it is damaged.

    A model that was made of another one, and stored elsewhere, states its parent's without having it beside it.
    """
    stated = card.get(CARD_KEY)
    if stated is None:
        return None, _NO_SAMPLE
    if not isinstance(stated, dict) or not isinstance(stated.get("sha256"), str):
        raise WeightsError(f"{path.stem}: its card's sample cannot be read")
    beside = sample_path(path)
    if not beside.is_file():
        return None, f"its card states a sample, but {beside.name} is not there"
    found = load_fingerprint(beside, stated["sha256"])
    if found.channels != bands.channels:
        raise WeightsError(
            f"{beside.name} has the channels {', '.join(found.channels)}, not the model's {', '.join(bands.channels)}"
        )
    return found, ""


def _validation_f1(card: Mapping[str, Any]) -> float:
    try:
        return float(card["scores"]["validation"]["model"]["pixels"]["f1"])
    except (KeyError, TypeError, ValueError):
        return math.nan


def _simulated(card: Mapping[str, Any]) -> bool:
    return "simulated data only" in str(card.get("about", ""))


def _domains(card: Mapping[str, Any]) -> int:
    try:
        return max(1, len(card["data"]["parts"]["training"]))
    except (KeyError, TypeError):
        return 1


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
