"""Dates and times that people type."""

from __future__ import annotations

import datetime as dt

from flows.errors import FlowError


def moment_of(text: str, option: str) -> dt.datetime:
    """An ISO 8601 date or time as UTC, taken for UTC when it names no zone; `FlowError` that names the option."""
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise FlowError(f"{option} {text!r} is not a date: write 2018-09-05 or 2018-09-05T18:07:59Z") from None
    return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)
