"""The table of algorithms, and how one is called.

An algorithm is a function that takes its arguments under the names of the service's signature, already brought to
their declared types and with defaults filled in. One whose first parameter is called `context` gets the request's
`Context` there.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from infra.local.earthengine.context import Context
from infra.local.earthengine.errors import ArgumentError, UnknownAlgorithmError
from infra.local.earthengine.promote import promote
from infra.local.earthengine.signatures import Argument, signatures

Algorithm = Callable[..., Any]
F = TypeVar("F", bound=Algorithm)

_ALGORITHMS: dict[str, tuple[Algorithm, bool]] = {}


def register(name: str, function: Algorithm) -> None:
    """Add an algorithm under a name; a second one of the same name is a mistake."""
    if name in _ALGORITHMS:
        raise ValueError(f"The algorithm {name} is registered twice.")
    first = next(iter(inspect.signature(function).parameters), "")
    _ALGORITHMS[name] = function, first == "context"


def algorithm(*names: str) -> Callable[[F], F]:
    """Decorator: register a function under one or several names."""

    def add(function: F) -> F:
        for name in names:
            register(name, function)
        return function

    return add


def known() -> frozenset[str]:
    """The names of all algorithms that can be evaluated."""
    return frozenset(_ALGORITHMS)


def implementation(name: str) -> Algorithm:
    """The function behind a name. UnknownAlgorithmError when there is none."""
    if name not in _ALGORITHMS:
        raise UnknownAlgorithmError(name)
    return _ALGORITHMS[name][0]


def summary(name: str) -> str:
    """What an algorithm does, in a line: the first of its function's docstring, with what tells its variants apart."""
    function = implementation(name)
    inner = function.func if isinstance(function, partial) else function
    return (inspect.getdoc(inner) or "").partition("\n")[0]


def invoke(context: Context, name: str, arguments: dict[str, Any]) -> Any:
    """Call an algorithm by its name. ArgumentError when an argument is missing, unknown, or of the wrong type."""
    function, wants_context = implementation(name), _ALGORITHMS[name][1]
    signature = signatures().get(name)
    given = arguments if signature is None else _completed(context, name, signature.arguments, arguments)
    return function(context, **given) if wants_context else function(**given)


def _completed(
    context: Context, name: str, declared: tuple[Argument, ...], arguments: dict[str, Any]
) -> dict[str, Any]:
    unknown = arguments.keys() - {a.name for a in declared}
    if unknown:
        raise ArgumentError(f"{name}: Unrecognized argument '{min(unknown)}'.")
    complete = {}
    for argument in declared:
        value = arguments.get(argument.name)
        if value is None:
            if not argument.optional:
                raise ArgumentError(f"{name}: Parameter '{argument.name}' is required and may not be null.")
            value = argument.default
        complete[argument.name] = promote(argument.type, value, context, f"{name}, argument '{argument.name}'")
    return complete
