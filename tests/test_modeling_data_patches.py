"""modeling/data/patches.py: a data set comes back as it was written, is drawn from reproducibly, and refuses what is wrong."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr
from fakes.data_sets import ABOUT, toy_patch, toy_set
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling import bands
from modeling.data.augment import augmentation
from modeling.data.batches import Block, Blocks, Sampler
from modeling.data.dataset import STORED_LAYERS
from modeling.data.patch_store import ARRAYS, Patch, writing
from modeling.data.patches import PatchSet, fit_normalisation, open_patches
from modeling.errors import BandSetError, DataError

NONE, PHYSICAL = augmentation("none"), augmentation("physical")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> PatchSet:
    return toy_set(tmp_path_factory.mktemp("sets") / "toy.zarr")


def test_patches_come_back(toy: PatchSet) -> None:
    assert (len(toy), toy.name, toy.patch_px, toy.layers) == (12, "toy", 16, STORED_LAYERS)
    assert toy.about == ABOUT
    for index in (0, 7, 11):
        stack, truth = toy_patch(index, 16)
        layers, own = toy.read(index)
        np.testing.assert_array_equal(own, truth)
        np.testing.assert_allclose(np.stack(list(layers.values())), stack, rtol=2e-3, equal_nan=True)
        assert all(layer.dtype == np.float32 for layer in layers.values())
    assert toy.names[3] == "patch 3"
    assert toy.positive.tolist() == [index % 2 == 0 for index in range(12)]
    assert toy.counts()["here", "training"] == (2, 2)
    assert sum(map(sum, toy.counts().values())) == 12


def test_other_programs_can_read_it(toy: PatchSet) -> None:
    group = zarr.open_group(toy.path, mode="r")
    assert {name for name, _ in group.arrays()} == {"layers", "truth", "name", *ARRAYS}
    assert group["layers"].metadata.dimension_names == ("patch", "layer", "row", "column")
    assert group["x"][2] == 500_320.0
    assert group.attrs["crs"] == ["EPSG:32654"]
    assert group.attrs["sha256"] == toy.sha256


def test_blocks_are_the_patches_of_a_part(toy: PatchSet) -> None:
    blocks = toy.blocks("validation", bands.band_set("rgb"))
    assert isinstance(blocks, Blocks)
    first, again = list(blocks), list(blocks)
    assert len(first) == len(blocks) == 3
    assert [block.name for block in first] == [f"patch {index}" for index in (6, 7, 8)]
    assert first[0].pixel_m2 == 100
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.channels, other.channels)
    assert len(toy.blocks("test", domains=["there"])) == 2


def test_drawing_depends_on_the_number_and_the_seed_only(toy: PatchSet) -> None:
    one, other = (toy.sampler(batch=4, seed=3, augmentation=PHYSICAL) for _ in range(2))
    assert isinstance(one, Sampler)
    other.draw(0)
    for left, right in zip(one.draw(9), other.draw(9), strict=True):
        np.testing.assert_array_equal(left, right)
    assert not np.array_equal(one.draw(9)[0], toy.sampler(batch=4, seed=4, augmentation=PHYSICAL).draw(9)[0])


def test_an_epoch_shows_every_patch_once(toy: PatchSet) -> None:
    sampler = toy.sampler(batch=4, seed=0, augmentation=NONE)
    assert (sampler.patches, sampler.steps_per_epoch) == (6, 2)
    drawn = np.concatenate([sampler.draw(number)[0] for number in range(3)])  # two epochs of six
    known = [np.nan_to_num(toy.block(index, toy.band_set()).channels) for index in range(6)]
    for epoch in (drawn[:6], drawn[6:]):
        seen = [
            next(index for index, one in enumerate(known) if np.array_equal(one, np.nan_to_num(patch)))
            for patch in epoch
        ]
        assert sorted(seen) == list(range(6))


def test_balanced_batches_are_half_landslides(toy: PatchSet) -> None:
    sampler = toy.sampler(batch=4, seed=0, augmentation=NONE, balanced=True)
    for number in range(4):
        _, truth = sampler.draw(number)
        assert [bool((patch == 1).any()) for patch in truth] == [True, False, True, False]


def test_smaller_patches_and_fewer_of_them(toy: PatchSet) -> None:
    sampler = toy.sampler(bands.band_set("rgb"), batch=2, seed=0, augmentation=PHYSICAL, patch_px=8, limit=3)
    channels, truth = sampler.draw(0)
    assert (channels.shape, truth.shape, sampler.patches) == ((2, 3, 8, 8), (2, 8, 8), 3)
    assert channels.dtype == np.float32
    with pytest.raises(DataError, match="16 pixels: 17 cannot"):
        toy.sampler(batch=2, seed=0, augmentation=NONE, patch_px=17)
    with pytest.raises(DataError, match="7 of 6"):
        toy.sampler(batch=2, seed=0, augmentation=NONE, limit=7)


def test_channels_are_band_sets_or_all_layers(toy: PatchSet) -> None:
    assert toy.band_set().channels == STORED_LAYERS
    assert toy.band_set("ten-band") == bands.band_set("ten-band")
    assert toy.band_set(["slope", "red_post"]).channels == ("slope", "red_post")
    assert toy.sampler(toy.band_set("ten-band"), batch=1, seed=0, augmentation=NONE).draw(0)[0].shape == (1, 10, 16, 16)
    with pytest.raises(BandSetError, match="has no swir1_post"):
        toy.band_set(["slope", "swir1_post"])


def test_another_band_set_than_the_data_has_is_refused(tmp_path: Path) -> None:
    own = toy_set(tmp_path / "own.zarr", layers=("B1", "B2"))
    with pytest.raises(BandSetError, match=r"has no slope, hillshade, .*'ten-band' need; it has B1, B2"):
        own.blocks("validation", bands.band_set("ten-band"))


def test_normalisation_sees_training_patches_and_pixels_that_count_only(tmp_path: Path) -> None:
    with writing(tmp_path / "a.zarr", ("b",), 8, ABOUT, dtype="float32") as writer:
        for part, level in ((0, 1.0), (0, 3.0), (1, 100.0)):
            truth = np.zeros((8, 8), np.uint8)
            truth[0] = 255
            layers = np.full((1, 8, 8), level, np.float32)
            layers[:, 0] = 1e6
            writer.append(Patch(layers, truth, f"{level}", "d", part))
    fitted = fit_normalisation(open_patches(tmp_path / "a.zarr"), bands.BandSet("b", ("b",), ""), "standardise")
    assert (fitted.offset, fitted.scale) == ((2.0,), (1.0,))


def test_an_empty_part_is_said_with_what_there_is(tmp_path: Path) -> None:
    one = toy_set(tmp_path / "one.zarr", count=2)
    with pytest.raises(DataError, match=r"its validation part is empty \(it has here training: 1; here test: 1\)"):
        one.blocks("validation")
    with pytest.raises(DataError, match="no domain nowhere: it has here"):
        one.blocks("training", domains=["nowhere"])
    with pytest.raises(DataError, match="unknown part"):
        one.blocks("train")


def test_nothing_is_left_of_a_data_set_that_failed(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), writing(tmp_path / "a.zarr", (), 8, ABOUT) as writer:
        writer.append(Patch(None, np.zeros((8, 8), np.uint8), "a", "d", 0))
        raise RuntimeError
    with pytest.raises(DataError, match="no patch to write"), writing(tmp_path / "a.zarr", (), 8, ABOUT):
        pass
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".a.zarr.partial" / "truth").mkdir(parents=True)  # of an attempt that was killed
    toy_set(tmp_path / "a.zarr", count=2)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]
    with pytest.raises(DataError, match="is there already"), writing(tmp_path / "a.zarr", (), 8, ABOUT):
        pass


def test_truth_alone_can_be_kept_but_not_trained_on(tmp_path: Path) -> None:
    with writing(tmp_path / "t.zarr", (), 8, ABOUT) as writer:
        writer.append(Patch(None, np.ones((8, 8), np.uint8), "a", "d", 0))
    opened = open_patches(tmp_path / "t.zarr")
    assert opened.truth(0).all()
    assert math.isnan(opened.pixel_m2(0))
    with pytest.raises(BandSetError, match="truth only"):
        opened.sampler(batch=1, seed=0, augmentation=NONE)


def relabel(path: Path) -> None:
    group = zarr.open_group(path, mode="r+")
    group["truth"][7, 3, 4] = 7


def shorten(path: Path) -> None:
    chunk = next((path / "layers" / "c").rglob("0"))
    chunk = chunk if chunk.is_file() else next(file for file in chunk.rglob("*") if file.is_file())
    chunk.write_bytes(chunk.read_bytes()[:-100])


def attribute(name: str, value: object) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        meta = json.loads((path / "zarr.json").read_text())
        meta["attributes"][name] = value
        (path / "zarr.json").write_text(json.dumps(meta))

    return change


def number(name: str, value: int) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        zarr.open_group(path, mode="r+")[name][5] = value

    return change


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (relabel, r"truth: patch 7 \(patch 7\) has the label 7; labels are 0, 1 and 255"),
        (shorten, r"instead of \d+: the data set is damaged"),
        (attribute("kind", "zarr"), "not a data set of patches"),
        (attribute("version", 2), "version 2"),
        (
            attribute("layers", ["slope"]),
            r"layers is float16 of shape \(12, 10, 16, 16\), but float16 or float32 of shape \(12, 1,",
        ),
        (attribute("layers", ["slope"] * 10), "names a layer twice"),
        (attribute("patch_px", 17), "fits the rest"),
        (attribute("sha256", "0"), "has changed since it was made"),
        (number("part", 3), "part counts beyond the 3"),
        (number("domain", 2), "domain counts beyond the 2"),
    ],
)
def test_damage_is_named(tmp_path: Path, damage: Callable[[Path], None], said: str) -> None:
    path = toy_set(tmp_path / "toy.zarr").path
    damage(path)
    with pytest.raises(DataError, match=said):
        open_patches(path).verify()


@given(
    name=st.sampled_from(
        ["layers", "patch_px", "domains", "crs", "sha256", "source", "distance_px", "version", "kind"]
    ),
    value=st.none()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.lists(st.integers(-1, 3) | st.text(max_size=2), max_size=3)
    | st.dictionaries(st.text(max_size=3), st.none(), max_size=2),
)
@settings(max_examples=60, deadline=None)
def test_odd_attributes_are_refused_or_harmless(
    toy: PatchSet, tmp_path_factory: pytest.TempPathFactory, name: str, value: object
) -> None:
    path = tmp_path_factory.mktemp("odd") / "toy.zarr"
    shutil.copytree(toy.path, path)
    attribute(name, value)(path)
    try:
        opened = open_patches(path)
    except DataError as error:
        assert str(path) in str(error)
    else:
        assert len(opened) == 12
        str(opened.about)


def test_changed_values_do_not_verify(tmp_path: Path) -> None:
    opened = toy_set(tmp_path / "toy.zarr")
    opened.verify()
    zarr.open_group(opened.path, mode="r+")["layers"][0, 0, 3, 3] = 9
    with pytest.raises(DataError, match="has changed"):
        opened.verify()


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such data set"):
        open_patches(tmp_path / "none.zarr")
    with pytest.raises(DataError, match="not a Zarr"):
        open_patches(tmp_path)


def test_a_block_whose_truth_does_not_fit_is_refused() -> None:
    with pytest.raises(DataError, match=r"block b: channels have shape \(1, 2, 2\), truth has \(2, 3\)"):
        Block(np.zeros((1, 2, 2), np.float32), np.zeros((2, 3), np.uint8), "b", "d")
