"""The local stack: comes up, says where it is, is found by others, and leaves no process behind, however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from infra.local import stack as module
from infra.local.auth import AUTH_FILE
from infra.local.stack import BUCKET, Endpoints, LocalStack, StackError, environment_of, running_stack

KEEP_UP = """
import signal, sys, threading
from pathlib import Path
from infra.local.stack import LocalStack
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell starts in the background
with LocalStack(Path(sys.argv[1]), catalogues=[], usgs_folders=[], prefect={prefect}):
    print("up", flush=True)
    {then}
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def elsewhere(home: Path) -> Iterator[subprocess.Popen[str]]:
    """A stack that another process keeps up in `home`."""
    with other_process(home, "threading.Event().wait()") as process:
        yield process
        process.kill()


def other_process(home: Path, then: str, *, prefect: bool = False) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", KEEP_UP.format(then=then, prefect=prefect), str(home)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n", process.communicate()[1]
    return process


def services_of(pid: int) -> list[psutil.Process]:
    found = psutil.Process(pid).children(recursive=True)
    assert len(found) >= 6, "three services under a tether each"
    return found


def children_now() -> set[psutil.Process]:
    """What this process has started: other tests share a stack that stays up."""
    return set(psutil.Process().children(recursive=True))


def started_since(before: set[psutil.Process]) -> list[psutil.Process]:
    return list(children_now() - before)


def assert_all_end(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=20)
    assert not alive


def test_the_stack_comes_up_and_goes_away(home: Path) -> None:
    said: list[str] = []
    before = children_now()
    with LocalStack(home, catalogues=[], usgs_folders=[], prefect=False, progress=said.append) as stack:
        here = stack.endpoints
        assert running_stack(home) == here
        assert httpx.get(f"{here.storage_url}/storage/v1/b/{BUCKET}").is_success
        assert httpx.get(f"{here.usgs_url}/earthquakes/feed/v1.0/summary/all_day.geojson").json()["features"] == []
        assert httpx.get(f"{here.earthengine_url}/$discovery/rest?version=v1").is_success
        with pytest.raises(StackError, match=f"up in .* already .*process {os.getpid()}.*{here.usgs_url}"):
            LocalStack(home, catalogues=[], usgs_folders=[], prefect=False).__enter__()
        assert running_stack(home) == here
        children = started_since(before)
        assert len(children) >= 6
    assert_all_end(children)
    assert running_stack(home) is None
    assert not (home / "stack.json").exists()
    assert any("earthengine is up" in line for line in said)
    with pytest.raises(StackError, match="not up"):
        _ = stack.endpoints


def test_a_service_that_dies_is_started_again_where_it_was_with_what_it_had(home: Path) -> None:
    with LocalStack(home, catalogues=[], usgs_folders=[], prefect=False) as stack:
        url = stack.endpoints.storage_url
        upload = {"uploadType": "media", "name": "kept"}
        httpx.post(f"{url}/upload/storage/v1/b/{BUCKET}/o", params=upload, content=b"x").raise_for_status()
        assert stack.revive() == ()
        (server,) = (
            one for one in psutil.Process().children(recursive=True)
            if one.cmdline()[1:3] == ["-m", "infra.local.storage"] and str(home) in " ".join(one.cmdline())
        )  # fmt: skip
        tether = server.parent()
        assert tether is not None
        server.kill()
        psutil.wait_procs([tether], timeout=20)
        assert stack.revive() == ("storage",)
        assert stack.revive() == ()
        deadline = time.monotonic() + 30
        while not _answers(f"{url}/{BUCKET}/kept") and time.monotonic() < deadline:
            time.sleep(0.1)
        assert httpx.get(f"{url}/{BUCKET}/kept").content == b"x"


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.HTTPError:
        return False


def test_what_was_stored_is_there_the_next_time(home: Path) -> None:
    name = "/upload/storage/v1/b/quakeslide/o?uploadType=media&name=kept"
    with LocalStack(home, catalogues=[], usgs_folders=[], prefect=False) as stack:
        httpx.post(stack.endpoints.storage_url + name, content=b"kept").raise_for_status()
    with LocalStack(home, catalogues=[], usgs_folders=[], prefect=False) as stack:
        assert httpx.get(f"{stack.endpoints.storage_url}/{BUCKET}/kept").content == b"kept"


def test_another_process_is_found_and_its_kill_leaves_nothing(home: Path, elsewhere: subprocess.Popen[str]) -> None:
    found = running_stack(home)
    assert found is not None
    assert httpx.get(f"{found.storage_url}/storage/v1/b/{BUCKET}").is_success
    services = services_of(elsewhere.pid)
    elsewhere.kill()
    elsewhere.wait()
    assert_all_end(services)
    assert (home / "stack.json").exists(), "a killed process cannot tidy up"
    assert running_stack(home) is None
    with LocalStack(home, catalogues=[], usgs_folders=[], prefect=False) as stack:
        assert running_stack(home) == stack.endpoints


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 128 + signal.SIGTERM)])
def test_signals_stop_everything_tidily(
    home: Path, elsewhere: subprocess.Popen[str], number: signal.Signals, code: int
) -> None:
    services = services_of(elsewhere.pid)
    elsewhere.send_signal(number)
    assert elsewhere.wait(20) in (code, 1)
    assert_all_end(services)
    assert not (home / "stack.json").exists()


