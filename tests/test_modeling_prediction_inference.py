"""modeling/prediction/inference.py and what it decides by: device, precision, memory; and the model made ready."""

from __future__ import annotations

import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from modeling import networks
from modeling.bands import band_set
from modeling.data.batches import IGNORE, Block
from modeling.data.normalise import Normalisation
from modeling.errors import DataError, ModelingError, WeightsError
from modeling.model import LandslideModel, load_model, save_model
from modeling.prediction import footprint, inference
from modeling.prediction.allocator import keep_memory
from modeling.prediction.footprint import available_bytes, bytes_per_pixel
from modeling.prediction.inference import (
    LANES,
    MOST_BYTES,
    Execution,
    choose,
    computes_bfloat16,
    prepare,
    working_bytes_per_pixel,
)
from modeling.prediction.precision import Bfloat16Proof
from modeling.training.proving import prove_bfloat16

CPU = torch.device("cpu")
HARMLESS = Bfloat16Proof(0.7, 0.7004, 1000, 100, "for tests")


def model(network: str = "msf-litenet", input_scale: int = 2, proof: Bfloat16Proof | None = None) -> LandslideModel:
    torch.manual_seed(1)
    built = networks.create(network, in_channels=3, classes=2).eval()
    even = Normalisation("standardise", (0.5, 0.2, 0.1), (0.3, 0.2, 0.5), (0.0, 0.1, -0.2), (-2.0, 2.0))
    return LandslideModel(
        "m",
        network,
        built,
        band_set("rgb"),
        even,
        1.5,
        0.5,
        "ab" * 32,
        {},
        sure_margin=3.5,
        input_scale=input_scale,
        bfloat16=proof,
    )


def values(height: int = 40, width: int = 50) -> torch.Tensor:
    x = 2 * torch.rand((2, 3, height, width), generator=torch.Generator().manual_seed(0)) - 0.5
    x[0, 1, 3:6, 4] = torch.nan
    x[1, 0, 0, 0] = torch.inf
    return x


@pytest.mark.parametrize(
    ("network", "input_scale"), [("msf-litenet", 1), ("msf-litenet", 2), ("resu-net", 1), ("lanet", 2)]
)
def test_a_model_made_ready_gives_what_the_model_gives(network: str, input_scale: int) -> None:
    plain, x = model(network, input_scale), values()
    ready = prepare(plain, Execution("cpu", "float32", 64, 8))
    torch.testing.assert_close(ready.probability(x), plain.probability(x), rtol=0, atol=1e-3)
    assert ready.bands == plain.bands


def test_bfloat16_is_near_and_the_model_itself_stays_float32() -> None:
    plain, x = model(), values()
    ready = prepare(plain, Execution("cpu", "bfloat16", 64, 8))
    found = ready.probability(x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, plain.probability(x), rtol=0, atol=0.05)
    assert all(parameter.dtype == torch.float32 for parameter in plain.network.parameters())
    assert any(isinstance(module, nn.BatchNorm2d) for module in plain.network.modules())


def test_normalised_values_are_those_of_the_normalisation(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, x = model(), values()
    monkeypatch.setattr(inference, "_ROWS_BYTES", 7 * 2 * 3 * 50 * 4)  # portions that do not divide the rows
    found = prepare(plain, Execution("cpu", "float32", 64, 8)).normalised(x)
    torch.testing.assert_close(found, plain.normalisation.apply(x), rtol=0, atol=1e-6)
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_another_number_of_channels_is_refused() -> None:
    with pytest.raises(DataError, match=r"takes \(batch, 3, y, x\), not \(1, 4, 8, 8\)"):
        prepare(model(), Execution("cpu", "float32", 64, 8)).probability(torch.zeros(1, 4, 8, 8))


def test_precision_follows_the_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "computes_bfloat16", lambda device: True)
    harmful = replace(HARMLESS, f1_bfloat16=0.69)
    nothing = replace(HARMLESS, landslide_pixels=0)
    chosen = [choose(model(proof=proof), device="cpu").precision for proof in (None, HARMLESS, harmful, nothing)]
    assert chosen == ["float32", "bfloat16", "float32", "float32"]
    assert choose(model(), device="cpu", precision="bfloat16").precision == "bfloat16"
    monkeypatch.setattr(inference, "computes_bfloat16", lambda device: False)
    assert choose(model(proof=HARMLESS), device="cpu").precision == "float32"
    with pytest.raises(ModelingError, match="unknown precision 'half'"):
        choose(model(), precision="half")  # type: ignore[arg-type]


def test_tiles_are_as_large_as_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "working_bytes_per_pixel", lambda *_: 400.0)

    def tile(budget: int) -> int:
        return choose(model(), device="cpu", memory_bytes=budget).tile_px

    assert tile(10**9) == 1536
    assert tile(10**12) == inference.LARGEST_TILE_PX
    assert tile(10**7) == inference.SMALLEST_TILE_PX
    for budget in (10**8, 4 * 10**8, 10**9):
        assert (tile(budget) + 2 * inference.HALO_PX) ** 2 * 400 <= budget
    assert choose(model(), device="cpu", tile_px=100, memory_bytes=1).tile_px == 100


