"""Xu et al. (DFPENet and DFPENet-geology): what the geology scheme adds, three ways to a new region, how much is enough.

Tables 4 and 5: the network alone, with rules, with subtraction as well, in pixels and counted in landslides. The network
sees red, green and blue after the event, as theirs does, so it can be run on the image before. Three strategies for a new
region X2 after a training set X1: fine-tune on X2; with the trunk frozen; on X1 and X2 together. And the training set's size:
5, 10, 20, 40, 60, 80 and 100 %. X1 is the setting's first domain (theirs is Jiuzhaigou), X2 its second (Hokkaido).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from modeling.adaptation.freezing import modules_of
from modeling.adaptation.transfer import SET_SIZES, Stage, stages_of
from modeling.benchmark.compare import Estimate
from modeling.benchmark.plan import Entry
from modeling.errors import DataError
from modeling.experiments.engine import Effort, Experiment, Finished, Run
from modeling.experiments.findings import Cell, Chart, Findings, Share, Statement, Table
from modeling.experiments.mixes import Mix, mix_of
from modeling.experiments.scheme import (
    LEARNT,
    NETWORK,
    RULES,
    STEPS,
    SUBTRACTED,
    Arm,
    Scheme,
    arm,
    counted,
    counted_difference,
)
from modeling.experiments.scores import OBJECT_F1, Result, difference, score
from modeling.experiments.setting import Setting
from modeling.experiments.work import Train, training_effort
from modeling.recipes import Transfer, adaptation
from modeling.recipes.xu import STRATEGIES
from modeling.scoring.papers import GEOLOGY_COUNTS, GEOLOGY_FINE_TUNED, GEOLOGY_PIXELS
from modeling.scoring.papers import Table as Printed

CHANNELS = ("red_post", "green_post", "blue_post")
"""What the network sees: one date, as subtraction needs."""
SECOND_SHARE = 1 / 5
"""Patches of X2 for each of X1 (ours): a new region has fewer labels, and a fifth is what the paper finds to suffice."""

_METRICS = ("precision", "recall", "iou", "f1")
_HEAD = ("Precision", "Recall", "IoU", "F1 [95 %]")
_AS_PRINTED = {NETWORK: "network", RULES: "rules", f"{RULES} {SUBTRACTED}": "subtracted"}
"""Our arms that the paper has too -> its rows."""
_FIRST, _SECOND, _SCHEME = "X1", "X2", "scheme"


def plan(setting: Setting) -> Sequence[Run]:
    """Base networks first, then the scheme, the strategies and the set sizes, seed by seed."""
    return [run for seed in setting.seeds for network in setting.networks for run in _runs(setting, network, seed)]


def check(setting: Setting) -> None:
    """Raise `DataError` for data without two domains, enough patches, or the channels that the scheme needs."""
    if len(setting.domains) < 2:
        raise DataError(
            f"X1 and X2 are two domains, here is only {', '.join(setting.domains)}: name two with --domains"
        )
    wanted = {*CHANNELS, *(name.replace("_post", "_pre") for name in CHANNELS), "slope"}
    if missing := sorted(wanted - set(setting.source.band_set().channels)):
        raise DataError(f"the geology scheme needs the channels {', '.join(missing)}, which the data do not have")
    for mix in (_first(setting), _second(setting)):
        mix.require(setting.source, setting.patch_px)


def _runs(setting: Setting, network: str, seed: int) -> list[Run]:
    recipe, source, tests = setting.recipe(network), setting.source, setting.tests
    first, second = _first(setting), _second(setting)
    joint = mix_of([(part.domain, part.patches) for part in (*first.parts, *second.parts)])

    def trained(name: str, mix: Mix, stage: Stage | None = None) -> Run:
        own = recipe if stage is None else stage.recipe(recipe)
        start = "" if stage is None else key(network, _FIRST, seed)
        frozen = () if stage is None else modules_of(Entry.parse(network).network, *stage.freeze)
        work = Train(own, mix, seed, tests, start=start, frozen=frozen, channels=CHANNELS)
        effort = training_effort(network, own.steps or 0, mix, source, tests, setting.patch_px)
        return Run(key(network, name, seed), work, (start,) if start else (), effort)

    def schemed(name: str) -> Run:
        start = key(network, name, seed)
        work = Scheme(start, setting.domains, tests)
        return Run(key(network, f"{_SCHEME}-{name}", seed), work, (start,), Effort(network))

    grounds = {"source": _FIRST, "target": _SECOND, "both": "both"}
    stages = {name: stages_of(_transfer(name), setting.steps, **grounds)[-1] for name in STRATEGIES}
    return [
        trained(_FIRST, first),
        schemed(_FIRST),
        trained(_SECOND, second),
        *(trained(name, joint if name == "joint" else second, stage) for name, stage in stages.items()),
        schemed("fine-tune"),
        *(trained(_size(share), _part_of(first, share)) for share in SET_SIZES if share < 1),
    ]


def _transfer(strategy: str) -> Transfer:
    """The recipe of a strategy for a training that is short."""
    return adaptation(f"dfpenet-transfer-{strategy}-short", Transfer)


def key(network: str, name: str, seed: int) -> str:
    """Of a run."""
    return f"{network}--{name}--seed{seed}"


def _first(setting: Setting) -> Mix:
    return mix_of([(setting.domains[0], setting.patches or EXPERIMENT.patches)])


def _second(setting: Setting) -> Mix:
    return mix_of([(setting.domains[1], max(1, round(SECOND_SHARE * (setting.patches or EXPERIMENT.patches))))])


def _part_of(mix: Mix, share: float) -> Mix:
    return mix_of([(part.domain, max(1, round(share * part.patches))) for part in mix.parts])


def _size(share: float) -> str:
    return f"size{round(100 * share):03d}" if share < 1 else _FIRST


def reduce(setting: Setting, found: Finished) -> Findings:
    """Tables 4 and 5 with the paper's rows beside, strategies, set sizes, and what the paper says of them."""
    tables: list[Table] = []
    statements: list[Statement] = []
    charts: list[Chart] = []
    for network in setting.networks:

        def of(name: str, network: str = network) -> list[Result]:
            every = (key(network, name, seed) for seed in setting.seeds)
            return [found[each] for each in every if each in found]

        schemes = of(f"{_SCHEME}-{_FIRST}")
        for domain in setting.tests if schemes else ():
            tables += _tables(setting, network, schemes, domain)
        tuned = of(f"{_SCHEME}-fine-tune")
        if tuned and setting.domains[1] in setting.tests:
            title = f"`{network}` fine-tuned on {setting.domains[1]}, counted in landslides"
            tables.append(_counts_table(title, tuned, setting.domains[1], GEOLOGY_FINE_TUNED))
        ways = {name: runs for name in (_FIRST, _SECOND, *STRATEGIES) if (runs := of(name))}
        sizes = {share: runs for share in SET_SIZES if (runs := of(_size(share)))}
        tables += [_ways(setting, network, ways), _sizes(setting, network, sizes)]
        statements += [*_about_scheme(setting, schemes), *_about_sizes(setting, sizes)]
        charts += [_steps_chart(setting, network, schemes), _sizes_chart(setting, network, sizes)]
    return Findings(tuple(tables), tuple(statements), tuple(charts), _NOTES)


