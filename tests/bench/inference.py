"""Mapping a scene: how close tiles come to the network alone, and how others do it.

The scene is simulated (Luding, of which the shipped models have seen nothing; mirrored to its size) and lies in memory,
the model is the shipped one for ten bands. *network alone* is that model made ready as `modeling.prediction.inference`
makes it (folded, channels-last, bfloat16 by its stored proof, bands of rows), over tiles that lie ready in memory,
without any overlap, read and written by nobody: the same pixels once, in as many lanes as we use (with one tile at a
time, all threads on it, as a fact). *quakeslide* is `modeling.prediction.predict`: tiles read with their halo, normalised,
mapped, blended, written into an array. MONAI's sliding window runs the model as it is loaded (float32) with its default
overlap of 25 %, Gaussian weights and windows of 256 px, four at a time, in a process of its own as anyone would run it:
ours has told the allocator to keep its pages, which serves whatever runs there. MONAI and the plain model run there once
more, as facts. All maps are held to the truth: their F1 is in the table, and one that differs from the plain model's,
which maps the same tiles as the network alone, by more than 0.003 (MONAI's: 0.02) ends the stage. Cores are what the
process may use. In a scene of the larger size, which comes nearer to a granule of Sentinel-2 (10,980 px), only we and the
network alone run, and its F1 is the one that ours is held to: the others would take an hour.

*cube to COG* is the whole way, `flows.mapping.write_probability`: tiles of a Zarr cube decoded and checked, the
network, and the COG compressed with its overviews and read back.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from flows.mapping import write_probability
from flows.settings import ModelSettings
from gee.cube import create_cube, seal_cube, write_tile
from gee.scenecube import open_cube
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
from .peak import peak_bytes

MODEL = "resu-senet-slim_ten-band"
MONAI = "MONAI sliding_window_inference"
WINDOW_PX, AT_ONCE = 256, 4
F1_MAY_DIFFER, PEERS_MAY_DIFFER = 0.003, 0.02
"""From the plain model's. Others' windows of 256 px see less around a pixel than the plain model's tiles: a wider bound tells
whether they map the same thing at all, and what their map is worth stands in the table."""

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
    side, large = (512, 1024) if setting.quick else (4096, 8192)
    for size, peers in ((side, True), (large, False)):
        found: dict[str, float] = {}
        yield _in_memory(model, size, setting, found, peers=peers)
        yield _qualities(size, found)
    yield _to_cog(model, side, setting)


def _qualities(side: int, found: dict[str, float]) -> Group:
    """What the maps of `_in_memory` were worth: the same pixels, in the same run."""
    cases = tuple(Case(who, "fact", partial(found.__getitem__, who)) for who in found)
    return Group(f"scene of {side:,} px in memory, quality", "F1", cases, repetitions=1)


def _in_memory(model: LandslideModel, side: int, setting: Setting, found: dict[str, float], *, peers: bool) -> Group:
    """The comparison; F1 of the maps is put into `found` while it runs."""
    scene = SceneInMemory(model, side)
    execution = choose(model)
    fast, lanes = prepare(model, execution), execution.lanes
    setting.say(f"mapping {side} x {side} px in {execution}")
    channels = torch.from_numpy(assemble(model.bands, scene.layers))[None]
    parts = [slice(start, min(start + execution.tile_px, side)) for start in range(0, side, execution.tile_px)]
    tiles = {(y.start, x.start): fast.normalised(channels[:, :, y, x]) for y in parts for x in parts}
    if peers:
        found["plain model"] = expected = scene.f1(_by_blocks(model, channels, side, execution.tile_px))
    else:
        expected = scene.f1(_alone(fast, tiles, side, lanes))
    setting.say(f"F1 of the {'plain model' if peers else 'network alone'}: {expected:.4f}")

    def checked(made: FloatArray, seconds: float, who: str) -> float:
        f1 = scene.f1(made)
        if abs(f1 - expected) > (PEERS_MAY_DIFFER if who == MONAI else F1_MAY_DIFFER):
            raise BenchError(f"F1 of {who} is {f1:.4f} and not {expected:.4f} as what it is held to")
        found[who] = f1
        return side * side / seconds / 1e6

    def speed(mapper: Mapper, who: str) -> Callable[[], float]:
        def run() -> float:
            made: list[FloatArray] = []
            seconds = elapsed(lambda: made.append(mapper()))
            return checked(made[0], seconds, who)

        return run

    def ours() -> FloatArray:
        made = np.empty((side, side), np.float32)
        predict_tiles(
            fast, scene.read, (side, side), made.__setitem__, tile_px=execution.tile_px, halo_px=execution.halo_px,
            lanes=lanes,
        )  # fmt: skip
        return made

    network, one_by_one = "network alone, no overlap, as many lanes", "network alone, no overlap, one tile at a time"
    cases = [
        Case(network, "limit", speed(lambda: _alone(fast, tiles, side, lanes), network)),
        Case("quakeslide", "ours", speed(ours, "quakeslide")),
    ]
    if peers:
        given, taken = setting.scratch / "channels.npy", setting.scratch / "monai.npy"
        np.save(given, channels.numpy())
        pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))  # it ends with this process

        def apart() -> float:
            seconds = pool.submit(_monai_apart, given, taken).result()
            return checked(np.load(taken, allow_pickle=False), seconds, MONAI)

        cases += [
            Case(one_by_one, "fact", speed(lambda: _alone(fast, tiles, side, 1), one_by_one)),
            Case(f"{MONAI}, in a process of its own", "peer", apart),
            Case(MONAI, "fact", speed(lambda: _by_monai(model, channels), MONAI)),
            Case(
                "plain model alone, no overlap",
                "fact",
                speed(lambda: _by_blocks(model, channels, side, execution.tile_px), "plain model"),
            ),
        ]
    repetitions = None if peers else min(3, setting.repetitions)
    return Group(f"scene of {side:,} px in memory", "Mpx/s", tuple(cases), repetitions=repetitions, warm=peers)


def _alone(fast: FastModel, tiles: dict[tuple[int, int], torch.Tensor], side: int, lanes: int) -> FloatArray:
    made = np.empty((side, side), np.float32)
    threads = torch.get_num_threads()

    def one(place: tuple[tuple[int, int], torch.Tensor]) -> None:
        (top, left), tile = place
        with torch.inference_mode():
            margin = fast.body(tile).float()[0] / fast.temperature
            made[top : top + margin.shape[0], left : left + margin.shape[1]] = torch.sigmoid(margin).cpu().numpy()

    try:
        with ThreadPoolExecutor(lanes, initializer=lambda: torch.set_num_threads(max(1, threads // lanes))) as pool:
            list(pool.map(one, tiles.items()))
    finally:
        torch.set_num_threads(threads)
    return made


def _by_blocks(model: LandslideModel, channels: torch.Tensor, side: int, tile_px: int) -> FloatArray:
    made = np.empty((side, side), np.float32)
    for top in range(0, side, tile_px):
        for left in range(0, side, tile_px):
            rows, columns = slice(top, top + tile_px), slice(left, left + tile_px)
            made[rows, columns] = model.probability(channels[:, :, rows, columns])[0]
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


def _monai_apart(given: Path, taken: Path) -> float:
    model, channels = load_model(MODEL), torch.from_numpy(np.load(given, allow_pickle=False))
    made: list[FloatArray] = []
    seconds = elapsed(lambda: made.append(_by_monai(model, channels)))
    np.save(taken, made[0])
    return seconds


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

    def alone() -> None:
        _alone(fast, tiles, side, execution.lanes)

    def ours() -> float:
        target = setting.scratch / "map.tif"
        seconds = elapsed(lambda: write_probability(open_cube(str(store)), model, target, ModelSettings()))
        return side * side / seconds / 1e6

    cases = (
        Case("network alone", "limit", lambda: side * side / elapsed(alone) / 1e6),
        Case("quakeslide", "ours", ours),
    )
    return Group(f"{side:,} px from cube to COG", "Mpx/s", cases, warm=True)


def main() -> None:
    """Map a cube and print the peak."""
    parser = argparse.ArgumentParser()
    parser.add_argument("store")
    parser.add_argument("out", type=Path)
    chosen = parser.parse_args()
    keep_memory()  # before there are threads with heaps of their own
    write_probability(open_cube(chosen.store), load_model(MODEL), chosen.out, ModelSettings())
    sys.stdout.write(str(peak_bytes()))


if __name__ == "__main__":
    main()
