"""The report on the shipped models: complete, said to be simulated, and the default follows from its validation part."""

from __future__ import annotations

from modeling.experiments.geology_shipped import COMMAND, REPORTS, summary
from modeling.experiments.scheme import RULES, SETTING, SUBTRACTED
from modeling.json_file import read_json
from modeling.model import available_models


def test_the_committed_report_holds_what_the_default_was_chosen_by() -> None:
    stored = read_json(REPORTS / "geology.json")
    text = (REPORTS / "geology.md").read_text(encoding="utf-8")
    assert stored["simulated"] is True
    assert "simulated" in text
    assert COMMAND in text
    assert set(stored["models"]) <= set(available_models())
    scores = {name: model["scores"] for name, model in stored["models"].items()}
    assert "\n".join(summary(scores)) in text

    def mean(name: str, arm: str) -> float:
        domains = ("iburi", "jiuzhaigou", "palu")
        return sum(scores[name][domain][arm]["object_f1"]["value"] for domain in domains) / len(domains)

    assert mean("msf-litenet_rgb", f"{RULES} {SUBTRACTED}") > mean("msf-litenet_rgb", SETTING)
    for two_dates in ("msf-litenet_rgb-terrain", "msf-litenet_ten-band"):
        assert mean(two_dates, RULES) <= mean(two_dates, SETTING)
