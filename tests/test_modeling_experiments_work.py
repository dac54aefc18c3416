"""Training as a piece of work: which channels it sees, and what it takes over from the run that it begins from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fakes.toy_source import ToySource, carry_out, register_toy, setting

from modeling.errors import BandSetError
from modeling.experiments.engine import Experiment, Run
from modeling.experiments.findings import Findings
from modeling.experiments.mixes import whole
from modeling.experiments.work import Train, channels_of
from modeling.model import LandslideModel, load_model


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    register_toy(monkeypatch)
    torch.set_num_threads(1)


def test_channels_come_in_the_sources_order() -> None:
    source = ToySource()
    assert channels_of(source, channels=("red_post", "slope")).channels == ("slope", "red_post")
    assert channels_of(source, channels=source.bands.channels) == source.bands
    assert channels_of(source, optical=True, channels=("red_post",)).channels == ("red_post",)
    with pytest.raises(BandSetError, match=r"no channel nose: they have slope"):
        channels_of(source, channels=("red_post", "nose"))


def test_a_run_keeps_the_scaling_and_the_frozen_parts_of_what_it_begins_from(tmp_path: Path) -> None:
    first = Train(setting().recipe("tiny"), whole(["a"]), 0, (), keep=True)
    on = replace(first, mix=whole(["c"]), start="first", frozen=("trunk",))
    other = replace(first, mix=whole(["c"]))
    runs = [Run("first", first), Run("on", on, ("first",)), Run("other", other)]
    made = Experiment("toy", "", "", ("tiny",), lambda _: runs, lambda _setting, _found: Findings((), ()))
    carry_out(made, setting(), tmp_path)
    start, tuned, alone = (kept(tmp_path, key) for key in ("first", "on", "other"))
    assert tuned.normalisation == start.normalisation != alone.normalisation
    before, after = start.network.state_dict(), tuned.network.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before if name.startswith("trunk."))
    assert not all(torch.equal(after[name], before[name]) for name in before)


def kept(folder: Path, key: str) -> LandslideModel:
    return load_model(folder / "kept" / key / "model.safetensors")
