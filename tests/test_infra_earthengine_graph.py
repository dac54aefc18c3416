"""Expression graphs: each value once, functions with their own arguments, and clear words about what is wrong."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from infra.local.earthengine.algorithms.registry import implementation, known
from infra.local.earthengine.errors import ArgumentError, UnknownAlgorithmError
from infra.local.earthengine.graph import Graph
from infra.local.earthengine.service import ALGORITHMS
from infra.local.earthengine.signatures import signatures


class Calls:
    """Adds and multiplies, and remembers what it was asked."""

    def __init__(self) -> None:
        self.made: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, name: str, arguments: dict[str, Any]) -> Any:
        self.made.append((name, arguments))
        if name == "If":
            return arguments.get("trueCase", arguments.get("falseCase"))
        if name == "map":
            return [arguments["function"](v) for v in arguments["list"]]
        if name not in ("add", "fail"):
            raise UnknownAlgorithmError(name)
        return arguments["left"] + arguments["right"]


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"functionInvocationValue": {"functionName": name, "arguments": arguments}}


def value(v: Any) -> dict[str, Any]:
    return {"constantValue": v}


def ref(key: str) -> dict[str, Any]:
    return {"valueReference": key}


def argument(name: str) -> dict[str, Any]:
    return {"argumentReference": name}


def function(body: str, *names: str) -> dict[str, Any]:
    return {"functionDefinitionValue": {"argumentNames": list(names), "body": body}}


def evaluate(result: str, calls: Calls | None = None, **nodes: Any) -> Any:
    return Graph({"result": result, "values": nodes}, calls or Calls()).evaluate()


def test_plain_values() -> None:
    assert evaluate("0", **{"0": value("text")}) == "text"
    assert evaluate("0", **{"0": {"integerValue": "9007199254740993"}}) == 9007199254740993
    nested = {"dictionaryValue": {"values": {"a": {"arrayValue": {"values": [value(1), value(None)]}}}}}
    assert evaluate("0", **{"0": nested}) == {"a": [1, None]}
    assert evaluate("0", **{"0": {"arrayValue": {}}}) == []


def test_a_shared_value_is_computed_once() -> None:
    calls = Calls()
    found = evaluate("2", calls, **{"0": call("add", left=value(1), right=value(2)),
                                    "1": call("add", left=ref("0"), right=ref("0")),
                                    "2": call("add", left=ref("1"), right=ref("0"))})  # fmt: skip
    assert found == 9
    assert len(calls.made) == 3


def test_what_does_not_depend_on_the_argument_is_computed_once_for_all_calls() -> None:
    calls = Calls()
    nodes = {
        "fixed": call("add", left=value(10), right=value(20)),
        "moved": call("add", left=argument("x"), right=ref("fixed")),
        "body": call("add", left=ref("moved"), right=ref("moved")),
        "all": call("map", list=value([1, 2, 3]), function=function("body", "x")),
    }
    assert evaluate("all", calls, **nodes) == [62, 64, 66]
    assert len([c for c in calls.made if c[0] == "add"]) == 1 + 2 * 3


def test_an_inner_function_sees_the_arguments_of_the_outer_one() -> None:
    nodes = {
        "sum": call("add", left=argument("x"), right=argument("y")),
        "inner": call("map", list=value([100, 200]), function=function("sum", "y")),
        "all": call("map", list=value([1, 2]), function=function("inner", "x")),
    }
    assert evaluate("all", **nodes) == [[101, 201], [102, 202]]


def test_a_function_may_be_called_by_reference() -> None:
    nodes = {
        "body": call("add", left=argument("a"), right=value(1)),
        "f": function("body", "a"),
        "all": {"functionInvocationValue": {"functionReference": "f", "arguments": {"a": value(4)}}},
    }
    assert evaluate("all", **nodes) == 5


def test_the_case_of_if_that_is_not_met_is_not_computed() -> None:
    for condition, expected in ((1, "yes"), (True, "yes"), ([], "yes"), (0, "no"), ("", "no"), (None, "no")):
        calls = Calls()
        chosen = {"yes": value("yes"), "no": call("unknown")}
        if expected == "no":
            chosen = {"yes": call("unknown"), "no": value("no")}
        node = call("If", condition=value(condition), trueCase=chosen["yes"], falseCase=chosen["no"])
        assert evaluate("0", calls, **{"0": node}) == expected


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ({"0": ref("nowhere")}, "unknown value 'nowhere'"),
        ({"0": argument("x")}, "unknown function argument 'x'"),
        ({"0": {"strangeValue": 1}}, "unknown kind 'strangeValue'"),
        ({"0": ref("0")}, "nested too deeply"),
        ({"0": call("nosuch")}, "nosuch: this algorithm is not known"),
        ({"0": {"functionInvocationValue": {"functionReference": "1"}}, "1": value(3)}, "not a function"),
    ],
)
def test_what_is_wrong_is_said(nodes: dict[str, Any], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        evaluate("0", **nodes)


@pytest.mark.parametrize("expression", [None, {}, {"values": []}, {"result": "0"}])
def test_a_body_without_an_expression_is_refused(expression: Any) -> None:
    with pytest.raises(ArgumentError, match="no valid expression"):
        Graph(expression, Calls())


def test_every_algorithm_takes_the_arguments_that_clients_send() -> None:
    declared = signatures()
    assert len(known()) > 500
    assert known() <= declared.keys()
    for name in known():
        parameters = inspect.signature(implementation(name)).parameters
        if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            continue  # arguments named like words of the language
        sent = {a.name for a in declared[name].arguments}
        assert sent <= parameters.keys(), name
        needed = {k for k, p in parameters.items() if p.default is p.empty} - {"context"}
        assert needed <= sent, name


def test_the_themes_of_algorithms_are_imported() -> None:
    assert {"collections", "composites", "terrain"} <= set(ALGORITHMS)
