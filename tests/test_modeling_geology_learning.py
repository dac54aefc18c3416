"""`modeling.geology.learning` and `rules_file`: thresholds from labelled ground, never from the ground that is judged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from fakes.weights import random_model
from scipy import ndimage

from modeling.errors import DataError
from modeling.geology import learning
from modeling.geology.learning import LabelledGround, landslide_f1, learn_rules, leave_one_domain_out, mean_f1
from modeling.geology.rules import NO_RULES, GeologyRules, default_rules, judge
from modeling.geology.rules_file import LearntRules, learnt_from, read_rules, write_rules
from modeling.geology.scheme import BlockMaps
from modeling.scoring.objects import object_counts

Mask = npt.NDArray[np.bool_]


def ground(seed: int, domain: str, *, speck_px: int = 2, roads: bool = True) -> BlockMaps:
    """Landslides that were found, specks of so many pixels, roads, and a field on flat ground."""
    rng = np.random.default_rng(seed)
    truth, mapped = np.zeros((160, 160), bool), np.zeros((160, 160), bool)
    slope = np.full((160, 160), 30, np.float32)
    for row in range(5, 140, 30):
        size = int(rng.integers(8, 12))
        truth[row : row + size, 5 : 5 + size] = True
        mapped[row : row + size, 5 : 5 + size] = True
        mapped[row + 2, 40 : 40 + speck_px] = True
        if roads:
            mapped[row + 20, 60:100] = True
        mapped[row : row + 10, 120:130] = True
        slope[row - 3 : row + 13, 115:135] = 3
    return BlockMaps(f"{domain}-{seed}", domain, mapped, None, truth, np.ones_like(truth), slope, 10.0)


def grounds(**changes: int) -> list[LabelledGround]:
    return [
        LabelledGround.of(ground(seed, domain, **changes)) for seed, domain in enumerate(("a", "a", "b", "c"), start=1)
    ]


def test_what_is_no_landslide_is_learnt_to_be_dropped() -> None:
    learnt = learn_rules(grounds(speck_px=6))
    assert learnt.minimum_slope_deg is not None
    assert learnt.maximum_length_width_ratio is not None
    for each in grounds(speck_px=6):
        assert landslide_f1([each], learnt) == 1.0
        assert landslide_f1([each], NO_RULES) < 0.5


def test_a_rule_that_gains_nothing_is_off() -> None:
    clean = replace(ground(0, "a"), after=ground(0, "a").truth)
    assert learn_rules([LabelledGround.of(clean)]) == NO_RULES


def test_regions_are_counted_as_whole_maps_are() -> None:
    rng = np.random.default_rng(4)
    truth = ndimage.binary_opening(rng.random((120, 120)) < 0.5, np.ones((2, 2)))
    mapped = ndimage.binary_opening(truth ^ (rng.random((120, 120)) < 0.1), np.ones((2, 2)))
    # Regions are connected over edges, the scored objects over corners as well: none may touch at a corner only.
    labels, _ = ndimage.label(mapped, np.ones((3, 3)))
    four, _ = ndimage.label(mapped)
    apart = [label for label in range(1, labels.max() + 1) if len(np.unique(four[labels == label])) == 1]
    mapped = np.isin(labels, apart)
    valid = rng.random((120, 120)) < 0.95
    valid[:, :20] = False
    slope = np.full((120, 120), 20, np.float32)
    maps = BlockMaps("n", "d", mapped & valid, None, truth, valid, slope, 10.0)
    found = LabelledGround.of(replace(maps, after=mapped))
    expected = object_counts(mapped, truth, valid).counts
    assert found.counted(np.ones(len(found.right), bool)) == expected
    rules = GeologyRules(600.0)
    kept = judge(found.measures, rules).kept
    left = replace(maps, after=mapped).under(rules)
    assert found.counted(kept) == object_counts(left, truth, valid).counts


def test_a_domain_is_judged_by_what_the_others_teach(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[str]] = []
    choose = learning._best

    def spy(counts: npt.NDArray[np.int64], domains: list[str]) -> int:
        seen.append(set(domains))
        assert counts.shape[1] == len(domains)
        return choose(counts, domains)

    monkeypatch.setattr(learning, "_best", spy)
    rows = leave_one_domain_out(grounds())
    assert [row.domain for row in rows] == ["a", "b", "c"]
    assert seen == [{"b", "c"}, {"a", "c"}, {"a", "b"}]


def test_the_truth_of_the_domain_left_out_changes_no_threshold() -> None:
    plain = grounds()
    scrambled = [
        LabelledGround.of(replace(ground(4, "c"), truth=np.random.default_rng(0).random((160, 160)) < 0.3))
        if each.domain == "c"
        else each
        for each in plain
    ]
    by_domain = {row.domain: row for row in leave_one_domain_out(plain)}
    again = {row.domain: row for row in leave_one_domain_out(scrambled)}
    assert again["c"].rules == by_domain["c"].rules
    assert again["c"].f1_none != by_domain["c"].f1_none


def test_learning_needs_ground_of_one_resolution() -> None:
    with pytest.raises(DataError, match="none"):
        learn_rules([])
    one, *_ = grounds()
    with pytest.raises(DataError, match="pixel size"):
        learn_rules([one, replace(one, pixel_m=3.0)])
    with pytest.raises(DataError, match="two or more"):
        leave_one_domain_out([one])


@pytest.fixture(scope="module")
def learnt() -> LearntRules:
    return learnt_from(grounds(), random_model("rgb"))


def test_learnt_rules_are_stored_with_where_they_come_from(learnt: LearntRules, tmp_path: Path) -> None:
    write_rules(tmp_path / "rules.json", learnt)
    again = read_rules(tmp_path / "rules.json")
    assert again == learnt
    assert again.ground == {"a": ("a-1", "a-2"), "b": ("b-3",), "c": ("c-4",)}
    assert again.weights_hash == "ab" * 32
    assert [row["domain"] for row in again.held_out] == ["a", "b", "c"]
    assert again.mean_f1["learnt"] >= max(again.mean_f1["none"], again.mean_f1["default"])


def test_what_is_stored_is_the_mean_over_domains_that_was_chosen_by_and_not_all_landslides_together() -> None:
    """A domain with many small landslides loses by a large area, one with few and many specks gains: the mean decides."""
    many = ground(1, "many", roads=False)
    truth = np.zeros_like(many.truth)
    truth[::4, ::8] = truth[::4, 1::8] = True
    many = replace(many, after=truth, truth=truth, slope_deg=np.full_like(many.slope_deg, 30))
    few = ground(2, "few", roads=False)
    specks = np.zeros_like(few.truth)
    specks[::4, 60:118:8] = specks[::4, 61:119:8] = True
    few = replace(few, after=specks | few.truth, slope_deg=np.full_like(few.slope_deg, 30))
    both = [LabelledGround.of(many), LabelledGround.of(replace(few, domain="few"))]
    made = learnt_from(both, random_model("rgb"))
    for name, rules in (("none", NO_RULES), ("default", default_rules(10.0)), ("learnt", made.rules)):
        assert made.mean_f1[name] == pytest.approx(np.mean([landslide_f1([each], rules) for each in both]))
    assert made.mean_f1["none"] == mean_f1(both, NO_RULES) != landslide_f1(both, NO_RULES)
    assert made.mean_f1["learnt"] >= made.mean_f1["none"]


@pytest.mark.parametrize(
    "change",
    [{"kind": "x"}, {"rules": {}}, {"pixel_m": "x"}, {"ground": 3}, {"mean_f1": None}, {"version": [2]}],
)
def test_a_file_that_holds_something_else_is_refused(
    learnt: LearntRules, tmp_path: Path, change: dict[str, object]
) -> None:
    path = tmp_path / "rules.json"
    path.write_text(json.dumps({**learnt.to_json(), **change}))
    with pytest.raises(DataError):
        read_rules(path)
    with pytest.raises(DataError, match="learn-rules"):
        read_rules(tmp_path / "none.json")