def test_without_a_budget_tiles_take_no_more_than_half_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "working_bytes_per_pixel", lambda *_: 400.0)
    sides = []
    for free in (10**8, MOST_BYTES, 10**13, 10**14):
        monkeypatch.setattr(inference, "available_bytes", lambda device, free=free: free)
        sides.append(choose(model(), device="cpu").tile_px)
    assert sides[0] < sides[1] < sides[2] == sides[3]


def test_a_network_is_compiled_where_it_pays_or_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    large = inference.COMPILED_FROM_PX
    assert not choose(model(), device="cpu", tile_px=64, compiled="auto", pixels=10 * large).compiled
    assert choose(model(), device="cpu", tile_px=64, compiled=True).compiled
    assert str(choose(model(), device="cpu", compiled=True)).endswith(", compiled")
    pays = [inference.compilation_pays(torch.device("cuda"), pixels) for pixels in (None, large - 1, large)]
    assert pays == [False, False, True]


def test_an_execution_for_a_device_that_is_not_there_is_refused_when_it_is_prepared() -> None:
    with pytest.raises(ModelingError, match="there is no device cuda:99"):
        prepare(model(), Execution("cuda:99", "float32", 64, 8))


def test_devices_that_are_not_there_are_refused() -> None:
    with pytest.raises(ModelingError, match="unknown device 'tpu'"):
        choose(model(), device="tpu")
    with pytest.raises(ModelingError, match="unknown device 'meta'"):
        choose(model(), device="meta")
    with pytest.raises(ModelingError, match="there is no device cuda:99"):
        choose(model(), device="cuda:99")


def test_memory_is_counted_without_running_the_network() -> None:
    class Wide(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.cat([x, x, x], dim=1)  # 3 + 9 channels alive
            y = y.mean(dim=1)  # 9 + 1, and the caller's 3
            return y + 1

    found = bytes_per_pixel(Wide(), 3, torch.float32)
    assert found == pytest.approx(1.25 * 4 * 13)
    half = bytes_per_pixel(Wide(), 3, torch.bfloat16)
    assert half == pytest.approx(found / 2)


def test_bands_and_bfloat16_take_less_memory() -> None:
    exact, rough = (working_bytes_per_pixel(model(), kind, CPU) for kind in ("float32", "bfloat16"))  # type: ignore[arg-type]
    assert rough < exact < 600 * LANES


def test_free_memory_is_that_of_the_machine_within_the_containers_limit(tmp_path: Path) -> None:
    assert available_bytes(CPU) > 0
    assert footprint._of_container(tmp_path) is None
    (tmp_path / "memory.current").write_text("300\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert footprint._of_container(tmp_path) is None
    (tmp_path / "memory.max").write_text("1000\n")
    assert footprint._of_container(tmp_path) == 700
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable: 5 kB\n")
    assert footprint._of_machine(tmp_path / "meminfo") == 5 * 1024


def test_a_proof_is_measured_on_blocks_that_count() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, (32, 32)).astype(np.uint8)
    truth[:, :4] = IGNORE
    blocks = [Block(rng.random((3, 32, 32)).astype(np.float32), truth, f"b{number}", "d") for number in range(2)]
    proof = prove_bfloat16(model(), blocks, "two blocks", device="cpu")
    assert (proof.pixels, proof.landslide_pixels) == (2 * 32 * 28, 2 * int((truth == 1).sum()))
    probability = model().probability(torch.from_numpy(np.stack([block.channels for block in blocks])))
    mapped, right, counts = (probability >= 0.5).numpy(), truth == 1, truth != IGNORE
    f1 = 2 * (mapped & right).sum() / (mapped & counts).sum().__add__(2 * right.sum())
    assert proof.f1_float32 == pytest.approx(float(f1), abs=2e-3)
    with pytest.raises(DataError, match="no pixel counts"):
        prove_bfloat16(model(), [], "nothing", device="cpu")


def test_a_proof_is_stored_with_the_weights(tmp_path: Path) -> None:
    loaded = load_model(save_model(model(proof=HARMLESS), tmp_path))
    assert loaded.bfloat16 == HARMLESS
    assert HARMLESS.change == pytest.approx(0.0004)


@pytest.mark.parametrize("damage", [{"f1_bfloat16": 1.5}, {"f1_float32": "high"}, {"pixels": None}])
def test_a_damaged_proof_is_an_error(damage: dict[str, object]) -> None:
    with pytest.raises(WeightsError, match="proof for bfloat16"):
        Bfloat16Proof.from_json({**HARMLESS.to_json(), **damage})


def test_the_shipped_models_bear_bfloat16() -> None:
    for name in ("ten-band", "rgb-terrain", "rgb"):
        proof = load_model(f"resu-senet-slim_{name}").bfloat16
        assert proof is not None
        assert proof.harmless
        assert proof.landslide_pixels > 100_000


def test_whether_bfloat16_is_computed_is_known() -> None:
    assert computes_bfloat16(CPU) in (True, False)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_the_allocator_can_be_told_from_any_thread() -> None:
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(keep_memory()))
    thread.start()
    thread.join()
    assert answers == [keep_memory()]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_what_the_cpu_gives() -> None:
    plain, x = model(), values()
    execution = choose(plain, device="cuda")
    assert execution.device.startswith("cuda")
    torch.testing.assert_close(prepare(plain, execution).probability(x).cpu(), plain.probability(x), rtol=0, atol=1e-3)