_FREEZE = _transfer("freeze").leg("target")
_NOTES = (
    "Landslides are counted one for one, as the paper's figures imply (`modeling.scoring.counting`); when two are the same is "
    "not stated there: here one must cover half of the other and be itself half true.",
    "The paper prints the elongation rule with the other sign; here what is longer than the threshold is dropped. Its "
    "threshold is not known here, nor does the paper have a slope rule.",
    "Subtraction comes before the rules, so that the slivers it leaves fall to them. Regions that are drawn over an old scar "
    "lose what lies on it.",
    "Learnt thresholds are learnt on the validation ground of the training domains, without the domain that is tested.",
    "Which layers the paper freezes, the length and rate of its fine-tuning in proportion, and how much of X2 it has are not "
    f"known or not transferable: the {', '.join(_FREEZE.freeze)}, {_FREEZE.share:g} times the steps at {_FREEZE.rate_factor:g} "
    f"times the rate, and {SECOND_SHARE:g} times X1's patches are ours.",
)


def _tables(setting: Setting, network: str, schemes: Sequence[Result], domain: str) -> list[Table]:
    seen = "" if domain in setting.domains[:1] else ", never trained on"
    rows: list[tuple[Cell, ...]] = []
    for name, words in STEPS.items():
        if runs := arm(schemes, name):
            values = [Share(score(runs, metric, domain).value) for metric in _METRICS[:-1]]
            rows.append((words, *values, score(runs, "f1", domain), score(runs, OBJECT_F1, domain)))
    if domain == GEOLOGY_PIXELS.domain:
        rows += [(f"the paper: {name}", *_shares(values), None, None) for name, values in GEOLOGY_PIXELS.rows.items()]
    pixels = Table(
        f"`{network}` in {domain}{seen}, in pixels (Table 4)", ("step", *_HEAD, "landslides F1 [95 %]"), tuple(rows),
        "Per cent. Landslides here: found when half of one is mapped, right when half of one is true.",
    )  # fmt: skip
    title = f"`{network}` in {domain}{seen}, counted in landslides (Table 5)"
    return [pixels, _counts_table(title, schemes, domain, GEOLOGY_COUNTS)]


def _counts_table(title: str, schemes: Sequence[Result], domain: str, theirs: Printed) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for name, words in STEPS.items():
        if runs := arm(schemes, name):
            values = [Share(counted(runs, metric, domain).value) for metric in _METRICS[:-1]]
            rows.append((words, *values, counted(runs, "f1", domain)))
    if domain == theirs.domain:
        rows += [(f"the paper: {name}", *_shares(values), None) for name, values in theirs.rows.items()]
    return Table(title, ("step", *_HEAD), tuple(rows), "Per cent, one for one.")


