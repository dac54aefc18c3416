"""Whether a model may be computed in bfloat16: decided by what was measured with its trained weights, stored with them.

bfloat16 has 8 bits of precision. It halves the memory and the time of a network, and most networks don't notice; that
one doesn't is a fact about its weights, to be measured and not assumed (`modeling.training.proving`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from modeling.errors import WeightsError

HARMLESS_F1_CHANGE = 0.001
"""By how much F1 may differ, up or down."""


@dataclass(frozen=True)
class Bfloat16Proof:
    """F1 of the same model on the same pixels in both types, as prediction computes them."""

    f1_float32: float
    """In float32."""
    f1_bfloat16: float
    """In bfloat16."""
    pixels: int
    """Pixels that counted."""
    landslide_pixels: int
    """Those of them that are landslide in truth."""
    blocks: str
    """What they were, in words."""

    @property
    def change(self) -> float:
        """What bfloat16 adds to F1."""
        return self.f1_bfloat16 - self.f1_float32

    @property
    def harmless(self) -> bool:
        """Whether F1 changes by no more than `HARMLESS_F1_CHANGE`, on pixels of which some are landslide."""
        return self.landslide_pixels > 0 and abs(self.change) <= HARMLESS_F1_CHANGE

    def to_json(self) -> dict[str, Any]:
        """Plain values for a model's JSON file."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Bfloat16Proof:
        """The inverse of `to_json`; raises `WeightsError` for anything else."""
        try:
            made = cls(
                f1_float32=float(stored["f1_float32"]), f1_bfloat16=float(stored["f1_bfloat16"]),
                pixels=int(stored["pixels"]), landslide_pixels=int(stored["landslide_pixels"]),
                blocks=str(stored["blocks"]),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise WeightsError(f"the stored proof for bfloat16 cannot be read: {error!r}") from error
        if not (0 <= made.f1_float32 <= 1 and 0 <= made.f1_bfloat16 <= 1):
            raise WeightsError(f"the stored proof for bfloat16 states F1 out of [0, 1]: {made}")
        return made
