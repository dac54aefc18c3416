"""flows/speed.py, known_speed.py: a plan is reckoned by what was measured last, and says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fakes.products import FOOTPRINT, facts, write_products

from flows.known_speed import known_speed
from flows.layout import FACTS, EventLayout
from flows.publish import make_visible, upload_products
from flows.speed import ASSUMED, NetworkRun, Speed
from flows.storage import Store
from flows.tallies import Tally, add

ID = "us2000h8ty"


def publish(store: Store, folder: Path, number: int, network: NetworkRun | None) -> None:
    key = f"{number:016x}"
    write_products(folder, note=key)
    told = replace(facts(run_key=key), network=network)
    (folder / FACTS).write_text(told.to_json())
    run = EventLayout(store.bucket_url, ID).run(key)
    make_visible(store, upload_products(store, run, folder, told, FOOTPRINT))


def test_a_rate_says_where_it_is_from() -> None:
    assert str(Speed(81_234.4, "measured by version 2")) == "81,234 px/s, measured by version 2"
    assert str(ASSUMED) == "150,000 px/s, assumed, as nothing was measured yet"


@pytest.mark.parametrize(
    ("run", "rate"),
    [
        (NetworkRun(1_000_000, 1.0, 10.0), 100_000.0),
        (NetworkRun(500_000, 0.5, 10.0), 50_000.0),
        (NetworkRun(100_000, 0.1, 10.0), None),
        (NetworkRun(0, 1.0, 10.0), None),
        (NetworkRun(1_000_000, 1.0, 0.0), None),
    ],
)
def test_a_run_that_mapped_too_little_tells_no_rate(run: NetworkRun, rate: float | None) -> None:
    assert run.px_per_s == rate
    assert NetworkRun.from_json(run.to_json()) == run


def test_the_last_version_that_tells_comes_before_all_runs_and_those_before_what_is_assumed(
    store: Store, tmp_path: Path
) -> None:
    event = EventLayout(store.bucket_url, ID)
    assert known_speed(store, event) == ASSUMED
    add(store, Tally(mapped_px=4_000_000, map_s=50.0))
    assert known_speed(store, event) == Speed(80_000.0, "measured over all runs so far")
    publish(store, tmp_path / "1", 1, None)
    assert known_speed(store, event).px_per_s == 80_000.0, "a version that tells nothing is passed over"
    publish(store, tmp_path / "2", 2, NetworkRun(900_000, 1.0, 10.0))
    publish(store, tmp_path / "3", 3, NetworkRun(1_000, 0.01, 10.0))
    assert known_speed(store, event) == Speed(90_000.0, "measured by version 2")
    publish(store, tmp_path / "4", 4, NetworkRun(700_000, 0.9, 10.0))
    assert known_speed(store, event) == Speed(70_000.0, "measured by version 4")
