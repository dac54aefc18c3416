"""The baseline to beat: a landslide is where NDVI fell by at least so much on a slope of at least so much.

Both thresholds are tuned on the training domains, for the highest F1, and stored as `weights/dndvi-slope.json`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from modeling import bands
from modeling.errors import DataError, WeightsError
from modeling.model import WEIGHTS_FOLDER

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

BASELINE_FILE = WEIGHTS_FOLDER / "dndvi-slope.json"
DROPS: tuple[float, ...] = tuple(round(0.02 * step, 2) for step in range(1, 41))
SLOPES_DEG: tuple[float, ...] = tuple(float(step) for step in range(46))

_NDVI = bands.BandSet("ndvi", ("ndvi_pre", "ndvi_post"), "vegetation before and after")


@dataclass(frozen=True)
class Baseline:
    """Two thresholds and where they come from."""

    ndvi_drop: float
    """NDVI before minus NDVI after, at least."""
    slope_deg: float
    """Slope in degrees, at least."""
    f1: float
    """Pixel F1 on the regions it was tuned on."""
    tuned_on: tuple[str, ...]
    """Names of those regions."""

    def predict(self, layers: Mapping[str, FloatArray], valid: BoolArray) -> BoolArray:
        """True (y, x) where landslide; False where not `valid` or a layer is unknown. Layers as in `modeling.bands`."""
        with np.errstate(invalid="ignore"):
            return (_drop(layers) >= self.ndvi_drop) & (layers["slope"] >= self.slope_deg) & valid


def predict_baseline(layers: Mapping[str, FloatArray], valid: BoolArray) -> BoolArray:
    """The stored baseline's landslides, bool (y, x); raises `WeightsError` when it is not there or unreadable."""
    return load_baseline().predict(layers, valid)


def load_baseline(path: Path = BASELINE_FILE) -> Baseline:
    """Read stored thresholds; raises `WeightsError`."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return Baseline(
            ndvi_drop=float(stored["ndvi_drop"]),
            slope_deg=float(stored["slope_deg"]),
            f1=float(stored["f1"]),
            tuned_on=tuple(str(name) for name in stored["tuned_on"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"cannot read the baseline {path}: {error}") from error


def save_baseline(baseline: Baseline, path: Path = BASELINE_FILE) -> None:
    """Write the thresholds as JSON."""
    path.write_text(json.dumps(asdict(baseline), indent=1) + "\n", encoding="utf-8")


def tune_baseline(
    regions: Iterable[tuple[str, Mapping[str, FloatArray], BoolArray, BoolArray]],
    *,
    drops: Sequence[float] = DROPS,
    slopes_deg: Sequence[float] = SLOPES_DEG,
) -> Baseline:
    """The pair of thresholds with the highest F1 over all regions: (name, layers, truth, valid) each, arrays (y, x).

    Every pair of the grid is tried at once: pixels are counted by the largest thresholds that they pass, and cumulated.
    Raises `DataError` when no pixel is a landslide.
    """
    counts = np.zeros((2, len(drops) + 1, len(slopes_deg) + 1), dtype=np.int64)
    names = []
    for name, layers, truth, valid in regions:
        names.append(name)
        drop = _drop(layers)
        known = valid & np.isfinite(drop) & np.isfinite(layers["slope"])
        passed_drop = np.searchsorted(drops, drop[known], side="right")
        passed_slope = np.searchsorted(slopes_deg, layers["slope"][known], side="right")
        np.add.at(counts, (truth[known].astype(np.intp), passed_drop, passed_slope), 1)
    landslides = counts[1].sum()
    if landslides == 0:
        raise DataError("the baseline cannot be tuned: no pixel of its regions is a landslide")
    passing = counts[:, ::-1, ::-1].cumsum(axis=1).cumsum(axis=2)[:, ::-1, ::-1][:, 1:, 1:]
    f1 = 2 * passing[1] / (passing.sum(axis=0) + landslides)
    best_drop, best_slope = (int(index) for index in np.unravel_index(np.argmax(f1), f1.shape))
    return Baseline(
        ndvi_drop=float(drops[best_drop]),
        slope_deg=float(slopes_deg[best_slope]),
        f1=float(f1[best_drop, best_slope]),
        tuned_on=tuple(names),
    )


def _drop(layers: Mapping[str, FloatArray]) -> FloatArray:
    ndvi = bands.assemble(_NDVI, layers)
    drop: FloatArray = ndvi[0] - ndvi[1]
    return drop
