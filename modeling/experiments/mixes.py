"""Training mixes of several domains: `Ib500J200` is 500 patches of Iburi and 200 of Jiuzhaigou (Yang et al. 2024).

700 training patches in the proportions 700/0, 500/200, 350/350, 200/500 and 0/700 of two domains. The paper splits its
samples 7:3; here that is read as 700 patches to train on and 300 more, in the same proportions, to validate on, and the
two lie on ground apart. Patches come in a fixed order, so the 200 of one mix are part of the 500 of another.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from modeling.bands import BandSet
from modeling.benchmark.data import Source
from modeling.data import augment
from modeling.data.batches import IGNORE, Blocks, FloatArray, Sampler
from modeling.data.normalise import Normalisation, fit_stream
from modeling.data.pieces import FirstOf, PieceBlocks, PieceSampler
from modeling.errors import DataError

SHARES = ((7, 0), (5, 2), (3.5, 3.5), (2, 5), (0, 7))
"""The paper's five mixes of two domains, in sevenths."""
VALIDATION = 3 / 7
"""Validation patches for each training patch."""

_MIXED = re.compile(r"(?:[A-Za-z][A-Za-z_-]*\d+)+")
_PART = re.compile(r"([A-Za-z][A-Za-z_-]*)(\d+)")
_AT_ONCE = 16


@dataclass(frozen=True)
class Part:
    """What one domain gives to a mix."""

    domain: str
    """Its name."""
    patches: int
    """How many training patches."""


@dataclass(frozen=True)
class Mix:
    """A training set of one domain or several; no domain is there twice."""

    name: str
    """As tables and keys of runs call it."""
    parts: tuple[Part, ...]
    """What each domain gives, those with nothing left out; without any, everything of `domains`."""
    everything_of: tuple[str, ...] = ()
    """Domains of which all training ground is used, in place of `parts`."""

    def __post_init__(self) -> None:
        """Raise `DataError` for a mix of nothing, of a domain twice, or of fewer than one patch of a domain."""
        if bool(self.parts) == bool(self.everything_of):
            raise DataError(f"the mix {self.name!r} must have either counted parts or whole domains")
        if len(set(self.domains)) < len(self.domains):
            raise DataError(f"the mix {self.name!r} names a domain twice: {', '.join(self.domains)}")
        if wrong := [part for part in self.parts if part.patches < 1]:
            raise DataError(f"the mix {self.name!r} takes {wrong[0].patches} patches of {wrong[0].domain}")

    @property
    def domains(self) -> tuple[str, ...]:
        """Where its patches come from."""
        return self.everything_of or tuple(part.domain for part in self.parts)

    @property
    def patches(self) -> int:
        """Training patches in all; 0 where they are not counted."""
        return sum(part.patches for part in self.parts)

    def sampler(
        self, source: Source, band_set: BandSet, *, batch: int, patch_px: int, seed: int, augmentation: str
    ) -> Sampler:
        """Training batches; raises `DataError` when a domain has fewer patches than the mix takes of it."""
        if self.everything_of:
            return source.sampler(
                band_set, self.everything_of, batch=batch, patch_px=patch_px, seed=seed, augmentation=augmentation
            )
        sizes = augment.augmentation(augmentation)
        return PieceSampler(self._pieces(source, "training", patch_px), band_set, batch, seed, sizes, patch_px)

    def training(self, source: Source, band_set: BandSet, *, patch_px: int) -> Blocks:
        """The training patches as they are; of whole domains all that there are."""
        return PieceBlocks(self._pieces(source, "training", patch_px), band_set)

    def validation(self, source: Source, band_set: BandSet, *, patch_px: int) -> Blocks:
        """Validation patches in the same proportions, three for each seven; of whole domains all validation ground."""
        if self.everything_of:
            return source.blocks("validation", band_set, self.everything_of)
        return PieceBlocks(self._pieces(source, "validation", patch_px), band_set)

    def normalisation(self, source: Source, band_set: BandSet, method: str, *, patch_px: int) -> Normalisation:
        """Fitted to the training patches."""
        if self.everything_of:
            return source.normalisation(band_set, self.everything_of, method)
        return fit_stream(method, _values(self.training(source, band_set, patch_px=patch_px)))

    def require(self, source: Source, patch_px: int) -> None:
        """Raise `DataError` when a domain has fewer patches than the mix takes of it, before anything is trained."""
        for part in ("training", "validation"):
            self._pieces(source, part, patch_px)

    def _pieces(self, source: Source, part: str, patch_px: int) -> FirstOf:
        sets = tuple(source.pieces(part, domain, patch_px) for domain in self.domains)
        counts = [len(each) for each in sets]
        if not self.everything_of:
            share = 1.0 if part == "training" else VALIDATION
            counts = [max(1, round(share * each.patches)) for each in self.parts]
        for domain, each, count in zip(self.domains, sets, counts, strict=True):
            if count > len(each):
                raise DataError(
                    f"the mix {self.name} takes {count} {part} patches of {domain}, which has {len(each)}: ask for fewer "
                    "patches (--patches), or give it more data (--regions, --data)"
                )
        return FirstOf(sets, tuple(counts))


