"""Images for the eye: value ranges and palettes to red, green and blue."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import ImageColor

from infra.local.earthengine.algorithms.registry import algorithm
from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.grid import Array, PixelGrid
from infra.local.earthengine.image import Band, Image, select
from infra.local.earthengine.pixeltype import NAMED, PixelType
from infra.local.earthengine.raster import Node, Pointwise, Raster, Run

BYTE = NAMED["uint8"]
COLOURS = ("vis-red", "vis-green", "vis-blue")


def _listed(value: Any) -> list[Any] | None:
    """A number, a list, or text with commas as a list; None stays None."""
    if value is None or value == "":
        return None
    if isinstance(value, str):
        return [v.strip() for v in value.split(",")]
    return list(value) if isinstance(value, list | tuple) else [value]


def _numbers(value: Any, count: int, default: float, name: str) -> list[float]:
    items = _listed(value)
    if items is None:
        return [default] * count
    if len(items) not in (1, count):
        raise ArgumentError(f"Image.visualize: '{name}' must have 1 or {count} values, got {len(items)}.")
    numbers = [float(v) for v in items]
    return numbers * count if len(numbers) == 1 else numbers


def colour(text: str) -> tuple[int, int, int]:
    """Red, green and blue of a CSS colour: a name, or 3 to 8 hexadecimal digits with or without #."""
    red, green, blue, _ = translucent(text)
    return red, green, blue


def translucent(text: str) -> tuple[int, int, int, int]:
    """Red, green, blue and opacity, 0 to 255, of a CSS colour."""
    for candidate in (text, f"#{text}"):
        try:
            found = ImageColor.getrgb(candidate)
        except ValueError:
            continue
        return found[0], found[1], found[2], found[3] if len(found) == 4 else 255
    raise ArgumentError(f"Image.visualize: '{text}' is not a colour.")


def _scaled(band: Band, low: float, high: float, gamma: float, steps: int) -> Pointwise:
    """A band stretched to 0 … steps."""
    if low == high:
        raise ArgumentError(f"Image.visualize: min and max are both {low}.")

    def compute(values: Array) -> Array:
        part = np.clip((values.astype("float64") - low) / (high - low), 0, 1)
        return np.asarray(np.floor((part if gamma == 1 else part ** (1 / gamma)) * steps + 0.5))

    return Pointwise((band.node,), compute, BYTE if steps < 256 else NAMED["uint16"])


def _palette(band: Band, low: float, high: float, gamma: float, colours: list[str], channel: int) -> Pointwise:
    """One colour channel of a band shown by a palette, blended between its colours."""
    table = np.array([colour(c)[channel] for c in colours], "float64")
    if low == high:
        raise ArgumentError(f"Image.visualize: min and max are both {low}.")

    def compute(values: Array) -> Array:
        part = np.clip((values.astype("float64") - low) / (high - low), 0, 1)
        place = (part if gamma == 1 else part ** (1 / gamma)) * (len(table) - 1)
        return np.asarray(np.floor(np.interp(place, np.arange(len(table)), table) + 0.5))

    return Pointwise((band.node,), compute, BYTE)


def default_range(kind: PixelType) -> tuple[float, float]:
    """What a band is stretched between when nothing is said: its type's range for integers, 0 to 1 for floats."""
    if (
        kind.precision == "int"
        and kind.minimum is not None
        and kind.maximum is not None
        and kind.minimum < kind.maximum
    ):
        return kind.minimum, kind.maximum
    return 0.0, 1.0


@algorithm("Image.visualize")
def visualize(
    image: Image,
    bands: Any = None,
    gain: Any = None,
    bias: Any = None,
    min: Any = None,
    max: Any = None,
    gamma: Any = None,
    opacity: float | None = None,
    palette: Any = None,
    forceRgbOutput: bool = False,
) -> Image:
    """Red, green and blue of an image: three bands as they are, or one by a palette or in grey.

    An opacity between 0 and 1 multiplies the mask.
    """
    chosen = select(image, _listed(bands) or [], caller="Image.visualize") if _listed(bands) else image
    shown = chosen.bands[:1] if palette is not None or len(chosen.bands) < 3 else chosen.bands[:3]
    if not shown:
        raise ArgumentError("Image.visualize: The image has no bands.")
    count = len(shown)
    if gain is not None or bias is not None:
        gains, biases = _numbers(gain, count, 1.0, "gain"), _numbers(bias, count, 0.0, "bias")
        lows = [-b / g for g, b in zip(gains, biases, strict=True)]
        highs = [255 / g + low for g, low in zip(gains, lows, strict=True)]
    else:
        ranges = [default_range(b.type) for b in shown]
        lows = _numbers(min, count, 0.0, "min") if min is not None else [r[0] for r in ranges]
        highs = _numbers(max, count, 1.0, "max") if max is not None else [r[1] for r in ranges]
    gammas = _numbers(gamma, count, 1.0, "gamma")
    colours = _listed(palette)
    if colours is not None:
        if len(colours) == 1:
            colours = ["000000", colours[0]]
        nodes = [_palette(shown[0], lows[0], highs[0], gammas[0], colours, c) for c in range(3)]
    else:
        nodes = [_scaled(b, lo, hi, g, 255) for b, lo, hi, g in zip(shown, lows, highs, gammas, strict=True)]
    names = COLOURS if len(nodes) == 3 or forceRgbOutput else ("vis-gray",)
    if len(nodes) == 1 and len(names) == 3:
        nodes = nodes * 3
    made = [
        replace(shown[0], id=n, node=node if opacity is None or opacity >= 1 else Faded(node, opacity), type=BYTE)
        for n, node in zip(names, nodes, strict=True)
    ]
    return image.with_bands(made)


@dataclass(frozen=True, eq=False)
class Faded(Node):
    """A node with its mask multiplied by a number."""

    source: Node
    """Gives the values."""
    opacity: float
    """Between 0 and 1."""

    def compute(self, grid: PixelGrid, run: Run) -> Raster:
        """See `Node.compute`."""
        found = run.pixels(self.source, grid)
        fraction = found.weights * np.float32(max(self.opacity, 0))
        return Raster(found.values, fraction > 0, fraction)


def styled(image: Image, options: dict[str, Any]) -> Image:
    """An image under the visualizationOptions of a request."""
    ranges = options.get("ranges") or []
    lows = [r.get("min", 0) for r in ranges] or None
    highs = [r.get("max", 1) for r in ranges] or None
    gamma = (options.get("gamma") or {}).get("value")
    return visualize(
        image,
        min=lows,
        max=highs,
        gamma=gamma,
        palette=options.get("paletteColors") or None,
        opacity=(options.get("opacity") or {}).get("value"),
    )


def displayed(image: Image) -> list[Band]:
    """The one or three uint8 bands that a picture of the image shows."""
    ready = all(b.type == BYTE for b in image.bands)
    if ready and len(image.bands) in (1, 3):
        return list(image.bands)
    return list(visualize(image).bands)
