"""What is asked of an adaptation, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from flows.adapt_facts import AdaptationFacts, verdict_text
from flows.adapt_work import HowToAdapt
from flows.publish import Publication
from modeling.adaptation.anchored import FewShot
from modeling.adaptation.changes import ChangeRule
from modeling.adaptation.judging import AS_IT_WAS


class AdaptRequest(BaseModel):
    """One request to adapt a map. All values are plain JSON, so that a deployment can be called with them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    event_id: str = Field(description="An event with a published version, or a folder of rasters.")
    labels: str = Field(description="File with the polygons.")
    version: int | None = Field(None, description="The version to begin with; the newest by default.")
    weights: str | None = Field(None, description="The weights that made it, where they do not ship with the program.")
    reach_m: float = Field(ChangeRule.reach_m, description="Ground this near to a polygon counts as looked at.")
    budget: float = Field(
        ChangeRule.budget, description="What may change elsewhere, as a share of the landslides there."
    )
    seconds: float = Field(FewShot.seconds, description="Time to adapt and judge.")
    steps: int = Field(FewShot.steps, description="Training steps, at most; 0: the decision alone is shifted.")
    seed: int = Field(0, description="Of windows and draws.")
    unproven: bool = Field(False, description="Publish also what was not shown to be better, unless it is worse.")

    @property
    def how(self) -> HowToAdapt:
        """What the steps need of it; raises `DataError` for numbers that mean nothing."""
        return HowToAdapt(
            FewShot(self.steps, seconds=self.seconds),
            ChangeRule(reach_m=self.reach_m, budget=self.budget),
            self.seed,
        )


@dataclass(frozen=True)
class Outcome:
    """What came of an adaptation."""

    adaptation: AdaptationFacts
    """Scores, verdict, and what changed."""
    publication: Publication | None
    """The new version; None when it was refused or written into a folder."""
    folder: Path | None = None
    """The folder that a map of rasters was written into."""

    @property
    def text(self) -> str:
        """The verdict in a sentence."""
        return verdict_text(self.adaptation)


def may_publish(facts: AdaptationFacts, *, unproven: bool) -> bool:
    """Whether an adaptation may become a version: when it is better, or `unproven` and asked for, never when it is worse."""
    judgement = facts.judgement
    if judgement.chosen == AS_IT_WAS or (facts.whole is not None and facts.whole.worse):
        return False
    return judgement.verdict == "better" or (unproven and judgement.verdict == "unproven")
