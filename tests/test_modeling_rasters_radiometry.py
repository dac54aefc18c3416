"""modeling/rasters/radiometry.py: a known change of light is undone, whatever landslides there are besides."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest

from modeling.errors import DataError
from modeling.rasters.radiometry import (
    KNOTS,
    LEAST_PIXELS,
    BandMatch,
    Histograms,
    Invariants,
    RadiometricMatch,
    no_change_probability,
    orthogonal_line,
)

COLOURS = ("green", "red", "nir")
GAIN = {"green": 1.2, "red": 0.8, "nir": 1.1}
OFFSET = {"green": -0.02, "red": 0.03, "nir": 0.01}
SHAPE = (200, 150)
ALL = np.ones(SHAPE, bool)


def images(changed: float = 0.0, noise: float = 0.002) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Before and after: three colours that vary together and alone, the light changed, a share of the ground too."""
    rng = np.random.default_rng(5)
    common, own = rng.random(SHAPE), rng.random((3, *SHAPE))
    pre = {
        colour: (0.05 + 0.1 * common + 0.06 * alone).astype(np.float32)
        for colour, alone in zip(COLOURS, own, strict=True)
    }
    post = {
        colour: (GAIN[colour] * pre[colour] + OFFSET[colour] + noise * rng.standard_normal(SHAPE)).astype(np.float32)
        for colour in COLOURS
    }
    bare = rng.random(SHAPE) < changed
    for colour, level in zip(COLOURS, (0.3, 0.35, 0.2), strict=True):
        post[colour][bare] = level + 0.05 * rng.random(int(bare.sum()))
    return pre, post


def collected(kind: type[Histograms] | type[Invariants], changed: float = 0.0) -> RadiometricMatch:
    pre, post = images(changed)
    collector = Histograms(COLOURS) if kind is Histograms else Invariants(COLOURS, 4)
    for rows in np.split(np.arange(SHAPE[0]), 4):
        collector.add({c: pre[c][rows] for c in COLOURS}, {c: post[c][rows] for c in COLOURS}, ALL[rows])
    return collector.match()


def test_histograms_undo_a_change_of_light() -> None:
    match = collected(Histograms)
    pre, post = images()
    for band in match.bands:
        assert band.pixels == ALL.size
        assert len(band.before) <= KNOTS
        assert (np.diff(band.before) > 0).all()
        assert band.gain == pytest.approx(GAIN[band.colour], rel=0.05)
        assert band.difference_after < 0.02 * band.difference_before
        difference = match.apply(band.colour, pre[band.colour]) - post[band.colour]
        assert np.sqrt(np.mean(difference**2)) < 0.005


def test_histograms_equal_the_quantiles_of_the_pixels_themselves() -> None:
    band = collected(Histograms).bands[0]
    pre, post = images()
    shares = (np.searchsorted(np.sort(pre["green"].ravel()), band.before) / ALL.size)[1:-1]
    np.testing.assert_allclose(band.after[1:-1], np.quantile(post["green"], shares), atol=5e-4)


@pytest.mark.parametrize("changed", [0.0, 0.3])
def test_invariant_pixels_give_the_line_whatever_else_has_changed(changed: float) -> None:
    match = collected(Invariants, changed)
    assert match.why == ""
    for band in match.bands:
        assert band.gain == pytest.approx(GAIN[band.colour], rel=0.03)
        assert band.offset == pytest.approx(OFFSET[band.colour], abs=0.004)
        assert band.difference_after < 0.003


def test_the_changed_pixels_are_the_improbable_ones() -> None:
    pre, post = images(changed=0.2)
    stack = [np.stack([image[c].ravel() for c in COLOURS], axis=1).astype(float) for image in (pre, post)]
    bare = post["red"].ravel() > 0.34
    probability = no_change_probability(*stack)
    assert probability[bare].max() < 1e-3
    assert np.median(probability[~bare]) > 1e-2


