"""Text."""

from __future__ import annotations

import json
import re
from typing import Any

from infra.local.earthengine.algorithms.registry import algorithm
from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.values import to_json


def _flags(flags: str) -> re.RegexFlag:
    return re.IGNORECASE if "i" in flags else re.NOFLAG


@algorithm("String")
def string(input: Any) -> str:
    """A value as text."""
    if isinstance(input, str):
        return input
    if isinstance(input, bool | int | float):
        whole = isinstance(input, float) and input.is_integer()
        return str(int(input)) if whole else str(input).lower() if isinstance(input, bool) else str(input)
    return json.dumps(to_json(input))


@algorithm("String.cat")
def cat(string1: str, string2: str) -> str:
    """Both, one after the other."""
    return string1 + string2


@algorithm("String.equals")
def equals(reference: str, target: Any) -> bool:
    """Whether they are the same."""
    return bool(reference == target)


@algorithm("String.compareTo")
def compare(string1: str, string2: str) -> int:
    """-1, 0 or 1 by alphabetical order."""
    return (string1 > string2) - (string1 < string2)


@algorithm("String.index")
def index(target: str, pattern: str) -> int:
    """Place of the first occurrence, -1 when there is none."""
    return target.find(pattern)


@algorithm("String.rindex")
def rindex(target: str, pattern: str) -> int:
    """Place of the last occurrence, -1 when there is none."""
    return target.rfind(pattern)


@algorithm("String.length")
def length(string: str) -> int:
    """Number of characters."""
    return len(string)


@algorithm("String.slice")
def slice_string(string: str, start: int, end: int | None = None) -> str:
    """Characters from `start` to before `end`."""
    return string[start:end]


@algorithm("String.split")
def split(string: str, regex: str, flags: str = "") -> list[str]:
    """Parts between the matches of a regular expression."""
    return re.split(regex, string, flags=_flags(flags))


@algorithm("String.match")
def match(input: str, regex: str, flags: str = "") -> list[str]:
    """The first match and its groups; all matches with the flag g."""
    if "g" in flags:
        return [m.group(0) for m in re.finditer(regex, input, _flags(flags))]
    found = re.search(regex, input, _flags(flags))
    return [] if found is None else [found.group(0), *(g or "" for g in found.groups())]


@algorithm("String.replace")
def replace(input: str, regex: str, replacement: str, flags: str = "") -> str:
    """The first match replaced; all of them with the flag g."""
    text = re.sub(r"\$(\d)", r"\\\1", replacement)
    return re.sub(regex, text, input, count=0 if "g" in flags else 1, flags=_flags(flags))


@algorithm("String.toLowerCase")
def lower(string: str) -> str:
    """Small letters."""
    return string.lower()


@algorithm("String.toUpperCase")
def upper(string: str) -> str:
    """Capital letters."""
    return string.upper()


@algorithm("String.trim")
def trim(string: str) -> str:
    """Without white space at both ends."""
    return string.strip()


@algorithm("String.encodeJSON")
def encode(object: Any) -> str:
    """A value as JSON."""
    return json.dumps(to_json(object), separators=(",", ":"))


@algorithm("String.decodeJSON")
def decode(string: str) -> Any:
    """A value from JSON."""
    try:
        return json.loads(string)
    except ValueError as error:
        raise ArgumentError(f"String.decodeJSON: Not JSON: {error}.") from error
