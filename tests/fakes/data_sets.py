"""Tiny patch data sets and the folders that are imported, made from nothing."""

from __future__ import annotations

import warnings
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.errors import NotGeoreferencedWarning

from modeling.data.dataset import STORED_LAYERS
from modeling.data.patch_store import About, Patch, writing
from modeling.data.patches import PatchSet, open_patches

ABOUT = About(source="made for a test", licence="CC0-1.0", command="", split="by hand", distance_px=16.0)


def toy_patch(index: int, side: int, layers: tuple[str, ...] = STORED_LAYERS) -> tuple[np.ndarray, np.ndarray]:
    """Layers and truth of one patch: a bright square in the images after, in patches of even numbers."""
    rng = np.random.default_rng(index)
    truth = np.zeros((side, side), np.uint8)
    if index % 2 == 0:
        truth[2 : side // 2, 3 : side // 2] = 1
    truth[0] = 255
    stack = rng.normal(0.1, 0.01, (len(layers), side, side)).astype(np.float32)
    for number, name in enumerate(layers):
        if name.endswith("_post"):
            stack[number] += 0.2 * (truth == 1)
        if name in {"slope", "hillshade"}:
            stack[number] *= 200
    stack[:, 0, :5] = np.nan
    return stack, truth


def toy_set(
    path: Path, *, count: int = 12, side: int = 16, layers: tuple[str, ...] = STORED_LAYERS,
    domains: tuple[str, ...] = ("here", "there"),
) -> PatchSet:  # fmt: skip
    """Half training, a quarter validation, a quarter test; domains by turns of two."""
    with writing(path, layers, side, ABOUT) as writer:
        for index in range(count):
            stack, truth = toy_patch(index, side, layers)
            part = 0 if index < count // 2 else 1 if index < 3 * count // 4 else 2
            domain = domains[index // 2 % len(domains)]
            writer.append(
                Patch(
                    stack, truth, f"patch {index}", domain, part, place=index, crs="EPSG:32654",
                    x=500_000.0 + 160 * index, y=4_700_000.0, pixel=10.0,
                )
            )  # fmt: skip
    return open_patches(path)


def picture(path: Path, values: npt.NDArray[np.generic], **profile: object) -> Path:
    """Write (y, x) or (band, y, x) as the picture that the ending says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = values if values.ndim == 3 else values[None]
    driver = {".png": "PNG", ".tif": "GTiff", ".jpg": "JPEG"}[path.suffix]
    about = {"driver": driver, "count": len(bands), "height": bands.shape[1], "width": bands.shape[2]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", dtype=bands.dtype.name, **about, **profile) as file:
            file.write(bands)
    return path


def landslide4sense(folder: Path, *, train: int = 6, valid: int = 0, side: int = 32) -> Path:
    """`TrainData/img/image_1.h5` with `img` (y, x, 14) and `TrainData/mask/mask_1.h5` with `mask` (y, x)."""
    rng = np.random.default_rng(0)
    for part, count in (("TrainData", train), ("ValidData", valid)):
        for number in range(1, count + 1):
            truth = np.zeros((side, side), np.uint8)
            truth[10:20, 10:30] = number % 2
            for path, key, values in (
                (folder / part / "img" / f"image_{number}.h5", "img", rng.normal(1, 0.3, (side, side, 14))),
                (folder / part / "mask" / f"mask_{number}.h5", "mask", truth),
            ):
                path.parent.mkdir(parents=True, exist_ok=True)
                with h5py.File(path, "w") as file:
                    file[key] = values
    return folder


def hr_gldd(folder: Path, *, side: int = 32, counts: tuple[int, ...] = (4, 2, 2)) -> Path:
    """`trainX.npy` (n, y, x, 4) and `trainY.npy` (n, y, x, 1), likewise val and test."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for part, count in zip(("train", "val", "test"), counts, strict=True):
        labels = np.zeros((count, side, side, 1), np.float64)
        labels[::2, 5:30, 5:30] = 1
        np.save(folder / f"{part}X.npy", rng.random((count, side, side, 4)).astype(np.float32))
        np.save(folder / f"{part}Y.npy", labels)
    return folder


def bijie(folder: Path, *, count: int = 4) -> Path:
    """`landslide/image`, `landslide/mask` and `non-landslide/image`, of different sizes, masks 0 and 255."""
    rng = np.random.default_rng(0)
    for number in range(count):
        shape = 40 + number, 50
        mask = np.zeros(shape, np.uint8)
        mask[5:20, 5:20] = 255
        picture(folder / f"landslide/image/qxg{number}.png", rng.integers(0, 255, (3, *shape), np.uint8))
        picture(folder / f"landslide/mask/qxg{number}.png", mask)
        picture(folder / f"non-landslide/image/df{number}.png", rng.integers(0, 255, (3, *shape), np.uint8))
    return folder


def gvlm(folder: Path, *, sites: tuple[str, ...] = ("Kodagu", "Lombok"), side: int = 256) -> Path:
    """Sites with `im1.png`, `im2.png` and `ref.png`, larger than a patch."""
    rng = np.random.default_rng(0)
    for site in sites:
        truth = np.zeros((side, side), np.uint8)
        truth[::64, :40] = 255
        for name in ("im1", "im2"):
            picture(folder / site / f"{name}.png", rng.integers(0, 255, (3, side, side), np.uint8))
        picture(folder / site / "ref.png", np.stack([truth] * 3))
    return folder


def cas(folder: Path, *, across: int = 4, side: int = 32) -> Path:
    """`Moxi/img` and `Moxi/mask` of georeferenced TIFFs side by side."""
    rng = np.random.default_rng(0)
    for number in range(across * across):
        row, column = divmod(number, across)
        at = rasterio.Affine(5, 0, 600_000 + 5 * side * column, 0, -5, 3_300_000 - 5 * side * row)
        where = {"crs": "EPSG:32648", "transform": at}
        mask = np.zeros((side, side), np.uint8)
        mask[:9, :9] = (row + column) % 2
        picture(folder / f"Moxi/img/m{number:03}.tif", rng.integers(0, 255, (3, side, side), np.uint8), **where)
        picture(folder / f"Moxi/mask/m{number:03}.tif", mask, **where)
    return folder