def test_alteration_does_not_care_about_gains_and_offsets() -> None:
    pre, post = (np.random.default_rng(seed).random((500, 3)) for seed in (1, 2))
    post = pre + 0.1 * post
    other = no_change_probability(3 * pre + 1, 0.2 * post - 5)
    np.testing.assert_allclose(no_change_probability(pre, post), other, atol=1e-6)


def test_a_line_is_orthogonal() -> None:
    x = np.random.default_rng(0).random(4000)
    noise = 0.05 * np.random.default_rng(1).standard_normal((2, 4000))
    gain, offset, correlation = orthogonal_line(x + noise[0], 2 * x + 1 + noise[1])
    assert gain == pytest.approx(2, abs=0.05)  # least squares of y on x would say 1.93
    assert offset == pytest.approx(1, abs=0.03)
    assert correlation > 0.9
    steep, _, _ = orthogonal_line(2 * x + 1 + noise[1], x + noise[0])
    assert steep == pytest.approx(1 / gain, rel=1e-6), "the same line the other way round"


def test_beyond_the_table_the_last_correction_goes_on_and_nan_stays() -> None:
    band = BandMatch("red", (0.1, 0.2, 0.3), (0.15, 0.2, 0.4), 9, 0.1, 0.0)
    out = band.apply(np.array([0.0, 0.1, 0.25, 0.5, np.nan], np.float32))
    np.testing.assert_allclose(out, [0.05, 0.15, 0.3, 0.6, np.nan], atol=1e-6)
    assert out.dtype == np.float32


def test_a_line_goes_on_beyond_its_ends() -> None:
    band = BandMatch("red", (0.1, 0.2), (0.2, 0.4), 9, 0.1, 0.0)
    assert (band.gain, band.offset) == (pytest.approx(2), pytest.approx(0))
    np.testing.assert_allclose(band.apply(np.array([0.0, 0.5, np.nan], np.float32)), [0.0, 1.0, np.nan], atol=1e-6)


@pytest.mark.parametrize("kind", [Histograms, Invariants])
def test_too_few_pixels_are_said_and_nothing_is_matched(kind: type[Histograms] | type[Invariants]) -> None:
    collector = Histograms(COLOURS) if kind is Histograms else Invariants(COLOURS, 1)
    pre, post = images()
    few = np.zeros(SHAPE, bool)
    few.flat[: LEAST_PIXELS - 1] = True
    collector.add(pre, post, few)
    match = collector.match()
    assert match.bands == ()
    assert match.why == "only 1999 stable pixels were seen in both images; 2000 are needed"
    assert match.apply("red", pre["red"]) is pre["red"]


def test_colours_that_have_nothing_in_common_are_not_matched() -> None:
    pre, _ = images()
    rng = np.random.default_rng(3)
    collector = Invariants(COLOURS, 1)
    collector.add(pre, {colour: rng.random(SHAPE).astype(np.float32) for colour in COLOURS}, ALL)
    match = collector.match()
    assert match.bands == ()
    assert "does not follow a line" in match.why


def test_colours_that_depend_on_each_other_are_refused() -> None:
    pre, post = images(noise=0.0)
    same = np.stack([pre["red"].ravel()] * 2, axis=1).astype(float)
    with pytest.raises(DataError, match="depend on each other"):
        no_change_probability(same, same)
    collector = Invariants(("red", "green"), 1)
    collector.add({"red": pre["red"], "green": pre["red"]}, post, ALL)
    assert "depend on each other" in collector.match().why


def test_memory_is_bounded() -> None:
    collector = Invariants(("red",), 1000)
    pre, post = images()
    for _ in range(5):
        collector.add(pre, post, ALL)
    assert sum(len(sample) for sample in collector._samples) <= 5 * 200


def test_a_match_is_plain_json() -> None:
    assert json.loads(json.dumps(asdict(collected(Invariants))))["method"] == "invariant"
