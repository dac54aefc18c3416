"""Training as a Prefect flow: the same run as `quakeslide train`, with live progress, curves and the card as artifacts."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE

from flows.errors import FlowError
from flows.hiding import hiding_secrets
from flows.training import TrainRequest, run_training, weights_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from modeling.training.progress import Tick


@flow(name="train", flow_run_name="train-{request.recipe}", persist_result=False, validate_parameters=True)
def train(request: TrainRequest) -> str:
    """Train as asked, or go on with it; returns the path of the weights.

    A run that failed or was killed goes on from its last checkpoint when the flow is run again with the same request on
    the same storage. Raises `ModelingError` or `FlowError` in one line that says what to do.
    """
    weights = Path(train_network(request))
    key = artifact_key(weights.stem)
    create_markdown_artifact(key=f"{key}-card", markdown=weights.with_suffix(".md").read_text(encoding="utf-8"))
    image = base64.b64encode(weights.with_suffix(".png").read_bytes()).decode()
    create_image_artifact(f"data:image/png;base64,{image}", key=f"{key}-curves", description=f"{weights.stem}: curves")
    return str(weights)


@task(name="train-network", cache_policy=NO_CACHE, persist_result=False)
@hiding_secrets()
def train_network(request: TrainRequest) -> str:
    """Run the training; returns the path of the weights."""
    tell = _progress(request.recipe)
    if request.devices > 1:
        return _in_processes(request, tell)
    return weights_of(request, run_training(request, tell))


def artifact_key(text: str) -> str:
    """A name as Prefect takes it for artifacts: a-z, 0-9 and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _progress(recipe: str) -> Callable[[Tick], None]:
    """Hears of the run: keeps one progress artifact up to date, and logs validations."""
    log = get_run_logger()
    known = create_progress_artifact(0.0, key=f"{artifact_key(recipe)}-training", description=f"training {recipe}")

    def tell(tick: Tick) -> None:
        update_progress_artifact(known, 100.0 * tick.step / tick.steps)  # type: ignore[arg-type]
        if tick.row is not None:
            row = tick.row
            log.info(
                "step %d/%d: validation loss %.4f, F1 %.4f",
                tick.step,
                tick.steps,
                row.validation_loss,
                row.validation_f1,
            )

    return tell


def _in_processes(request: TrainRequest, tell: Callable[[Tick], None]) -> str:
    """Several devices are one process each, and each starts the program again: that cannot be a flow's engine."""
    from modeling.training.progress import Row, Tick

    command = [sys.executable, "-m", "flows.training", request.model_dump_json()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603
        assert process.stdout is not None
        assert process.stderr is not None
        with ThreadPoolExecutor(1) as pool:
            complaints = pool.submit(process.stderr.read)
            said: dict[str, Any] = {}
            for line in process.stdout:
                said = json.loads(line)
                if "step" in said:
                    rows = tuple(Row(**row) for row in said["curve"])
                    tell(Tick(**{**said, "row": rows[-1] if said["row"] else None, "curve": rows}))
        if process.wait() != 0 or "weights" not in said:
            why = (complaints.result().strip().splitlines() or ["without a word"])[-1]
            raise FlowError(f"training on {request.devices} devices ended with status {process.returncode}: {why}")
    return str(said["weights"])
