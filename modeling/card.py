"""The model card: a model's JSON card, as text for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modeling.model import LandslideModel

_PIXELS = ("precision", "recall", "f1", "iou", "mcc")
_OBJECTS = ("precision", "recall", "f1")


def card_text(model: LandslideModel) -> str:
    """Markdown of `model.card`, which must hold what `modeling.shipped` measures."""
    card = model.card
    return f"""# {model.name}

**Trained on simulated data only.** No real landslide was among the training, validation or test data, and no score
below was measured on a real one. Treat its maps of real earthquakes as unverified until someone has checked them.

| | |
|---|---|
| network | {model.network_name}, {card["parameters"]:,} parameters |
| band set | {model.band_set}: {", ".join(model.channels)} |
| input | physical values (reflectance 0 to 1, slope in degrees, hillshade 0 to 255) on a 10 m grid |
| inside | the network sees its input enlarged {model.input_scale} times (bilinear), each pixel gets its mean logit |
| output | probability of landslide per pixel; temperature {model.temperature:.3f}, threshold {model.threshold:.3f} |
| weights | {model.name}.safetensors, matrices in float16, sha256 `{card["sha256"]}` |
| licence | {card["licence"]} |

## Training
{_training(card)}
## Scores
Measured with the stored (rounded) weights and the stored threshold, pixels accumulated over all regions of a row.
Luding was held out completely: it took no part in training, in the choice of the checkpoint, the temperature or the
threshold. The baseline is the dNDVI-and-slope threshold tuned on the training regions (`dndvi-slope.json`).

{_table(card["scores"])}
Expected calibration error on the validation regions: {card["validation_calibration_error"]:.4f}.

## Limits
{card["limits"]}
"""


def _training(card: Mapping[str, Any]) -> str:
    settings = card["settings"]
    return f"""- simulated regions of {card["region_px"]} x {card["region_px"]} pixels; each domain randomised (`vary`):
  - training: {", ".join(card["training_regions"])}
  - validation (other seeds of the same domains): {", ".join(card["validation_regions"])}
  - held out: {", ".join(card["held_out_regions"])}
- {settings["steps"]} steps of {settings["batch"]} patches of {settings["patch_px"]} pixels, Adam at most
  {settings["learning_rate"]:g}, warm-up {settings["warm_up_steps"]} steps, polynomial decay 0.9, focal + dice loss
- {_start(card)}{card["hours"]:.2f} hours, with what it started from {card["hours_in_all"]:.2f}
  hours, on {card["machine"]}; best checkpoint at step {card["best_step"]}; seed {settings["seed"]}
- augmentation: {", ".join(f"{name} {value:g}" for name, value in settings["augmentation"].items())}
- again: `{card["command"]}`
"""


def _start(card: Mapping[str, Any]) -> str:
    start = card["settings"]["start"]
    return f"started from the weights of the recipe `{start}`; " if start else "started from random weights; "


def _table(scores: Mapping[str, Mapping[str, Any]]) -> str:
    head = [*(f"pixel {name}" for name in _PIXELS), *(f"object {name}" for name in _OBJECTS)]
    lines = ["| regions | method | " + " | ".join(head) + " |", "|---|---|" + "---|" * len(head)]
    for regions, methods in scores.items():
        for method, measured in methods.items():
            values = [measured["pixels"][name] for name in _PIXELS] + [measured["objects"][name] for name in _OBJECTS]
            lines.append(f"| {regions} | {method} | " + " | ".join(f"{value:.3f}" for value in values) + " |")
    return "\n".join(lines) + "\n"
