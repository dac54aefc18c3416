"""What can go wrong with Earth Engine. Every message says what was wrong, with the value, and what to do."""


class GeeError(Exception):
    """The base of all errors that `gee` raises on purpose."""

    status: int = 0
    """The HTTP status of the answer that failed, 0 when there was none."""


class SessionError(GeeError):
    """Earth Engine cannot be reached or refuses the credentials or the project."""


class TransientError(GeeError):
    """A failure that may pass when waited for: 5xx, a broken connection, an answer that did not come in time."""

    asked_s: float = 0.0
    """How long the service asked to wait (`Retry-After`), in seconds."""


class BusyError(TransientError):
    """Refused for load before anything was computed: 429, too many concurrent aggregations, too many requests a minute."""


class RequestTooLargeError(GeeError):
    """A deterministic limit of memory, time or bytes: ask for a smaller tile, never for the same one again."""


class PermanentError(GeeError):
    """A failure that no repetition mends: a bad expression, a missing asset, no permission."""


class QuotaError(PermanentError):
    """The project's compute time (EECU) is used up for the day or the month: nothing more is computed until it is renewed."""


class GridError(GeeError):
    """An area cannot be laid on one grid: empty, too wide for one UTM zone, or too near a pole."""


class NoScenesError(GeeError):
    """No scene in the window covers the area."""


class CubeError(GeeError):
    """A cube is incomplete, damaged, or belongs to another plan."""


class DamagedTileError(CubeError):
    """A chunk of a tile is gone or does not hold what was written."""

    def __init__(self, message: str, tile: str) -> None:
        super().__init__(message, tile)
        self.tile = tile

    def __str__(self) -> str:
        """The message alone: the tile's name is in it."""
        return str(self.args[0])


class BudgetError(GeeError):
    """Pulling on would cost more EECU-hours than an event may; what was pulled stays."""


class StorageError(GeeError):
    """Cloud Storage or the disk refuses to read or write; the message names the address."""


class AssetError(GeeError):
    """An asset could not be written back."""
