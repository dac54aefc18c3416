"""What can go wrong with Earth Engine. Every message says what was wrong, with the value, and what to do."""


class GeeError(Exception):
    """The base of all errors that `gee` raises on purpose."""

    status: int = 0
    """The HTTP status of the answer that failed, 0 when there was none."""


class SessionError(GeeError):
    """Earth Engine cannot be reached or refuses the credentials or the project."""


class TransientError(GeeError):
    """A failure that may pass when waited for: 429, 5xx, a broken connection, too many concurrent aggregations."""


class RequestTooLargeError(GeeError):
    """A deterministic limit of memory, time or bytes: ask for a smaller tile, never for the same one again."""


class PermanentError(GeeError):
    """A failure that no repetition mends: a bad expression, a missing asset, no permission."""


class GridError(GeeError):
    """An area cannot be laid on one grid: empty, too wide for one UTM zone, or too near a pole."""


class NoScenesError(GeeError):
    """No scene in the window covers the area."""


class CubeError(GeeError):
    """A cube is incomplete, damaged, or belongs to another plan."""


class StorageError(GeeError):
    """Cloud Storage or the disk refuses to read or write; the message names the address."""


class AssetError(GeeError):
    """An asset could not be written back."""
