"""`Profile.getProfiles`: what earlier requests cost."""

from __future__ import annotations

from infra.local.earthengine.algorithms.registry import algorithm
from infra.local.earthengine.context import Context
from infra.local.earthengine.errors import ArgumentError

DESCRIPTION = "CPU seconds of the local stand-in"


@algorithm("Profile.getProfiles")
def get_profiles(context: Context, ids: list[str], format: str, maxEntries: int | None) -> str:
    """The profiles with these ids as one table, like the service's: EECU-seconds, memory, count, what was done."""
    if format != "text":
        raise ArgumentError(f"Profile.getProfiles: The local stand-in writes profiles as 'text', not as '{format}'.")
    found = [context.profiles.get(key) for key in ids]
    costs = [cost for cost in found if cost is not None]
    if len(costs) < len(ids):
        missing = next(key for key, cost in zip(ids, found, strict=True) if cost is None)
        raise ArgumentError(f"Profile.getProfiles: Profile '{missing}' not found.")
    seconds, memory = sum(cost.cpu_s for cost in costs), max((cost.answer_bytes for cost in costs), default=0)
    lines = [" EECU·s PeakMem Count  Description"]
    if costs:
        lines.append(f"{seconds:7.3f} {f'{memory // 1000}k':>7} {len(costs):5d}  {DESCRIPTION}")
    return "\n".join(lines) + "\n"
