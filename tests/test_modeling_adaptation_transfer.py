"""Transfer in stages: each begins where the last one ended, any interruption is made good, small sets lie in large ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes.training import BANDS, NORMALISATION, RECIPE, ToyBlocks, ToySampler, register_tiny
from hypothesis import given
from hypothesis import strategies as st

from modeling.adaptation import freezing
from modeling.adaptation.freezing import Layout
from modeling.adaptation.transfer import (
    SET_SIZES,
    Joint,
    Stage,
    nested_subsets,
    run_stages,
    stages_of,
)
from modeling.bands import BandSet
from modeling.data.augment import AUGMENTATIONS
from modeling.data.batches import Blocks, Sampler
from modeling.errors import DataError, WeightsError
from modeling.model import LandslideModel, load_model, save_model, weights_digest
from modeling.recipes import Recipe, Schedule, Transfer, adaptation
from modeling.recipes.xu import STRATEGIES
from modeling.training.progress import Tick


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    register_tiny(monkeypatch)
    monkeypatch.setitem(freezing.LAYOUTS, "tiny", Layout(("trunk",)))  # type: ignore[arg-type]
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True)
class Toy:
    """A ground of toy patches."""

    seed: int

    def sampler(self, recipe: Recipe, seed: int) -> Sampler:
        return ToySampler(batch=recipe.batch, seed=100 * self.seed + seed)

    def validation(self) -> Blocks:
        return ToyBlocks(1)

    def about(self) -> Mapping[str, Any]:
        return {"kind": "toy", "seed": self.seed}


GROUNDS = {"a": Toy(1), "b": Toy(2), "c": Toy(3)}
STAGES = (Stage("source", "a", 4), Stage("between", "b", 3, 0.5), Stage("target", "c", 2, 0.1, ("trunk",), "strong"))


def run(folder: Path, stages: tuple[Stage, ...] = STAGES, **named: Any) -> LandslideModel:
    return run_stages(stages, GROUNDS, RECIPE, NORMALISATION, BANDS, folder, device="cpu", **named)


def test_a_stage_begins_where_the_last_one_ended(tmp_path: Path) -> None:
    model = run(tmp_path)
    source, between, target = (
        load_model(tmp_path / f"{number}-{stage.name}" / f"{stage.name}.safetensors")
        for number, stage in enumerate(STAGES, start=1)
    )
    assert model.weights_hash == target.weights_hash
    for name, tensor in target.network.get_submodule("trunk").state_dict().items():  # frozen in the last stage
        assert torch.equal(tensor, between.network.get_submodule("trunk").state_dict()[name]), name
    assert len({weights_digest(each) for each in (source, between, target)}) == 3
    (entry,) = model.card["adaptation"]
    assert [stage["name"] for stage in entry["settings"]["stages"]] == ["source", "between", "target"]
    assert entry["data"]["c"] == {"kind": "toy", "seed": 3}
    assert entry["seconds"] > 0
    assert load_model(save_model(model, tmp_path / "saved")).card["adaptation"] == model.card["adaptation"]


class StoppedError(Exception):
    """What a listener raises to end a run."""


@pytest.mark.parametrize("at", [("source", 1), ("target", 1)], ids=str)
def test_a_transfer_that_was_stopped_ends_as_one_that_was_not(at: tuple[str, int], tmp_path: Path) -> None:
    def stop(stage: Stage, tick: Tick) -> None:
        if (stage.name, tick.step) == at:
            raise StoppedError

    stages = (replace(STAGES[0], validations=4), replace(STAGES[2], validations=2))
    whole = run(tmp_path / "whole", stages)
    with pytest.raises(StoppedError):
        run(tmp_path / "cut", stages, tell=stop)
    heard: list[str] = []
    resumed = run(tmp_path / "cut", stages, tell=lambda stage, _: heard.append(stage.name))
    assert weights_digest(resumed) == weights_digest(whole)
    assert heard[0] == at[0]  # finished stages are only read
    run(tmp_path / "cut", stages, tell=lambda stage, _: pytest.fail(f"{stage.name} was trained again"))


def test_a_stage_goes_on_only_with_the_ground_it_began_with(tmp_path: Path) -> None:
    run(tmp_path, STAGES[:1])
    (tmp_path / "transfer.json").unlink()
    (tmp_path / "1-source" / "source.safetensors").unlink()  # its checkpoint is left
    with pytest.raises(WeightsError, match="data seed"):
        run(tmp_path, (replace(STAGES[0], ground="b"),))


def test_a_transfer_goes_on_from_a_model_and_keeps_its_history(tmp_path: Path) -> None:
    first = run(tmp_path / "first", STAGES[:1])
    second = run(tmp_path / "second", STAGES[2:], start=first)
    assert [len(entry["settings"]["stages"]) for entry in second.card["adaptation"]] == [1, 1]
    assert second.card["adaptation"][1]["settings"]["start"] == weights_digest(first)


def test_a_folder_of_another_transfer_is_refused(tmp_path: Path) -> None:
    run(tmp_path, STAGES[:1])
    with pytest.raises(DataError, match=r"another transfer .*stages"):
        run(tmp_path, (replace(STAGES[0], steps=5),))
    with pytest.raises(DataError, match="seed"):
        run(tmp_path, STAGES[:1], seed=1)


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ((), "at least one"),
        ((STAGES[0], STAGES[0]), "of its own"),
        ((Stage("../x", "a", 1),), "folder"),
        ((Stage("x", "nowhere", 1),), "nowhere"),
        ((Stage("x", "a", 1, freeze=("trunk",)),), "random weights"),
        ((Stage("x", "a", 0),), "above 0"),
        ((Stage("x", "a", 1, float("nan")),), "above 0"),
        ((STAGES[0], Stage("x", "a", 1, freeze=("nose",))), "nose"),
    ],
)
def test_stages_that_make_no_sense_are_refused_before_any_training(
    stages: tuple[Stage, ...], words: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=words):
        run(tmp_path, stages, tell=lambda *_: pytest.fail("it trained"))


def test_a_trunk_that_saw_other_channels_cannot_be_frozen_at_once(tmp_path: Path) -> None:
    start = replace(run(tmp_path / "start", STAGES[:1]), bands=BandSet("other", ("first", "second", "fourth"), ""))
    with pytest.raises(DataError, match="other channels"):
        run(tmp_path / "on", STAGES[2:], start=start)


def test_a_stage_changes_the_recipe_only_where_it_says() -> None:
    base = replace(RECIPE, schedule=Schedule("polynomial", warm_up_epochs=1), steps=None, epochs=50, patience=3)
    made = Stage(
        "light", "a", 40, 0.1, augmentation="strong", warm_up=0.05, validations=4, changes={"batch": 1}
    ).recipe(base)
    assert (made.steps, made.epochs, made.batch, made.validate_every) == (40, None, 1, 10)
    assert made.optimiser.learning_rate == pytest.approx(0.1 * base.optimiser.learning_rate)
    assert made.plan().warm_up == 2
    assert (made.loss, made.network, made.normalisation) == (base.loss, base.network, base.normalisation)


def test_progressive_transfer_goes_from_source_to_target_more_and_more_lightly() -> None:
    ldtl = adaptation("ldtl", Transfer)
    stages = stages_of(ldtl, 100, source="a", between=("b", "d"), target="c")
    assert [(stage.name, stage.ground) for stage in stages] == [
        ("source", "a"), ("between-1", "b"), ("between-2", "d"), ("target", "c"),
    ]  # fmt: skip
    assert [stage.steps for stage in stages] == [100, 50, 50, 20]
    assert stages[-1].rate_factor < stages[1].rate_factor < 1
    assert stages[-1].augmentation in AUGMENTATIONS
    assert {(stage.warm_up, stage.validations) for stage in stages} == {(ldtl.warm_up, ldtl.validations)}
    assert [stage.steps for stage in stages_of(ldtl, 1, source="a", target="c")] == [1, 1]
    with pytest.raises(DataError, match="0 steps"):
        stages_of(ldtl, 0, source="a", target="c")


def test_controls_of_the_transfer_differ_in_one_thing() -> None:
    whole, ordinary, frozen = (
        stages_of(adaptation(name, Transfer), 100, source="a", between=("b",), target="c")
        for name in ("ldtl", "ldtl-ordinary", "ldtl-frozen")
    )
    assert ordinary == (*whole[:-1], replace(whole[-1], augmentation=""))
    assert frozen == (*whole[:-1], replace(whole[-1], freeze=("trunk",)))


@pytest.mark.parametrize(("length", "steps"), [("", 1_000), ("-short", 6_000)])
def test_the_three_strategies_differ_in_what_they_say(length: str, steps: int) -> None:
    made = {
        name: stages_of(
            adaptation(f"dfpenet-transfer-{name}{length}", Transfer), 30_000, source="x1", target="x2", both="both"
        )
        for name in STRATEGIES
    }
    assert all(
        (first.name, first.ground, first.steps, first.freeze) == ("X1", "x1", 30_000, ()) for first, _ in made.values()
    )
    assert all((second.name, second.steps) == (name, steps) for name, (_, second) in made.items())
    assert {name: (second.ground, second.freeze) for name, (_, second) in made.items()} == {
        "fine-tune": ("x2", ()), "freeze": ("x2", ("trunk",)), "joint": ("both", ()),
    }  # fmt: skip
    with pytest.raises(DataError, match="together"):
        stages_of(adaptation("dfpenet-transfer-joint", Transfer), 1, source="x1", target="x2")


def test_joint_batches_have_their_share_of_each() -> None:
    joint = Joint((ToySampler(batch=3, seed=1), ToySampler(batch=3, seed=2)), (2, 1))
    x, y = joint.draw(5)
    first, second = ToySampler(batch=3, seed=1).draw(5), ToySampler(batch=3, seed=2).draw(5)
    np.testing.assert_array_equal(x, np.concatenate([first[0][:2], second[0][:1]]))
    np.testing.assert_array_equal(y, np.concatenate([first[1][:2], second[1][:1]]))


@given(
    kinds=st.lists(st.integers(0, 2), min_size=1, max_size=60),
    shares=st.lists(st.floats(0.01, 1.0), min_size=1, max_size=5),
    seed=st.integers(0, 9),
)
def test_smaller_sets_lie_in_larger_ones(kinds: list[int], shares: list[float], seed: int) -> None:
    found = nested_subsets(len(kinds), shares, seed=seed, kinds=kinds)
    sets = [set(found[share].tolist()) for share in sorted(found)]
    assert all(small <= large for small, large in pairwise(sets))
    for share, chosen in found.items():
        assert len(set(chosen.tolist())) == len(chosen)
        for kind in set(kinds):
            of_kind = [index for index in chosen if kinds[index] == kind]
            assert share * kinds.count(kind) - 1e-6 <= len(of_kind) < share * kinds.count(kind) + 1
    again = nested_subsets(len(kinds), shares, seed=seed, kinds=kinds)
    assert all(np.array_equal(again[share], found[share]) for share in found)


def test_the_study_takes_the_papers_sizes_and_another_seed_takes_others() -> None:
    found = nested_subsets(200)
    assert [len(found[share]) for share in SET_SIZES] == [10, 20, 40, 80, 120, 160, 200]
    assert not np.array_equal(nested_subsets(200, seed=1)[0.05], found[0.05])


@pytest.mark.parametrize(("count", "shares"), [(0, (0.5,)), (5, ()), (5, (0.0,)), (5, (1.5,))])
def test_sets_that_cannot_be_drawn_are_refused(count: int, shares: tuple[float, ...]) -> None:
    with pytest.raises(DataError, match="shares"):
        nested_subsets(count, shares)
