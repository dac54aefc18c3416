"""flows/services.py: the real services, stand-ins that are up already, or stand-ins of one's own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from fakes.running import eventually
from fakes.wiring import ask_prefect

from flows import services as up
from flows.errors import FlowError, ServiceError
from flows.preflight import check_bucket, check_prefect, require_services
from flows.scratch import BYTES_PER_PX, scratch_folder
from flows.services import is_local
from flows.settings import Settings, WorkSettings, load_settings
from gee.errors import SessionError
from infra.local.auth import AUTH_FILE
from infra.local.stack import LocalStack

QUAKESLIDE = [sys.executable, "-c", "from flows.cli import main; main()"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for stand-ins, and nothing else set."""
    before = dict(os.environ)
    for name in list(os.environ):
        if name.startswith(("QUAKESLIDE_", "PREFECT_API")):
            del os.environ[name]
    os.environ["QUAKESLIDE_LOCAL__HOME"] = str(tmp_path / "home")
    yield tmp_path / "home"
    os.environ.clear()
    os.environ.update(before)


def test_a_project_or_the_mode_decides(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_local(load_settings())
    monkeypatch.setenv("QUAKESLIDE_MODE", "cloud")
    assert not is_local(load_settings())
    monkeypatch.delenv("QUAKESLIDE_MODE")
    monkeypatch.setenv("QUAKESLIDE_EARTHENGINE__PROJECT", "mine")
    assert not is_local(load_settings())
    monkeypatch.setenv("QUAKESLIDE_MODE", "local")
    assert is_local(load_settings())


def test_in_the_cloud_nothing_is_started(home: Path) -> None:
    settings = Settings(mode="cloud")
    with up.services(settings, None, prefect=True) as given:
        assert given is settings
    assert not home.exists()


def test_stand_ins_of_ones_own_are_gone_afterwards(home: Path) -> None:
    before = set(psutil.Process().children(recursive=True))  # other tests share a stack that stays up
    with up.services(load_settings(), None, prefect=False) as settings:
        started = list(set(psutil.Process().children(recursive=True)) - before)
        assert httpx.get(f"{settings.usgs.url}/fdsnws/event/1/version").is_success
        assert settings.storage.endpoint.startswith("http://127.0.0.1:")
    assert not psutil.wait_procs(started, timeout=10)[1]


def test_a_stack_that_is_up_is_used_and_lacks_nothing(home: Path) -> None:
    with LocalStack(home, catalogues=[], usgs_folders=[], prefect=False) as there:
        with up.services(load_settings(), None, prefect=False) as settings:
            assert settings.usgs.url == there.endpoints.usgs_url
            assert "PREFECT_API_URL" not in os.environ
        before = set(psutil.Process().children(recursive=True))
        with up.services(load_settings(), None, prefect=True) as settings:
            assert settings.usgs.url == there.endpoints.usgs_url
            assert check_prefect(os.environ["PREFECT_API_URL"]).endswith("is well")
            assert ask_prefect(os.environ, "flows/filter") == [], "with the password that clients find"
        own = set(psutil.Process().children(recursive=True)) - before
        assert not psutil.wait_procs(list(own), timeout=10)[1]
        with (
            pytest.raises(FlowError, match=r"stand-ins are up in .* already"),
            up.services(load_settings(), home, prefect=False),
        ):
            pass


def test_the_password_is_of_a_stack_that_is_up_and_has_a_server(home: Path, tmp_path: Path) -> None:
    with pytest.raises(FlowError, match=r"no local stack with a Prefect server is up in .*home: start one"):
        up.password(load_settings(), None)
    with (
        LocalStack(home, catalogues=[], usgs_folders=[], prefect=False),
        pytest.raises(FlowError, match="no local stack with a Prefect server"),
    ):
        up.password(load_settings(), None)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_local_up_starts_everything_and_tells_how_to_reach_it_but_not_the_password(home: Path, tmp_path: Path) -> None:
    out, err = tmp_path / "stdout.txt", tmp_path / "stderr.txt"
    with out.open("w") as told, err.open("w") as aside:
        process = subprocess.Popen([*QUAKESLIDE, "local", "up"], cwd=tmp_path, stdout=told, stderr=aside)
    try:
        assert eventually(lambda: "up; Ctrl-C" in out.read_text() or process.poll() is not None, 240)
        assert process.poll() is None, err.read_text()
        shown = subprocess.run(
            [*QUAKESLIDE, "local", "password"], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        password = shown.stdout.strip()
        assert password.startswith("admin:")
        said = out.read_text()
        assert f"quakeslide local password --home {home}" in said
        page = re.search(r"# monitor +(http://127\.0\.0\.1:\d+)/health", said)
        assert page is not None, said
        assert "quakeslide_up 1.0" in httpx.get(f"{page[1]}/metrics", timeout=30).text
        assert httpx.get(f"{page[1]}/health", timeout=30).json()["well"] in (True, False)
        exports = "".join(line for line in said.splitlines(keepends=True) if line.startswith("export "))
        asked = subprocess.run(
            ["sh", "-c", f"{exports}exec env"], capture_output=True, text=True, check=True, cwd=tmp_path
        )
        variables = dict(line.split("=", 1) for line in asked.stdout.splitlines() if "=" in line)
        assert variables["PREFECT_API_AUTH_STRING"] == password, "a shell that takes the output is let in"
        deployed = {each["name"] for each in ask_prefect(variables, "deployments/filter")}
        assert {"watch", "campaign-step", "janitor"} <= deployed
        assert eventually(lambda: any(each["start_time"] for each in ask_prefect(variables, "flow_runs/filter")), 120)
        secret = password.partition(":")[2].encode()
        holding = [path for path in tmp_path.rglob("*") if path.is_file() and secret in path.read_bytes()]
        assert holding == [home / AUTH_FILE]
        everything = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        assert not [one for one in everything if secret.decode() in " ".join(one.cmdline())]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
    assert not psutil.wait_procs(everything, timeout=20)[1]
    assert not (home / AUTH_FILE).exists()


@pytest.mark.parametrize(
    ("made", "message"),
    [([], "holds nothing to serve"), (["iburi2018"], r"--data .*s2_pre_.*\.tif is missing")],
)
def test_a_folder_with_nothing_to_serve_is_refused(home: Path, tmp_path: Path, made: list[str], message: str) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name in made:
        (data / name).mkdir()
    with pytest.raises(FlowError, match=message), up.services(load_settings(), data, prefect=False):
        pass
    assert not (home / "stack.json").exists()


def test_services_that_answer_pass_and_a_prefect_that_does_not_is_named(
    services: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    require_services(load_settings(), usgs=True)
    assert check_bucket(load_settings()) == f"gs://{services['QUAKESLIDE_STORAGE__BUCKET']} is there"
    monkeypatch.setenv("QUAKESLIDE_USGS__URL", "http://127.0.0.1:9")
    require_services(load_settings(), usgs=False)
    for url in ("http://127.0.0.1:9/api", services["QUAKESLIDE_STORAGE__ENDPOINT"], "not an address"):
        monkeypatch.setenv("PREFECT_API_URL", url)
        with pytest.raises(ServiceError, match=f"the Prefect server at {url} does not answer"):
            require_services(load_settings(), usgs=False)
    monkeypatch.setenv("QUAKESLIDE_EARTHENGINE__PROJECT", "")
    with pytest.raises(SessionError, match="QUAKESLIDE_EARTHENGINE__PROJECT"):
        require_services(load_settings(), usgs=False)


def test_working_files_are_gone_after_the_run_also_after_a_failure(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="boom"),
        scratch_folder(WorkSettings(scratch=str(tmp_path)), (10, 10)) as folder,
    ):
        assert folder.parent == tmp_path
        (folder / "big.npy").write_bytes(b"x")
        raise ValueError("boom")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_is_refused_with_the_room_it_takes(tmp_path: Path) -> None:
    side = 10_000_000
    with (
        pytest.raises(FlowError, match=rf"the disk is full: .*{side * side * BYTES_PER_PX // 10**6:,} MB"),
        scratch_folder(WorkSettings(scratch=str(tmp_path)), (side, side)),
    ):
        pass
    with (
        pytest.raises(FlowError, match=r"No such file.*QUAKESLIDE_WORK__SCRATCH"),
        scratch_folder(WorkSettings(scratch=str(tmp_path / "nowhere")), (1, 1)),
    ):
        pass
