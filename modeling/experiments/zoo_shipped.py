"""What the shipped models are worth on ground that none has learnt from, which of them is chosen, and what two settings add.

`python -m modeling.experiments.zoo_shipped` maps the simulated events of `modeling.training.shipped_regions` with every
shipped model and writes `modeling/reports/zoo.md` and `.json`. The choice is that of `quakeslide select`
(`modeling.domains.select`) with each event's own pixels. Weights, thresholds and the choice have not seen these domains;
temperature and intervals of the models were fitted to them and play no part in what is counted here.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modeling.adaptation.scene_means import match_scene
from modeling.bands import BandSet
from modeling.benchmark.compare import Estimate
from modeling.data.batches import Block
from modeling.data.dataset import RegionBlocks
from modeling.domains.fingerprint import fingerprint_of
from modeling.domains.select import chosen, rank
from modeling.domains.zoo import Zoo, open_zoo
from modeling.errors import DataError, ModelingError
from modeling.experiments.generalisation_arms import said_of
from modeling.experiments.generalisation_choice import DoubleArray, estimate, macro
from modeling.experiments.generalisation_scores import NEAR
from modeling.experiments.generalisation_works import One
from modeling.json_file import write_json
from modeling.model import LandslideModel, load_model
from modeling.scoring.metrics import confusion, scores_of
from modeling.scoring.tables import markdown_table, with_interval
from modeling.training.shipped_regions import regions_of, shipped_split

log = logging.getLogger(__name__)

REPORTS = Path(__file__).parents[1] / "reports"
COMMAND = "python -m modeling.experiments.zoo_shipped"
PLAIN, TURNED, MEANS = "as it maps by default", "`model.symmetries = 4`", "`model.scene_means = 0.5`"
WAYS = (PLAIN, TURNED, MEANS)


@dataclass(frozen=True)
class Layers:
    """What is known of an event."""

    words: str
    """For people."""
    infrared: bool
    """With near infrared."""
    terrain: bool
    """With terrain, and the image before."""

    def allow(self, channel: str) -> bool:
        """Whether a channel can be made of it."""
        light = self.infrared or not channel.startswith(("nir", "ndvi"))
        return light and (self.terrain or channel.endswith("_post"))


KNOWN = (
    Layers("all layers", infrared=True, terrain=True),
    Layers("no near infrared", infrared=False, terrain=True),
    Layers("red, green and blue after the event alone", infrared=False, terrain=False),
)


def counted(model: LandslideModel, blocks: RegionBlocks) -> dict[str, dict[str, list[int]]]:
    """Way -> event -> pixels tp, fp, fn, tn of one model."""
    found: dict[str, dict[str, list[int]]] = {way: {} for way in WAYS}
    for done, block in enumerate(blocks, start=1):
        own = said_of(model, block, device="cpu")
        moved = said_of(match_scene(model, One(block)), block, device="cpu", mirrored=False)
        for way, probability in ((PLAIN, own.plain), (TURNED, own.turned), (MEANS, moved.plain)):
            valid = block.truth <= 1
            counts = confusion(probability >= model.threshold, block.truth == 1, valid).counts
            found[way][block.name] = [int(each) for each in counts]
        log.info("%s: %d of %d", model.name, done, len(blocks))
    return found


def picked(zoo: Zoo, block: Block, bands: BandSet, layers: Layers) -> str:
    """The model that is chosen for an event of which these layers are known."""
    allowed = [index for index, name in enumerate(bands.channels) if layers.allow(name)]
    names = tuple(bands.channels[index] for index in allowed)
    part = Block(block.channels[allowed], block.truth, block.name, block.domain)
    try:
        region = fingerprint_of(One(part), names)
    except DataError:  # hardly anything was seen: the channels decide
        return chosen(rank(zoo.models, names)).model.name
    return chosen(rank(zoo.models, region)).model.name


def near(
    counts: Mapping[str, Mapping[str, Sequence[int]]], picks: Mapping[str, str], usable: Sequence[str]
) -> dict[str, bool]:
    """Event -> whether the F1 of the model picked is within `NEAR` of the best that could have been."""
    found = {}
    for event, pick in picks.items():
        f1 = {name: float(scores_of(np.array(counts[name][event], float))["f1"]) for name in usable}
        found[event] = f1[pick] >= max(f1.values()) - NEAR
    return found


def measure(zoo: Zoo, work: Path, workers: int) -> dict[str, Any]:
    """`domains`: event -> domain; `counts`: model -> way -> event -> pixels; `picks`: layers -> event -> model."""
    stored = regions_of(work / "regions", shipped_split().events, workers)
    everything = dict.fromkeys(channel for model in zoo.models for channel in model.bands.channels)
    bands = BandSet("all channels", tuple(everything), "of all shipped models")
    blocks = RegionBlocks(stored, bands)
    picks: dict[str, dict[str, str]] = {layers.words: {} for layers in KNOWN}
    domains = {}
    for block in blocks:
        domains[block.name] = block.domain
        for layers in KNOWN:
            picks[layers.words][block.name] = picked(zoo, block, bands, layers)
    counts = {}
    for one in zoo.models:
        model = load_model(one.name)
        counts[one.name] = counted(model, RegionBlocks(stored, model.bands))
    return {"domains": domains, "counts": counts, "picks": picks}


def figures(zoo: Zoo, found: Mapping[str, Any]) -> dict[str, Any]:
    """`f1`: model -> way -> macro F1 over domains; `gain`: the same less the first way; `domain`: model -> domain -> F1 by
    default; `within`: layers -> share of events with a pick that is nearly the best, and how many models could be picked.
    """
    names = list(dict.fromkeys(found["domains"].values()))
    made: dict[str, Any] = {"f1": {}, "gain": {}, "domain": {}, "within": {}}
    for model, ways in found["counts"].items():
        drawn = {way: macro([_of(ways[way], found["domains"], name) for name in names]) for way in WAYS}
        events = len(found["domains"])
        made["f1"][model] = {way: estimate(values, 1, events).to_json() for way, values in drawn.items()}
        made["gain"][model] = {way: estimate(drawn[way] - drawn[PLAIN], 1, events).to_json() for way in WAYS[1:]}
        made["domain"][model] = {
            name: estimate(macro([_of(ways[PLAIN], found["domains"], name)]), 1, events // len(names)).to_json()
            for name in names
        }
    for layers in KNOWN:
        usable = [one.name for one in zoo.models if all(map(layers.allow, one.bands.channels))]
        plain = {model: ways[PLAIN] for model, ways in found["counts"].items()}
        hits = near(plain, found["picks"][layers.words], usable)
        by_domain = [
            np.array([[[hits[event], 1.0] for event, domain in found["domains"].items() if domain == name]], float)
            for name in names
        ]
        share = estimate(macro(by_domain, lambda sums: np.asarray(sums[..., 0] / sums[..., 1])), 1, len(hits))
        made["within"][layers.words] = {**share.to_json(), "models": len(usable)}
    return made


def _of(counts: Mapping[str, Sequence[int]], domains: Mapping[str, str], name: str) -> DoubleArray:
    """(1, event, 4) of the events of a domain."""
    return np.array([[counts[event] for event, domain in domains.items() if domain == name]], np.float64)


def report(made: Mapping[str, Any], events: int) -> str:
    """The figures as Markdown."""
    names = list(next(iter(made["domain"].values())))

    def told(value: Mapping[str, Any]) -> str:
        return with_interval(Estimate(value["value"], value["low"], value["high"], 1, events))

    within = [
        [words, str(value["models"]), told(value)] for words, value in made["within"].items() if value["models"] > 1
    ]
    lines = [
        "# The models that ship, on ground that none has learnt from",
        "",
        f"Everything here is **simulated**. Made by `{COMMAND}`: {events} events of {', '.join(names)}, which no shipped "
        "model has learnt from, 512 x 512 pixels of 10 m each. Pixel F1 in per cent at each model's own threshold; macro: the "
        "mean over domains. 95 % intervals draw domains and events again; one training of each model.",
        "",
        "## What they are worth",
        "",
        markdown_table(
            ["model", "macro F1 [95 %]", *names],
            [
                [f"`{model}`", told(made["f1"][model][PLAIN]), *(told(made["domain"][model][name]) for name in names)]
                for model in made["f1"]
            ],
        ),
        "",
        "## What two settings add to that",
        "",
        markdown_table(
            ["model", *WAYS[1:]],
            [[f"`{model}`", *(_points(made["gain"][model][way]) for way in WAYS[1:])] for model in made["gain"]],
        ),
        "",
        "In points, with its interval. Both are off by default; intervals and the promise at 0.9 hold without them only.",
        "",
        "## Whether the right one is chosen",
        "",
        f"Share of events for which the F1 of the model that `quakeslide select` takes is within {100 * NEAR:.0f} points of the "
        "best of those that could have been taken, per cent. With so few models on the same channels the one with the richest "
        "channels is taken; what choosing among eight models of the same channels is worth is told by "
        "[generalisation](generalisation.md).",
        "",
        markdown_table(["what is known of the event", "models that can map it", "nearly the best [95 %]"], within),
    ]
    return "\n".join(lines) + "\n"


def _points(value: Mapping[str, Any]) -> str:
    return f"{100 * value['value']:+.1f} [{100 * value['low']:+.1f}, {100 * value['high']:+.1f}]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the shipped models on unseen domains and write the report."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=main.__doc__)
    parser.add_argument("--work", type=Path, default=Path(".quakeslide/training"), help="where the events are kept")
    parser.add_argument("--workers", type=int, default=1, help="processes that simulate events that are not there")
    parser.add_argument("--out", type=Path, default=REPORTS, help="folder for zoo.md and zoo.json")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        zoo = open_zoo()
        found = measure(zoo, options.work, options.workers)
    except ModelingError as error:
        log.error("%s", error)
        return 2
    made = figures(zoo, found)
    weights = {one.name: one.weights_hash for one in zoo.models}
    write_json(options.out / "zoo.json", {"command": COMMAND, "simulated": True, "weights": weights, **made, **found})
    target = options.out / "zoo.md"
    partial = target.with_suffix(".partial")
    partial.write_text(report(made, len(found["domains"])), encoding="utf-8")
    partial.replace(target)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
