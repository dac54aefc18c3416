"""An evaluation as Markdown: what was scored on what, with intervals, by domain and by size."""

from __future__ import annotations

from collections.abc import Sequence

from modeling.scoring.bootstrap import Interval
from modeling.scoring.evaluate import Evaluation
from modeling.scoring.tables import markdown_table, percent, with_interval

PIXEL_SCORES = ("f1", "iou", "miou", "mcc", "precision", "recall", "pa", "cpa", "oa")
OBJECT_SCORES = ("f1", "precision", "recall")
NAMES = {
    "f1": "F1", "iou": "IoU", "miou": "mIoU", "mcc": "MCC", "pa": "PA", "cpa": "CPA", "oa": "OA",
    "precision": "precision", "recall": "recall", "object_f1": "landslides F1",
    "parameters": "parameters", "macs": "MAC",
}  # fmt: skip
"""How a score is written for people."""


def evaluation_text(evaluation: Evaluation, *, model: str, data: str) -> str:
    """A short report; `model` and `data` say in words what was scored on what."""
    scores, objects = evaluation.intervals(), evaluation.object_intervals()
    counts, ground = evaluation.pixels, evaluation.ground()
    parts = [
        f"# {model} on {data}",
        f"- {len(evaluation.blocks)} blocks, {len(ground)} pieces of ground that lie apart, {sum(counts.counts):,} pixels "
        f"with a truth, {(counts.tp + counts.fn) / sum(counts.counts):.1%} of them landslide\n"
        f"- temperature {evaluation.temperature:.3f}, threshold {evaluation.threshold:.3f}, both from training\n"
        f"- {_calibration(evaluation)}",
        "## Pixels\n\nPer cent, counts accumulated over the whole set; 95 % intervals by drawing ground again.\n\n"
        + markdown_table(["score", "value"], [[NAMES[name], with_interval(scores[name])] for name in PIXEL_SCORES]),
        "## Landslides\n\nFound: half of it is mapped. Right: half of a mapped object is true.\n\n"
        + markdown_table(["score", "value"], [[NAMES[name], with_interval(objects[name])] for name in OBJECT_SCORES])
        + "\n\n"
        + _sizes(evaluation),
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


def _sizes(evaluation: Evaluation) -> str:
    rows = [
        [
            size_name(size["low_m2"], size["high_m2"]), f"{size['true']:,}", f"{size['found']:,}",
            _or_none(size["recall"]), f"{size['mapped']:,}", _or_none(size["precision"]),
        ]
        for size in evaluation.objects.by_size()
    ]  # fmt: skip
    return markdown_table(["size", "landslides", "found", "recall", "mapped", "precision"], rows)


def _domains(evaluation: Evaluation) -> str:
    rows = []
    for domain in evaluation.domains:
        part = evaluation.of(domain)
        scores: Sequence[Interval] = [part.intervals()[name] for name in ("f1", "iou", "precision", "recall")]
        rows.append([domain, str(len(part.blocks)), *map(with_interval, scores)])
    return markdown_table(["domain", "blocks", "F1", "IoU", "precision", "recall"], rows)


def _or_none(share: float | None) -> str:
    return "none there" if share is None else percent(share)
