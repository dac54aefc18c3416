"""What is known of a network's probabilities of 0.9 and more, for the facts of a map that it makes."""

from __future__ import annotations

from dataclasses import replace

from flows.facts import ReportFacts
from flows.settings import ModelSettings
from modeling.model import LandslideModel
from modeling.uncertainty.stored import uncertainty_of, wrong_when_sure


def with_sure_claims(facts: ReportFacts, model: LandslideModel, settings: ModelSettings) -> ReportFacts:
    """`facts` with whether `model` keeps such probabilities back, and how often they were wrong on unseen ground.

    That was measured for the network as it is: not adapted, without mirrored tiles or moved means of light.
    """
    fitted = uncertainty_of(model)
    plain = settings.symmetries == 1 and settings.scene_means == 0
    wrong = wrong_when_sure(fitted) if fitted is not None and plain and model.keeps_back else None
    return replace(facts, provenance=replace(facts.provenance, kept_back=model.keeps_back, wrong_when_sure=wrong))