def _shares(values: Mapping[str, float]) -> list[Cell]:
    return [Share(values[metric]) for metric in _METRICS[:-1]]


def _ways(setting: Setting, network: str, ways: Mapping[str, Sequence[Result]]) -> Table:
    words = {_FIRST: "X1 alone", _SECOND: "X2 alone, from scratch", "fine-tune": "X1, then X2",
             "freeze": "X1, then X2 with the trunk frozen", "joint": "X1, then X1 and X2 together"}  # fmt: skip
    rows: list[tuple[Cell, ...]] = [
        (words[name], *(score(runs, "f1", domain) for domain in setting.tests)) for name, runs in ways.items()
    ]
    return Table(
        f"`{network}`: three ways to a new region", ("trained", *setting.tests), tuple(rows),
        f"Pixel F1, per cent, of the network alone. X1 is {setting.domains[0]}, X2 {setting.domains[1]}.",
    )  # fmt: skip


def _sizes(setting: Setting, network: str, sizes: Mapping[float, Sequence[Result]]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (f"{share:.0%}", *(score(runs, "f1", domain) for domain in setting.tests)) for share, runs in sizes.items()
    ]
    return Table(
        f"`{network}`: how much training is enough", ("of X1", *setting.tests), tuple(rows),
        "Pixel F1, per cent; equally many steps, and each set is part of the next larger one.",
    )  # fmt: skip


def _about_scheme(setting: Setting, schemes: Sequence[Result]) -> list[Statement]:
    home = setting.domains[0]
    if home not in setting.tests or not schemes:
        return []
    alone, rules, both = (arm(schemes, name) for name in _AS_PRINTED)
    said = [
        Statement(
            "rules raise the counted landslides' IoU from 67.44 to 82.06",
            counted_difference(rules, alone, "iou", home), f"IoU in counts with rules minus alone, in {home}",
        ),
    ]  # fmt: skip
    if both:
        said += [
            Statement(
                "subtraction raises it further to 89.95", counted_difference(both, rules, "iou", home),
                f"IoU in counts with subtraction and rules minus rules, in {home}",
            ),
            Statement(
                "in pixels the scheme raises IoU from 92.28 to 98.67", difference(both, alone, "iou", home),
                f"pixel IoU with subtraction and rules minus alone, in {home}",
            ),
        ]  # fmt: skip
    learnt = arm(schemes, f"{LEARNT} {SUBTRACTED}") if both else arm(schemes, LEARNT)
    said.append(
        Statement(
            "(not the paper's) thresholds learnt on other domains are better than given ones",
            counted_difference(learnt, both or rules, "f1", "all"), "F1 in counts, on all test ground",
        )
    )  # fmt: skip
    return said


def _about_sizes(setting: Setting, sizes: Mapping[float, Sequence[Result]]) -> list[Statement]:
    home = setting.domains[0]
    if home not in setting.tests:
        return []
    claims = (
        (0.2, 0.1, "20 % of the training set are the least that suffices"),
        (0.4, 0.2, "40 % are better than 20 %"),
    )
    return [
        Statement(words, difference(sizes[more], sizes[less], "f1", home), f"pixel F1 of {more:.0%} minus {less:.0%}, in {home}")
        for more, less, words in claims
        if more in sizes and less in sizes
    ]  # fmt: skip


def _steps_chart(setting: Setting, network: str, schemes: Sequence[Result]) -> Chart:
    def values(runs: Sequence[Arm]) -> tuple[Estimate | None, ...]:
        return tuple(counted(runs, "iou", domain) if runs else None for domain in setting.tests)

    series = {STEPS[name]: values(arm(schemes, name)) for name in _AS_PRINTED}
    printed = {
        STEPS[name]: tuple(
            GEOLOGY_COUNTS.rows[row]["iou"] if domain == GEOLOGY_COUNTS.domain else None for domain in setting.tests
        )
        for name, row in _AS_PRINTED.items()
    }
    return Chart(f"{network}: the scheme, in counts", setting.tests, series, printed, axis="IoU of counted landslides")


def _sizes_chart(setting: Setting, network: str, sizes: Mapping[float, Sequence[Result]]) -> Chart:
    series = {
        domain: tuple(score(sizes[share], "f1", domain) if share in sizes else None for share in SET_SIZES)
        for domain in setting.tests
    }
    return Chart(f"{network}: size of the training set", tuple(f"{share:.0%}" for share in SET_SIZES), series)


EXPERIMENT = Experiment(
    name="dfpenet",
    paper="Xu et al., DFPENet and DFPENet-geology",
    asks="What do area, elongation and slope rules and subtracting the map before the event add to a network's map?",
    networks=("msf-litenet@2",),
    plan=plan,
    reduce=reduce,
    domains=("jiuzhaigou", "iburi"),
    tests=("jiuzhaigou", "iburi", "palu", "luding"),
    budget="4h",
    seeds=(0, 1, 2),
    patches=700,
    check=check,
)
"""By default with the light network, its input enlarged twice, which trains in hours on two cores; the paper's own is
`--network dfpenet`."""
