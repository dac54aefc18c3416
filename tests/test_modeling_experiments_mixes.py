"""Training mixes: names, counts, nested patches that keep to their part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeling.benchmark.data import Simulated
from modeling.data.pieces import FirstOf, RegionPieces
from modeling.errors import DataError
from modeling.experiments.mixes import Mix, Part, parse_mix, proportions, short, whole

DOMAINS = ("iburi", "jiuzhaigou", "palu", "luding")
PX = 32


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    made = Simulated(tmp_path_factory.mktemp("regions"), ("iburi", "palu"), 2, 1, 1, size_px=96, unseen=("luding",))
    made.prepare(1)
    return made


def test_the_papers_five_mixes() -> None:
    mixes = proportions("iburi", "jiuzhaigou")
    assert [mix.name for mix in mixes] == ["Ib700", "Ib500J200", "Ib350J350", "Ib200J500", "J700"]
    assert {mix.patches for mix in mixes} == {700}
    assert mixes[0].domains == ("iburi",)
    assert mixes[3].parts == (Part("iburi", 200), Part("jiuzhaigou", 500))


@given(
    first=st.sampled_from(DOMAINS), second=st.sampled_from(DOMAINS), total=st.integers(1, 2000), among=st.just(DOMAINS)
)
def test_a_mixs_name_reads_back_as_the_mix(first: str, second: str, total: int, among: tuple[str, ...]) -> None:
    if first == second:
        return
    for mix in proportions(first, second, total, among):
        assert parse_mix(mix.name, among) == mix
        assert mix.patches == total


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Ib500J200", (Part("iburi", 500), Part("jiuzhaigou", 200))),
        ("IBURI5", (Part("iburi", 5),)),
        ("Ib700J0", (Part("iburi", 700),)),
        ("palu:3+l:4", (Part("palu", 3), Part("luding", 4))),
    ],
)
def test_names_of_mixes(text: str, parts: tuple[Part, ...]) -> None:
    assert parse_mix(text, DOMAINS).parts == parts


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is not a mix"), ("700", "is not a mix"), ("Ib", "is not a mix"), ("Ib5-J2", "is not a mix"),
        ("X5", "is no domain"), ("palu:x", "is not a mix"), ("P5palu2", "names a domain twice"), ("Ib0", "must have"),
        ("Ib500../J2", "is not a mix"),
    ],
)  # fmt: skip
def test_what_is_no_mix_is_said(text: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        parse_mix(text, DOMAINS)


def test_a_shortened_name_must_be_of_one_domain() -> None:
    with pytest.raises(DataError, match="begins palu, palermo"):
        parse_mix("Pal5", ("palu", "palermo"))
    assert short("palu", ("palu", "palermo")) == "Palu"
    assert parse_mix("Palu5", ("palu", "palermo")).domains == ("palu",)


def test_a_smaller_mix_is_part_of_a_larger_one(source: Simulated) -> None:
    bands = source.band_set()
    few, many = (
        list(Mix("m", (Part("iburi", count), Part("palu", 2))).training(source, bands, patch_px=PX)) for count in (3, 7)
    )
    assert [block.name for block in many][:3] == [block.name for block in few][:3]
    assert [block.domain for block in few] == ["iburi"] * 3 + ["palu"] * 2
    assert len({block.name for block in many}) == 9
    assert np.array_equal(many[0].channels, few[0].channels, equal_nan=True)


def test_parts_share_no_ground(source: Simulated) -> None:
    mix, bands = Mix("m", (Part("iburi", 7), Part("palu", 7))), source.band_set()
    ground = {
        "training": {block.group for block in mix.training(source, bands, patch_px=PX)},
        "validation": {block.group for block in mix.validation(source, bands, patch_px=PX)},
        "test": {block.name for block in source.blocks("test", bands, ("iburi", "palu"))},
    }
    assert all(ground.values())
    assert not ground["training"] & ground["validation"]
    assert not (ground["training"] | ground["validation"]) & ground["test"]
    assert len(mix.validation(source, bands, patch_px=PX)) == 6


def test_patches_do_not_overlap_and_come_in_turn(source: Simulated) -> None:
    pieces = source.pieces("training", "palu", PX)
    assert isinstance(pieces, RegionPieces)
    assert len(set(pieces.corners)) == len(pieces) <= 2 * 9
    assert all(top % PX == left % PX == 0 for _, top, left in pieces.corners)
    with_slides = [bool((pieces.read(index)[1] == 1).any()) for index in range(len(pieces))]
    assert any(with_slides[:4])


def test_an_epoch_draws_every_patch_once(source: Simulated) -> None:
    mix, bands = Mix("m", (Part("iburi", 4), Part("palu", 2))), source.band_set()
    sampler = mix.sampler(source, bands, batch=3, patch_px=PX, seed=5, augmentation="none")
    channels = np.concatenate([sampler.draw(number)[0] for number in (0, 1)])
    stored = [block.channels for block in mix.training(source, bands, patch_px=PX)]

    def sums(patches: list[np.ndarray]) -> list[float]:
        return sorted(float(np.nansum(patch, dtype=np.float64)) for patch in patches)

    assert sums(list(channels)) == pytest.approx(sums(stored))
    again = mix.sampler(source, bands, batch=3, patch_px=PX, seed=5, augmentation="none").draw(1)[0]
    assert np.array_equal(again, channels[3:], equal_nan=True)


def test_smaller_patches_are_cut_and_larger_ones_refused(source: Simulated) -> None:
    mix = Mix("m", (Part("iburi", 2),))
    pieces = FirstOf((source.pieces("training", "iburi", PX),), (2,))
    assert pieces.read(1)[1].shape == (PX, PX)
    with pytest.raises(DataError, match="hold no patch"):
        mix.sampler(source, source.band_set(), batch=1, patch_px=200, seed=0, augmentation="none")


def test_too_few_patches_are_said_before_training(source: Simulated) -> None:
    with pytest.raises(DataError, match=r"takes 70 training patches of iburi, which has \d+: ask for fewer"):
        Mix("big", (Part("iburi", 70),)).require(source, PX)


def test_the_whole_of_domains_is_the_sources(source: Simulated) -> None:
    mix, bands = whole(("iburi", "palu")), source.band_set()
    assert (mix.name, mix.domains, mix.patches) == ("iburi+palu", ("iburi", "palu"), 0)
    assert len(mix.validation(source, bands, patch_px=PX)) == len(source.blocks("validation", bands, mix.domains))
    fitted = mix.normalisation(source, bands, "min-max", patch_px=PX)
    assert fitted == source.normalisation(bands, mix.domains, "min-max")


def test_unseen_domains_have_test_ground_only(source: Simulated) -> None:
    assert len(source.blocks("test", source.band_set(), ("luding",))) == 1
    assert not (Path(source.cache) / "96" / "luding-113000").exists()
    with pytest.raises(DataError, match="not a complete stored region"):
        source.pieces("training", "luding", PX)
    assert "unseen" not in source.about()
