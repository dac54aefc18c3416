"""What the papers print, as data: scores, costs and gains, and the orderings of networks that follow from them.

Figures are as printed there, scores as fractions. Every region of theirs that a preset of the simulator follows names
that preset, so that an ordering can be held beside the one measured on it. Nothing here is measured by this package.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations

HIGHER_IS_BETTER = ("precision", "recall", "f1", "iou", "miou", "pa", "cpa", "mcc")
LOWER_IS_BETTER = ("parameters", "macs")


@dataclass(frozen=True)
class Paper:
    """A publication whose claims are held beside measurements."""

    key: str
    """How the tables below refer to it."""
    citation: str
    """Authors, year and what it proposes."""
    conditions: str
    """On what its figures were obtained, as far as it says."""


@dataclass(frozen=True)
class Table:
    """Rows of one printed table that were obtained under the same conditions, and so can be ordered."""

    paper: str
    """Key of a `Paper`."""
    where: str
    """The region the scores are of; for costs, what was counted."""
    domain: str
    """The preset of `modeling.simulate` that follows this region; empty when there is none."""
    rows: Mapping[str, Mapping[str, float]]
    """Network -> metric -> printed value."""


@dataclass(frozen=True)
class Claim:
    """One network is better than another by one metric, as a paper prints it."""

    paper: str
    """Key of a `Paper`."""
    where: str
    """Region or count it was printed for."""
    domain: str
    """The simulator's counterpart of the region; empty when there is none."""
    metric: str
    """One of `HIGHER_IS_BETTER` or `LOWER_IS_BETTER`."""
    better: str
    """A network's name, with `:optical` where it got no terrain bands."""
    worse: str
    """Likewise."""
    gain: float
    """By how much, in the metric's unit, always positive."""


@dataclass(frozen=True)
class Single:
    """A printed score with nothing beside it in the same table: for orientation, not for an ordering."""

    paper: str
    """Key of a `Paper`."""
    network: str
    """The network's name."""
    where: str
    """Region and conditions."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """Metric -> printed value."""
    domain: str = ""
    """The preset of `modeling.simulate` that follows the region; empty when there is none."""
    mix: str = ""
    """The training mix, as `modeling.experiments.mixes` names it; empty where the paper has none."""


@dataclass(frozen=True)
class Untested:
    """A claim or proposal that a comparison of networks on one data set cannot test."""

    paper: str
    """Key of a `Paper`."""
    claim: str
    """What is claimed or proposed, with its figures."""
    why: str
    """What testing it would take."""


PAPERS: Mapping[str, Paper] = {
    paper.key: paper
    for paper in (
        Paper(
            "LDTL",
            "Dong et al. 2024, MSF-LiteNet with LDTL",
            "RGB after the event; Hokkaido 256 x 256, Luding 2048 x 2048 pixels; pre-trained, then fine-tuned",
        ),
        Paper(
            "ResU-SENet",
            "Yang et al. 2024, ResU-SENet",
            "slope, hillshade, RGB and NDVI before and after; 88 x 88 pixels; 700 training samples a model",
        ),
        Paper("DFPENet", "Xu et al., DFPENet and DFPENet-geology", "3 channels; 512 x 512 pixels"),
        Paper("MFFENet", "Xu et al. 2022, MFFENet and ADANet (LandslideNet)", "3 channels"),
        Paper("ResU-CBNet", "Xing et al. 2026, ResU-CBNet", "optical bands together with several terrain factors"),
    )
}


def _ldtl(**rows: tuple[float, float, float, float]) -> Mapping[str, Mapping[str, float]]:
    columns = ("pa", "cpa", "iou", "miou")
    return {
        name.replace("_", "-"): {metric: value / 100 for metric, value in zip(columns, values, strict=True)}
        for name, values in rows.items()
    }


def _yang(**rows: tuple[float, float, float, float, float]) -> Mapping[str, Mapping[str, float]]:
    columns = ("precision", "f1", "recall", "mcc", "iou")
    return {name.replace("_", "-"): dict(zip(columns, values, strict=True)) for name, values in rows.items()}


TABLES: tuple[Table, ...] = (
    Table(
        "LDTL", "Hokkaido", "iburi",
        _ldtl(
            fcn=(87.4, 59.4, 44.3, 65.2), deeplabv3=(87.3, 58.4, 46.1, 65.9), vgg_unet=(95.8, 86.5, 76.7, 85.9),
            resunet_r50=(96.0, 86.4, 77.7, 86.5), msf_litenet=(95.4, 83.6, 75.3, 85.0),
        ),
    ),
    Table(
        "LDTL", "Luding", "luding",
        _ldtl(
            fcn=(92.2, 81.3, 65.5, 78.2), deeplabv3=(92.2, 82.2, 65.3, 78.1), vgg_unet=(90.5, 74.3, 62.0, 75.4),
            resunet_r50=(90.7, 71.7, 64.7, 76.8), msf_litenet=(91.8, 78.6, 65.1, 77.7),
        ),
    ),
    Table(
        "ResU-SENet", "Iburi", "iburi",
        _yang(resu_senet=(0.8766, 0.853, 0.8368, 0.8175, 0.746), resu_net=(0.8936, 0.8246, 0.7775, 0.7908, 0.7073)),
    ),
    Table(
        "ResU-SENet", "Jiuzhaigou", "jiuzhaigou",
        _yang(resu_senet=(0.788, 0.7876, 0.7941, 0.7449, 0.6545), resu_net=(0.8051, 0.7532, 0.719, 0.7097, 0.6085)),
    ),
)  # fmt: skip
"""Tables of scores."""

COSTS: tuple[Table, ...] = (
    Table(
        "LDTL", "3 channels, 2 classes, 256 x 256 pixels", "",
        {
            "fcn": {"parameters": 32_947_266, "macs": 6000.542e6},
            "deeplabv3": {"parameters": 39_633_986, "macs": 6395.694e6},
            "vgg-unet": {"parameters": 26_450_306, "macs": 71102.890e6},
            "resunet-r50": {"parameters": 98_388_354, "macs": 58064.241e6},
            "msf-litenet": {"parameters": 2_541_708, "macs": 798.750e6},
        },
    ),
)  # fmt: skip
"""Tables of costs; multiply-accumulates by the convention of `modeling.scoring.complexity`. The paper's parameter count of FCN
ends in 226, which its own layers do not give."""

LARGE_MACS: Mapping[str, float] = {
    "fcn": 384034.669e6, "deeplabv3": 409291.197e6, "vgg-unet": 4550584.959e6, "resunet-r50": 3716111.401e6,
    "msf-litenet": 51097.337e6,
}  # fmt: skip
"""The same for 2048 x 2048 pixels, where LDTL prints multiply-accumulates only."""


def _geology(**rows: tuple[float, float, float]) -> Mapping[str, Mapping[str, float]]:
    columns = ("precision", "recall", "iou")
    return {
        name: {metric: value / 100 for metric, value in zip(columns, values, strict=True)}
        for name, values in rows.items()
    }


GEOLOGY_PIXELS = Table(
    "DFPENet", "Jiuzhaigou, pixels", "jiuzhaigou",
    _geology(network=(94.25, 97.78, 92.28), rules=(94.33, 97.78, 92.36), subtracted=(99.97, 98.70, 98.67)),
)  # fmt: skip
"""What each step of the geology scheme makes of DFPENet's map: alone, with rules, and with subtraction as well."""
GEOLOGY_COUNTS = Table(
    "DFPENet", "Jiuzhaigou, counted in landslides", "jiuzhaigou",
    _geology(network=(73.88, 88.55, 67.44), rules=(91.80, 88.55, 82.06), subtracted=(99.43, 90.42, 89.95)),
)  # fmt: skip
"""The same counted in landslides, one for one (`modeling.scoring.counting`)."""
GEOLOGY_FINE_TUNED = Table(
    "DFPENet", "Hokkaido, counted in landslides", "iburi", _geology(subtracted=(84.28, 90.20, 77.21))
)
"""The whole scheme after fine-tuning on another region."""

