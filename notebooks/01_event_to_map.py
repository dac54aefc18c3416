# ---
# jupyter:
#   jupytext:
#     cell_markers: '"""'
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
"""
# From an earthquake to its landslide map

This notebook opens a map that quakeslide has published. It shows

1. which versions of an event's map there are, what the newest one says and what it does not know;
2. its layers in geemap: satellite images before and after, landslides, probability, and what was not observed;
3. the same layers as files, for work without Earth Engine: a figure, the sizes of the landslides, the ten largest;
4. that both ways give the same values.

**Before you start.** The settings decide which services are used, nothing in this notebook does:

- To look at the result of `quakeslide demo --out demo`, start the notebook with `QUAKESLIDE_LOCAL__HOME=demo/.standins`
  in the environment. Everything runs on your machine, and the earthquake is a simulated one.
- For the real services set `QUAKESLIDE_EARTHENGINE__PROJECT` and `QUAKESLIDE_STORAGE__BUCKET`, or put them into
  `quakeslide.toml`. Log in with `earthengine authenticate` and `gcloud auth application-default login`, and set
  `GOOGLE_APPLICATION_CREDENTIALS` to the file that the latter has written: GDAL, which reads the rasters, needs it.

The environment variable `EVENT_ID` chooses the event. Without it the event that was published last is opened.

JupyterLab with jupytext opens this file as a notebook (`jupytext --to ipynb` makes an ordinary one). It also runs as a
plain script, which prints the tables and leaves out the map.
"""

# %%
from __future__ import annotations

import atexit
import io
import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import ee
import geemap
import geopandas
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pystac
import rasterio
import shapely
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from rasterio.enums import Resampling
from rasterio.warp import transform
from rasterio.windows import Window

from flows.errors import FlowError
from flows.facts import ReportFacts
from flows.layout import EventLayout
from flows.observed_colours import CODE_COLOURS
from flows.publish import read_versions
from flows.services import services
from flows.settings import load_settings
from flows.storage import Store
from flows.wording import caveats, headline, unknown
from gee.errors import CubeError
from gee.pixels import fetch_pixels
from gee.scenecube import SceneCube, open_cube
from gee.sentinel2 import NODATA
from gee.session import open_session
from gee.store import filesystem
from gee.types import OBSERVED_LABELS, PHASES, Grid, Observed, Tile
from modeling.simulate.landslides import inverse_gamma_cdf

# %%
# Local stand-ins are used when no Earth Engine project is set; those started here end with the notebook.
keep_open = ExitStack()
atexit.register(keep_open.close)
settings = keep_open.enter_context(services(load_settings(), None, prefect=False))

session = open_session(settings.earthengine.url, settings.earthengine.project)
bucket, endpoint = f"gs://{settings.storage.bucket}", settings.storage.endpoint
store = Store(bucket, endpoint)
files, root = filesystem(bucket, endpoint)
pd.set_option("display.width", 160, "display.max_columns", None)

# %% [markdown]
"""
## 1. The published version

An event can be mapped again and again as clear scenes arrive. Every map is a version that never changes afterwards;
`versions.json` lists them.
"""


# %%
def newest_event() -> str:
    """The event whose newest version was published last."""
    folders = files.ls(f"{root}/events", detail=False) if files.isdir(f"{root}/events") else []
    latest = {}
    for event_id in (path.rstrip("/").rpartition("/")[2] for path in folders):
        if published := read_versions(store, EventLayout(bucket, event_id)):
            latest[event_id] = published[-1].published
    if not latest:
        raise FlowError(
            f"no map is published in {bucket}: run `quakeslide map EVENT_ID` first, or choose another bucket"
        )
    return max(latest, key=latest.__getitem__)


event_id = os.environ.get("EVENT_ID") or newest_event()
versions = read_versions(store, EventLayout(bucket, event_id))
if not versions:
    raise FlowError(f"no map of event {event_id} is published in {bucket}: check EVENT_ID")
version = versions[-1]
display(pd.DataFrame([{"version": v.version, "published": v.published, "run": v.run_key} for v in versions]))

# %% [markdown]
"""
Each version has a STAC item, which says where everything comes from: scenes, elevation model, network, settings. Its
facts are what the report says. Read the second sentence as carefully as the first: ground that was not seen is not
ground without landslides.
"""

