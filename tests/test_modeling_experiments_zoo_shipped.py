"""modeling/experiments/zoo_shipped.py: the report is of the weights that ship, and its figures follow from its counts."""

from __future__ import annotations

import numpy as np
import pytest

from modeling.bands import BandSet
from modeling.data.batches import Block
from modeling.domains.zoo import open_zoo
from modeling.experiments.zoo_shipped import COMMAND, KNOWN, REPORTS, Layers, figures, near, picked, report
from modeling.json_file import read_json
from modeling.model import available_models, load_model
from modeling.training.shipped_regions import TRAINING_DOMAINS

ALL, NO_INFRARED, ONE_DATE = KNOWN


def test_the_committed_report_is_of_what_ships_and_follows_from_its_counts() -> None:
    stored = read_json(REPORTS / "zoo.json")
    text = (REPORTS / "zoo.md").read_text(encoding="utf-8")
    assert stored["simulated"] is True
    assert "simulated" in text
    assert COMMAND in text
    assert stored["weights"] == {name: load_model(name).weights_hash for name in available_models()}
    assert not {*stored["domains"].values()} & {*TRAINING_DOMAINS}, "domains that no model has learnt from"
    assert text.startswith(report(figures(open_zoo(), stored), len(stored["domains"])))


def test_layers_allow_what_can_be_made_of_them() -> None:
    channels = ("slope", "red_pre", "ndvi_pre", "nir_post", "red_post")
    assert [[name for name in channels if layers.allow(name)] for layers in KNOWN] == [
        [*channels],
        ["slope", "red_pre", "red_post"],
        ["red_post"],
    ]


@pytest.mark.parametrize(
    ("layers", "wanted"),
    [
        (ALL, "resu-senet-slim_ten-band"),
        (NO_INFRARED, "resu-senet-slim_rgb-terrain"),
        (ONE_DATE, "resu-senet-slim_rgb"),
    ],
)
def test_the_richest_model_that_the_layers_allow_is_picked(layers: Layers, wanted: str) -> None:
    zoo = open_zoo()
    channels = dict.fromkeys(name for one in zoo.models for name in one.bands.channels)
    values = np.random.default_rng(0).uniform(0, 0.3, (len(channels), 96, 96)).astype(np.float32)
    bands = BandSet("all", tuple(channels), "for tests")
    for known in (values, np.full_like(values, np.nan)):
        assert picked(zoo, Block(known, np.zeros((96, 96), np.uint8), "event", "somewhere"), bands, layers) == wanted


def test_a_pick_is_held_to_the_best_that_could_be_taken() -> None:
    counts = {"good": {"e": [80, 20, 20, 0]}, "poor": {"e": [74, 26, 26, 0]}, "rich": {"e": [90, 10, 10, 0]}}
    assert near(counts, {"e": "poor"}, ["poor", "good", "rich"]) == {"e": False}
    assert near(counts, {"e": "good"}, ["poor", "good"]) == {"e": True}
    assert near(counts, {"e": "poor"}, ["poor", "good"]) == {"e": False}
    assert near(
        {"good": {"e": [80, 20, 20, 0]}, "alike": {"e": [76, 24, 24, 0]}}, {"e": "alike"}, ["good", "alike"]
    ) == {"e": True}
