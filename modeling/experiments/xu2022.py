"""Xu et al. 2022 (MFFENet, ADANet): a source model as it is against adversarial adaptation to an unlabelled target.

The adaptation sees images of the target's training ground and never their labels; it is scored on the target's test
ground. Two things happen in it besides the discriminators: batch-norm statistics become the target's, and training on
the source goes on. So two more arms stand beside it: the statistics alone, and the same training with the adversarial
weights at zero. The upper end is a network trained on the target's labels. No score of the paper is known here
(`modeling.scoring.papers`), so its claim stands without figures.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from modeling.adaptation.adversarial import adapt_adversarial
from modeling.adaptation.norms import adapt_norms
from modeling.bands import BandSet
from modeling.benchmark.plan import VALIDATIONS, Entry
from modeling.data.batches import IGNORE, Block
from modeling.data.pieces import Pieces
from modeling.errors import DataError
from modeling.experiments.engine import Desk, Effort, Experiment, Finished, Run
from modeling.experiments.findings import Amount, Cell, Findings, Share, Statement, Table
from modeling.experiments.mixes import Mix, Part, whole
from modeling.experiments.scores import Arms, Result, chart_of_arms, difference, score
from modeling.experiments.setting import Setting
from modeling.experiments.work import Train, test_model, training_effort
from modeling.recipes import Adversarial, Recipe, adaptation
from modeling.scoring.evaluation_text import NAMES
from modeling.scoring.papers import PAPERS, printed
from modeling.training.progress import Tick

PAPER = "MFFENet"
"""Its key in `modeling.scoring.papers`."""
METRICS = ("precision", "recall", "iou", "pa", "miou")
"""Beside F1."""
SHARE = 0.5
"""Steps of an adaptation, as a share of those of the source's training (ours)."""
ARMS: Mapping[str, str] = {
    "source": "the source model as it is",
    "norms": "batch-norm statistics of the target, nothing trained",
    "continued": "as ADANet with adversarial weights of zero: statistics of the target and more training on the source",
    "adversarial": "ADANet: two discriminators on the unlabelled target",
    "labels": "trained on the target's labels, as an upper end",
}
"""Name -> what is done."""
_RECIPES = {"continued": "adanet-control", "adversarial": "adanet"}
_STEP = 3.0  # steps of training that one of adaptation costs: both grounds, and two discriminators


@dataclass(frozen=True)
class Unlabelled:
    """Patches as `Blocks` of which nobody can learn a label: no truth, and an order that does not follow from it."""

    pieces: Pieces
    """With and without landslides in turn, as data sets order them."""
    band_set: BandSet
    """The channels of a block."""

    def __len__(self) -> int:
        return len(self.pieces)

    def __iter__(self) -> Iterator[Block]:
        names = [self.pieces.block(index, self.band_set).name for index in range(len(self.pieces))]
        for index in sorted(range(len(names)), key=names.__getitem__):
            block = self.pieces.block(index, self.band_set)
            yield replace(block, truth=np.full_like(block.truth, IGNORE))


@dataclass(frozen=True)
class Adapt:
    """Adapt a kept source model to a target without its labels, and test it there."""

    arm: str
    """`norms`, `continued` or `adversarial`."""
    recipe: Recipe
    """Of the source model: its loss, augmentation, batch and patches are those of the source's batches."""
    mix: Mix
    """The source's labelled ground, whose validation part chooses the checkpoint and the threshold."""
    target: str
    """Domain whose training ground is seen without labels."""
    tests: tuple[str, ...]
    """Domains whose test part it is scored on."""
    steps: int
    """Of the adaptation."""
    seed: int
    """Of batches, discriminators and noise."""
    start: str
    """Key of the run whose model is adapted."""

    def __call__(self, desk: Desk) -> dict[str, Any]:
        """Adapt; returns how it went and the evaluation."""
        model, recipe = desk.model(self.start), self.recipe
        ground = Unlabelled(desk.source.pieces("training", self.target, recipe.patch_px), model.bands)
        result: dict[str, Any] = {"network": recipe.network, "arm": self.arm, "target": self.target, "seed": self.seed}
        if self.arm == "norms":
            adapted = adapt_norms(
                model, ground, patch_px=recipe.patch_px, batch=recipe.batch, seed=self.seed, device=desk.device
            )
            return {**result, **test_model(adapted, desk, self.tests)}
        # Length, batch and validations are those of the experiment; loss and augmentation go on as the source's were.
        how = replace(
            adaptation(_RECIPES[self.arm], Adversarial), steps=self.steps, batch=recipe.batch, validations=VALIDATIONS,
            loss=recipe.loss, augmentation=recipe.augmentation,
        )  # fmt: skip

        def tell(tick: Tick) -> None:
            desk.tell(tick.step, tick.steps)

        found = adapt_adversarial(
            model,
            self.mix.sampler(
                desk.source, model.bands, batch=recipe.batch, patch_px=recipe.patch_px, seed=self.seed,
                augmentation=how.augmentation,
            ),
            self.mix.validation(desk.source, model.bands, patch_px=recipe.patch_px),
            ground,
            desk.scratch,
            how,
            seed=self.seed,
            device=desk.device,
            tell=tell,
        )  # fmt: skip
        course = [{"step": each.step, "source_f1": each.source_f1, **each.losses} for each in found.moments]
        told = {"chosen_step": found.chosen_step, "kept_start": found.kept_start, "course": course}
        return {**result, **told, **test_model(found.model, desk, self.tests)}


