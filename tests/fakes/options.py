"""Rasters as words of a command line."""

from __future__ import annotations

from flows.adapt_parent import Rasters


def raster_options(rasters: Rasters) -> tuple[object, ...]:
    """`--pre`, `--post` and `--dem`, each file with its option."""
    given = {"--pre": rasters.pre, "--post": rasters.post, "--dem": (rasters.dem,)}
    return tuple(word for option, files in given.items() for file in files for word in (option, file))
