"""Batches brought to the device for the step that needs them, ahead of it where the device is a GPU."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Literal

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from modeling.data.batches import IGNORE, Batch, Sampler
from modeling.errors import DataError

_AHEAD = 3
"""Batches of each process that wait, drawn, for their step."""

_CODES = {0, 1, IGNORE}
_WRITABLE: tuple[Literal["C"], Literal["W"]] = ("C", "W")  # torch takes other arrays with a warning only

Tensors = tuple[torch.Tensor, torch.Tensor]
"""Channels float32 (batch, channel, y, x) and truth uint8 (batch, y, x)."""


def fed(
    sampler: Sampler, numbers: Sequence[int], channels: int, *, workers: int = 0, device: torch.device
) -> Generator[Tensors]:
    """The batches `numbers` in that order, on `device`.

    With `workers` 0 each is drawn when it is asked for. That suits a CPU, all of whose cores train the network: a thread
    that draws meanwhile takes them from it at the wrong moments (0.89 of the speed of the network alone instead of 0.91,
    two cores, MSF-LiteNet). A GPU wants that many processes, which draw ahead. The batches are the same.

    Raises `DataError` for a batch with other channels or label values.
    """
    drawn = (
        (_drawn(sampler, number, channels) for number in numbers)
        if workers == 0
        else _by_processes(sampler, numbers, channels, workers)
    )
    return (_sent(tensors, device) for tensors in drawn) if device.type == "cuda" else drawn


def _sent(tensors: Tensors, device: torch.device) -> Tensors:
    """On their way to a GPU: the copy runs beside the network only from pinned memory."""
    x, y = (part if part.is_pinned() else part.pin_memory() for part in tensors)
    return x.to(device, non_blocking=True), y.to(device, non_blocking=True)


def checked(batch: Batch, number: int, channels: int) -> Tensors:
    """One drawn batch as tensors; raises `DataError` for what no network can learn from."""
    x, y = batch
    if x.ndim != 4 or x.shape[1] != channels or y.shape != (x.shape[0], *x.shape[2:]):
        raise DataError(
            f"batch {number}: channels have shape {x.shape} and truth {y.shape}; (batch, {channels}, y, x) and (batch, y, x)"
            " of the same patches are needed"
        )
    if x.dtype != np.float32 or y.dtype != np.uint8:
        raise DataError(f"batch {number}: channels are {x.dtype} and truth is {y.dtype}, not float32 and uint8")
    if wrong := [int(code) for code in np.flatnonzero(np.bincount(y.ravel(), minlength=256)) if code not in _CODES]:
        raise DataError(f"batch {number}: truth holds the values {wrong}; 0, 1 and {IGNORE} are possible")
    x, y = np.require(x, requirements=_WRITABLE), np.require(y, requirements=_WRITABLE)
    return torch.from_numpy(x), torch.from_numpy(y)


def _by_processes(sampler: Sampler, numbers: Sequence[int], channels: int, workers: int) -> Generator[Tensors]:
    # Not forked: the copy of a process whose other threads are at work (Prefect, Dask, torch) can die of their locks.
    loader = DataLoader(
        _Numbered(sampler, numbers, channels),
        multiprocessing_context="forkserver",
        batch_size=None,
        num_workers=workers,
        prefetch_factor=_AHEAD,
        pin_memory=torch.cuda.is_available(),
    )
    yield from loader


class _Numbered(Dataset[Tensors]):
    """The batches of a sampler as torch's loader asks for them: item i is batch `numbers[i]`."""

    def __init__(self, sampler: Sampler, numbers: Sequence[int], channels: int) -> None:
        self._sampler, self._numbers, self._channels = sampler, numbers, channels

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> Tensors:
        return _drawn(self._sampler, self._numbers[index], self._channels)


def _drawn(sampler: Sampler, number: int, channels: int) -> Tensors:
    return checked(sampler.draw(number), number, channels)
