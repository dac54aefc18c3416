"""modeling/domains/learnt.py: what a model has learned from, as its card and the sample beside its weights say."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from fakes.weights import random_model

from modeling.adaptation.ensemble import ensemble_of
from modeling.domains.learnt import learnt_domains
from modeling.domains.sample_file import load_fingerprint, sample_path
from modeling.model import WEIGHTS_FOLDER, load_model, save_model

SHIPPED = WEIGHTS_FOLDER / "resu-senet-slim_rgb.safetensors"


def test_the_sample_beside_the_weights_and_the_card_are_both_asked(tmp_path: Path) -> None:
    sampled = tuple(dict.fromkeys(load_fingerprint(sample_path(SHIPPED)).domains))
    model = load_model(SHIPPED)
    assert learnt_domains(model) == sampled
    bare = {name: value for name, value in model.card.items() if name != "data"}
    path = save_model(replace(model, card=bare), tmp_path)
    assert learnt_domains(load_model(path)) is None, "the sample is not beside it"
    shutil.copy(sample_path(SHIPPED), tmp_path)
    assert learnt_domains(load_model(path)) == sampled
    sample_path(path).write_bytes(b"damaged")
    assert learnt_domains(load_model(path)) is None


def test_validation_ground_counts_as_learnt_from_and_held_out_ground_does_not() -> None:
    card = {"data": {"parts": {"training": {"a": "1"}, "validation": {"b": "1"}, "held out": {"c": "1"}}}}
    assert learnt_domains(replace(random_model("rgb"), card=card)) == ("a", "b")
    for odd in ({}, {"data": None}, {"data": {"parts": {"training": None}}}, {"data": {"parts": 3}}):
        assert learnt_domains(replace(random_model("rgb"), card=odd)) is None


def test_an_ensemble_has_learned_from_what_its_members_have() -> None:
    first, second = (
        replace(random_model("rgb"), name=name, card={"data": {"parts": {"training": {name: "1"}}}}) for name in "ab"
    )
    assert learnt_domains(ensemble_of([first, second])) == ("a", "b")
    assert learnt_domains(ensemble_of([first, random_model("rgb")])) is None
