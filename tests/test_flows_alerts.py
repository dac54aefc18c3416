"""flows/automations.py, alert_text.py, tell.py: people hear what they should, once, in words, without secrets."""

from __future__ import annotations

import email
import email.policy
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import yaml
from fakes.mail import Inbox, mail_server, slack, webhook
from fakes.running import eventually
from fakes.wiring import on_prefect
from hypothesis import given
from hypothesis import strategies as st
from prefect.blocks.notifications import CustomWebhookNotificationBlock, SlackWebhook
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events.actions import RunDeployment, SendNotification

from flows.alert_text import LONGEST, message
from flows.automations import ALERTS, EMAIL, PREFIX, block_names, housekeeping, put_automations, telling
from flows.campaign_events import KINDS, NAMES, emit
from flows.deploy import DEFINITION
from flows.errors import FlowError
from flows.settings import AlertSettings, Settings
from infra.local.stack import LocalStack

NUMBERS = {
    "title": "M 6.6, Hokkaido", "version": 2, "landslides": 3412, "landslide_area_m2": 12_345_678.0,
    "shares": {"cloud": 0.2, "observed": 0.75, "not imaged": 0.05}, "url": "https://example.org/item.json",
    "reason": "new scenes",
}  # fmt: skip


def test_a_published_version_is_told_with_its_numbers_and_its_link() -> None:
    told = message("published", "us2000h8ty", NUMBERS)
    assert told.subject == "M 6.6, Hokkaido: version 2 published: 3,412 landslides, 12.3 km²"
    assert told.text.splitlines() == [
        "new scenes",
        "Of the area: observed 75 %, cloud 20 %, not imaged 5 %",
        "https://example.org/item.json",
        "Campaign us2000h8ty",
    ]


def test_the_other_kinds_say_what_to_do_and_simulated_things_are_called_so() -> None:
    assert "quakeslide approve us1" in message("asking", "us1", {"question": "6,000 requests, allowed: 5,000"}).text
    failed = message(
        "failed", "us1", {"title": "M 7", "error": "ServiceError: token=abcdefgh12345 refused", "simulated": True}
    )
    assert failed.subject == "SIMULATED M 7: a step failed"
    assert "abcdefgh12345" not in failed.text
    assert message("opened", "us1", {}).subject == "us1: taken up"
    joined = message("joined", "us1", {"title": "M 7.5, Kaikoura", "reason": "M 7.5 is not below the rule's 5.5"})
    assert joined.subject == "M 7.5, Kaikoura: joins a sequence"
    assert "quakeslide status us1" in joined.text
    used_up = message("quota", "us1", {"title": "M 7", "error": "the compute time of project p is used up"})
    assert used_up.subject == "M 7: a quota is used up"
    assert "goes on by itself when the quota is renewed" in used_up.text


def test_every_kind_that_is_worth_telling_has_an_alert_and_no_kind_has_two() -> None:
    expected = [name for alert in ALERTS for name in alert.trigger.expect]
    campaign = [name.removeprefix(NAMES) for name in expected if name.startswith(NAMES)]
    assert sorted(campaign) == sorted({*KINDS} - {"due", "closed", "withdrawn"})


def test_every_deployment_whose_run_dies_is_told_of_but_the_watch() -> None:
    """Half of the time a watch is at work, so that most ends of a worker end one; the next follows within a minute."""
    deployed = {each["name"] for each in yaml.safe_load(DEFINITION.read_text())["deployments"]}
    died = next(alert for alert in ALERTS if alert.name == "a run died")
    assert isinstance(died.trigger.match_related, list)
    told = {name for related in died.trigger.match_related for name in related.get("prefect.resource.name", ())}
    assert told == deployed - {"watch"}


@given(
    st.sampled_from(KINDS),
    st.dictionaries(
        st.sampled_from([*NUMBERS, "error", "question", "simulated"]),
        st.none() | st.text() | st.integers() | st.booleans() | st.dictionaries(st.text(), st.floats(0, 1)),
    ),
)
def test_any_payload_gives_one_subject_and_a_short_text(kind: str, payload: dict[str, object]) -> None:
    told = message(kind, "us1", payload)
    assert told.subject
    assert len(told.subject.splitlines()) == 1
    assert len(told.text) <= LONGEST


def with_blocks(*blocks: str, to: str = "") -> Settings:
    return Settings(alerts=AlertSettings(blocks=blocks, email_to=to))


@pytest.mark.parametrize("wrong", ["ops", "slack-webhook/", "/ops", "a/b/c", ""])
def test_a_block_is_type_and_name(wrong: str) -> None:
    with pytest.raises(FlowError, match=r"alerts\.blocks"):
        block_names(with_blocks(wrong))


def test_mail_needs_somebody_to_go_to() -> None:
    with pytest.raises(FlowError, match=r"alerts\.email_to"):
        block_names(with_blocks(f"{EMAIL}/ops"))
    assert block_names(with_blocks(f"{EMAIL}/ops", to="a@b.org")) == ((EMAIL, "ops"),)


def test_an_alert_goes_out_from_the_server_and_mail_by_a_run() -> None:
    slack, mail, tell = uuid4(), uuid4(), uuid4()
    made = telling(ALERTS[0], [("slack-webhook", slack), (EMAIL, mail)], tell)
    sent, run = made.actions
    assert isinstance(sent, SendNotification)
    assert isinstance(run, RunDeployment)
    assert (sent.block_document_id, run.deployment_id) == (slack, tell)
    assert set(run.parameters or {}) == {"subject", "text"}


def test_names_are_unique_and_are_this_programs() -> None:
    names = [alert.name for alert in ALERTS] + [each.name.removeprefix(PREFIX) for each in housekeeping()]
    assert len(set(names)) == len(names)


