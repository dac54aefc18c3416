"""A trained model: network, band set, normalisation, calibration and threshold, loaded from files that run no code.

A model is three files: `<name>.safetensors` (weights), `<name>.json` (everything else, with the sha256 of the weights)
and `<name>.md` (the same for people). Matrices are stored as float16 and computed in float32.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from modeling import bands, networks
from modeling.errors import BandSetError, DataError, ModelingError, WeightsError
from modeling.forward import logits_of
from modeling.losses import margin_of
from modeling.normalise import Normalisation

WEIGHTS_FOLDER = Path(__file__).parent / "weights"
DEFAULT_NETWORK = "msf-litenet"
CLASSES = 2

_PREFERENCE = ("ten-band", "rgb-terrain", "rgb")  # richest first
_LARGEST_WEIGHTS_BYTES = 1 << 30
_LARGEST_INPUT_SCALE = 8


@dataclass(frozen=True)
class LandslideModel:
    """Everything needed to turn layers into a probability of landslide."""

    name: str
    """`<network>_<band set>` for the models that ship with the package."""
    network_name: str
    """A name of `modeling.networks.names()`."""
    network: nn.Module = field(repr=False)
    """In evaluation mode, float32."""
    band_set: str
    """A name of `modeling.bands.BAND_SETS`: the channels and their order."""
    normalisation: Normalisation
    """Fitted on the training data."""
    temperature: float
    """Logits are divided by it; fitted on validation data."""
    threshold: float
    """Probability from which a pixel counts as landslide; the best F1 on validation data."""
    weights_hash: str
    """sha256 of the safetensors file, hexadecimal."""
    card: Mapping[str, Any] = field(repr=False)
    """How it was trained and how it scored, as measured."""
    input_scale: int = 1
    """The network sees its input enlarged so many times; see `modeling.forward`."""

    @property
    def channels(self) -> tuple[str, ...]:
        """The input channels in order."""
        return bands.band_set(self.band_set).channels

    def probability(self, x: torch.Tensor) -> torch.Tensor:
        """Calibrated probability, float32 (batch, y, x) in [0, 1], of channel values (batch, channel, y, x).

        Values are physical, as `bands.assemble` stacks them. NaN is read as the training mean, so the result is
        finite everywhere: masking what was not observed is the caller's part. Raises `DataError` for another shape.
        """
        with torch.inference_mode():
            return torch.sigmoid(self.margin(x) / self.temperature)

    def margin(self, x: torch.Tensor) -> torch.Tensor:
        """The uncalibrated logit of "landslide", float32 (batch, y, x); see `probability`."""
        if x.ndim != 4 or x.shape[1] != len(self.channels):
            wanted = f"(batch, {len(self.channels)}, y, x)"
            raise DataError(f"model {self.name} takes {wanted} ({', '.join(self.channels)}), not {tuple(x.shape)}")
        return margin_of(logits_of(self.network, self.normalisation, x, self.input_scale))

    def to(self, device: torch.device | str) -> LandslideModel:
        """Move the network; returns self."""
        self.network.to(device)
        return self


def available_models(folder: Path = WEIGHTS_FOLDER) -> list[str]:
    """Names of the models in `folder` that have both weights and their JSON."""
    return sorted(path.stem for path in folder.glob("*.safetensors") if path.with_suffix(".json").is_file())


def choose_model(layers: Iterable[str]) -> str:
    """The shipped model with the richest band set that these layers allow; `BandSetError` when none is possible."""
    have = tuple(layers)
    for name in _PREFERENCE:
        if not bands.band_set(name).missing_from(have):
            return model_name(DEFAULT_NETWORK, name)
    needed = ", ".join(bands.band_set(_PREFERENCE[-1]).requires)
    raise BandSetError(f"no model can use the layers {', '.join(have) or '(none)'}: at least {needed} are needed")


def model_name(network_name: str, band_set: str) -> str:
    """The name under which a network for a band set is stored."""
    return f"{network_name}_{band_set}"


def load_model(name_or_path: str | Path) -> LandslideModel:
    """Load a shipped model by name, or any by the path of its safetensors file.

    Raises `WeightsError` when a file is missing or damaged, does not have the sha256 that its JSON states, or holds
    tensors that the stated network does not have.
    """
    path = _weights_path(name_or_path)
    about = _read_json(path.with_suffix(".json"))
    blob = _read_weights(path)
    digest = hashlib.sha256(blob).hexdigest()
    try:
        stated, network_name, set_name = str(about["sha256"]), str(about["network"]), str(about["band_set"])
        temperature, threshold = float(about["temperature"]), float(about["threshold"])
        input_scale = int(about["input_scale"])
        normalisation = Normalisation.from_json(about["normalisation"])
        card = dict(about["card"])
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path.with_suffix('.json')} is not a model description: {error!r}") from error
    if digest != stated:
        raise WeightsError(f"{path} was changed or damaged: its sha256 is {digest}, {path.stem}.json states {stated}")
    if not (temperature > 0 and 0 <= threshold <= 1 and 1 <= input_scale <= _LARGEST_INPUT_SCALE):
        raise WeightsError(
            f"{path.stem}.json: temperature {temperature}, threshold {threshold} or input scale {input_scale} is out of"
            " range"
        )
    network = _network_with(path, blob, network_name, set_name, len(normalisation.offset))
    return LandslideModel(
        name=path.stem,
        network_name=network_name,
        network=network,
        band_set=set_name,
        normalisation=normalisation,
        temperature=temperature,
        threshold=threshold,
        weights_hash=digest,
        card=card,
        input_scale=input_scale,
    )


def save_model(model: LandslideModel, folder: Path) -> Path:
    """Write `<name>.safetensors` and `<name>.json` into `folder`; returns the path of the weights.

    `model.weights_hash` is ignored: the hash of the bytes that were written is stored.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{model.name}.safetensors"
    blob = save(stored_state(model.network))
    about = {
        "network": model.network_name,
        "band_set": model.band_set,
        "channels": list(model.channels),
        "normalisation": model.normalisation.to_json(),
        "input_scale": model.input_scale,
        "temperature": model.temperature,
        "threshold": model.threshold,
        "sha256": hashlib.sha256(blob).hexdigest(),
        "card": dict(model.card),
    }
    path.write_bytes(blob)
    path.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return path


