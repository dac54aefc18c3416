"""What training leaves for later choices: the fingerprint of the ground, written beside the weights by the program."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modeling.data.batches import Blocks
from modeling.domains.fingerprint import fingerprint_of
from modeling.domains.novelty import calibrated
from modeling.domains.sample_file import CARD_KEY, card_entry, sample_path, save_fingerprint
from modeling.errors import DataError

log = logging.getLogger(__name__)


def record_sample(
    weights: Path,
    training: Blocks,
    validation: Blocks,
    channels: Sequence[str],
    *,
    seed: int = 0,
    about: str = "",
    simulated: bool = False,
) -> dict[str, Any]:
    """Write the fingerprint of a model's training ground beside its weights; returns what its card says of it.

    Where hardly a pixel has all channels there is none: the card then says nothing, and the model can be used but not
    ranked. Neither blocks' truth is read.
    """
    path = sample_path(weights)
    try:
        sample = fingerprint_of(training, channels, seed=seed, about=about, simulated=simulated)
        sample = calibrated(sample, validation)
    except DataError as error:
        log.warning("%s has no sample of its training ground: %s", weights.stem, error)
        path.unlink(missing_ok=True)
        return {}
    return {CARD_KEY: card_entry(sample, save_fingerprint(sample, path))}
