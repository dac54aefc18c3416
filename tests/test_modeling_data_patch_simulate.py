"""modeling/data/patch_simulate.py: patches of simulated ground, as many as asked, whose parts share no ground."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from modeling.data import patch_simulate
from modeling.data.batches import IGNORE
from modeling.data.dataset import STORED_LAYERS, open_region
from modeling.data.patch_simulate import RegionPlan, region_of, simulate_patches
from modeling.data.patch_split import Split
from modeling.data.patches import PatchSet
from modeling.errors import DataError

ASKED = {"iburi": 14, "palu": 11}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def simulated(path: Path, cache: Path, **named: object) -> PatchSet:
    return simulate_patches(path, ASKED, cache=cache, patch_px=32, region_px=160, **named)


@pytest.fixture(scope="module")
def made(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> PatchSet:
    return simulated(tmp_path_factory.mktemp("made") / "sim.zarr", cache)


def test_there_are_as_many_as_asked_and_half_have_landslides(made: PatchSet) -> None:
    assert made.layers == STORED_LAYERS
    counts = made.counts()
    for domain, asked in ASKED.items():
        training, validation = counts[domain, "training"], counts[domain, "validation"]
        assert sum(training) + sum(validation) == asked
        assert sum(validation) == round(0.3 * asked)
        assert abs(training[0] - training[1]) <= 1
        assert abs(validation[0] - validation[1]) <= 1
    assert "simulated" in made.about.source


def test_parts_share_no_region(made: PatchSet) -> None:
    places = [set(made.numbers["place"][made.select(part)].tolist()) for part in ("training", "validation")]
    assert not places[0] & places[1]
    regions = {name.split("/")[0] for name in made.names}
    assert len(regions) == len(places[0] | places[1])


def test_a_patch_is_a_window_of_its_region(made: PatchSet, cache: Path) -> None:
    for index in (0, len(made) - 1):
        name, corner = made.names[index].split("/")
        top, left = (int(part) for part in corner.removeprefix("y").split("x"))
        region = open_region(cache / "160" / name)
        window = slice(top, top + 32), slice(left, left + 32)
        layers, truth = made.read(index)
        np.testing.assert_array_equal(truth, region.truth[window])
        np.testing.assert_array_equal(layers["nir_post"], region.layers(window)["nir_post"])
        assert (truth != IGNORE).mean() >= 0.5
        assert region.georeference is not None
        assert made.numbers["x"][index] == region.georeference.transform[2] + 10 * left
        assert made.numbers["y"][index] == region.georeference.transform[5] - 10 * top


def test_an_interrupted_call_goes_on_from_its_cache(
    made: PatchSet, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("simulated again")

    monkeypatch.setattr(patch_simulate.simulate, "simulate_region", never)
    assert simulated(tmp_path / "again.zarr", cache).sha256 == made.sha256


@pytest.mark.slow
def test_several_processes_give_the_same(made: PatchSet, tmp_path: Path) -> None:
    assert simulated(tmp_path / "two.zarr", tmp_path / "cache", workers=2).sha256 == made.sha256


def test_another_seed_is_other_ground(made: PatchSet, cache: Path, tmp_path: Path) -> None:
    other = simulated(tmp_path / "other.zarr", cache, split=Split(seed=1))
    assert not set(other.names) & set(made.names)


def test_what_cannot_be_had_is_refused(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="atlantis"):
        simulate_patches(tmp_path / "a.zarr", {"atlantis": 10}, cache=cache)
    with pytest.raises(DataError, match="unknown simulated domain 'foo'"):
        simulate_patches(tmp_path / "a.zarr", {"foo": 3}, cache=cache)
    with pytest.raises(DataError, match="100,001 of palu: a data set has at most 100,000 patches of a domain"):
        simulate_patches(tmp_path / "a.zarr", {"iburi": 10, "palu": 100_001}, cache=cache)
    with pytest.raises(DataError, match=r"cannot be split 7:2:1: ask for at least 6"):
        simulate_patches(tmp_path / "a.zarr", {"palu": 5}, cache=cache, split=Split((7, 2, 1)))
    with pytest.raises(DataError, match="cannot be cut from regions of 64"):
        simulate_patches(tmp_path / "a.zarr", {"palu": 10}, cache=cache, region_px=64)
    assert list(tmp_path.iterdir()) == []


def test_regions_that_do_not_suffice_are_an_error_and_not_the_end_of_the_world(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patch_simulate, "_MOST_REGIONS", 1)
    with pytest.raises(DataError, match=r"1 regions were not enough, .* of 350 patches are missing: ask for fewer"):
        simulate_patches(tmp_path / "a.zarr", {"iburi": 500}, cache=cache, patch_px=32, region_px=160)
    assert list(tmp_path.iterdir()) == []


def test_a_region_that_is_there_is_kept(cache: Path) -> None:
    plan = RegionPlan("palu", 5, 96, varied=False)
    folder = region_of(cache, plan)
    before = (folder / "region.json").stat().st_mtime_ns
    assert region_of(cache, plan) == folder
    assert (folder / "region.json").stat().st_mtime_ns == before
    assert folder.parent.name == "96-as-is"
