"""The model card: what a model was trained on, how, and how it scored, written by the program that trained it."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from modeling.calibrated import CONFIDENT, LARGEST_UNSURE
from modeling.model import LandslideModel, weights_digest
from modeling.recipes import Recipe
from modeling.scoring.evaluate import Evaluation
from modeling.training.progress import Progress
from modeling.uncertainty.stored import uncertainty_of

SIMULATED = "trained on simulated data only"
"""What `about` says of models that never saw a real landslide."""

_PIXELS = ("precision", "recall", "f1", "iou", "miou", "mcc", "pa", "cpa", "oa")
_OBJECTS = ("precision", "recall", "f1")


@dataclass(frozen=True)
class DataFacts:
    """What a card says about the data."""

    name: str
    """Of the data set."""
    source: str
    """What it was made from."""
    licence: str
    """Of that; `unknown` where nobody has said."""
    sha256: str
    """Of its content; empty where it is made again from its seeds."""
    command: str
    """How it was made."""
    split: str
    """The rule by which its parts were told apart."""
    simulated: bool
    """Whether no part of it is real."""
    parts: Mapping[str, Mapping[str, str]]
    """Part (training, validation, ...) -> domain -> how much there is of it, in words."""


@dataclass(frozen=True)
class RunFacts:
    """What a card says about the run."""

    recipe: Recipe
    """As it was trained, with all changes to the one of its name."""
    seed: int
    """Of weights, batches and dropout."""
    start: LandslideModel | None
    """What the first weights came from; None: random ones."""
    progress: Progress
    """How it went."""
    device: str
    """What it was trained on, for people."""
    command: str
    """How to do it again."""


def card_of(
    model: LandslideModel,
    data: DataFacts,
    run: RunFacts,
    scores: Mapping[str, Mapping[str, Mapping[str, Any]]],
    *,
    limits: str,
) -> dict[str, Any]:
    """The card as plain values, with what `model.card` holds already.

    `scores` is part -> method -> what `measured` made of an evaluation; `limits` says what the model cannot do.
    """
    hours = run.progress.seconds / 3600
    start = run.start
    return {
        **model.card,
        "about": SIMULATED if data.simulated else f"trained on {data.name}",
        "licence": data.licence,
        "sha256": weights_digest(model),
        "parameters": sum(tensor.numel() for tensor in model.network.parameters()),
        "data": asdict(data),
        "recipe": run.recipe.to_json(),
        "seed": run.seed,
        "start": None if start is None else {"name": start.name, "sha256": start.weights_hash},
        "steps": run.progress.step,
        "best_step": run.progress.best_step,
        "stopped_early": run.progress.stopped_early,
        "curve": [asdict(row) for row in run.progress.curve],
        "hours": hours,
        "hours_in_all": hours + (float(start.card.get("hours_in_all", 0.0)) if start is not None else 0.0),
        "machine": run.device,
        "software": {"python": platform.python_version(), "torch": metadata.version("torch")},
        "command": run.command,
        "scores": scores,
        "limits": limits,
    }


def measured(result: Evaluation, *, intervals: bool = True) -> dict[str, Any]:
    """An evaluation as a card holds it: scores by pixels and by landslides, and what they are counted from."""
    made: dict[str, Any] = {
        "pixels": {**result.scores(), **asdict(result.pixels)},
        "objects": result.objects.scores(),
    }
    if intervals and len(result.blocks) > 1:
        f1 = result.intervals()["f1"]
        made["f1_interval"] = [f1.low, f1.high]
    return made


def cores() -> str:
    """The processor that trained, for people."""
    return f"{os.cpu_count()} CPU cores"


def card_text(model: LandslideModel) -> str:
    """Markdown of a card that `card_of` made."""
    card, data = model.card, model.card["data"]
    return f"""# {model.name}

{_warning(card)}

| | |
|---|---|
| network | {model.network_name}, {card["parameters"]:,} parameters |
| channels | {model.bands.name}: {", ".join(model.channels)} |
| input | physical values as the data set stores them; {model.normalisation.method} scaling is part of the model |
{_enlarged(model)}| output | probability of landslide per pixel; temperature {model.temperature:.3f}{
        _kept_back(model)
    } |
| threshold | {model.threshold:.3f} |
| weights | matrices in {model.storage}; sha256 of {model.name}.safetensors: `{card["sha256"]}` |
| licence | {card["licence"]} |

## Data
- {data["name"]}: {data["source"]}
- licence of the data: {data["licence"]}
- parts: {data["split"]}
{_parts(data["parts"])}
- {f"sha256 of its content: `{data['sha256']}`" if data["sha256"] else "made again from its seeds"}
- made by: `{data["command"]}`

## Training
{_training(card)}
## Scores
Measured with the stored (rounded) weights and the stored threshold, pixels accumulated over the whole of each part.
Checkpoint, temperature and threshold were chosen on the validation part: its scores flatter. Intervals are 95 %, from
drawing the blocks of a part again. OA is PA, and CPA is the precision, as the figures of the papers that use them imply.

{_table(card["scores"])}
Expected calibration error on the validation part, by the temperature that fits it best: {
        card["validation_calibration_error"]:.4f}.

