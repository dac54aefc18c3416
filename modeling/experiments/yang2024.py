"""Yang et al. 2024 (ResU-SENet): training mixes of two regions, tested on both and on regions never seen.

Tables V, VII, VIII and IX: ResU-Net and ResU-SENet trained on 700/0, 500/200, 350/350, 200/500 and 0/700 patches of Iburi
and Jiuzhaigou, tested on Iburi, Jiuzhaigou, Palu and Luding. Tables XI and XII: the squared MMD, band by band, between
each mix and the unseen regions; the mix with the smallest mean is the one to take. Of the first tables only some rows
are known here (`modeling.scoring.papers`); of the MMD tables none, so the distances stand alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from scipy.stats import spearmanr

from modeling.benchmark.compare import Estimate
from modeling.domains.fingerprint import fingerprint_of
from modeling.domains.mmd import distances_between
from modeling.experiments.engine import Desk, Experiment, Finished, Run
from modeling.experiments.findings import Amount, Cell, Chart, Findings, Share, Statement, Table
from modeling.experiments.mixes import Mix, mix_of, proportions
from modeling.experiments.scores import OBJECT_F1, Result, difference, mean, score
from modeling.experiments.setting import Setting
from modeling.experiments.work import Train, channels_of, training_effort
from modeling.scoring.evaluation_text import NAMES
from modeling.scoring.papers import SINGLES, claims, printed
from modeling.scoring.tables import percent

PAPER = "ResU-SENet"
"""Its key in `modeling.scoring.papers`."""
PRINTED = ("precision", "recall", "f1", "mcc", "iou")
"""The paper's metrics."""
ROWS = 2000
"""Pixels of each sample that distances are measured between."""


@dataclass(frozen=True)
class Distances:
    """Measure how far a region lies from each training mix; its truth is never read."""

    target: str
    """The region."""
    mixes: tuple[Mix, ...]
    """What models are trained on."""
    patch_px: int
    """Side of the mixes' patches."""
    rows: int = ROWS
    """Pixels of a sample."""
    seed: int = 0
    """Of the samples."""

    def __call__(self, desk: Desk) -> dict[str, Any]:
        """Mix -> mean and bands of the squared MMD, with standard errors."""
        bands = channels_of(desk.source)
        there = fingerprint_of(
            desk.source.blocks("test", bands, [self.target]), bands.channels, rows=self.rows, seed=self.seed
        )
        found = {}
        for done, mix in enumerate(self.mixes):
            desk.tell(done, len(self.mixes), mix.name)
            training = mix.training(desk.source, bands, patch_px=self.patch_px)
            here = fingerprint_of(training, bands.channels, rows=self.rows, seed=self.seed)
            apart = distances_between(
                here.values, there.values, bands.channels, groups_x=here.groups, groups_y=there.groups, joint=False
            )
            found[mix.name] = {
                "mean": apart.mean,
                "mean_error": apart.mean_error,
                "bands": {name: [each.squared, each.error] for name, each in apart.bands.items()},
            }
        desk.tell(len(self.mixes), len(self.mixes))
        return {"target": self.target, "mmd2": found}


@dataclass(frozen=True)
class Pick:
    """What MMD picks for a region that no mix holds, and what is best there."""

    network: str
    """That was trained on the mixes."""
    target: str
    """The region."""
    picked: str
    """The mix with the smallest mean distance."""
    best: str
    """The mix with the highest F1."""
    gain: Estimate
    """F1 of the pick minus that of the best of the others."""
    correlation: float
    """Spearman's, of distance and F1 over the mixes; -1 when the nearest is the best throughout."""


def mixes_of(setting: Setting) -> tuple[Mix, ...]:
    """The setting's mixes, or the paper's five of every two of its domains; of one domain that alone."""
    if setting.mixes:
        return setting.mixes
    total, domains = setting.patches or EXPERIMENT.patches, setting.domains
    if len(domains) == 1:
        return (mix_of([(domains[0], total)]),)
    pairs = [proportions(first, second, total, domains) for first, second in combinations(domains, 2)]
    return tuple(dict.fromkeys(mix for five in pairs for mix in five))


def plan(setting: Setting) -> Sequence[Run]:
    """Distances to every tested region, then networks on mixes, seed by seed."""
    mixes = mixes_of(setting)
    measured = [Run(distance_key(target), Distances(target, mixes, setting.patch_px)) for target in setting.tests]
    trained = [
        Run(
            run_key(network, mix, seed),
            Train(setting.recipe(network), mix, seed, setting.tests),
            effort=training_effort(network, setting.steps, mix, setting.source, setting.tests, setting.patch_px),
        )
        for seed in setting.seeds
        for network in setting.networks
        for mix in mixes
    ]
    return [*measured, *trained]


def check(setting: Setting) -> None:
    """Raise `DataError` for a mix that takes more patches than there are."""
    for mix in mixes_of(setting):
        mix.require(setting.source, setting.patch_px)


