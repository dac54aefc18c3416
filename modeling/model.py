"""A trained model: network, channels, normalisation, calibration and threshold, loaded from files that run no code.

A model is three files: `<name>.safetensors` (weights, and in its header the channels and the normalisation that they were
trained with), `<name>.json` (everything else, with the sha256 of the weights) and `<name>.md` (the same for people).
Matrices are stored as float16, or float32 where a model says so, and computed in float32.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import nn

from modeling import networks
from modeling.bands import BandSet, band_set
from modeling.calibrated import calibrated_logit, is_calibration
from modeling.data.normalise import Normalisation
from modeling.errors import BandSetError, DataError, ModelingError, WeightsError
from modeling.forward import logits_of
from modeling.prediction.precision import Bfloat16Proof
from modeling.training.losses import margin_of
from modeling.weights_header import packed, read_input

WEIGHTS_FOLDER = Path(__file__).parent / "weights"
DEFAULT_NETWORK = "resu-senet-slim"
ENSEMBLE_SUFFIX = ".ensemble.json"
"""How the files of ensembles end (`modeling.adaptation.ensemble`)."""
STORAGES: Mapping[str, torch.dtype] = {"float16": torch.float16, "float32": torch.float32}
"""How a model's matrices can be stored."""

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
    bands: BandSet
    """The input channels in order: one of `modeling.bands.BAND_SETS`, or those of the data set it was trained on."""
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
    sure_margin: float = 0.0
    """Margin from which a probability of 0.9 and more is stated, see `modeling.calibrated`; 0: as the temperature says."""
    input_scale: int = 1
    """The network sees its input enlarged so many times; see `modeling.forward`."""
    classes: int = 2
    """Logits a pixel: 1 (of "landslide") or 2 (background and landslide)."""
    storage: str = "float16"
    """How matrices are stored, a name of `STORAGES`."""
    bfloat16: Bfloat16Proof | None = None
    """What computing in bfloat16 does to these weights' F1; None when nobody has measured."""
    file: Path | None = field(default=None, repr=False, compare=False)
    """The weights file that it was read from, for messages; None for one that was made here."""

    @property
    def named(self) -> str:
        """Its name, and its file where there is one: for messages."""
        return self.name if self.file is None else f"{self.name} ({self.file})"

    @property
    def channels(self) -> tuple[str, ...]:
        """The input channels in order."""
        return self.bands.channels

    def probability(self, x: torch.Tensor) -> torch.Tensor:
        """Calibrated probability, float32 (batch, y, x) in [0, 1], of channel values (batch, channel, y, x).

        Values are physical, as `bands.assemble` stacks them. NaN is read as the training mean, so the result is
        finite everywhere: masking what was not observed is the caller's part. Raises `DataError` for another shape.
        """
        with torch.inference_mode():
            return torch.sigmoid(calibrated_logit(self.margin(x), self.temperature, self.sure_margin))

    @property
    def keeps_back(self) -> bool:
        """Whether 0.9 and more is kept for the pixels of which it is surest (`modeling.calibrated`)."""
        return self.sure_margin > 0

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
        if not band_set(name).missing_from(have):
            return model_name(DEFAULT_NETWORK, name)
    needed = ", ".join(band_set(_PREFERENCE[-1]).requires)
    raise BandSetError(f"no model can use the layers {', '.join(have) or '(none)'}: at least {needed} are needed")


def model_name(network_name: str, bands_name: str) -> str:
    """The name under which a network for a band set is stored."""
    return f"{network_name}_{bands_name}"


def load_model(name_or_path: str | Path) -> LandslideModel:
    """Load a shipped model by name, any by the path of its safetensors file, an ensemble by that of its JSON.

    Raises `WeightsError` when a file is missing or damaged, does not have the sha256 that its JSON states, does not state
    channels and normalisation in its header, or holds tensors that the stated network does not have.
    """
    if str(name_or_path).endswith(ENSEMBLE_SUFFIX):
        from modeling.adaptation.ensemble import load_ensemble  # which is made of models

        return load_ensemble(Path(name_or_path))
    path = _weights_path(name_or_path)
    blob = _read_weights(path)  # first: it is the file that was named
    about = read_description(path.with_suffix(".json"))
    digest = hashlib.sha256(blob).hexdigest()
    if digest != about.get("sha256"):
        stated = about.get("sha256")
        raise WeightsError(f"{path} was changed or damaged: its sha256 is {digest}, {path.stem}.json states {stated}")
    try:
        tensors = load(blob)
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:  # KeyError: numbers that torch has not
        raise WeightsError(f"{path} does not hold the weights of a network: {error}") from error
    bands, normalisation = read_input(io.BytesIO(blob), path)
    model = _described(path.with_suffix(".json"), about, bands, normalisation, digest)
    try:
        load_state(model.network, tensors)
    except WeightsError as error:
        fits = f"{model.network_name} on {model.bands.name}"
        raise WeightsError(f"{path} does not hold the weights of {fits}: {error}") from error
    model.network.eval()
    return replace(model, file=path)


