"""modeling/scoring/evaluation_summary.py and evaluation_text.py: every score stands there with its interval."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest

from modeling.data.batches import IGNORE, Block
from modeling.scoring.counting import MatchedCounts
from modeling.scoring.evaluate import Evaluation, evaluate_margin
from modeling.scoring.evaluation_summary import by_size, summary
from modeling.scoring.evaluation_text import evaluation_text

SIDE = 40
LARGE, SMALL = (slice(2, 16), slice(2, 16)), (slice(24, 28), slice(24, 28))


@dataclass(frozen=True)
class Scarred:
    """Blocks of two landslides each, of which a map finds the large one; in every second one it finds both, as one more."""

    count: int

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Block]:
        for number in range(self.count):
            truth, margin = np.zeros((SIDE, SIDE), np.uint8), np.full((1, SIDE, SIDE), -2.0, np.float32)
            truth[LARGE] = truth[SMALL] = 1
            truth[0] = IGNORE
            margin[0][LARGE] = 2.0
            if number % 2:
                margin[0][SMALL] = 2.0
                margin[0, 34:37, 34:37] = 2.0
            yield Block(margin, truth, f"block {number}", "ab"[number % 2])


def scored(count: int = 8, *, matched: bool = True) -> Evaluation:
    return evaluate_margin(lambda x: x[:, 0], Scarred(count), matched=matched)


def test_matched_landslides_have_scores_with_intervals_in_all_and_by_size() -> None:
    made = json.loads(json.dumps(summary(scored())))
    landslides = made["scores"]["landslides"]
    assert landslides["recall"]["value"] == 12 / 16
    assert landslides["precision"]["value"] == 12 / 16
    assert landslides["f1"]["value"] == 2 * 12 / (16 + 16)
    for name in ("precision", "recall", "f1"):
        assert landslides[name]["low"] <= landslides[name]["value"] <= landslides[name]["high"]
        assert landslides[name]["blocks"] == 8
    sizes = {row["low_m2"]: row for row in landslides["by_size"]}
    assert (sizes[1_000.0]["true"], sizes[1_000.0]["recall"]["value"]) == (8, 0.5)
    assert (sizes[10_000.0]["true"], sizes[10_000.0]["recall"]["value"]) == (8, 1.0)
    assert (sizes[0.0]["mapped"], sizes[0.0]["precision"]["value"]) == (4, 0.0)
    assert sizes[0.0]["recall"] is None, "there are no true ones of that size"
    assert sizes[30_000.0]["precision"] is None
    assert all(one["high_m2"] == other["low_m2"] for one, other in pairwise(landslides["by_size"]))
    # Half of the eight small ones are found, and the four that are mapped of that size are right.
    assert sizes[1_000.0]["precision"]["value"] == 1.0
    assert sizes[1_000.0]["f1"]["value"] == pytest.approx(2 * 1.0 * 0.5 / (1.0 + 0.5))
    assert (sizes[1_000.0]["f1"]["low"], sizes[1_000.0]["f1"]["blocks"]) == (sizes[1_000.0]["f1"]["high"], 8)  # strata
    assert sizes[10_000.0]["f1"]["value"] == 1.0
    assert sizes[0.0]["f1"] is sizes[30_000.0]["f1"] is None


def test_f1_of_a_size_is_that_of_its_precision_and_recall() -> None:
    """Of small ones 3 of 4 true ones are found and 1 of 2 mapped ones is right, of large ones none of either."""
    piece = MatchedCounts((1_000.0, 5_000.0), (4, 2, 0), (3, 0, 0), (2, 5, 3), (1, 0, 2))
    small, large, largest = by_size([piece] * 3, ["a"] * 3)
    assert small.f1 is not None
    assert small.f1.low == small.f1.high == small.f1.value == pytest.approx(2 * 0.5 * 0.75 / (0.5 + 0.75))
    assert large.f1 is not None
    assert large.f1.value == 0.0, "both are 0"
    assert (largest.recall, largest.f1, largest.to_json()["f1"]) == (None, None, None)
    assert small.to_json()["f1"] == small.f1.to_json()
    one, other = (MatchedCounts((1_000.0,), (4, 0), (found, 0), (4, 0), (found, 0)) for found in (4, 0))
    f1 = by_size([one, other] * 10, ["a"] * 20)[0].f1
    assert f1 is not None
    assert f1.low < f1.value == 0.5 < f1.high


def test_pixels_domains_and_reliability_are_there() -> None:
    result = scored()
    made = summary(result)
    assert {name: each["value"] for name, each in made["scores"]["pixels"].items()} == result.scores()
    assert set(made["by_domain"]) == {"a", "b"}
    assert made["by_domain"]["a"]["landslides"]["recall"]["value"] == 0.5
    diagram = result.reliability()
    assert diagram is not None
    assert made["reliability"] == diagram.to_json()


def test_an_evaluation_gives_back_its_matched_landslides_from_json() -> None:
    result = scored()
    again = Evaluation.from_json(json.loads(json.dumps({**summary(result), **result.to_json()})))
    assert again.matched == result.matched is not None
    assert again.matched_intervals() == result.matched_intervals()


def test_what_was_not_matched_is_not_made_up() -> None:
    plain = scored(matched=False)
    assert plain.matched is None
    assert "matched" not in plain.to_json()["blocks"][0]
    assert "landslides" not in summary(plain)["scores"]
    assert "one for one" not in evaluation_text(plain, model="m", data="d")
    rows = by_size([piece.objects for piece in plain.ground()], [piece.domain for piece in plain.ground()])
    assert [row.true for row in rows] == [0, 8, 0, 8, 0]


def test_the_report_shows_matched_landslides_by_size_with_intervals() -> None:
    result = scored()
    text = evaluation_text(result, model="m", data="d")
    f1 = result.matched_intervals()["f1"]
    assert f"| F1 | {100 * f1.value:.1f} [{100 * f1.low:.1f}, {100 * f1.high:.1f}] |" in text.split("## Landslides")[1]
    assert "Matched one for one" in text
    assert "| 1,000 to 3,000 m² | 8 | 50.0 [" in text
    assert "none there" in text
    rows = [line for line in text.splitlines() if line.startswith("| 1,000 to 3,000 m² |")]
    assert [row.count("66.7 [66.7, 66.7] |") for row in rows] == [1, 1]
    assert "| size | landslides | recall | mapped | precision | F1 |" in text
