"""What a property of a drawn polygon says of its class: landslide, or ground that is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas

PROPERTIES = ("class", "label")
"""Names of the property that holds the class, in any case."""
LANDSLIDE = frozenset({"landslide", "slide", "yes", "true", "1"})
"""Values of it that mean a landslide."""
NO_LANDSLIDE = frozenset({"not-landslide", "no-landslide", "non-landslide", "background"})
"""Values of it that mean other ground, whatever stands beside them."""
OTHER = NO_LANDSLIDE | {"other", "none", "no", "false", "0"}
"""Values of it that mean other ground where nothing but these and those of landslides is there."""


def is_missing(value: Any) -> bool:
    """Whether a property has no value."""
    return value is None or value is pandas.NA or (isinstance(value, float | np.floating) and bool(np.isnan(value)))


def plain(value: Any) -> str:
    """A value as the sets above hold it: in small letters, dashes for blanks and underscores."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    return str(value).strip().lower().replace("_", "-").replace(" ", "-")
