"""What a campaign remembers of its versions: read from what was published, so that no crash can make the two differ."""

from __future__ import annotations

from collections.abc import Sequence

from flows.campaign.model import Attempt, Campaign, Cost, VersionNote
from flows.facts import ReportFacts
from flows.layout import EventLayout
from flows.publish import Publication, read_versions
from flows.storage import Store

NOT_YET = "not mapped yet"
"""What is said of the campaign's area beyond that of a partial version."""


def unnoted(store: Store, campaign: Campaign) -> tuple[Publication, ...]:
    """The visible versions that the campaign does not know of."""
    known = {note.version for note in campaign.versions}
    event = EventLayout(store.bucket_url, campaign.id)
    return tuple(one for one in read_versions(store, event) if one.version not in known)


def facts_of(store: Store, publication: Publication) -> ReportFacts | None:
    """What a version says; None for one of before facts were kept."""
    uri = publication.assets.get("facts")
    return None if uri is None else ReportFacts.from_json(store.read_bytes(uri).decode())


def note_of(publication: Publication, facts: ReportFacts, attempt: Attempt | None, stored_bytes: int) -> VersionNote:
    """What is remembered of a version, from its facts; where they tell no cost, it is that expected of the attempt.

    `stored_bytes` is what its products take in the bucket, beside the cube.
    """
    told = facts.campaign
    drawn = facts.adaptation is not None
    mapped_km2 = facts.coverage.area_km2
    whole_km2 = max(told.area_km2, mapped_km2) if told is not None else mapped_km2
    kind = told.kind if told is not None else "whole"
    why = "polygons that an analyst drew" if drawn else told.why if told is not None else "asked for by hand"
    expected = Cost() if attempt is None else attempt.cost
    cost = Cost() if drawn else expected if facts.used is None else facts.used
    post = facts.phase("post")
    return VersionNote(
        version=publication.version, run_key=publication.run_key, published=publication.published, kind=kind, why=why,
        area_km2=round(mapped_km2, 4), shares=shares(facts, whole_km2), observed_km2=facts.coverage.observed_km2,
        scenes_after=post.scenes if post else (), landslides=facts.inventory.count,
        landslide_area_m2=facts.inventory.total_area_m2,
        cost=cost.model_copy(update={"stored_bytes": cost.stored_bytes + stored_bytes}),
        expected_share=None if told is None else told.expected_share,
    )  # fmt: skip


def shares(facts: ReportFacts, whole_km2: float) -> dict[str, float]:
    """Share of a campaign's area by what was seen of it, in words of `OBSERVED_LABELS`; they sum to 1."""
    if whole_km2 <= 0:
        return {NOT_YET: 1.0}
    found = {row.label: row.area_km2 / whole_km2 for row in facts.coverage.rows}
    rest = 1.0 - sum(found.values())
    return {**found, NOT_YET: rest} if rest > 1e-6 else found


def with_notes(campaign: Campaign, notes: Sequence[VersionNote]) -> Campaign:
    """The campaign with versions that it did not know of; what it has used is what all of them cost."""
    known = {note.version for note in campaign.versions}
    new = [note for note in notes if note.version not in known]
    if not new:
        return campaign
    versions = tuple(sorted((*campaign.versions, *new), key=lambda note: note.version))
    used = sum((note.cost for note in versions), Cost())
    return campaign.model_copy(update={"versions": versions, "used": used})
