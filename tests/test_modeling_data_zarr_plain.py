"""modeling/data/zarr_plain.py: what is written any Zarr reader opens, and what is damaged is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling.data import zarr_plain
from modeling.data.zarr_plain import ArrayWriter, open_array, write_group
from modeling.errors import DataError


def write(folder: Path, values: np.ndarray) -> None:
    names = ("patch", "layer", "row")[: values.ndim]
    with ArrayWriter(folder, values.dtype.name, values.shape[1:], names) as writer:
        for row in values:
            writer.append(row)


@given(
    rows=st.integers(1, 9),
    shape=st.lists(st.integers(1, 4), max_size=2),
    chunk=st.integers(1, 64),
    dtype=st.sampled_from(["float16", "float32", "float64", "int16", "int32", "uint8"]),
)
@settings(max_examples=40, deadline=None)
def test_zarr_reads_what_is_written(
    tmp_path_factory: pytest.TempPathFactory, rows: int, shape: list[int], chunk: int, dtype: str
) -> None:
    folder = tmp_path_factory.mktemp("array") / "a"
    values = np.arange(rows * int(np.prod(shape)), dtype=dtype).reshape(rows, *shape)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zarr_plain, "_CHUNK_BYTES", chunk)
        write(folder, values)
    theirs = zarr.open_array(folder, mode="r")
    np.testing.assert_array_equal(theirs[...], values)
    own = open_array(folder)
    np.testing.assert_array_equal(own.whole(), values)
    np.testing.assert_array_equal(own.row(rows - 1), values[-1])
    assert own.dtype == values.dtype


def test_a_group_is_read_by_zarr(tmp_path: Path) -> None:
    write(tmp_path / "x", np.arange(3.0))
    write_group(tmp_path, {"about": {"n": 3}})
    group = zarr.open_group(tmp_path, mode="r")
    assert group.attrs["about"] == {"n": 3}
    assert dict(group.arrays())["x"].metadata.dimension_names == ("patch",)


def test_an_array_that_failed_has_no_metadata(tmp_path: Path) -> None:
    with (
        pytest.raises(DataError, match=r"shape \(3,\), not \(2,\)"),
        ArrayWriter(tmp_path / "a", "uint8", (2,), ("n", "m")) as writer,
    ):
        writer.append(np.zeros(2, np.uint8))
        writer.append(np.zeros(3, np.uint8))
    with pytest.raises(DataError, match="not a Zarr"):
        open_array(tmp_path / "a")


def test_a_truncated_or_missing_chunk_is_named(tmp_path: Path) -> None:
    write(tmp_path / "a", np.zeros((4, 5), np.float32))
    chunk = tmp_path / "a" / "c" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"c/0/0 has 79 bytes instead of 80"):
        open_array(tmp_path / "a")
    chunk.unlink()
    with pytest.raises(DataError, match="c/0/0 is missing"):
        open_array(tmp_path / "a")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"codecs": [{"name": "bytes"}, {"name": "zstd"}]}, "uncompressed"),
        ({"data_type": "string"}, "plain numbers"),
        ({"shape": [10**12, 5]}, "more than can be there"),
        ({"shape": [4, 6]}, "whole rows"),
        ({"shape": [0, 5]}, "whole rows"),
        ({"shape": ["x"]}, "does not describe"),
        ({"chunk_grid": None}, "does not describe"),
    ],
)
def test_what_is_declared_is_weighed(tmp_path: Path, change: dict[str, object], said: str) -> None:
    write(tmp_path / "a", np.zeros((4, 5), np.float32))
    meta = tmp_path / "a" / "zarr.json"
    meta.write_text(json.dumps(json.loads(meta.read_text()) | change))
    with pytest.raises(DataError, match=said):
        open_array(tmp_path / "a")


@given(text=st.text(max_size=60) | st.sampled_from(["[" * 5000, "{}", "[]", "null", '{"shape": NaN}']))
@settings(max_examples=40, deadline=None)
def test_broken_metadata_is_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("array")
    (folder / "zarr.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError):
        open_array(folder)
