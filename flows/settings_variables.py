"""Environment variables that set settings, and what is wrong with those that set none."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_origin

from pydantic import BaseModel

from flows.errors import FlowError


@dataclass(frozen=True)
class Variables:
    """The variables of this process that begin with `prefix`."""

    prefix: str
    """Such as `QUAKESLIDE_`."""
    delimiter: str
    """Between a group and its field."""
    settings: type[BaseModel]
    """What they set: single values, and groups of them."""

    def require_known(self) -> None:
        """Raise `FlowError` for one that names no group: pydantic would pass over a slip of the pen in silence."""
        groups = ", ".join(name.upper() for name in self.settings.model_fields)
        for variable, group, _ in self._set():
            if group not in self.settings.model_fields:
                form = f"{self.prefix}<GROUP>{self.delimiter}<FIELD>"
                raise FlowError(f"{variable} is no setting: write {form}, groups are {groups}")

    def unread(self) -> str:
        """The first whose value is not of the form that its setting needs, in words; empty when there is none."""
        for variable, group, field in self._set():
            kind = self.settings.model_fields[group].annotation
            if not (isinstance(kind, type) and issubclass(kind, BaseModel)) or _is_json(value := os.environ[variable]):
                continue
            if not field:
                each = ", ".join(f"{variable}{self.delimiter}{name.upper()}" for name in kind.model_fields)
                return f"{variable} = {value!r} cannot be: {group} is a group of settings, set one of them: {each}"
            if field in kind.model_fields and get_origin(kind.model_fields[field].annotation) is tuple:
                listed = json.dumps([part.strip() for part in value.split(",")], ensure_ascii=False)
                return f"{variable} = {value!r} cannot be read: {group}.{field} is a list, write {variable}='{listed}'"
        return ""

    def _set(self) -> Iterator[tuple[str, str, str]]:
        """Each variable with the group and the field that it names; an empty field for the whole group."""
        for variable in os.environ:
            name = variable.upper().removeprefix(self.prefix)
            if name != variable.upper():
                group, _, field = name.lower().partition(self.delimiter)
                yield variable, group, field


def _is_json(value: str) -> bool:
    try:
        json.loads(value)
    except ValueError:
        return False
    return True
