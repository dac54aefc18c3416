"""The report on the shipped models: complete, said to be simulated, and the default follows from its validation part."""

from __future__ import annotations

from statistics import fmean

from modeling.experiments.geology_shipped import COMMAND, REPORTS, summary
from modeling.experiments.scheme import RULES, SETTING, SUBTRACTED
from modeling.json_file import read_json
from modeling.model import available_models, load_model
from modeling.training.shipped_regions import TRAINING_DOMAINS


def test_the_committed_report_holds_what_the_default_was_chosen_by() -> None:
    stored = read_json(REPORTS / "geology.json")
    text = (REPORTS / "geology.md").read_text(encoding="utf-8")
    assert stored["simulated"] is True
    assert "simulated" in text
    assert COMMAND in text
    assert {name: model["weights"] for name, model in stored["models"].items()} == {
        name: load_model(name).weights_hash for name in available_models()
    }, "the report is of the weights that ship"
    scores = {name: model["scores"] for name, model in stored["models"].items()}
    assert "\n".join(summary(scores)) in text

    def mean(name: str, arm: str) -> float:
        return fmean(scores[name][domain][arm]["object_f1"]["value"] for domain in TRAINING_DOMAINS)

    assert mean("resu-senet-slim_rgb", f"{RULES} {SUBTRACTED}") > mean("resu-senet-slim_rgb", SETTING)
    for two_dates in ("resu-senet-slim_rgb-terrain", "resu-senet-slim_ten-band"):
        assert mean(two_dates, RULES) <= mean(two_dates, SETTING)