def run_key(network: str, mix: Mix, seed: int) -> str:
    """Of a training run."""
    return f"{network}--{mix.name}--seed{seed}"


def distance_key(target: str) -> str:
    """Of the distances to a region."""
    return f"mmd--{target}"


def reduce(setting: Setting, found: Finished) -> Findings:
    """The paper's tables, ours with intervals and the paper's rows beside, and its statements."""
    arms = {
        (network, mix.name): runs
        for network in setting.networks
        for mix in mixes_of(setting)
        if (runs := [found[key] for seed in setting.seeds if (key := run_key(network, mix, seed)) in found])
    }
    picks = list(_picks(setting, found, arms))
    tables = [_overview(setting, arms)]
    tables += [_scores(setting, arms, target) for target in setting.tests]
    tables += [_distances(setting, found[distance_key(target)], target) for target in setting.tests
               if distance_key(target) in found]  # fmt: skip
    tables += [_picked(picks)] if picks else []
    statements = [*_orderings(setting, arms), *_mixing(setting, arms), *_picking(setting, picks)]
    charts = tuple(_chart(setting, arms, target) for target in setting.tests)
    return Findings(tuple(tables), tuple(statements), charts, _NOTES)


_NOTES = (
    "On which mix the paper's rows for Iburi and Jiuzhaigou were trained is not known here; orderings of two networks are "
    "compared for the mix that holds nothing but the tested region.",
    "700 samples are read as training patches, and the 7:3 split as 300 more to validate on, in the same proportions and "
    "on ground apart. The mixes are nested: the 200 patches of one are part of the 500 of another.",
    "The squared MMD is unbiased, so it may be slightly negative; its kernel is not stated in the paper (five Gaussians "
    "here), nor are its printed distances known here. Target regions are sampled without looking at their truth.",
    "Whether a pick is the best is compared with the mix that scored best of the others, which was itself chosen by its "
    "score: a small lead of that one is partly chance.",
)


def _overview(setting: Setting, arms: Mapping[tuple[str, str], Sequence[Result]]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (f"`{network}` on {mix}", *(score(runs, "f1", target) for target in setting.tests))
        for (network, mix), runs in arms.items()
    ]
    head = ("trained", *(f"{target}{_unseen(setting, target)}" for target in setting.tests))
    return Table("F1 of every mix in every region (Tables V, VII, VIII, IX)", head, tuple(rows), "Pixel F1, per cent.")


def _scores(setting: Setting, arms: Mapping[tuple[str, str], Sequence[Result]], target: str) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (
            f"`{network}` on {mix}", score(runs, "f1", target),
            *(Share(mean(runs, name, target)) for name in PRINTED if name != "f1"),
            score(runs, OBJECT_F1, target),
        )
        for (network, mix), runs in arms.items()
    ]  # fmt: skip
    for network in EXPERIMENT.networks:
        values = printed(PAPER, target, network)
        if values:
            theirs = [Share(values[name]) if name in values else None for name in PRINTED if name != "f1"]
            mix = next((each.mix for each in SINGLES if each.paper == PAPER and each.domain == target), "")
            rows.append((f"the paper: `{network}`{f' on {mix}' if mix else ''}", Share(values["f1"]), *theirs, None))
    head = ("trained", "F1 [95 %]", *(NAMES[name] for name in PRINTED if name != "f1"), "landslides F1 [95 %]")
    return Table(
        f"Tested on {target}{_unseen(setting, target)}", head, tuple(rows), "Per cent; counts over all ground."
    )


def _distances(setting: Setting, result: Mapping[str, Any], target: str) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for mix, apart in result["mmd2"].items():
        bands: list[Cell] = [Amount(squared, error) for squared, error in apart["bands"].values()]
        rows.append((mix, Amount(apart["mean"], apart["mean_error"]), *bands))
    names = list(next(iter(result["mmd2"].values()))["bands"])
    note = "Squared MMD, unbiased, ± its standard error; five Gaussian kernels. No label of the region was read."
    title = f"Distance of each mix to {target}{_unseen(setting, target)} (as Tables XI, XII)"
    return Table(title, ("mix", "mean", *names), tuple(rows), note)


def _picked(picks: Sequence[Pick]) -> Table:
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (f"`{each.network}` on {each.target}", each.picked, each.best, each.gain, Amount(each.correlation, digits=2))
        for each in picks
    )
    head = ("network and region", "MMD picks", "best F1", "pick minus the best other [95 %]", "Spearman of MMD² and F1")
    return Table("What MMD picks for regions that no mix holds", head, rows, "Differences in points of F1.")


def _orderings(setting: Setting, arms: Mapping[tuple[str, str], Sequence[Result]]) -> Iterator[Statement]:
    """Which network is better on a region that it was trained on, by every printed metric."""
    for claim in claims():
        if claim.paper != PAPER:
            continue
        says = (
            f"{claim.where}: `{claim.better}` is better than `{claim.worse}` by {percent(claim.gain)} points of "
            f"{NAMES[claim.metric]}"
        )
        mix = next((each.name for each in mixes_of(setting) if each.domains == (claim.domain,)), "")
        better, worse = arms.get((claim.better, mix)), arms.get((claim.worse, mix))
        if not better or not worse or claim.domain not in setting.tests:
            yield Statement(says, None, "one of the two, or the region, did not take part")
            continue
        how = f"both trained on {mix}, tested on {claim.domain}"
        yield Statement(says, difference(better, worse, claim.metric, claim.domain), how)


