"""Xing et al. 2026 (ResU-CBNet): optical bands alone against optical and terrain, and the terrain factors one by one.

The paper states what terrain is worth in its own scenes (PA, CPA, F1, mIoU) and what the network with terrain reaches in
two scenes never seen, not which terrain factors it takes. Here each factor that the data have is added to the optical bands
by itself, and then all of them together. Simulated regions come with slope and hillshade; elevation, aspect, two curvatures,
relief and wetness are computed for this experiment and stored beside them (`modeling.experiments.terrain`). Other data are
taken as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from modeling.benchmark.compare import Estimate
from modeling.benchmark.data import TERRAIN, without_terrain
from modeling.benchmark.plan import Entry
from modeling.errors import DataError
from modeling.experiments.engine import Desk, Experiment, Finished, Run
from modeling.experiments.findings import Cell, Chart, Findings, Share, Statement, Table
from modeling.experiments.mixes import Mix, Part, whole
from modeling.experiments.scores import EVERYWHERE, OBJECT_F1, Result, difference, score
from modeling.experiments.setting import Setting
from modeling.experiments.terrain import Prepare, with_terrain
from modeling.experiments.work import Train, training_effort
from modeling.scoring.evaluation_text import NAMES
from modeling.scoring.papers import SINGLES, claims
from modeling.scoring.tables import percent

PAPER = "ResU-CBNet"
"""Its key in `modeling.scoring.papers`."""
FACTORS: Mapping[str, tuple[str, ...]] = {
    "slope": ("slope",),
    "hillshade": ("hillshade",),
    "elevation": ("elevation",),
    "aspect": ("aspect", "aspect_north", "aspect_east"),
    "plan curvature": ("plan_curvature",),
    "profile curvature": ("profile_curvature",),
    "relief": ("relief",),
    "wetness": ("twi",),
}
"""Factor -> its channels, those of the data that are there; terrain of other names is a factor each."""
PRINTED = ("pa", "cpa", "f1", "miou")
"""The paper's metrics."""
OPTICAL, ALL = "optical", "all"
"""Arms without terrain, and with every factor that there is."""


TERRAIN_KEY = "terrain"
"""Key of the run that adds terrain factors to simulated regions."""


@dataclass(frozen=True)
class TrainWithTerrain:
    """Train and test on ground with all terrain factors there are."""

    train: Train
    """What is done there."""

    def __call__(self, desk: Desk) -> Mapping[str, Any]:
        """As `Train`."""
        return self.train(replace(desk, source=with_terrain(desk.source)))


def plan(setting: Setting) -> Sequence[Run]:
    """Every arm with every seed; raises `DataError` when the data have no terrain."""
    mix, seen = mix_of(setting), tuple(setting.tests)
    extended = with_terrain(setting.source) is not setting.source
    runs = [Run(TERRAIN_KEY, Prepare())] if extended else []
    for seed in setting.seeds:
        for network in setting.networks:
            for arm, channels in arms_of(setting).items():
                train = Train(setting.recipe(network), mix, seed, seen, channels=channels)
                effort = training_effort(network, setting.steps, mix, setting.source, seen, setting.patch_px)
                needs = (TERRAIN_KEY,) if extended else ()
                runs.append(Run(run_key(network, arm, seed), TrainWithTerrain(train), needs, effort))
    return runs


def arms_of(setting: Setting) -> dict[str, tuple[str, ...]]:
    """Arm -> its channels: optical alone, with each factor, with all of them."""
    every = with_terrain(setting.source).band_set()
    optical = without_terrain(every).channels
    factors = factors_of(setting)
    single = {f"+{factor}": (*optical, *channels) for factor, channels in factors.items()} if len(factors) > 1 else {}
    return {OPTICAL: optical, **single, ALL: every.channels}


def factors_of(setting: Setting) -> dict[str, tuple[str, ...]]:
    """Factor -> its channels in the data; raises `DataError` when there is none."""
    there = tuple(each for each in with_terrain(setting.source).band_set().channels if each.lower() in TERRAIN)
    known = {factor: tuple(each for each in there if each in channels) for factor, channels in FACTORS.items()}
    others = {each: (each,) for each in there if not any(each in channels for channels in FACTORS.values())}
    found = {factor: channels for factor, channels in {**known, **others}.items() if channels}
    if not found:
        raise DataError(f"the data have no terrain ({', '.join(sorted(TERRAIN))}), so its worth cannot be measured")
    return found


