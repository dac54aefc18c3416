"""`quakeslide train`, `quakeslide recipes` and the flow: one run, asked for in two ways."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import typer
from fakes.patch_sets import write_toy_set
from fakes.training import recipe, register_tiny
from fakes.wiring import ask_prefect, on_prefect
from pydantic import ValidationError
from typer.testing import CliRunner

from flows import cli_train
from flows.errors import FlowError
from flows.train import train
from flows.training import TrainRequest, main
from infra.local.stack import LocalStack
from modeling import recipes
from modeling.errors import DataError, ModelingError
from modeling.model import load_model


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    register_tiny(monkeypatch)
    toy = recipe(steps=None, epochs=4, batch=4, validate_every=None, augmentation="mirrors")
    monkeypatch.setattr(recipes, "RECIPES", {**recipes.RECIPES, "toy": toy})
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_toy_set(tmp_path / "squares.zarr", counts=(4, 2, 1), domains=("here",))


@pytest.fixture
def run() -> Callable[..., str]:
    app = typer.Typer()
    cli_train.register(app)

    def call(*arguments: object) -> str:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=True)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.output

    return call


def test_the_command_trains_tells_and_writes(run: Callable[..., str], data: Path, tmp_path: Path) -> None:
    out = tmp_path / "models"
    arguments = ("--recipe", "toy", "--data", data, "--out", out, "--epochs", "2", "--batch", "2", "--device", "cpu")
    told = run("train", *arguments)
    assert "step 4/4" in told
    assert "f1" in told
    assert "toy_squares.safetensors" in told
    model = load_model(out / "toy_squares.safetensors")
    assert model.card["recipe"]["epochs"] == 2
    again = shlex.split(model.card["command"])
    assert again[:2] == ["quakeslide", "train"]
    before = (out / "toy_squares.safetensors").read_bytes()
    run(*again[1:])
    assert (out / "toy_squares.safetensors").read_bytes() == before


def test_every_recipe_is_listed(run: Callable[..., str]) -> None:
    told = run("recipes")
    for name in ("msf-litenet", "resu-senet", "dfpenet", "unetplusplus"):
        assert name in told
    shown = run("recipes", "dfpenet")
    assert "0.007" in shown
    assert "optimiser nesterov" in shown


def test_recipes_of_adaptation_are_listed_apart_and_cannot_be_trained(
    run: Callable[..., str], data: Path, tmp_path: Path
) -> None:
    training, adapting = run("recipes").split("recipe of adaptation")
    for name in ("adanet", "adanet-scene", "self-training", "ldtl", "dfpenet-transfer-joint"):
        assert name in adapting and name not in training
    assert "label_noise" in run("recipes", "adanet")
    assert "legs 3 augmentation" in run("recipes", "ldtl")
    with pytest.raises(DataError, match=r"msf-litenet.*adanet"):
        run("recipes", "adanett")
    with pytest.raises(DataError, match="ldtl is a recipe of adaptation"):
        run("train", "--recipe", "ldtl", "--data", data, "--out", tmp_path / "models")
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--recipe", "resu-snet"), "unknown recipe"),
        (("--recipe", "toy", "--steps", "2", "--epochs", "2"), "give one of them"),
        (("--recipe", "toy", "--learning-rate", "-1"), "not above 0"),
        (("--recipe", "toy", "--augmentation", "rain"), "unknown augmentation"),
        (("--recipe", "toy", "--bands", "ten-band"), "slope"),
        (("--recipe", "toy", "--domains", "mars"), "mars"),
        (("--recipe", "toy", "--start", "unheard-of"), "no model 'unheard-of'"),
    ],
)
def test_what_cannot_be_trained_is_refused_and_nothing_is_written(
    run: Callable[..., str], data: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    with pytest.raises((ModelingError, FlowError), match=message):
        run("train", "--data", data, "--out", tmp_path / "models", *arguments)
    assert not (tmp_path / "models").exists()


def test_data_that_are_not_there_and_a_file_as_folder_are_named(
    run: Callable[..., str], data: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"nowhere\.zarr"):
        run("train", "--recipe", "toy", "--data", tmp_path / "nowhere.zarr")
    (tmp_path / "file").touch()
    with pytest.raises(FlowError, match="is a file"):
        run("train", "--recipe", "toy", "--data", data, "--out", tmp_path / "file")


def test_requests_are_json_and_become_the_command() -> None:
    request = TrainRequest(recipe="toy", data="a b.zarr", domains=("x", "y"), learning_rate=0.01, seed=2)
    assert TrainRequest.model_validate_json(request.model_dump_json()) == request
    assert request.command() == (
        "quakeslide train --recipe toy --data 'a b.zarr' --domains x,y --seed 2 --learning-rate 0.01"
    )
    assert request.changed().optimiser.learning_rate == 0.01
    with pytest.raises(ValidationError):
        TrainRequest(recipe="toy", data="d", epochz=3)  # type: ignore[call-arg]


def test_a_run_in_a_process_of_its_own_tells_json(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = TrainRequest(recipe="toy", data=str(data), out=str(tmp_path / "models"), device="cpu", epochs=1)
    assert main([request.model_dump_json()]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[-1] == {"weights": str(tmp_path / "models" / "toy_squares.safetensors")}
    assert lines[0]["steps"] == 1
    assert main([request.model_copy(update={"bands": "ten-band"}).model_dump_json()]) == 2
    assert "slope" in capsys.readouterr().err


@pytest.fixture
def on_server(stack: LocalStack) -> Iterator[dict[str, str]]:
    """The variables of a Prefect server that flows of this process talk to."""
    variables = stack.environment()
    with on_prefect(variables):
        yield variables


def test_the_flow_trains_and_shows_progress_card_and_curves(
    on_server: dict[str, str], data: Path, tmp_path: Path
) -> None:
    request = TrainRequest(recipe="toy", data=str(data), out=str(tmp_path / "models"), device="cpu", epochs=2)
    weights = train(request)
    assert weights == str(tmp_path / "models" / "toy_squares.safetensors")
    assert load_model(Path(weights)).card["recipe"]["epochs"] == 2
    found = {each["key"]: each for each in ask_prefect(on_server, "artifacts/latest/filter", limit=200)}
    kinds = {"toy-training": "progress", "toy-squares-card": "markdown", "toy-squares-curves": "image"}
    assert {key: found[key]["type"] for key in kinds} == kinds
    assert float(found["toy-training"]["data"]) == 100
    with pytest.raises(ModelingError, match="slope"):
        train(request.model_copy(update={"bands": "ten-band"}))


@pytest.mark.slow
def test_the_flow_trains_on_two_devices(
    on_server: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_toy_set(tmp_path / "squares.zarr", counts=(4, 2, 0), domains=("here",))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    request = TrainRequest(
        recipe="cgnet", data=str(data), out=str(tmp_path / "models"), device="cpu", devices=2, steps=2, batch=2
    )
    assert load_model(Path(train(request))).network_name == "cgnet"
    with pytest.raises(FlowError, match="slope"):
        train(request.model_copy(update={"bands": "ten-band"}))