def whole(domains: Sequence[str]) -> Mix:
    """All training ground of these domains."""
    return Mix("+".join(domains), (), tuple(domains))


def parse_mix(text: str, domains: Sequence[str]) -> Mix:
    """A mix from its name: `Ib500J200`, or `iburi:500+jiuzhaigou:200` for domains whose names end in digits.

    Names of domains may be shortened as long as only one of `domains` begins like that. Raises `DataError` saying what
    cannot be read.
    """
    if ":" in text:
        found = [(name.strip(), count) for name, _, count in (part.partition(":") for part in text.split("+"))]
    elif _MIXED.fullmatch(text):
        found = [(match[1], match[2]) for match in _PART.finditer(text)]
    else:
        found = []
    if not found or not all(count.strip().isdecimal() for _, count in found):
        raise DataError(
            f"{text!r} is not a mix: write Ib500J200, or iburi:500+jiuzhaigou:200, with domains of {', '.join(domains)}"
        )
    parts = [Part(_domain(name, domains, text), int(count)) for name, count in found]
    return Mix(text.replace(":", ""), tuple(part for part in parts if part.patches))


def mix_of(counts: Sequence[tuple[str, int]], among: Sequence[str] = ()) -> Mix:
    """A mix of counted patches, named by as much of each domain's name as tells it from `among`: `Ib500J200`."""
    kept = [(domain, count) for domain, count in counts if count]
    told = tuple(dict.fromkeys((*(domain for domain, _ in counts), *among)))
    name = "".join(f"{short(domain, told)}{count}" for domain, count in kept)
    return Mix(name, tuple(Part(domain, count) for domain, count in kept))


def proportions(first: str, second: str, total: int = 700, among: Sequence[str] = ()) -> tuple[Mix, ...]:
    """The paper's five mixes of two domains; `among` are the domains that names must be told from."""
    made = []
    for share, _ in SHARES:
        one = round(total * share / 7)
        made.append(mix_of([(first, one), (second, total - one)], (first, second, *among)))
    return tuple(dict.fromkeys(made))


def short(domain: str, among: Sequence[str]) -> str:
    """As much of a domain's name as tells it from the others, at least one letter: `J`; `Ib`, as the paper writes it."""
    if any(letter.isdigit() for letter in domain):
        return f"{domain}-"
    least = 2 if domain[:1] in "io" else 1  # I700 would be read as a number
    for length in range(least, len(domain)):
        if not any(other.startswith(domain[:length]) for other in among if other != domain):
            return domain[:length].capitalize()
    return domain.capitalize()


def _domain(name: str, domains: Sequence[str], text: str) -> str:
    lower = name.strip().lower()
    exact = [domain for domain in domains if domain.lower() == lower]
    found = exact or [domain for domain in domains if lower and domain.lower().startswith(lower)]
    if len(found) != 1:
        why = f"begins {', '.join(found)}" if found else "is no domain"
        raise DataError(f"the mix {text!r}: {name!r} {why}; there are {', '.join(domains)}")
    return found[0]


def _values(blocks: Blocks) -> Iterator[FloatArray]:
    """Channel values (channel, n) of the pixels that count, some patches at a time."""
    some: list[FloatArray] = []
    for block in blocks:
        some.append(block.channels[:, block.truth != IGNORE])
        if len(some) == _AT_ONCE:
            yield np.concatenate(some, axis=1)
            some = []
    if some:
        yield np.concatenate(some, axis=1)
