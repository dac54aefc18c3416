"""`python -m infra.local.earthengine --catalogue DIR --state DIR`: serve on the loopback address.

Prints one JSON line, `{"url": …}`, when it is ready, and serves until it is interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from infra.local.earthengine.algorithms.registry import known, summary
from infra.local.earthengine.allowance import MAX_ASSETS, MAX_BYTES
from infra.local.earthengine.app import MAX_CONCURRENT, create_app
from infra.local.earthengine.errors import ServiceError
from infra.local.earthengine.operations import QUEUE
from infra.local.faults import Fault
from infra.local.standin import run

EPILOG = """
examples
  --latency-s 0.2                          a distant service
  --max-concurrent 40 --max-per-s 100      the quota of an ordinary project: 429 beyond it
  --memory-pixels 262144                   tiles above 512 x 512 pixels need too much memory
  --fault '{"match": "Pixels", "every": 2, "status": 429}'
                                           every second request for pixels is one too many
  --fault '{"match": "Pixels", "share": 0.1, "seed": 1, "reset": "after", "cut_after": 100000}'
                                           one connection of ten breaks in mid-answer

While it runs, POST one fault as JSON to URL/_standin/faults; GET URL/_standin/log tells what was asked.
The fields of a fault are in infra/local/faults.py, the catalogue folder in infra/local/README.md.
"""


class _ListAlgorithms(argparse.Action):
    """`--algorithms`: say what is known, and end."""

    def __call__(self, parser: argparse.ArgumentParser, *rest: Any) -> None:
        for name in sorted(known()):
            sys.stdout.write(f"{name}: {summary(name)}\n")
        parser.exit()


def _fault(text: str) -> Fault:
    try:
        return Fault.from_json(json.loads(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m infra.local.earthengine",
        description=str(__doc__).splitlines()[0],
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "--catalogue", type=Path, action="append", required=True, help="folder of scenes; may be repeated"
    )
    made.add_argument("--state", type=Path, required=True, help="folder for written assets and operations")
    made.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 takes a free one")
    made.add_argument("--storage-endpoint", default="", help="address of the Cloud Storage stand-in")
    made.add_argument("--operation-s", type=float, default=0.3, help="seconds that an ingestion or export takes")
    made.add_argument("--max-assets", type=int, default=MAX_ASSETS, help="assets that a project may keep")
    made.add_argument("--max-bytes", type=int, default=MAX_BYTES, help="ingested bytes that a project may keep")
    made.add_argument("--max-queued", type=int, default=QUEUE, help="ingestions and exports that may wait")
    made.add_argument(
        "--algorithms", action=_ListAlgorithms, nargs=0, help="list the algorithms that are known, and end"
    )
    failing = made.add_argument_group("told to fail, or to be slow")
    failing.add_argument("--latency-s", type=float, default=0.0, help="seconds by which every answer is held back")
    failing.add_argument("--max-concurrent", type=int, default=MAX_CONCURRENT, help="requests at the same time")
    failing.add_argument("--max-per-s", type=float, default=0.0, help="requests in a second; 0: any number")
    failing.add_argument("--memory-pixels", type=int, default=0, help="larger requests meet a memory limit; 0: none")
    failing.add_argument("--bytes-per-s", type=float, default=0.0, help="speed of each answer; 0: any")
    failing.add_argument("--fault", type=_fault, action="append", default=[], help="a fault as JSON; may be repeated")
    return made


def planned(chosen: argparse.Namespace) -> list[Fault]:
    """The faults that a command line asks for."""
    faults = list(chosen.fault)
    if chosen.max_per_s:
        faults.append(Fault.from_json({"match": "^/v1/", "above_per_s": chosen.max_per_s, "status": 429}))
    if chosen.bytes_per_s:
        faults.append(Fault.from_json({"match": "^/v1/", "bytes_per_s": chosen.bytes_per_s, "count": None}))
    return faults


def main(arguments: list[str] | None = None) -> int:
    """Serve until interrupted. Exit code 2 for a wrong argument."""
    chosen = parser().parse_args(arguments)
    try:
        app = create_app(
            chosen.catalogue,
            chosen.state,
            storage_endpoint=chosen.storage_endpoint,
            latency_s=chosen.latency_s,
            operation_s=chosen.operation_s,
            max_concurrent=chosen.max_concurrent,
            memory_pixels=chosen.memory_pixels,
            max_assets=chosen.max_assets,
            max_bytes=chosen.max_bytes,
            max_queued=chosen.max_queued,
            faults=planned(chosen),
        )
    except ServiceError as error:
        sys.stderr.write(f"the Earth Engine stand-in cannot start: {error}\n")
        return 2
    return run(app, chosen.port)


if __name__ == "__main__":
    sys.exit(main())
