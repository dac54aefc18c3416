"""Dong et al. 2024 (MSF-LiteNet, LDTL): does transfer in stages carry a network to a target with few labelled patches?

The paper prints scores of five networks on Hokkaido and Luding after its transfer, and what each network costs; scores
without the transfer are not known here, nor its stages in detail. So what the transfer is worth is measured against
everything that could take its place: the source model as it is, training on the few patches alone, fine-tuning without a
stage in between, the same ground without an order, ordinary instead of stronger augmentation, a frozen trunk, and, as
the upper end, all labelled ground of the target.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

import torch

from modeling import networks
from modeling.adaptation.freezing import modules_of
from modeling.adaptation.transfer import Stage, stages_of
from modeling.bands import band_set
from modeling.benchmark.plan import VALIDATIONS, Entry
from modeling.errors import DataError
from modeling.experiments.engine import Experiment, Finished, Run
from modeling.experiments.findings import Cell, Findings, Share, Statement, Table
from modeling.experiments.mixes import Mix, Part, whole
from modeling.experiments.scores import Arms, Result, chart_of_arms, difference, score
from modeling.experiments.setting import Setting
from modeling.experiments.work import Train, training_effort
from modeling.recipes import Transfer, adaptation
from modeling.scoring.complexity import Complexity, complexity
from modeling.scoring.evaluation_text import NAMES
from modeling.scoring.papers import COSTS, HIGHER_IS_BETTER, LARGE_MACS, claims, printed
from modeling.scoring.tables import percent

PAPER = "LDTL"
"""Its key in `modeling.scoring.papers`."""
RECIPE, ORDINARY, FROZEN = "ldtl", "ldtl-ordinary", "ldtl-frozen"
"""Recipes of the transfer, and of the arms that change one thing in it."""
FEW = 14
"""Labelled patches of the target that are trained on by default; 6 more of them choose the checkpoint: 20 in all."""
PRINTED = ("pa", "cpa", "iou", "miou")
"""The paper's metrics."""
ARMS: Mapping[str, str] = {
    "source": "the source model as it is",
    "few": "the few target patches alone, from random weights",
    "direct": "source, then the target lightly",
    "progressive": "source, in between, then the target lightly (LDTL)",
    "together": "source and in between at once, then the target lightly",
    "ordinary": "as LDTL, without the stronger augmentation",
    "frozen": "as LDTL, the trunk frozen on the target",
    "all": "all labelled ground of the target, from random weights",
}
"""Name -> what is trained on what."""


def plan(setting: Setting) -> Sequence[Run]:
    """The stages as runs of their own, so that all arms share what they begin from; seed by seed.

    Raises `DataError` when no tested domain has training ground, or there is only one domain.
    """
    if not targets_of(setting) or len(setting.domains) < 2:
        raise DataError(
            f"a target needs training ground and another domain to come from: trained on {', '.join(setting.domains)}, "
            f"tested on {', '.join(setting.tests)}"
        )
    made: dict[str, Run] = {}
    for seed in setting.seeds:
        for network in setting.networks:
            for target in targets_of(setting):
                for run in _runs(setting, network, target, seed):
                    made.setdefault(run.key, run)  # the source's run serves several targets
    return list(made.values())


def targets_of(setting: Setting) -> tuple[str, ...]:
    """The tested domains that have training ground, of which few patches are taken."""
    return tuple(domain for domain in setting.tests if domain in setting.domains)


def grounds_of(setting: Setting, target: str) -> tuple[str, tuple[str, ...]]:
    """The source and the domains in between of a target: the others in the setting's order."""
    first, *rest = (domain for domain in setting.domains if domain != target)
    return first, tuple(rest)


def keys_of(setting: Setting, network: str, target: str, seed: int) -> dict[str, str]:
    """Arm -> key of its last run."""
    source, between = grounds_of(setting, target)
    own = {arm: f"{network}--{target}-{arm}--seed{seed}" for arm in ARMS if arm != "source"}
    if not between:  # nothing to go through, so nothing to compare the way with
        own = {arm: own[arm] for arm in ("few", "direct", "ordinary", "frozen", "all")}
    return {"source": f"{network}--source-{source}--seed{seed}", **own}


