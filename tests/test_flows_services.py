"""flows/services.py: the real services, stand-ins that are up already, or stand-ins of one's own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from flows import services as up
from flows.errors import FlowError, ServiceError
from flows.preflight import check_bucket, check_prefect, require_services
from flows.scratch import BYTES_PER_PX, scratch_folder
from flows.services import is_local
from flows.settings import Settings, WorkSettings, load_settings
from gee.errors import SessionError
from infra.local.stack import LocalStack


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
        own = set(psutil.Process().children(recursive=True)) - before
        assert not psutil.wait_procs(list(own), timeout=10)[1]
        with (
            pytest.raises(FlowError, match=r"stand-ins are up in .* already"),
            up.services(load_settings(), home, prefect=False),
        ):
            pass


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
