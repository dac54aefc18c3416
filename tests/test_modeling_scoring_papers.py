"""The papers' figures as data: orderings follow from the tables, and every name in them exists."""

from __future__ import annotations

import pytest

from modeling import networks
from modeling.benchmark.plan import Entry
from modeling.scoring.metrics import SCORES
from modeling.scoring.papers import (
    COSTS,
    HIGHER_IS_BETTER,
    LOWER_IS_BETTER,
    PAPERS,
    SINGLES,
    TABLES,
    UNTESTED,
    claims,
)
from modeling.simulate.domains import DOMAINS


def test_every_name_is_known() -> None:
    for table in (*TABLES, *COSTS):
        assert table.paper in PAPERS
        assert set(table.rows) <= set(networks.names())
        assert table.domain in {"", *DOMAINS}
        assert {metric for row in table.rows.values() for metric in row} <= {*HIGHER_IS_BETTER, *LOWER_IS_BETTER}
    assert set(HIGHER_IS_BETTER) <= set(SCORES), "what is claimed must be measurable"
    assert {single.network for single in SINGLES} <= set(networks.names())
    assert {each.paper for each in UNTESTED} <= set(PAPERS)
    for claim in claims():
        Entry.parse(claim.better), Entry.parse(claim.worse)


def test_scores_are_fractions_and_f1_agrees_with_precision_and_recall() -> None:
    for table in TABLES:
        for network, row in table.rows.items():
            assert all(0 < value < 1 for value in row.values()), (table, network)
            if "f1" in row:
                precision, recall = row["precision"], row["recall"]
                assert row["f1"] == pytest.approx(2 * precision * recall / (precision + recall), abs=0.025)
                assert row["iou"] == pytest.approx(row["f1"] / (2 - row["f1"]), abs=0.01)


def test_a_claim_is_the_sign_of_a_printed_difference() -> None:
    found = {(c.paper, c.where, c.metric, c.better, c.worse): c.gain for c in claims()}
    assert found["LDTL", "Hokkaido", "iou", "resunet-r50", "msf-litenet"] == pytest.approx(0.024)
    assert found["LDTL", "Luding", "iou", "msf-litenet", "vgg-unet"] == pytest.approx(0.031)
    assert found["ResU-SENet", "Iburi", "precision", "resu-net", "resu-senet"] == pytest.approx(0.017)
    assert found["ResU-CBNet", "its own scenes", "f1", "resu-cbnet", "resu-cbnet:optical"] == 0.069
    costs = [key for key in found if key[2] in LOWER_IS_BETTER and "msf-litenet" in key]
    assert len(costs) == 8
    assert all(key[3] == "msf-litenet" for key in costs), "the small one costs less than each of the others"


def test_no_ordering_is_claimed_both_ways_and_ties_are_left_out() -> None:
    keys = [(c.paper, c.where, c.metric, frozenset((c.better, c.worse))) for c in claims()]
    assert len(keys) == len(set(keys))
    assert all(claim.gain > 0 for claim in claims())
    tied = ("LDTL", "Luding", "pa", frozenset(("fcn", "deeplabv3")))
    assert tied not in keys, "92.2 and 92.2"
