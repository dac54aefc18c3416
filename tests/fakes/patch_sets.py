"""A patch data set on disk that any network learns in a few steps: the toy of `fakes.training`, in two domains."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fakes.training import BANDS, SIDE_PX, patch
from modeling.data.patch_store import PARTS, About, Patch, writing

ABOUT = About(
    source="simulated squares",
    licence="CC0-1.0",
    command="python -c 'write_toy_set(...)'",
    split="by number",
    distance_px=10,
)


def write_toy_set(
    path: Path, counts: tuple[int, int, int] = (6, 3, 2), domains: tuple[str, ...] = ("here", "there")
) -> Path:
    """Training, validation and test patches of each domain."""
    with writing(path, BANDS.channels, SIDE_PX, ABOUT) as writer:
        for number, domain in enumerate(domains):
            for part, count in enumerate(counts):
                for index in range(count):
                    channels, truth = patch((number, part, index))
                    name = f"{domain}-{PARTS[part]}-{index}"
                    writer.append(Patch(channels.astype(np.float32), truth, name, domain, part, pixel=10.0))
    return path
