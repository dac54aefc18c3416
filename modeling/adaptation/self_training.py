"""Self-training: a teacher labels the target's ground where it is sure, and a student learns that beside the source.

- Pseudo-labels are balanced by class (Zou et al. 2018, CBST): of the pixels that the teacher calls landslide the surest
  share is labelled, and of those that it calls background the same share; the rest does not count (255). A class whose
  pixels are seldom or less sure is not drowned. On top, no label below a calibrated `confidence`.
- The share grows from one labelling to the next, as theirs does.
- The teacher is the student's moving average (Tarvainen and Valpola 2017) and sees patches as they are; the student sees
  them as the augmentation changes them, so it learns to be consistent.
- Each step takes a batch of the source too, which keeps what is known.

Confidence is calibrated on the source; under a shift it is too high where it matters most, and what the teacher is
wrong about and sure of, the student learns. Measured on simulated ground (CGNet trained shortly on one domain, another,
two seeds, 40 steps) it took F1 from 0.39 to 0.23 and from 0.22 to 0.15: a teacher with a precision of 0.33 and 0.13 calls
too much landslide, and the student more. So `SelfTraining.floor` refuses the worst of it, and nothing that comes of it is
published by itself.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import nn

from modeling.adaptation.judge import Judge
from modeling.adaptation.loop import Adapted, conclude, named, optimiser_state, part, restore_optimiser, run
from modeling.adaptation.result import copied
from modeling.adaptation.setting_up import identity, judge_for, loss_name
from modeling.adaptation.target import augmented
from modeling.data.augment import augmentation
from modeling.data.batches import IGNORE, Blocks, ByteArray, FloatArray, Sampler
from modeling.model import LandslideModel
from modeling.recipes import SelfTraining, rate
from modeling.training.feed import checked
from modeling.training.losses import loss, margin_of
from modeling.training.optimise import optimiser_for, set_rate
from modeling.training.progress import Tick

_BINS = 4096


def self_train(
    model: LandslideModel,
    source: Sampler,
    validation: Blocks,
    target: Blocks,
    folder: Path,
    how: SelfTraining,
    *,
    seed: int = 0,
    device: str = "auto",
    checkpoint_seconds: float = 60.0,
    tell: Callable[[Tick], None] | None = None,
) -> Adapted:
    """Adapt `model` to `target`, whose truth is not read, beside labelled batches and validation blocks of its source.

    `how` is a recipe, or one that was changed. The run can be stopped at any moment; the same call goes on from `folder`.
    The model that comes back is the teacher as `how.select_by` chose it, calibrated again on the source. Raises
    `DataError`, `WeightsError` and `ModelingError` as the parts do.
    """
    judge = judge_for(model, source, validation, target, how, seed=seed, device=device)
    learner = _Learner(judge, how, seed)
    finished = run(
        learner, judge, how, folder, identity(judge, asdict(how)),
        seed=seed, checkpoint_seconds=checkpoint_seconds, tell=tell,
    )  # fmt: skip
    return conclude(judge, how, finished, method="self-training", suffix="self-trained")


def balanced_labels(
    probability: FloatArray, known: ByteArray, *, portion: float, confidence: float
) -> tuple[ByteArray, dict[str, float]]:
    """Labels of the surest pixels of each class, `IGNORE` elsewhere, and the confidence from which each class is labelled.

    `probability` of landslide (patch, y, x), calibrated; `known` 0 where nothing was observed. A pixel belongs to the
    class of the higher probability; of each class's pixels the surest `portion` is labelled (ties at the limit are all
    in), none below `confidence`.
    """
    labels = np.full(probability.shape, IGNORE, np.uint8)
    limits = {}
    for code, name in ((0, "background"), (1, "landslide")):
        sure = probability if code else 1 - probability
        mine = (known > 0) & ((probability >= 0.5) == bool(code))
        limit = confidence
        if mine.any():
            # Counted in bins: a pool of megapixels needs no sorting.
            counts, edges = np.histogram(sure[mine], bins=_BINS, range=(0.5, 1.0))
            above = counts[::-1].cumsum()[::-1]
            limit = max(confidence, float(edges[:-1][above >= portion * above[0]][-1]))
        labels[mine & (sure >= limit)] = code
        limits[name] = limit
    return labels, limits


class _Learner:
    """Student, teacher and the labels of the pool: what `modeling.adaptation.loop.run` moves."""

    def __init__(self, judge: Judge, settings: SelfTraining, seed: int) -> None:
        self.judge, self.settings, self.seed = judge, settings, seed
        self.student = copied(judge.model).to(judge.device)
        for parameter in self.student.parameters():
            parameter.requires_grad_(True)
        self.teacher = copy.deepcopy(self.student)
        self.optimiser = optimiser_for(settings.optimiser, self.student)
        self.plan = settings.plan()
        self.loss = loss(loss_name(judge.model, settings.loss))
        self.sizes = augmentation(settings.augmentation)
        pool = judge.pool
        self.labels = torch.full((len(pool), pool.patch_px, pool.patch_px), IGNORE, dtype=torch.uint8)

    def step(self, number: int) -> dict[str, torch.Tensor]:
        """One batch of the source and one of the target."""
        settings, judge = self.settings, self.judge
        set_rate(self.optimiser, settings.optimiser.learning_rate * rate(settings.schedule, number, self.plan))
        every = max(settings.steps // settings.labellings, 1)
        if number % every == 0:
            self._label(min(number // every / max(settings.labellings - 1, 1), 1.0), first=number == 0)
        x, y = judge.source_batch(number)
        which = judge.pool.chosen(number, settings.batch, self.seed)
        rng = np.random.default_rng((self.seed, 23, number))
        drawn = augmented(judge.pool, self.labels.numpy(), which, self.sizes, rng)
        target_x, target_y = (each.to(judge.device) for each in checked(drawn, number, len(judge.model.channels)))

        judge.train(self.student)
        if settings.norms_of == "joint":
            both = judge.logits(self.student, torch.cat([x, target_x]))
            logits, target_logits = both[: len(x)], both[len(x) :]
        else:
            logits = judge.logits(self.student, x)
            target_logits = judge.logits(self.student, target_x)
        on_source = self.loss(logits, y, y != IGNORE)
        on_target = self.loss(target_logits, target_y, target_y != IGNORE)
        self.optimiser.zero_grad(set_to_none=True)
        (on_source + settings.target_weight * on_target).backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self._follow(number)
        return {"source": on_source, "target": on_target}

    def candidate(self) -> nn.Module:
        """The teacher."""
        return self.teacher

    def state(self) -> dict[str, torch.Tensor]:
        """Both networks, the optimiser and the labels."""
        return {
            **named("student.", self.student.state_dict()),
            **named("teacher.", self.teacher.state_dict()),
            **optimiser_state("optimiser", self.optimiser),
            "labels": self.labels,
        }

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """The inverse of `state`."""
        self.student.load_state_dict(part(state, "student."))
        self.teacher.load_state_dict(part(state, "teacher."))
        restore_optimiser("optimiser", self.optimiser, state)
        self.labels = state["labels"].clone()

    def _follow(self, number: int) -> None:
        """The teacher goes a little towards the student; its statistics are settled where it is used."""
        keep = min(self.settings.ema, (1 + number) / (10 + number))
        with torch.no_grad():
            for mine, other in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
                mine.lerp_(other, 1 - keep)

    def _label(self, progress: float, *, first: bool) -> None:
        """Label the pool with the teacher; the first time with the model exactly as it came."""
        judge, (low, high) = self.judge, self.settings.portion
        if not first:
            judge.settle(self.teacher, "target")
        probability, known = [], []
        for patches in judge.pool.passes(8):
            with torch.inference_mode():
                margin = margin_of(judge.logits(self.teacher.eval(), torch.from_numpy(patches).to(judge.device)))
                probability.append(torch.sigmoid(margin / judge.model.temperature).cpu().numpy())
            known.append(np.isfinite(patches).all(axis=1).astype(np.uint8))
        labels, _ = balanced_labels(
            np.concatenate(probability), np.concatenate(known),
            portion=low + (high - low) * progress, confidence=self.settings.confidence,
        )  # fmt: skip
        self.labels = torch.from_numpy(labels)
