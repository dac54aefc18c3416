"""The analyst's notebooks, run as scripts against the stand-ins and a small published map."""

from __future__ import annotations

import io
import json
import math
import re
import runpy
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jupytext
import matplotlib.pyplot as plt
import numpy as np
import pytest
from fakes.quakes import EVENT_ID
from ipyleaflet import LayersControl
from PIL import Image
from PIL.ImageColor import getrgb

from flows.errors import FlowError
from flows.map_event import map_event
from flows.observed_colours import CODE_COLOURS
from flows.request import MapRequest
from gee.types import Observed

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
EVENT_TO_MAP = NOTEBOOKS / "01_event_to_map.py"
LAYERS = ["before", "after", "probability", "mask", "not observed", "mapped area", "landslides"]
SWITCHED_OFF = {"probability", "mask"}

pytestmark = pytest.mark.filterwarnings(
    "ignore:metadata .* was set from the constructor:DeprecationWarning",  # bqscales, which geemap imports
)


@pytest.fixture(autouse=True)
def no_windows() -> Iterator[None]:
    """Figures are drawn without a display, and closed."""
    plt.switch_backend("Agg")
    yield
    plt.close("all")


@pytest.fixture
def addresses(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every address that this process connects to from now on."""
    seen: list[str] = []
    connect = socket.socket.connect

    def noted(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX:
            seen.append(str(address[0]))
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", noted)
    return seen


def run(notebook: Path) -> dict[str, Any]:
    """Run a notebook from top to bottom as a script; what it has made, by name."""
    return runpy.run_path(str(notebook), run_name="notebook")


def tiles_over(west: float, south: float, east: float, north: float, zoom: int) -> list[tuple[int, int]]:
    """Numbers (x, y) of the web mercator tiles over a box in degrees."""

    def number(lon: float, lat: float) -> tuple[int, int]:
        share = (1 - math.asinh(math.tan(math.radians(lat))) / math.pi) / 2
        return int((lon + 180) / 360 * 2**zoom), int(share * 2**zoom)

    (left, top), (right, bottom) = number(west, north), number(east, south)
    return [(x, y) for x in range(left, right + 1) for y in range(top, bottom + 1)]


def shown_colours(url: str, bbox: list[float], zoom: int = 13) -> np.ndarray[Any, Any]:
    """The colours (n, 3) of all opaque pixels of a layer's tiles over a box, as a browser would get them."""
    pictures = []
    for x, y in tiles_over(*bbox, zoom):
        answer = httpx.get(url.format(x=x, y=y, z=zoom), headers={"origin": "http://localhost:8888"})
        assert answer.headers["content-type"] == "image/png", answer.text
        assert answer.headers["access-control-allow-origin"] == "*"
        pictures.append(np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGBA")))
    assert {picture.shape for picture in pictures} == {(256, 256, 4)}
    pixels = np.concatenate([picture.reshape(-1, 4) for picture in pictures])
    return pixels[pixels[:, 3] == 255, :3]


def test_a_published_map_is_opened_shown_and_checked(
    services: dict[str, str], monkeypatch: pytest.MonkeyPatch, addresses: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("EVENT_ID", raising=False)
    publication = map_event(MapRequest(event_id=EVENT_ID))
    capsys.readouterr()
    addresses.clear()

    made = run(EVENT_TO_MAP)

    told = capsys.readouterr().out
    assert set(addresses) == {"127.0.0.1"}, "neither credentials nor a background map were asked for"
    assert made["version"] == publication, "the newest version of the newest event"
    assert "This is a simulated example" in told
    assert "was not seen: swath gap" in told
    assert "Both ways agree." in told

    shown = made["m"]
    assert list(shown.ee_layers) == LAYERS
    assert {name for name, layer in shown.ee_layers.items() if not layer["ee_layer"].visible} == SWITCHED_OFF
    assert any(isinstance(control, LayersControl) for control in shown.controls)
    assert len(shown.legends) == len(shown.colorbars) == 1
    colours = {
        name: shown_colours(layer["ee_layer"].url_format, made["item"].bbox) for name, layer in shown.ee_layers.items()
    }
    assert all(len(found) for found in colours.values())
    assert {tuple(c) for c in colours["landslides"]} == {getrgb(made["OUTLINE"])}
    reasons = {code: getrgb(CODE_COLOURS[code]) for code in made["counted"] if code != Observed.CLEAR}
    assert reasons[Observed.SWATH_GAP] in {tuple(c) for c in colours["not observed"]} <= set(reasons.values())
    assert colours["after"].std() > 10, "a picture, not a plain colour"

    bands = {f"{band}_{phase}" for band in ("blue", "green", "red", "nir") for phase in ("pre", "post")}
    assert set(made["agreement"].index) == {
        "probability",
        "mask",
        "observed",
        "elevation",
        "slope",
        "hillshade",
        *bands,
    }
    assert not made["agreement"]["different"].any()
    compared = made["from_earth_engine"]
    assert set(np.unique(compared["observed"])) >= {Observed.SWATH_GAP, Observed.CLEAR}
    assert ((compared["probability"] == -1) == (compared["observed"] != Observed.CLEAR)).all()
    assert set(np.unique(compared["mask"])) == {0, 1, 255}
    assert (made["totals"].nunique() == 1).all()

    counted = dict(zip(made["coverage"]["ground"], made["coverage"]["km2"], strict=True))
    assert counted == pytest.approx(made["item"].properties["quakeslide:coverage_km2"])
    assert made["largest"]["area_m2"].is_monotonic_decreasing
    assert len(made["largest"]) == min(10, len(made["inventory"]))
    for name, images in (("figure_images", [1, 1, 1]), ("figure_result", [2, 1])):
        assert [len(ax.images) for ax in made[name].axes if ax.images] == images
        made[name].canvas.draw()


def test_where_nothing_is_published_it_says_what_to_do(
    services: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EVENT_ID", raising=False)
    with pytest.raises(FlowError, match=r"no map is published in gs://.*quakeslide map"):
        run(EVENT_TO_MAP)
    monkeypatch.setenv("EVENT_ID", "us2000h8ty")
    with pytest.raises(FlowError, match=r"no map of event us2000h8ty .* check EVENT_ID"):
        run(EVENT_TO_MAP)


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.py")), ids=lambda path: path.stem)
def test_it_is_a_notebook_with_explanations_and_nothing_of_one_machine(path: Path) -> None:
    notebook = jupytext.read(path)
    assert notebook.metadata["kernelspec"]["language"] == "python"
    kinds = [cell.cell_type for cell in notebook.cells]
    assert kinds[0] == "markdown"
    assert notebook.cells[0].source.startswith("# ")
    assert kinds.count("markdown") > kinds.count("code") / 2
    for cell in notebook.cells:
        if cell.cell_type == "code":
            compile(cell.source, path.name, "exec")
    text = json.dumps([cell.source for cell in notebook.cells])
    here = [str(place) for place in (*NOTEBOOKS.parents, Path.home()) if place != Path(place.anchor)]
    assert not [place for place in here if place in text]
    assert not re.findall(r"(?:^|[\s\"'(=])(?:/[\w.-]+/|[A-Za-z]:\\)", text), "no absolute path"
