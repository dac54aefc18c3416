"""modeling/adaptation/judging.py: better is said only of what is better, whatever number of candidates was tried."""

from __future__ import annotations

import numpy as np
import pytest

from modeling.adaptation.judging import AS_IT_WAS, Judgement, judge
from modeling.errors import DataError

POLYGONS = 20
LANDSLIDE = np.arange(POLYGONS) < POLYGONS // 2


def counts(right: np.ndarray, pixels: int = 100) -> np.ndarray:
    """(polygon, 4) of polygons of which the share `right` (polygon,) is right."""
    good, bad = right * pixels, (1 - right) * pixels
    yes, zero = LANDSLIDE, np.zeros(POLYGONS)
    return np.stack(
        [np.where(yes, good, zero), np.where(yes, zero, bad), np.where(yes, bad, zero), np.where(yes, zero, good)], 1
    )


def drawn(seed: int, level: float) -> np.ndarray:
    return counts(np.clip(np.random.default_rng(seed).normal(level, 0.2, POLYGONS), 0, 1))


def test_what_is_better_everywhere_is_better() -> None:
    found = judge({AS_IT_WAS: drawn(1, 0.5), "a": drawn(2, 0.9)}, range(POLYGONS))
    assert (found.verdict, found.chosen) == ("better", "a")
    assert found.share_above > 0.99
    assert found.gain["mcc"].low > 0
    assert found.gain["mcc"].value == pytest.approx(found.after["mcc"].value - found.before["mcc"].value)


def test_what_is_worse_everywhere_is_worse_and_is_not_chosen() -> None:
    found = judge({AS_IT_WAS: drawn(1, 0.9), "a": drawn(2, 0.5)}, range(POLYGONS))
    assert found.chosen == AS_IT_WAS
    assert found.verdict != "better"
    assert found.gain["mcc"].value <= 0


def test_the_best_of_many_that_are_no_better_is_hardly_ever_better() -> None:
    """The choice is part of what is judged: of fifteen candidates by chance the best looks better, and is refused."""
    said = []
    for seed in range(40):
        many = {AS_IT_WAS: drawn(1000 * seed, 0.7)} | {f"c{k}": drawn(1000 * seed + k + 1, 0.7) for k in range(15)}
        found = judge(many, range(POLYGONS), resamples=200)
        naive = found.candidates[found.chosen]["mcc"] - found.candidates[AS_IT_WAS]["mcc"]
        said.append((found.verdict, found.gain["mcc"].value, naive))
    assert np.mean([naive for *_, naive in said]) > 0.1, "without the correction it looks like a gain"
    assert abs(np.mean([gain for _, gain, _ in said])) < 0.05
    assert sum(verdict == "better" for verdict, *_ in said) <= 4


def test_calling_everything_a_landslide_is_not_better_though_f1_rises() -> None:
    guess = counts(np.where(LANDSLIDE, 0.4, 0.6))
    everything = counts(np.where(LANDSLIDE, 1.0, 0.0))
    found = judge({AS_IT_WAS: guess, "all": everything}, range(POLYGONS))
    assert found.candidates["all"]["f1"] > found.candidates[AS_IT_WAS]["f1"]
    assert found.verdict != "better"


def test_groups_are_drawn_as_one() -> None:
    found = judge({AS_IT_WAS: drawn(1, 0.5), "a": drawn(2, 0.9)}, [k % 4 for k in range(POLYGONS)])
    alone = judge({AS_IT_WAS: drawn(1, 0.5), "a": drawn(2, 0.9)}, range(POLYGONS))
    assert (found.groups, alone.groups) == (4, POLYGONS)
    with pytest.raises(DataError, match="two at least"):
        judge({AS_IT_WAS: drawn(1, 0.5)}, [0] * POLYGONS)
    with pytest.raises(DataError, match="further away"):
        judge({AS_IT_WAS: drawn(1, 0.5)}, LANDSLIDE.astype(int).tolist())


def test_a_judgement_survives_json() -> None:
    found = judge({AS_IT_WAS: drawn(1, 0.5), "a": drawn(2, 0.9)}, range(POLYGONS), resamples=50)
    assert Judgement.from_json(found.to_json()) == found
    with pytest.raises(DataError, match="cannot be read"):
        Judgement.from_json({"verdict": "better"})
