"""flows/serving.py: a cluster maps what one machine maps, to the bit."""

from __future__ import annotations

import logging
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

from flows.mapping import NetworkReader, write_probability
from flows.serving import RESOURCE, map_on_cluster, network_workers
from flows.settings import ModelSettings
from gee.types import Observed
from modeling import networks
from modeling.bands import band_set
from modeling.data.normalise import Normalisation
from modeling.model import LandslideModel
from modeling.prediction.inference import Execution, prepare
from modeling.prediction.predict import predict_tiles

LOOPBACK = "127.0.0.1:0"


@contextmanager
def cluster(resources: Mapping[str, float]) -> Iterator[Any]:
    logging.getLogger("distributed").setLevel(logging.WARNING)
    with (
        dask.config.set({"distributed.worker.memory.terminate": False}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, memory_limit=0, dashboard_address=LOOPBACK,
            worker_dashboard_address=LOOPBACK, scheduler_kwargs={"dashboard": False}, resources=dict(resources),
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
