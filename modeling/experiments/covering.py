"""Sets of domains to hold out together, so that every two of them are held out together somewhere.

A choice for region D may use other regions E, if the models that are judged on E have seen neither E nor D. A model for
every pair would do; sets of three that cover all pairs (a covering design) do it with about a third as many models.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from modeling.errors import DataError


def held_out_sets(domains: Sequence[str], size: int | None = None) -> tuple[tuple[str, ...], ...]:
    """Sets of `size` domains that hold every pair at least once, chosen greedily; the same ones for the same domains.

    Without `size`: three of six domains or more, else two. Raises `DataError` when no domain would be left to learn from.
    """
    width = size or (3 if len(domains) >= 6 else 2)
    if not 2 <= width < len(domains):
        raise DataError(
            f"{len(domains)} domains are too few to hold {width} out: at least {width + 1} are needed, to learn from one"
        )
    missing = set(combinations(domains, 2))
    chosen = []
    while missing:
        best = max(combinations(domains, width), key=lambda some: len(missing & set(combinations(some, 2))))
        chosen.append(best)
        missing -= set(combinations(best, 2))
    return tuple(chosen)
