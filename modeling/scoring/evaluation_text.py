"""An evaluation as Markdown: what was scored on what, with intervals, by domain and by size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from modeling.scoring.bootstrap import Interval
from modeling.scoring.evaluate import Evaluation
from modeling.scoring.evaluation_summary import SizeScores, by_size
from modeling.scoring.tables import markdown_table, percent, with_interval

PIXEL_SCORES = ("f1", "iou", "miou", "mcc", "precision", "recall", "pa", "cpa", "oa")
OBJECT_SCORES = ("f1", "precision", "recall")
NAMES = {
    "f1": "F1", "iou": "IoU", "miou": "mIoU", "mcc": "MCC", "pa": "PA", "cpa": "CPA", "oa": "OA",
    "precision": "precision", "recall": "recall", "object_f1": "landslides F1",
    "parameters": "parameters", "macs": "MAC",
}  # fmt: skip
"""How a score is written for people."""


def evaluation_text(evaluation: Evaluation, *, model: str, data: str, notes: Sequence[str] = ()) -> str:
    """A short report; `model` and `data` say in words what was scored on what, `notes` what a reader must know of both."""
    scores, counts, ground = evaluation.intervals(), evaluation.pixels, evaluation.ground()
    parts = [
        f"# {model} on {data}",
        *notes,
        f"- {len(evaluation.blocks)} blocks, {len(ground)} pieces of ground that lie apart, {sum(counts.counts):,} pixels "
        f"with a truth, {(counts.tp + counts.fn) / sum(counts.counts):.1%} of them landslide\n"
        f"- temperature {evaluation.temperature:.3f}, threshold {evaluation.threshold:.3f}, both from training\n"
        f"- {_calibration(evaluation)}",
        "## Pixels\n\nPer cent, counts accumulated over the whole set; 95 % intervals by drawing ground again.\n\n"
        + markdown_table(["score", "value"], [[NAMES[name], with_interval(scores[name])] for name in PIXEL_SCORES]),
        *_landslides(evaluation),
    ]
    if len(evaluation.domains) > 1:
        parts.append("## By domain\n\n" + _domains(evaluation))
    return "\n\n".join(parts) + "\n"


def size_name(low_m2: float, high_m2: float | None) -> str:
    """A size class of landslides."""
    return f"from {low_m2:,.0f} m²" if high_m2 is None else f"{low_m2:,.0f} to {high_m2:,.0f} m²"


def _calibration(evaluation: Evaluation) -> str:
    found = evaluation.reliability()
    if found is None:
        return "no probability, so no calibration"
    return f"expected calibration error {percent(found.ece)} %, Brier score {found.brier:.4f}"


def _landslides(evaluation: Evaluation) -> list[str]:
    """Counted one for one where they were, and by the halves of them that are mapped or true."""
    strata = [piece.domain for piece in evaluation.ground()]
    half = [piece.objects for piece in evaluation.ground()]
    covered = (
        "Found: half of it is mapped. Right: half of a mapped object is true. Scars that grow together in one map and apart "
        "in the other are found all the same.\n\n"
        + _object_tables(evaluation.object_intervals(), by_size(half, strata))
    )
    matched = evaluation.matched_ground()
    if matched is None:
        return ["## Landslides\n\n" + covered]
    one_for_one = (
        "Matched one for one: a mapped landslide is right for one true one at most, of which it covers at least half while "
        "it is itself true by at least half.\n\n"
        + _object_tables(evaluation.matched_intervals(), by_size(matched, strata))
    )
    return ["## Landslides\n\n" + one_for_one, "## Landslides by what is covered\n\n" + covered]


def _object_tables(scores: Mapping[str, Interval], sizes: Sequence[SizeScores]) -> str:
    rows = [
        [
            size_name(size.low_m2, size.high_m2), f"{size.true:,}", _or_none(size.recall), f"{size.mapped:,}",
            _or_none(size.precision), _or_none(size.f1),
        ]
        for size in sizes
    ]  # fmt: skip
    whole = markdown_table(["score", "value"], [[NAMES[name], with_interval(scores[name])] for name in OBJECT_SCORES])
    by_class = markdown_table(["size", "landslides", "recall", "mapped", "precision", "F1"], rows)
    return f"{whole}\n\nRecall of the landslides of a size, precision of the mapped ones of it, F1 of the two.\n\n{by_class}"


def _domains(evaluation: Evaluation) -> str:
    rows = []
    for domain in evaluation.domains:
        part = evaluation.of(domain)
        scores: Sequence[Interval] = [part.intervals()[name] for name in ("f1", "iou", "precision", "recall")]
        rows.append([domain, str(len(part.blocks)), *map(with_interval, scores)])
    return markdown_table(["domain", "blocks", "F1", "IoU", "precision", "recall"], rows)


def _or_none(share: Interval | None) -> str:
    return "none there" if share is None else with_interval(share)
