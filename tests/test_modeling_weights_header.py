"""The header of a weights file gives back channels and normalisation exactly, and a damaged or hostile one is refused by name."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import load, save

from modeling.bands import BAND_SETS, BandSet
from modeling.data.normalise import METHODS, Normalisation
from modeling.errors import WeightsError
from modeling.weights_header import INPUT_KEY, packed, read_input, read_metadata

PATH = Path("folder/some.safetensors")
BANDS = BAND_SETS["rgb"]
NORMALISATION = Normalisation("standardise", (0.1, 0.2, 0.3), (0.1, 0.1, 0.2), (0.0, 0.0, 0.0), (-6.0, 6.0))
TENSORS = {"b": torch.arange(4.0), "a": torch.ones(2, 2, dtype=torch.float16)}
STATED: dict[str, Any] = {"bands": BANDS.to_json(), "normalisation": NORMALISATION.to_json()}
FIELDS = [("bands",), ("normalisation",), *((part, name) for part, fields in STATED.items() for name in fields)]

FINITE = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@st.composite
def inputs(draw: st.DrawFn) -> tuple[BandSet, Normalisation]:
    names = draw(st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=5, unique=True))
    numbers = st.tuples(*[FINITE] * len(names))
    scale = st.tuples(*[st.floats(min_value=0, exclude_min=True, allow_infinity=False)] * len(names))
    clip = draw(st.tuples(FINITE, FINITE).filter(lambda ends: ends[0] < ends[1]))
    made = Normalisation(draw(st.sampled_from(METHODS)), draw(numbers), draw(scale), draw(numbers), clip)
    return BandSet("own", tuple(names), draw(st.text(max_size=10))), made


def stating(text: str) -> bytes:
    """A weights file whose header holds `text` where channels and normalisation are expected."""
    return bytes(save(TENSORS, {INPUT_KEY: text}))


def with_header(header: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header


def refused(blob: bytes) -> str:
    with pytest.raises(WeightsError) as found:
        read_input(io.BytesIO(blob), PATH)
    assert str(found.value).startswith(f"{PATH}: ")
    assert "train the model again" in str(found.value)
    return str(found.value)


@given(given_input=inputs())
def test_what_was_packed_comes_back_from_equal_bytes(given_input: tuple[BandSet, Normalisation]) -> None:
    blob = packed(TENSORS, *given_input)
    assert read_input(io.BytesIO(blob), PATH) == given_input
    assert packed(dict(reversed(TENSORS.items())), *given_input) == blob
    tensors = load(blob)
    assert all(torch.equal(tensors[name], tensor) for name, tensor in TENSORS.items())


def test_whole_numbers_are_the_same_normalisation() -> None:
    whole = Normalisation("standardise", (0, 0, 0), (1, 1, 1), (0, 0, 0), (-6, 6))
    again = Normalisation("standardise", (0.0,) * 3, (1.0,) * 3, (0.0,) * 3, (-6.0, 6.0))
    assert whole == again
    assert packed(TENSORS, BANDS, whole) == packed(TENSORS, BANDS, again)


def test_a_header_cut_anywhere_is_refused() -> None:
    blob = packed(TENSORS, BANDS, NORMALISATION)
    (length,) = struct.unpack_from("<Q", blob)
    for kept in range(8 + len(blob[8 : 8 + length].rstrip())):
        refused(blob[:kept])


@given(place=st.integers(0), value=st.integers(0, 255))
def test_a_changed_byte_never_ends_in_another_error(place: int, value: int) -> None:
    blob = bytearray(packed(TENSORS, BANDS, NORMALISATION))
    (length,) = struct.unpack_from("<Q", blob)
    blob[place % (8 + length)] = value
    try:
        read_input(io.BytesIO(blob), PATH)
    except WeightsError as error:
        assert str(PATH) in str(error)


@given(field=st.sampled_from(FIELDS), value=JSON)
@example(("normalisation", "offset"), [float("nan")] * 3)
@example(("normalisation", "scale"), "123")
@example(("normalisation", "clip"), [10**400, 1])
@example(("bands", "channels"), "abc")
def test_a_field_of_anything_else_never_ends_in_another_error(field: tuple[str, ...], value: object) -> None:
    stated = json.loads(json.dumps(STATED))
    (stated if len(field) == 1 else stated[field[0]])[field[-1]] = value
    try:
        bands, normalisation = read_input(io.BytesIO(stating(json.dumps(stated))), PATH)
    except WeightsError as error:
        assert str(PATH) in str(error)
        return
    assert len(bands.channels) == len(normalisation.offset)
    again = {"bands": bands.to_json(), "normalisation": normalisation.to_json()}
    assert again == json.loads(json.dumps(stated), parse_int=float), "nothing is made of what is accepted"


@pytest.mark.parametrize("field", FIELDS)
def test_a_missing_field_is_refused(field: tuple[str, ...]) -> None:
    stated = json.loads(json.dumps(STATED))
    del (stated if len(field) == 1 else stated[field[0]])[field[-1]]
    assert "cannot be read" in refused(stating(json.dumps(stated)))


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("bands", BAND_SETS["ten-band"].to_json(), "normalisation of 3 channels for a band set of 10"),
        ("bands", {"name": "ten-band"}, "has the channels red_post"),
        ("bands", {"name": "own", "channels": ["a", "b", "a"]}, "one of them twice"),
        ("bands", {"name": "own", "channels": [1, 2, 3]}, "not a channel's name"),
        ("bands", {"name": "own", "channels": []}, "no channels"),
        ("bands", {"name": "own", "channels": [f"b{number}" for number in range(2000)]}, "too many"),
        ("normalisation", {"method": "square root"}, "not one of min-max, percentile, standardise"),
        ("normalisation", {"scale": [1, 1, 0]}, "not positive"),
        ("normalisation", {"fill": [0.0]}, "uneven"),
        ("normalisation", {"clip": [1, -1]}, "between 1.0 and -1.0"),
        ("normalisation", {"offset": [0, 0, float("inf")]}, "not finite"),
        ("normalisation", {"offset": [False, False, False]}, "list of numbers"),
        ("normalisation", {"offset": [0, 0, 10**400]}, "too large"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_fact(part: str, change: dict[str, object], message: str) -> None:
    assert message in refused(stating(json.dumps({**STATED, part: {**STATED[part], **change}})))


@pytest.mark.parametrize(
    ("blob", "message"),
    [
        (bytes(save(TENSORS)), "states neither channels nor normalisation"),
        (bytes(save(TENSORS, {"other": "1"})), "states neither channels nor normalisation"),
        (stating("null"), "states neither channels nor normalisation"),
        (stating(""), "cannot be read"),
        (stating("[]"), "cannot be read"),
        (stating('"bands"'), "cannot be read"),
        (stating("[" * 100_000), "cannot be read"),
        (stating('{"bands": ' * 100_000), "cannot be read"),
        (stating("1" * 100_000), "cannot be read"),
        (stating('{"bands": "rgb", "normalisation": {}}'), "band set cannot be read"),
        (with_header(b"[" * 100_000), "nested too deeply"),
        (with_header(b"[]"), "texts by name"),
        (with_header(b'{"__metadata__": 3}'), "texts by name"),
        (with_header(b'{"__metadata__": {"input": {"bands": {}}}}'), "texts by name"),
        (with_header(b"\xff\xfe{}"), "cannot be read"),
        (struct.pack("<Q", 1 << 62) + b"{}", "too large"),
        (b"\x80\x04\x95", "a file of 3 bytes"),
    ],
)
def test_a_hostile_header_is_refused(blob: bytes, message: str) -> None:
    told = refused(blob)
    assert message in told
    assert len(told) < 500


def test_only_the_header_is_read() -> None:
    blob = packed(TENSORS, BANDS, NORMALISATION)
    file = io.BytesIO(blob)
    assert list(read_metadata(file)) == [INPUT_KEY]
    (length,) = struct.unpack_from("<Q", blob)
    assert file.tell() == 8 + length < len(blob)
