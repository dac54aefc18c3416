"""The expression language of `Image.expression`: arithmetic on bands in the notation of C and Java.

expression := choice;  choice := either ["?" choice ":" choice];  either := both {"||" both};  both := same {"&&" same}
same := order {("==" | "!=") order};  order := sum {("<" | "<=" | ">" | ">=") sum};  sum := term {("+" | "-") term}
term := factor {("*" | "/" | "%") factor};  factor := ["-" | "+" | "!"] factor | power;  power := atom ["**" factor]
atom := number | "(" choice ")" | name "(" choices ")" | name {"." name | "[" (text | number) "]"}
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from infra.local.earthengine.algorithms.images_masks import where
from infra.local.earthengine.algorithms.registry import algorithm, invoke, known
from infra.local.earthengine.context import Context
from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.image import Image, constant, select
from infra.local.earthengine.values import Function

TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<name>[A-Za-z_]\w*)|(?P<text>'[^']*'|\"[^\"]*\")"
    r"|(?P<sign>\*\*|\|\||&&|==|!=|<=|>=|[-+*/%<>!?:()\[\],.]))"
)

BINARY = {
    "||": "or",
    "&&": "and",
    "==": "eq",
    "!=": "neq",
    "<": "lt",
    "<=": "lte",
    ">": "gt",
    ">=": "gte",
    "+": "add",
    "-": "subtract",
    "*": "multiply",
    "/": "divide",
    "%": "mod",
    "**": "pow",
}
LEVELS = (("||",), ("&&",), ("==", "!="), ("<", "<=", ">", ">="), ("+", "-"), ("*", "/", "%"))
"""Operators from the weakest to the strongest, all grouping to the left."""

Token = tuple[str, str]


class Parser:
    """One expression over named images."""

    def __init__(self, context: Context, text: str, images: dict[str, Image], default: str) -> None:
        self._context = context
        self._text = text
        self._images = images
        self._default = default
        self._tokens = self._split(text)
        self._at = 0

    def evaluate(self) -> Image:
        """The image that the expression describes."""
        result = self._choice()
        if self._at < len(self._tokens):
            raise self._error(f"unexpected '{self._tokens[self._at][1]}'")
        return result

    def _error(self, what: str) -> ArgumentError:
        return ArgumentError(f"Image.parseExpression: {what} in '{self._text}'.")

    def _split(self, text: str) -> list[Token]:
        tokens: list[Token] = []
        place, end = 0, len(text.rstrip())
        while place < end:
            match = TOKEN.match(text, place)
            if match is None:
                raise self._error(f"unexpected '{text[place:].strip()[:1]}'")
            tokens.append((str(match.lastgroup), match.group(str(match.lastgroup))))
            place = match.end()
        return tokens

    def _peek(self) -> str:
        return self._tokens[self._at][1] if self._at < len(self._tokens) else ""

    def _take(self, *wanted: str) -> str | None:
        if self._at < len(self._tokens) and self._tokens[self._at][0] == "sign" and self._peek() in wanted:
            self._at += 1
            return self._tokens[self._at - 1][1]
        return None

    def _expect(self, wanted: str) -> None:
        if self._take(wanted) is None:
            raise self._error(f"expected '{wanted}' before '{self._peek() or 'the end'}'")

    def _call(self, name: str, *images: Image) -> Image:
        keys = ("image1", "image2") if len(images) == 2 else ("value",)
        result: Image = invoke(self._context, f"Image.{name}", dict(zip(keys, images, strict=True)))
        return result

    def _choice(self) -> Image:
        test = self._level(0)
        if self._take("?") is None:
            return test
        chosen = self._choice()
        self._expect(":")
        return where(self._choice(), test, chosen)

    def _level(self, depth: int) -> Image:
        if depth == len(LEVELS):
            return self._factor()
        left = self._level(depth + 1)
        while sign := self._take(*LEVELS[depth]):
            left = self._call(BINARY[sign], left, self._level(depth + 1))
        return left

    def _factor(self) -> Image:
        sign = self._take("-", "+", "!")
        if sign == "-":
            return self._call("multiply", self._factor(), constant(-1))
        if sign == "!":
            return self._call("not", self._factor())
        if sign == "+":
            return self._factor()
        base = self._atom()
        return self._call("pow", base, self._factor()) if self._take("**") else base

    def _atom(self) -> Image:
        if self._take("("):
            inner = self._choice()
            self._expect(")")
            return inner
        if self._at >= len(self._tokens):
            raise self._error("the expression ends too early")
        kind, text = self._tokens[self._at]
        self._at += 1
        if kind == "number":
            return constant(int(text) if text.isdigit() else float(text))
        if kind != "name":
            raise self._error(f"unexpected '{text}'")
        if self._take("("):
            return self._function(text)
        return self._selected(text)

    def _function(self, name: str) -> Image:
        if name == "b":
            bands = self._selectors(")")
            image = self._images[self._default]
            return select(image, bands) if bands else image
        arguments: list[Image] = []
        while not self._take(")"):
            arguments.append(self._choice())
            if self._peek() != ")":
                self._expect(",")
        if f"Image.{name}" not in known() or len(arguments) not in (1, 2):
            raise self._error(f"unknown function '{name}' of {len(arguments)} arguments")
        return self._call(name, *arguments)

    def _selectors(self, closing: str) -> list[Any]:
        found: list[Any] = []
        while not self._take(closing):
            kind, text = self._tokens[self._at] if self._at < len(self._tokens) else ("", "the end")
            if kind not in ("number", "text"):
                raise self._error(f"expected a band before '{text}'")
            self._at += 1
            found.append(int(text) if kind == "number" else text[1:-1])
            if self._peek() != closing:
                self._expect(",")
        return found

    def _selected(self, name: str) -> Image:
        if name not in self._images:
            raise self._error(f"unknown name '{name}'; known are {', '.join(self._images)}")
        image = self._images[name]
        while True:
            if self._take("["):
                image = select(image, self._selectors("]"))
            elif self._take("."):
                kind, text = self._tokens[self._at] if self._at < len(self._tokens) else ("", "the end")
                if kind != "name":
                    raise self._error(f"expected a band before '{text}'")
                self._at += 1
                image = select(image, [text])
            else:
                return image


@algorithm("Image.parseExpression")
def parse_expression(
    context: Context, expression: str, argName: str, vars: list[str], mapFreeVarsToDefaultImageBands: bool = False
) -> Function:
    """A function of the named images that computes the expression."""

    def call(*images: Any) -> Image:
        given = {n: i if isinstance(i, Image) else constant(i) for n, i in zip(vars, images, strict=True)}
        return Parser(context, expression, given, argName).evaluate()

    compute: Callable[..., Image] = call
    return Function(tuple(vars), compute)
