"""Logs without secrets, as lines for people or as one JSON object a line (`QUAKESLIDE_LOG=json`).

Prefect reads the file `logging.yaml` beside this one in place of its own; the filter and the formatter here stand in it,
so that what goes to the terminal and what goes to the server's log of a run are held to the same.
"""

from __future__ import annotations

import json
import logging
import logging.config
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

CONFIGURATION = Path(__file__).with_name("logging.yaml")
"""The configuration of logging, in the form of Python's `dictConfig`."""

HIDDEN = "***"
"""What stands in place of a secret."""

_SECRET_NAME = re.compile(
    r"(SECRET|TOKEN|PASSWORD|PASSWD|AUTH_STRING|API_KEY|PRIVATE_KEY|CONNECTION_URL)", re.IGNORECASE
)
_SHORTEST = 6
_PATTERNS = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), HIDDEN),
    (re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"), HIDDEN),
    (re.compile(r"(https://hooks\.slack(?:-gov)?\.com/services/)\S+"), rf"\g<1>{HIDDEN}"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"), rf"\g<1> {HIDDEN}"),
    (re.compile(r"\bya29\.[A-Za-z0-9._-]{8,}|\bAIza[A-Za-z0-9_-]{20,}|\bxox[a-z]-[A-Za-z0-9-]{8,}"), HIDDEN),
    (
        re.compile(
            r"(?i)([\"']?\b[\w-]*(?:secret|token|password|passwd|api[_-]?key|private[_-]?key|signature)[\"']?\s*[=:]\s*)"
            r"(\"[^\"]*\"|'[^']*'|[^\s,;&}\"']+)"
        ),
        rf"\g<1>{HIDDEN}",
    ),
)


def secrets_here() -> frozenset[str]:
    """The values of this process's environment variables whose names say that they are secret."""
    return frozenset(
        value for name, value in os.environ.items() if _SECRET_NAME.search(name) and len(value) >= _SHORTEST
    )


def redacted(text: str) -> str:
    """The text without what is, or looks like, a secret: keys, tokens, passwords, users in addresses, webhooks."""
    for value in secrets_here():
        text = text.replace(value, HIDDEN)
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    return text


class Redacting(logging.Filter):
    """Takes secrets out of every record that passes."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Always true; the record's message is rendered and cleaned."""
        try:
            said = record.getMessage()
        except (TypeError, ValueError):  # arguments that do not fit the message: logging itself tells of these
            return True
        record.msg, record.args = redacted(said), None
        if record.exc_info and not record.exc_text:
            record.exc_text = redacted(logging.Formatter().formatException(record.exc_info))
        return True


class JsonLines(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, and which run, task and campaign it is of."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name in ("flow_name", "flow_run_name", "flow_run_id", "task_name", "task_run_id", "campaign"):
            value = getattr(record, name, None)
            if value not in (None, ""):
                line[name] = str(value)
        if record.exc_info or record.exc_text:
            line["error"] = record.exc_text or redacted(self.formatException(record.exc_info))  # type: ignore[arg-type]
        return json.dumps(line, ensure_ascii=False)


def logging_environment(kind: str = "") -> dict[str, str]:
    """The variables by which Prefect, once it is imported, logs as described here; `kind` is `text` or `json`."""
    kind = kind or os.environ.get("QUAKESLIDE_LOG", "text")
    return {
        "PREFECT_LOGGING_SETTINGS_PATH": str(CONFIGURATION),
        "PREFECT_LOGGING_HANDLERS_CONSOLE_FORMATTER": "json" if kind == "json" else "standard",
    }


def configure(kind: str) -> None:
    """Log so in this process, which does not use Prefect."""
    value = yaml.safe_load(CONFIGURATION.read_text(encoding="utf-8"))
    lines = JsonLines() if kind == "json" else logging.Formatter(value["formatters"]["plain"]["format"])
    handler = logging.StreamHandler()
    handler.setFormatter(lines)
    handler.addFilter(Redacting())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
