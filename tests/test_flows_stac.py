"""flows/stac.py: items that say where a map comes from and validate with every socket blocked."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from pathlib import Path

import pystac
import pytest
import shapely
from fakes.products import ALIGNMENT, CREATED, FOOTPRINT, GRID, POST, SCORES, facts, landslide, write_products

from flows.errors import PublicationError
from flows.facts import ReportFacts
from flows.product_set import gather
from flows.stac import AssetFile, VersionLink, make_catalog, make_item, multihash, stac_bbox
from gee.types import Grid
from modeling.rasters.coregister import Shift

FILES = {"report": AssetFile("./report.html", 12, "ab" * 32)}


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("a request left the machine")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("landslides", [(), (landslide(500.0),)], ids=["none", "one"])
def test_a_published_item_validates_without_a_network(tmp_path: Path, landslides: tuple[object, ...]) -> None:
    told = replace(facts(landslides), scores=SCORES)  # type: ignore[arg-type]
    (tmp_path / "item.json").write_bytes(gather(write_products(tmp_path)).item_json(told, FOOTPRINT))
    item = pystac.Item.from_file(str(tmp_path / "item.json"))
    assert item.validate() == ["https://schemas.stacspec.org/v1.1.0/item-spec/json-schema/item.json"]
    assert item.stac_extensions == []


@pytest.mark.usefixtures("no_network")
def test_a_catalogue_validates_without_a_network() -> None:
    plain = make_catalog("us1", "M 6.6 - somewhere", [VersionLink(1, "./a/item.json"), VersionLink(2, "./b/item.json")])
    pystac.Catalog.from_dict(plain).validate()
    assert [link["href"] for link in plain["links"] if link["rel"] == "latest-version"] == ["./b/item.json"]
    pystac.Catalog.from_dict(make_catalog("us1", "M 6.6 - somewhere", [])).validate()


def test_an_item_tells_where_the_map_comes_from() -> None:
    told = facts()
    properties = make_item(told, FOOTPRINT, GRID, FILES).properties
    assert properties["quakeslide:scenes_pre"] == ["S2/A"]
    assert properties["quakeslide:scenes_post"] == ["S2/B", "S2/C"]
    for field, value in (
        ("mask_rule", told.provenance.mask_rule),
        ("cube_hash", told.provenance.cube_hash),
        ("weights_sha256", told.provenance.weights_hash),
        ("run_key", told.provenance.run_key),
        ("settings_hash", told.provenance.settings_hash),
        ("event_id", "us2000h8ty"),
        ("magnitude", 6.6),
        ("event_time", "2018-09-05T18:07:59Z"),
        ("landslide_count", 2),
        ("landslide_area_m2", 5000.0),
        ("simulated", False),
    ):
        assert properties[f"quakeslide:{field}"] == value
    assert properties["processing:software"] == {"quakeslide": "0.1.0"}
    assert properties["quakeslide:observed_fraction"] == pytest.approx(14 / 18)
    assert "simulated" in make_item(facts(simulated=True), FOOTPRINT, GRID, FILES).properties["keywords"]


def test_an_item_tells_the_grid_and_the_bands_of_its_rasters(tmp_path: Path) -> None:
    item = json.loads(gather(write_products(tmp_path)).item_json(facts(), FOOTPRINT))
    asset = item["assets"]["probability"]
    assert asset["proj:code"] == item["properties"]["proj:code"] == "EPSG:32654"
    assert asset["proj:shape"] == [120, 160]
    assert asset["proj:transform"] == [10.0, 0.0, 572840.0, 0.0, -10.0, 4735730.0]
    assert asset["bands"] == [{"name": "probability", "data_type": "float32", "nodata": "nan"}]
    observed = item["assets"]["observed"]["bands"][0]
    assert {"value": 0, "description": "not imaged"} in observed["classification:classes"]
    assert item["assets"]["landslides_gpkg"]["type"] == "application/geopackage+sqlite3"
    assert item["assets"]["landslides_gpkg"]["file:size"] == (tmp_path / "landslides.gpkg").stat().st_size


def test_an_item_tells_how_the_images_lie_on_each_other() -> None:
    assert make_item(facts(), FOOTPRINT, GRID, FILES).properties["quakeslide:alignment"] is None
    told = make_item(replace(facts(), alignment=ALIGNMENT), FOOTPRINT, GRID, FILES).properties["quakeslide:alignment"]
    assert json.loads(json.dumps(told)) == {
        "measured": True, "why": "", "east_m": pytest.approx(6.6), "north_m": -1.0, "shift_px": [0.10, 0.66],
        "error_px": [0.16, 0.07], "windows": 34, "ground": "gentle", "corrected": True, "radiometry": "invariant",
    }  # fmt: skip
    unknown = replace(ALIGNMENT, shift=Shift(False, "all is snow"), corrected=False, radiometry=None)
    told = make_item(replace(facts(), alignment=unknown), FOOTPRINT, GRID, FILES).properties["quakeslide:alignment"]
    assert (told["why"], told["shift_px"], told["radiometry"]) == ("all is snow", None, "none")


def test_the_time_is_that_of_the_images_after_the_event() -> None:
    item = make_item(facts(), FOOTPRINT, GRID, FILES)
    assert item.datetime is None
    assert item.properties["start_datetime"] == "2018-09-10T00:00:00Z"
    assert item.properties["end_datetime"] == "2018-09-15T23:59:59Z"


def test_without_an_image_the_time_is_the_event_s_and_without_an_event_the_product_s() -> None:
    unseen = replace(facts(), imagery=(replace(POST, first_date=None, last_date=None),))
    assert make_item(unseen, FOOTPRINT, GRID, FILES).properties["start_datetime"] == "2018-09-05T18:07:59Z"
    nameless: ReportFacts = replace(unseen, event=replace(unseen.event, time=None))
    item = make_item(nameless, FOOTPRINT, GRID, FILES)
    assert item.properties["start_datetime"] == CREATED.isoformat().replace("+00:00", "Z")


def test_a_box_across_the_antimeridian_has_its_west_in_the_east() -> None:
    across = shapely.MultiPolygon([shapely.box(179.0, -20, 180, -19), shapely.box(-180, -20, -179.5, -18)])
    assert stac_bbox(across) == [179.0, -20.0, -179.5, -18.0]
    make_item(facts(), across, GRID, FILES)


def test_a_box_around_the_world_is_left_as_it_is() -> None:
    assert stac_bbox(shapely.box(-180, -90, 180, 90)) == [-180.0, -90.0, 180.0, 90.0]


def test_a_grid_without_a_code_gives_its_wkt() -> None:
    wkt = 'PROJCS["a local grid without a code",GEOGCS["..."]]'
    properties = make_item(facts(), FOOTPRINT, Grid(wkt, GRID.transform, GRID.shape_yx), FILES).properties
    assert (properties["proj:code"], properties["proj:wkt2"]) == (None, wkt)


def test_an_empty_footprint_is_refused() -> None:
    with pytest.raises(PublicationError, match="footprint of event us2000h8ty is empty"):
        make_item(facts(), shapely.Polygon(), GRID, FILES)


def test_a_checksum_is_a_multihash() -> None:
    assert multihash("ab" * 32) == "1220" + "ab" * 32
