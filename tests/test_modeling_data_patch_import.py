"""modeling/data/patch_import.py: other people's data sets come in whole, and what is wrong with them is told with the file."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from fakes.data_sets import bijie, cas, gvlm, hr_gldd, landslide4sense, picture

from modeling.data.patch_import import import_patches
from modeling.data.patch_pictures import read_picture
from modeling.data.patch_split import Split
from modeling.data.patches import PatchSet
from modeling.errors import DataError


def imported(folder: Path, tmp_path: Path, **named: object) -> PatchSet:
    return import_patches(tmp_path / "out.zarr", folder, **named)


def parts(made: PatchSet) -> list[int]:
    return np.bincount(made.part_of, minlength=3).tolist()


def test_landslide4sense(tmp_path: Path) -> None:
    folder = landslide4sense(tmp_path / "l4s", train=10, side=128)
    made = imported(folder, tmp_path, licence="see its authors")
    assert made.layers == tuple(f"B{number}" for number in range(1, 15))
    assert (len(made), made.patch_px, made.domains) == (10, 128, ("landslide4sense",))
    assert sum(parts(made)) == 10
    assert parts(made)[1] in (2, 3, 4)
    assert made.about.licence == "see its authors"
    assert made.about.distance_px is None, "nobody says which patches lie beside each other"
    index = made.names.index("TrainData/img/image_3")
    with h5py.File(folder / "TrainData/img/image_3.h5") as file:
        np.testing.assert_allclose(made.read(index)[0]["B4"], file["img"][:, :, 3], rtol=1e-6)
    assert made.landslide_px[index] == 200


def test_parts_that_folders_name_are_kept(tmp_path: Path) -> None:
    made = imported(landslide4sense(tmp_path / "l4s", train=4, valid=2), tmp_path)
    assert parts(made) == [4, 2, 0]
    assert all(made.names[index].startswith("ValidData") for index in made.select("validation"))


def test_a_part_without_masks_is_left_out_and_said(tmp_path: Path) -> None:
    folder = landslide4sense(tmp_path / "l4s", train=4, valid=2)
    for mask in (folder / "ValidData/mask").iterdir():
        mask.unlink()
    (folder / "ValidData/mask").rmdir()
    made = imported(folder, tmp_path)
    assert len(made) == 4
    assert "ValidData has no masks" in made.about.source


def test_hr_gldd(tmp_path: Path) -> None:
    made = imported(hr_gldd(tmp_path / "gldd"), tmp_path)
    assert (parts(made), made.patch_px, len(made.layers)) == ([4, 2, 2], 32, 4)
    x = np.load(tmp_path / "gldd" / "valX.npy")
    np.testing.assert_array_equal(made.read(made.names.index("val/1"))[0][made.layers[2]], x[1, :, :, 2])


def test_bijie_pads_to_its_patches_and_knows_where_nothing_slid(tmp_path: Path) -> None:
    made = imported(bijie(tmp_path / "Bijie"), tmp_path, patch_px=64)
    assert made.layers == ("red_dn_post", "green_dn_post", "blue_dn_post")
    assert made.positive.sum() == 4
    assert (~made.positive).sum() == 4
    index = made.names.index("landslide/image/qxg1/y0x0")
    layers, truth = made.read(index)
    assert (truth[41:] == 255).all()
    assert (truth[:, 50:] == 255).all()
    assert np.isnan(layers["red_dn_post"][41:]).all()
    assert (truth == 1).sum() == 225
    assert made.domains == ("Bijie",)
    assert made.stored_layers is not None
    assert made.stored_layers.dtype == np.float16


def test_gvlm_sites_are_cut_and_their_parts_keep_apart(tmp_path: Path) -> None:
    made = imported(gvlm(tmp_path / "gvlm"), tmp_path, patch_px=32, split=Split((7, 3), distance_px=32))
    assert made.layers[0] == "red_dn_pre"
    assert made.layers[3] == "red_dn_post"
    assert made.domains == ("Kodagu", "Lombok")
    assert min(parts(made)[:2]) > 10
    assert len(made) < 128, "patches between the parts are left out"


def test_georeferenced_pictures_are_split_by_space(tmp_path: Path) -> None:
    made = imported(cas(tmp_path / "cas", across=8), tmp_path, split=Split((7, 3), distance_px=20))
    assert made.systems == ("EPSG:32648",)
    assert made.about.distance_px == 32, "the next ones are one patch away"
    assert made.pixel_m2(0) == 25
    corners = np.column_stack([made.numbers["x"], made.numbers["y"]]) / 5
    gaps = np.abs(corners[made.select("training")][:, None] - corners[made.select("validation")][None]).max(-1)
    assert gaps.min() - 32 == 32


def nan_label(folder: Path) -> None:
    labels = np.load(folder / "trainY.npy")
    labels[2, 3, 4] = np.nan
    np.save(folder / "trainY.npy", labels)


def odd_label(folder: Path) -> None:
    labels = np.load(folder / "trainY.npy")
    labels[2, 3, 4] = 2
    np.save(folder / "trainY.npy", labels)


def fewer_labels(folder: Path) -> None:
    np.save(folder / "trainY.npy", np.load(folder / "trainY.npy")[:-1])


def other_shape(folder: Path) -> None:
    np.save(folder / "trainY.npy", np.load(folder / "trainY.npy")[:, :-1])


def no_labels(folder: Path) -> None:
    (folder / "trainY.npy").unlink()


def pickled(folder: Path) -> None:
    np.save(folder / "trainY.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)


def cut_short(folder: Path) -> None:
    (folder / "trainX.npy").write_bytes((folder / "trainX.npy").read_bytes()[:5000])


def huge(folder: Path) -> None:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "<f4", "fortran_order": False, "shape": (1, 10**6, 10**6, 4)})
    (folder / "trainX.npy").write_bytes(out.getvalue())


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (nan_label, r"trainY.npy: 1 labels of train/2 are NaN"),
        (odd_label, r"trainY.npy: train/2 has the label 2; labels are 0 and 1"),
        (fewer_labels, r"trainX.npy has shape \(4, 32, 32, 4\) and trainY.npy \(3, 32, 32, 1\)"),
        (other_shape, r"trainY.npy \(4, 31, 32, 1\)"),
        (no_labels, r"trainX.npy has no labels beside it: trainY.npy is missing"),
        (pickled, r"trainY.npy is not an array that can be read"),
        (cut_short, r"trainX.npy is not an array that can be read"),
        (huge, r"trainX.npy (declares|is not an array)"),
    ],
)
def test_bad_arrays_are_named(tmp_path: Path, damage: Callable[[Path], None], said: str) -> None:
    folder = hr_gldd(tmp_path / "gldd")
    damage(folder)
    with pytest.raises(DataError, match=said):
        imported(folder, tmp_path)
    assert not (tmp_path / "out.zarr").exists()


def rewritten(path: Path, values: np.ndarray, key: str) -> None:
    with h5py.File(path, "w") as file:
        file[key] = values


def lost_mask(folder: Path) -> None:
    (folder / "TrainData/mask/mask_2.h5").unlink()


def other_size(folder: Path) -> None:
    rewritten(folder / "TrainData/mask/mask_2.h5", np.zeros((16, 32), np.uint8), "mask")


def no_key(folder: Path) -> None:
    rewritten(folder / "TrainData/mask/mask_2.h5", np.zeros((32, 32), np.uint8), "labels")


def linked(folder: Path) -> None:
    with h5py.File(folder / "TrainData/mask/mask_2.h5", "w") as file:
        file["mask"] = h5py.ExternalLink(str(folder / "TrainData/mask/mask_1.h5"), "mask")


def no_hdf5(folder: Path) -> None:
    (folder / "TrainData/img/image_2.h5").write_bytes(b"not HDF5")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lost_mask, r"img has 4 images and .*mask 3 masks: 1 have no partner, such as .*image_2.h5"),
        (other_size, r"mask_2.h5 has shape \(16, 32\), but its image TrainData/img/image_2 \(32, 32\)"),
        (no_key, r"mask_2.h5 has no data set 'mask': it has labels"),
        (linked, r"mask_2.h5 has no data set 'mask'"),
        (no_hdf5, r"image_2.h5 is not HDF5"),
    ],
)
def test_bad_hdf5_is_named(tmp_path: Path, damage: Callable[[Path], None], said: str) -> None:
    folder = landslide4sense(tmp_path / "l4s", train=4)
    damage(folder)
    with pytest.raises(DataError, match=said):
        imported(folder, tmp_path)
    assert not (tmp_path / "out.zarr").exists()


def grey_mask(folder: Path) -> None:
    picture(folder / "landslide/mask/qxg1.png", np.full((41, 50), 128, np.uint8))


def coloured_mask(folder: Path) -> None:
    mask = np.zeros((3, 41, 50), np.uint8)
    mask[0, :9] = 255
    picture(folder / "landslide/mask/qxg1.png", mask)


def small_mask(folder: Path) -> None:
    picture(folder / "landslide/mask/qxg1.png", np.zeros((20, 50), np.uint8))


def extra_image(folder: Path) -> None:
    picture(folder / "landslide/image/new.png", np.zeros((3, 41, 50), np.uint8))


def no_picture(folder: Path) -> None:
    (folder / "landslide/image/qxg1.png").write_bytes(b"GIF89a")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (grey_mask, r"qxg1.png: .*has the label 128"),
        (coloured_mask, r"qxg1.png is a picture in colours, not a mask"),
        (small_mask, r"qxg1.png has shape \(20, 50\), but its image .* \(41, 50\)"),
        (extra_image, r"has 5 images and .* 4 masks: 1 have no partner, such as .*new.png"),
        (no_picture, r"qxg1.png is not a picture"),
    ],
)
def test_bad_pictures_are_named(tmp_path: Path, damage: Callable[[Path], None], said: str) -> None:
    folder = bijie(tmp_path / "Bijie")
    damage(folder)
    with pytest.raises(DataError, match=said):
        imported(folder, tmp_path, patch_px=32)
    assert not (tmp_path / "out.zarr").exists()


def test_255_is_ignored_beside_1(tmp_path: Path) -> None:
    folder = cas(tmp_path / "cas", across=4)
    mask = np.zeros((32, 32), np.uint8)
    mask[:4], mask[4:8] = 255, 1
    picture(folder / "Moxi/mask/m000.tif", mask)
    made = imported(folder, tmp_path, split=Split(distance_px=0))
    truth = made.truth(made.names.index("Moxi/img/m000"))
    assert (truth[:4] == 255).all()
    assert (truth[4:8] == 1).all()


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such folder"):
        imported(tmp_path / "none", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no data set that is known"):
        imported(tmp_path / "empty", tmp_path)
    with pytest.raises(DataError, match="unknown kind 'l4s'"):
        imported(tmp_path / "empty", tmp_path, kind="l4s")


def test_what_a_picture_does_not_show_does_not_count(tmp_path: Path) -> None:
    folder = bijie(tmp_path / "Bijie", count=6)
    for path in folder.rglob("image/*.png"):
        colours = read_picture(path)
        alpha = np.full((1, *colours.shape[1:]), 255, np.uint8)
        alpha[:, :10] = 0
        picture(path, np.concatenate([colours, alpha]))
    made = imported(folder, tmp_path, patch_px=32)
    index = made.names.index("landslide/image/qxg1/y0x0")
    layers, truth = made.read(index)
    assert made.layers == ("red_dn_post", "green_dn_post", "blue_dn_post")
    assert (truth[:10] == 255).all()
    assert np.isnan(layers["red_dn_post"][:10]).all()
    assert np.isfinite(layers["red_dn_post"][10:]).all()
