"""The report of one version: a single HTML file that opens offline, prints, and asks nobody for anything.

Its content security policy forbids every request and every script; the one style sheet is allowed by its hash.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
from collections.abc import Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from flows import wording
from flows.adapt_facts import ADAPTED_SCORES, estimate_text, verdict_text
from flows.campaign.wording import campaign_sentences
from flows.facts import ReportFacts
from flows.layout import PRODUCTS
from flows.observed_colours import CODE_COLOURS
from flows.pictures import Picture

PIXEL_SCORES = {"precision": "Precision", "recall": "Recall", "f1": "F1", "iou": "IoU", "mcc": "MCC"}
"""Scores counted in pixels, as they are called in the report."""

OBJECT_SCORES = {"precision": "Precision", "recall": "Recall", "f1": "F1"}
"""Scores counted in landslides."""


_ADAPTED = ("adaptation", "changes", "labels", "adapted_model", "adapted_model_json")


def _optional(facts: ReportFacts) -> frozenset[str]:
    """Keys of the products that this version has beside those that every version has."""
    kept = {
        "facts": True, "metrics": bool(facts.scores), "dropped": facts.rules is not None,
        **dict.fromkeys(_ADAPTED, facts.adaptation is not None),
    }  # fmt: skip
    return frozenset(key for key, there in kept.items() if there)


def render_report(facts: ReportFacts, pictures: Sequence[Picture]) -> str:
    """The report as one HTML document; `pictures` are those of `flows.pictures.report_pictures`."""
    style = importlib.resources.files("flows").joinpath("templates", "report.css").read_text(encoding="utf-8")
    template = _environment().get_template("report.html.j2")
    return template.render(
        facts=facts,
        pictures=pictures,
        headline=wording.headline(facts),
        unknown=wording.unknown(facts),
        totals=wording.totals(facts),
        caveats=wording.caveats(facts),
        alignment=wording.alignment(facts),
        selection=wording.selection(facts),
        rules=wording.rules(facts),
        campaign=campaign_sentences(facts),
        adaptation="" if facts.adaptation is None else verdict_text(facts.adaptation),
        estimate="" if facts.adaptation is None else estimate_text(facts.adaptation.judgement),
        adapted_scores=ADAPTED_SCORES,
        products=list(PRODUCTS.values()),
        present=_optional(facts),
        pixel_scores=PIXEL_SCORES,
        object_scores=OBJECT_SCORES,
        largest_count=max((size.count for size in facts.inventory.sizes), default=0),
        colours=CODE_COLOURS,
        style=Markup(style),  # noqa: S704 - our own file, no outside input
        policy=_policy(style),
    )


def _policy(style: str) -> str:
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("flows"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        km2=wording.km2,
        percent=wording.percent,
        landslides=wording.landslides,
        data_uri=_data_uri,
        thousands=lambda value: f"{value:,.0f}",
        stamp=lambda moment: f"{moment:%Y-%m-%d %H:%M:%S} UTC",
    )
    environment.globals.update(degrees=wording.degrees)
    return environment


def _data_uri(picture: Picture) -> str:
    return f"data:{picture.media_type};base64,{base64.b64encode(picture.data).decode()}"