def stored_state(network: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors as they are stored: float16 matrices, float32 vectors.

    Vectors are batch-norm statistics and biases: a variance can leave float16's range, and all of them are small.
    """
    return {
        name: tensor.detach().cpu().to(torch.float16 if tensor.ndim > 1 else torch.float32).contiguous()
        for name, tensor in network.state_dict().items()
        if tensor.is_floating_point()
    }


def load_state(network: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Put stored tensors into a network, in float32; `WeightsError` when names or shapes do not fit."""
    own = {name: tensor for name, tensor in network.state_dict().items() if tensor.is_floating_point()}
    if missing := sorted(own.keys() - state.keys()):
        raise WeightsError(f"{len(missing)} tensors of the network are missing, the first is {missing[0]}")
    if surplus := sorted(state.keys() - own.keys()):
        raise WeightsError(f"{len(surplus)} tensors are not of this network, the first is {surplus[0]}")
    for name, tensor in own.items():
        if tensor.shape != state[name].shape:
            raise WeightsError(f"{name} has shape {tuple(state[name].shape)}, the network's is {tuple(tensor.shape)}")
        tensor.copy_(state[name])


def _network_with(path: Path, blob: bytes, network_name: str, set_name: str, channels: int) -> nn.Module:
    try:
        in_channels = len(bands.band_set(set_name).channels)
        network = networks.create(network_name, in_channels=in_channels, classes=CLASSES)
    except ModelingError as error:
        raise WeightsError(f"{path.stem}.json: {error}") from error
    if channels != in_channels:
        raise WeightsError(f"{path.stem}.json: normalisation of {channels} channels for a band set of {in_channels}")
    try:
        load_state(network, load(blob))
    except (SafetensorError, WeightsError, struct.error) as error:
        raise WeightsError(f"{path} does not hold the weights of {network_name} on {set_name}: {error}") from error
    return network.eval()


def _weights_path(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    if path.suffix == ".safetensors":
        return path
    if path.name != str(name_or_path):
        raise WeightsError(f"{name_or_path} is neither a model's name nor the path of a .safetensors file")
    if path.name not in available_models():
        there = ", ".join(available_models()) or "none: train them with `python -m modeling.train --all`"
        raise WeightsError(f"there is no model {path.name!r}; available: {there}")
    return WEIGHTS_FOLDER / f"{path.name}.safetensors"


def _read_weights(path: Path) -> bytes:
    try:
        if path.stat().st_size > _LARGEST_WEIGHTS_BYTES:
            raise WeightsError(f"{path} has {path.stat().st_size} bytes: too large for weights, at most 1 GiB is read")
        return path.read_bytes()
    except OSError as error:
        raise WeightsError(f"cannot read the weights {path}: {error.strerror}") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WeightsError(f"cannot read the model description {path}: {error.strerror}") from error
    except ValueError as error:
        raise WeightsError(f"{path} is not JSON: {error}") from error
    if not isinstance(about, dict):
        raise WeightsError(f"{path} is not a model description: a JSON object is expected")
    return about