def test_an_exception_stops_everything(home: Path) -> None:
    with other_process(home, "sys.stdin.readline(); raise ValueError('boom')") as process:
        services = services_of(process.pid)
        assert "boom" in process.communicate()[1]
    assert_all_end(services)
    assert not (home / "stack.json").exists()


def test_a_killed_tether_takes_its_service_along(elsewhere: subprocess.Popen[str]) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux tells a process that its parent has died")
    tethers = psutil.Process(elsewhere.pid).children()
    services = [child for tether in tethers for child in tether.children(recursive=True)]
    for tether in tethers:
        tether.kill()
    assert_all_end(services)


def test_a_service_that_does_not_start_is_named_with_its_log(home: Path, tmp_path: Path) -> None:
    before = children_now()
    broken = tmp_path / "usgs" / "fdsn_event_detail"
    broken.mkdir(parents=True)
    (broken / "bad.geojson").write_text("{")
    with pytest.raises(StackError, match=r"(?s)the usgs service ended with code 2.*usgs\.log.*bad\.geojson"):
        LocalStack(home, catalogues=[], usgs_folders=[tmp_path / "usgs"], prefect=False).__enter__()
    assert not started_since(before)
    assert running_stack(home) is None


def test_stale_and_damaged_state_files_are_no_stack(home: Path) -> None:
    home.mkdir()
    assert running_stack(home) is None
    dead = "http://127.0.0.1:9"
    for text in (
        "{",
        "[]",
        '{"pid": 1}',
        json.dumps({"pid": os.getpid(), "endpoints": {"usgs_url": dead}}),
        json.dumps({"pid": os.getpid(), "endpoints": vars(Endpoints(dead, dead, dead, "", "p", "b"))}),
        json.dumps({"pid": os.getpid(), "endpoints": {**vars(Endpoints(dead, dead, dead, "", "p", "b")), "more": 1}}),
        json.dumps({"pid": 2**22 + 1, "endpoints": vars(Endpoints(dead, dead, dead, "", "p", "b"))}),
    ):
        (home / "stack.json").write_text(text)
        assert running_stack(home) is None


def test_a_stack_whose_password_is_another_users_is_said_so(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.mkdir()
    dead = "http://127.0.0.1:9"
    text = json.dumps({"pid": os.getpid(), "endpoints": vars(Endpoints(dead, dead, dead, dead, "p", "b"))})
    (home / "stack.json").write_text(text)

    def not_yours(_home: Path) -> str:
        raise PermissionError(13, "Permission denied")  # as an administrator may read everything, also in a test

    monkeypatch.setattr(module, "read_auth", not_yours)
    with pytest.raises(StackError, match=r"another user's: choose another folder \(local\.home\)"):
        running_stack(home)


def test_the_environment_is_what_the_settings_read(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.settings import Settings

    monkeypatch.setenv("NO_PROXY", "example.org")
    endpoints = Endpoints(
        "http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3", "http://127.0.0.1:4", "p", "b", "admin:secret"
    )
    assert "secret" not in repr(endpoints)
    for name, value in environment_of(endpoints).items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert (settings.earthengine.url, settings.earthengine.project) == ("http://127.0.0.1:1", "p")
    assert (settings.storage.endpoint, settings.storage.bucket) == ("http://127.0.0.1:2", "b")
    assert settings.usgs.url == "http://127.0.0.1:3"
    assert os.environ["PREFECT_API_URL"] == "http://127.0.0.1:4/api"
    assert os.environ["PREFECT_API_AUTH_STRING"] == "admin:secret"
    assert os.environ["NO_PROXY"] == "example.org,127.0.0.1,localhost"
    without = Endpoints("http://a", "http://b", "http://c", "", "p", "b")
    assert not [name for name in environment_of(without) if name.startswith("PREFECT_")]


@pytest.mark.slow
def test_a_prefect_server_answers_and_does_not_survive_a_kill(home: Path) -> None:
    with other_process(home, "threading.Event().wait()", prefect=True) as process:
        found = running_stack(home)
        assert found is not None
        assert httpx.get(f"{found.prefect_url}/api/health").json() is True, "nobody needs a password for that"
        flows = f"{found.prefect_url}/api/flows/filter"
        user, _, password = found.prefect_auth.partition(":")
        assert httpx.post(flows, json={}).status_code == 401
        assert httpx.post(flows, json={}, auth=(user, password[::-1])).status_code == 401
        assert httpx.post(flows, json={}, auth=(user, password)).json() == []
        assert_hidden(password, home, process.pid)
        assert "html" in httpx.get(found.prefect_url, follow_redirects=True).text
        assert (home / "prefect").is_dir()
        services = services_of(process.pid)
        assert any("prefect" in " ".join(service.cmdline()) for service in services)
        process.kill()
        assert_all_end(services)
    with LocalStack(home, catalogues=[], usgs_folders=[], prefect=False):
        assert not (home / AUTH_FILE).exists(), "what a killed process left is gone"


def assert_hidden(password: str, home: Path, pid: int) -> None:
    """The password stands in one file, which only its owner can read, and in no process's arguments."""
    holding = [path for path in home.rglob("*") if path.is_file() and password.encode() in path.read_bytes()]
    assert holding == [home / AUTH_FILE]
    assert (home / AUTH_FILE).stat().st_mode & 0o077 == 0
    assert not [one for one in services_of(pid) if any(password in part for part in one.cmdline())]