{_unseen_ground(model)}## Limits
{card["limits"]}
"""


def write_card(weights: Path, model: LandslideModel) -> Path:
    """Write `card_text` beside a weights file; returns its path."""
    path = weights.with_suffix(".md")
    path.write_text(card_text(model), encoding="utf-8")
    return path


def _kept_back(model: LandslideModel) -> str:
    if not model.keeps_back:
        return ""
    told = "stands below" if uncertainty_of(model) is not None else "was not measured"
    return (
        f"; {CONFIDENT:g} and more from a margin of {model.sure_margin:.2f} on, at most {LARGEST_UNSURE:g} below it; how"
        f" often such claims are wrong on unseen ground {told}"
    )


def _wrong(about: Mapping[str, Any], domain: str) -> str:
    """A dash where nothing was claimed: then neither a claim was wrong nor a landslide reached."""
    wrong, reached = about["wrong_at_090"]["after"][domain], about["reached_at_090"][domain]
    return f"{100 * wrong:.1f} %" if wrong or reached else "–"


def _unseen_ground(model: LandslideModel) -> str:
    """What was fitted to domains that the model had not learned from, and what it was worth with each of them left out."""
    fitted = uncertainty_of(model)
    if fitted is None or fitted.totals is None:
        return ""
    about, totals = fitted.about, fitted.totals
    covered, error = about["coverage"], about["calibration_error_of_mapped"]
    lines = [
        f"| {domain} | {100 * covered['by_domain'][domain]['area']:.0f} % | {100 * covered['by_domain'][domain]['count']:.0f} %"
        f" | {100 * error['before'][domain]:.1f} | {100 * error['after'][domain]:.1f}"
        f" | {100 * about['wrong_at_090']['before'][domain]:.1f} % | {_wrong(about, domain)}"
        f" | {100 * about['reached_at_090'][domain]:.1f} % |"
        for domain in totals.domains
    ]
    events = "simulated events" if about.get("simulated", True) else "events"
    text = (
        f"Fitted to {totals.events} {events} of {', '.join(totals.domains)}, none of which the network has learned from: "
        f"{100 * totals.level:.0f} % intervals on an event's total area and number of landslides, the temperature, and the "
        f"margin from which {CONFIDENT:g} and more is stated. The table holds each domain by what the others give: how many "
        f"events the intervals covered (on the mean area {100 * covered['share']['area']:.0f} %, count "
        f"{100 * covered['share']['count']:.0f} %; upper end {covered['factor']['area']:.1f} and "
        f"{covered['factor']['count']:.1f} times the lower one; those that ship know all domains and are narrower, "
        f"{covered['factor_of_all']['area']:.1f} and {covered['factor_of_all']['count']:.1f} times), "
        "how many points the probabilities of mapped pixels are off, "
        f"how many of the pixels mapped with {CONFIDENT:g} and more are none, and how much of the landslides is mapped so."
    )
    head = "| domain | area covered | count covered | off before | off after | wrong before | wrong after | reached |"
    return "\n".join(["## Unseen ground", text, "", head, "|---|" + "---|" * 7, *lines, "", ""])


def _warning(card: Mapping[str, Any]) -> str:
    if card["about"] == SIMULATED:
        return (
            "**Trained on simulated data only.** No real landslide was among the training, validation or test data, and"
            " no score\nbelow was measured on a real one. Treat its maps of real earthquakes as unverified until someone"
            " has checked them."
        )
    return f"**{str(card['about']).capitalize()}.** Scores below are of that data set, and say little of other places."


def _enlarged(model: LandslideModel) -> str:
    if model.input_scale == 1:
        return ""
    return (
        f"| inside | the network sees its input enlarged {model.input_scale} times (bilinear), each pixel gets its mean"
        " logit |\n"
    )


def _parts(parts: Mapping[str, Mapping[str, str]]) -> str:
    return "\n".join(
        f"  - {part}, {domain}: {held}" for part, domains in parts.items() for domain, held in domains.items()
    )


def _training(card: Mapping[str, Any]) -> str:
    recipe, start = card["recipe"], card["start"]
    optimiser, schedule = recipe["optimiser"], recipe["schedule"]
    length = f"{recipe['steps']} steps" if recipe["steps"] else f"{recipe['epochs']} epochs"
    begun = f"from the weights of {start['name']}" if start else "from random weights"
    stopped = f", ended by patience after {card['steps']}" if card["stopped_early"] else ""
    warm_up = schedule["warm_up"] or schedule["warm_up_epochs"]
    return f"""- recipe `{recipe["name"]}`: {recipe["about"] or "of this project"}
- {length} of {recipe["batch"]} patches, at most {recipe["patch_px"]} pixels wide{stopped}; {begun}; seed {card["seed"]}
- loss {recipe["loss"]}; {optimiser["name"]}, at most {optimiser["learning_rate"]:g}, {schedule["name"]} schedule{
        f", warm-up {warm_up} {'steps' if schedule['warm_up'] else 'epochs'}" if warm_up else ""
    }; computed in {recipe["precision"]}
- augmentation `{recipe["augmentation"]}`; best checkpoint by validation {recipe["select_by"]}: step {card["best_step"]}
- {card["hours"]:.2f} hours, with what it started from {card["hours_in_all"]:.2f} hours, on {card["machine"]}
- again: `{card["command"]}`
"""


def _table(scores: Mapping[str, Mapping[str, Any]]) -> str:
    head = [*(f"pixel {name}" for name in _PIXELS), "pixel f1, 95 %", *(f"object {name}" for name in _OBJECTS)]
    lines = ["| part | method | " + " | ".join(head) + " |", "|---|---|" + "---|" * len(head)]
    for part, methods in scores.items():
        for method, found in methods.items():
            low, high = found.get("f1_interval", (None, None))
            cells = [f"{found['pixels'][name]:.3f}" for name in _PIXELS]
            cells += [f"{low:.3f} to {high:.3f}" if low is not None else ""]
            cells += [f"{found['objects'][name]:.3f}" for name in _OBJECTS]
            lines.append(f"| {part} | {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
