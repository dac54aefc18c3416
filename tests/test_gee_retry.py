"""What each failure means, and how long to wait."""

from __future__ import annotations

import datetime as dt
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gee.errors import BusyError, GeeError, PermanentError, QuotaError, RequestTooLargeError, TransientError
from gee.retry import classify, pause_s, retry_after_s


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (429, "", BusyError),
        (500, "An internal error has occurred", TransientError),
        (408, "", TransientError),
        (503, "User memory limit exceeded.", RequestTooLargeError),
        (400, "Too many concurrent aggregations.", BusyError),
        (403, "Rate Limit Exceeded", BusyError),
        (403, "User Rate Limit Exceeded. Rate of requests for user exceed configured project quota.", BusyError),
        (
            429,
            "Quota exceeded for quota metric 'Number of read requests' and limit 'Number of read requests per minute per "
            "user' of service 'earthengine.googleapis.com' for consumer 'project_number:1'.",
            BusyError,
        ),
        (400, "Earth Engine capacity exceeded.", BusyError),
        (400, "Earth Engine memory capacity exceeded.", BusyError),
        (
            429,
            "Quota exceeded for quota metric 'Earth Engine compute time (EECU-time)' and limit 'EECU-time per day' of "
            "service 'earthengine.googleapis.com' for consumer 'project_number:1'.",
            QuotaError,
        ),
        (403, "The project has used up its monthly quota of EECU-hours.", QuotaError),
        (400, "Computation timed out.", RequestTooLargeError),
        (
            400,
            "Total request size (56623104 bytes) must be less than or equal to 50331648 bytes.",
            RequestTooLargeError,
        ),
        (400, "Pixel grid dimensions (40000x1) must be less than or equal to 32768.", RequestTooLargeError),
        (400, "Reprojection output too large (13041x8901 pixels).", RequestTooLargeError),
        (
            400,
            "Output of image computation is too large (20 bands for 12582912 pixels = 240.0 MiB > 80.0 MiB).\n"
            "If this is a reduction, try specifying a larger 'tileScale' parameter.",
            RequestTooLargeError,
        ),
        (400, "Computed value is too large.", RequestTooLargeError),
        (413, "", RequestTooLargeError),
        (413, "Request payload size exceeds the limit: 10485760 bytes.", PermanentError),
        (400, "Image.select: Pattern 'B9' did not match any bands.", PermanentError),
        (400, "Reducer.percentile: percentiles must be less than 100", PermanentError),
        (
            400,
            "Image.reduceRegion: Too many pixels in the region. Found 8, but maxPixels allows only 4.",
            PermanentError,
        ),
        (403, "Permission denied", PermanentError),
        (404, "Asset not found", PermanentError),
    ],
)
def test_classes_of_failure(status: int, message: str, kind: type[GeeError]) -> None:
    assert classify(status, message) is kind


@given(st.integers(400, 599), st.text())
def test_every_answer_has_a_class(status: int, message: str) -> None:
    assert issubclass(classify(status, message), GeeError)


def test_retry_after_in_both_its_forms() -> None:
    now = dt.datetime(2024, 1, 1, 7, 10, 0, tzinfo=dt.UTC)
    assert retry_after_s("12", now) == 12.0
    assert retry_after_s("0.5", now) == 0.5
    assert retry_after_s("Mon, 01 Jan 2024 07:10:30 GMT", now) == 30.0
    assert retry_after_s("Mon, 01 Jan 2024 07:00:00 GMT", now) == 0.0
    for unreadable in (None, "", "soon", "-3", "2024-01-01", "nan", "inf"):
        assert retry_after_s(unreadable, now) == 0.0


@given(st.integers(0, 5000), st.floats(0.01, 2.0), st.floats(0, 300), st.integers())
def test_the_pause_grows_within_bounds_and_is_never_shorter_than_asked(
    attempt: int, first_s: float, asked_s: float, seed: int
) -> None:
    pause = pause_s(attempt, first_s, asked_s, random.Random(seed))
    step = min(60.0, first_s * math.ldexp(1.0, min(attempt, 60)))
    assert asked_s + step / 2 <= pause <= asked_s + step
