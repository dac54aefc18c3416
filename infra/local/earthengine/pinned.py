"""COG-backed images are bound to the generation of their object: one that was written again is another object.

The service keeps the generation at the time of the import, and says "Failed to load the GeoTIFF" when it is gone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from infra.local.earthengine import objects
from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.grid import PixelGrid
from infra.local.earthengine.image import Image
from infra.local.earthengine.raster import Node, Raster, Run


@dataclass(frozen=True, eq=False)
class PinnedBand(Node):
    """The pixels of an object as long as it has not been written again."""

    source: Node
    """Reads them."""
    uri: str
    """`gs://` address of the object."""
    generation: int
    """Which of its generations."""
    endpoint: str
    """Where the object is kept."""

    def compute(self, grid: PixelGrid, run: Run) -> Raster:
        """See `Node.compute`. ArgumentError when the object is gone or another."""
        if objects.generation(self.endpoint, self.uri) != self.generation:
            raise ArgumentError(f"Failed to load the GeoTIFF at `{self.uri}#{self.generation}`.")
        return run.pixels(self.source, grid)


def pinned(image: Image, uris: Sequence[str], generations: Mapping[str, int], endpoint: str) -> Image:
    """The image whose bands, from these files in order, are read from known generations of `gs://` addresses only."""
    if not generations:
        return image
    bands = [
        replace(band, node=PinnedBand(band.node, uri, generations[uri], endpoint)) if uri in generations else band
        for band, uri in zip(image.bands, uris, strict=True)
    ]
    return image.with_bands(bands)
