"""flows/adapt_ground.py: windows of a few places tell how much of a map changes, though half of them lie on landslides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from scipy import ndimage

from flows.adapt_ground import MapBefore, undrawn_ground
from flows.adapt_trial.pair import AT, write_pair
from flows.labels_file import DrawnPolygon, Labels
from flows.map_raster import PairScene
from modeling.adaptation.drawn import SIDE_PX, UNDRAWN
from modeling.bands import band_set
from modeling.rasters.raster_pair import open_pair
from modeling.simulate import domain, simulate_region

THRESHOLD = 0.5
SHAPE = (300, 420)


def probability(seed: int) -> np.ndarray:
    """A map with landslides in one half and a gap in a corner."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=SHAPE), 3)
    found = np.where(smooth > 1.9 * smooth.std(), 0.8, 0.05).astype(np.float32)
    found[:, 210:] = 0.05
    found[:60, :80] = np.nan
    return found


def test_the_windows_tell_the_areas_of_the_whole_map(tmp_path: Path) -> None:
    rasters = write_pair(simulate_region(domain("luding"), seed=3, shape_yx=SHAPE), tmp_path)
    values = probability(1)
    before = MapBefore(tmp_path / "probability.tif", tmp_path / "none.tif")
    profile = {"driver": "GTiff", "count": 1, "height": SHAPE[0], "width": SHAPE[1], "dtype": "float32"}
    with rasterio.open(before.probability, "w", **profile, crs="EPSG:32648", transform=AT, nodata=np.nan) as file:
        file.write(values, 1)
    x, y = AT @ (300, 200)
    labels = Labels((DrawnPolygon(1, True, shapely.box(x, y - 100, x + 100, y)),), "EPSG:32648", "drawn.geojson")
    claimed, known, changed = [], [], []
    with open_pair(rasters.pre, rasters.post, rasters.dem) as pair:
        for seed in range(12):
            ground, whole = undrawn_ground(PairScene(pair), band_set("rgb"), labels, before, THRESHOLD, seed)
            assert whole.claimed == (values >= THRESHOLD).sum()
            assert whole.right == pytest.approx(0.8 * whole.claimed, rel=1e-5)
            assert ground.mapped is not None
            assert ground.stands_for is not None
            assert ground.channels.shape[2:] == (SIDE_PX, SIDE_PX)
            assert (ground.owner == UNDRAWN).all()
            assert (ground.stands_for[~np.isfinite(ground.mapped)] == 0).all()
            weights = ground.stands_for.astype(float)
            claimed.append((weights * (ground.mapped >= THRESHOLD)).sum())
            known.append(weights.sum())
            changed.append(weights[(ground.mapped < THRESHOLD) & np.isfinite(ground.mapped)].sum())
    assert np.mean(claimed) == pytest.approx((values >= THRESHOLD).sum(), rel=0.05)
    assert np.mean(known) == pytest.approx(np.isfinite(values).sum(), rel=0.1)
    assert np.mean(changed) == pytest.approx((values < THRESHOLD).sum(), rel=0.1)
    assert np.std(claimed) < 0.3 * np.mean(claimed)
