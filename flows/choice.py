"""The record of a choice of network: which models were considered, how far the scene lies from each, and a warning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import TypeAdapter


@dataclass(frozen=True)
class BandDistance:
    """How differently one channel is distributed in the scene and in a model's training ground."""

    distance: float
    """Squared MMD, between about 0 and 10."""
    low: float
    """Lower end of its 95 % interval."""
    high: float
    """Upper end."""


@dataclass(frozen=True)
class Candidate:
    """One model that was considered."""

    name: str
    """Its name."""
    weights_hash: str
    """sha256 of its weights."""
    band_set: str
    """The band set that it needs."""
    missing: tuple[str, ...] = ()
    """Channels that the scene lacks; with any the model cannot be used."""
    mean: BandDistance | None = None
    """Mean distance over its channels; None where that cannot be told."""
    disagreement: float | None = None
    """1 - F1 between its own map of the scene and that of all models together; None where it was not asked."""
    joint: BandDistance | None = None
    """Distance of all channels together."""
    bands: Mapping[str, BandDistance] | None = None
    """Distance of each channel."""
    limit: float | None = None
    """Distance beyond which a scene is novel to it."""
    p_value: float | None = None
    """Share of the pieces of its own validation ground that lie as far."""
    novel: bool | None = None
    """Whether the scene is farther than nearly all of what it was validated on; None when that cannot be told."""
    far_bands: tuple[str, ...] = ()
    """Channels that are farther than in nearly all of that ground."""
    validation_f1: float | None = None
    """Pixel F1 on its own validation ground."""
    reasons: tuple[str, ...] = ()
    """Why it stands where it does."""


@dataclass(frozen=True)
class Selection:
    """The choice, as the report, the item and `quakeslide select` tell it."""

    chosen: str
    """Name of the model that maps."""
    weights_hash: str
    """sha256 of its weights."""
    automatic: bool
    """Whether the program chose; else somebody named the model, and it is only compared with the scene."""
    signal: str
    """What was ranked by, a name of `modeling.domains.select.SIGNALS`."""
    candidates: tuple[Candidate, ...]
    """All models that were considered, best first."""
    left_out: tuple[str, ...] = ()
    """Damaged models, each with its reason."""
    pixels: int = 0
    """Pixels of the scene that were compared."""
    known: float = 0.0
    """Share of the ground looked at of which all layers are known."""

    @property
    def winner(self) -> Candidate:
        """The chosen model."""
        return next(one for one in self.candidates if one.name == self.chosen)

    @property
    def heading(self) -> str:
        """The warning in a few words; empty when the scene is near."""
        if not self.winner.novel:
            return ""
        return (
            f"{self._nobody[0].upper()}{self._nobody[1:]}"
            if self._nobody_near
            else "The network is not near this region"
        )

    @property
    def warning(self) -> str:
        """What a reader of the map must know of the choice; empty when the scene is near."""
        own = self.winner
        if not own.novel or own.mean is None or own.limit is None:
            return ""
        start = self._nobody if self._nobody_near else f"{own.name} is not near this region"
        far = f" It differs most in {', '.join(own.far_bands[:3])}." if own.far_bands else ""
        near = next((one.name for one in self.candidates if one.novel is False), None)
        other = "" if near is None else f" {near}, which was not taken, is nearer."
        return (
            f"{start}: it lies farther from what {own.name} learned from than 99 % of the ground on which that was"
            f" validated (distance {own.mean.distance:.2f}, limit {own.limit:.2f}).{far}{other} Expect more errors than its"
            " scores say."
        )

    @property
    def _nobody(self) -> str:
        known = "known to be " if any(one.novel is None for one in self.candidates) else ""
        return f"no model is {known}near this region"

    @property
    def _nobody_near(self) -> bool:
        return self.automatic and not any(one.novel is False for one in self.candidates)

    def to_json(self) -> str:
        """As JSON text."""
        return _ADAPTER.dump_json(self, indent=1).decode()

    @classmethod
    def from_json(cls, text: str) -> Selection:
        """The inverse of `to_json`."""
        return _ADAPTER.validate_json(text)


_ADAPTER = TypeAdapter(Selection)
