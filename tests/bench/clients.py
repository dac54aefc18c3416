"""The same cube pulled by quakeslide, xee and geedim from the same Earth Engine.

An image asset of six int16 bands with real-looking values, 10 m, UTM, lies in the Earth Engine stand-in, a process of its
own that answers each request after 200 ms. Every client gets the `ee.Image` and the grid, and ends with all pixels in
memory; they are compared with the truth before the time counts. xee and geedim run as they come, and tuned to the
40 concurrent requests that the service allows a project (xee with dask chunks, geedim with more and larger requests; the best
of several sizes that were tried). The clients are compared twice: with a stand-in that keeps its answers (so that its
arithmetic does not count; the limit is a bare `http.client` in 40 threads that asks for our tiles and decodes nothing),
and with one that computes each answer anew. *stored* is the way to a store on disk: quakeslide writes its cube (with
two bands of what was observed and two of dates more than the others have, checksums and records), xee a Zarr store in
the same codec, geedim a GeoTIFF. Megabytes are those of the six int16 bands.
"""

from __future__ import annotations

import datetime as dt
import http.client
import json
import os
import shutil
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

os.environ.setdefault("TQDM_DISABLE", "1")  # geedim draws bars

import dask
import ee
import geedim.stac  # importing geedim adds `.gd` to ee.Image
import numpy as np
import numpy.typing as npt
import rasterio
import xarray as xr
import zarr
from fakes.earthengine import PROJECT, connected, grid_request
from fakes.servers import serve_process

from gee.chunks import BLOCK_BYTES, COMPRESSION_LEVEL
from gee.cube import create_cube, pull_tile, seal_cube
from gee.grid import tiles
from gee.pixels import fetch_pixels
from gee.plan import CubePlan, Layer
from gee.scenecube import open_cube
from gee.session import Session, SessionConfig, connect
from gee.types import Grid, Observed, Tile
from infra.local.scenes import write_image

from . import scenes
from .cases import BenchError, Case, Group, Setting, elapsed
from .engines import cube_plan, square

LATENCY_S = 0.2
CONCURRENT = 40
"""Requests that the service allows a project at the same time."""
THREADS = 60
"""Of dask in our pull, as `flows.cluster` has it: while some decode, the others keep the 40 places filled."""
ASSET = "bench/scene"
TILE_PX = 512
XEE_PX, GEEDIM_MB = 1536, 16
"""The fastest of 512 to 1536 and of 2 to 16."""
BANDS = ("blue_pre", "green_pre", "red_pre", "blue_post", "green_post", "red_post")

Stack = npt.NDArray[np.int16]
"""(band, y, x)"""


@dataclass(frozen=True)
class Job:
    """What every client has to fetch, and from where."""

    url: str
    """The stand-in."""
    truth: Stack
    """What is there."""
    scratch: Path
    """For what is stored."""

    @cached_property
    def grid(self) -> Grid:
        """The asset's own grid."""
        return square(self.truth.shape[1])

    @property
    def placing(self) -> dict[str, Any]:
        """The grid as xee and geedim take it, without its size."""
        return {"crs": self.grid.crs, "crs_transform": self.grid.transform}

    @property
    def image(self) -> Any:
        """The `ee.Image`."""
        return ee.Image(ASSET)

    def rate(self, pull: Callable[[], Stack]) -> float:
        """MB/s of a client, once its pixels are right."""
        found: list[Stack] = []
        seconds = elapsed(lambda: found.append(pull()))
        if not np.array_equal(found[0], self.truth):
            raise BenchError(f"{pull} gave other pixels than the asset has")
        return self.truth.nbytes / 1e6 / seconds


def groups(setting: Setting) -> Iterator[Group]:
    """In memory from kept answers, stored from kept answers, in memory from computed ones."""
    side = 1024 if setting.quick else 3072
    truth = np.ascontiguousarray(scenes.stack(side, "int16")[[scenes.NAMES.index(name) for name in BANDS]])
    catalogue = setting.scratch / "catalogue"
    _write_asset(catalogue, truth)
    geedim.stac.STACClient()._urls = {"ROOT": {}}  # what it tells of public assets would come from a public address
    for name, module in (("answers kept", f"{__package__}.kept"), ("answers computed", "infra.local.earthengine")):
        arguments = ["--catalogue", str(catalogue), "--state", str(setting.scratch / name.replace(" ", "-"))]
        with (
            serve_process(module, *arguments, "--latency-s", str(LATENCY_S)) as url,
            connected(url),
            warnings.catch_warnings(),
            connect(SessionConfig(url, PROJECT, max_concurrent=CONCURRENT)) as session,
        ):
            warnings.simplefilter("ignore")  # rasterio's, on the stand-in's GeoTIFFs without a transform
            job = Job(url, truth, setting.scratch)
            kept = module.endswith("kept")
            yield _in_memory(name, job, session, kept)
            if kept:
                yield _stored(f"{name}, stored", job, session)


