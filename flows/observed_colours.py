"""One colour for each code of what was observed, the same in COGs, pictures, pages and notebooks."""

from __future__ import annotations

from gee.types import Observed

CODE_COLOURS: dict[int, str] = {
    Observed.CLEAR: "#3c8d5a",
    Observed.NO_PASS: "#7b6ba8",
    Observed.SWATH_GAP: "#b79fd4",
    Observed.CLOUD: "#8fb8de",
    Observed.SHADOW: "#4a5f78",
    Observed.TERRAIN_SHADOW: "#2b2f3a",
    Observed.SNOW: "#dff3fb",
    Observed.WATER: "#2a6fb0",
    Observed.NO_TERRAIN: "#c98f4e",
    Observed.OUTSIDE: "#ffffff",
}
"""Code of `gee.types.Observed` -> colour as #rrggbb."""


def rgba(code: int) -> tuple[int, int, int, int]:
    """The colour of a code as red, green, blue and alpha from 0 to 255."""
    red, green, blue = bytes.fromhex(CODE_COLOURS[code].removeprefix("#"))
    return red, green, blue, 255
