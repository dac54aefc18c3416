"""A process of its own that asks Earth Engine as fast as it may: `python -m fakes.asking_process JSON`."""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from gee.ledger import Terms
from gee.quota import open_share
from gee.session import SessionConfig, connect

TERMS = Terms(lease_s=6, skew_s=1, renew_s=0.5)
"""Quicker than in production, so that a test sees leases come and go."""
EXPRESSION = {"result": "0", "values": {"0": {"constantValue": 1}}}


def main(given: dict[str, object]) -> None:
    """Ask with `threads` threads for `seconds`, after a line on stdin; prints how it went as JSON."""
    seconds, threads = float(str(given.pop("seconds"))), int(str(given.pop("threads")))
    config = SessionConfig(**given)  # type: ignore[arg-type]
    first = None
    if config.quota_uri:
        first = open_share(
            config.quota_uri, config.project, concurrent=config.max_concurrent, per_s=config.max_per_s,
            endpoint=config.storage_endpoint, terms=TERMS,
        )  # fmt: skip
    _say("ready")
    sys.stdin.readline()
    with connect(config) as session, ThreadPoolExecutor(threads) as pool:
        end, most = time.monotonic() + seconds, 0

        def ask(_: int) -> None:
            nonlocal most
            while time.monotonic() < end:
                session.call("POST", f"{session.project_path}/value:compute", {"expression": EXPRESSION})
                most = max(most, session.gate.share.concurrent)

        list(pool.map(ask, range(threads)))
        counters = session.gate.counters
        told = {"succeeded": counters.succeeded, "refused": counters.refused, "last": session.gate.share.concurrent}
    if first is not None:
        first.close()
    _say(json.dumps({**told, "most": most}))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
