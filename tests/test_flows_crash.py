"""Killed at any stage and run again: the event is mapped, finished work is not done twice, no half version is seen."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from fakes.quakes import EVENT_ID
from fakes.wiring import forget_requests, requests_of

from flows.layout import PRODUCTS

pytestmark = pytest.mark.slow

DEADLINE_S = 120.0
START = [sys.executable, "-c", "from flows.cli import main; main()"]
TILES = 6


@dataclass
class Bucket:
    """What anyone can see of the bucket."""

    endpoint: str
    name: str

    def objects(self) -> list[str]:
        """Names of all objects."""
        answer = httpx.get(f"{self.endpoint}/storage/v1/b/{self.name}/o", params={"maxResults": 1000}, timeout=30)
        return [item["name"] for item in answer.raise_for_status().json().get("items", [])]

    def having(self, *parts: str) -> list[str]:
        """Names that hold all of `parts`."""
        return [name for name in self.objects() if all(part in name for part in parts)]

    def versions(self) -> dict[str, Any] | None:
        """versions.json, None when there is none."""
        answer = httpx.get(f"{self.endpoint}/{self.name}/events/{EVENT_ID}/versions.json", timeout=30)
        return None if answer.status_code == httpx.codes.NOT_FOUND else dict(answer.raise_for_status().json())


@dataclass
class Watcher:
    """Looks at versions.json all the time, as a reader does; whatever is listed must be complete at that very moment."""

    bucket: Bucket
    seen: list[int] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.stop.wait(0.1):
            listed = self.bucket.versions()
            versions = [] if listed is None else listed["versions"]
            if len(versions) not in self.seen:
                self.seen.append(len(versions))
                there = set(self.bucket.objects())
                hrefs = [href for version in versions for href in (version["item"], *version["assets"].values())]
                names = [f"events/{EVENT_ID}/{href.removeprefix('./')}" for href in hrefs]
                self.wrong += [name for name in names if name not in there]


@pytest.fixture
def bucket(services: dict[str, str]) -> Bucket:
    return Bucket(services["QUAKESLIDE_STORAGE__ENDPOINT"], services["QUAKESLIDE_STORAGE__BUCKET"])


@pytest.fixture
def watcher(bucket: Bucket) -> Iterator[Watcher]:
    watching = Watcher(bucket)
    thread = threading.Thread(target=watching.run)
    thread.start()
    yield watching
    watching.stop.set()
    thread.join()


@contextmanager
def command(
    *arguments: object, cwd: Path, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A quakeslide command in a process of its own, writing stdout.txt and stderr.txt into `cwd`."""
    with (cwd / "stdout.txt").open("w") as out, (cwd / "stderr.txt").open("w") as err:
        # What a killed process leaves of its temporary files goes with the test.
        variables = {**(os.environ if environment is None else environment), "TMPDIR": str(cwd)}
        process = subprocess.Popen(
            [*START, *map(str, arguments)], cwd=cwd, stdout=out, stderr=err, text=True, env=variables
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str], cwd: Path) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert process.poll() is None, f"it ended first:\n{(cwd / 'stderr.txt').read_text()}"
        assert time.monotonic() < end, f"it never happened:\n{(cwd / 'stdout.txt').read_text()}"
        time.sleep(0.03)


def tiles_asked(url: str) -> list[tuple[float, float]]:
    """Upper left corners of the 10 m tiles that were asked for."""
    pixels = [entry["detail"] for entry in requests_of(url) if "computePixels" in str(entry["path"])]
    asked = [detail["grid"] for detail in pixels if detail]  # none when the client died before it was read
    transforms = [grid["affineTransform"] for grid in asked if grid["affineTransform"]["scaleX"] == 10.0]
    return [(at["translateX"], at["translateY"]) for at in transforms]


def slow_down(url: str, match: str, delay_s: float) -> None:
    fault = {"match": match, "count": 1000, "delay_s": delay_s}
    httpx.post(f"{url}/_standin/faults", json=fault).raise_for_status()


