"""modeling/adaptation/flipped.py: what two networks make of the same ground."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes.training import register_tiny

from modeling.adaptation.flipped import flipped
from modeling.adaptation.target import TargetPool
from modeling.bands import band_set
from modeling.model import load_model


def test_only_known_pixels_count_and_only_other_classes_are_changes(
    some_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_tiny(monkeypatch)
    model = load_model(some_weights)
    bands = band_set("ten-band")
    patches = np.random.default_rng(0).normal(0.2, 0.1, (9, len(bands.channels), 16, 16)).astype(np.float32)
    patches[0] = np.nan
    pool = TargetPool(patches, bands, blocks=1, seen=9)
    same = flipped(model, model, pool)
    assert same.before == same.after
    assert same.changed == 0
    every = flipped(replace(model, threshold=1.1), replace(model, threshold=0.0), pool)
    assert (every.before, every.after, every.changed) == (0, pytest.approx(1), pytest.approx(1))
