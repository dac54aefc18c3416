"""Training learns, chooses by validation, stops when it should, and goes on after any interruption as if nothing had been."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes.training import BANDS, NORMALISATION, ToyBlocks, ToySampler, patch, recipe, register_tiny
from safetensors import safe_open
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c

from modeling import networks, recipes
from modeling.bands import BandSet
from modeling.data.batches import IGNORE, Batch, Block
from modeling.data.normalise import Normalisation
from modeling.errors import DataError, WeightsError
from modeling.model import LandslideModel, load_model, save_model
from modeling.recipes import Optimiser, Recipe
from modeling.scoring.evaluate import evaluate
from modeling.training.checkpoint import load_checkpoint, save_checkpoint
from modeling.training.optimise import optimiser_for
from modeling.training.progress import Progress, Row, Tick
from modeling.training.starting import adapted_state
from modeling.training.train import CHECKPOINT, TrainedModel, fit

TESTS = Path(__file__).parent
PYTHONPATH = {"PYTHONPATH": os.pathsep.join((str(TESTS), str(TESTS.parent)))}


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    register_tiny(monkeypatch)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run(made: Recipe, folder: Path, **named: object) -> TrainedModel:
    sampler = ToySampler(batch=made.batch)
    return fit(made, sampler, ToyBlocks(), NORMALISATION, BANDS, folder, device="cpu", **named)  # type: ignore[arg-type]


def same_weights(one: LandslideModel, other: LandslideModel) -> bool:
    state = other.network.state_dict()
    same = all(torch.equal(tensor, state[name]) for name, tensor in one.network.state_dict().items())
    return same and (one.temperature, one.threshold) == (other.temperature, other.threshold)


def test_the_loss_falls_and_the_scars_are_found(tmp_path: Path) -> None:
    found = run(recipe(steps=60, validate_every=20, classes=1), tmp_path)
    losses = [row.training_loss for row in found.progress.curve]
    assert [row.step for row in found.progress.curve] == [20, 40, 60]
    assert losses[-1] < 0.5 * losses[0]
    loaded = load_model(save_model(found.model, tmp_path))
    assert evaluate(loaded, ToyBlocks(5)).scores()["f1"] > 0.8
    assert loaded.classes == 1


@pytest.mark.parametrize("at", range(1, 7))
@pytest.mark.parametrize("seconds", [0.0, 1e9], ids=["a checkpoint each step", "none before the end"])
def test_a_run_can_be_stopped_at_any_step(at: int, seconds: float, tmp_path: Path) -> None:
    made = recipe(steps=6, validate_every=1)
    whole = run(made, tmp_path / "whole")

    def stop(tick: Tick) -> None:
        if tick.step == at:
            raise StoppedError

    with pytest.raises(StoppedError):
        run(made, tmp_path / "cut", checkpoint_seconds=seconds, tell=stop)
    resumed = run(made, tmp_path / "cut", checkpoint_seconds=seconds)
    assert same_weights(whole.model, resumed.model)
    assert resumed.progress.curve == whole.progress.curve


class StoppedError(Exception):
    """What a listener raises to end a run."""


@pytest.mark.parametrize(
    "optimiser",
    [
        Optimiser("adam", 3e-3),
        Optimiser("adamw", 3e-3, weight_decay=0.01),
        Optimiser("sgd", 1e-2, momentum=0.9, nesterov=True, weight_decay=5e-4),
        Optimiser("sgd", 1e-2),
    ],
    ids=["adam", "adamw", "nesterov", "sgd"],
)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(optimiser: Optimiser, precision: str, tmp_path: Path) -> None:
    made = recipe(optimiser=optimiser, precision=precision, steps=5, validate_every=2)
    whole = run(made, tmp_path / "whole")

    def stop(tick: Tick) -> None:
        if tick.step == 4:  # told after the validation, before its checkpoint: the last one is that of step 3
            raise StoppedError

    with pytest.raises(StoppedError):
        run(made, tmp_path / "cut", checkpoint_seconds=0.0, tell=stop)
    resumed = run(made, tmp_path / "cut")
    assert same_weights(whole.model, resumed.model)
    assert resumed.progress.curve == whole.progress.curve


KILLED = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from modeling.training.train import fit
import pytest
from fakes.training import BANDS, NORMALISATION, ToyBlocks, ToySampler, recipe, register_tiny

register_tiny(pytest.MonkeyPatch())
def tell(tick):
    print(tick.step, flush=True)

fit(recipe(steps=40, validate_every=1), ToySampler(), ToyBlocks(), NORMALISATION, BANDS, Path(sys.argv[1]),
    device="cpu", checkpoint_seconds=0.0, tell=tell)
"""


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(((5, 0.013),), id="once"),
        pytest.param(((1, 0.0), (7, 0.003), (12, 0.007), (23, 0.011), (31, 0.002)), id="often", marks=pytest.mark.slow),
    ],
)
def test_a_run_killed_anywhere_ends_as_one_that_was_left_alone(
    kills: tuple[tuple[int, float], ...], tmp_path: Path
) -> None:
    whole = run(recipe(steps=40, validate_every=1), tmp_path / "whole")
    reached = [0]
    for after, pause in kills:
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path / "cut")],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **PYTHONPATH},
        )
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= after:
                break
        time.sleep(pause)  # anywhere: within a step, a validation, or the writing of a checkpoint
        os.kill(process.pid, signal.SIGKILL)
        process.stdout.close()
        assert process.wait() == -signal.SIGKILL
        reached.append(int(line))
    assert (tmp_path / "cut" / CHECKPOINT).is_file()
    assert reached == sorted(set(reached))
    ticks: list[Tick] = []
    resumed = run(recipe(steps=40, validate_every=1), tmp_path / "cut", tell=ticks.append)
    assert ticks[0].step >= reached[-1]  # it tells a step before it stores it
    assert same_weights(whole.model, resumed.model)
    assert resumed.progress.curve == whole.progress.curve
    assert resumed.progress.best_step == whole.progress.best_step


