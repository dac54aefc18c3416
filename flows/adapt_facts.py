"""What is said of a version that an analyst's polygons have changed. Pure: no file, no network, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import TypeAdapter

from modeling.adaptation.judging import AS_IT_WAS, CONVINCED, LEAST_FOUND, LEVEL, Judgement

ADAPTED_SCORES = {
    "map_f1": "F1 of the whole map, estimated", "mcc": "Matthews' correlation", "f1": "F1", "precision": "Precision",
    "recall": "Recall", "iou": "IoU",
}  # fmt: skip
"""Scores of an adaptation, the deciding ones first."""
LARGEST_CHANGES = 20
"""How many changes where nobody has looked are listed one by one."""


@dataclass(frozen=True)
class ChangeRow:
    """How much ground has one code of `modeling.adaptation.changes.Change`."""

    code: int
    """The code."""
    label: str
    """In words."""
    area_m2: float
    """Area with this code."""


@dataclass(frozen=True)
class FarChange:
    """A connected patch that changes, or would, where nobody has looked."""

    label: str
    """What became of it, in words."""
    area_m2: float
    """Its area."""
    lon: float
    """Longitude of its middle, degrees."""
    lat: float
    """Latitude of its middle, degrees."""


@dataclass(frozen=True)
class MapChange:
    """What became of the map as a whole: how much it claims is counted, its F1 estimated from that and the drawn landslides."""

    claimed_before_m2: float
    """Area called landslide before."""
    claimed_after_m2: float
    """The same in the map that came of it, changes kept back not among it."""
    f1_before: float
    """Estimated (`modeling.adaptation.judging.WholeMap`)."""
    f1_after: float
    """The same after."""

    @property
    def worse(self) -> bool:
        """Whether the map got worse."""
        return self.f1_after < self.f1_before


@dataclass(frozen=True)
class AdaptationFacts:
    """An adaptation to drawn polygons: from what, by what, how good, and what it changed."""

    parent_version: int | None
    """Number of the version before; None for a folder of `map-raster`."""
    parent_run_key: str
    """Its run."""
    parent_model: str
    """Name of its network."""
    parent_weights: str
    """SHA-256 of its weights."""
    labels_name: str
    """File name of the polygons."""
    labels_sha256: str
    """Hash of what was drawn."""
    landslide_polygons: int
    """How many polygons are landslides."""
    other_polygons: int
    """How many are other ground."""
    folds: int
    """Parts of the cross-validation."""
    groups_apart_m: float
    """Polygons nearer to each other than this are held out together."""
    judgement: Judgement
    """Scores before and after on held-out polygons, and the verdict."""
    judged_polygons: int
    """Polygons with observed pixels."""
    right_before: int
    """Those of them that the map before had right in most of their pixels."""
    right_after: int
    """The same for the adapted model, each polygon being held out."""
    model_sha256: str
    """SHA-256 of the adapted weights; empty when there are none."""
    seconds: float
    """What adapting and judging took."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """How it was done, for people."""
    notes: tuple[str, ...] = ()
    """What a reader should know."""
    whole: MapChange | None = None
    """What became of the map as a whole; None before it is made."""
    rule: str = ""
    """The rule for changes where nobody has looked, in words."""
    changes: tuple[ChangeRow, ...] = ()
    """What became of the ground, codes that occur."""
    within_budget: bool = True
    """Whether changes where nobody looked that are like what was drawn were few enough to be taken."""
    far_count: int = 0
    """Patches that change, or would, where nobody has looked."""
    far: tuple[FarChange, ...] = ()
    """The largest of them."""
    count_before: int = 0
    """Landslides in the map before."""
    area_before_m2: float = 0.0
    """Their total area."""

    @property
    def polygons(self) -> int:
        """How many were drawn."""
        return self.landslide_polygons + self.other_polygons

    def to_json(self) -> str:
        """As JSON text."""
        return _ADAPTER.dump_json(self, indent=1).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> AdaptationFacts:
        """The inverse of `to_json`."""
        return _ADAPTER.validate_json(text)

    def area_of(self, *codes: int) -> float:
        """The area of some codes together, m²."""
        return sum(row.area_m2 for row in self.changes if row.code in codes)


_ADAPTER = TypeAdapter(AdaptationFacts)


def _why_unproven(judgement: Judgement) -> str:
    if judgement.one_sided:
        return (
            f"of the landslides drawn the map had found {judgement.pooled[AS_IT_WAS]['recall']:.0%}, so they were drawn for "
            "being missed, and how many it misses cannot be told: draw some that it has found as well"
        )
    if judgement.share_above < CONVINCED:
        return f"both scores rose in {judgement.share_above:.0%} of the draws, {CONVINCED:.0%} are asked"
    above = f"above 0 in {judgement.share_above_chance:.0%} of the draws, {LEVEL:.0%} are asked"
    return f"no better than guessing: Matthews' correlation {above}"


def verdict_text(facts: AdaptationFacts) -> str:
    """What came of it, in a sentence."""
    judgement = facts.judgement
    told = "; ".join(
        f"{name} {judgement.before[key].value:.3f} before and {judgement.after[key].value:.3f} after, difference "
        f"{judgement.gain[key].value:+.3f} (95 % of the draws {judgement.gain[key].low:+.3f} to "
        f"{judgement.gain[key].high:+.3f})"
        for key, name in (("mcc", "Matthews' correlation on held-out polygons"), ("map_f1", ADAPTED_SCORES["map_f1"]))
    )
    if (whole := facts.whole) is not None:
        before, after = whole.claimed_before_m2 / 1e4, whole.claimed_after_m2 / 1e4
        told += f"; the map claims {before:,.1f} ha before and {after:,.1f} ha after"
    words = {
        "better": "The adapted model is better",
        "unproven": f"The adapted model was not shown to be better ({_why_unproven(judgement)})",
        "worse": "The adapted model got worse",
    }
    if judgement.verdict != "better" and judgement.pooled[AS_IT_WAS]["mcc"] >= 1:
        return f"The map is right about every polygon that was judged already, draw where it is wrong: {told}."
    if facts.whole is not None and facts.whole.worse:
        return f"The map got worse, claiming more than it finds: {told}."
    return f"{words[judgement.verdict]}: {told}."


def estimate_text(judgement: Judgement) -> str:
    """What the F1 of the whole map is estimated from, and how far that goes."""
    told = (
        "The F1 of the whole map is estimated from how much it claims, which is counted, and from the share of the drawn "
        "landslides that it finds"
    )
    if not judgement.one_sided:
        return f"{told}; it is too kind to this map if these were drawn above all where the map before had missed them."
    return (
        f"{told}. Of these the map before had found {judgement.pooled[AS_IT_WAS]['recall']:.0%}: they were drawn for being "
        f"missed, and do not tell how many it misses. It is taken to find {LEAST_FOUND:.0%} of all landslides; both maps may be "
        "better than estimated."
    )