@pytest.fixture(scope="module")
def server(stack: LocalStack) -> Iterator[str]:
    variables = {name: value for name, value in stack.environment().items() if name.startswith("PREFECT_")}
    with on_prefect(variables), pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield variables["PREFECT_API_URL"]


@pytest.fixture
def client(server: str) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as made:
        yield made
        for each in made.read_automations():
            if each.name.startswith(PREFIX):
                made.delete_automation(each.id)


def hears(inbox: Inbox, words: str) -> bool:
    return any(words in call["subject"] for call in inbox.calls)


def test_a_webhook_hears_what_people_should_and_nothing_else(client: SyncPrefectClient) -> None:
    with webhook() as inbox:
        block = CustomWebhookNotificationBlock(
            name="ops", url=f"http://127.0.0.1:{inbox.port}/", method="POST",
            json_data={"subject": "{{subject}}", "text": "{{body}}", "key": "{{token}}"},
            secrets={"token": "a-secret-of-the-server"},
        )  # fmt: skip
        block.save("ops", overwrite=True)
        settings = with_blocks("custom-webhook/ops")
        names = put_automations(client, settings)
        assert put_automations(client, settings) == names
        there = [each.name for each in client.read_automations() if each.name.startswith(PREFIX)]
        assert sorted(there) == sorted(names)
        assert "a-secret-of-the-server" not in json.dumps(
            [each.model_dump(mode="json") for each in client.read_automations()]
        )
        for kind in ("due", "closed", "withdrawn"):
            assert emit(kind, "us1", title="M 5")
        assert emit("published", "us1", **NUMBERS)
        assert eventually(lambda: hears(inbox, "version 2 published: 3,412 landslides"))
        for _ in range(3):
            assert emit("failed", "us1", title="M 6.6", error="ServiceError: Earth Engine does not answer")
        assert emit("opened", "us2", title="M 7.1, Kaikoura", reason="M 7.1 >= 5.5")
        assert eventually(lambda: hears(inbox, "M 7.1, Kaikoura: taken up"))
        assert eventually(lambda: hears(inbox, "M 6.6: a step failed"))
        assert emit("joined", "us2", title="M 7.5, Kaikoura", reason="M 7.5 >= 5.5")
        for _ in range(2):
            assert emit("quota", "us1", title="M 6.6", error="HTTP 429: token=abcdefgh12345 used up")
        assert eventually(lambda: hears(inbox, "M 7.5, Kaikoura: joins a sequence"))
        assert eventually(lambda: hears(inbox, "M 6.6: a quota is used up"))
        assert len(inbox.calls) == 5, "the same failure is told once, and the rest is quiet"
        assert {call["key"] for call in inbox.calls} == {"a-secret-of-the-server"}


_EMITS = """
import json, sys
from flows.campaign_events import emit
from flows.services import drain_prefect
assert emit("published", "us1", **json.loads(sys.argv[1]))
drain_prefect()
"""


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # by apprise
def test_slack_hears_of_a_version_from_a_server_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with slack(tmp_path) as (inbox, reached):
        for name, value in (reached | {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}).items():
            monkeypatch.setenv(name, value)
        with LocalStack(tmp_path / "home", catalogues=[], usgs_folders=[], prefect=True) as own:
            variables = {name: value for name, value in own.environment().items() if name.startswith("PREFECT_")}
            for name, value in variables.items():
                monkeypatch.setenv(name, value)
            with on_prefect(variables), get_client(sync_client=True) as client:
                SlackWebhook(url="https://hooks.slack.com/services/T00000000/B00000000/abcdefgh").save("ops")
                put_automations(client, with_blocks("slack-webhook/ops"))
                shown = json.dumps([each.model_dump(mode="json") for each in client.read_automations()])
                assert "abcdefgh" not in shown
                # A process of its own: in this one events still go to the server of other tests.
                subprocess.run([sys.executable, "-c", _EMITS, json.dumps(NUMBERS)], check=True, timeout=120)
                assert eventually(lambda: bool(inbox.calls))
    (call,) = inbox.calls
    assert call["path"] == "/services/T00000000/B00000000/abcdefgh"
    told = json.dumps(call)
    assert "version 2 published: 3,412 landslides, 12.3 km" in told
    assert "https://example.org/item.json" in told


def test_a_block_that_is_not_there_is_named(client: SyncPrefectClient) -> None:
    with pytest.raises(FlowError, match="slack-webhook/nobody is not on the server"):
        put_automations(client, with_blocks("slack-webhook/nobody"))


def test_mail_is_sent_by_a_run(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from prefect_email import EmailServerCredentials

    from flows.tell import tell

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QUAKESLIDE_ALERTS__BLOCKS", json.dumps([f"{EMAIL}/ops"]))
    monkeypatch.setenv("QUAKESLIDE_ALERTS__EMAIL_TO", "ops@example.org")
    with mail_server() as inbox:
        credentials = EmailServerCredentials(
            username="robot@example.org",
            password="any-that-there-is",
            smtp_server="127.0.0.1",
            smtp_type="INSECURE",
            smtp_port=inbox.port,
        )
        credentials.save("ops", overwrite=True)
        assert tell.with_options(retries=0)("M 6.6:\nversion 2", "3 landslides\n<b>not bold</b>") == 1
    (text,) = inbox.mails
    mail = email.message_from_string(text, policy=email.policy.default)
    assert (mail["To"], mail["Subject"]) == ("ops@example.org", "M 6.6: version 2")
    plain, html = (part.get_content() for part in mail.iter_parts())
    assert plain.splitlines() == ["3 landslides", "<b>not bold</b>"]
    assert "&lt;b&gt;" in html