def mix_of(setting: Setting) -> Mix:
    """All domains that are trained on, or so many patches of them, the same number of each."""
    if not setting.patches:
        return whole(setting.domains)
    each, rest = divmod(setting.patches, len(setting.domains))
    parts = [Part(domain, each + (number < rest)) for number, domain in enumerate(setting.domains)]
    return Mix(f"mix-{setting.patches}", tuple(part for part in parts if part.patches))


def run_key(network: str, arm: str, seed: int) -> str:
    """Of a training run."""
    return f"{network}--{arm.replace(' ', '-')}--seed{seed}"


def reduce(setting: Setting, found: Finished) -> Findings:
    """What terrain adds in the domains that were trained on and in others, factor by factor, beside the paper."""
    arms = {
        (network, arm): runs
        for network in setting.networks
        for arm in arms_of(setting)
        if (runs := [found[key] for seed in setting.seeds if (key := run_key(network, arm, seed)) in found])
    }
    own, unseen = _own(setting), tuple(domain for domain in setting.tests if domain not in setting.domains)
    places = {
        f"{', '.join(domains)} ({kind})": domains for kind, domains in (("own", own), ("unseen", unseen)) if domains
    }
    tables = [_scores(setting, arms, title, domains) for title, domains in places.items()]
    tables += [_gains(setting, arms, title, domains) for title, domains in places.items()]
    tables.append(_by_domain(setting, arms))
    statements = [*_claims(setting, arms, own), *_cross(setting, arms, unseen)]
    missing = [factor for factor in FACTORS if factor not in factors_of(setting)]
    notes = (
        f"Terrain factors of these data: {', '.join(factors_of(setting))}."
        + (f" Not there, so not tested: {', '.join(missing)}." if missing else ""),
        "The paper names neither its factors nor its losses and optimiser here: recipe and factors are ours; its `own "
        "scenes` are read as other ground of the domains that were trained on.",
        "Curvatures, relief and wetness are those of a 30 m elevation model. Mirrored patches show hillshade and aspect "
        "as they would a picture (the recipe's augmentation), which holds back what direction could tell.",
        "CPA is precision, as the tables of LDTL imply; the paper does not define it.",
        "One factor is added to the optical bands at a time; what two of them share is not told apart.",
    )
    charts = tuple(_chart(setting, arms, title, domains) for title, domains in places.items())
    return Findings(tuple(tables), tuple(statements), charts, notes)


def _own(setting: Setting) -> tuple[str, ...]:
    return tuple(domain for domain in setting.tests if domain in setting.domains)


def within(results: Sequence[Result], domains: Sequence[str]) -> list[Result]:
    """The results, their evaluation cut to some of the tested domains."""
    cut: list[Result] = []
    for result in results:
        stored = result["evaluation"]
        blocks = [block for block in stored["blocks"] if block["domain"] in domains]
        margins = {domain: each for domain, each in stored["margins"].items() if domain in domains}
        cut.append({**result, "evaluation": {**stored, "blocks": blocks, "margins": margins}})
    return cut


_Arms = Mapping[tuple[str, str], Sequence[Result]]


def _gain(arms: _Arms, network: str, arm: str, metric: str, domains: Sequence[str]) -> Estimate | None:
    with_it, without = arms.get((network, arm)), arms.get((network, OPTICAL))
    if not with_it or not without or not domains:
        return None
    return difference(within(with_it, domains), within(without, domains), metric, EVERYWHERE)


