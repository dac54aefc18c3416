"""What requests cost, in EECU-seconds: the question after their profiles.

A request with the header `X-Earth-Engine-Computation-Profiling: 1` gets the id of a profile back, and the (hidden)
algorithm `Profile.getProfiles` tells what was computed under it, as `ee.profilePrinting` prints it.
https://developers.google.com/earth-engine/guides/computation_overview
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from gee.errors import PermanentError, RequestTooLargeError, TransientError
from gee.session import Session


def eecu_seconds(session: Session, profiles: Sequence[str]) -> float | None:
    """What the requests with these profiles cost together, in EECU-seconds.

    None when there are no profiles or the service does not give them: pixels that have arrived are not lost for that.
    """
    if not profiles:
        return None
    call = {
        "functionName": "Profile.getProfiles",
        "arguments": {"ids": {"constantValue": list(profiles)}, "format": {"constantValue": "text"}},
    }
    expression = {"result": "0", "values": {"0": {"functionInvocationValue": call}}}
    try:
        answer = session.call("POST", f"{session.project_path}/value:compute", {"expression": expression})
    except (TransientError, PermanentError, RequestTooLargeError):
        return None
    return total_eecu_s(str(answer.get("result", "")))


def total_eecu_s(profile: str) -> float | None:
    """The sum of the first column of a profile's text, `EECU·s`; None when the text is no profile.

    A line without a number there (`-`) took too little to be counted.
    """
    lines = [line.split() for line in profile.splitlines() if line.strip()]
    if not lines or not lines[0][0].startswith("EECU"):
        return None
    try:
        return math.fsum(float(cells[0]) for cells in lines[1:] if cells[0] != "-")
    except ValueError:
        return None
