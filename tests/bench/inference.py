"""Mapping a scene: how close tiles come to the network alone, and how others do it.

The scene is simulated (Luding, of which the shipped models have seen nothing; mirrored to its size) and lies in memory,
the model is the shipped one for ten bands. *network alone* is that model made ready as `modeling.prediction.inference`
makes it (folded, channels-last, bfloat16 by its stored proof, bands of rows), over tiles that lie ready in memory,
without any overlap, read and written by nobody: the same pixels once. *quakeslide* is `modeling.prediction.predict`:
tiles read with their halo, normalised, mapped, blended, written into an array. MONAI's sliding window runs the model as
it is loaded (float32) with its default overlap of 25 %, Gaussian weights and windows of 256 px, four at a time. The
allocator keeps its pages for all of them. All maps are held to the truth: an F1 that differs from the plain model's by
more than 0.01 ends the stage. Cores are what the process may use.

*cube to COG* is the whole way, `flows.mapping.write_probability`: tiles of a Zarr cube decoded and checked, the
network, and the COG compressed with its overviews and read back. *peak* is the memory of a process that does this.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from flows.mapping import write_probability
from flows.settings import ModelSettings
from gee.cube import create_cube, seal_cube, write_tile
from gee.scenecube import open_cube
from gee.types import PHASES, Observed
from modeling.bands import assemble
from modeling.data.batches import IGNORE
from modeling.model import LandslideModel, load_model
from modeling.prediction.allocator import keep_memory
from modeling.prediction.inference import FastModel, choose, prepare
from modeling.prediction.predict import predict_tiles
from modeling.scoring.metrics import confusion
from modeling.simulate import domain, layers_of, simulate_region

from . import scenes
from .cases import BenchError, Case, Group, Setting, elapsed
from .engines import cube_arrays, cube_plan
from .peak import peak_bytes, peak_mb
from .writers import THREADS

MODEL = "msf-litenet_ten-band"
WINDOW_PX, AT_ONCE = 256, 4
F1_MAY_DIFFER = 0.01

FloatArray = npt.NDArray[np.float32]
Mapper = Callable[[], FloatArray]


class SceneInMemory:
    """Channels (channel, y, x), truth and valid pixels (y, x)."""

    def __init__(self, model: LandslideModel, side: int) -> None:
        small = min(side, scenes.SIMULATED_PX)
        region = simulate_region(domain("luding"), seed=23, shape_yx=(small, small))
        layers, valid = layers_of(region)
        times = -(-side // small)

        def mirrored(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
            row = np.concatenate([values[:, :: (-1) ** i] for i in range(times)], axis=1)
            return np.ascontiguousarray(np.concatenate([row[:: (-1) ** i] for i in range(times)])[:side, :side])

        self.layers = {name: mirrored(layers[name]) for name in model.bands.requires}
        self.valid = mirrored(np.asarray(valid, np.bool_))
        self.truth = mirrored(np.where(valid, region.truth, IGNORE).astype(np.uint8))
        self.model, self.side = model, side

    def read(self, window: tuple[slice, slice]) -> tuple[dict[str, FloatArray], npt.NDArray[np.bool_]]:
        """A `modeling.prediction.predict.TileReader`."""
        return {name: values[window] for name, values in self.layers.items()}, self.valid[window]

    def f1(self, probability: FloatArray) -> float:
        """Of a map."""
        mapped = np.nan_to_num(probability) >= self.model.threshold
        return confusion(mapped, self.truth == 1, self.valid & (self.truth != IGNORE)).scores()["f1"]


def groups(setting: Setting) -> Iterator[Group]:
    """The comparisons: in memory, from cube to COG, memory."""
    keep_memory()
    model = load_model(MODEL)
    yield _in_memory(model, 512 if setting.quick else 3072, setting)
    yield _to_cog(model, 512 if setting.quick else 3072, setting)
    side, small = (1024, 512) if setting.quick else (20_000, 5_000)
    cases = [
        Case(f"{each:,} x {each:,} px", role, lambda each=each: _peak(setting.scratch, each))  # type: ignore[misc]
        for each, role in ((small, "limit"), (side, "ours"))
    ]
    yield Group("peak from cube to COG", "MB", tuple(cases), less_is_better=True, repetitions=1)


def _in_memory(model: LandslideModel, side: int, setting: Setting) -> Group:
    scene = SceneInMemory(model, side)
    execution = choose(model)
    fast = prepare(model, execution)
    setting.say(f"mapping {side} x {side} px in {execution}")
    channels = torch.from_numpy(assemble(model.bands, scene.layers))[None]
    parts = [slice(start, min(start + execution.tile_px, side)) for start in range(0, side, execution.tile_px)]
    tiles = {(y.start, x.start): fast.normalised(channels[:, :, y, x]) for y in parts for x in parts}
    expected = scene.f1(_by_blocks(model, channels, side))
    setting.say(f"F1 of the plain model: {expected:.4f}")

    def speed(mapper: Mapper) -> Callable[[], float]:
        def run() -> float:
            made: list[FloatArray] = []
            seconds = elapsed(lambda: made.append(mapper()))
            found = scene.f1(made[0])
            if abs(found - expected) > F1_MAY_DIFFER:
                raise BenchError(f"F1 is {found:.4f} and not {expected:.4f} as the plain model's")
            return side * side / seconds / 1e6

        return run

    def ours() -> FloatArray:
        made = np.empty((side, side), np.float32)
        predict_tiles(
            fast, scene.read, (side, side), made.__setitem__, tile_px=execution.tile_px, halo_px=execution.halo_px
        )
        return made

    cases = (
        Case("network alone, no overlap", "limit", speed(lambda: _alone(fast, tiles, side))),
        Case("quakeslide", "ours", speed(ours)),
        Case("MONAI sliding_window_inference", "peer", speed(lambda: _by_monai(model, channels))),
        Case("plain model alone, no overlap", "fact", speed(lambda: _by_blocks(model, channels, side))),
    )
    return Group(f"scene of {side:,} px in memory", "Mpx/s", cases, warm=True)


def _alone(fast: FastModel, tiles: dict[tuple[int, int], torch.Tensor], side: int) -> FloatArray:
    made = np.empty((side, side), np.float32)
    with torch.inference_mode():
        for (top, left), tile in tiles.items():
            margin = fast.body(tile).float()[0] / fast.temperature
            made[top : top + margin.shape[0], left : left + margin.shape[1]] = torch.sigmoid(margin).cpu().numpy()
    return made


def _by_blocks(model: LandslideModel, channels: torch.Tensor, side: int) -> FloatArray:
    made = np.empty((side, side), np.float32)
    for top in range(0, side, 512):
        for left in range(0, side, 512):
            made[top : top + 512, left : left + 512] = model.probability(
                channels[:, :, top : top + 512, left : left + 512]
            )[0]
    return made


def _by_monai(model: LandslideModel, channels: torch.Tensor) -> FloatArray:
    from monai.inferers import sliding_window_inference  # a dozen seconds to import

    with torch.inference_mode():
        made = sliding_window_inference(
            channels, WINDOW_PX, AT_ONCE, lambda x: model.probability(x)[:, None], mode="gaussian"
        )
    if not isinstance(made, torch.Tensor):
        raise BenchError("MONAI gave something else than a tensor")
    return np.asarray(made[0, 0].numpy())


def _to_cog(model: LandslideModel, side: int, setting: Setting) -> Group:
    store = setting.scratch / "scene.zarr"
    plan = cube_plan(str(store), side, min(512, side // 2))
    arrays = cube_arrays(side)
    create_cube(plan)
    for tile in plan.tiles:
        write_tile(plan, tile, {name: values[:, *tile.slices_yx] for name, values in arrays.items()})
    seal_cube(plan)
    scene = open_cube(str(store))
    execution = choose(model)
    fast = prepare(model, execution)
    layers = scene.read_tile(slice(0, side), slice(0, side), model.bands.requires).layers
    channels = torch.from_numpy(assemble(model.bands, layers))[None]
    parts = [slice(start, min(start + execution.tile_px, side)) for start in range(0, side, execution.tile_px)]
    tiles = {(y.start, x.start): fast.normalised(channels[:, :, y, x]) for y in parts for x in parts}

    def ours() -> float:
        target = setting.scratch / "map.tif"
        seconds = elapsed(lambda: write_probability(open_cube(str(store)), model, target, ModelSettings()))
        return side * side / seconds / 1e6

    cases = (
        Case("network alone", "limit", lambda: side * side / elapsed(lambda: _alone(fast, tiles, side)) / 1e6),
        Case("quakeslide", "ours", ours),
    )
    return Group(f"{side:,} px from cube to COG", "Mpx/s", cases, warm=True)


def _peak(scratch: Path, side: int) -> float:
    """Of a process that maps a cube of even tiles, which is quickly made and takes little room."""
    store = scratch / f"even-{side}.zarr"
    if not store.exists():
        plan = cube_plan(str(store), side, min(512, side // 2))
        create_cube(plan)

        def one(tile: Any) -> None:
            shape = tile.shape_yx
            write_tile(plan, tile, {
                "stack": np.full((len(scenes.NAMES), *shape), 900 + tile.row, np.int16),
                "observed": np.full((len(PHASES), *shape), Observed.CLEAR, np.uint8),
                "date": np.full((len(PHASES), *shape), 17_800, np.int32),
            })  # fmt: skip

        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(one, plan.tiles))
        seal_cube(plan)
    return peak_mb(f"{__package__}.inference", [store, scratch / f"even-{side}.tif"])


def main() -> None:
    """Map a cube and print the peak."""
    parser = argparse.ArgumentParser()
    parser.add_argument("store")
    parser.add_argument("out", type=Path)
    chosen = parser.parse_args()
    write_probability(open_cube(chosen.store), load_model(MODEL), chosen.out, ModelSettings())
    sys.stdout.write(str(peak_bytes()))


if __name__ == "__main__":
    main()
