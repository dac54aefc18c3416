"""The part of the report that holds the papers' orderings beside the measured ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from modeling.benchmark.compare import HOLDS, REVERSED, UNDECIDED
from modeling.benchmark.results import Finding, Results
from modeling.scoring.evaluation_text import NAMES
from modeling.scoring.papers import LOWER_IS_BETTER, PAPERS, SINGLES, TABLES, UNTESTED, claims
from modeling.scoring.tables import markdown_table, percent, with_interval

SHOWN = frozenset({"f1", "iou", "mcc", *LOWER_IS_BETTER})
"""Metrics whose orderings are listed one by one; the others are counted."""
_VERDICTS = (HOLDS, REVERSED, UNDECIDED, "not tested")


def claims_section(results: Results) -> str:
    """Counts by paper, then every ordering by F1, IoU, MCC and cost."""
    findings = results.findings(claims())
    listed = [finding for finding in findings if finding.claim.metric in SHOWN and finding.measured is not None]
    listed += [finding for finding in findings if _has_no_other(finding, findings)]
    conditions = "\n".join(f"- {key}: {paper.citation}. {paper.conditions}." for key, paper in PAPERS.items())
    return "\n\n".join(
        [
            "Every ordering of two networks that a paper's table prints, by every metric of it, held beside the same "
            "difference here. `holds`: the 95 % interval of the difference lies above zero; `reversed`: below; "
            "`undecided`: zero is inside; `not tested`: one of the two did not take part.",
            _counted(findings),
            "By F1, IoU, MCC, and cost:",
            _listed(listed),
            "Scores printed for a region beside ours for the domain that follows it, per cent:",
            _beside(results),
            "Scores printed with nothing beside them, for orientation, per cent:",
            _singles(),
            "Their conditions:",
            conditions,
        ]
    )


def untested_section() -> str:
    """What the papers claim besides."""
    return "\n".join(f"- {each.paper}: {each.claim}. It would take {each.why}." for each in UNTESTED)


def _has_no_other(finding: Finding, findings: Sequence[Finding]) -> bool:
    """A paper without one of the shown metrics is listed by what it prints."""
    shown = {other.claim.paper for other in findings if other.claim.metric in SHOWN}
    return finding.measured is not None and finding.claim.paper not in shown


def _counted(findings: Sequence[Finding]) -> str:
    counts: dict[tuple[str, str], Counter[str]] = {}
    for finding in findings:
        counts.setdefault((finding.claim.paper, finding.claim.where), Counter())[finding.verdict] += 1
    rows = [[paper, where, *(str(found[verdict]) for verdict in _VERDICTS)] for (paper, where), found in counts.items()]
    return markdown_table(["paper", "where", *_VERDICTS], rows)


def _listed(findings: Sequence[Finding]) -> str:
    rows = []
    for finding in findings:
        claim, measured = finding.claim, finding.measured
        if measured is None:
            continue
        cost = claim.metric in LOWER_IS_BETTER
        rows.append(
            [
                f"{claim.paper}, {claim.where}", f"`{claim.better}` over `{claim.worse}`", NAMES[claim.metric],
                _amount(claim.metric, claim.gain) if cost else percent(claim.gain),
                "counted" if cost else finding.tested_on,
                _amount(claim.metric, measured.value) if cost else with_interval(measured),
                finding.verdict,
            ]
        )  # fmt: skip
    return markdown_table(["paper", "claim", "metric", "gain there", "tested on", "gain here", "verdict"], rows)


def _beside(results: Results) -> str:
    rows = []
    for table in TABLES:
        trained_on = results.headline if results.plan.train_on == "together" else table.domain
        for network, printed in table.rows.items():
            if table.domain not in results.plan.domains or not results.of(network, trained_on):
                continue
            ours = results.row(network, trained_on, table.domain).scores
            for metric in (name for name in printed if name in SHOWN):
                there, here = percent(printed[metric]), with_interval(ours[metric])
                rows.append([f"{table.paper}, {table.where}", f"`{network}`", NAMES[metric], there, here])
    return markdown_table(["paper", "network", "score", "printed", "here [95 %]"], rows)


def _singles() -> str:
    rows = [
        [f"`{single.network}`", single.paper, single.where,
         ", ".join(f"{NAMES[name]} {percent(value)}" for name, value in single.scores.items())]
        for single in SINGLES
    ]  # fmt: skip
    return markdown_table(["network", "paper", "where", "scores"], rows)


def _amount(metric: str, value: float) -> str:
    return f"{value / 1e9:.2f} G" if metric == "macs" else f"{value / 1e6:.2f} M"
