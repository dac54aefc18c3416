"""Measuring what bfloat16 does to a trained model: both types over the same pixels, as prediction computes them."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from modeling.data.batches import IGNORE, Blocks
from modeling.data.dataset import RegionBlocks
from modeling.errors import DataError, ModelingError
from modeling.model import WEIGHTS_FOLDER, LandslideModel, available_models, load_model, save_model
from modeling.prediction.inference import Execution, Precision, choose, prepare
from modeling.prediction.precision import Bfloat16Proof
from modeling.scoring.metrics import Confusion, confusion

log = logging.getLogger(__name__)


def prove_bfloat16(
    model: LandslideModel,
    blocks: Blocks,
    about: str,
    *,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Bfloat16Proof:
    """F1 of `model` at its own threshold over `blocks`, computed in float32 and in bfloat16.

    Blocks should be those on which the threshold was chosen, or others that were not trained on, and are each computed in
    one piece; `about` says what they are. Raises `DataError` when no pixel counts.
    """
    counts = {"float32": Confusion(), "bfloat16": Confusion()}
    ready = {name: prepare(model, _whole(model, device, name)) for name in ("float32", "bfloat16")}
    for done, block in enumerate(blocks, start=1):
        valid = block.truth != IGNORE
        x = torch.from_numpy(np.ascontiguousarray(block.channels))[None]
        for name, fast in ready.items():
            mapped = fast.probability(x)[0].cpu().numpy() >= model.threshold
            counts[name] += confusion(mapped, block.truth == 1, valid)
        if progress is not None:
            progress(done, len(blocks))
    exact, rough = counts["float32"], counts["bfloat16"]
    if not (pixels := sum(exact.counts)):
        raise DataError(f"bfloat16 cannot be proven on {about}: no pixel counts")
    return Bfloat16Proof(
        f1_float32=exact.scores()["f1"], f1_bfloat16=rough.scores()["f1"], pixels=pixels,
        landslide_pixels=exact.tp + exact.fn, blocks=about,
    )  # fmt: skip


def _whole(model: LandslideModel, device: str, precision: Precision) -> Execution:
    return choose(model, device=device, precision=precision, tile_px=1)


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m modeling.training.proving`: measure the shipped models and store what was found in their JSON."""
    from modeling.training.shipped_regions import regions_of, shipped_split

    parser = argparse.ArgumentParser(prog="python -m modeling.training.proving", description=main.__doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="names of shipped models; all when none is named")
    parser.add_argument("--work", type=Path, default=Path(".quakeslide/training"), help="where the regions are kept")
    parser.add_argument("--regions", type=int, default=4, help="validation regions of each training domain")
    parser.add_argument(
        "--threads", type=int, default=torch.get_num_threads(), help="threads, and processes that simulate"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(options.threads)
    try:
        plans = shipped_split(validation=options.regions).validation
        regions = regions_of(options.work / "regions", plans, options.threads)
        for name in options.models or available_models():
            model = load_model(name)
            about = f"validation: {', '.join(region.name for region in regions)}"
            proof = prove_bfloat16(model, RegionBlocks(regions, model.bands), about)
            save_model(replace(model, bfloat16=proof), WEIGHTS_FOLDER)
            log.info("%s: F1 %.4f in float32, %.4f in bfloat16", name, proof.f1_float32, proof.f1_bfloat16)
    except ModelingError as error:
        log.error("%s", error)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