def source_and_targets(setting: Setting) -> tuple[str, tuple[str, ...]]:
    """The first domain is the source; the further ones that are tested are targets. Raises `DataError` without one."""
    source, *others = setting.domains
    targets = tuple(domain for domain in others if domain in setting.tests)
    if not targets:
        raise DataError(
            f"the first domain, {source}, is the source, and none of the others ({', '.join(others) or 'none'}) is tested: "
            "give --domains SOURCE,TARGET and --tests TARGET"
        )
    return source, targets


def mix_of(setting: Setting, domain: str) -> Mix:
    """All training ground of a domain, or the setting's number of patches."""
    if not setting.patches:
        return whole([domain])
    return Mix(f"{domain}-{setting.patches}", (Part(domain, setting.patches),))


def plan(setting: Setting) -> Sequence[Run]:
    """The source model, then what is made of it for each target, seed by seed."""
    source, targets = source_and_targets(setting)
    mix, steps = mix_of(setting, source), math.ceil(SHARE * setting.steps)
    runs = []
    for seed in setting.seeds:
        for network in setting.networks:
            recipe = setting.recipe(network)
            begin = run_key(network, source, "source", seed)
            effort = training_effort(network, setting.steps, mix, setting.source, setting.tests, setting.patch_px)
            runs.append(Run(begin, Train(recipe, mix, seed, setting.tests), effort=effort))
            for target in targets:
                for arm in ("norms", "continued", "adversarial"):
                    work = Adapt(arm, recipe, mix, target, (target,), steps, seed, begin)
                    own = 0 if arm == "norms" else math.ceil(_STEP * steps)
                    seen = training_effort(network, own, mix, setting.source, (target,), setting.patch_px)
                    runs.append(
                        Run(run_key(network, target, arm, seed), work, (begin,), Effort(network, own, seen.patches))
                    )
                upper = mix_of(setting, target)
                effort = training_effort(network, setting.steps, upper, setting.source, (target,), setting.patch_px)
                runs.append(
                    Run(run_key(network, target, "labels", seed), Train(recipe, upper, seed, (target,)), effort=effort)
                )
    return runs


def run_key(network: str, domain: str, arm: str, seed: int) -> str:
    """Of a run."""
    return f"{network}--{domain}-{arm}--seed{seed}"


def reduce(setting: Setting, found: Finished) -> Findings:
    """The arms on each target, how each adaptation went, and what holds."""
    source, targets = source_and_targets(setting)
    arms: dict[tuple[str, str, str], Sequence[Result]] = {}
    for network in setting.networks:
        for target in targets:
            for arm in ARMS:
                domain = source if arm == "source" else target
                keys = [run_key(network, domain, arm, seed) for seed in setting.seeds]
                if runs := [found[key] for key in keys if key in found]:
                    arms[network, target, arm] = runs
    tables = [_scores(setting, arms, source, target) for target in targets]
    tables.append(_course(arms, source))
    charts = tuple(
        chart_of_arms(f"from {source} to {target}", setting.networks, arms, target, tuple(ARMS)) for target in targets
    )
    networks = sorted({Entry.parse(name).network for name in setting.networks} - {"mffenet"})
    notes = (
        f"{PAPERS[PAPER].citation}: no printed score of it is known here, so none stands beside ours.",
        f"An adaptation takes {SHARE:.0%} of the steps of the source's training (ours). Its checkpoint, temperature and "
        "threshold come from the source's validation part: the target's labels are never read but for the final score.",
        "Where the source's F1 falls by more than the floor, the source's model is kept, and so no gain is possible.",
        "The discriminators' rates and weights are the release's, made for MFFENet with a pre-trained trunk"
        + (f"; {', '.join(networks)} takes them as they are." if networks else "."),
    )
    return Findings(tuple(tables), tuple(_statements(setting, arms, targets)), charts, notes)


