"""Snow, open water and the shadow of the terrain: on spectra of the simulator, and what must not be taken for them."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator

import ee
import numpy as np
import numpy.typing as npt
import pytest
from fakes.catalogue import CatalogueWriter
from fakes.servers import serve

from gee.masks import CloudScorePlus, SceneClassification
from gee.pixels import fetch_pixels
from gee.reasons import (
    REASONS,
    level_ground,
    open_water,
    snow,
    surface_normal,
    terrain_shadow,
    terrain_shadow_by_class,
    told,
)
from gee.session import Session, open_session
from gee.types import Grid, Scene
from infra.local.earthengine import create_app
from modeling.simulate import BANDS, DOMAINS
from modeling.simulate.optics import SURFACES, Sun, spectra, tint, to_sensor

TIME = dt.datetime(2018, 9, 10, 1, 30, tzinfo=dt.UTC)
USED = ("B2", "B3", "B4", "B8", "B11", "B12")
MUD = (0.05, 0.06, 0.09, 0.11, 0.12, 0.13, 0.13, 0.13, 0.13, 0.12, 0.08, 0.05)
"""Wet, dark mud: its short-wave infrared is low as that of water, but it goes on rising to the near infrared."""
TINTS, SUNS, AIR, LIGHT = 6, (20.0, 45.0, 65.0), (0.05, 0.3), (1.15, 0.7, 0.35)
"""Shades of each region; sun's zenith (degrees); optical depth of aerosol; light on the slope against level ground."""
KINDS = (*SURFACES, "mud", "thick cloud", "thin cloud over forest")


def gallery() -> npt.NDArray[np.uint16]:
    """DN of every kind of surface (band, kind, variant) under the suns, air, light and shades above."""
    variants = []
    for name, domain in DOMAINS.items():
        for number in range(TINTS):
            rng = np.random.default_rng([number, len(name)])
            ground = np.vstack([spectra(domain, USED, tint(rng)), [MUD[BANDS.index(band)] for band in USED]])
            for zenith in SUNS:
                for aerosol in AIR:
                    for light in LIGHT:
                        sun, lit = Sun(zenith, 150.0), np.full((1, len(ground)), light, np.float32)
                        seen = to_sensor(ground.T[:, None, :].astype(np.float32), lit, sun, aerosol, USED)[:, 0]
                        white = np.array([0.55 if band in ("B11", "B12") else 0.75 for band in USED])[:, None]
                        forest = seen[:, [SURFACES.index("broadleaf")]]
                        variants.append(np.hstack([seen, white, 0.5 * white + 0.5 * forest]))
    return np.rint(np.stack(variants, axis=-1) * 10_000).astype(np.uint16)


GALLERY = gallery()
GRID = Grid("EPSG:32654", (10.0, 0.0, 600_000.0, 0.0, -10.0, 4_730_000.0), GALLERY.shape[1:])
DEM = Grid("EPSG:32654", (30.0, 0.0, 600_000.0, 0.0, -30.0, 4_730_000.0), (60, 60))
DARK = np.arange(60)[None, :] < np.full((60, 1), 30)
"""The western half of the hill is dark in the near infrared."""
SUN = {"MEAN_SOLAR_AZIMUTH_ANGLE": 160.0, "MEAN_SOLAR_ZENITH_ANGLE": 60.0}


def pyramid() -> npt.NDArray[np.float32]:
    """A hill with four sides of 45 degrees: the sun in the south-south-east cannot reach the northern one."""
    y, x = np.mgrid[:60, :60] - 29.5
    return np.asarray(2000 - 30 * np.maximum(np.abs(y), np.abs(x)), np.float32)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    folder = tmp_path_factory.mktemp("catalogue")
    catalogue = CatalogueWriter(folder)
    catalogue.image("GALLERY/a", dict(zip(USED, GALLERY, strict=True)), GRID, TIME)
    catalogue.image("HILL/dem", {"elevation": pyramid()}, DEM)
    nir = np.where(DARK, 900, 2000).astype(np.uint16)
    catalogue.image("HILL/scene", {"B8": nir}, DEM, TIME, SUN)
    with (
        serve(create_app(folder, tmp_path_factory.mktemp("state"))) as url,
        open_session(url, "local", timeout_s=30.0, max_attempts=2) as opened,
    ):
        yield opened


def asked(session: Session, image: ee.Image, grid: Grid) -> npt.NDArray[np.bool_]:
    expression = ee.serializer.encode(image.toUint8().rename("found"), for_cloud_api=True)
    return np.asarray(fetch_pixels(session, expression, grid, {"found": "uint8"})["found"] > 0)