def _mixing(setting: Setting, arms: Mapping[tuple[str, str], Sequence[Result]]) -> Iterator[Statement]:
    """The mix that the paper prints for an unseen region, against the best of the others."""
    for single in SINGLES:
        if single.paper != PAPER or not single.mix:
            continue
        says = f"{single.mix} is the mix to take for {single.domain}: its F1 {percent(single.scores['f1'])} is what is printed"
        runs = arms.get((single.network, single.mix))
        others = {mix: each for (network, mix), each in arms.items() if network == single.network and mix != single.mix}
        if not runs or not others or single.domain not in setting.tests:
            yield Statement(says, None, f"`{single.network}` on {single.mix}, or the region, did not take part")
            continue
        rival = max(others, key=lambda mix: mean(others[mix], "f1", single.domain))
        gain = difference(runs, others[rival], "f1", single.domain)
        yield Statement(says, gain, f"F1 of {single.mix} minus that of {rival}, the best of the other mixes")


def _picking(setting: Setting, picks: Sequence[Pick]) -> Iterator[Statement]:
    says = "The mix that MMD picks is the best one on {}" + ", as Ib700 is on Luding (F1 74.3)"
    if not picks:
        yield Statement(
            says.format("an unseen region"), None, "no unseen region was tested, or no two mixes are finished"
        )
    for each in picks:
        text = says.format(each.target)
        how = (
            f"`{each.network}`: F1 of {each.picked}, which MMD picks, minus the best of the other mixes, on {each.target}"
            f"{'' if each.picked == each.best else f'; {each.best} is the best'}"
        )
        yield Statement(text, each.gain, how)


def _picks(setting: Setting, found: Finished, arms: Mapping[tuple[str, str], Sequence[Result]]) -> Iterator[Pick]:
    for target in setting.tests:
        if not _unseen(setting, target) or distance_key(target) not in found:
            continue
        apart = {mix: float(each["mean"]) for mix, each in found[distance_key(target)]["mmd2"].items()}
        for network in setting.networks:
            runs = {mix: arms[network, mix] for mix in apart if (network, mix) in arms}
            if len(runs) < 2:
                continue
            f1 = {mix: mean(each, "f1", target) for mix, each in runs.items()}
            picked, best = min(runs, key=lambda mix: apart[mix]), max(f1, key=lambda mix: f1[mix])
            rival = max((mix for mix in f1 if mix != picked), key=lambda mix: f1[mix])
            gain = difference(runs[picked], runs[rival], "f1", target)
            yield Pick(network, target, picked, best, gain, _spearman([apart[mix] for mix in runs], list(f1.values())))


def _spearman(one: Sequence[float], other: Sequence[float]) -> float:
    """Rank correlation; 0 where all values of a side are equal."""
    if len(set(one)) == 1 or len(set(other)) == 1:
        return 0.0
    return round(float(spearmanr(one, other).statistic), 6)


def _chart(setting: Setting, arms: Mapping[tuple[str, str], Sequence[Result]], target: str) -> Chart:
    mixes = tuple(mix.name for mix in mixes_of(setting))
    series = {
        network: tuple(score(runs, "f1", target) if (runs := arms.get((network, mix))) else None for mix in mixes)
        for network in setting.networks
    }
    theirs = {
        network: tuple(_printed_f1(setting, target, network, mix) for mix in mixes_of(setting))
        for network in setting.networks
    }
    return Chart(f"tested on {target}{_unseen(setting, target)}", mixes, series, theirs)


def _printed_f1(setting: Setting, target: str, network: str, mix: Mix) -> float | None:
    """The paper's F1 where it belongs to this mix; rows whose mix is not known stand at the region's own mix."""
    values = printed(PAPER, target, network)
    single = next((each for each in SINGLES if each.paper == PAPER and each.domain == target), None)
    theirs = mix.domains == (target,) if single is None else mix.name == single.mix
    return values.get("f1") if theirs else None


def _unseen(setting: Setting, target: str) -> str:
    return "" if any(target in mix.domains for mix in mixes_of(setting)) else ", unseen"


EXPERIMENT = Experiment(
    name="yang2024",
    paper="Yang et al. 2024 (ResU-SENet)",
    asks="Does a network that was trained on two regions map a third one better than one of a single region, and does the "
    "distance of the training mix to the region (MMD) say which one to take?",
    networks=("resu-net", "resu-senet"),
    plan=plan,
    reduce=reduce,
    check=check,
    patches=700,
    batch=5,
)
"""Tables V, VII, VIII, IX, XI and XII."""
