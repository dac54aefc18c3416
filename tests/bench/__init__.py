"""Throughput measured: `make bench`, or `python -m tests.bench STAGE ... --quick`. See `cases` for how a stage is written."""

from __future__ import annotations

import sys
from pathlib import Path

_TESTS = str(Path(__file__).resolve().parents[1])
if _TESTS not in sys.path:  # for `fakes`, as pytest does
    sys.path.insert(0, _TESTS)
