"""The pieces of work of `generalisation`: samples of ground, adaptation, and the judgement of models on unseen events."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from modeling.adaptation.norms import SOURCE_PATCHES, adapt_norms
from modeling.adaptation.scene_means import match_scene
from modeling.adaptation.self_training import self_train
from modeling.adaptation.transfer import Joint
from modeling.calibrated import CONFIDENT
from modeling.data.batches import IGNORE, Block, FloatArray
from modeling.domains.fingerprint import Fingerprint, fingerprint_of, mixed
from modeling.domains.own_maps import own_maps
from modeling.domains.sample_file import load_fingerprint, save_fingerprint
from modeling.domains.select import Ranked, rank
from modeling.domains.zoo import ZooModel
from modeling.errors import DataError
from modeling.experiments.engine import Desk
from modeling.experiments.generalisation_arms import FEW, MULTI, NORMS, OWN, SELF, logit_of, said_of, ways
from modeling.experiments.mixes import Mix
from modeling.experiments.work import channels_of
from modeling.model import LandslideModel
from modeling.recipes import Recipe, SelfTraining, adaptation
from modeling.scoring.evaluate import PIXEL_M2
from modeling.scoring.metrics import confusion
from modeling.scoring.reliability import MarginHistogram, reliability
from modeling.training.progress import Tick
from modeling.training.train import fit
from modeling.uncertainty.totals import totals_of

SAMPLE = "sample.safetensors"
ROWS = 600
"""Pixels of a sample that distances are measured between."""
TEMPERATURES = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.5, 8.0, 12.0, 20.0)
"""Factors on a model's own temperature at which its confident claims are counted."""
SURE = ("claimed", "wrong", "landslides", "claimed_both", "wrong_both", "nll")
"""What is counted at each of them; `nll` is a sum over pixels."""
SEVERAL = 2
"""A model of several domains, which has several times the patches, trains so many times the steps of one of a single domain."""
ADAPTED_SHARE = 0.125
"""Self-training takes this share of the steps of a single-domain model, fine-tuning with few labels twice as many."""


def key(domain: str, seed: int) -> str:
    """Of the model of one domain."""
    return f"single--{domain}--seed{seed}"


def judged(target: str, held_out: Sequence[str], seed: int) -> str:
    """Of the judgement on `target` of models that have seen none of `held_out`."""
    return f"judge--{target}--without-{'+'.join(held_out)}--seed{seed}"


@dataclass(frozen=True)
class Sample:
    """Take the fingerprint of a domain's training ground; its truth is never read."""

    mix: Mix
    """Its patches."""
    patch_px: int
    """Their side."""

    def __call__(self, desk: Desk) -> dict[str, Any]:
        """Keep it for those who measure distances."""
        bands = channels_of(desk.source)
        blocks = self.mix.training(desk.source, bands, patch_px=self.patch_px)
        found = fingerprint_of(blocks, bands.channels, rows=ROWS, about=self.mix.name)
        return {"sha256": save_fingerprint(found, desk.kept / SAMPLE), "known": found.known}


@dataclass(frozen=True)
class SelfTrained:
    """Self-train a model on a region whose truth is not read."""

    start: str
    """Key of the model."""
    source: Mix
    """What it was trained on."""
    judged_on: Mix
    """A small part of that: its validation patches watch over what is forgotten."""
    target: str
    """The region: all its test ground is unlabelled ground here."""
    steps: int
    """Of the optimiser."""
    batch: int
    """Target patches a step, and source patches."""
    patch_px: int
    """Side of a patch."""
    seed: int
    """Of the draws."""

    def __call__(self, desk: Desk) -> dict[str, Any]:
        """Keep the adapted model."""
        model, bands = desk.model(self.start), channels_of(desk.source)
        how = replace(adaptation("self-training", SelfTraining), steps=self.steps, batch=self.batch)
        sampler = self.source.sampler(
            desk.source, bands, batch=how.batch, patch_px=self.patch_px, seed=self.seed, augmentation=how.augmentation
        )

        def tell(tick: Tick) -> None:
            desk.tell(tick.step, tick.steps)

        done = self_train(
            model, sampler, self.judged_on.validation(desk.source, bands, patch_px=self.patch_px),
            desk.source.blocks("test", bands, [self.target]), desk.scratch, how,
            seed=self.seed, device=desk.device, tell=tell,
        )  # fmt: skip
        desk.keep(done.model)
        return {"target": self.target, "chosen_step": done.chosen_step, "kept_start": done.kept_start}


@dataclass(frozen=True)
class FewLabels:
    """Fine-tune a model with a few labelled patches of a region, half of every batch, beside its source."""

    recipe: Recipe
    """How."""
    start: str
    """Key of the model."""
    source: Mix
    """What it was trained on."""
    labelled: Mix
    """The labelled patches: its training and its validation patches together are all that is known."""
    seed: int
    """Of the draws."""

    def __call__(self, desk: Desk) -> dict[str, Any]:
        """Keep the model that scored best on the labelled validation patches."""
        model, bands, recipe = desk.model(self.start), channels_of(desk.source), self.recipe
        half = recipe.batch // 2
        shares = (half, recipe.batch - half)
        samplers = [
            mix.sampler(
                desk.source, bands, batch=share, patch_px=recipe.patch_px, seed=self.seed, augmentation="physical"
            )
            for mix, share in zip((self.labelled, self.source), shares, strict=True)
        ]

        def tell(tick: Tick) -> None:
            desk.tell(tick.step, tick.steps)

        trained = fit(
            recipe, Joint(tuple(samplers), shares),
            self.labelled.validation(desk.source, bands, patch_px=recipe.patch_px), model.normalisation, bands,
            desk.scratch, seed=self.seed, start=model, device=desk.device, tell=tell,
        )  # fmt: skip
        desk.keep(trained.model)
        return {"patches": self.labelled.patches, "best_step": trained.progress.best_step}


