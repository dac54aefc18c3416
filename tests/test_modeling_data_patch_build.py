"""modeling/data/patch_build.py and patch_truth.py: truth is what the polygons say, and patches are cut where they are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import geopandas
import numpy as np
import numpy.typing as npt
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling.data.patch_build import Cut, NoImagery, build_patches
from modeling.data.patch_split import Split
from modeling.data.patch_store import About
from modeling.data.patch_truth import Inventory, read_inventory
from modeling.errors import DataError
from modeling.rasters.raster import RasterGrid, SlicesYX

CRS = "EPSG:32653"
GRID = RasterGrid(CRS, (10.0, 0.0, 300_000.0, 0.0, -10.0, 4_150_000.0), (200, 260))
ABOUT = About(source="made", licence="CC0-1.0", command="", split="")
NOBODY = np.empty(0, object)
SMALL = Cut(patch_px=16, split=Split(distance_px=16))

NOTO = {
    "hokai_all_20240106_suzu-wajimaEAST": ("IdentifyArea_20240106_suzu-wajimaEAST", "cloud_poly_20240106_suzu-wajimaEAST-Re"),
    "hokai_all_20240115_wajimaCENTRAL_Re2": ("IdentifyArea_20240106_wajimaCENTRAL", "cloud_poly_20240115_wajimaCENTRAL_Re2"),
    "hokai_all_20240112_wajimaWEST": ("IdentifyArea_20240112_wajimaWEST", "cloud_poly_20240112_wajimaWEST"),
    "hokai_all_20240118_anamizu": ("IdentifyArea_20240106_anamizu", "cloud_poly_20240106_anamizu"),
    "hokai_all_20240118_nanao": ("IdentifyArea_20240109_nanao", "cloud_20240109_nanao"),
}  # fmt: skip
"""The latest map of each part of the peninsula, what was looked at there, and what lay under cloud."""


def box(top: int, left: int, bottom: int, right: int) -> shapely.Polygon:
    """A rectangle in pixels of `GRID`."""
    return shapely.box(300_000 + 10 * left, 4_150_000 - 10 * bottom, 300_000 + 10 * right, 4_150_000 - 10 * top)


def scattered(seed: int = 0, count: int = 60) -> npt.NDArray[np.object_]:
    rng = np.random.default_rng(seed)
    corners = rng.integers((0, 0), (190, 250), (count, 2))
    return np.array(
        [
            box(y, x, y + int(h), x + int(w))
            for (y, x), (h, w) in zip(corners, rng.integers(2, 9, (count, 2)), strict=True)
        ]
    )


@dataclass(frozen=True)
class Ramp:
    """A source whose layers say where they are; the west is unknown."""

    grid: RasterGrid = GRID
    layer_names: tuple[str, ...] = ("row", "column")

    def read(
        self, where: SlicesYX, wanted: Sequence[str]
    ) -> tuple[Mapping[str, npt.NDArray[np.float32]], npt.NDArray[np.bool_]]:
        rows, columns = np.mgrid[where].astype(np.float32)
        unknown = columns < 40
        both = {"row": np.where(unknown, np.float32(np.nan), rows), "column": columns}
        return {name: both[name] for name in wanted}, ~unknown


@given(
    boxes=st.lists(st.tuples(*[st.integers(0, 199)] * 2, *[st.integers(1, 40)] * 2), max_size=5),
    hidden=st.tuples(*[st.integers(0, 150)] * 2),
    seen=st.tuples(*[st.integers(0, 60)] * 2),
    cut=st.tuples(st.integers(1, 199), st.integers(1, 259)),
)
@settings(max_examples=40, deadline=None)
def test_truth_of_windows_is_the_truth_of_the_whole(
    boxes: list[tuple[int, int, int, int]], hidden: tuple[int, int], seen: tuple[int, int], cut: tuple[int, int]
) -> None:
    slides = [box(y, x, y + height, x + width) for y, x, height, width in boxes]
    inventory = Inventory(
        CRS,
        np.array(slides, object),
        np.array([box(*seen, 180, 240)]),
        np.array([box(*hidden, hidden[0] + 20, hidden[1] + 30)]),
    )
    expected = np.zeros(GRID.shape_yx, np.uint8)
    for y, x, height, width in boxes:
        expected[y : y + height, x : x + width] = 1
    outside = np.ones(GRID.shape_yx, bool)
    outside[seen[0] : 180, seen[1] : 240] = False
    expected[outside] = 255
    expected[hidden[0] : hidden[0] + 20, hidden[1] : hidden[1] + 30] = 255
    windows = [
        [inventory.truth(GRID, (rows, columns)) for columns in (slice(0, cut[1]), slice(cut[1], 260))]
        for rows in (slice(0, cut[0]), slice(cut[0], 200))
    ]
    np.testing.assert_array_equal(np.block(windows), expected)


def test_patches_hold_what_the_source_and_the_inventory_say(tmp_path: Path) -> None:
    inventory = Inventory(CRS, scattered(), np.array([box(0, 0, 180, 260)]), np.array([box(30, 60, 50, 120)]))
    made = build_patches(tmp_path / "a.zarr", Ramp(), inventory, ABOUT, domain="made", cut=SMALL)
    whole = inventory.truth(GRID, (slice(0, 200), slice(0, 260)))
    whole[:, :40] = 255
    for index in range(len(made)):
        x, y = (round(float(made.numbers[name][index])) for name in ("x", "y"))
        top, left = (4_150_000 - y) // 10, (x - 300_000) // 10
        assert made.names[index] == f"made/y{top}x{left}"
        layers, truth = made.read(index)
        np.testing.assert_array_equal(truth, whole[top : top + 16, left : left + 16])
        np.testing.assert_array_equal(layers["column"][0], np.arange(left, left + 16))
        assert np.isnan(layers["row"][truth == 255]).any() == (left < 40)
        assert (truth != 255).mean() >= 0.5
        assert made.pixel_m2(index) == 100
    counts = made.counts()
    for part in ("training", "validation"):
        with_, without = counts["made", part]
        assert with_ == without > 3
    assert made.about.distance_px is not None
    assert made.about.distance_px >= 16
    assert "7:3" in made.about.split
    made.verify()


def test_the_same_call_gives_the_same_data_set(tmp_path: Path) -> None:
    inventory = Inventory(CRS, scattered(), NOBODY, NOBODY)
    one, other = (build_patches(tmp_path / name, Ramp(), inventory, ABOUT, domain="made", cut=SMALL) for name in "ab")
    assert one.sha256 == other.sha256
    assert one.landslide_px.sum() > 0


def test_an_inventory_of_another_system_is_brought_to_the_grid(tmp_path: Path) -> None:
    frame = geopandas.GeoDataFrame(geometry=scattered(), crs=CRS)
    frame.to_crs("EPSG:6668").to_file(tmp_path / "degrees.fgb", driver="FlatGeobuf")
    read = read_inventory([tmp_path / "degrees.fgb"]).in_system(CRS)
    own = Inventory(CRS, scattered(), NOBODY, NOBODY)
    everything = slice(0, 200), slice(0, 260)
    assert (read.truth(GRID, everything) == own.truth(GRID, everything)).mean() > 0.999


@pytest.mark.parametrize("name", ["a.gpkg", "a.geojson", "a.shp", "a.fgb", "a.parquet"])
def test_any_vector_format_is_read(tmp_path: Path, name: str) -> None:
    frame = geopandas.GeoDataFrame({"id": [1, 2]}, geometry=[box(0, 0, 5, 5), box(9, 9, 12, 12)], crs=CRS)
    if name.endswith("parquet"):
        frame.to_parquet(tmp_path / name)
    else:
        frame.to_crs("EPSG:4326").to_file(tmp_path / name)
    assert len(read_inventory([tmp_path / name]).landslides) == 2


def test_broken_rings_are_mended(tmp_path: Path) -> None:
    bow = shapely.Polygon([(300_000, 4_149_900), (300_100, 4_149_800), (300_100, 4_149_900), (300_000, 4_149_800)])
    geopandas.GeoDataFrame(geometry=[bow], crs=CRS).to_file(tmp_path / "bow.gpkg")
    inventory = read_inventory([tmp_path / "bow.gpkg"])
    assert 0 < (inventory.truth(GRID, (slice(0, 30), slice(0, 30))) == 1).sum() < 100
    (note,) = inventory.notes
    assert note.startswith("bow.gpkg: 1 of 1 polygons were mended (the first: Self-intersection")
    assert inventory.in_system("EPSG:4326").notes == inventory.notes


def classed(path: Path, values: list[object], name: str = "class") -> Path:
    """Squares side by side with a property."""
    boxes = [box(10 * k, 0, 10 * k + 5, 5) for k in range(len(values))]
    geopandas.GeoDataFrame({name: values}, geometry=boxes, crs=CRS).to_file(path)
    return path


@pytest.mark.parametrize(
    ("values", "name", "left"),
    [
        (["landslide", "not-landslide", "Not Landslide"], "class", 1),
        (["yes", "no", "yes"], "Label", 2),
        ([1, 0, 0], "label", 1),
        (["slide", "flow", "other"], "class", 3),  # kinds of landslides
        (["slide", None, "other"], "class", 3),
        (["landslide", None, "landslide"], "class", 3),
        ([1, 0, 2], "label", 3),  # a number of something else
        (["not-landslide", "landslide", "x"], "remark", 3),
    ],
)
@pytest.mark.parametrize("ending", ["gpkg", "geojson", "parquet"])
def test_what_is_drawn_as_no_landslide_is_none(
    tmp_path: Path, values: list[object], name: str, left: int, ending: str
) -> None:
    path = classed(tmp_path / "drawn.gpkg", values, name)
    if ending != "gpkg":
        frame = geopandas.read_file(path)
        path = tmp_path / f"drawn.{ending}"
        frame.to_parquet(path) if ending == "parquet" else frame.to_crs("EPSG:4326").to_file(path)
    inventory = read_inventory([path], extents=[path])
    assert (len(inventory.landslides), len(inventory.extents)) == (left, 3), "only landslides have a class"
    told = [note for note in inventory.notes if f"{3 - left} of 3 polygons have the class" in note]
    assert len(told) == (left < 3)


def test_a_class_that_is_half_said_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'class' says that some polygons are no landslide, but of others 'flow'"):
        read_inventory([classed(tmp_path / "a.gpkg", ["not-landslide", "landslide", "flow"])])
    with pytest.raises(DataError, match=r"some polygons are no landslide, but of others nothing"):
        read_inventory([classed(tmp_path / "b.gpkg", ["not-landslide", None])])
    with pytest.raises(DataError, match=r"holds no landslide: its property 'class' says that all 2 polygons are none"):
        read_inventory([classed(tmp_path / "c.gpkg", ["not-landslide", "background"])])


def lines(path: Path) -> None:
    geopandas.GeoDataFrame(geometry=[shapely.LineString([(0, 0), (1, 1)])], crs=CRS).to_file(path)


def no_system(path: Path) -> None:
    geopandas.GeoDataFrame(geometry=[box(0, 0, 1, 1)]).to_file(path)


def empty(path: Path) -> None:
    geopandas.GeoDataFrame(geometry=[], crs=CRS).to_file(path)


def garbage(path: Path) -> None:
    path.write_bytes(b"\0" * 100)


def missing(path: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lines, r"bad.gpkg holds LineString \(1 of 1\)"),
        (no_system, "bad.gpkg has no coordinate system"),
        (empty, "bad.gpkg holds no polygon"),
        (garbage, "bad.gpkg is no file of polygons"),
        (missing, "bad.gpkg: there is no such file"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_bad_inventories_are_named(tmp_path: Path, make: object, said: str) -> None:
    make(tmp_path / "bad.gpkg")
    with pytest.raises(DataError, match=said):
        read_inventory([tmp_path / "bad.gpkg"])


def test_a_layer_of_a_file_with_several_is_named_after_a_colon(tmp_path: Path) -> None:
    path = tmp_path / "both.gpkg"
    for name, count in (("scars", 2), ("deposits", 1)):
        shapes = [box(10 * k, 0, 10 * k + 5, 5) for k in range(count)]
        geopandas.GeoDataFrame(geometry=shapes, crs=CRS).to_file(path, layer=name)
    assert len(read_inventory([Path(f"{path}:scars")], extents=[Path(f"{path}:deposits")]).landslides) == 2
    with pytest.raises(
        DataError, match=r"both.gpkg has 2 layers \(scars, deposits\): name one, such as .*both.gpkg:scars"
    ):
        read_inventory([path])
    with pytest.raises(DataError, match=r"both.gpkg has no layer 'scar': it has scars, deposits"):
        read_inventory([Path(f"{path}:scar")])
    with pytest.raises(DataError, match=r"none.gpkg:scars: there is no such file"):
        read_inventory([tmp_path / "none.gpkg:scars"])
    with_colon = path.rename(tmp_path / "a:b.gpkg")
    assert len(read_inventory([Path(f"{with_colon}:deposits")]).landslides) == 1


def test_what_gives_no_patch_is_refused(tmp_path: Path) -> None:
    far = Inventory(CRS, np.array([box(5000, 5000, 5010, 5010)]), NOBODY, NOBODY)
    with pytest.raises(DataError, match="no landslide of the inventory lies in it"):
        build_patches(tmp_path / "a.zarr", Ramp(), far, ABOUT, domain="made", cut=SMALL)
    unseen = Inventory(CRS, np.array([box(10, 10, 20, 20)]), NOBODY, NOBODY)
    with pytest.raises(DataError, match="too little is known where landslides are"):
        build_patches(tmp_path / "a.zarr", Ramp(), unseen, ABOUT, domain="made", cut=SMALL)
    with pytest.raises(DataError, match="patches of 512 pixels do not fit"):
        build_patches(tmp_path / "a.zarr", Ramp(), unseen, ABOUT, domain="made", cut=Cut(patch_px=512))
    with pytest.raises(DataError, match="patches of 4 pixels"):
        Cut(patch_px=4)
    assert list(tmp_path.iterdir()) == []


def test_noto_2024_as_an_inventory(shared_data: Path, tmp_path: Path) -> None:
    """2,334 polygons of five maps; without imagery, so patches hold truth and geolocation only."""
    folder = shared_data / "noto2024"
    extents, clouds = ([folder / f"{pair[index]}.fgb" for pair in NOTO.values()] for index in (0, 1))
    inventory = read_inventory([folder / f"{name}.fgb" for name in NOTO], extents=extents, ignored=clouds)
    assert len(inventory.landslides) == 2334
    grid = inventory.covering_grid(20.0)  # coarser than the 10 m of the command, to be quick
    assert grid.crs == "EPSG:32653"
    made = build_patches(
        tmp_path / "noto.zarr", NoImagery(grid), inventory, ABOUT, domain="noto", cut=Cut(patch_px=44)
    )  # fmt: skip
    assert made.layers == ()
    moved = inventory.in_system(grid.crs)
    mapped = shapely.area(moved.landslides).sum() / 1e6
    assert mapped == pytest.approx(8.85, abs=0.05)
    # A patch that is left out, and what lies under cloud, is all that may be missing.
    assert 0.7 * mapped < made.landslide_px.sum() * 400 / 1e6 < 1.02 * mapped
    (train_with, train_without), (valid_with, valid_without) = made.counts().values()
    assert (train_with, valid_with) == (train_without, valid_without)
    assert train_with / (train_with + valid_with) == pytest.approx(0.7, abs=0.04)
    assert train_with > 400
    assert made.about.distance_px == 44
    hidden = shapely.union_all(moved.ignored)
    seen = shapely.union_all(moved.extents)
    for index in range(0, len(made), 100):
        x, y = float(made.numbers["x"][index]), float(made.numbers["y"][index])
        truth = made.truth(index)
        rows, columns = np.indices(truth.shape)
        points = shapely.points(x + 20 * (columns + 0.5), y - 20 * (rows + 0.5))
        counts = shapely.contains(seen, points) & ~shapely.contains(hidden, points)
        assert ((truth != 255) == counts).mean() > 0.999
    assert not math.isnan(made.pixel_m2(0))