# %%
item = pystac.Item.from_dict(json.loads(store.read_bytes(version.item_uri)))
facts = ReportFacts.from_json(store.read_bytes(version.assets["facts"]).decode())
print(f"{item.properties['title']}, version {version.version}")
print(headline(facts))
print(unknown(facts))
for caveat in caveats(facts):
    print(f"- {caveat.title}: {caveat.text}")

# %% [markdown]
"""
## 2. The layers in Earth Engine

The results are Earth Engine assets. The images before and after are no assets: the cube that the network has read keeps
the Earth Engine expression it was made from, and that expression is evaluated again here. It masks clouds, takes the
median of the clear pixels before the event, and the earliest clear pixel after it.
"""


# %%
def cube_with(cube_hash: str) -> SceneCube:
    """The cube of the event that has this hash: the one this version was made from."""
    for path in files.ls(f"{root}/events/{event_id}/cubes", detail=False):
        if path.rstrip("/").endswith(".zarr"):
            try:
                cube = open_cube(f"gs://{path.rstrip('/')}", endpoint)
            except CubeError:  # another run is still pulling it
                continue
            if cube.cube_hash == cube_hash:
                return cube
    raise FlowError(f"the cube {cube_hash} of version {version.version} is no longer in {bucket}")


cube = cube_with(item.properties["quakeslide:cube_hash"])
grid = cube.grid
assets = item.properties["quakeslide:earth_engine_assets"]
expression = json.loads(cube.plan.expression)

composite = ee.Image(ee.deserializer.decodeCloudApi(expression))
probability, mask, observed = (ee.Image(assets[name]) for name in ("probability", "mask", "observed"))
landslides = ee.FeatureCollection(assets.get("landslides", []))  # where none was found there is no table

# %% [markdown]
"""
A coarse copy of both images serves two ends: a figure that needs no browser, and a common contrast. Before and after
are shown with the same contrast, so that a difference in the picture is a difference on the ground.
"""