def save_model(model: LandslideModel, folder: Path) -> Path:
    """Write `<name>.safetensors` and `<name>.json` into `folder`; returns the path of the weights.

    Each file appears complete or not at all. `model.weights_hash` is ignored: the hash of the bytes that were written
    is stored. Raises `WeightsError` for an ensemble, which `modeling.adaptation.ensemble.save_ensemble` stores, and for a
    temperature, threshold and sure margin that do not go together.
    """
    if model.network_name not in networks.names():
        raise WeightsError(f"{model.name} cannot be stored as a model: {model.network_name!r} is no network's name")
    if not is_calibration(model.temperature, model.sure_margin, model.threshold):
        raise WeightsError(
            f"{model.name} cannot be stored as a model: its temperature {model.temperature}, threshold {model.threshold} and"
            f" sure margin {model.sure_margin} do not go together"
        )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{model.name}.safetensors"
    blob = weights_file(model)
    about = {
        "network": model.network_name,
        "classes": model.classes,
        "input_scale": model.input_scale,
        "temperature": model.temperature,
        "sure_margin": model.sure_margin,
        "threshold": model.threshold,
        "storage": model.storage,
        "bfloat16": None if model.bfloat16 is None else model.bfloat16.to_json(),
        "sha256": hashlib.sha256(blob).hexdigest(),
        "card": dict(model.card),
    }
    text = (json.dumps(about, indent=1) + "\n").encode()
    for target, content in ((path, blob), (path.with_suffix(".json"), text)):
        partial = target.with_name(f"{target.name}.partial")
        partial.write_bytes(content)
        partial.replace(target)
    return path


def weights_file(model: LandslideModel) -> bytes:
    """The safetensors file that `save_model` writes: of the same model the same bytes."""
    return packed(stored_state(model.network, model.storage), model.bands, model.normalisation)


def weights_digest(model: LandslideModel) -> str:
    """sha256 of a model's `weights_file`, hexadecimal: of a model that was made here, what it will have when it is loaded."""
    return hashlib.sha256(weights_file(model)).hexdigest()


def stored_state(network: nn.Module, storage: str = "float16") -> dict[str, torch.Tensor]:
    """The tensors as they are stored, copied: matrices as `storage` says, vectors as float32.

    Vectors are batch-norm statistics and biases: a variance can leave float16's range, and all of them are small.
    """
    matrix = STORAGES[storage]
    return {
        name: tensor.detach().to("cpu", matrix if tensor.ndim > 1 else torch.float32, copy=True).contiguous()
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


def _described(
    path: Path, about: Mapping[str, Any], bands: BandSet, normalisation: Normalisation, weights_hash: str
) -> LandslideModel:
    """The model that a JSON file describes, its network still with random weights."""
    try:
        made = LandslideModel(
            name=path.stem,
            network_name=str(about["network"]),
            network=nn.Identity(),
            bands=bands,
            normalisation=normalisation,
            temperature=float(about["temperature"]),
            sure_margin=float(about.get("sure_margin", 0.0)),
            threshold=float(about["threshold"]),
            weights_hash=weights_hash,
            card=dict(about["card"]),
            input_scale=int(about["input_scale"]),
            classes=int(about["classes"]),
            storage=str(about["storage"]),
            bfloat16=None if about["bfloat16"] is None else Bfloat16Proof.from_json(about["bfloat16"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise WeightsError(f"{path} is not a model description: {error!r}") from error
    calibrated = is_calibration(made.temperature, made.sure_margin, made.threshold)
    if not (calibrated and 1 <= made.input_scale <= _LARGEST_INPUT_SCALE and made.classes in {1, 2}):
        raise WeightsError(
            f"{path.name}: temperature {made.temperature}, threshold {made.threshold}, sure margin {made.sure_margin}, input"
            f" scale {made.input_scale} or classes {made.classes} is out of range"
        )
    if made.storage not in STORAGES:
        raise WeightsError(f"{path.name}: storage {made.storage!r} is not one of {', '.join(STORAGES)}")
    try:
        network = networks.create(made.network_name, in_channels=len(made.channels), classes=made.classes)
    except ModelingError as error:
        raise WeightsError(f"{path.name}: {error}") from error
    return replace(made, network=network)


def _weights_path(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    if path.suffix == ".safetensors":
        return path
    if path.name != str(name_or_path):
        raise WeightsError(
            f"{name_or_path} is neither a model's name nor the path of a .safetensors or {ENSEMBLE_SUFFIX} file"
        )
    if path.name not in available_models():
        there = ", ".join(available_models()) or "none: train them with `python -m modeling.training.shipped --all`"
        raise WeightsError(f"there is no model {path.name!r}; available: {there}")
    return WEIGHTS_FOLDER / f"{path.name}.safetensors"


def _read_weights(path: Path) -> bytes:
    try:
        if path.stat().st_size > _LARGEST_WEIGHTS_BYTES:
            raise WeightsError(f"{path} has {path.stat().st_size} bytes: too large for weights, at most 1 GiB is read")
        return path.read_bytes()
    except OSError as error:
        raise WeightsError(f"cannot read the weights {path}: {error.strerror}") from error


def read_description(path: Path) -> dict[str, Any]:
    """The JSON object beside a model's weights, or an ensemble's; raises `WeightsError` when it is none."""
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WeightsError(f"cannot read the model description {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path} is not JSON: {error}") from error
    if not isinstance(about, dict):
        raise WeightsError(f"{path} is not a model description: a JSON object is expected")
    return about