@pytest.fixture
def slowly(services: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tiles come one by one, uploads take their time: so that a stage can be met while it is at work."""
    monkeypatch.setenv("QUAKESLIDE_EARTHENGINE__MAX_CONCURRENT_REQUESTS", "1")
    urls = services["QUAKESLIDE_EARTHENGINE__URL"], services["QUAKESLIDE_STORAGE__ENDPOINT"]
    slow_down(urls[0], "computePixels", 0.3)
    slow_down(urls[1], "/upload/", 0.15)
    yield
    for url in urls:
        httpx.delete(f"{url}/_standin/faults").raise_for_status()


def asked_of_earth_engine(services: dict[str, str], part: str, method: str = "") -> bool:
    log = requests_of(services["QUAKESLIDE_EARTHENGINE__URL"])
    return any(part in str(entry["path"]) and method in ("", entry["method"]) for entry in log)


def assets_of(services: dict[str, str]) -> dict[str, list[object]]:
    """The property `version` of every asset of the event, by the collection or folder that it lies in."""
    folder = f"projects/{services['QUAKESLIDE_EARTHENGINE__PROJECT']}/assets/quakeslide/{EVENT_ID}"
    found = {}
    for name in ("probability", "mask", "observed", "landslides"):
        answer = httpx.get(f"{services['QUAKESLIDE_EARTHENGINE__URL']}/v1/{folder}/{name}:listAssets", timeout=30)
        held = answer.raise_for_status().json().get("assets", [])
        found[name] = [asset["properties"].get("version") for asset in held]
    return found


MOMENTS: dict[str, Callable[[Bucket, dict[str, str]], object]] = {
    "pull": lambda bucket, _: len(bucket.having(".tiles/")) >= 1,
    "map": lambda bucket, _: bucket.having(".manifest.json"),
    "products": lambda bucket, _: bucket.having("/stages/map.json"),
    "upload": lambda bucket, _: [name for name in bucket.having("/runs/") if "/stages/" not in name],
    "write-back": lambda _, services: asked_of_earth_engine(services, "image:importExternal"),
    "before publishing": lambda bucket, _: bucket.having("/stages/landslides-"),
    "publish": lambda bucket, _: bucket.versions() is not None,
    "stamp": lambda _, services: asked_of_earth_engine(services, "/observed/", "PATCH"),
}
"""Stage -> what can be seen from outside when it is at work."""
_MAPPED = {"measure the shift", "compare with models", "map tiles"}
_MADE = {*_MAPPED, "what was observed"}
DONE_BEFORE: dict[str, set[str]] = {
    "pull": set(), "map": set(), "products": _MAPPED, "upload": _MADE, "write-back": _MADE, "before publishing": _MADE,
    "publish": _MADE, "stamp": _MADE,
}  # fmt: skip
"""Stage -> what the second run must not do again, by the lines of its progress."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("stage", MOMENTS)
def test_killed_at_any_stage_a_second_run_finishes(
    stage: str, services: dict[str, str], bucket: Bucket, watcher: Watcher, slowly: None, tmp_path: Path
) -> None:
    earthengine = services["QUAKESLIDE_EARTHENGINE__URL"]
    forget_requests(earthengine)
    with command("map", EVENT_ID, cwd=tmp_path) as first:
        wait_for(lambda: MOMENTS[stage](bucket, services), first, tmp_path)
        children = psutil.Process(first.pid).children(recursive=True)
        first.kill()
        first.wait()
    assert not psutil.wait_procs(children, timeout=10)[1]
    if stage not in ("publish", "stamp"):
        assert bucket.versions() is None
    recorded = {json.loads(read(bucket, name))["name"] for name in bucket.having(".tiles/")}
    assert recorded
    known = set(tiles_asked(earthengine))
    forget_requests(earthengine)
    with command("map", EVENT_ID, cwd=tmp_path) as second:
        assert second.wait(DEADLINE_S) == 0, (tmp_path / "stderr.txt").read_text()
    again = tiles_asked(earthengine)
    assert len(again) == TILES - len(recorded), "what has a record is not asked for again"
    assert len(again) == len(set(again))
    assert len(known | set(again)) == TILES
    told = (tmp_path / "stdout.txt").read_text()
    assert not [step for step in DONE_BEFORE[stage] if step in told]
    listed = bucket.versions()
    assert listed is not None
    assert [version["version"] for version in listed["versions"]] == [1]
    assert (watcher.seen[-1], watcher.wrong) == (1, [])
    assert not bucket.having("/stages/"), "what the stages left is cleared away"
    assert assets_of(services) == {name: [1] for name in ("probability", "mask", "observed", "landslides")}
    folder = tmp_path / "products" / EVENT_ID / "v0001"
    assert {product.filename for product in PRODUCTS.values() if product.required} <= {p.name for p in folder.iterdir()}


def read(bucket: Bucket, name: str) -> str:
    return httpx.get(f"{bucket.endpoint}/{bucket.name}/{name}", timeout=30).raise_for_status().text


def plain_environment(some_weights: Path) -> dict[str, str]:
    """The environment without what points to services that are up already."""
    ours = ("QUAKESLIDE_", "PREFECT_API", "STORAGE_EMULATOR", "CPL_GS", "GS_NO")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {"QUAKESLIDE_MODEL__WEIGHTS": str(some_weights)}


def descendants(process: subprocess.Popen[str]) -> list[psutil.Process]:
    found = psutil.Process(process.pid).children(recursive=True)
    assert found
    return found


@pytest.mark.timeout(300)
@pytest.mark.parametrize("moment", ["storage is up", "pull tiles", "products …"])
def test_ctrl_c_stops_the_demo_and_all_that_it_started(moment: str, some_weights: Path, tmp_path: Path) -> None:
    with command(
        "demo", "--size", 256, "--out", "out", cwd=tmp_path, environment=plain_environment(some_weights)
    ) as demo:
        wait_for(lambda: moment in (tmp_path / "stdout.txt").read_text(), demo, tmp_path)
        started = descendants(demo)
        demo.send_signal(signal.SIGINT)
        assert demo.wait(60) == 130
    assert not psutil.wait_procs(started, timeout=15)[1]
    told = (tmp_path / "stderr.txt").read_text()
    assert told == "interrupted; run the same command again to go on\n"
    assert not (tmp_path / "out" / f"sim{20260101}").exists()


@pytest.mark.timeout(300)
def test_a_killed_demo_leaves_nothing_running_and_goes_on(some_weights: Path, tmp_path: Path) -> None:
    environment = plain_environment(some_weights)
    arguments = ("demo", "--size", 256, "--out", "out")
    with command(*arguments, cwd=tmp_path, environment=environment) as first:
        wait_for(lambda: "map tiles" in (tmp_path / "stdout.txt").read_text(), first, tmp_path)
        started = descendants(first)
        first.kill()
    assert not psutil.wait_procs(started, timeout=20)[1]
    with command(*arguments, cwd=tmp_path, environment=environment) as second:
        assert second.wait(DEADLINE_S) == 0, (tmp_path / "stderr.txt").read_text()
    told = (tmp_path / "stdout.txt").read_text()
    assert "everything that was started is stopped" in told
    assert "pull tiles" not in told
    assert "Traceback" not in (tmp_path / "stderr.txt").read_text()


@pytest.mark.timeout(300)
def test_ctrl_c_ends_local_up_in_order(some_weights: Path, tmp_path: Path) -> None:
    with command(
        "local", "up", "--no-worker", "--home", "home", cwd=tmp_path, environment=plain_environment(some_weights)
    ) as up:
        wait_for(lambda: "up; Ctrl-C" in (tmp_path / "stdout.txt").read_text(), up, tmp_path)
        started = descendants(up)
        up.send_signal(signal.SIGINT)
        assert up.wait(60) == 0
    assert not psutil.wait_procs(started, timeout=15)[1]
    told = (tmp_path / "stdout.txt").read_text()
    assert "export QUAKESLIDE_EARTHENGINE__URL=http://127.0.0.1:" in told
    assert told.endswith("stopped\n")
