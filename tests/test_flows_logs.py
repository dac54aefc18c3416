"""flows/logs.py: no secret gets out, whichever way it comes in, and a line of JSON is one line."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.logs import HIDDEN, JsonLines, Redacting, logging_environment, redacted, secrets_here

SECRETS = [
    "https://user:hunter2hunter2@example.org/x",
    "https://hooks.slack.com/services/T000/B000/abcdefgh",
    "Authorization: Bearer abcdef.ghijkl-mnop",
    "Authorization: Basic dXNlcjpwYXNzd29yZA==",
    "ya29.a0AfH6SMBabcdefgh",
    "AIzaSyA1234567890abcdefghijklmnopqrstuv",
    "password=hunter2hunter2",
    '{"private_key": "abc def ghi"}',
    "api_key: abcdefgh12345",
    "X-Goog-Signature=0123456789abcdef&x=1",
    "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\n-----END PRIVATE KEY-----",
]


@pytest.mark.parametrize("text", SECRETS)
def test_what_looks_like_a_secret_is_taken_out(text: str) -> None:
    said = redacted(f"it failed with {text} at noon")
    assert HIDDEN in said
    assert said.startswith("it failed with ")
    for secret in (
        "hunter2",
        "B000/abc",
        "ghijkl",
        "dXNlcjpw",
        "a0AfH6",
        "SyA12345",
        "def ghi",
        "h12345",
        "89abcdef",
        "MIIEv",
    ):
        assert secret not in said


@given(st.text(st.characters(categories=["L", "N"], include_characters=" .,-"), max_size=80))
def test_prose_is_left_as_it_is(text: str) -> None:
    assert redacted(f"tile {text} km²") == f"tile {text} km²" or "ya29." in text


@given(
    st.text("abcdefXYZ0123456789!$%", min_size=8, max_size=40),
    st.sampled_from(["A_TOKEN", "MY_PASSWORD", "X_AUTH_STRING"]),
)
def test_secrets_of_the_environment_are_known_by_their_names(secret: str, name: str) -> None:
    os.environ[name] = secret
    try:
        assert secret in secrets_here()
        assert secret not in redacted(f"refused: {secret}, try again")
    finally:
        del os.environ[name]


def record(message: str, *arguments: object, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("flows.map_event", logging.WARNING, "f.py", 1, message, arguments, None)
    made.__dict__.update(extra)
    return made


def test_a_record_is_cleaned_with_its_arguments_and_its_error() -> None:
    one = record("opened %s", "https://me:hunter2hunter2@host/x")
    try:
        raise ValueError("password=hunter2hunter2")
    except ValueError:
        one.exc_info = sys.exc_info()
    assert Redacting().filter(one)
    line = json.loads(JsonLines().format(one))
    assert "hunter2" not in json.dumps(line)
    assert line["message"] == f"opened https://{HIDDEN}@host/x"
    assert "ValueError" in line["error"]


@given(st.text(max_size=60), st.text(max_size=20))
def test_a_line_of_json_is_one_line_and_says_which_run_it_is_of(message: str, run: str) -> None:
    line = JsonLines().format(record("%s", message, flow_run_name=run, flow_run_id="7"))
    assert "\n" not in line
    value = json.loads(line)
    assert (value["message"], value["level"], value["flow_run_id"]) == (message, "WARNING", "7")
    assert value.get("flow_run_name", "") == run


CODE = """
import logging
from prefect.logging import get_logger
from prefect.logging.configuration import setup_logging

setup_logging()  # as at the beginning of a run
get_logger().warning("told of %s", "password=hunter2hunter2", extra={"flow_name": "noisy"})
logging.getLogger("other").error("and " + "https://a:hunter2hunter2@b/c")
"""


@pytest.mark.parametrize("kind", ["text", "json"])
def test_prefect_logs_so(kind: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    environment = {**os.environ, **logging_environment(kind), "PREFECT_HOME": str(tmp_path_factory.mktemp("home"))}
    environment["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "DEBUG"
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True)
    assert "hunter2" not in done.stdout + done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    if kind == "json":
        value = json.loads(lines[0])
        assert (value["message"], value["flow_name"]) == (f"told of password={HIDDEN}", "noisy")