# %%
def coarse(fine: Grid, longest_px: int) -> Grid:
    """The same area in larger pixels, at most `longest_px` a side."""
    step = max(1, -(-max(fine.shape_yx) // longest_px))
    a, b, c, d, e, f = fine.transform
    height, width = (-(-side // step) for side in fine.shape_yx)
    return Grid(fine.crs, (a * step, b, c, d, e * step, f), (height, width))


RGB = ("red", "green", "blue")
overview = coarse(grid, 600)
wanted = [f"{colour}_{phase}" for phase in PHASES for colour in RGB]
pixels = fetch_pixels(session, expression, overview, dict.fromkeys(wanted, "int16"))
rgb = {phase: np.stack([pixels[f"{colour}_{phase}"] for colour in RGB], axis=-1) for phase in PHASES}  # (y, x, 3) DN

clear = np.concatenate([values[(values != NODATA).all(axis=-1)] for values in rgb.values()])
dark, bright = np.percentile(clear, (1, 99), axis=0) if len(clear) else (np.zeros(3), np.full(3, 3000))
dark = 0.75 * dark  # haze lifts the dark end; taking off all of it would turn forest grey
contrast = {"min": dark.tolist(), "max": (dark + max(1, (bright - dark).max())).tolist(), "gamma": 1.25}


def natural_colour(dn: np.ndarray) -> np.ndarray:
    """DN (y, x, 3) as the map shows them: RGBA (y, x, 4) in 0 to 1, transparent where nothing clear was seen."""
    low, high = np.array(contrast["min"]), np.array(contrast["max"])
    colours = np.clip((dn - low) / (high - low), 0, 1) ** (1 / contrast["gamma"])
    return np.dstack([colours, (dn != NODATA).all(axis=-1)])


# %% [markdown]
"""
The map. Switch layers on and off at its top right; *probability* and *mask* are there but switched off. The yellow
outlines are the inventory, the white line bounds the mapped area. Where the map is coloured as *not observed* nothing
is known, whatever the image below shows. The background map needs the internet, the layers of a local version do not.
"""

# %%
PROBABILITY = ["#f7f3e9", "#fbd98b", "#f39c4a", "#d1495b", "#7a1f5c", "#2d0b3a"]
OUTLINE = "#ffd60a"
codes = [code for code in Observed if code != Observed.OUTSIDE]
unseen = {OBSERVED_LABELS[code]: CODE_COLOURS[code] for code in codes if code != Observed.CLEAR}


def before_or_after(phase: str) -> ee.Image:
    """The composite of a phase, masked where nothing clear was seen."""
    image = composite.select([f"{colour}_{phase}" for colour in RGB])
    return image.updateMask(composite.select(f"observed_{phase}").eq(int(Observed.CLEAR)))


west, south, east, north = grid.bounds
(lon,), (lat,) = transform(grid.crs, "EPSG:4326", [(west + east) / 2], [(south + north) / 2])
zoom = int(np.log2(156_543 * np.cos(np.radians(lat)) * 800 / max(east - west, north - south)))  # on some 800 pixels
area = ee.FeatureCollection(ee.Geometry(item.geometry))

m = geemap.Map(ee_initialize=False, center=[lat, lon], zoom=zoom, height="700px")
m.addLayer(before_or_after("pre"), contrast, "before")
m.addLayer(before_or_after("post"), contrast, "after")
m.addLayer(probability, {"min": 0, "max": 1, "palette": PROBABILITY}, "probability", False)
m.addLayer(mask.selfMask(), {"min": 0, "max": 1, "palette": ["ffffff", "d73027"]}, "mask", False)
m.addLayer(
    observed.updateMask(observed.neq(int(Observed.CLEAR))),
    {"min": codes[0].value, "max": codes[-1].value, "palette": [CODE_COLOURS[code] for code in codes]},
    "not observed",
)
m.addLayer(area.style(color="ffffff", fillColor="00000000", width=2), {}, "mapped area")
m.addLayer(landslides.style(color=OUTLINE, fillColor="00000000", width=2), {}, "landslides")
m.add_legend(title="Landslides", legend_dict={"landslide": OUTLINE, **unseen})
m.add_colorbar({"min": 0, "max": 1, "palette": PROBABILITY}, label="landslide probability", layer_name="probability")
m.add_layer_control()
m

# %% [markdown]
"""
## 3. The same version as files

Every layer is a cloud-optimised GeoTIFF (QGIS opens it from the bucket), and the inventory a GeoPackage, GeoJSON and
GeoParquet. Nothing below needs Earth Engine. A figure reads only as much of a raster as it shows.
"""


# %%
@contextmanager
def raster(name: str) -> Iterator[rasterio.DatasetReader]:
    """The COG of a layer; only the parts that are read travel."""
    local = {"CPL_GS_ENDPOINT": f"{endpoint}/", "GS_NO_SIGN_REQUEST": "YES"} if endpoint else {}
    with (
        rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR", **local),
        rasterio.open(version.assets[name], driver="GTiff") as source,
    ):
        yield source


def read_small(name: str, longest_px: int, resampling: Resampling) -> np.ma.MaskedArray:
    """A layer of the version, (y, x), at most `longest_px` a side; masked where it has no value."""
    with raster(name) as source:
        shape = coarse(grid, longest_px).shape_yx
        return source.read(1, out_shape=shape, resampling=resampling, masked=True)


inventory = geopandas.read_parquet(io.BytesIO(store.read_bytes(version.assets["landslides_parquet"], max_bytes=2**30)))
extent = (west, east, south, north)


def maps(titles: list[str], panel_in: float) -> tuple[Figure, list[Axes]]:
    """A figure with empty maps of the area side by side, each `panel_in` inches wide, kilometres along the edges."""
    ratio = np.clip((north - south) / (east - west), 0.3, 2.0)
    size = (panel_in * len(titles) + 1, panel_in * ratio + 1.1)
    figure, axes = plt.subplots(1, len(titles), figsize=size, sharex=True, sharey=True, layout="constrained")
    for ax, title in zip(axes, titles, strict=True):
        ax.set(title=title, xlim=(west, east), ylim=(south, north), aspect="equal", xlabel=f"easting, km ({grid.crs})")
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter(lambda metres, _: f"{metres / 1000:g}")
    axes[0].set_ylabel("northing, km")
    figure.suptitle(f"{facts.event.title}, version {version.version}")
    return figure, list(axes)


def outline(ax: Axes, colour: str, width: float) -> None:
    """Draw the inventory."""
    rings = [shapely.get_coordinates(ring) for ring in shapely.get_rings(inventory.geometry.to_numpy())]
    ax.add_collection(LineCollection(rings, colors=colour, linewidths=width), autolim=False)


# %% [markdown]
"""
**Before, after, and what was found.** Grey ground was not seen clearly on that side of the event. Landslides are mapped
inside the area of interest only, the images reach beyond it.
"""

# %%
figure_images, axes = maps(["before", "after", "after, with landslides"], 5)
wide = (west, west + overview.shape_yx[1] * overview.pixel_m, north - overview.shape_yx[0] * overview.pixel_m, north)
for ax, phase in zip(axes, ("pre", "post", "post"), strict=True):
    ax.set_facecolor("#b9bec5")
    ax.imshow(natural_colour(rgb[phase]), extent=wide, interpolation="nearest")
    ax.set(xlim=(west, east), ylim=(south, north))
outline(axes[2], OUTLINE, 0.9)
plt.show()

# %% [markdown]
"""
**Probability, and what was not observed.** Grey in the left map means that nothing is known, not that the probability is
small.
"""

# %%
figure_result, axes = maps(
    [f"probability, landslides from {facts.provenance.threshold:.2f} on", "what was observed"], 6.5
)
shown = {"extent": extent, "interpolation": "nearest"}
seen = read_small("observed", 1200, Resampling.nearest)
unseen_here = np.ma.masked_where(seen.filled(Observed.CLEAR) == Observed.CLEAR, np.ones(seen.shape))
axes[0].imshow(unseen_here, cmap=ListedColormap(["#b9bec5"]), **shown)
scale = LinearSegmentedColormap.from_list("probability", PROBABILITY)
drawn = axes[0].imshow(read_small("probability", 1200, Resampling.average), cmap=scale, vmin=0, vmax=1, **shown)
figure_result.colorbar(drawn, ax=axes[0], shrink=0.8, label="landslide probability")
outline(axes[0], "#1d2430", 0.5)
palette = ListedColormap([CODE_COLOURS[code] for code in codes])
axes[1].imshow(seen, cmap=palette, vmin=codes[0] - 0.5, vmax=codes[-1] + 0.5, **shown)
there = [Patch(color=CODE_COLOURS[code], label=OBSERVED_LABELS[code]) for code in codes if (seen == code).any()]
figure_result.legend(handles=there, loc="outside lower right", ncols=3)
plt.show()

# %% [markdown]
"""
**What was not observed**, counted pixel by pixel in the COG. A later version can fill these gaps when a clear scene
arrives.
"""

# %%
counted: Counter[int] = Counter()
with raster("observed") as source:
    for _, window in source.block_windows(1):
        values, numbers = np.unique(source.read(1, window=window), return_counts=True)
        counted.update(dict(zip(values.tolist(), numbers.tolist(), strict=True)))
pixel_km2 = grid.pixel_m**2 / 1e6
inside = sum(number for code, number in counted.items() if code != Observed.OUTSIDE)
coverage = pd.DataFrame(
    [
        {"ground": OBSERVED_LABELS[code], "km2": counted[code] * pixel_km2, "percent": 100 * counted[code] / inside}
        for code in codes
        if counted[code]
    ]
)
display(coverage.round(2))

# %% [markdown]
"""
**The ten largest landslides.** `touches_unobserved` marks those that reach the edge of what was seen: they may be larger.
"""

# %%
COLUMNS = [
    "landslide_id", "area_m2", "length_m", "width_m", "slope_mean_deg", "elevation_range_m", "probability_mean",
    "observed_post", "touches_unobserved", "centroid_lon", "centroid_lat",
]  # fmt: skip
largest = pd.DataFrame(inventory[COLUMNS]).nlargest(10, "area_m2").set_index("landslide_id")
display(largest.round({"length_m": 0, "width_m": 0, "slope_mean_deg": 1, "probability_mean": 2, "centroid_lon": 4}))

# %% [markdown]
"""
**The sizes.** Complete inventories of many earthquakes follow one curve (Malamud et al. 2004, the dashed line): most
landslides are small, and from some size on there are ever fewer. The curve is drawn for the same number of landslides.
An inventory that leaves it at the small end is missing small landslides, which 10 m pixels cannot show; one that lies
above it at the large end has often joined neighbours into one polygon.
"""

# %%
figure_sizes, ax = plt.subplots(figsize=(7.5, 4.8), layout="constrained")
if len(inventory):
    smallest, biggest = inventory["area_m2"].min(), inventory["area_m2"].max()
    edges = np.geomspace(smallest, max(1e6, 1.01 * biggest), 21)
    widths = np.diff(edges)
    density = np.histogram(inventory["area_m2"], edges)[0] / widths
    middle = np.sqrt(edges[:-1] * edges[1:])
    ax.plot(middle[density > 0], density[density > 0], "o", color="#d1495b", label="this inventory")
    share = np.diff(inverse_gamma_cdf(edges)) / widths
    ax.plot(
        middle, share * len(inventory) / (1 - inverse_gamma_cdf(np.array([smallest]))[0]), "--", color="#1d2430",
        label=f"Malamud et al. (2004), above {smallest:,.0f} m²",
    )  # fmt: skip
    ax.set(xscale="log", yscale="log", ylim=(density[density > 0].min() / 3, density.max() * 5))
    ax.legend()
ax.set(xlabel="area of a landslide, m²", ylabel="landslides per m² of size", title=f"{len(inventory)} landslides")
plt.show()

# %% [markdown]
"""
## 4. Do both ways agree?

The Earth Engine assets read the same COGs, so every value must be the same. Compared are all pixels of a window around
the largest landslide, the imagery that Earth Engine computes now with what the network was given, and the inventories.
"""


# %%
def window_at(x: float, y: float, side_px: int) -> Tile:
    """The window of at most `side_px` pixels a side around a point of the grid's CRS."""
    height, width = (min(side, side_px) for side in grid.shape_yx)
    column, row = ~grid.affine @ (x, y)
    x0 = int(np.clip(column - width / 2, 0, grid.shape_yx[1] - width))
    y0 = int(np.clip(row - height / 2, 0, grid.shape_yx[0] - height))
    return Tile(0, 0, y0, x0, (height, width))


spot = inventory.geometry.iloc[0].centroid if len(inventory) else None
tile = window_at(spot.x, spot.y, 192) if spot is not None else window_at((west + east) / 2, (south + north) / 2, 192)
UNSEEN = {"probability": -1, "mask": 255, "observed": 255}  # pixels without a value travel as these

stacked = ee.Image.cat(
    probability.unmask(UNSEEN["probability"]).toFloat(),
    mask.unmask(UNSEEN["mask"]).toUint8(),
    observed.unmask(UNSEEN["observed"]).toUint8(),
)
types = {"probability": "float32", "mask": "uint8", "observed": "uint8"}
from_earth_engine = fetch_pixels(session, ee.serializer.encode(stacked, for_cloud_api=True), grid.window(tile), types)
from_cogs = {}
for name in types:
    with raster(name) as source:
        window = Window.from_slices(*tile.slices_yx)
        from_cogs[name] = source.read(1, window=window, masked=True).filled(UNSEEN[name])

layers = {layer.name: layer for layer in cube.plan.layers}
computed = fetch_pixels(session, expression, grid.window(tile), dict.fromkeys(layers, "int16"))
stored = cube.read_tile(*tile.slices_yx).layers
for name, layer in layers.items():
    from_earth_engine[name] = np.where(computed[name] == NODATA, np.nan, computed[name] * layer.scale + layer.offset)
    from_cogs[name] = stored[name]

rows = []
for name, values in from_earth_engine.items():
    step = layers[name].scale / 2 if name in layers else 0  # the cube stores steps; products are compared exactly
    differs = ~np.isclose(values, from_cogs[name], rtol=0, atol=step, equal_nan=True)
    rows.append({"layer": name, "pixels": values.size, "different": int(differs.sum())})
agreement = pd.DataFrame(rows).set_index("layer")
display(agreement)

# %%
totals = pd.DataFrame(
    {
        "landslides": [session.compute(landslides.size()), len(inventory)],
        "total area, m2": [session.compute(landslides.aggregate_sum("area_m2")) or 0.0, inventory["area_m2"].sum()],
    },
    index=["Earth Engine table", "GeoParquet"],
)
display(totals)
same = bool((agreement["different"] == 0).all() and np.allclose(totals.iloc[0], totals.iloc[1]))
print("Both ways agree." if same else "The two ways DIFFER: do not use this version before you know why.")
