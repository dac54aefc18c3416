"""What is written down when a tile has arrived, and when all have. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gee.errors import CubeError


@dataclass(frozen=True)
class StoredChunk:
    """One chunk as it was written."""

    sha256: str
    """Of the stored bytes."""
    size: int
    """Their number."""


@dataclass(frozen=True)
class TileRecord:
    """A tile that has arrived."""

    name: str
    """The tile."""
    sha256: str
    """Of its values, whatever they are compressed with."""
    chunks: Mapping[str, StoredChunk]
    """Array name -> its chunk."""
    pulled_bytes: int
    """What was pulled for it, counted as Earth Engine counts."""
    seconds: float
    """How long the pull and the writing took."""
    plan_hash: str
    """The plan that it was pulled for."""

    def to_json(self) -> bytes:
        """As a JSON object."""
        return json.dumps(asdict(self), indent=1, sort_keys=True).encode()

    @classmethod
    def from_json(cls, body: bytes) -> TileRecord:
        """The inverse of `to_json`; raises `CubeError` when the bytes are no record."""
        try:
            value = json.loads(body)
            chunks = {name: StoredChunk(**chunk) for name, chunk in value.pop("chunks").items()}
            return cls(chunks=chunks, **value)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CubeError(f"not the record of a tile: {body[:80]!r} ({error})") from None


@dataclass(frozen=True)
class Manifest:
    """What makes a cube whole: the record of every tile."""

    plan_hash: str
    """The plan that it completes."""
    records: tuple[TileRecord, ...]
    """One for each tile, in the order of the plan."""

    @property
    def cube_hash(self) -> str:
        """Sha256 over the plan and the values of every tile."""
        lines = [self.plan_hash, *(f"{record.name} {record.sha256}" for record in self.records)]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def to_json(self) -> bytes:
        """As a JSON object."""
        tiles: list[dict[str, Any]] = [asdict(record) for record in self.records]
        value = {"plan_hash": self.plan_hash, "cube_hash": self.cube_hash, "tiles": tiles}
        return json.dumps(value, indent=1, sort_keys=True).encode()

    @classmethod
    def from_json(cls, body: bytes) -> Manifest:
        """The inverse of `to_json`; raises `CubeError` when the bytes are no manifest or it contradicts itself."""
        try:
            value = json.loads(body)
            records = tuple(TileRecord.from_json(json.dumps(tile).encode()) for tile in value["tiles"])
            manifest, stated = cls(value["plan_hash"], records), value["cube_hash"]
        except (ValueError, KeyError, TypeError) as error:
            raise CubeError(f"not the manifest of a cube: {body[:80]!r} ({error})") from None
        if manifest.cube_hash != stated:
            raise CubeError(f"the manifest contradicts itself: its tiles hash to {manifest.cube_hash}, not {stated}")
        return manifest