def _scores(setting: Setting, arms: Arms, source: str, target: str) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for network in setting.networks:
        for arm, text in ARMS.items():
            if runs := arms.get((network, target, arm)):
                gain = _minus_source(arms, network, target, arm)
                others = (Share(score(runs, name, target).value) for name in METRICS)
                rows.append((f"`{network}`: {text}", score(runs, "f1", target), gain, *others))
        if theirs := printed(PAPER, target, Entry.parse(network).network):
            beside = (Share(theirs[name]) if name in theirs else None for name in METRICS)
            rows.append((f"the paper: `{network}`", Share(theirs["f1"]) if "f1" in theirs else None, None, *beside))
    head = ("what is done", "F1 [95 %]", "F1 minus the source model's [95 %]", *(NAMES[name] for name in METRICS))
    note = f"Per cent, on the test ground of {target}; adapted to other ground of it, without labels."
    return Table(f"From {source} to {target}", head, tuple(rows), note)


def _minus_source(arms: Arms, network: str, target: str, arm: str) -> Cell:
    start = arms.get((network, target, "source"))
    if not start or arm == "source":
        return None
    return difference(arms[network, target, arm], start, "f1", target)


def _course(arms: Arms, source: str) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for (network, target, arm), runs in arms.items():
        for run in runs:
            if course := run.get("course"):
                before, after = course[0]["source_f1"], course[-1]["source_f1"]
                kept = "the source model" if run["kept_start"] else f"step {run['chosen_step']}"
                name = f"`{network}` to {target}, {arm}, seed {run['seed']}"
                rows.append((name, Share(before), Share(after), kept, Amount(course[-1].get("discriminators", 0.0))))
    head = ("adaptation", f"F1 on {source} before", "after", "kept", "discriminators' last loss")
    note = (
        "F1 at probability 0.5 on the source's validation part. Two discriminators that cannot tell the grounds apart have "
        "a loss of 2 ln 2 = 1.386 together; far below it they can."
    )
    return Table("How the adaptations went", head, tuple(rows), note)


def _statements(setting: Setting, arms: Arms, targets: Sequence[str]) -> Iterator[Statement]:
    comparisons = (
        ("adversarial adaptation beats the source model on the unlabelled target", "adversarial", "source"),
        (
            "it is the adversary that helps, not more training and new statistics (our question)",
            "adversarial",
            "continued",
        ),
        ("it beats new batch-norm statistics alone (our question)", "adversarial", "norms"),
        ("it is as good as labels of the target (our question)", "adversarial", "labels"),
    )
    for network in setting.networks:
        for target in targets:
            for says, better, worse in comparisons:
                first, second = arms.get((network, target, better)), arms.get((network, target, worse))
                if not first or not second:
                    yield Statement(f"{target}: {says}", None, f"`{network}`: one of the two did not take part")
                    continue
                how = f"`{network}`: F1 of {better} minus {worse}, on {target}"
                yield Statement(f"{target}: {says}", difference(first, second, "f1", target), how)


EXPERIMENT = Experiment(
    name="xu2022",
    paper="Xu et al. 2022 (MFFENet, ADANet)",
    asks="Does adversarial adaptation to images of a target without labels map it better than the source model, and is it "
    "the adversary that helps?",
    networks=("msf-litenet",),
    plan=plan,
    reduce=reduce,
    domains=("jiuzhaigou", "iburi", "luding"),
    tests=("iburi", "luding"),
)
"""ADANet for the cheapest network; `--network mffenet` for the paper's own, ten times as slow."""