def _runs(setting: Setting, network: str, target: str, seed: int) -> Iterator[Run]:
    source, between = grounds_of(setting, target)
    keys, few = keys_of(setting, network, target, seed), few_of(setting, target)

    def staged(name: str) -> list[Stage]:
        recipe = adaptation(name, Transfer)
        stages = stages_of(recipe, setting.steps, source=source, between=between, target=target)
        # As often as every run of an experiment.
        return [replace(stage, validations=VALIDATIONS) for stage in stages]

    first, *middle, light = staged(RECIPE)

    def run(key: str, stage: Stage, mix: Mix, start: str = "", tests: tuple[str, ...] = (target,)) -> Run:
        recipe = stage.recipe(setting.recipe(network))
        frozen = modules_of(recipe.network, *stage.freeze)
        work = Train(recipe, mix, seed, tests, start, frozen=frozen, channels=channels_of_paper(setting))
        effort = training_effort(network, stage.steps, mix, setting.source, tests, setting.patch_px)
        return Run(key, work, (start,) if start else (), effort)

    yield run(keys["source"], first, whole([source]), tests=targets_of(setting))
    yield run(keys["few"], first, few)
    yield run(keys["direct"], light, few, keys["source"])
    begin = keys["source"]
    for stage in middle:
        key = f"{network}--{target}-{stage.name}--seed{seed}"
        yield run(key, stage, whole([stage.ground]), begin)
        begin = key
    if middle:
        yield run(keys["progressive"], light, few, begin)
        at_once = replace(first, name="together", steps=sum(stage.steps for stage in (first, *middle)))
        both = f"{network}--{target}-at-once--seed{seed}"
        yield run(both, at_once, whole([source, *between]))
        yield run(keys["together"], light, few, both)
    yield run(keys["ordinary"], staged(ORDINARY)[-1], few, begin)
    yield run(keys["frozen"], staged(FROZEN)[-1], few, begin)
    yield run(keys["all"], first, whole([target]))


def few_of(setting: Setting, target: str) -> Mix:
    """The labelled patches of the target that fine-tuning gets."""
    count = setting.patches or FEW
    return Mix(f"{target}-{count}", (Part(target, count),))


def channels_of_paper(setting: Setting) -> tuple[str, ...]:
    """Red, green and blue after the event where the data have them, as in the paper; else all channels."""
    rgb = band_set("rgb").channels
    return rgb if set(rgb) <= set(setting.source.band_set().channels) else ()


def reduce(setting: Setting, found: Finished) -> Findings:
    """The arms on each target, the paper's table of networks beside ours, costs, and what holds."""
    arms: dict[tuple[str, str, str], list[Result]] = {}
    for network in setting.networks:
        for target in targets_of(setting):
            for seed in setting.seeds:
                for arm, key in keys_of(setting, network, target, seed).items():
                    if key in found:
                        arms.setdefault((network, target, arm), []).append(found[key])
    targets = targets_of(setting)
    tables = [_arms_table(setting, arms, target) for target in targets]
    tables += [_networks_table(setting, arms, target) for target in targets]
    statements = [each for target in targets for each in _transfers(setting, arms, target)]
    statements += list(_orderings(setting, arms))
    charts = tuple(chart_of_arms(f"to {target}", setting.networks, arms, target, tuple(ARMS)) for target in targets)
    return Findings((*tables, _costs(setting)), tuple(statements), charts, _notes(setting))


def _notes(setting: Setting) -> tuple[str, ...]:
    ways = "; ".join(
        f"{target}: from {(grounds := grounds_of(setting, target))[0]}"
        f"{' through ' + ', '.join(grounds[1]) if grounds[1] else ''}"
        for target in targets_of(setting)
    )
    few, transfer = setting.patches or FEW, adaptation(RECIPE, Transfer)
    between, light = transfer.leg("between"), transfer.leg("target")
    return (
        "The paper gives neither the order of the stages nor their lengths, learning rates or frozen layers: ours are an "
        f"intermediate stage of {between.share:g} times the steps at {between.rate_factor:g} times the learning rate, and a "
        f"last one of {light.share:g} times the steps at {light.rate_factor:g} times.",
        f"The way to each target: {ways}. The order is that of the domains as they were given, not chosen by any score.",
        f"Fine-tuning saw {few} labelled patches of the target and chose its checkpoint and threshold on "
        f"{round(few * 3 / 7)} more; the target's test ground was only scored.",
        "Progressive arms train for more steps than a source alone; `together` has the same number of them and the same "
        "ground, without an order, and is what the order has to be compared with.",
        f"Channels: {', '.join(channels_of_paper(setting)) or 'all that the data have'}. The paper's trunks began from "
        "ImageNet, ours from random weights, and its printed scores are of real images of other resolution.",
        "Of the paper no score without its transfer is known here, so none stands beside the arms.",
    )


def _arms_table(setting: Setting, arms: Arms, target: str) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for network in setting.networks:
        for arm, text in ARMS.items():
            if runs := arms.get((network, target, arm)):
                others = (Share(score(runs, name, target).value) for name in PRINTED)
                rows.append((f"`{network}`: {text}", score(runs, "f1", target), *others))
    head = ("trained on", "F1 [95 %]", *(NAMES[name] for name in PRINTED))
    return Table(
        f"With and without the transfer, {target}", head, tuple(rows), "Per cent, on the target's test ground."
    )


def _networks_table(setting: Setting, arms: Arms, target: str) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for network in (*setting.networks, *(name for name in _table_networks() if name not in setting.networks)):
        runs, theirs = arms.get((network, target, _last(arms, network, target))), printed(PAPER, target, network)
        ours: list[Cell] = [score(runs, name, target) if runs else None for name in PRINTED]
        beside: list[Cell] = [Share(theirs[name]) if name in theirs else None for name in PRINTED]
        if runs or theirs:
            rows.append((f"`{network}`", *(cell for pair in zip(ours, beside, strict=True) for cell in pair)))
    head = ("network", *(text for name in PRINTED for text in (f"{NAMES[name]} [95 %]", f"{NAMES[name]}, paper")))
    return Table(f"Networks after the transfer, {target}, beside the paper's table", head, tuple(rows), "Per cent.")


