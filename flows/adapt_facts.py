"""What is said of a version that an analyst's polygons have changed. Pure: no file, no network, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import TypeAdapter

from modeling.adaptation.judging import AS_IT_WAS, CONVINCED, LEVEL, Judgement

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
    if judgement.chosen == AS_IT_WAS and judgement.candidates[AS_IT_WAS]["mcc"] >= 1:
        return "the map is right about every polygon that was judged already: draw where it is wrong"
    if judgement.share_above < CONVINCED:
        return f"in {judgement.share_above:.0%} of the draws, {CONVINCED:.0%} are asked"
    return f"no better than guessing: above 0 in {judgement.share_above_chance:.0%} of the draws, {LEVEL:.0%} are asked"


def verdict_text(facts: AdaptationFacts) -> str:
    """What came of it, in a sentence."""
    judgement = facts.judgement
    gain, before, after = judgement.gain["mcc"], judgement.before["mcc"], judgement.after["mcc"]
    told = (
        f"Matthews' correlation on held-out polygons {before.value:.3f} before and {after.value:.3f} after, difference "
        f"{gain.value:+.3f} (95 % of the draws {gain.low:+.3f} to {gain.high:+.3f}), F1 "
        f"{judgement.before['f1'].value:.3f} and {judgement.after['f1'].value:.3f}"
    )
    words = {
        "better": "The adapted model is better",
        "unproven": f"The adapted model was not shown to be better ({_why_unproven(judgement)})",
        "worse": "The adapted model got worse",
    }
    return f"{words[judgement.verdict]}: {told}."
