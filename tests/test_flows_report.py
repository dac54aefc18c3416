"""flows/report.py: one file that says everything, asks nobody, and opens in a real browser without a request."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from fakes.products import ALIGNMENT, SCORES, facts, landslide
from fakes.servers import serve
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from flows.alignment import Alignment
from flows.facts import ReportFacts
from flows.pictures import Picture
from flows.report import render_report
from gee.types import Observed
from modeling.rasters.coregister import Shift
from modeling.rasters.radiometry import RadiometricMatch

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
VOID = {"meta", "link", "img", "br", "rect"}


def picture(key: str) -> Picture:
    """A picture of orange, which is nowhere else in the report."""
    out = io.BytesIO()
    Image.new("RGB", (300, 200), (255, 120, 0)).save(out, format="PNG")
    return Picture(
        key, f"Title of {key}", f"Caption of {key}", f"Words for {key}", out.getvalue(), "image/png", (300, 200)
    )


PICTURES = [picture(key) for key in ("map", "detail", "probability", "coverage")]
FOUND = replace(
    facts(), scores=SCORES, earth_engine_assets={"probability": "projects/p/assets/q/us2000h8ty/k/probability"}
)
NONE_FOUND = facts([])
NONE_SEEN = facts([], counts={int(Observed.CLOUD): 1000})
NOTHING = facts([], counts={})
VARIANTS = {"found": FOUND, "none found": NONE_FOUND, "none seen": NONE_SEEN, "nothing": NOTHING}


class Page(HTMLParser):
    """What a reader's program makes of the report; fails on tags that do not close."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS.keys())
def told(request: pytest.FixtureRequest) -> ReportFacts:
    variant: ReportFacts = request.param
    return variant