@dataclass(frozen=True)
class Judge:
    """Map the events of a region in every way that needs no label of it, and count; the truth is read to count only."""

    target: str
    """The region."""
    main: str
    """Key of the model of several domains."""
    singles: tuple[tuple[str, str], ...]
    """(domain, key) of the models of one domain, none of them the target."""
    samples: tuple[tuple[str, str], ...]
    """(domain, key) of the sample of each domain that `main` or a single model has learned from."""
    sources: tuple[str, ...]
    """Domains that `main` has learned from."""
    self_trained: str = ""
    """Key of `main` self-trained on the region; empty: not done."""
    own: str = ""
    """Key of a model of the region itself, for comparison only."""
    few: str = ""
    """Key of a model with a few labels of the region, for comparison only."""

    def __call__(self, desk: Desk) -> dict[str, Any]:
        """`arms`: arm -> event -> counts; `zoo`: event -> model -> signals, of the models on scene means."""
        bands = channels_of(desk.source)
        samples = {domain: load_fingerprint(desk.needs[key] / SAMPLE) for domain, key in self.samples}

        def model_of(key: str) -> LandslideModel:
            return desk.model(key).to(desk.device)

        main = replace(model_of(self.main), name=MULTI)
        singles = [replace(model_of(key), name=domain) for domain, key in self.singles]
        prints: dict[str, Fingerprint] = {domain: samples[domain] for domain, _ in self.singles}
        prints[MULTI] = mixed([samples[name] for name in self.sources], [1.0] * len(self.sources), rows=ROWS)
        zoo = [ZooModel.of(model, prints[model.name]) for model in (main, *singles)]
        zoo[0] = replace(zoo[0], domains=len(self.sources))
        voices = {one.name: one.voice for one in zoo}
        fixed = {model.name: model for model in (main, *singles)}
        fixed |= {
            arm: model_of(key) for arm, key in ((SELF, self.self_trained), (OWN, self.own), (FEW, self.few)) if key
        }
        blocks = desk.source.blocks("test", bands, [self.target])
        arms: dict[str, dict[str, Any]] = {}
        signals: dict[str, Any] = {}
        for done, block in enumerate(blocks, start=1):
            event = One(block)
            region = fingerprint_of(event, bands.channels, rows=ROWS)
            # Named as they were: they are the same models of the zoo.
            matched = {
                arm: replace(match_scene(model, event).to(desk.device), name=model.name) for arm, model in fixed.items()
            }
            own = own_maps([matched[model.name] for model in (main, *singles)], event, bands.channels, voices=voices)
            ranked = rank(zoo, region, own_maps=own)
            signals[block.name] = {each.model.name: _plain(each) for each in ranked}
            apart = {each.model.name: each.signals["mean_mmd2"] for each in ranked}
            said, matched_said = (
                {arm: said_of(model, block, device=desk.device, mirrored=arm != OWN) for arm, model in models.items()}
                for models in (fixed, matched)
            )
            said[NORMS] = said_of(_norms(main, event, desk.device), block, device=desk.device)
            made = ways(said, matched_said, [model.name for model in singles], apart)
            for arm, (probability, threshold) in made.items():
                arms.setdefault(arm, {})[block.name] = counted(probability, threshold, block, max(apart[MULTI], 0.0))
            desk.tell(done, len(blocks), block.name)
        return {"target": self.target, "arms": arms, "zoo": signals}


@dataclass(frozen=True)
class One:
    """One block as a set."""

    block: Block
    """The block."""

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Block]:
        yield self.block


def _norms(main: LandslideModel, event: One, device: str) -> LandslideModel:
    try:
        return adapt_norms(main, event, source_patches=SOURCE_PATCHES, device=device).to(device)
    except DataError:  # so little was seen of the event that no patch is known: n = 0, the source's statistics stay
        return main


def counted(probability: FloatArray, threshold: float, block: Block, novelty: float) -> dict[str, Any]:
    """Counts of one map of one event: pixels, totals, and confident claims at each of `TEMPERATURES`."""
    valid, truth = block.truth != IGNORE, block.truth == 1
    area = block.pixel_m2 if math.isfinite(block.pixel_m2) else PIXEL_M2
    totals = totals_of(
        probability, threshold, block.truth, name=block.name, domain=block.domain, pixel_m2=area, novelty=novelty
    )
    histogram = MarginHistogram.of(logit_of(probability), truth, valid)
    return {
        "pixels": list(confusion(probability >= threshold, truth, valid).counts),
        "totals": asdict(totals),
        "sure": [_sure(histogram, temperature) for temperature in TEMPERATURES],
    }


def _sure(histogram: MarginHistogram, temperature: float) -> list[float]:
    """As `SURE` names it."""
    above, below = (histogram.confusion_at(level, temperature) for level in (CONFIDENT, 1 - CONFIDENT))
    nll = reliability(histogram, temperature).nll * histogram.pixels
    return [
        above.tp + above.fp, above.fp, above.tp + above.fn, above.tp + above.fp + below.fn + below.tn,
        above.fp + below.fn, round(nll, 1),
    ]  # fmt: skip


def _plain(each: Ranked) -> dict[str, float | None]:
    return {name: round(value, 6) if math.isfinite(value) else None for name, value in each.signals.items()}