def _scores(setting: Setting, arms: _Arms, title: str, domains: Sequence[str]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for (network, arm), runs in arms.items():
        here = within(runs, domains)
        others = (Share(score(here, name).value) for name in PRINTED if name != "f1")
        rows.append((f"`{network}`, {arm}", score(here, "f1"), *others, score(here, OBJECT_F1)))
    if not _own(setting) or set(domains).isdisjoint(_own(setting)):
        for single in SINGLES:
            if single.paper == PAPER:
                theirs = (Share(single.scores[n]) if n in single.scores else None for n in PRINTED if n != "f1")
                rows.append((f"the paper, {single.where}", Share(single.scores["f1"]), *theirs, None))
    head = ("channels", "F1 [95 %]", *(NAMES[name] for name in PRINTED if name != "f1"), "landslides F1 [95 %]")
    return Table(f"Tested on {title}", head, tuple(rows), "Per cent; counts over all test ground of these domains.")


def _gains(setting: Setting, arms: _Arms, title: str, domains: Sequence[str]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (f"`{network}`, {arm}", *(_gain(arms, network, arm, metric, domains) for metric in PRINTED))
        for network, arm in arms
        if arm != OPTICAL
    ]
    theirs = {claim.metric: claim.gain for claim in claims() if claim.paper == PAPER}
    if not set(domains).isdisjoint(_own(setting)):
        rows.append(
            ("the paper, several factors", *(Share(theirs[name]) if name in theirs else None for name in PRINTED))
        )
    head = ("channels", *(f"{NAMES[name]} [95 %]" for name in PRINTED))
    return Table(f"Gain over optical alone, {title}", head, tuple(rows), "Points of per cent; same ground, same seeds.")


def _by_domain(setting: Setting, arms: _Arms) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (f"`{network}`, {arm}", *(score(runs, "f1", domain) for domain in setting.tests))
        for (network, arm), runs in arms.items()
    ]
    head = ("channels", *(f"{domain}{'' if domain in setting.domains else ', unseen'}" for domain in setting.tests))
    return Table("F1 by domain", head, tuple(rows), "Per cent.")


def _claims(setting: Setting, arms: _Arms, own: Sequence[str]) -> Iterator[Statement]:
    for claim in claims():
        if claim.paper != PAPER:
            continue
        says = f"With terrain {percent(claim.gain)} points more of {NAMES[claim.metric]} than with optical bands alone"
        for network in setting.networks:
            ours = "" if Entry.parse(network).network == "resu-cbnet" else " (not the paper's network)"
            gain = _gain(arms, network, ALL, claim.metric, own)
            yield _statement(
                says, gain, f"`{network}`{ours}: all factors minus none, on {', '.join(own) or 'its own scenes'}"
            )


def _cross(setting: Setting, arms: _Arms, unseen: Sequence[str]) -> Iterator[Statement]:
    for network in setting.networks:
        gain = _gain(arms, network, ALL, "f1", unseen)
        says = (
            "Terrain helps in scenes never seen as well (our question: the paper prints scores there with terrain only)"
        )
        yield _statement(
            says, gain, f"`{network}`: F1 with all factors minus none, on {', '.join(unseen) or 'unseen domains'}"
        )
        for factor in factors_of(setting):
            gain = _gain(arms, network, f"+{factor}", "f1", _own(setting))
            if gain is not None:
                says = f"{factor.capitalize()} alone helps (our question)"
                yield _statement(
                    says, gain, f"`{network}`: F1 with {factor} minus without, on {', '.join(_own(setting))}"
                )


def _statement(says: str, gain: Estimate | None, how: str) -> Statement:
    if gain is None:
        return Statement(says, None, "one of the two, or the ground, did not take part")
    return Statement(says, gain, how)


def _chart(setting: Setting, arms: _Arms, title: str, domains: Sequence[str]) -> Chart:
    names = tuple(arms_of(setting))
    series = {
        network: tuple(
            score(within(runs, domains), "f1") if (runs := arms.get((network, arm))) else None for arm in names
        )
        for network in setting.networks
    }
    return Chart(title, names, series)


EXPERIMENT = Experiment(
    name="xing2026",
    paper="Xing et al. 2026 (ResU-CBNet)",
    asks="How much better is a network that sees terrain beside the optical bands, in its own scenes and in others, and "
    "which terrain factor is it that helps?",
    networks=("resu-cbnet",),
    plan=plan,
    reduce=reduce,
    batch=5,
)
"""The paper's comparison of inputs, and its cross-scene test; `--network msf-litenet` is three times as fast."""
