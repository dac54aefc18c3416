"""The report of the trial: what `quakeslide adapt` said of each map, and what became of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from flows.adapt_trial.trial import DRAWINGS, SIDE_PX, Trial

_VERDICTS = ("better", "unproven", "refused")


def write_report(out: Path, trials: Sequence[Trial], about: dict[str, str]) -> Path:
    """Write `adapt.md` and `adapt.json` into `out`; returns the first."""
    ordered = sorted(trials, key=lambda one: (list(DRAWINGS).index(one.case.drawing), one.case.domain, one.case.seed))
    out.mkdir(parents=True, exist_ok=True)
    (out / "adapt.json").write_text(
        json.dumps({**about, "simulated": True, "trials": [asdict(one) for one in ordered]}, indent=1) + "\n"
    )
    path = out / "adapt.md"
    path.write_text(markdown(ordered, about))
    return path


def markdown(trials: Sequence[Trial], about: dict[str, str]) -> str:
    """The report as text."""
    lines = [
        "# What `quakeslide adapt` is worth", "",
        f"Made on {about['made_on']} by `{about['command']}`, {about['device']}.", "",
        "**All of it is simulated: events, images, landslides, and the polygons, which a program draws from the truth.**", "",
        f"Each event is {SIDE_PX} x {SIDE_PX} pixels of 10 m of a domain that the network ({about['network']}) has not learnt "
        "from. It is mapped; polygons are drawn, half of them landslides; the map is adapted to them. F1 is that of the "
        "pixels of the whole observed map against the truth, which neither the network nor the verdict has seen. What was not "
        "shown to be better is published only if asked for (`--unproven`); it is scored here to see what refusing it costs.", "",
        "| polygons are drawn | verdict | maps | F1 before | F1 after | change: mean | worst | best | maps that got better |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]  # fmt: skip
    for drawing, words in DRAWINGS.items():
        for verdict in _VERDICTS:
            lines.append(
                _row(words, verdict, [t for t in trials if t.case.drawing == drawing and t.verdict == verdict])
            )
    odd = [one for one in trials if one.verdict not in _VERDICTS]
    lines += [""] + (
        [f"{len(odd)} maps could not be judged: {'; '.join(sorted({one.verdict for one in odd}))}.", ""] if odd else []
    )
    made = [one for one in trials if one.verdict in ("better", "unproven")]
    if made:
        told = np.array([one.told_after - one.told_before for one in made])
        real = np.array([one.f1_after - one.f1_before for one in made])
        lines += [
            f"Of the {len(made)} maps that were made, the estimated change of the F1 of the whole map differs from the real "
            f"one by {100 * np.abs(told - real).mean():.1f} points on average; the signs agree in {(told * real > 0).sum()}. "
            f"Adapting and judging took {np.median([one.seconds for one in trials]):.0f} s on one core in the middle, "
            f"{max(one.seconds for one in trials):.0f} s at most.",
            "",
        ]  # fmt: skip
    lines += [
        "## Each map", "",
        "| domain | event | polygons are drawn | verdict | taken | estimated F1 before | after | F1 before | after |",
        "|---|--:|---|---|---|--:|--:|--:|--:|",
        *map(_line, trials),
        "",
    ]  # fmt: skip
    return "\n".join(lines)


def _row(words: str, verdict: str, trials: Sequence[Trial]) -> str:
    if not trials:
        return f"| {words} | {verdict} | 0 | – | – | – | – | – | – |"
    before, after = (np.array([getattr(one, name) for one in trials]) for name in ("f1_before", "f1_after"))
    if verdict == "refused":
        return f"| {words} | refused | {len(trials)} | {_cents(before.mean())} | – | – | – | – | – |"
    change = after - before
    told = [
        _cents(before.mean()), _cents(after.mean()),
        *(f"{100 * value:+.1f}" for value in (change.mean(), change.min(), change.max())), str((change > 0).sum()),
    ]  # fmt: skip
    return f"| {words} | {verdict} | {len(trials)} | {' | '.join(told)} |"


def _line(one: Trial) -> str:
    judged = one.verdict in _VERDICTS
    told = [_cents(value) if judged else "–" for value in (one.told_before, one.told_after)]
    real = [_cents(one.f1_before), _cents(one.f1_after) if judged else "–"]
    verdict = one.verdict if judged else one.verdict.partition(":")[0]
    about = (one.case.domain, str(one.case.seed), DRAWINGS[one.case.drawing])
    return f"| {' | '.join((*about, verdict, one.chosen, *told, *real))} |"


def _cents(value: float) -> str:
    return f"{100 * value:.1f}"
