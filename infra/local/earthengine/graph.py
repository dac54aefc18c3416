"""Expression graphs: what a client sends, evaluated to a value.

A graph is `{"result": key, "values": {key: node}}`. A node is one of constantValue, integerValue, bytesValue,
arrayValue, dictionaryValue, valueReference, argumentReference, functionDefinitionValue, functionInvocationValue.
Each referenced value is evaluated once: those that depend on a function's arguments once for each call of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.values import Function

Invoke = Callable[[str, dict[str, Any]], Any]
"""Applies an algorithm by its name to arguments by their names."""

NodeJson = dict[str, Any]


def is_true(value: Any) -> bool:
    """Whether a condition is met: zero, empty text, null and false are not, everything else is."""
    return not (value is None or (isinstance(value, bool | int | float | str) and not value))


@dataclass
class _Scope:
    """The arguments of one call, and the values that were computed under them."""

    arguments: dict[str, Any] = field(default_factory=dict)
    parent: _Scope | None = None
    memo: dict[str, Any] = field(default_factory=dict)

    def lookup(self, name: str) -> Any:
        scope: _Scope | None = self
        while scope is not None:
            if name in scope.arguments:
                return scope.arguments[name]
            scope = scope.parent
        raise ArgumentError(f"The expression refers to an unknown function argument '{name}'.")

    def binding(self, names: frozenset[str]) -> _Scope:
        """The innermost scope that binds one of the names; the outermost one when there are none."""
        scope = self
        while scope.parent is not None and not (names & scope.arguments.keys()):
            scope = scope.parent
        return scope


class Graph:
    """One expression and what has been computed of it."""

    def __init__(self, expression: Any, invoke: Invoke) -> None:
        if not isinstance(expression, dict) or not isinstance(expression.get("values"), dict):
            raise ArgumentError("The request has no valid expression: 'values' and 'result' are needed.")
        self._values: dict[str, NodeJson] = expression["values"]
        self._result = str(expression.get("result", ""))
        self._invoke = invoke
        self._free: dict[str, frozenset[str]] = {}

    def evaluate(self) -> Any:
        """The value of the expression."""
        try:
            return self._referenced(self._result, _Scope())
        except RecursionError as error:
            raise ArgumentError("The expression is nested too deeply.") from error

    def _referenced(self, key: str, scope: _Scope) -> Any:
        if key not in self._values:
            raise ArgumentError(f"The expression refers to the unknown value '{key}'.")
        home = scope.binding(self._free_names(key))
        if key not in home.memo:
            home.memo[key] = self._node(self._values[key], home)
        return home.memo[key]

    def _node(self, node: NodeJson, scope: _Scope) -> Any:
        kind, body = self._opened(node)
        evaluate = self._KINDS.get(kind)
        if evaluate is None:
            raise ArgumentError(f"The expression has a node of unknown kind '{kind}'.")
        return evaluate(self, body, scope)

    @staticmethod
    def _opened(node: NodeJson) -> tuple[str, Any]:
        """The kind of a node and what it holds."""
        return next(iter(node.items())) if node else ("", None)

    def _constant(self, body: Any, scope: _Scope) -> Any:
        return body

    def _integer(self, body: Any, scope: _Scope) -> Any:
        return int(body)

    def _reference(self, body: str, scope: _Scope) -> Any:
        return self._referenced(body, scope)

    def _argument(self, body: str, scope: _Scope) -> Any:
        return scope.lookup(body)

    def _array(self, body: NodeJson, scope: _Scope) -> Any:
        return [self._node(n, scope) for n in body.get("values", [])]

    def _dictionary(self, body: NodeJson, scope: _Scope) -> Any:
        return {k: self._node(n, scope) for k, n in body.get("values", {}).items()}

    def _definition(self, body: NodeJson, scope: _Scope) -> Any:
        names = tuple(body.get("argumentNames", ()))
        key = body["body"]

        def call(*args: Any) -> Any:
            return self._referenced(key, _Scope(dict(zip(names, args, strict=True)), scope))

        return Function(names, call)

    def _invocation(self, body: NodeJson, scope: _Scope) -> Any:
        given = body.get("arguments", {})
        if body.get("functionName") == "If":
            given = self._chosen(given, scope)
        arguments = {k: self._node(n, scope) for k, n in given.items()}
        if "functionName" in body:
            return self._invoke(body["functionName"], arguments)
        function = self._referenced(body["functionReference"], scope)
        if not isinstance(function, Function):
            raise ArgumentError("The expression calls something that is not a function.")
        missing = [n for n in function.names if n not in arguments]
        if missing:
            raise ArgumentError(f"A function of the expression is called without its argument '{missing[0]}'.")
        return function(*(arguments[n] for n in function.names))

    def _chosen(self, given: dict[str, NodeJson], scope: _Scope) -> dict[str, NodeJson]:
        """The arguments of `If` without the case that is not met: it may not be computable."""
        condition = self._node(given["condition"], scope) if "condition" in given else None
        return {k: n for k, n in given.items() if k != ("falseCase" if is_true(condition) else "trueCase")}

    _KINDS: dict[str, Callable[[Graph, Any, _Scope], Any]] = {  # noqa: RUF012 - a constant table
        "constantValue": _constant,
        "integerValue": _integer,
        "valueReference": _reference,
        "argumentReference": _argument,
        "arrayValue": _array,
        "dictionaryValue": _dictionary,
        "functionDefinitionValue": _definition,
        "functionInvocationValue": _invocation,
    }

    def _free_names(self, key: str) -> frozenset[str]:
        if key not in self._free:
            self._free[key] = frozenset()  # a cycle would be caught by the recursion limit
            self._free[key] = self._free_in(self._values.get(key, {}))
        return self._free[key]

    def _free_in(self, node: NodeJson) -> frozenset[str]:
        kind, body = self._opened(node)
        if kind == "argumentReference":
            return frozenset([str(body)])
        inner, keys = _parts(kind, body)
        found = frozenset[str]().union(*(self._free_in(n) for n in inner), *(self._free_names(k) for k in keys))
        return found - frozenset(body.get("argumentNames", ())) if kind == "functionDefinitionValue" else found


def _parts(kind: str, body: Any) -> tuple[list[NodeJson], list[str]]:
    """The nodes inside a node, and the keys of those that it refers to."""
    if kind == "valueReference":
        return [], [body]
    if kind == "arrayValue":
        return list(body.get("values", ())), []
    if kind == "dictionaryValue":
        return list(body.get("values", {}).values()), []
    if kind == "functionDefinitionValue":
        return [], [body["body"]]
    if kind == "functionInvocationValue":
        called = [body["functionReference"]] if "functionReference" in body else []
        return list(body.get("arguments", {}).values()), called
    return [], []
