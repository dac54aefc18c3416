"""The comparison as Markdown and JSON; every number comes from the run, readings by eye are quoted as such."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import modeling.simulate
from modeling.realism.distance import LEVEL, RESAMPLES, Distance
from modeling.realism.sections import Section
from modeling.scoring.tables import markdown_table

READING = "simulator_reading.md"
"""What a person saw on the map of the real pair; its first line names the weights by their hash."""


def simulator_version() -> str:
    """Hash of the simulator's source: which simulator a report is about."""
    digest = hashlib.sha256()
    for path in sorted(Path(modeling.simulate.__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def markdown(
    sections: Mapping[str, Section],
    *,
    command: str,
    made_on: str,
    folder: Path,
    earlier: Mapping[str, Any] | None = None,
) -> str:
    """The report; pictures are linked relative to `folder`. `earlier` is the JSON of another simulator, for a comparison."""
    parts = [
        "# Is the simulator like the real world?",
        f"Written by `{command}` on {made_on}; simulator {simulator_version()} (hash of its source). Distances are between "
        "the real and the simulated distribution: **W** is the Wasserstein distance, the mean way that values must be moved, "
        "in the unit named and in real interquartile ranges (IQR); **KS** is the largest gap between the cumulative "
        f"distributions. Intervals ({100 * LEVEL:.0f} %) are of {RESAMPLES} draws of blocks of ground, dates or regions; few "
        "blocks make them too narrow.",
    ]
    if earlier:
        parts.append("## Against the earlier simulator\n\n" + _before_after(sections, earlier))
    for section in sections.values():
        parts.append(f"## {section.title}\n\n" + _section(section, folder))
    reading = folder / READING
    if reading.is_file():
        parts.append(_reading(reading.read_text(encoding="utf-8"), sections))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def as_json(sections: Mapping[str, Section], *, command: str, made_on: str) -> dict[str, Any]:
    """All numbers of the report."""
    return {
        "command": command,
        "made_on": made_on,
        "simulator": simulator_version(),
        "sections": {
            name: {
                "skipped": section.skipped,
                "distances": [distance.to_json() for distance in section.distances],
                "told": [asdict(one) for one in section.told],
                **section.values,
            }
            for name, section in sections.items()
        },
    }


def _section(section: Section, folder: Path) -> str:
    if section.skipped:
        return f"Not compared: {section.skipped}."
    parts = [section.about, *section.text]
    if section.distances:
        parts.append(_distances(section.distances))
    parts += [
        f"![{caption}]({path.relative_to(folder).as_posix()})\n\n*{caption}.*"
        for caption, path in section.figures.items()
    ]
    return "\n\n".join(parts)


def _distances(distances: object) -> str:
    rows = []
    for each in distances:  # type: ignore[attr-defined]
        rows.append([
            each.name, each.unit, _spread(each.real), _spread(each.simulated),
            f"{each.wasserstein.value:.3g} [{each.wasserstein.low:.3g}, {each.wasserstein.high:.3g}]",
            f"{each.in_spreads:.2f}", f"{each.ks.value:.2f}",
        ])  # fmt: skip
    return markdown_table(["what", "unit", "real: 5 %, median, 95 %", "simulated", "W", "W in IQR", "KS"], rows)


def _spread(quantiles: tuple[float, ...]) -> str:
    return ", ".join(f"{quantiles[index]:.3g}" for index in (0, 2, 4))


def _before_after(sections: Mapping[str, Section], earlier: Mapping[str, Any]) -> str:
    rows = []
    for name, section in sections.items():
        before = earlier.get("sections", {}).get(name, {})
        aucs = {one["what"]: one for one in before.get("told", [])}
        for told in section.told:
            if told.what in aucs:
                for kind in ("logistic", "trees"):
                    was, now = aucs[told.what][kind], getattr(told, kind)
                    rows.append([
                        f"AUC, {told.what}, {kind}", f"{was['value']:.3f} [{was['low']:.3f}, {was['high']:.3f}]",
                        f"{now.value:.3f} [{now.low:.3f}, {now.high:.3f}]",
                    ])  # fmt: skip
        old = {one["name"]: one for one in before.get("distances", [])}
        for each in section.distances:
            if each.name in old:
                was = old[each.name]
                rows.append([f"{each.name}, W in IQR", f"{was['in_spreads']:.2f}", f"{each.in_spreads:.2f}"])
    return f"Before: simulator {earlier.get('simulator', 'unknown')}.\n\n" + markdown_table(
        ["what", "before", "now"], rows
    )


def _reading(text: str, sections: Mapping[str, Section]) -> str:
    first, _, rest = text.partition("\n")
    stated = first.split("weights ")[-1].strip().strip("-> ")
    used = str(sections["map"].values.get("weights_hash", "")) if "map" in sections else ""
    if used and stated and used.startswith(stated):
        return rest
    return (
        f"## Reading of the map\n\nThe reading kept in `{READING}` is of other weights ({stated or 'not named'}) than this "
        "run's map and is left out: look at the new map and write it again."
    )


def worst(sections: Mapping[str, Section], most: int = 5) -> list[Distance]:
    """The largest distances in real interquartile ranges."""
    return sorted((d for s in sections.values() for d in s.distances), key=lambda d: -d.in_spreads)[:most]
