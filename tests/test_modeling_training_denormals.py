"""modeling/training/denormals.py: flushed inside, and as before outside."""

from __future__ import annotations

import pytest
import torch

from modeling.training.denormals import are_flushed, flushed_denormals


def test_tiny_floats_are_flushed_inside_and_kept_outside() -> None:
    tiny = torch.tensor([1e-40])
    with flushed_denormals():
        assert are_flushed()
        assert (tiny * 1.0).item() == 0.0
    assert not are_flushed()
    assert (tiny * 1.0).item() > 0.0


def test_what_was_set_before_is_set_again_after_an_error() -> None:
    with flushed_denormals():
        with pytest.raises(ValueError, match="within"), flushed_denormals():
            raise ValueError("within")
        assert are_flushed()
    assert not are_flushed()


def test_a_function_that_trains_leaves_nothing_behind() -> None:
    @flushed_denormals()
    def inside() -> bool:
        return are_flushed()

    assert (inside(), inside(), are_flushed()) == (True, True, False)