def test_a_run_that_has_ended_returns_its_model_without_a_step(tmp_path: Path) -> None:
    first = run(recipe(steps=2), tmp_path)
    ticks: list[Tick] = []
    again = run(recipe(steps=2), tmp_path, tell=ticks.append)
    assert ticks == []
    assert same_weights(first.model, again.model)
    assert again.progress == first.progress


class Inside(ToyBlocks):
    """What is a scar in training is ground here: the better a network learns, the worse it does."""

    def __iter__(self) -> Iterator[Block]:
        for block in super().__iter__():
            yield replace(block, truth=np.where(block.truth == IGNORE, IGNORE, 1 - block.truth).astype(np.uint8))


def test_patience_ends_a_run_and_the_best_weights_are_kept(tmp_path: Path) -> None:
    made = recipe(steps=200, validate_every=1, patience=3, select_by="loss")
    found, again = (
        fit(made, ToySampler(), Inside(), NORMALISATION, BANDS, tmp_path, device="cpu") for _ in ("first", "again")
    )
    progress = found.progress
    assert progress.stopped_early
    assert progress.step == progress.best_step + 3 < 200
    assert progress.best_score == min(row.validation_loss for row in progress.curve)
    assert same_weights(found.model, again.model)
    assert again.progress == progress


@pytest.mark.parametrize(("select_by", "best"), [("loss", 2), ("f1", 3)])
def test_the_best_is_the_lowest_loss_or_the_highest_f1(select_by: str, best: int) -> None:
    progress = Progress()
    for step, loss, f1 in ((1, 0.9, 0.1), (2, 0.5, 0.6), (3, 0.6, 0.7), (4, 0.6, 0.7), (5, float("nan"), 0.0)):
        progress = replace(progress, step=step).with_row(
            Row(step, 1.0, loss, f1, 1e-3), select_by=select_by, patience=3
        )
        assert progress.stopped_early == (step >= best + 3)
    assert progress.best_step == best


def test_patches_drawn_by_processes_train_the_same_weights(tmp_path: Path) -> None:
    one, two = run(recipe(steps=3), tmp_path / "thread"), run(recipe(steps=3), tmp_path / "processes", workers=2)
    assert same_weights(one.model, two.model)


def test_matrices_are_stored_in_half_or_in_full(tmp_path: Path) -> None:
    half, full = (run(recipe(steps=3), tmp_path / name, storage=name) for name in ("float16", "float32"))
    sizes = [save_model(found.model, tmp_path / "models").stat().st_size for found in (half, full)]
    assert sizes[0] < sizes[1]
    weight = full.model.network.state_dict()["trunk.0.weight"]
    assert not torch.equal(weight, weight.half().float())
    assert torch.equal(weight.half().float(), half.model.network.state_dict()["trunk.0.weight"])


def test_bfloat16_trains_close_to_float32_but_not_the_same(tmp_path: Path) -> None:
    one, two = (run(recipe(steps=4, precision=name), tmp_path / name) for name in ("float32", "bfloat16"))
    assert not same_weights(one.model, two.model)
    losses = [found.progress.curve[-1].training_loss for found in (one, two)]
    assert losses[0] == pytest.approx(losses[1], rel=0.1)
    assert all(tensor.dtype != torch.bfloat16 for tensor in two.model.network.state_dict().values())


