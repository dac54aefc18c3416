"""flows/serving.py: a cluster maps what one machine maps, to the bit."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import distributed
import numpy as np
import pytest
import rasterio
import torch
from fakes.scenes import array_scene

from flows.errors import ServiceError
from flows.mapping import NetworkReader, execution_for, execution_on, write_probability
from flows.remap import Again, Ground
from flows.serving import RESOURCE, map_on_cluster, network_workers, together
from flows.settings import ModelSettings
from gee.types import Observed
from modeling import networks
from modeling.bands import band_set
from modeling.data.normalise import Normalisation
from modeling.errors import ModelingError
from modeling.model import LandslideModel
from modeling.prediction.inference import Execution, prepare
from modeling.prediction.predict import lattice_tiles, predict_tiles

LOOPBACK = "127.0.0.1:0"


@contextmanager
def cluster(resources: Mapping[str, float], **named: Any) -> Iterator[Any]:
    logging.getLogger("distributed").setLevel(logging.WARNING)
    with (
        dask.config.set({"distributed.worker.memory.terminate": False}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, memory_limit=0, dashboard_address=LOOPBACK,
            worker_dashboard_address=LOOPBACK, scheduler_kwargs={"dashboard": False}, resources=dict(resources),
            **named,
        ) as made,
        distributed.Client(made, set_as_default=False) as client,
    ):  # fmt: skip
        yield client


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with cluster({RESOURCE: 1}) as made:
        yield made


def model() -> LandslideModel:
    torch.manual_seed(0)
    network = networks.create("msf-litenet", in_channels=3, classes=2).eval()
    even = Normalisation("standardise", (0.05,) * 3, (0.01,) * 3, (0.0,) * 3, (-5.0, 5.0))
    return LandslideModel("m", "msf-litenet", network, band_set("rgb"), even, 1.0, 0.5, "ab" * 32, {})


def test_a_cluster_maps_what_one_machine_maps(client: Any) -> None:
    scene, network = array_scene((150, 170)), model()
    scene.observed[1, :40, :60] = Observed.CLOUD
    execution = Execution("cpu", "float32", 64, 8)
    read, shape = NetworkReader(scene, network.bands), scene.grid.shape_yx
    found, expected = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    seen = list[tuple[int, int]]()

    def write(where: tuple[slice, slice], values: Any) -> None:
        found[where] = values

    map_on_cluster(client, network, execution, read, shape, write, progress=lambda *at: seen.append(at))
    predict_tiles(prepare(network, execution), read, shape, expected.__setitem__, tile_px=64, halo_px=8)
    np.testing.assert_array_equal(found, expected)
    assert np.isnan(found[:40, :60]).all()
    assert seen == [(done, 9) for done in range(1, 10)]


def test_only_workers_that_offer_it_run_networks(client: Any) -> None:
    assert network_workers(client) == 2
    with cluster({}) as other:
        assert network_workers(other) == 0


def test_an_error_on_a_worker_is_the_callers(client: Any) -> None:
    def read(where: Any) -> Any:
        raise OSError(f"bad block at {where[0].start}")

    with pytest.raises(OSError, match="bad block at 0"):
        map_on_cluster(client, model(), Execution("cpu", "float32", 64, 8), read, (100, 100), lambda *_: None)


def test_tiles_of_one_shape_go_through_the_network_together(client: Any) -> None:
    scene, network = array_scene((70, 340)), model()
    scene.observed[1, :, :100] = Observed.CLOUD
    execution = Execution("cpu", "float32", 64, 8, batch=3)
    read, shape = NetworkReader(scene, network.bands), scene.grid.shape_yx
    tiles = lattice_tiles(shape, 64, 8)
    groups = together(tiles, 3)
    assert [tile for group in groups for tile in group] == tiles
    assert max(len(group) for group in groups) == 3
    for group in groups:
        assert len({(rows.window.stop - rows.window.start, across.window.stop - across.window.start)
                    for rows, across in group}) == 1  # fmt: skip
    found, expected = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    map_on_cluster(client, network, execution, read, shape, found.__setitem__, tiles=tiles)
    predict_tiles(
        prepare(network, execution), read, shape, expected.__setitem__, tile_px=64, halo_px=8, tiles=tiles, batch=3
    )
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.isnan(found[:, :100]).all()


def test_the_workers_say_how_the_map_is_computed_and_not_the_caller(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The workers see less free memory than this process does, so their tiles are smaller."""
    scene, network = array_scene((80, 90)), model()
    settings = ModelSettings(precision="float32")
    here = execution_for(network, settings)
    short = "from modeling.prediction import inference; inference.available_bytes = lambda device: 0"
    with processes(1, preload=[short]) as (_, there), caplog.at_level(logging.INFO, "flows.mapping"):
        write_probability(scene, network, tmp_path / "served.tif", settings, there)
        facts = dict.fromkeys(("plan_hash", "cube_hash", "alignment", "code_version"), "")
        again = Again(Ground(scene.grid, 64, {}), facts, ())
        write_probability(scene, network, tmp_path / "again.tif", settings, there, again)
    write_probability(scene, network, tmp_path / "own.tif", settings)
    assert here.tile_px > 256
    assert told(tmp_path / "own.tif") == f"float32 on cpu, tiles of {here.tile_px} px + 8"
    assert told(tmp_path / "served.tif") == "float32 on cpu, tiles of 256 px + 8"
    assert told(tmp_path / "again.tif") == "float32 on cpu, tiles of 64 px + 8", "those of the cube"
    assert "the workers that run the network map in float32 on cpu, tiles of 256 px" in caplog.text


