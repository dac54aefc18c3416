"""flows/running.py, deploy.py, worker.py: deployed on a real server, an event starts a step on a real worker."""

from __future__ import annotations

import datetime as dt
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from fakes.running import NOTES, eventually, toy_definition
from fakes.wiring import on_prefect
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.flows import load_flow_from_entrypoint
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelled, Scheduled

from flows.automations import PREFIX
from flows.campaign_events import KINDS, emit, event_name
from flows.deploy import definition, deploy, pool_names
from flows.errors import FlowError, ServiceError
from flows.late_runs import drop_late_runs
from flows.running import add_worker
from flows.services import applied
from flows.settings import CampaignSettings, load_settings
from infra.local.service import Service, start_together
from infra.local.stack import LocalStack


@dataclass(frozen=True)
class Up:
    """A worker on a stack, with the toys deployed."""

    notes: Path
    worker: Service
    definition: Path

    def called(self, campaign_id: str) -> list[Path]:
        return sorted(self.notes.glob(f"{campaign_id}.*"))


@pytest.fixture(scope="module")
def up(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("running")
    notes = folder / "notes"
    notes.mkdir()
    (folder / "here").mkdir()
    definition = toy_definition(folder, "watch", "campaign-step")
    variables = {
        **stack.environment(),
        NOTES: str(notes),
        "PYTHONPATH": str(Path(__file__).parent),
        "PREFECT_HOME": str(folder / "prefect"),
    }
    before = Path.cwd()
    os.chdir(folder / "here")
    try:
        with applied(variables) as settings, on_prefect(variables):
            worker = add_worker(stack, settings, lambda _: None, definition)
            yield Up(notes, worker, definition)
            worker.stop()
            with get_client(sync_client=True) as client:
                for each in client.read_deployments():
                    client.delete_deployment(each.id)
    finally:
        os.chdir(before)


@pytest.fixture
def client(up: Up) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as made:
        yield made


def test_an_event_starts_the_step_of_its_campaign_in_the_workers_folder(up: Up) -> None:
    assert emit("due", "us2000h8ty", title="M 6.6, Hokkaido")
    called = eventually(lambda: up.called("us2000h8ty"))
    assert len(called) == 1
    assert Path(called[0].read_text()).name == "here"
    assert emit("due", "us2000h8ty"), "again, before the step can have been worked on"
    assert emit("due", "us7000other")
    assert eventually(lambda: up.called("us7000other"))
    assert len(up.called("us2000h8ty")) == 1, "one campaign is not called twice at once"


def test_the_watch_has_its_schedule_and_calls_steps(up: Up, client: SyncPrefectClient) -> None:
    found = client.read_deployment_by_name("watch/watch")
    assert [schedule.schedule.interval.total_seconds() for schedule in found.schedules] == [60]  # type: ignore[union-attr]
    client.create_flow_run_from_deployment(found.id)
    assert eventually(lambda: up.called("us1000test"))


def test_deploying_again_changes_limits_and_doubles_nothing(up: Up, client: SyncPrefectClient) -> None:
    settings = load_settings().model_copy(update={"campaign": CampaignSettings(at_once=7)})
    before = {each.name for each in client.read_automations()}
    done = deploy(settings, source=up.definition)
    assert done.pools == ("cpu", "gpu")
    assert done.deployments == ("campaign-step/campaign-step", "watch/watch")
    names = [each.name for each in client.read_automations()]
    assert sorted(names) == sorted(before)
    assert [name for name in names if name.startswith(PREFIX)] == list(done.automations)
    step = client.read_deployment_by_name("campaign-step/campaign-step")
    assert step.global_concurrency_limit is not None
    assert step.global_concurrency_limit.limit == 7


def test_a_worker_that_was_killed_is_revived_and_works_on(up: Up, stack: LocalStack) -> None:
    assert stack.revive() == ()
    assert up.worker._process is not None
    tether = psutil.Process(up.worker._process.pid)
    processes = [tether, *tether.children(recursive=True)]
    tether.send_signal(signal.SIGKILL)
    psutil.wait_procs(processes, timeout=30)
    assert stack.revive() == ("worker",)
    assert eventually(lambda: _well(f"{up.worker.url}/health"))
    assert emit("due", "us1000after")
    assert eventually(lambda: up.called("us1000after"))


def _well(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def test_runs_that_should_have_begun_long_ago_are_dropped_and_newer_ones_stay(
    up: Up, client: SyncPrefectClient
) -> None:
    deployment = client.read_deployment_by_name("campaign-step/campaign-step")
    client.pause_deployment(deployment.id)
    client.update_work_pool("gpu", WorkPoolUpdate(is_paused=True))
    try:
        made = {
            minutes: client.create_flow_run_from_deployment(
                deployment.id, parameters={"campaign_id": "late"},
                state=Scheduled(scheduled_time=dt.datetime.now(dt.UTC) - dt.timedelta(minutes=minutes)),
            ).id
            for minutes in (1, 30, 600)
        }  # fmt: skip
        assert drop_late_runs() == 2
        names = {minutes: client.read_flow_run(run).state_name for minutes, run in made.items()}
        assert (names[30], names[600]) == ("Cancelled", "Cancelled")
        assert names[1] in ("Scheduled", "Late")
        assert drop_late_runs() == 0
        client.set_flow_run_state(made[1], Cancelled(), force=True)
    finally:
        client.update_work_pool("gpu", WorkPoolUpdate(is_paused=False))
        client.resume_deployment(deployment.id)


def test_without_a_server_nothing_is_told_and_nothing_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        assert emit("due", "us1") is False
        assert drop_late_runs() == 0
        with pytest.raises(ServiceError, match="no Prefect server is set"):
            deploy(load_settings())


def test_the_file_of_deployments_names_flows_that_are_there_and_take_what_events_bring(tmp_path: Path) -> None:
    value = definition(load_settings().model_copy(update={"campaign": CampaignSettings(at_once=3)}))
    names = {each["name"] for each in value["deployments"]}
    assert names >= {"watch", "campaign-step", "map-event", "train", "adapt", "janitor"}
    for each in value["deployments"]:
        found = load_flow_from_entrypoint(each["entrypoint"], use_placeholder_flow=False)
        assert found.name == each["name"] or each["name"] == "adapt"
        for trigger in each.get("triggers", []):
            assert set(trigger["parameters"]) <= set(found.parameters.properties)
            assert set(trigger["expect"]) <= {event_name(kind) for kind in KINDS}
    assert value["deployments"][1]["concurrency_limit"]["limit"] == 3
    assert pool_names(value) == ("cpu", "gpu")
    broken = tmp_path / "prefect.yaml"
    broken.write_text("deployments: [1")
    with pytest.raises(FlowError, match="no file of deployments"):
        definition(load_settings(), broken)


@pytest.mark.slow
def test_a_server_with_a_password_is_deployed_on_with_it_and_not_without(tmp_path: Path) -> None:
    """Another process in each case, as Prefect reads its settings when it is imported."""
    from infra.local.stack import _free_port

    secret = "admin:correct-horse-battery"
    port = _free_port()
    url = f"http://127.0.0.1:{port}/api"
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "QUAKESLIDE_"))}
    plain |= {"PREFECT_HOME": str(tmp_path / "home"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
    server = Service(
        "prefect", [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
        tmp_path / "prefect.log", environment={**plain, "PREFECT_SERVER_API_AUTH_STRING": secret},
        url=url.removesuffix("/api"), health_path="/api/health",
    )  # fmt: skip
    server.start()
    try:
        start_together([server], 120.0, lambda _: None)
        command = [sys.executable, "-c", "from flows.cli import main; main()", "deploy"]
        for given, status in ((None, 2), ("admin:wrong-horse-battery", 2), (secret, 0)):
            environment = {**plain, "PREFECT_API_URL": url} | ({"PREFECT_API_AUTH_STRING": given} if given else {})
            done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
            said = done.stdout + done.stderr
            assert done.returncode == status, said
            assert "horse" not in said, "no password is shown"
            assert ("Unauthorized" in said or "401" in said) == (status == 2)
        assert "watch/watch" in said
    finally:
        server.stop()
    assert "horse" not in (tmp_path / "prefect.log").read_text()