def test_a_run_can_start_from_a_model_of_other_channels(tmp_path: Path) -> None:
    start = run(recipe(steps=2), tmp_path / "start").model
    network = networks.create("tiny", in_channels=2, classes=2)
    state = adapted_state(network, ("third", "fourth"), start)
    theirs = start.network.state_dict()
    assert torch.equal(state["head.1.weight"], theirs["head.1.weight"])
    first = "trunk.0.weight"
    assert torch.equal(state[first][:, 0], theirs[first][:, 2])
    assert torch.equal(state[first][:, 1], network.state_dict()[first][:, 1])
    with pytest.raises(DataError, match="head"):
        adapted_state(networks.create("tiny", in_channels=3, classes=1), BANDS.channels, start)
    stored = load_model(save_model(start, tmp_path / "weights"))
    with pytest.raises(DataError, match=rf"cannot start from .*{re.escape(str(stored.file))}.*head"):
        adapted_state(networks.create("tiny", in_channels=3, classes=1), BANDS.channels, stored)
    found = run(recipe(steps=2, input_scale=2), tmp_path / "next", start=start)
    assert found.model.input_scale == 2
    with pytest.raises(WeightsError, match="recipe"):
        run(recipe(steps=2), tmp_path / "next")


def test_a_checkpoint_of_other_settings_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    run(recipe(steps=2), tmp_path)
    with pytest.raises(WeightsError, match=r"other settings \(seed was 0, is 1\)"):
        run(recipe(steps=2), tmp_path, seed=1)
    with pytest.raises(WeightsError, match="bands"):
        other = BandSet("others", ("a", "b", "c"), "")
        fit(recipe(steps=2), ToySampler(), ToyBlocks(), NORMALISATION, other, tmp_path, device="cpu")
    with pytest.raises(WeightsError, match=r"other settings \(data sha256 was None, is ab\)"):
        run(recipe(steps=2), tmp_path, data={"sha256": "ab"})
    with pytest.raises(WeightsError, match=r"other settings \(normalisation\)"):
        other_scale = replace(NORMALISATION, scale=(0.2, 0.1, 0.1))
        fit(recipe(steps=2), ToySampler(), ToyBlocks(), other_scale, BANDS, tmp_path, device="cpu")
    checkpoint = tmp_path / CHECKPOINT
    with safe_open(str(checkpoint), framework="pt") as file:
        settings = json.loads(file.metadata()["training"])["settings"]
    assert Normalisation.from_json(settings["normalisation"]) == NORMALISATION
    whole = checkpoint.read_bytes()
    for damaged in (whole[:1000], whole[:-1000], b"", b"\x80\x04pickle"):
        checkpoint.write_bytes(damaged)
        with pytest.raises(WeightsError, match="not a usable checkpoint"):
            run(recipe(steps=2), tmp_path)


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    small, large = torch.nn.Conv2d(3, 1, 1), torch.nn.Conv2d(3, 2, 1)
    adam = Optimiser("adam")
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, small, optimiser_for(adam, small), best={}, progress=Progress(), settings={})
    with pytest.raises(WeightsError, match="does not fit"):
        load_checkpoint(path, large, optimiser_for(adam, large), {})


