"""modeling/data/augment.py: what a recipe asks for happens, what it leaves out does not, and truth goes along."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from modeling.data.augment import AUGMENTATIONS, augment, augment_batch, augmentation
from modeling.data.augment_scene import optical
from modeling.data.batches import IGNORE
from modeling.data.patch_formats import HR_GLDD_BANDS, LANDSLIDE4SENSE_BANDS
from modeling.errors import DataError

NONE = augmentation("none")
LAYERS = (
    "slope",
    "hillshade",
    "red_pre",
    "green_pre",
    "blue_pre",
    "nir_pre",
    "red_post",
    "green_post",
    "blue_post",
    "nir_post",
)


def patch(seed: int = 0, side: int = 32, names: tuple[str, ...] = LAYERS) -> tuple[dict[str, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(seed)
    layers = {name: rng.uniform(0.05, 0.4, (side, side)).astype(np.float32) for name in names}
    if "slope" in layers:
        layers["slope"] *= 100
    if "hillshade" in layers:
        layers["hillshade"] = layers["hillshade"] * 500
    truth = (rng.random((side, side)) < 0.2).astype(np.uint8)
    truth[5, 6] = IGNORE
    return layers, truth


@pytest.mark.parametrize("name", AUGMENTATIONS)
@given(seed=st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_shapes_types_and_labels_stay_possible(name: str, seed: int) -> None:
    layers, truth = patch(seed % 3)
    before, labels = {key: layer.copy() for key, layer in layers.items()}, truth.copy()
    out, moved = augment(layers, truth, np.random.default_rng(seed), AUGMENTATIONS[name])
    assert list(out) == list(layers)
    assert all(layer.shape == (32, 32) and layer.dtype == np.float32 for layer in out.values())
    assert moved.dtype == np.uint8
    assert set(np.unique(moved)) <= {0, 1, IGNORE}
    assert all(np.nanmin(layer) >= 0 for layer in out.values() if np.isfinite(layer).any())
    np.testing.assert_array_equal(truth, labels)
    assert all(np.array_equal(before[key], layers[key]) for key in layers), "the caller's arrays stay as they are"
    again, _ = augment(layers, truth, np.random.default_rng(seed), AUGMENTATIONS[name])
    assert all(np.array_equal(out[key], again[key], equal_nan=True) for key in out)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_batch_is_its_patches_one_by_one(name: str) -> None:
    patches = [patch(seed) for seed in range(3)]
    stacks = [(np.stack(list(layers.values())), truth) for layers, truth in patches]
    rngs = [np.random.default_rng(seed) for seed in (3, 4, 5)]
    together, labels = augment_batch(stacks, LAYERS, rngs, AUGMENTATIONS[name])
    for number, (layers, truth) in enumerate(patches):
        alone, label = augment(layers, truth, np.random.default_rng(3 + number), AUGMENTATIONS[name])
        np.testing.assert_array_equal(together[number], np.stack(list(alone.values())))
        np.testing.assert_array_equal(labels[number], label)


def test_none_changes_nothing() -> None:
    layers, truth = patch()
    out, moved = augment(layers, truth, np.random.default_rng(1), NONE)
    assert all(np.array_equal(out[name], layers[name]) for name in layers)
    np.testing.assert_array_equal(moved, truth)


def orientations(name: str, layers: dict[str, np.ndarray], truth: np.ndarray) -> set[bytes]:
    seen = set()
    for seed in range(80):
        out, moved = augment(layers, truth, np.random.default_rng(seed), AUGMENTATIONS[name])
        np.testing.assert_array_equal(out["marks"] > 0, moved == 1, err_msg="truth goes along")
        seen.add(moved.tobytes())
    return seen


def test_mirrors_give_all_eight_orientations_and_still_pictures_one() -> None:
    _, truth = patch()
    truth[truth == IGNORE] = 0
    layers = {"marks": truth.astype(np.float32)}
    assert len(orientations("mirrors", layers, truth)) == 8
    assert len(orientations("physical", layers, truth)) == 8
    assert len(orientations("none", layers, truth)) == 1
    layers["hillshade"] = layers["marks"] * 100
    assert len(orientations("physical", layers, truth)) == 4, "a hillshade cannot be turned"
    assert len(orientations("mirrors", layers, truth)) == 8, "unless it is taken for a picture"


def test_a_hillshade_taken_for_a_picture_keeps_its_values() -> None:
    layers, truth = patch()
    out, _ = augment(layers, truth, np.random.default_rng(3), augmentation("mirrors"))
    np.testing.assert_allclose(np.sort(out["hillshade"].ravel()), np.sort(layers["hillshade"].ravel()))


@given(seed=st.integers(0, 300), factor=st.floats(0.5, 1.5))
@example(seed=25, factor=1.5)  # a window at the patch's very edge
@settings(max_examples=30, deadline=None)
def test_scale_enlarges_image_and_truth_alike(seed: int, factor: float) -> None:
    side = 64
    truth = np.zeros((side, side), np.uint8)
    truth[20:44, 20:44] = 1
    sizes = replace(NONE, scale=(factor, factor))
    out, moved = augment({"marks": truth.astype(np.float32)}, truth, np.random.default_rng(seed), sizes)
    marks = out["marks"]
    unknown = np.isnan(marks)
    assert (moved[unknown] != 1).all()
    if factor < 1:
        assert (moved == IGNORE).any() or side * (1 - factor) < 1, "less than a pixel is missing"
        assert (moved == 1).sum() == pytest.approx((24 * factor) ** 2, rel=0.25)  # a row more or less
    else:
        assert not (moved == IGNORE).any()
    agree = (marks > 0.5) == (moved == 1)
    assert agree[~unknown].mean() > 0.95


def test_brightness_is_one_factor_a_phase_and_saturation_keeps_grey() -> None:
    layers, truth = patch()
    bright, _ = augment(layers, truth, np.random.default_rng(0), replace(NONE, brightness=(0.8, 1.2)))
    factors = {name: float((bright[name] / layers[name]).mean()) for name in layers}
    assert len({round(factors[f"{colour}_pre"], 4) for colour in ("red", "green", "blue", "nir")}) == 1
    assert factors["red_pre"] != pytest.approx(factors["red_post"], abs=1e-4)
    assert factors["slope"] == factors["hillshade"] == 1
    vivid, _ = augment(layers, truth, np.random.default_rng(0), replace(NONE, saturation=(0.5, 0.5)))
    weights = {"red": 0.299, "green": 0.587, "blue": 0.114}
    grey, was = (sum(weights[c] * image[f"{c}_post"] for c in weights) for image in (vivid, layers))
    np.testing.assert_allclose(grey, was, atol=1e-6)
    np.testing.assert_allclose(vivid["red_post"] - grey, 0.5 * (layers["red_post"] - was), atol=1e-6)
    np.testing.assert_array_equal(vivid["nir_post"], layers["nir_post"])


def test_blur_smooths_pictures_too_and_leaves_terrain() -> None:
    layers, truth = patch(names=("red_dn_post", "B3", "slope"))
    out, _ = augment(layers, truth, np.random.default_rng(0), replace(NONE, blur_px=3.0))
    assert out["red_dn_post"].std() < 0.8 * layers["red_dn_post"].std()
    assert out["B3"].std() < 0.8 * layers["B3"].std()
    np.testing.assert_array_equal(out["slope"], layers["slope"])


def test_lost_bands_are_unknown_and_one_always_stays() -> None:
    layers, truth = patch()
    lost = []
    for seed in range(200):
        out, moved = augment(layers, truth, np.random.default_rng(seed), replace(NONE, band_dropout=0.3))
        gone = [bool(np.isnan(layer).all()) for layer in out.values()]
        lost.append(np.mean(gone))
        np.testing.assert_array_equal(moved, truth)
    assert np.mean(lost) == pytest.approx(0.27, abs=0.03)
    out, _ = augment(layers, truth, np.random.default_rng(0), replace(NONE, band_dropout=1.0))
    assert sum(np.isfinite(layer).all() for layer in out.values()) == 1


def test_names_of_layers_say_what_they_are() -> None:
    red, picture, band = optical("red_pre"), optical("red_dn_post"), optical("B4")
    assert red is not None
    assert (red.colour, red.phase, red.reflectance) == ("red", "pre", True)
    assert picture is not None
    assert (picture.colour, picture.phase, picture.reflectance) == ("red", "post", False)
    assert band is not None
    assert (band.colour, band.phase, band.reflectance) == ("red", "post", False)
    blue = optical("blue_post")
    assert blue is not None
    assert blue.reflectance
    assert [optical(name) for name in ("slope", "hillshade", "ndvi_pre", "vv_post", "B13", "B14")] == [None] * 6
    of_a_picture = optical("b4_dn_post")
    assert of_a_picture is not None
    assert of_a_picture.colour == "b4", "which colour it is nobody has said"


@pytest.mark.parametrize(
    ("names", "colours", "terrain"),
    [
        (LANDSLIDE4SENSE_BANDS, ("B4", "B3", "B2"), ("B13", "B14")),
        (HR_GLDD_BANDS, ("red_planet_dn", "green_planet_dn", "blue_planet_dn"), ()),
        (("red_dn_post", "green_dn_post", "blue_dn_post"), ("red_dn_post", "green_dn_post", "blue_dn_post"), ()),
    ],
    ids=["Landslide4Sense", "HR-GLDD", "pictures"],
)
def test_images_of_published_data_sets_are_recoloured_and_their_terrain_is_not(
    names: tuple[str, ...], colours: tuple[str, str, str], terrain: tuple[str, ...]
) -> None:
    layers, truth = patch(names=names)
    bright, _ = augment(layers, truth, np.random.default_rng(0), replace(NONE, brightness=(1.2, 1.2), blur_px=0))
    factors = {name: float((bright[name] / layers[name]).mean()) for name in names}
    assert factors == {name: pytest.approx(1.0 if name in terrain else 1.2, abs=1e-5) for name in names}
    vivid, _ = augment(layers, truth, np.random.default_rng(0), replace(NONE, saturation=(0.5, 0.5)))
    grey = sum(share * layers[name] for share, name in zip((0.299, 0.587, 0.114), colours, strict=True))
    for name in names:
        expected = 0.5 * (layers[name] + grey) if name in colours else layers[name]
        np.testing.assert_allclose(vivid[name], expected, rtol=1e-5, err_msg=name)
    blurred, _ = augment(layers, truth, np.random.default_rng(0), replace(NONE, blur_px=3.0))
    assert all((blurred[name] == layers[name]).all() == (name in terrain) for name in names)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(DataError, match="choose one of physical, none, mirrors"):
        augmentation("flip")
