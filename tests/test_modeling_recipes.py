"""Recipes say what the papers say, fit each other, and come back from JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from modeling import networks, recipes
from modeling.data.augment import augmentation
from modeling.data.normalise import METHODS
from modeling.errors import DataError
from modeling.recipes import Optimiser, Recipe, Schedule, rate, recipe
from modeling.recipes.parts import OPTIMISERS
from modeling.training import losses
from modeling.training.optimise import optimiser_for, set_rate


def test_every_network_has_a_recipe_of_its_name_and_every_recipe_can_be_made() -> None:
    assert set(networks.names()) <= set(recipes.names())
    for made in recipes.RECIPES.values():
        assert made.network in networks.names()
        assert made.normalisation in METHODS
        assert callable(losses.loss(made.loss))
        augmentation(made.augmentation)
        assert made.about


def test_what_the_papers_state() -> None:
    yang = recipe("resu-senet")
    assert (yang.loss, yang.optimiser.name, yang.optimiser.learning_rate, yang.batch) == ("dice", "adam", 1e-4, 5)
    assert (yang.patch_px, yang.normalisation, yang.augmentation, yang.select_by) == (88, "min-max", "mirrors", "loss")
    dong = recipe("msf-litenet")
    assert (dong.loss, dong.epochs, dong.schedule.warm_up_epochs, dong.schedule.power) == ("focal+dice", 50, 1, 0.9)
    assert (dong.optimiser.learning_rate, dong.patch_px, dong.classes) == (1e-4, 256, 2)
    xu = recipe("dfpenet")
    sgd = Optimiser("sgd", 0.007, momentum=0.9, nesterov=True, weight_decay=5e-4, heads_factor=10.0)
    assert xu.optimiser == sgd
    assert (xu.steps, xu.batch, xu.patch_px, xu.loss) == (30_000, 4, 512, "cross-entropy")
    assert recipe("dfpenet-fine-tune").steps == 1_000
    assert recipe("mffenet").loss == "boundary-aware"


def test_an_unknown_recipe_is_refused_with_those_there_are() -> None:
    with pytest.raises(DataError, match="resu-senet"):
        recipe("resu-snet")


def test_epochs_become_steps() -> None:
    plan = recipe("msf-litenet").plan(30)
    assert (plan.steps, plan.warm_up, plan.validate_every) == (1500, 30, 30)
    assert recipe("dfpenet").plan(None).validate_every == 1500
    assert recipe("dfpenet").plan(40).validate_every == 40
    short = replace(recipe("msf-litenet"), epochs=None, steps=10).plan(30)
    assert (short.steps, short.warm_up, short.validate_every) == (10, 5, 10)
    with pytest.raises(DataError, match="counts in epochs"):
        recipe("resu-senet").plan(None)


@pytest.mark.parametrize("name", ["constant", "polynomial", "cosine"])
def test_the_rate_warms_up_and_then_never_rises(name: str) -> None:
    made = Recipe("x", "msf-litenet", "dice", Optimiser(), Schedule(name, warm_up=10), steps=100)
    plan = made.plan()
    rates = [rate(made.schedule, step, plan) for step in range(100)]
    assert rates[0] == pytest.approx(1e-3)
    assert rates[5] == pytest.approx(1e-3 + 0.999 / 2)
    assert rates[:11] == sorted(rates[:11])
    assert max(rates) == rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert min(rates) > 0
    assert rates[55] == pytest.approx({"constant": 1.0, "polynomial": 0.5**0.9, "cosine": 0.5}[name])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": None}, "steps or epochs"),
        ({"epochs": 3}, "steps or epochs"),
        ({"steps": 0}, "at least 1"),
        ({"batch": 0}, "batch 0"),
        ({"classes": 3}, "3 classes"),
        ({"precision": "float16"}, "float16"),
        ({"select_by": "iou"}, "iou"),
        ({"optimiser": Optimiser("lion")}, "lion"),
        ({"optimiser": Optimiser(learning_rate=0.0)}, "trains nothing"),
        ({"schedule": Schedule("steps")}, "schedule 'steps'"),
    ],
)
def test_impossible_recipes_are_refused(changes: dict[str, object], message: str) -> None:
    made = Recipe("x", "msf-litenet", "dice", Optimiser(), steps=100)
    with pytest.raises(DataError, match=message):
        replace(made, **changes)  # type: ignore[arg-type]


def test_recipes_come_back_from_json() -> None:
    for made in recipes.RECIPES.values():
        assert Recipe.from_json(json.loads(json.dumps(made.to_json()))) == made
    with pytest.raises(DataError, match="cannot be read"):
        Recipe.from_json({"name": "x"})
    with pytest.raises(DataError, match="cannot be read"):
        Recipe.from_json({**recipe("cgnet").to_json(), "colour": "red"})


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Conv2d(3, 4, 1)
        self.head = nn.Conv2d(4, 1, 1)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_heads_learn_faster_than_the_trunk(name: str) -> None:
    network = Two()
    optimiser = optimiser_for(Optimiser(name, 0.01, momentum=0.9, heads_factor=10.0), network)
    set_rate(optimiser, 0.002)
    rates = {id(p): group["lr"] for group in optimiser.param_groups for p in group["params"]}
    assert rates[id(network.trunk.weight)] == 0.002
    assert rates[id(network.head.bias)] == pytest.approx(0.02)
    assert len(rates) == 4
    with pytest.raises(DataError, match="no trunk"):
        optimiser_for(Optimiser(name, 0.01, heads_factor=10.0), nn.Conv2d(3, 1, 1))


def test_networks_whose_recipe_has_fast_heads_have_a_trunk() -> None:
    for made in recipes.RECIPES.values():
        if made.optimiser.heads_factor != 1:
            with torch.device("meta"):
                network = networks.create(made.network, in_channels=3, classes=made.classes)
            assert len(optimiser_for(made.optimiser, network).param_groups) == 2