class Spoilt(ToySampler):
    """A sampler whose batches are made wrong."""

    def __init__(self, what: str) -> None:
        super().__init__()
        object.__setattr__(self, "what", what)

    def draw(self, number: int) -> Batch:
        channels, truth = super().draw(number)
        if self.what == "label":  # type: ignore[attr-defined]
            truth[0, 5, 5] = 7
        elif self.what == "shape":  # type: ignore[attr-defined]
            truth = truth[:, 1:]
        elif self.what == "channels":  # type: ignore[attr-defined]
            channels = channels[:, :2]
        elif self.what == "dtype":  # type: ignore[attr-defined]
            return channels, truth.astype(np.float32)  # type: ignore[return-value]
        elif self.what == "labels of NaN":  # type: ignore[attr-defined]
            return channels, np.full(truth.shape, np.nan)  # type: ignore[return-value]
        return channels, truth


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("label", r"values \[7\]; 0, 1 and 255"),
        ("shape", r"batch 0: channels have shape \(2, 3, 48, 48\) and truth \(2, 47, 48\)"),
        ("channels", r"\(batch, 3, y, x\)"),
        ("dtype", "truth is float32"),
        ("labels of NaN", "truth is float64"),
    ],
)
def test_batches_that_cannot_be_learnt_from_are_refused(what: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        fit(recipe(), Spoilt(what), ToyBlocks(), NORMALISATION, BANDS, tmp_path, device="cpu")
    assert not (tmp_path / CHECKPOINT).exists()


class Empty(ToyBlocks):
    """Blocks without landslides."""

    def __iter__(self) -> Iterator[Block]:
        for block in super().__iter__():
            yield replace(block, truth=np.where(block.truth == 1, 0, block.truth).astype(np.uint8))


class Other(ToyBlocks):
    """Blocks of other channels."""

    def __iter__(self) -> Iterator[Block]:
        channels, truth = patch((1,))
        yield Block(channels[:2], truth, "odd", "toy")


def test_validation_sets_that_choose_nothing_are_refused_before_the_first_step(tmp_path: Path) -> None:
    for blocks, message in (
        (ToyBlocks(0), "validation part is empty"),
        (Empty(), "none of the 3 validation blocks has a landslide"),
        (Other(), "block odd has 2 channels"),
    ):
        with pytest.raises(DataError, match=message):
            fit(recipe(), ToySampler(), blocks, NORMALISATION, BANDS, tmp_path, device="cpu")


def test_a_loss_that_is_no_number_stops_the_run_and_spoils_no_checkpoint(tmp_path: Path) -> None:
    made = recipe(loss="cross-entropy", optimiser=Optimiser("sgd", 1e30), steps=9, validate_every=9)
    made = replace(made, schedule=replace(made.schedule, name="constant", warm_up=0))
    with pytest.raises(DataError, match="lower the learning rate"):
        run(made, tmp_path, checkpoint_seconds=0.0)


@pytest.mark.parametrize(("named", "message"), [({"device": "tpu"}, "tpu"), ({"devices": 0}, "0 devices")])
def test_impossible_devices_are_refused(named: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        fit(recipe(), ToySampler(), ToyBlocks(), NORMALISATION, BANDS, tmp_path, **named)  # type: ignore[arg-type]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cuda"):
        fit(recipe(), ToySampler(), ToyBlocks(), NORMALISATION, BANDS, tmp_path, device="cuda")


TWO_DEVICES = """
import os
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from modeling.model import save_model
from modeling.training.train import fit
import pytest
from fakes.training import BANDS, NORMALISATION, ToyBlocks, ToySampler, recipe, register_tiny

register_tiny(pytest.MonkeyPatch())
found = fit(recipe(steps=4), ToySampler(), ToyBlocks(), NORMALISATION, BANDS, Path(sys.argv[1]), device="cpu", devices=2)
total = sum(float(tensor.double().sum()) for tensor in found.model.network.parameters())
os.write(1, f"{found.leads} {found.progress.step} {total:.9f}\\n".encode())  # at once: the other process writes, too
if found.leads:
    save_model(found.model, Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_two_devices_share_the_work_and_end_with_equal_weights(tmp_path: Path) -> None:
    script = tmp_path / "two.py"
    script.write_text(TWO_DEVICES)
    environment = {**os.environ, **PYTHONPATH, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = sorted(line.split() for line in done.stdout.splitlines())
    assert [(line[0], line[1]) for line in lines] == [("False", "4"), ("True", "4")]
    assert lines[0][2] == lines[1][2]
    assert load_model(tmp_path / "tiny_toy.safetensors").network_name == "tiny"


def events(folder: Path) -> list[tuple[str, int, float]]:
    """(tag, step, value) of all scalars: records are length, its checksum, data, its checksum."""
    found = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        blob, at = path.read_bytes(), 0
        while at < len(blob):
            length = int.from_bytes(blob[at : at + 8], "little")
            data = blob[at + 12 : at + 12 + length]
            assert int.from_bytes(blob[at + 12 + length : at + 16 + length], "little") == masked_crc32c(data)
            event = Event.FromString(data)
            found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
            at += 16 + length
    return found


def test_the_logs_are_event_files_that_tensorboard_reads(tmp_path: Path) -> None:
    found = run(recipe(), tmp_path)
    logged = events(tmp_path / "tensorboard")
    f1 = {step: value for tag, step, value in logged if tag == "validation/f1"}
    assert f1 == pytest.approx({row.step: row.validation_f1 for row in found.progress.curve})
    tags = {tag for tag, _, _ in logged}
    assert {"training/loss", "training/learning_rate", "validation/loss", "training/patches_a_second"} <= tags


@pytest.mark.slow
@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_trains_its_network(name: str, tmp_path: Path) -> None:
    made = replace(recipes.recipe(name), epochs=None, steps=2, batch=2, validate_every=1)
    found = fit(
        made, ToySampler(), ToyBlocks(1), NORMALISATION, BANDS, tmp_path, steps_an_epoch=2, device="cpu",
        checkpoint_seconds=1e9,
    )  # fmt: skip
    assert [row.step for row in found.progress.curve] == [1, 2]
    assert found.model.classes == made.classes
