"""Joins of two collections."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from infra.local.earthengine.algorithms.filters import Filter
from infra.local.earthengine.algorithms.registry import algorithm
from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.values import Collection, Feature


@dataclass(frozen=True)
class Match:
    """A secondary element that fits, and how well."""

    element: Any
    """The element."""
    measure: float | None
    """How far it is apart, when the condition measures it."""


Build = Callable[[Any, list[Match]], list[Any]]
"""Takes a primary element and what matches it; gives what becomes of it."""


@dataclass(frozen=True)
class Join:
    """What becomes of each primary element."""

    build: Build


def _with(element: Any, values: dict[str, Any]) -> Any:
    return replace(element, properties={**element.properties, **values})


def _measured(element: Any, match: Match, key: str | None) -> Any:
    return element if key is None else _with(element, {key: match.measure})


@algorithm("Join.simple")
def simple() -> Join:
    """Primary elements that have a match."""
    return Join(lambda element, matches: [element] if matches else [])


@algorithm("Join.inverted")
def inverted() -> Join:
    """Primary elements that have none."""
    return Join(lambda element, matches: [] if matches else [element])


def _ordered(matches: list[Match], ordering: str | None, ascending: bool) -> list[Match]:
    if ordering is None:
        return matches
    return sorted(matches, key=lambda m: m.element.get(ordering), reverse=not ascending)


@algorithm("Join.saveFirst")
def save_first(
    matchKey: str,
    ordering: str | None = None,
    ascending: bool = True,
    measureKey: str | None = None,
    outer: bool = False,
) -> Join:
    """Primary elements with their first match as a property."""

    def build(element: Any, matches: list[Match]) -> list[Any]:
        if not matches:
            return [element] if outer else []
        first = _ordered(matches, ordering, ascending)[0]
        return [_with(element, {matchKey: _measured(first.element, first, measureKey)})]

    return Join(build)


@algorithm("Join.saveBest")
def save_best(matchKey: str, measureKey: str, outer: bool = False) -> Join:
    """Primary elements with the nearest match as a property."""

    def build(element: Any, matches: list[Match]) -> list[Any]:
        if not matches:
            return [element] if outer else []
        if any(m.measure is None for m in matches):
            raise ArgumentError("Join.saveBest: The condition does not measure; use maxDifference or withinDistance.")
        best = min(matches, key=lambda m: m.measure or 0.0)
        return [_with(element, {matchKey: _measured(best.element, best, measureKey)})]

    return Join(build)


@algorithm("Join.saveAll")
def save_all(
    matchesKey: str,
    ordering: str | None = None,
    ascending: bool = True,
    measureKey: str | None = None,
    outer: bool = False,
) -> Join:
    """Primary elements with all their matches as a list in a property."""

    def build(element: Any, matches: list[Match]) -> list[Any]:
        if not matches and not outer:
            return []
        kept = [_measured(m.element, m, measureKey) for m in _ordered(matches, ordering, ascending)]
        return [_with(element, {matchesKey: kept})]

    return Join(build)


@algorithm("Join.inner")
def inner(primaryKey: str = "primary", secondaryKey: str = "secondary", measureKey: str | None = None) -> Join:
    """A feature for each pair, with both elements as properties."""

    def build(element: Any, matches: list[Match]) -> list[Any]:
        return [
            _measured(Feature(None, {primaryKey: element, secondaryKey: m.element}), m, measureKey) for m in matches
        ]

    return Join(build)


@algorithm("Join.apply")
def apply(join: Join, primary: Collection, secondary: Collection, condition: Filter) -> Collection:
    """A join of two collections under a condition."""
    made: list[Any] = []
    for element in primary.elements:
        matches = [
            Match(other, condition.measure(element, other) if condition.measure else None)
            for other in secondary.elements
            if condition.matches(element, other)
        ]
        made += join.build(element, matches)
    images = primary.images and all(not isinstance(e, Feature) for e in made)
    return replace(primary, elements=tuple(made), images=images)
