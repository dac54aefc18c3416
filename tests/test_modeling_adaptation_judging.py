"""modeling/adaptation/judging.py: better is said only of what is better, whatever number of candidates was tried."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from modeling.adaptation.judging import AS_IT_WAS, LEAST_FOUND, Held, Judgement, WholeMap
from modeling.adaptation.judging import judge as judge_whole
from modeling.errors import DataError

POLYGONS = 20
WHOLE = WholeMap(claimed=10_000, right=8_000)
LANDSLIDE = np.arange(POLYGONS) < POLYGONS // 2


def counts(right: np.ndarray, pixels: int = 100) -> np.ndarray:
    """(polygon, 4) of polygons of which the share `right` (polygon,) is right."""
    good, bad = right * pixels, (1 - right) * pixels
    yes, zero = LANDSLIDE, np.zeros(POLYGONS)
    return np.stack(
        [np.where(yes, good, zero), np.where(yes, zero, bad), np.where(yes, bad, zero), np.where(yes, zero, good)], 1
    )


def judge(
    before: np.ndarray, after: np.ndarray, groups: Sequence[int] = range(POLYGONS), claimed: float = WHOLE.claimed,
    exchanged: float = 6_000,
) -> Judgement:  # fmt: skip
    """Of a map that claims as much as the one before, so many pixels of it elsewhere, unless `claimed` says otherwise."""
    more = claimed - WHOLE.claimed
    kept = np.minimum(before[:, 0], after[:, 0])
    held = Held(after, kept, exchanged + max(more, 0), exchanged + max(-more, 0))
    return judge_whole("a", before, held, groups, WHOLE, resamples=500)


def drawn(seed: int, level: float) -> np.ndarray:
    return counts(np.clip(np.random.default_rng(seed).normal(level, 0.2, POLYGONS), 0, 1))


def test_what_is_better_everywhere_is_better() -> None:
    found = judge(drawn(1, 0.5), drawn(2, 0.9))
    assert (found.verdict, found.chosen) == ("better", "a")
    assert found.share_above > 0.99
    assert found.gain["mcc"].low > 0
    assert found.gain["mcc"].value == pytest.approx(found.after["mcc"].value - found.before["mcc"].value)


def test_what_is_worse_everywhere_is_worse_and_is_not_taken() -> None:
    found = judge(drawn(1, 0.9), drawn(2, 0.5))
    assert (found.verdict, found.chosen) == ("worse", AS_IT_WAS)
    assert found.gain["mcc"].high < 0


def test_what_changes_nothing_is_not_taken() -> None:
    found = judge(drawn(1, 0.9), drawn(1, 0.9))
    assert (found.verdict, found.chosen, found.share_above) == ("unproven", AS_IT_WAS, 0.0)


def test_what_is_no_better_is_hardly_ever_called_better() -> None:
    said = [judge(drawn(2 * seed, 0.7), drawn(2 * seed + 1, 0.7)) for seed in range(60)]
    assert abs(np.mean([found.gain["mcc"].value for found in said])) < 0.05
    assert sum(found.verdict == "better" for found in said) <= 8, "one in ten is asked of each of two scores"


def test_calling_everything_a_landslide_is_not_better_though_f1_rises() -> None:
    guess = counts(np.where(LANDSLIDE, 0.4, 0.6))
    everything = counts(np.where(LANDSLIDE, 1.0, 0.0))
    found = judge(guess, everything, claimed=1e6)
    assert found.pooled["a"]["f1"] > found.pooled[AS_IT_WAS]["f1"]
    assert found.verdict == "worse"


def test_what_finds_more_of_what_was_drawn_by_claiming_more_everywhere_is_not_better() -> None:
    before = counts(np.where(LANDSLIDE, 0.8, 1.0))
    more = counts(np.where(LANDSLIDE, 0.95, 0.99))
    alike = judge(before, more, claimed=11_500)
    assert (alike.verdict, alike.chosen) == ("better", "a")
    grown = judge(before, more, claimed=16_000)
    assert grown.gain["mcc"].low > 0.05
    assert grown.gain["map_f1"].high < 0
    assert (grown.verdict, grown.chosen) == ("worse", AS_IT_WAS)


def test_claiming_less_that_finds_as_much_is_better() -> None:
    before, after = counts(np.where(LANDSLIDE, 0.9, 0.8)), counts(np.where(LANDSLIDE, 0.9, 0.95))
    found = judge(before, after, claimed=8_500)
    assert (found.verdict, found.chosen) == ("better", "a")
    assert found.gain["map_f1"].value == pytest.approx(2 * 8_000 * (1 / 17_389 - 1 / 18_889), abs=2e-3)


@pytest.mark.parametrize("seed", range(5))
def test_the_f1_of_a_whole_map_is_told_by_a_sample_of_its_landslides(seed: int) -> None:
    """Against the truth, for maps that claim more or less: the estimate knows areas and a sample of landslides alone."""
    rng = np.random.default_rng(seed)
    truth = rng.random(200_000) < 0.02
    margin = rng.normal(np.where(truth, 1.5, -3.0), 1.2)
    p = 1 / (1 + np.exp(-margin))
    first = margin >= 0
    whole = WholeMap(float(first.sum()), float(p[first].sum()))
    sample = np.flatnonzero(truth)[:: rng.integers(4, 8)]
    found = first[sample]
    landslides = whole.landslides(float(found.sum()), float((~found).sum()), len(sample))
    for shift in (-1.5, -0.5, 0.0, 0.5, 1.5):
        made = margin + shift >= 0
        real = 2 * (made & truth).sum() / (made.sum() + truth.sum())
        shares = made[sample][found].mean(), made[sample][~found].mean()
        told = whole.found(landslides, *shares, float((first & ~made).sum()), float((made & ~first).sum()))
        assert float(whole.f1(told, float(made.sum()), landslides)) == pytest.approx(real, abs=0.06)


def test_a_map_that_claims_nothing_can_be_bettered() -> None:
    empty = WholeMap(0, 0)
    assert not empty.one_sided(0, 300)
    assert empty.landslides(0, 300, 300) == 300
    assert empty.found(300.0, np.nan, 0.8, lost=0.0, gained=500.0) == pytest.approx(0.8 * 300)


def test_landslides_drawn_for_being_missed_never_prove_a_map_better() -> None:
    before = counts(np.where(LANDSLIDE, 0.1, 0.9))
    after = counts(np.where(LANDSLIDE, 1.0, 1.0))
    found = judge(before, after, claimed=18_000)
    assert found.one_sided
    assert min(found.gain[name].low for name in ("map_f1", "mcc")) > 0.1
    assert (found.verdict, found.chosen) == ("unproven", "a")
    assert found.landslides_px == pytest.approx(WHOLE.right / LEAST_FOUND), "not ten times what the map claims rightly"
    some = judge(counts(np.where(LANDSLIDE, 0.5, 0.9)), after, claimed=18_000)
    assert (some.one_sided, some.verdict) == (False, "better")


def test_landslides_that_are_many_themselves_prove_that_a_map_misses_most() -> None:
    small = WholeMap(claimed=500, right=400)
    assert small.one_sided(50, 850)
    assert not small.one_sided(50, 1_000)
    assert small.landslides(50, 1_000, 1_050) == 1_050


def test_a_map_finds_no_more_beyond_than_it_claims_beyond_and_loses_no_more_than_it_gives_up() -> None:
    landslides = 16_000.0
    assert WHOLE.found(landslides, 1.0, 1.0, lost=0.0) == landslides
    assert WHOLE.found(landslides, 1.0, 1.0, lost=0.0, gained=100.0) == pytest.approx(8_000 + 80)
    assert WHOLE.found(landslides, 0.0, 0.0, lost=100.0) == 8_000 - 100
    assert WHOLE.found(landslides, np.nan, 0.0, lost=1_000.0) == pytest.approx(0.9 * 8_000)


def test_the_map_that_is_made_is_held_to_what_it_changes() -> None:
    found = judge(counts(np.where(LANDSLIDE, 0.6, 0.9)), counts(np.where(LANDSLIDE, 0.8, 1.0)), claimed=11_000)
    before, after = found.map_f1(7_000, 6_000)
    assert (before, after) == pytest.approx((found.pooled[AS_IT_WAS]["map_f1"], found.pooled["a"]["map_f1"]))
    assert found.map_f1(0, 0) == (before, before)
    assert found.map_f1(8_000, 0)[1] < before


def test_groups_are_drawn_as_one() -> None:
    found = judge(drawn(1, 0.5), drawn(2, 0.9), [k % 4 for k in range(POLYGONS)])
    assert (found.groups, judge(drawn(1, 0.5), drawn(2, 0.9)).groups) == (4, POLYGONS)
    with pytest.raises(DataError, match="two at least"):
        judge(drawn(1, 0.5), drawn(2, 0.9), [0] * POLYGONS)


def test_a_judgement_survives_json() -> None:
    found = judge(drawn(1, 0.5), drawn(2, 0.9))
    assert Judgement.from_json(found.to_json()) == found
    with pytest.raises(DataError, match="cannot be read"):
        Judgement.from_json({"verdict": "better"})
