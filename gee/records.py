"""What is written down when a tile has arrived, and when all have. Pure.

Every such document carries the crc32c of what it says: one with a flipped bit counts as damaged, never as true.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import google_crc32c

from gee.errors import CubeError


@dataclass(frozen=True)
class StoredChunk:
    """One chunk as it was written."""

    crc32c: str
    """The checksum with which its bytes end, hexadecimal."""
    size: int
    """Number of its bytes, the checksum included."""


@dataclass(frozen=True)
class TileRecord:
    """A tile that has arrived."""

    name: str
    """The tile."""
    blake3: str
    """Of its chunks as they are stored, one after the other."""
    chunks: Mapping[str, StoredChunk]
    """Array name -> its chunk."""
    pulled_bytes: int
    """What was pulled for it, counted as Earth Engine counts."""
    seconds: float
    """How long the pull and the writing took."""
    plan_hash: str
    """The plan that it was pulled for."""
    eecu_s: float | None = None
    """What it cost, in EECU-seconds by Earth Engine's profile; None when it was not measured."""
    seen: StoredChunk | None = None
    """What was seen of it before it was cut to the area (`CubePlace.seen`); None when it lies wholly inside, and in
    cubes of before that was kept."""
    taken_from: str = ""
    """Address of the cube that it was taken over from, with no pixel pulled; empty when it was pulled."""

    def to_json(self) -> bytes:
        """As a JSON object with a checksum."""
        return with_checksum(asdict(self))

    @classmethod
    def from_json(cls, body: bytes) -> TileRecord:
        """The inverse of `to_json`; raises `CubeError` when the bytes are no record, or a damaged one."""
        return _record(checked(body, "record of a tile"), body)


@dataclass(frozen=True)
class Manifest:
    """What makes a cube whole: the record of every tile."""

    plan_hash: str
    """The plan that it completes."""
    records: tuple[TileRecord, ...]
    """One for each tile, in the order of the plan."""

    @property
    def cube_hash(self) -> str:
        """Sha256 over the plan and the hash of every tile."""
        lines = [self.plan_hash, *(f"{record.name} {record.blake3}" for record in self.records)]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def to_json(self) -> bytes:
        """As a JSON object with a checksum."""
        tiles: list[dict[str, Any]] = [asdict(record) for record in self.records]
        return with_checksum({"plan_hash": self.plan_hash, "cube_hash": self.cube_hash, "tiles": tiles})

    @classmethod
    def from_json(cls, body: bytes) -> Manifest:
        """The inverse of `to_json`; raises `CubeError` when the bytes are no manifest or it contradicts itself."""
        value = checked(body, "manifest of a cube")
        try:
            records = tuple(_record(tile, body) for tile in value["tiles"])
            manifest, stated = cls(value["plan_hash"], records), value["cube_hash"]
        except (KeyError, TypeError) as error:
            raise CubeError(f"not the manifest of a cube: {body[:80]!r} ({error})") from None
        if manifest.cube_hash != stated:
            raise CubeError(f"the manifest contradicts itself: its tiles hash to {manifest.cube_hash}, not {stated}")
        return manifest


def with_checksum(value: Mapping[str, Any]) -> bytes:
    """A JSON object that carries the crc32c of its other members as `crc32c`."""
    return json.dumps({**value, "crc32c": _crc32c(value)}, indent=1, sort_keys=True).encode()


def checked(body: bytes, what: str) -> dict[str, Any]:
    """The members of a JSON object written by `with_checksum`; raises `CubeError` that says what is damaged."""
    try:
        value = json.loads(body)
        stated = value.pop("crc32c")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CubeError(f"not the {what}: {body[:80]!r} ({error})") from None
    if stated != _crc32c(value):
        raise CubeError(f"the {what} is damaged: its checksum is {_crc32c(value)}, not {stated}")
    return dict(value)


def _crc32c(value: Mapping[str, Any]) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return f"{google_crc32c.value(text.encode()):08x}"


def _record(value: Mapping[str, Any], body: bytes) -> TileRecord:
    try:
        chunks = {name: StoredChunk(**chunk) for name, chunk in value["chunks"].items()}
        seen = value.get("seen")
        return TileRecord(**{**value, "chunks": chunks, "seen": None if seen is None else StoredChunk(**seen)})
    except (KeyError, TypeError, AttributeError) as error:
        raise CubeError(f"not the record of a tile: {body[:80]!r} ({error})") from None
