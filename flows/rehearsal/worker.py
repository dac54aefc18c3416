"""A worker of the rehearsal: a process of its own that does what the lines on its standard input say, one after another.

`{"do": "poll", "now": TIME}` looks at the USGS once, `{"do": "due", "now": TIME}` lists the campaigns whose step is due
and when the next one will be, `{"do": "step", "now": TIME, "campaign": ID}` makes a step. Each is answered by one line of
JSON with the memory of this process; what fails is answered by its error, as a flow run would show it.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

LATER = dt.timedelta(days=3650)


def main() -> int:
    """Work until the standard input ends."""
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever else is printed goes to the log
    work = _Work()
    channel.write(json.dumps({"ready": True, **memory()}) + "\n")
    for line in sys.stdin:
        wanted = json.loads(line)
        forget_peak()
        begun = time.monotonic()
        try:
            answer = work.do(wanted)
        except Exception as error:  # noqa: BLE001 - any failure of the work is an answer
            said = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
            answer = {"error": said, "type": type(error).__name__}
        took = {"took_s": round(time.monotonic() - begun, 3)}
        channel.write(json.dumps({"do": wanted["do"], **answer, **took, **memory()}) + "\n")
    return 0


class _Work:
    """What a worker does, with one connection to each service."""

    def __init__(self) -> None:
        from flows.settings import load_settings
        from flows.storage import Store
        from flows.usgs import UsgsClient

        self.settings = load_settings()
        self.store = Store(f"gs://{self.settings.storage.bucket}", self.settings.storage.endpoint)
        self.usgs = UsgsClient(self.settings.usgs.url, self.settings.usgs.timeout_s)

    def do(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Do one thing."""
        now = dt.datetime.fromisoformat(wanted["now"])
        if wanted["do"] == "poll":
            return self.poll(now)
        if wanted["do"] == "due":
            return self.due(now)
        from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

        from flows.campaign_step import campaign_step

        # Prefect's thread for a run's signs of life holds up its end by up to a second; nobody waits for them here.
        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            return {"said": campaign_step(wanted["campaign"], now)}

    def poll(self, now: dt.datetime) -> dict[str, Any]:
        """Look at the USGS once."""
        from flows.watching.poll import work_off

        report = work_off(self.usgs, self.store, self.settings, now)
        changes = [[change.kind, change.campaign_id] for change in report.changes]
        return {"changes": changes, "news": report.news, "pending": report.pending, "troubles": report.troubles[:3]}

    def due(self, now: dt.datetime) -> dict[str, Any]:
        """The campaigns whose turn it is, and when there will be others."""
        from flows.campaign import store as campaigns
        from flows.campaign.model import State
        from flows.campaign.turns import ready

        present = campaigns.open_campaigns(self.store)
        later = [
            max(one.look_after, one.lease.until if one.lease is not None else one.look_after)
            for one in present
            if one.state in (State.WAITING, State.MAPPING)
        ]
        coming = min((one for one in later if one > now), default=now + LATER)
        asking = [one.id for one in present if one.state is State.ASKING]
        due = [one.id for one in ready(present, now, self.settings.campaign.at_once)]
        return {"due": due, "next": coming.isoformat(), "open": len(present), "asking": asking}


def memory() -> dict[str, float]:
    """What this process holds now and held at most since `forget_peak`, in MB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    held = {name: int(re.search(rf"{name}:\s+(\d+) kB", status)[1]) / 1024 for name in ("VmRSS", "VmHWM")}  # type: ignore[index]
    return {"rss_mb": round(held["VmRSS"], 1), "peak_mb": round(held["VmHWM"], 1)}


def forget_peak() -> None:
    """Begin the high-water mark anew; where the kernel does not allow it, it stays that of the process's life."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


if __name__ == "__main__":
    sys.exit(main())
