"""Recipes say what the papers say, fit each other, and come back from JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from modeling import networks, recipes
from modeling.adaptation.freezing import PARTS
from modeling.data.augment import augmentation
from modeling.data.normalise import METHODS
from modeling.errors import DataError
from modeling.recipes import (
    ADAPTATIONS,
    Adaptation,
    Adversarial,
    Leg,
    Optimiser,
    Plan,
    Recipe,
    Schedule,
    SelfTraining,
    Transfer,
    adaptation,
    adaptation_names,
    any_recipe,
    dong,
    rate,
    recipe,
    xu,
    yang,
    zou,
)
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


def test_names_are_unique_over_both_kinds() -> None:
    training = [made.name for made in (*dong.RECIPES, *yang.RECIPES, *xu.RECIPES)]
    adapting = [made.name for made in (*dong.TRANSFERS, *xu.TRANSFERS, *xu.ADVERSARIAL, *zou.SELF_TRAINING)]
    assert sorted({*training, *adapting}) == sorted([*training, *adapting])
    assert recipes.names() == tuple(training)
    assert tuple(ADAPTATIONS) == tuple(adapting)


def test_adanet_is_what_the_release_states() -> None:
    made = adaptation("adanet", Adversarial)
    assert (made.adversarial, made.auxiliary) == ((0.01, 0.002), 0.5)
    assert (made.optimiser.name, made.optimiser.learning_rate, made.optimiser.heads_factor) == ("sgd", 2.5e-4, 10)
    assert made.discriminator == Optimiser("adam", 1e-4, betas=(0.9, 0.99))
    assert (made.optimiser.momentum, made.optimiser.weight_decay) == (0.9, 5e-4)  # inferred
    assert made.schedule == Schedule("polynomial", power=0.9)
    assert 0 < made.label_noise < 0.5
    for name in adaptation_names(Adversarial):
        assert adaptation(name, Adversarial).select_by == "source-f1"  # never by labels of the target


def test_other_recipes_of_adanet_change_what_they_say_and_nothing_else() -> None:
    paper = adaptation("adanet", Adversarial)
    scene, control = adaptation("adanet-scene", Adversarial), adaptation("adanet-control", Adversarial)
    assert replace(scene, name="adanet", steps=paper.steps, about=paper.about) == paper
    assert scene.steps == 300 < paper.steps
    assert replace(control, name="adanet", adversarial=paper.adversarial, about=paper.about) == paper
    assert control.adversarial == (0.0, 0.0)


def test_ldtl_trains_on_the_source_and_then_lightly_on_the_target_augmented_more_strongly() -> None:
    made = adaptation("ldtl", Transfer)
    assert [leg.ground for leg in made.legs] == ["source", "between", "target"]
    assert [(leg.share, leg.rate_factor) for leg in made.legs] == [(1.0, 1.0), (0.5, 0.3), (0.2, 0.1)]
    assert [leg.augmentation for leg in made.legs] == ["", "", "strong"]
    assert not any(leg.freeze for leg in made.legs)
    assert (made.warm_up, made.validations) == (0.05, 4)
    strong, ordinary = augmentation("strong"), augmentation(recipe("msf-litenet").augmentation)
    assert strong.brightness[0] < ordinary.brightness[0] < ordinary.brightness[1] < strong.brightness[1]
    assert adaptation("ldtl-ordinary", Transfer).legs[-1].augmentation == ""
    assert adaptation("ldtl-frozen", Transfer).legs[-1].freeze == ("trunk",)
    assert made.leg("target") is made.legs[-1]
    with pytest.raises(DataError, match="no leg on both"):
        made.leg("both")


def test_strategies_of_dfpenet_take_a_thousand_steps_after_thirty_thousand() -> None:
    whole, tuned = recipe("dfpenet").steps, recipe("dfpenet-fine-tune").steps
    assert whole is not None and tuned is not None
    for name in xu.STRATEGIES:
        first, second = adaptation(f"dfpenet-transfer-{name}", Transfer).legs
        assert (first.ground, first.share, first.rate_factor, first.freeze) == ("source", 1.0, 1.0, ())
        assert second.share * whole == pytest.approx(tuned)
        assert second.ground == ("both" if name == "joint" else "target")
        assert second.freeze == (("trunk",) if name == "freeze" else ())
        short = adaptation(f"dfpenet-transfer-{name}-short", Transfer)
        assert short.legs == (first, replace(second, share=0.2))


def test_self_training_grows_its_labels_as_cbst() -> None:
    made = adaptation("self-training", SelfTraining)
    assert (made.portion, made.ema, made.confidence, made.labellings) == ((0.2, 0.5), 0.99, 0.8, 5)
    assert made.optimiser == Optimiser("adamw", 1e-4, weight_decay=1e-2)
    assert made.schedule.name == "constant"
    assert (made.steps, made.batch, made.norms_of, made.select_by) == (300, 8, "kept", "last")


def test_every_recipe_of_adaptation_names_what_there_is() -> None:
    for made in ADAPTATIONS.values():
        assert made.about and made.way
        if isinstance(made, Transfer):
            assert {part for leg in made.legs for part in leg.freeze} <= set(PARTS)
            augmentations = [leg.augmentation for leg in made.legs if leg.augmentation]
        else:
            augmentations = [made.augmentation]
        for each in augmentations:
            augmentation(each)


@pytest.mark.parametrize("kind", [Adversarial, SelfTraining, Transfer])
def test_an_unknown_adaptation_is_refused_with_those_of_its_way(kind: type[Adversarial]) -> None:
    others = [name for name in ADAPTATIONS if name not in adaptation_names(kind)]
    for wrong in ("adanett", "dfpenet", others[0]):
        with pytest.raises(DataError) as refused:
            adaptation(wrong, kind)
        listed = str(refused.value).partition("choose one of ")[2].split(", ")
        assert tuple(listed) == adaptation_names(kind)


def test_kinds_are_kept_apart() -> None:
    with pytest.raises(DataError, match=r"trains no network: choose one of msf-litenet"):
        recipe("adanet")
    assert any_recipe("ldtl") is ADAPTATIONS["ldtl"]
    assert any_recipe("dfpenet") is recipe("dfpenet")
    with pytest.raises(DataError, match=r"msf-litenet.*adanet-scene"):
        any_recipe("adanett")


def test_an_adaptation_validates_evenly_and_warms_up_for_half_of_it_at_most() -> None:
    made = adaptation("adanet", Adversarial)
    assert made.plan() == Plan(1_000, 0, 100)
    short = replace(made, steps=4, schedule=Schedule("polynomial", warm_up=150))
    assert short.plan() == Plan(4, 2, 1)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("adanet", {"steps": 0}, "steps 0"),
        ("adanet", {"batch": 0}, "batch 0"),
        ("adanet", {"label_noise": 0.5}, "label_noise"),
        ("adanet", {"adversarial": (0.1, -0.1)}, "negative"),
        ("adanet", {"select_by": "target-f1"}, "target-f1"),
        ("adanet", {"norms_of": "mine"}, "norms_of 'mine'"),
        ("adanet", {"precision": "float16"}, "float16"),
        ("adanet", {"discriminator": Optimiser("lion")}, "discriminator 'lion'"),
        ("adanet", {"schedule": Schedule(warm_up_epochs=1)}, "no epochs"),
        ("self-training", {"portion": (0.5, 0.2)}, "portion"),
        ("self-training", {"labellings": 0}, "0 labellings"),
        ("ldtl", {"legs": ()}, "at least one"),
        ("ldtl", {"legs": (Leg("a", "source"), Leg("a", "target"))}, "name of its own"),
        ("ldtl", {"legs": (Leg("a", "nowhere"),)}, "nowhere"),  # type: ignore[arg-type]
        ("ldtl", {"legs": (Leg("a", "source", share=0.0),)}, "above 0"),
        ("ldtl", {"validations": 0}, "0 validations"),
    ],
)
def test_impossible_adaptations_are_refused(name: str, changes: dict[str, object], message: str) -> None:
    made: Adaptation = ADAPTATIONS[name]
    with pytest.raises(DataError, match=message):
        replace(made, **changes)  # type: ignore[arg-type]
