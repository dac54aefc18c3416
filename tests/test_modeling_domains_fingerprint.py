"""modeling/domains/fingerprint.py, sample_file.py and record.py: what is kept of ground, drawn fairly, stored and checked."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modeling.data.batches import IGNORE, Block, FloatArray
from modeling.domains.fingerprint import (
    Fingerprint,
    Reference,
    Window,
    fingerprint_of,
    fingerprint_of_scene,
    mixed,
    spread_evenly,
)
from modeling.domains.record import record_sample
from modeling.domains.sample_file import load_fingerprint, sample_path, save_fingerprint
from modeling.errors import DataError, WeightsError

CHANNELS = ("red_post", "slope")


def block(
    name: str, level: float, *, domain: str = "here", side: int = 20, hidden_rows: int = 0, group: str = ""
) -> Block:
    """Red near `level`, slope its number of the pixel; the first rows have no slope."""
    rng = np.random.default_rng(len(name))
    red = rng.normal(level, 0.01, (side, side))
    slope = np.arange(side * side, dtype=np.float64).reshape(side, side)
    slope[:hidden_rows] = np.nan
    channels = np.stack([red, slope]).astype(np.float32)
    return Block(channels, np.full((side, side), IGNORE, np.uint8), name, domain, 100.0, group)


def fingerprint(**changes: object) -> Fingerprint:
    made = fingerprint_of(
        [block("a", 0.1), block("b", 0.3, domain="there")], CHANNELS, rows=60, seed=3, about="two blocks"
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def test_every_block_gives_as_many_pixels_and_the_seed_decides() -> None:
    found = fingerprint()
    assert found.values.shape == (60, 2)
    assert np.bincount(found.groups).tolist() == [30, 30]
    assert found.domains == ("here", "there")
    assert abs(found.values[found.groups == 0, 0].mean() - 0.1) < 0.01
    assert np.array_equal(found.values, fingerprint().values)
    other = fingerprint_of([block("a", 0.1), block("b", 0.3)], CHANNELS, rows=60, seed=4)
    assert not np.array_equal(found.values, other.values)
    # Without replacement: each pixel of block a at most once.
    assert len(set(found.values[found.groups == 0, 1].tolist())) == 30


def test_pixels_with_an_unknown_channel_are_left_out_and_others_give_more() -> None:
    found = fingerprint_of([block("a", 0.1, hidden_rows=19), block("b", 0.3)], CHANNELS, rows=100)
    assert np.isfinite(found.values).all()
    assert np.bincount(found.groups).tolist() == [20, 80]
    assert found.known == pytest.approx((20 + 400) / 800)
    assert len(fingerprint_of([block("a", 0.1)], CHANNELS, rows=5000)) == 400


def test_labels_are_never_read() -> None:
    blocks = [block("a", 0.1), block("b", 0.3)]
    scrambled = [
        replace(one, truth=np.random.default_rng(0).integers(0, 2, (20, 20)).astype(np.uint8)) for one in blocks
    ]
    assert np.array_equal(fingerprint_of(blocks, CHANNELS).values, fingerprint_of(scrambled, CHANNELS).values)


def test_blocks_of_one_group_are_one_group() -> None:
    found = fingerprint_of([block(name, 0.1, group="square") for name in "abc"], CHANNELS, rows=30)
    assert set(found.groups.tolist()) == {0}
    assert found.domains == ("here",)


def test_ground_of_which_nothing_is_known_has_no_fingerprint() -> None:
    with pytest.raises(DataError, match="only 0 pixels"):
        fingerprint_of([block("a", 0.1, hidden_rows=20)], CHANNELS)
    with pytest.raises(DataError, match="no block"):
        fingerprint_of([], CHANNELS)


def test_channels_are_taken_by_name() -> None:
    found = fingerprint()
    assert np.array_equal(found.take(("slope",))[:, 0], found.values[:, 1])
    with pytest.raises(DataError, match="no nir_post; it has red_post, slope"):
        found.take(("nir_post",))
    assert set(found.of_domain("there").groups.tolist()) == {1}


def test_a_scene_is_read_in_windows_and_gives_what_is_known_of_it() -> None:
    rng = np.random.default_rng(1)
    red = rng.normal(0.2, 0.05, (64, 64)).astype(np.float32)
    red[:, :32] = np.nan
    red[:4, :4] = 0.9
    read_windows: list[Window] = []

    def read(window: Window) -> Mapping[str, FloatArray]:
        read_windows.append(window)
        return {"red_post": red[window], "nir_post": red[window] * 3}

    windows = [(slice(y, y + 16), slice(x, x + 16)) for y in range(0, 64, 16) for x in range(0, 64, 16)]
    found = fingerprint_of_scene(read, windows, ("red_post", "ndvi_post"), rows=500, most_windows=64)
    assert len(read_windows) == 16
    assert found.values[:, 1] == pytest.approx(np.full(len(found), 0.5), abs=1e-6)
    counts = np.bincount(found.groups, minlength=16)
    assert counts.sum() == 500
    # The corner window knows 16 pixels, those on the right 256 each.
    assert counts[0] <= 6
    assert counts[[1, 4, 5, 8, 9]].sum() == 0
    assert counts[[2, 3, 6, 7]] == pytest.approx(np.full(4, 62), abs=3)
    read_windows.clear()
    fingerprint_of_scene(read, windows, ("red_post",), rows=50, most_windows=8)
    assert len(read_windows) == 8
    assert len({(y.start, x.start) for y, x in read_windows}) == 8
    assert not found.sampled
    assert fingerprint_of_scene(read, windows, ("red_post",), rows=50, most_windows=8).sampled


def test_windows_are_spread_over_all_of_them() -> None:
    windows = [(slice(i, i + 1), slice(0, 1)) for i in range(1000)]
    starts = np.array([y.start for y, _ in spread_evenly(windows, 50, 0)])
    assert (np.diff(starts) > 0).all()
    assert starts // 20 == pytest.approx(np.arange(50))


def test_a_mix_has_its_shares() -> None:
    a = fingerprint_of([block("a", 0.1)], CHANNELS, rows=300)
    b = fingerprint_of([block("b", 0.5, domain="there")], CHANNELS, rows=300)
    found = mixed([a, b], [500, 200], rows=280)
    assert np.bincount(found.groups).tolist() == [200, 80]
    assert found.domains == ("here", "there")
    assert abs(found.values[found.groups == 1, 0].mean() - 0.5) < 0.02
    assert np.bincount(mixed([a, b], [700, 0], rows=200).groups).tolist() == [200]
    with pytest.raises(DataError, match="one share each"):
        mixed([a, b], [1.0])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"channels": ("red_post",)}, "1 channels has values of shape"),
        ({"values": np.full((60, 2), np.nan, np.float32)}, "all values finite"),
        ({"groups": np.full(60, 7, np.int32)}, "run beyond the 2"),
        ({"reference": Reference(np.zeros((3, 5), np.float32))}, "reference has shape"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(DataError, match=words):
        fingerprint(**changes)


def test_it_is_stored_whole_and_comes_back(tmp_path: Path) -> None:
    made = fingerprint(reference=Reference(np.arange(6, dtype=np.float32).reshape(3, 2)), simulated=True)
    path = sample_path(tmp_path / "model.safetensors")
    assert path.name == "model.sample.safetensors"
    digest = save_fingerprint(made, path)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    found = load_fingerprint(path, digest)
    assert np.array_equal(found.values, made.values)
    assert np.array_equal(found.groups, made.groups)
    assert found.reference is not None
    assert found.reference.mean.tolist() == [0.5, 2.5, 4.5]
    for name in ("channels", "domains", "known", "seed", "about", "simulated"):
        assert getattr(found, name) == getattr(made, name)
    assert save_fingerprint(found, path) == digest


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.sample.safetensors"
    digest = save_fingerprint(fingerprint(), path)
    blob = path.read_bytes()
    with pytest.raises(WeightsError, match="changed or damaged"):
        load_fingerprint(path, "0" * 64)
    with pytest.raises(WeightsError, match="cannot read"):
        load_fingerprint(tmp_path / "nothing", digest)
    for wrong in (b"", b"remember the milk", blob[:-5], blob[:40]):
        path.write_bytes(wrong)
        with pytest.raises(WeightsError, match="not a sample"):
            load_fingerprint(path)
    (length,) = struct.unpack_from("<Q", blob)
    header = json.loads(blob[8 : 8 + length])
    for about in ({}, {"format": "9"}, "no JSON"):
        header["__metadata__"] = {"fingerprint": json.dumps(about)}
        text = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + blob[8 + length :])
        with pytest.raises(WeightsError, match="not a sample"):
            load_fingerprint(path)
    with path.open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(WeightsError, match="too large"):
        load_fingerprint(path)


def test_training_records_its_ground_beside_the_weights(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    weights = tmp_path / "m.safetensors"
    ground, other = [block("a", 0.1), block("b", 0.12)], [block("c", 0.11)]
    entry = record_sample(weights, ground, other, CHANNELS, seed=2, about="two blocks", simulated=True)["sample"]
    found = load_fingerprint(sample_path(weights), entry["sha256"])
    assert entry == {"sha256": entry["sha256"], "rows": len(found), "seed": 2, "about": "two blocks", "pieces": 1}
    assert found.reference is not None
    # Ground that is hidden leaves no sample, nor an old one.
    assert record_sample(weights, [block("a", 0.1, hidden_rows=20)], other, CHANNELS) == {}
    assert not sample_path(weights).exists()
    assert "has no sample" in caplog.text
