"""flows/hiding.py: what leaves a process as an error or an event has no secrets in it, and says the rest."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ValidationError

from flows.errors import FlowError, ServiceError
from flows.hiding import cleaned, hiding_secrets
from gee.errors import DamagedTileError

SECRET = "http://user:hunter2hunter2@proxy.example.org/x"


@pytest.mark.parametrize(
    "error",
    [
        ServiceError(f"{SECRET} cannot be reached"),
        DamagedTileError(f"{SECRET} is damaged", "r0c0"),
        OSError(5, f"{SECRET} does not answer", SECRET),
        ValueError("a", SECRET),
    ],
)
def test_an_error_stays_what_it_is_without_its_secret(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, hiding_secrets():
        raise error
    assert caught.value is error
    for told in (str(error), repr(error)):
        assert "hunter2" not in told
        assert "proxy.example.org" in told


def test_what_an_error_came_of_is_cleaned_as_well() -> None:
    @hiding_secrets()
    def failing() -> None:
        """Fails."""
        try:
            raise OSError(f"token=abcdefgh12345 refused by {SECRET}")
        except OSError as error:
            error.add_note(f"asked at {SECRET}")
            raise ServiceError("no answer") from error

    with pytest.raises(ServiceError, match="no answer") as caught:
        failing()
    cause = caught.value.__cause__
    assert cause is not None
    assert "hunter2" not in f"{cause} {cause.__notes__}"
    assert "abcdefgh12345" not in str(cause)
    assert failing.__doc__ == "Fails."


class _Only(BaseModel):
    number: int


def test_an_error_whose_words_are_its_own_is_told_by_another() -> None:
    with pytest.raises(FlowError, match="ValidationError: 1 validation error") as caught, hiding_secrets():
        _Only.model_validate({"number": SECRET})
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ValidationError), hiding_secrets():
        _Only.model_validate({"number": "seven"})


def test_a_payload_is_cleaned_at_any_depth_and_keeps_what_is_no_text() -> None:
    payload = {"error": SECRET, "list": [SECRET, 1, None], "deep": {"url": "gs://bucket/report.html", "share": 0.5}}
    clean = cleaned(payload)
    assert "hunter2" not in str(clean)
    assert clean["list"][1:] == [1, None]
    assert clean["deep"] == payload["deep"]
