"""Learnt thresholds as a JSON file that says where they come from: which model's maps, which ground, what they gained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modeling.errors import DataError
from modeling.geology.learning import HeldOut, LabelledGround, learn_rules, leave_one_domain_out, mean_f1
from modeling.geology.rules import NO_RULES, GeologyRules, default_rules
from modeling.json_file import read_json, write_json
from modeling.model import LandslideModel

KIND = "quakeslide geology rules"
_VERSION = 2


@dataclass(frozen=True)
class LearntRules:
    """Thresholds with their provenance."""

    rules: GeologyRules
    """The thresholds."""
    pixel_m: float
    """Pixel size of the maps they were learnt on; on another they are worth nothing."""
    model: str
    """Name of the model whose maps these were."""
    weights_hash: str
    """sha256 of its weights."""
    ground: Mapping[str, tuple[str, ...]]
    """Domain -> names of the regions or patches that were learnt on."""
    subtracted: bool
    """Whether the maps had the map before the event subtracted."""
    mean_f1: Mapping[str, float]
    """`none`, `default`, `learnt` -> mean of the domains' F1 counted in landslides, on that same ground: what was chosen by,
    not what to expect."""
    held_out: tuple[Mapping[str, Any], ...]
    """A row a domain that was left out (`modeling.geology.learning.HeldOut`): what to expect; empty for a single domain."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        ground = {domain: list(names) for domain, names in self.ground.items()}
        return {"kind": KIND, "version": _VERSION, **vars(self), "rules": self.rules.to_json(), "ground": ground,
                "mean_f1": dict(self.mean_f1), "held_out": [dict(row) for row in self.held_out]}  # fmt: skip

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> LearntRules:
        """The inverse of `to_json`; raises `DataError` when it is none."""
        if stored.get("kind") != KIND or stored.get("version") != _VERSION:
            raise DataError(f"these are no {KIND} of version {_VERSION}: `quakeslide learn-rules` makes them")
        try:
            made = cls(
                GeologyRules.from_json(stored["rules"]),
                float(stored["pixel_m"]),
                str(stored["model"]),
                str(stored["weights_hash"]),
                {str(domain): tuple(map(str, names)) for domain, names in stored["ground"].items()},
                bool(stored["subtracted"]),
                {str(name): float(value) for name, value in stored["mean_f1"].items()},
                tuple(dict(row) for row in stored["held_out"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"the learnt rules cannot be read: {error!r}") from error
        return made


def learnt_from(grounds: Sequence[LabelledGround], model: LandslideModel, *, subtracted: bool = False) -> LearntRules:
    """Learn thresholds on maps of `model`, and measure them on every domain with the others' thresholds."""
    rules = learn_rules(grounds)
    pixel_m = grounds[0].pixel_m
    domains = dict.fromkeys(ground.domain for ground in grounds)
    held_out: tuple[HeldOut, ...] = leave_one_domain_out(grounds) if len(domains) > 1 else ()
    return LearntRules(
        rules,
        pixel_m,
        model.name,
        model.weights_hash,
        {domain: tuple(ground.name for ground in grounds if ground.domain == domain) for domain in domains},
        subtracted,
        {
            name: mean_f1(grounds, each)
            for name, each in (("none", NO_RULES), ("default", default_rules(pixel_m)), ("learnt", rules))
        },
        tuple(row.to_json() for row in held_out),
    )


def write_rules(path: Path, learnt: LearntRules) -> None:
    """Write the file, whole or not at all."""
    write_json(path, learnt.to_json())


def read_rules(path: Path) -> LearntRules:
    """Read the file; raises `DataError` when it is missing or something else."""
    if not path.is_file():
        raise DataError(f"{path}: there are no such rules; `quakeslide learn-rules` makes them")
    return LearntRules.from_json(read_json(path))
