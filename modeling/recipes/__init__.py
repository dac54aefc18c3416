"""How each network of the papers is trained, and how each adaptation goes, by name: one file a paper.

Every network of `modeling.networks` has a recipe of its own name, in `RECIPES`: those can be trained. `ADAPTATIONS` fit a
trained model to other ground. What a paper does not state is said in the file and in the recipe's `about`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from modeling.errors import DataError
from modeling.recipes import dong, xu, yang, zou
from modeling.recipes.adapting import Adaptation, Adversarial, Leg, SelfTraining, Transfer, Unlabelled
from modeling.recipes.parts import Optimiser, Plan, Recipe, Schedule, rate

__all__ = [
    "ADAPTATIONS",
    "RECIPES",
    "Adaptation",
    "Adversarial",
    "Leg",
    "Optimiser",
    "Plan",
    "Recipe",
    "Schedule",
    "SelfTraining",
    "Transfer",
    "Unlabelled",
    "adaptation",
    "adaptation_names",
    "any_recipe",
    "names",
    "rate",
    "recipe",
]

_A = TypeVar("_A", Adversarial, SelfTraining, Transfer)

RECIPES: Mapping[str, Recipe] = {made.name: made for made in (*dong.RECIPES, *yang.RECIPES, *xu.RECIPES)}
_ADAPTATIONS: tuple[Adaptation, ...] = (*dong.TRANSFERS, *xu.TRANSFERS, *xu.ADVERSARIAL, *zou.SELF_TRAINING)
ADAPTATIONS: Mapping[str, Adaptation] = {made.name: made for made in _ADAPTATIONS}


def names() -> tuple[str, ...]:
    """The recipes that `recipe` knows: those that can be trained."""
    return tuple(RECIPES)


def recipe(name: str) -> Recipe:
    """The training recipe called `name`; raises `DataError` naming the ones there are."""
    if name in RECIPES:
        return RECIPES[name]
    known = f"choose one of {', '.join(RECIPES)}"
    if name in ADAPTATIONS:
        raise DataError(f"{name} is a recipe of adaptation ({ADAPTATIONS[name].way}) and trains no network: {known}")
    raise DataError(f"unknown recipe {name!r}: {known}")


def any_recipe(name: str) -> Recipe | Adaptation:
    """The recipe called `name` of either kind; raises `DataError` naming all."""
    if name in ADAPTATIONS:
        return ADAPTATIONS[name]
    if name in RECIPES:
        return RECIPES[name]
    raise DataError(
        f"unknown recipe {name!r}: choose one of {', '.join(RECIPES)} (training) or {', '.join(ADAPTATIONS)} (adaptation)"
    )


def adaptation_names(kind: type[Adaptation]) -> tuple[str, ...]:
    """The recipes of one way to adapt."""
    return tuple(name for name, made in ADAPTATIONS.items() if isinstance(made, kind))


def adaptation(name: str, kind: type[_A]) -> _A:
    """The recipe called `name` of one way to adapt; raises `DataError` naming the ones there are of it."""
    made = ADAPTATIONS.get(name)
    if isinstance(made, kind):
        return made
    raise DataError(
        f"{name!r} is no recipe of adaptation ({kind.way}): choose one of {', '.join(adaptation_names(kind))}"
    )