def test_a_worker_that_lacks_the_device_of_another_is_named(client: Any) -> None:
    scene, network = array_scene((80, 90)), model()
    execution, read = Execution("cuda:99", "float32", 64, 8), NetworkReader(scene, network.bands)
    with pytest.raises(
        ModelingError, match=r"worker .* offers GPU and cannot map in float32 on cuda:99.*no device cuda:99"
    ):
        map_on_cluster(client, network, execution, read, (80, 90), lambda *_: None)


def test_a_network_worker_that_is_killed_costs_its_tiles_and_not_the_map() -> None:
    """Both hold the model at times, and each is killed once: what they had is made again."""
    scene, network = array_scene((300, 310)), model()
    execution = Execution("cpu", "float32", 64, 8)
    read, shape = NetworkReader(scene, network.bands), scene.grid.shape_yx
    found, expected = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    with processes(2) as (_, there):
        pids = sorted(there.run(os.getpid).values())

        def kill(done: int, total: int) -> None:
            if done in (6, 12):
                os.kill(pids[done // 6 - 1], signal.SIGKILL)

        map_on_cluster(there, network, execution, read, shape, found.__setitem__, progress=kill)
        assert not set(pids) & set(there.run(os.getpid).values())
    predict_tiles(prepare(network, execution), read, shape, expected.__setitem__, tile_px=64, halo_px=8)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_map_ends_when_no_network_worker_comes_back() -> None:
    scene, network = array_scene((300, 310)), model()
    execution, read = Execution("cpu", "float32", 64, 8), NetworkReader(scene, network.bands)
    with cluster({}, protocol="tcp", host="127.0.0.1") as there, lone_worker(there.scheduler.address) as process:
        there.wait_for_workers(3, timeout=60)

        def kill(done: int, total: int) -> None:
            if done == 3:
                os.kill(process.pid, signal.SIGKILL)

        begun = time.monotonic()
        with pytest.raises(
            ServiceError, match=r"no worker of the Dask cluster has offered GPU=1 for 2 s.*network_wait_s"
        ):
            map_on_cluster(
                there, network, execution, read, scene.grid.shape_yx, lambda *_: None, progress=kill, wait_s=2.0
            )
        assert time.monotonic() - begun < 60.0
        settings = ModelSettings(network_wait_s=0.5)
        with pytest.raises(ServiceError, match=r"offered GPU=1 for 0\.5 s"):
            execution_on(there, network, settings)


def told(path: Path) -> str:
    with rasterio.open(path) as file:
        return str(file.tags()["computed_in"])


@contextmanager
def processes(count: int, **named: Any) -> Iterator[tuple[Any, Any]]:
    """Worker processes that run networks, each under a nanny that starts another when it dies; and a client."""
    with (
        distributed.LocalCluster(
            n_workers=count, threads_per_worker=1, processes=True, memory_limit=0, dashboard_address=LOOPBACK,
            worker_dashboard_address=LOOPBACK, resources={RESOURCE: 1}, protocol="tcp", host="127.0.0.1", **named,
        ) as made,
        distributed.Client(made, set_as_default=False) as client,
    ):  # fmt: skip
        yield made, client


@contextmanager
def lone_worker(address: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker that runs networks and that nobody starts again."""
    command = [
        sys.executable, "-m", "dask", "worker", address, "--no-nanny", "--nthreads", "1", "--resources", f"{RESOURCE}=1",
        "--no-dashboard",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_probability_map_is_served_by_the_cluster_where_there_is_one(client: Any, tmp_path: Path) -> None:
    scene, network = array_scene((80, 90)), model()
    settings = ModelSettings(tile_px=64, halo_px=8, precision="float32")
    for name, at in (("served", client), ("own", None)):
        write_probability(scene, network, tmp_path / f"{name}.tif", settings, at)
    maps = []
    for name in ("served", "own"):
        with rasterio.open(tmp_path / f"{name}.tif") as file:
            maps.append(file.read(1))
            assert file.tags()["computed_in"] == "float32 on cpu, tiles of 64 px + 8"
    np.testing.assert_array_equal(*maps)