def shares(found: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Share of the variants of each kind that were found."""
    return dict(zip(KINDS, found.mean(axis=1).tolist(), strict=True))


def test_snow_is_found_and_nothing_else_is_snow(session: Session) -> None:
    got = shares(asked(session, snow(ee.Image("GALLERY/a")), GRID))
    assert got.pop("snow") > 0.95
    assert got == dict.fromkeys(got, 0.0), "neither bright scars, nor cloud, nor water"


def test_water_is_found_and_nothing_else_is_water(session: Session) -> None:
    image = ee.Image("GALLERY/a")
    found = asked(session, open_water(image.select("B3"), image.select("B8"), image.select("B11")), GRID)
    got = shares(found)
    assert got.pop("water") > 0.95
    assert got.pop("char") < 0.01, "burnt ground in deep shade: that is why water must lie level, too"
    assert got == dict.fromkeys(got, 0.0), "neither shade under blue air, nor mud, nor cloud"


def test_scars_and_mud_are_never_taken_out(session: Session) -> None:
    image = ee.Image("GALLERY/a")
    water = open_water(image.select("B3"), image.select("B8"), image.select("B11"))
    lost = asked(session, snow(image).Or(water), GRID)
    for name in ("scar", "soil", "rock", "gravel", "mud", "slash"):
        assert not lost[KINDS.index(name)].any(), name


def hill(session: Session, image: ee.Image) -> npt.NDArray[np.bool_]:
    return asked(session, image, DEM)


def sides() -> dict[str, npt.NDArray[np.bool_]]:
    """The four sides of the hill, away from the ridges between them and the edge of the model."""
    y, x = np.mgrid[:60, :60] - 29.5
    inner = (np.maximum(np.abs(y), np.abs(x)) < 28) & (np.abs(np.abs(y) - np.abs(x)) > 3)
    return {
        "north": inner & (-y > np.abs(x)), "south": inner & (y > np.abs(x)),
        "east": inner & (x > np.abs(y)), "west": inner & (-x > np.abs(y)),
    }  # fmt: skip


def test_a_slope_that_turns_its_back_to_the_sun_and_is_dark_is_in_shadow(session: Session) -> None:
    normal = surface_normal(ee.Image("HILL/dem"))
    got = hill(session, terrain_shadow(ee.Image("HILL/scene"), normal))
    steep, zenith = math.radians(45), math.radians(SUN["MEAN_SOLAR_ZENITH_ANGLE"])
    for side, faces in {"north": 0.0, "south": 180.0, "east": 90.0, "west": 270.0}.items():
        apart = math.radians(SUN["MEAN_SOLAR_AZIMUTH_ANGLE"] - faces)
        cosine = math.cos(zenith) * math.cos(steep) + math.sin(zenith) * math.sin(steep) * math.cos(apart)
        where = sides()[side]
        np.testing.assert_array_equal(got[where], (DARK & (cosine <= 0))[where], err_msg=side)
    assert got[sides()["north"] & DARK].all()
    assert not got[:, 30:].any(), "bright ground is not in shadow, whatever the model says"


def test_water_can_stand_on_level_ground_and_where_nothing_is_known(session: Session) -> None:
    normal = surface_normal(ee.Image("HILL/dem"))
    wide = Grid(DEM.crs, (30.0, 0.0, 599_400.0, 0.0, -30.0, 4_730_000.0), (60, 80))
    got = asked(session, level_ground(normal), wide)
    assert got[:, :20].all()
    assert not any(got[:, 20:][where].any() for where in sides().values())


def scene(*bands: str, **properties: object) -> Scene:
    return Scene("C/x", TIME, None, bands, "POINT EMPTY", tuple(sorted(properties.items())))


FULL = ("B2", "B3", "B4", "B8", "B11", "B12")


def test_everything_is_told_of_a_whole_scene() -> None:
    assert told(REASONS, [scene(*FULL, **SUN)], CloudScorePlus(), terrain=True) == (REASONS, ())


def test_what_cannot_be_told_is_said_with_what_is_missing() -> None:
    visible = [scene("B2", "B3", "B4")]
    found, untold = told(REASONS, [scene(*FULL, **SUN), *visible], CloudScorePlus(), terrain=True)
    assert found == ()
    assert untold == ("snow (without B8, B11)", "water (without B8, B11)", "terrain shadow (without the sun's place)")
    assert told(REASONS, [scene(*FULL, **SUN)], None, terrain=False)[1] == (
        "terrain shadow (without an elevation model)",
    )
    assert told(("water",), visible, None, terrain=True) == ((), ("water (without B8, B11)",))
    assert told((), visible, None, terrain=True) == ((), ())


def test_the_scene_classification_tells_snow_and_later_cast_shadow() -> None:
    old = [scene(*FULL, "SCL", PROCESSING_BASELINE="02.12")]
    new = [scene(*FULL, "SCL", PROCESSING_BASELINE="05.10")]
    assert told(REASONS, [scene("B4", "SCL")], SceneClassification(), terrain=False)[0] == ("snow",)
    assert told(REASONS, old, SceneClassification(), terrain=False)[0] == ("snow", "water")
    assert told(REASONS, new, SceneClassification(), terrain=False)[0] == REASONS
    assert terrain_shadow_by_class(SceneClassification(), new)
    assert not terrain_shadow_by_class(SceneClassification(), [*old, *new])
    assert not terrain_shadow_by_class(CloudScorePlus(), new)
