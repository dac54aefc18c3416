"""How much a project may keep: the number of its assets and the bytes of what was ingested."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from infra.local.earthengine.errors import ArgumentError

MAX_ASSETS = 10_000
"""The service's default."""
MAX_BYTES = 250 * 10**9
"""The service's default."""


@dataclass(frozen=True)
class Allowance:
    """What may be kept."""

    max_assets: int = MAX_ASSETS
    """Assets of every type, folders and collections among them."""
    max_bytes: int = MAX_BYTES
    """Bytes of ingested rasters and tables; COG-backed images lie in Cloud Storage and do not count."""

    def require(self, root: str, assets: int, size_bytes: int) -> None:
        """ArgumentError when a root holds more than it may. (The service words it alike, not the same.)"""
        if assets > self.max_assets:
            raise ArgumentError(
                f"Asset count quota exceeded for '{root}': {assets} assets, the maximum is {self.max_assets}."
            )
        if size_bytes > self.max_bytes:
            raise ArgumentError(
                f"Asset storage quota exceeded for '{root}': {size_bytes} bytes, the maximum is {self.max_bytes}."
            )

    def to_json(self, assets: int, size_bytes: int) -> dict[str, Any]:
        """As a root folder shows it; 64-bit numbers travel as text."""
        return {
            "assetCount": str(assets),
            "maxAssets": str(self.max_assets),
            "sizeBytes": str(size_bytes),
            "maxSizeBytes": str(self.max_bytes),
        }
