"""gee/records.py: what is written down reads back the same, or not at all."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gee.errors import CubeError
from gee.records import Manifest, StoredChunk, TileRecord, checked, with_checksum

RECORD = TileRecord("0000-0001", "ab" * 32, {"stack": StoredChunk("00ff00ff", 12)}, 1_000, 0.25, "plan", 1.5)


def test_records_and_manifests_survive_json() -> None:
    assert TileRecord.from_json(RECORD.to_json()) == RECORD
    manifest = Manifest("plan", (RECORD, RECORD))
    assert Manifest.from_json(manifest.to_json()) == manifest


@given(st.dictionaries(st.text(), st.none() | st.integers() | st.floats(allow_nan=False) | st.text()))
def test_a_checksum_holds_whatever_is_said(value: dict[str, object]) -> None:
    value.pop("crc32c", None)
    assert checked(with_checksum(value), "thing") == value


def test_another_value_under_the_same_checksum_is_damage() -> None:
    value = json.loads(RECORD.to_json())
    value["pulled_bytes"] += 1
    with pytest.raises(CubeError, match="the record of a tile is damaged"):
        TileRecord.from_json(json.dumps(value).encode())


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"null", with_checksum({"name": "x"}), with_checksum({"chunks": 3})]
)
def test_what_is_no_record_is_refused(body: bytes) -> None:
    with pytest.raises(CubeError, match="not the record of a tile"):
        TileRecord.from_json(body)
    with pytest.raises(CubeError, match="not the manifest of a cube"):
        Manifest.from_json(body)
