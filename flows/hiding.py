"""Errors and values without secrets, where they leave the process that met them.

What a flow or one of its stages raises becomes the message of its state on Prefect's server, which alerts pass on; what
an event carries, everybody sees who may read events.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flows.errors import FlowError
from flows.logs import redacted


@contextmanager
def hiding_secrets() -> Iterator[None]:
    """Take what looks like a secret out of the words of whatever the block, or the decorated function, raises.

    Decorate tasks with it, not flows: Prefect looks for the types of a flow's parameters beside the outermost function.
    The error stays the same object. One whose words do not come from its arguments is raised as a `FlowError` instead,
    when there is something to hide in it.
    """
    try:
        yield
    except Exception as error:
        for one in _chain(error):
            _clean(one)
        told = str(error)
        if redacted(told) != told:
            raise FlowError(redacted(f"{type(error).__name__}: {told}")) from None
        raise


def cleaned(value: Any) -> Any:
    """A value of JSON with every text in it, at any depth, without what looks like a secret."""
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, dict):
        return {key: cleaned(one) for key, one in value.items()}
    return [cleaned(one) for one in value] if isinstance(value, list) else value


def _chain(error: BaseException) -> list[BaseException]:
    """An error and all that it came of."""
    found: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and not any(one is known for known in found):
            found.append(one)
            waiting += [one.__cause__, one.__context__]
    return found


def _clean(error: BaseException) -> None:
    error.args = tuple(redacted(one) if isinstance(one, str) else one for one in error.args)
    if isinstance(error, OSError):  # which tells these instead of its arguments
        for name in ("strerror", "filename", "filename2"):
            if isinstance(getattr(error, name), str):
                setattr(error, name, redacted(getattr(error, name)))
    if hasattr(error, "__notes__"):
        error.__notes__ = [redacted(str(note)) for note in error.__notes__]
