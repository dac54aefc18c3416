"""`python -m modeling.realism`: compare the simulator with the real data of a folder and write the report."""

from __future__ import annotations

import argparse
import datetime as dt
import logging
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from modeling.errors import ModelingError
from modeling.json_file import read_json, write_json
from modeling.realism.report import as_json, markdown, worst
from modeling.realism.sections import FOLDS, SECTIONS, Settings, all_sections

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="python -m modeling.realism", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the real data sets")
    parser.add_argument(
        "--out", type=Path, default=Path("modeling/reports"), help="receives simulator.md, .json, pictures"
    )
    parser.add_argument("--seeds", type=int, default=FOLDS, help=f"simulated regions a comparison, at least {FOLDS}")
    parser.add_argument("--size", type=int, default=512, help="side of the simulated regions, pixels")
    parser.add_argument("--only", action="append", choices=list(SECTIONS), default=[], help="one part; may be repeated")
    parser.add_argument("--before", type=Path, help="simulator.json of an earlier simulator, to show before and after")
    options = parser.parse_args(given)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        if options.seeds < FOLDS or options.size < 256:
            raise ModelingError(f"--seeds {options.seeds} --size {options.size}: at least {FOLDS} and 256 are needed")
        earlier = None if options.before is None else read_json(options.before)
        out: Path = options.out
        settings = Settings(options.data, out / "simulator", options.seeds, options.size)
        sections = all_sections(settings, options.only)
        command = shlex.join(["python", "-m", "modeling.realism", *given])
        made_on = dt.datetime.now(dt.UTC).date().isoformat()
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "simulator.json", as_json(sections, command=command, made_on=made_on))
        text = markdown(sections, command=command, made_on=made_on, folder=out, earlier=earlier)
        partial = out / f".simulator.{os.getpid()}.md"
        partial.write_text(text, encoding="utf-8")
        partial.replace(out / "simulator.md")
    except ModelingError as error:
        log.error("%s", error)
        return 2
    for each in worst(sections):
        log.info("%s: real %.3g, simulated %.3g %s", each.name, each.real[2], each.simulated[2], each.unit)
    log.info("report: %s", out / "simulator.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