def _in_memory(name: str, job: Job, session: Session, kept: bool) -> Group:
    cases = [
        Case("quakeslide", "ours", lambda: job.rate(lambda: quakeslide(job, session))),
        Case(
            f"xee, {CONCURRENT} dask threads, chunks of {XEE_PX}", "peer", lambda: job.rate(lambda: xee_with_dask(job))
        ),
        Case(
            f"geedim, {CONCURRENT} requests of {GEEDIM_MB} MB",
            "peer",
            lambda: job.rate(lambda: geedim_numpy(job, CONCURRENT, GEEDIM_MB)),
        ),
    ]
    if kept:
        cases += [
            Case("xee, as it comes", "peer", lambda: job.rate(lambda: xee(job))),
            Case("geedim, as it comes", "peer", lambda: job.rate(lambda: geedim_numpy(job))),
            Case(f"bare http.client, {CONCURRENT} threads", "limit", lambda: bare(job)),
        ]
    return Group(f"pull, {name}", "MB/s", tuple(cases), warm=kept, repetitions=3 if kept else 2)


def quakeslide(job: Job, session: Session) -> Stack:
    """`fetch_pixels` for the tiles of the cube's grid, in dask's threads."""
    out = np.empty(job.truth.shape, np.int16)
    expression = ee.serializer.encode(job.image, for_cloud_api=True)
    bands = dict.fromkeys(BANDS, "int16")

    def one(tile: Tile) -> None:
        pixels = fetch_pixels(session, expression, job.grid.window(tile), bands)
        for index, name in enumerate(BANDS):
            out[index][tile.slices_yx] = pixels[name]

    work = [dask.delayed(one, pure=False)(tile) for tile in tiles(job.grid, TILE_PX)]
    dask.compute(*work, scheduler="threads", num_workers=THREADS)
    return out


def xee(job: Job) -> Stack:
    """`xr.open_dataset(engine="ee")` with nothing set."""
    opened = xr.open_dataset(ee.ImageCollection([job.image]), engine="ee", shape_2d=_width_height(job), **job.placing)
    return _stacked(opened.load())


def xee_with_dask(job: Job) -> Stack:
    """The same in dask chunks, each one request."""
    return _stacked(_xee_chunks(job).compute(scheduler="threads", num_workers=CONCURRENT))


def _xee_chunks(job: Job, side: int = XEE_PX) -> xr.Dataset:
    opened: xr.Dataset = xr.open_dataset(
        ee.ImageCollection([job.image]),
        engine="ee",
        shape_2d=_width_height(job),
        chunks={"time": 1, "y": side, "x": side},
        io_chunks={"index": 1, "width": side, "height": side},
        **job.placing,
    )
    return opened


def _width_height(job: Job) -> tuple[int, int]:
    return job.grid.shape_yx[1], job.grid.shape_yx[0]


def _stacked(dataset: xr.Dataset) -> Stack:
    return np.stack([dataset[name].to_numpy()[0].astype(np.int16) for name in BANDS])


def geedim_numpy(job: Job, requests: int = 32, request_mb: int = 4) -> Stack:
    """`toNumPy`, with geedim's own number and size of requests or others."""
    prepared = job.image.gd.prepareForExport(shape=job.grid.shape_yx, **job.placing)
    found: npt.NDArray[Any] = prepared.gd.toNumPy(max_requests=requests, max_tile_size=request_mb)
    return np.moveaxis(found, -1, 0)


