"""All stand-ins and a Prefect server, up inside a `with` block and gone after it.

Every service is a process of its own under `infra.local.tether`, so that none survives this process, whatever ends it.
While the stack is up, `stack.json` in its home says where; `running_stack` finds it from another process. The Prefect
server asks everybody for the password of `infra.local.auth`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import httpx

from infra.local.auth import AUTH_FILE, fresh_auth, read_auth, remove_auth, write_auth
from infra.local.service import Service, ServiceStartError, start_together, stop_together

PROJECT = "local"
BUCKET = "quakeslide"
START_DEADLINE_S = 120.0
STATE_FILE = "stack.json"
_HEALTH = {
    "storage": "/storage/v1/b",
    "usgs": "/fdsnws/event/1/version",
    "earthengine": "/$discovery/rest?version=v1",
    "prefect": "/api/health",
}


class StackError(RuntimeError):
    """The stack cannot start; the message names the service, or the stack that is up already."""


@dataclass(frozen=True)
class Endpoints:
    """Where the services of a stack are."""

    earthengine_url: str
    """The Earth Engine stand-in."""
    storage_url: str
    """The Cloud Storage stand-in."""
    usgs_url: str
    """The USGS stand-in."""
    prefect_url: str
    """The Prefect server (its API is below `/api`), empty when none was started."""
    project: str
    """The Earth Engine project to name; the stand-in takes any."""
    bucket: str
    """A bucket that exists."""
    prefect_auth: str = field(default="", repr=False)
    """What the Prefect server asks for, `user:password`; empty when none was started. Not in `stack.json`."""


def environment_of(endpoints: Endpoints) -> dict[str, str]:
    """The environment variables with which quakeslide, GDAL, gcsfs and Prefect reach these services."""
    variables = {
        "QUAKESLIDE_EARTHENGINE__URL": endpoints.earthengine_url,
        "QUAKESLIDE_EARTHENGINE__PROJECT": endpoints.project,
        "QUAKESLIDE_STORAGE__ENDPOINT": endpoints.storage_url,
        "QUAKESLIDE_STORAGE__BUCKET": endpoints.bucket,
        "QUAKESLIDE_USGS__URL": endpoints.usgs_url,
        "STORAGE_EMULATOR_HOST": endpoints.storage_url,
        "CPL_GS_ENDPOINT": f"{endpoints.storage_url}/",
        "GS_NO_SIGN_REQUEST": "YES",
        "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
        # Without these, gcsfs looks for services of Google's network and waits a minute for each.
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        "NO_GCE_CHECK": "true",
        **_no_proxy(),
    }
    if endpoints.prefect_url:
        variables |= _prefect_variables(endpoints.prefect_url, endpoints.prefect_auth)
    return variables


def _prefect_variables(url: str, auth: str) -> dict[str, str]:
    return {"PREFECT_API_URL": f"{url}/api", "PREFECT_API_AUTH_STRING": auth}


def running_stack(home: Path) -> Endpoints | None:
    """The stack that another process keeps up in `home`, None when there is none that answers.

    Raises `StackError` when it is another user's, who alone may read the password of its Prefect server.
    """
    state = _read_state(home)
    if state is None or not _alive(state["pid"]):
        return None
    try:
        endpoints = Endpoints(**state["endpoints"], prefect_auth=read_auth(home))
    except PermissionError as error:
        raise StackError(f"the local stack in {home} is another user's: choose another folder (local.home)") from error
    urls = {"storage": endpoints.storage_url, "usgs": endpoints.usgs_url, "earthengine": endpoints.earthengine_url}
    if endpoints.prefect_url:
        urls["prefect"] = endpoints.prefect_url
    with httpx.Client(timeout=5.0, trust_env=False) as client:
        for name, url in urls.items():
            try:
                client.get(url + _HEALTH[name]).raise_for_status()
            except httpx.HTTPError:
                return None
    return endpoints


class LocalStack:
    """The stand-ins for Earth Engine, Cloud Storage and USGS, and a Prefect server when asked for.

    What they keep lies below `home`: `state/` (buckets, assets, events), `prefect/`, `logs/`. Entering raises
    `StackError` with the name of the service that did not come up and the end of its log, or when a stack is up in
    `home` already. Leaving stops everything, also after Ctrl-C and SIGTERM.
    """

    def __init__(
        self,
        home: Path,
        *,
        catalogues: Sequence[Path],
        usgs_folders: Sequence[Path],
        prefect: bool,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._home = home.resolve()
        self._catalogues = [path.resolve() for path in catalogues]
        self._usgs_folders = [path.resolve() for path in usgs_folders]
        self._prefect = prefect
        self._progress = progress
        self._exit = contextlib.ExitStack()
        self._endpoints: Endpoints | None = None
        self._services: list[Service] = []

    @property
    def endpoints(self) -> Endpoints:
        """Where the services are; raises `StackError` before the stack is up."""
        if self._endpoints is None:
            raise StackError("the local stack is not up: use it in a `with` block")
        return self._endpoints

    @property
    def auth_file(self) -> Path:
        """The file with the Prefect server's password, which only its owner can read."""
        return self._home / AUTH_FILE

    def environment(self) -> dict[str, str]:
        """`environment_of` the endpoints."""
        return environment_of(self.endpoints)

    def add(self, name: str, command: Sequence[str], *, environment: Mapping[str, str], health_path: str) -> Service:
        """Start another service beside those of the stack, which ends with them; returns it when it is well.

        In `command` and in the values of `environment`, `{port}` stands for a free port of the loopback interface.
        Raises `StackError` with the end of its log when it does not come up.
        """
        port = str(_free_port())
        service = Service(
            name, [part.replace("{port}", port) for part in command], self._home / "logs" / f"{name}.log",
            environment={key: value.replace("{port}", port) for key, value in environment.items()},
            url=f"http://127.0.0.1:{port}", health_path=health_path,
        )  # fmt: skip
        self._exit.callback(service.stop)
        service.start()
        try:
            start_together([service], START_DEADLINE_S, self._progress)
        except ServiceStartError as error:
            raise StackError(str(error)) from None
        self._services.append(service)
        return service

    def revive(self) -> tuple[str, ...]:
        """Start every service again that has ended by itself, where it was; returns their names. Does not wait."""
        return tuple(service.name for service in self._services if service.revive())

    def __enter__(self) -> LocalStack:
        with contextlib.ExitStack() as undo:
            undo.callback(setattr, self, "_endpoints", None)
            undo.enter_context(_terminated_as_exit())
            undo.enter_context(_claimed(self._home))
            self._endpoints = self._start(undo)
            state = {"pid": os.getpid(), "endpoints": _told(self._endpoints)}
            if self._endpoints.prefect_auth:
                write_auth(self._home, self._endpoints.prefect_auth)
                undo.callback(remove_auth, self._home)
            _write_json(self._home / STATE_FILE, state)
            undo.callback((self._home / STATE_FILE).unlink, missing_ok=True)
            self._exit = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    def _start(self, undo: contextlib.ExitStack) -> Endpoints:
        state = self._home / "state"
        storage = self._service("storage", ["--root", str(state / "storage")])
        data = [argument for folder in self._usgs_folders for argument in ("--data", str(folder))]
        usgs = self._service("usgs", [*data, "--state", str(state / "usgs")])
        up = [storage, usgs]
        auth = fresh_auth() if self._prefect else ""
        if self._prefect:
            up.append(_prefect(self._home, auth))
        undo.callback(stop_together, up)
        self._progress(f"starting {', '.join(service.name for service in up)}, earthengine")
        for service in up:
            service.start()
        try:
            # Earth Engine has to know where the storage is.
            start_together([storage], START_DEADLINE_S, self._progress)
            earthengine = self._service("earthengine", [*self._scenes(state), "--storage-endpoint", storage.url])
            up.append(earthengine)
            earthengine.start()
            _create_bucket(storage.url)
            start_together(up[1:], START_DEADLINE_S, self._progress)
        except ServiceStartError as error:
            raise StackError(str(error)) from None
        self._services = up
        prefect_url = up[2].url if self._prefect else ""
        return Endpoints(earthengine.url, storage.url, usgs.url, prefect_url, PROJECT, BUCKET, auth)

    def _scenes(self, state: Path) -> list[str]:
        folders = self._catalogues or [state / "no-catalogue"]
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        catalogues = [argument for folder in folders for argument in ("--catalogue", str(folder))]
        return [*catalogues, "--state", str(state / "earthengine")]

    def _service(self, name: str, arguments: list[str]) -> Service:
        return Service(
            name,
            [sys.executable, "-m", f"infra.local.{name}", *arguments, "--port", "{port}"],
            self._home / "logs" / f"{name}.log",
            environment={**os.environ, **_no_proxy()},
            health_path=_HEALTH[name],
        )