_GAINS = (("pa", 0.021), ("cpa", 0.026), ("f1", 0.069), ("miou", 0.029))

SINGLES: tuple[Single, ...] = (
    Single(
        "ResU-SENet", "resu-senet", "Palu, unseen, by the model of 200 Iburi and 500 Jiuzhaigou samples",
        {"precision": 0.9299, "f1": 0.6875, "recall": 0.5501, "mcc": 0.6677, "iou": 0.526}, "palu", "Ib200J500",
    ),
    Single(
        "ResU-SENet", "resu-senet", "Luding, unseen, by the model of 700 Iburi samples", {"f1": 0.7433}, "luding", "Ib700"
    ),
    Single("DFPENet", "dfpenet", "Jiuzhaigou, pixels", {"precision": 0.9425, "recall": 0.9778, "iou": 0.9228}),
    Single("ResU-CBNet", "resu-cbnet", "first unseen scene", {"pa": 0.928, "f1": 0.913}),
    Single("ResU-CBNet", "resu-cbnet", "second unseen scene", {"pa": 0.832, "f1": 0.80}),
)  # fmt: skip

UNTESTED: tuple[Untested, ...] = (
    Untested(
        "DFPENet",
        "the geology scheme and subtraction raise the counted landslides from P/R/IoU .739/.886/.674 to .994/.904/.900",
        "the four-phase scheme, which is not a property of a network",
    ),
    Untested("DFPENet", "5176 x 10349 pixels in 120 s on a Tesla P80", "that GPU"),
    Untested("DFPENet", "20 % of the training set suffice at least, 40 % are better", "runs on growing training sets"),
    Untested("LDTL", "pre-training on a source region, then light fine-tuning on the target", "that transfer"),
    Untested(
        "ResU-SENet",
        "the training mix to take for a target is the one with the smallest distance (MMD) to it",
        "models of five mixes and the distance",
    ),
    Untested("MFFENet", "adversarial adaptation (ADANet) to a target without labels", "that adaptation"),
)


def printed(paper: str, domain: str, network: str) -> Mapping[str, float]:
    """Metric -> value that a paper prints of a network on the region that `domain` follows; empty where it prints none."""
    for table in TABLES:
        if (table.paper, table.domain) == (paper, domain) and network in table.rows:
            return table.rows[network]
    for single in SINGLES:
        if (single.paper, single.domain, single.network) == (paper, domain, network):
            return single.scores
    return {}


def claims() -> tuple[Claim, ...]:
    """Every ordering of two networks that the tables print, by every metric; ties are no claim."""
    return tuple(claim for table in (*TABLES, *COSTS) for claim in _orderings(table)) + tuple(
        Claim("ResU-CBNet", "its own scenes", "", metric, "resu-cbnet", "resu-cbnet:optical", gain)
        for metric, gain in _GAINS
    )


def _orderings(table: Table) -> Iterator[Claim]:
    for one, other in combinations(table.rows, 2):
        for metric, value in table.rows[one].items():
            difference = value - table.rows[other][metric]
            if metric in LOWER_IS_BETTER:
                difference = -difference
            if difference == 0:
                continue
            better, worse = (one, other) if difference > 0 else (other, one)
            yield Claim(table.paper, table.where, table.domain, metric, better, worse, round(abs(difference), 6))
