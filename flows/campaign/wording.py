"""What a version says of its campaign, in sentences. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flows.campaign.context import CampaignContext, PreviousVersion
from flows.campaign.model import ExpectedPass

if TYPE_CHECKING:
    from flows.facts import ReportFacts

PASSES = 4
"""How many expected passes are told."""


def campaign_sentences(facts: ReportFacts) -> tuple[str, ...]:
    """Why this version was made, what changed since the last one, what is still to come; empty without a campaign."""
    from flows.wording import km2, percent

    told = facts.campaign
    if told is None or facts.adaptation is not None:
        return ()
    sentences = [f"Made because of {told.why}." if told.previous else f"The first version: {told.why}."]
    if told.kind == "partial":
        share = percent(100 * facts.coverage.area_km2 / told.area_km2) if told.area_km2 else "0"
        sentences.append(
            f"It maps the most dangerous {km2(facts.coverage.area_km2)} of {km2(told.area_km2)} km² ({share} %); the rest "
            "follows in the next version."
        )
    if len(told.earthquakes) > 1:
        sentences.append(f"The map is of a sequence of earthquakes: {'; '.join(told.earthquakes)}.")
    if told.previous is not None:
        sentences.append(_since(facts, told.previous))
    sentences.append(_coming(told))
    return tuple(sentences)


def campaign_property(facts: ReportFacts) -> dict[str, Any] | None:
    """The same as JSON values for the STAC item; None without a campaign."""
    told = facts.campaign
    if told is None or facts.adaptation is not None:
        return None
    value = told.model_dump(mode="json", exclude={"expected_share"})
    if told.area_km2 > 0:
        value["observed_share"] = facts.coverage.observed_km2 / told.area_km2
    return value


def _since(facts: ReportFacts, previous: PreviousVersion) -> str:
    from flows.wording import km2, landslides

    more_km2 = facts.coverage.observed_km2 - previous.observed_km2
    more = facts.inventory.count - previous.landslides
    post = facts.phase("post")
    images = len(set(post.scenes if post else ()) - set(previous.scenes_after))
    seen = "as much ground was seen" if abs(more_km2) < 5e-4 else (
        f"{km2(abs(more_km2))} km² {'more' if more_km2 > 0 else 'less'} ground was seen"
    )  # fmt: skip
    found = "as many landslides were found" if more == 0 else (
        f"{landslides(abs(more))} {'more' if more > 0 else 'fewer'} {'was' if abs(more) == 1 else 'were'} found"
    )  # fmt: skip
    count = f"{images} new image{'' if images == 1 else 's'}"
    return f"Since version {previous.version} of {previous.published:%Y-%m-%d %H:%M} UTC: {count}; {seen}; {found}."


def _coming(told: CampaignContext) -> str:
    end = f" The campaign ends on {told.horizon:%Y-%m-%d} at the latest." if told.horizon else ""
    if not told.passes:
        return f"When a satellite passes next is not known.{end}"
    listed = "; ".join(_pass(one) for one in told.passes[:PASSES])
    return f"Next expected passes: {listed}. Whether they see through the clouds is not known.{end}"


def _pass(one: ExpectedPass) -> str:
    return f"{one.satellite} on {one.time:%Y-%m-%d %H:%M} UTC over {one.share:.0%} of the area"
