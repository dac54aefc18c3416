"""How much memory a network takes, by the sizes of its tensors, and what the machine has left."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_PROBE_YX = 1024, 64
"""Rows as in a large tile, for networks that work in bands of rows; of columns as few as networks can halve five times."""
_OVERHEAD = 1.25
"""What the allocator and the convolutions' own buffers add, as measured on a CPU."""


def bytes_per_pixel(body: nn.Module, channels: int, dtype: torch.dtype) -> float:
    """Peak bytes of tensors for each pixel of the input while `body` maps (1, channels, y, x), input included.

    A narrow strip is mapped and the sizes of the tensors are summed up. Not on the meta device, which maps nothing: for
    some layers torch imports its compiler there, which takes two seconds and 60 MB of every process that maps.
    """
    network = copy.deepcopy(body).to(dtype=dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with torch.inference_mode(), _Live() as live:
        x = torch.zeros((1, channels, *_PROBE_YX), dtype=dtype).contiguous(memory_format=torch.channels_last)
        network(x)
    return float(_OVERHEAD * live.peak_bytes / math.prod(_PROBE_YX))


class _Live(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves these untyped
    """Sums up the storages that are alive while it is entered."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: to be skipped by it, torch would import its compiler, which takes two seconds and 60 MB."""
        return False

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak_bytes = 0
        self._storages: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        gone = [key for key, (kept, _) in self._storages.items() if kept.expired()]  # type: ignore[no-untyped-call]
        for key in gone:
            del self._storages[key]
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                reference = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
                self._storages[reference.cdata] = reference, storage.nbytes()
        self.peak_bytes = max(self.peak_bytes, sum(size for _, size in self._storages.values()))
        return made


def available_bytes(device: torch.device) -> int:
    """Memory that is free on a device: a GPU's own, or the machine's, within the limit of a container."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = [amount for amount in (_of_machine(), _of_container()) if amount is not None]
    return min(free, default=_UNKNOWN_BYTES)


_UNKNOWN_BYTES = 2 * 2**30


def _of_machine(path: Path = Path("/proc/meminfo")) -> int | None:
    if not path.is_file():
        return None
    lines = (line.split() for line in path.read_text(encoding="ascii").splitlines())
    return next((int(line[1]) * 1024 for line in lines if line[0] == "MemAvailable:"), None)


def _of_container(folder: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Within a control group (version 2) that has a limit."""
    limit, used = folder / "memory.max", folder / "memory.current"
    if not (limit.is_file() and used.is_file()):
        return None
    most = limit.read_text(encoding="ascii").strip()
    return max(0, int(most) - int(used.read_text(encoding="ascii"))) if most.isdigit() else None
