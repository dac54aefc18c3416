"""How each network of the papers is trained, by name: one file a paper.

Every network of `modeling.networks` has a recipe of its own name. What a paper does not state is said in the file and
in `Recipe.about`.
"""

from __future__ import annotations

from collections.abc import Mapping

from modeling.errors import DataError
from modeling.recipes import dong, xu, yang
from modeling.recipes.parts import Optimiser, Plan, Recipe, Schedule, rate

__all__ = ["RECIPES", "Optimiser", "Plan", "Recipe", "Schedule", "names", "rate", "recipe"]

RECIPES: Mapping[str, Recipe] = {made.name: made for made in (*dong.RECIPES, *yang.RECIPES, *xu.RECIPES)}


def names() -> tuple[str, ...]:
    """The recipes that `recipe` knows."""
    return tuple(RECIPES)


def recipe(name: str) -> Recipe:
    """The recipe called `name`; raises `DataError` naming the ones there are."""
    try:
        return RECIPES[name]
    except KeyError:
        raise DataError(f"unknown recipe {name!r}: choose one of {', '.join(RECIPES)}") from None
