"""The domains that a model has learned from, as far as its files say."""

from __future__ import annotations

from modeling.domains.sample_file import CARD_KEY, load_fingerprint, sample_path
from modeling.errors import WeightsError
from modeling.model import LandslideModel

_PARTS = ("training", "validation")


def learnt_domains(model: LandslideModel) -> tuple[str, ...] | None:
    """What its card and the sample of its ground beside its weights name, of an ensemble all members'; None: neither says.

    Domains that only checkpoint and threshold were chosen on are among them.
    """
    members: tuple[LandslideModel, ...] = getattr(model, "members", ())
    if members:
        each = [learnt_domains(member) for member in members]
        told = [domains for domains in each if domains is not None]
        # Where one member says nothing, nobody knows what all of them have learned from.
        return tuple(dict.fromkeys(name for one in told for name in one)) if len(told) == len(members) else None
    found = dict.fromkeys((*_of_card(model), *_of_sample(model)))
    return tuple(found) or None


def _of_card(model: LandslideModel) -> tuple[str, ...]:
    try:
        parts = model.card["data"]["parts"]
        return tuple(str(name) for part in _PARTS for name in parts.get(part, ()))
    except (KeyError, TypeError, AttributeError):
        return ()


def _of_sample(model: LandslideModel) -> tuple[str, ...]:
    path, entry = None if model.file is None else sample_path(model.file), model.card.get(CARD_KEY)
    if path is None or not path.is_file():
        return ()
    stated = entry.get("sha256") if isinstance(entry, dict) else None
    try:
        return tuple(dict.fromkeys(load_fingerprint(path, stated).domains))
    except WeightsError:
        return ()
