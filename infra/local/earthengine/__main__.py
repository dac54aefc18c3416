"""`python -m infra.local.earthengine --catalogue DIR --state DIR`: serve on the loopback address.

Prints one JSON line, `{"url": …}`, when it is ready, and serves until it is interrupted.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from infra.local.earthengine.app import MAX_CONCURRENT, create_app
from infra.local.earthengine.errors import ServiceError
from infra.local.standin import run


def main(arguments: list[str] | None = None) -> int:
    """Serve until interrupted. Exit code 2 for a wrong argument."""
    parser = argparse.ArgumentParser(prog="python -m infra.local.earthengine", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--catalogue", type=Path, action="append", required=True, help="folder of scenes; may be repeated"
    )
    parser.add_argument("--state", type=Path, required=True, help="folder for written assets and operations")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--storage-endpoint", default="", help="address of the Cloud Storage stand-in")
    parser.add_argument("--latency-s", type=float, default=0.0, help="seconds by which every answer is held back")
    parser.add_argument("--operation-s", type=float, default=0.3, help="seconds that an ingestion or export takes")
    parser.add_argument("--max-concurrent", type=int, default=MAX_CONCURRENT, help="requests at the same time")
    parser.add_argument("--memory-pixels", type=int, default=0, help="larger requests meet a memory limit; 0: none")
    chosen = parser.parse_args(arguments)
    try:
        app = create_app(
            chosen.catalogue,
            chosen.state,
            storage_endpoint=chosen.storage_endpoint,
            latency_s=chosen.latency_s,
            operation_s=chosen.operation_s,
            max_concurrent=chosen.max_concurrent,
            memory_pixels=chosen.memory_pixels,
        )
    except ServiceError as error:
        sys.stderr.write(f"the Earth Engine stand-in cannot start: {error}\n")
        return 2
    return run(app, chosen.port)


if __name__ == "__main__":
    sys.exit(main())