_COUNTED = (
    "3 channels, 2 classes; counted, not timed. The paper prints 32,947,226 parameters for FCN, which its layers do not "
    "give; what they give stands here."
)


def _costs(setting: Setting) -> Table:
    """Counted here, and the paper's figures; no training is needed for them."""
    (theirs,) = (table for table in COSTS if table.paper == PAPER)
    rows: list[tuple[Cell, ...]] = []
    for name in dict.fromkeys((*(Entry.parse(each).network for each in setting.networks), *theirs.rows)):
        small, large = _cost(name, 256), _cost(name, 2048)
        paper = theirs.rows.get(name, {})
        beside = [f"{value:,.0f}" if (value := paper.get("parameters")) else None]
        beside.append(f"{value / 1e6:,.3f}" if (value := paper.get("macs")) else None)
        beside.append(f"{value / 1e6:,.3f}" if (value := LARGE_MACS.get(name)) else None)
        ours = (f"{small.parameters:,}", f"{small.macs / 1e6:,.3f}", f"{large.macs / 1e6:,.3f}")
        rows.append((f"`{name}`", *(cell for pair in zip(ours, beside, strict=True) for cell in pair)))
    names = ("parameters", "M MAC at 256", "M MAC at 2048")
    head = ("network", *(text for name in names for text in (name, f"{name}, paper")))
    return Table("What the networks cost", head, tuple(rows), _COUNTED)


@lru_cache(maxsize=64)
def _cost(name: str, side_px: int) -> Complexity:
    with torch.device("meta"):
        network = networks.create(name, in_channels=3, classes=2)
    return complexity(network, (3, side_px, side_px))


def _transfers(setting: Setting, arms: Arms, target: str) -> Iterator[Statement]:
    comparisons = (
        ("the transfer beats training on the few patches alone", "", "few"),
        ("the transfer beats the source model as it is", "", "source"),
        ("a stage in between helps", "progressive", "direct"),
        ("the order helps: stages one after the other beat all their ground at once (our question)", "", "together"),
        ("stronger augmentation on the target helps", "", "ordinary"),
        ("training all of the network beats a frozen trunk (our question)", "", "frozen"),
    )
    for network in setting.networks:
        last = _last(arms, network, target)
        for what, better, worse in comparisons:
            first, second = arms.get((network, target, better or last)), arms.get((network, target, worse))
            says = f"{target}: {what}"
            if not first or not second or (better or last) == worse:
                yield Statement(says, None, f"`{network}`: one of the two did not take part")
                continue
            how = f"`{network}`: F1 of {better or last} minus {worse}, on {target}"
            yield Statement(says, difference(first, second, "f1", target), how)


def _orderings(setting: Setting, arms: Arms) -> Iterator[Statement]:
    """Which network is better after the transfer, by every printed metric; those that did not take part in one line."""
    absent: Counter[str] = Counter()
    for claim in claims():
        if claim.paper != PAPER or claim.metric not in HIGHER_IS_BETTER:
            continue
        better, worse = (
            arms.get((network, claim.domain, _last(arms, network, claim.domain)))
            for network in (claim.better, claim.worse)
        )
        if not better or not worse:
            absent[claim.where] += 1
            continue
        says = (
            f"{claim.where}: `{claim.better}` is better than `{claim.worse}` by {percent(claim.gain)} points of "
            f"{NAMES[claim.metric]}"
        )
        measured = difference(better, worse, claim.metric, claim.domain)
        yield Statement(says, measured, f"both after the transfer to {claim.domain}")
    for where, count in absent.items():
        how = "one of the two networks, or the region, did not take part: name them with --network and --domains"
        yield Statement(f"{where}: {count} orderings of two networks by a metric", None, how)


def _last(arms: Arms, network: str, target: str) -> str:
    """The arm that stands for the transfer: with the stages in between, where there are any."""
    return "progressive" if (network, target, "progressive") in arms else "direct"


def _table_networks() -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for table in COSTS if table.paper == PAPER for name in table.rows))


EXPERIMENT = Experiment(
    name="dong2024",
    paper="Dong et al. 2024 (MSF-LiteNet, LDTL)",
    asks="Does transfer in stages (source, in between, few patches of the target) map a target better than what could take "
    "its place, and which of the paper's networks is best after it, at which cost?",
    networks=("msf-litenet",),
    plan=plan,
    reduce=reduce,
    domains=("jiuzhaigou", "iburi", "luding"),
    tests=("iburi", "luding"),
)
"""The paper's tables of Hokkaido, Luding and cost; `--network msf-litenet,fcn,deeplabv3,vgg-unet,resunet-r50` for all rows."""
