"""How many pixels a network maps in a second, and how that is known: measured by a run, or assumed. Pure.

Pixels are those of the cube's tiles, and seconds go by the clock on the wall, whatever the device: what a plan counts is
what a run measures.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import TypeAdapter


@dataclass(frozen=True)
class Speed:
    """A rate at which a plan's minutes are reckoned."""

    px_per_s: float
    """Pixels of the cube's tiles in a second."""
    source: str
    """Where it is from, in words."""

    def __str__(self) -> str:
        """For example `150,000 px/s, measured by version 2`."""
        return f"{self.px_per_s:,.0f} px/s, {self.source}"


ASSUMED = Speed(150_000.0, "assumed, as nothing was measured yet")
"""Where nothing has told: MSF-LiteNet on two cores, rounded down."""

MOST_OF_IT = 0.5
"""A run that took more than this share of its map from an earlier one tells little of the network."""


@dataclass(frozen=True)
class NetworkRun:
    """How the network of one run has mapped."""

    pixels: int
    """Pixels of the cube's tiles that it mapped."""
    share: float
    """Share of the map that these are; the rest was taken from an earlier version."""
    seconds: float
    """What that took, by the clock on the wall, on the device that maps."""

    @property
    def px_per_s(self) -> float | None:
        """The rate; None where too little was mapped to tell."""
        enough = self.share >= MOST_OF_IT and self.pixels > 0 and self.seconds > 0
        return self.pixels / self.seconds if enough else None

    def to_json(self) -> str:
        """As JSON text."""
        return _ADAPTER.dump_json(self, indent=1).decode()

    @classmethod
    def from_json(cls, text: str) -> NetworkRun:
        """The inverse of `to_json`."""
        return _ADAPTER.validate_json(text)


_ADAPTER = TypeAdapter(NetworkRun)
