"""Errors that travel to the client as Earth Engine words them."""

from __future__ import annotations

from typing import Any

from infra.local.faults import STATUS_NAMES


class ServiceError(Exception):
    """An answer with an HTTP error code; `to_json` is the body that the client reads."""

    def __init__(self, code: int, message: str, status: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status or STATUS_NAMES.get(code, "UNKNOWN")

    def to_json(self) -> dict[str, Any]:
        """The JSON body, `{"error": {code, message, status}}`."""
        return {"error": {"code": self.code, "message": self.message, "status": self.status}}


class ArgumentError(ServiceError):
    """400: the expression or the request cannot be computed as it stands."""

    def __init__(self, message: str) -> None:
        super().__init__(400, message)


class NotFoundError(ServiceError):
    """404: no such asset, operation, map or route."""

    def __init__(self, message: str) -> None:
        super().__init__(404, message)


class UnknownAlgorithmError(ArgumentError):
    """400: an algorithm that this stand-in does not evaluate. It never answers with a made-up value."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name}: this algorithm is not known to the local Earth Engine stand-in. "
            "Use the real Earth Engine, or add a function for it under infra/local/earthengine/algorithms."
        )
        self.name = name