@contextlib.contextmanager
def prefect_server(home: Path, progress: Callable[[str], None] = lambda _: None) -> Iterator[dict[str, str]]:
    """A Prefect server alone, with its database in `home`/prefect, up inside the block; yields the variables for clients.

    Its password is in these variables only. Raises `StackError` with the end of its log when it does not come up.
    """
    auth = fresh_auth()
    service = _prefect(home.resolve(), auth)
    try:
        service.start()
        start_together([service], START_DEADLINE_S, progress)
        yield _prefect_variables(service.url, auth)
    except ServiceStartError as error:
        raise StackError(str(error)) from None
    finally:
        service.stop()


def _prefect(home: Path, auth: str) -> Service:
    """A Prefect server with settings of its own; those of the user, which may point to another server, are left out."""
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
        **_no_proxy(),
        "PREFECT_HOME": str(home / "prefect"),
        **_prefect_variables(url, auth),
        "PREFECT_SERVER_API_AUTH_STRING": auth,
        "PREFECT_SERVER_UI_API_URL": f"{url}/api",
        "PREFECT_SERVER_UI_ENABLED": "true",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # A watch a minute is half a million runs a year: those older than a week go, with their logs.
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs,orphans",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(7 * 86_400),
        "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": "P2D",
        "DO_NOT_TRACK": "1",
    }
    return Service(
        "prefect",
        [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
        home / "logs" / "prefect.log",
        environment=environment,
        url=url,
        health_path=_HEALTH["prefect"],
    )


def _create_bucket(storage_url: str) -> None:
    with httpx.Client(timeout=10.0, trust_env=False) as client:
        answer = client.post(f"{storage_url}/storage/v1/b", params={"project": PROJECT}, json={"name": BUCKET})
    if not answer.is_success and answer.status_code != httpx.codes.CONFLICT:
        raise StackError(f"the storage stand-in cannot create the bucket {BUCKET}: {answer.text}")


@contextlib.contextmanager
def _claimed(home: Path) -> Any:
    """Hold `home` for this process; the kernel lets go of it when the process ends."""
    (home / "logs").mkdir(parents=True, exist_ok=True)
    with (home / "stack.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            state = _read_state(home)
            holder = f"process {state['pid']}, {_addresses(state['endpoints'])}" if state else "another process"
            raise StackError(f"a local stack is up in {home} already ({holder}): use it, or stop it first") from None
        (home / STATE_FILE).unlink(missing_ok=True)  # of a process that was killed
        remove_auth(home)
        yield


@contextlib.contextmanager
def _terminated_as_exit() -> Any:
    """Let SIGTERM unwind the stack as Ctrl-C does, where nobody else handles it."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is leave:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _read_state(home: Path) -> dict[str, Any] | None:
    try:
        state = json.loads((home / STATE_FILE).read_text(encoding="utf-8"))
        return {"pid": int(state["pid"]), "endpoints": _told(Endpoints(**state["endpoints"]))}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _told(endpoints: Endpoints) -> dict[str, str]:
    """What other users of the machine may know: all but the password."""
    return {name: value for name, value in asdict(endpoints).items() if name != "prefect_auth"}


def _addresses(endpoints: Mapping[str, str]) -> str:
    return ", ".join(f"{name.removesuffix('_url')} {url}" for name, url in endpoints.items() if name.endswith("_url"))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _write_json(path: Path, value: Any) -> None:
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(json.dumps(value, indent=1), encoding="utf-8")
    temporary.replace(path)


def _no_proxy() -> dict[str, str]:
    """Requests to the loopback interface must not go to a proxy that the user has set."""
    names = [name for name in os.environ.get("NO_PROXY", os.environ.get("no_proxy", "")).split(",") if name]
    value = ",".join(dict.fromkeys([*names, "127.0.0.1", "localhost"]))
    return {"NO_PROXY": value, "no_proxy": value}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