def test_a_report_refers_to_nothing_outside_itself(told: ReportFacts) -> None:
    html = render_report(told, PICTURES)
    page = Page(html)
    for _, attributes in page.tags:
        assert not attributes.keys() & {"srcset", "action", "background", "ping", "style", "onload", "onclick"}
        for name in ("src", "href", "data", "poster"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert not {"script", "iframe", "object", "embed", "form", "base", "a"} & {tag for tag, _ in page.tags}
    assert not re.search(r"url\(|@import", html)


def test_a_report_forbids_every_request_by_policy(told: ReportFacts) -> None:
    html = render_report(told, PICTURES)
    policy = next(meta["content"] for meta in Page(html).all("meta") if meta.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy
    assert html.index("Content-Security-Policy") < html.index("<style>")


def test_every_picture_has_words_and_every_id_is_unique(told: ReportFacts) -> None:
    page = Page(render_report(told, PICTURES))
    assert sorted(str(image["alt"]) for image in page.all("img")) == sorted(one.alt for one in PICTURES)
    ids = Counter(attributes["id"] for _, attributes in page.tags if "id" in attributes)
    assert set(ids.values()) == {1}
    assert [attributes["lang"] for attributes in page.all("html")] == ["en"]
    assert len(page.all("h1")) == 1


def test_a_report_says_what_was_found_and_what_is_not_known() -> None:
    text = Page(render_report(FOUND, PICTURES)).text
    for words in (
        "M 6.6 - 27 km E of Tomakomai, Japan",
        "2018-09-05 18:07:59 UTC · magnitude 6.6 · depth 35 km",
        "https://earthquake.usgs.gov/earthquakes/eventpage/us2000h8ty",
        "2 landslides with a total area of 0.005 km² were found in the 1.40 km² that could be seen",
        "0.400 km² (22.2 % of the area) was not seen",
        "“Not seen” is not “no landslide”",
        "The network has learned from simulated landslides only",
        "42.70000° N, 141.90000° E",
        "The 2 largest",
        "800+",
        "dNDVI and slope",
        "0.879",
        "S2/A",
        "2018-09-10 to 2018-09-15",
        "ab" * 32,
        "0123456789abcdef",
        "Contains modified Copernicus Sentinel data 2018",
        "projects/p/assets/q/us2000h8ty/k/probability",
        "In QGIS",
    ):
        assert words in text


def test_a_report_tells_how_the_images_lie_on_each_other() -> None:
    assert "on each other" not in Page(render_report(FOUND, PICTURES)).text
    text = Page(render_report(replace(FOUND, alignment=ALIGNMENT), PICTURES)).text
    for words in (
        "The image before lay 6.7 m from the one after (1.0 m south, 6.6 m east); that was corrected.",
        "+0.66 ± 0.07 px east, -0.10 ± 0.16 px north (pixels of 10 m)",
        "34 of 56 windows, gentle ground only; they differ by 0.24 px, the shift changes by 0.12 px across them",
        "matched to those after (invariant): red × 1.20 -0.020",
    ):
        assert words in text
    unmatched = replace(ALIGNMENT, radiometry=RadiometricMatch("invariant", (), "all has changed"))
    assert "not matched: all has changed" in Page(render_report(replace(FOUND, alignment=unmatched), PICTURES)).text
    unknown = Alignment(Shift(False, "all is snow"), False, 10.0)
    text = Page(render_report(replace(FOUND, alignment=unknown), PICTURES)).text
    assert "could not be measured: all is snow." in text
    assert "None" not in text


def test_a_report_of_nothing_found_has_no_table_of_landslides() -> None:
    text = Page(render_report(NONE_FOUND, PICTURES)).text
    assert "No landslide was found in the 1.40 km² that could be seen (77.8 % of the area)." in text
    assert "largest" not in text
    assert "Agreement with" not in text


def test_a_report_of_nothing_seen_gives_no_number_of_landslides() -> None:
    page = Page(render_report(NONE_SEEN, PICTURES))
    assert "Nothing could be seen" in page.text
    assert "No landslide was found" not in page.text
    assert "– landslides found" in page.text


def test_a_simulated_event_is_called_so_first() -> None:
    page = Page(render_report(facts(simulated=True), PICTURES))
    assert page.text.startswith("Simulated: Landslides of M 6.6")
    assert "Simulated example: the earthquake, the images and the landslides are made up." in page.text
    assert "Simulated" not in Page(render_report(facts(), PICTURES)).text


def test_what_comes_from_outside_cannot_become_markup() -> None:
    evil = "</style><script>alert(1)</script>\"'><img src=http://evil/>"
    told = replace(
        facts([landslide(500.0)]),
        event=replace(facts().event, title=evil, url=evil, id=evil),
        notes=(evil,),
        imagery=(replace(facts().imagery[0], scenes=(evil,)),),
        provenance=replace(facts().provenance, settings={evil: evil}, attribution=(evil,)),
        earth_engine_assets={evil: evil},
    )
    page = Page(render_report(told, [replace(PICTURES[0], alt=evil, caption=evil, title=evil)]))
    assert page.all("script") == []
    assert len(page.all("img")) == 1
    assert evil in page.text


def test_an_event_without_time_or_place_is_told_without_them() -> None:
    bare = replace(facts().event, time=None, magnitude=None, depth_km=None, lon=None, lat=None, url="")
    text = Page(render_report(replace(facts(), event=bare), PICTURES)).text
    assert "Epicentre" not in text
    assert "None" not in text


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine to open the report in")
@pytest.mark.parametrize("variant", ["found", "none seen"])
def test_a_browser_shows_the_report_without_a_single_further_request(tmp_path: Path, variant: str) -> None:
    html = render_report(VARIANTS[variant], PICTURES)
    asked: list[str] = []

    def answer(request: Request) -> Response:
        asked.append(request.url.path)
        return HTMLResponse(html)

    with serve(Starlette(routes=[Route("/{path:path}", answer)])) as address:
        shot = tmp_path / "shot.png"
        command = [
            str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            "--disable-dev-shm-usage", "--disable-background-networking", "--enable-logging=stderr",
            f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1000,4000", f"--screenshot={shot}",
            f"{address}/report.html",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert asked == ["/report.html"]
    assert "CONSOLE" not in done.stderr  # a refused style or image would be told there
    seen = np.asarray(Image.open(shot).convert("RGB")).astype(int)
    orange = (np.abs(seen - [255, 120, 0]).max(axis=-1) < 12).mean()
    dark_header = (np.abs(seen[:100] - [0x16, 0x22, 0x2E]).max(axis=-1) < 4).mean()
    assert orange > 0.1
    assert dark_header > 0.5
