"""flows/links.py: what people click on leads to what programs know by its URI."""

from __future__ import annotations

from urllib.parse import unquote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.links import browser_link
from flows.storage import Store


def test_an_object_of_cloud_storage_opens_in_a_browser() -> None:
    assert (
        browser_link("gs://a-bucket/events/us1/runs/ab/cd/report.html")
        == "https://storage.cloud.google.com/a-bucket/events/us1/runs/ab/cd/report.html"
    )


@pytest.mark.parametrize(
    "other", ["https://example.org/report.html?x=1", "file:///tmp/report.html", "report.html", "", "gs://"]
)
def test_any_other_address_stays_as_it_is(other: str) -> None:
    assert browser_link(other) == other


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_every_name_survives_being_written_into_an_address(name: str) -> None:
    link = browser_link(f"gs://bucket/{name}")
    assert unquote(link.removeprefix("https://storage.cloud.google.com/bucket/")) == name
    assert not set(link) & set(' ?#"<>\n')


def test_an_object_of_a_stand_in_is_served_at_its_link(store: Store) -> None:
    uri = f"{store.bucket_url}/events/a b/report é.html"
    store.write_bytes(uri, b"<p>here</p>", "text/html")
    answer = httpx.get(browser_link(uri, store.address))
    assert (answer.status_code, answer.content) == (200, b"<p>here</p>")
    assert answer.headers["content-type"].startswith("text/html")
