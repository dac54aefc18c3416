"""`python -m flows.adapt_trial --out modeling/reports`: try `quakeslide adapt` on simulated events; see the package."""

from __future__ import annotations

import datetime as dt
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.errors import FlowError

DOMAINS = "luding,haiti,hualien,papua"


def main(
    domains: Annotated[str, typer.Option(help="Simulated domains that the network has not learnt from.")] = DOMAINS,
    events: Annotated[int, typer.Option(min=1, help="Events of each.")] = 3,
    polygons: Annotated[int, typer.Option(min=5, help="Polygons drawn on each map, half of them landslides.")] = 20,
    weights: Annotated[str, typer.Option(help="The network to map with.")] = "resu-senet-slim_ten-band",
    seconds: Annotated[float, typer.Option(help="Time to adapt and judge, of each.")] = 150.0,
    processes: Annotated[int, typer.Option(min=1, help="Maps at a time, one core each.")] = os.cpu_count() or 1,
    work: Annotated[Path, typer.Option(help="Folder that keeps what is finished.")] = Path(".quakeslide/adapt_trial"),
    out: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("modeling/reports"),
) -> None:
    """Map simulated events, draw on the maps, adapt them, and report what it was worth; the same command goes on."""
    from flows.adapt_trial.report import write_report
    from flows.adapt_trial.trial import cases, run_cases
    from flows.progress import report
    from flows.run import say, shown_progress
    from modeling.benchmark.speed import this_device
    from modeling.domains.learnt import learnt_domains
    from modeling.model import load_model

    os.environ["OMP_NUM_THREADS"] = "1"  # in the processes that are started
    names = [part.strip() for part in domains.split(",") if part.strip()]
    model = load_model(weights)
    if learnt := sorted(set(names) & set(learnt_domains(model) or ())):
        raise FlowError(f"{model.name} has learnt from {', '.join(learnt)}: name domains that it has not seen")
    with shown_progress():
        trials = list(
            run_cases(
                cases(names, events, polygons), work, weights, seconds, processes,
                lambda done, total: report("try maps", done, total),
            )
        )  # fmt: skip
    about = {
        "made_on": dt.datetime.now(dt.UTC).date().isoformat(),
        "command": shlex.join(["python", "-m", "flows.adapt_trial", *sys.argv[1:]]),
        "device": f"{this_device('cpu').name}, {processes} maps at a time",
        "network": f"{model.name}, weights {model.weights_hash[:12]}",
    }
    say(f"report: {write_report(out, trials, about)}")


if __name__ == "__main__":
    try:
        typer.run(main)
    except FlowError as error:
        typer.echo(f"quakeslide: {error}", err=True)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        typer.echo("interrupted; go on with the same command", err=True)
        raise SystemExit(130) from None