def bare(job: Job) -> float:
    """MB/s of the same requests as ours by the standard library, nothing decoded: what the stand-in can give."""
    address = urlsplit(job.url)
    expression = ee.serializer.encode(job.image, for_cloud_api=True)
    local = threading.local()
    received = []

    def one(tile: Tile) -> None:
        if not hasattr(local, "line"):
            local.line = http.client.HTTPConnection(address.hostname or "", address.port)
        grid = grid_request(job.grid.window(tile))
        request = {"expression": expression, "fileFormat": "NPY", "bandIds": list(BANDS), "grid": grid}
        local.line.request("POST", f"/v1/projects/{PROJECT}/image:computePixels", json.dumps(request))
        received.append(len(local.line.getresponse().read()))

    with ThreadPoolExecutor(CONCURRENT) as pool:
        seconds = elapsed(lambda: list(pool.map(one, tiles(job.grid, TILE_PX))))
    if sum(received) < job.truth.nbytes:
        raise BenchError(f"the bare client got {sum(received)} bytes of {job.truth.nbytes}")
    return job.truth.nbytes / 1e6 / seconds


def _stored(name: str, job: Job, session: Session) -> Group:
    folder = job.scratch / "stored"
    codec = zarr.codecs.BloscCodec(
        cname="zstd", clevel=COMPRESSION_LEVEL, shuffle="bitshuffle", typesize=2, blocksize=BLOCK_BYTES
    )

    def timed(store: Callable[[], object], read: Callable[[], Stack]) -> Callable[[], float]:
        def run() -> float:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            seconds = elapsed(store)
            if not np.array_equal(read(), job.truth):
                raise BenchError(f"what {store} stored is not what the asset has")
            return job.truth.nbytes / 1e6 / seconds

        return run

    plan = _plan(job, f"{folder}/cube.zarr")

    def by_us() -> None:
        create_cube(plan)
        work = [dask.delayed(pull_tile, pure=False)(plan, session.config, tile) for tile in plan.tiles]
        dask.compute(*work, scheduler="threads", num_workers=THREADS)
        seal_cube(plan)

    def by_xee() -> None:
        encoding = {band: {"dtype": "int16", "_FillValue": -32_768, "compressors": [codec]} for band in BANDS}
        with dask.config.set(scheduler="threads", num_workers=CONCURRENT):
            _xee_chunks(job).drop_attrs().to_zarr(folder / "xee.zarr", encoding=encoding, consolidated=False)

    def by_geedim() -> None:
        prepared = job.image.gd.prepareForExport(shape=job.grid.shape_yx, **job.placing)
        prepared.gd.toGeoTIFF(folder / "geedim.tif", max_requests=CONCURRENT, max_tile_size=GEEDIM_MB)

    def ours() -> Stack:
        side_y, side_x = job.grid.shape_yx
        return np.asarray(open_cube(plan.uri).read_stored(slice(0, side_y), slice(0, side_x))["stack"])

    def xees() -> Stack:
        return _stacked(xr.open_zarr(folder / "xee.zarr", consolidated=False))

    def geedims() -> Stack:
        with rasterio.open(folder / "geedim.tif", driver="GTiff") as source:
            return np.asarray(source.read(range(1, len(BANDS) + 1)))

    cases = (
        Case("quakeslide, a cube", "ours", timed(by_us, ours)),
        Case("xee, to_zarr", "peer", timed(by_xee, xees)),
        Case("geedim, toGeoTIFF", "peer", timed(by_geedim, geedims)),
    )
    return Group(name, "MB/s", cases, warm=True, repetitions=3)


def _plan(job: Job, uri: str) -> CubePlan:
    """The plan of a cube with the bands of the asset and constants for what was observed and when."""
    observed = ee.Image.constant([int(Observed.CLEAR)] * 2).toUint8().rename(["observed_pre", "observed_post"])
    date = ee.Image.constant([17_700, 17_800]).toInt32().rename(["date_pre", "date_post"])
    expression = ee.serializer.encode(job.image.addBands(observed).addBands(date), for_cloud_api=True)
    return replace(
        cube_plan(uri, job.grid.shape_yx[0], TILE_PX),
        layers=tuple(Layer(name, scenes.step(name), 0.0, "1") for name in BANDS),
        expression=json.dumps(expression),
    )


def _write_asset(catalogue: Path, truth: Stack) -> None:
    grid = square(truth.shape[1])
    write_image(
        catalogue,
        ASSET,
        dict(zip(BANDS, truth, strict=True)),
        crs=grid.crs,
        transform=grid.affine,
        nodata=None,
        time=dt.datetime(2018, 9, 1, tzinfo=dt.UTC),
    )
