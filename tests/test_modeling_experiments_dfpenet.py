"""`modeling.experiments.dfpenet` and `scheme`: what is run, what is learnt where, and tables of what is there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes.weights import random_model
from torch import nn

from modeling.bands import BandSet
from modeling.benchmark.data import Simulated
from modeling.data.batches import Block
from modeling.errors import DataError
from modeling.experiments import dfpenet, scheme
from modeling.experiments.dfpenet import CHANNELS, EXPERIMENT
from modeling.experiments.engine import Run, checked
from modeling.experiments.registry import names
from modeling.experiments.scheme import LEARNT, NETWORK, RULES, STEPS, SUBTRACTED, Scheme, arm, counted, steps_of
from modeling.experiments.setting import Setting
from modeling.experiments.work import Train
from modeling.geology.scheme import map_block
from modeling.scoring.papers import GEOLOGY_COUNTS, GEOLOGY_PIXELS

BANDS = BandSet("b", ("slope", *CHANNELS, *(name.replace("_post", "_pre") for name in CHANNELS)), "")
DOMAINS = ("jiuzhaigou", "iburi")


def setting(tmp_path: Path, **changes: Any) -> Setting:
    source = Simulated(tmp_path, (*DOMAINS, "palu"), training=1, validation=1, test=1, size_px=96)
    base = Setting(source, ("msf-litenet",), (0, 1), 60, DOMAINS, (*DOMAINS, "palu"), patches=100, patch_px=48)
    return replace(base, **changes)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Run]:
    monkeypatch.setattr(dfpenet, "training_effort", lambda *_: None)  # it would simulate the test ground
    return {run.key: run for run in checked(EXPERIMENT.plan(setting(tmp_path)))}


def test_the_experiment_can_be_asked_for() -> None:
    assert "dfpenet" in names()
    assert EXPERIMENT.domains == DOMAINS


def test_all_of_the_paper_is_run(runs: dict[str, Run]) -> None:
    own = {key.split("--")[1] for key in runs}
    sizes = {f"size{size:03d}" for size in (5, 10, 20, 40, 60, 80)}
    assert own == {"X1", "X2", "fine-tune", "freeze", "joint", "scheme-X1", "scheme-fine-tune", *sizes}
    assert len(runs) == 2 * len(own)


def test_every_network_sees_one_date_and_strategies_begin_from_x1(runs: dict[str, Run]) -> None:
    works = {key.split("--")[1]: run.work for key, run in runs.items() if key.endswith("seed1")}
    trained = {name: work for name, work in works.items() if isinstance(work, Train)}
    assert {work.channels for work in trained.values()} == {CHANNELS}
    begun = {name: work.start for name, work in trained.items() if work.start}
    assert begun == dict.fromkeys(("fine-tune", "freeze", "joint"), "msf-litenet--X1--seed1")
    assert [name for name, work in trained.items() if work.frozen] == ["freeze"]
    counts = {name: {part.domain: part.patches for part in work.mix.parts} for name, work in trained.items()}
    assert counts["X1"] == {"jiuzhaigou": 100}
    assert counts["fine-tune"] == counts["X2"] == {"iburi": 20}
    assert counts["joint"] == {"jiuzhaigou": 100, "iburi": 20}
    assert [counts[f"size{size:03d}"]["jiuzhaigou"] for size in (5, 10, 20, 40, 60, 80)] == [5, 10, 20, 40, 60, 80]
    assert trained["fine-tune"].recipe.steps == 12


def test_two_domains_and_both_dates_are_needed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="X1 and X2"):
        dfpenet.check(setting(tmp_path, domains=("iburi",)))
    one_date = Simulated(tmp_path, DOMAINS, bands="rgb")
    with pytest.raises(DataError, match="blue_pre"):
        dfpenet.check(setting(tmp_path, source=one_date))


class Bright(nn.Module):
    """Landslide is where the first channel is bright."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        score = (x[:, 0] - 0.3) * 50
        return torch.stack([-score, score], dim=1)


@dataclass(frozen=True)
class Scenes:
    """Blocks with new scars, old ones, and specks."""

    domains: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.domains)

    def __iter__(self) -> Iterator[Block]:
        for seed, domain in enumerate(self.domains):
            rng = np.random.default_rng(seed)
            channels = rng.normal(0.1, 0.01, (7, 64, 64)).astype(np.float32)
            channels[0] = 30
            truth = np.zeros((64, 64), np.uint8)
            for top in (4, 24, 44):
                channels[1, top : top + 8, 4:12] = 0.6
                truth[top : top + 8, 4:12] = 1
                channels[[1, 4], top : top + 9, 24:33] = 0.6
                channels[1, top, 50 : 51 + seed % 2] = 0.6
            yield Block(channels, truth, f"{domain}-{seed}", domain, 100.0)


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    model = replace(random_model("rgb"), network=Bright())
    told: list[tuple[int, int]] = []
    tests = Scenes((*DOMAINS, "palu"))
    found = steps_of(model, BANDS, Scenes(DOMAINS), tests, lambda done, total, _: told.append((done, total)))
    assert told == [(number, 5) for number in range(1, 6)]
    return found


def test_each_step_does_what_it_says(result: dict[str, Any]) -> None:
    def counts(name: str) -> list[int]:
        return list(np.sum(result["arms"][name]["counted"], axis=0))

    assert set(result["arms"]) == set(STEPS)
    assert counts(NETWORK) == [9, 18, 0]
    assert counts(RULES) == [9, 9, 0], "specks gone, old scars there"
    assert counts(f"{NETWORK} {SUBTRACTED}") == [9, 9, 0], "old scars gone, specks there"
    assert counts(f"{RULES} {SUBTRACTED}") == [9, 0, 0]
    assert counted(arm([result], f"{RULES} {SUBTRACTED}"), "iou", "palu").value == 1.0
    difference = scheme.counted_difference(arm([result], RULES), arm([result], NETWORK), "precision", "all")
    assert difference.value == pytest.approx(9 / 18 - 9 / 27)
    with pytest.raises(DataError, match="mcc"):
        counted(arm([result], RULES), "mcc", "all")


def test_blocks_are_mapped_where_the_network_lies() -> None:
    block = next(iter(Scenes(DOMAINS)))
    elsewhere = random_model("rgb").to("meta")  # what lies there has a shape and no values
    with pytest.raises(NotImplementedError, match="no data"):
        map_block(elsewhere, block, BANDS.channels)


def test_no_domain_is_judged_by_its_own_thresholds(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[set[str]] = []
    learn = scheme.learn_rules

    def spy(grounds: Any) -> Any:
        asked.append({ground.domain for ground in grounds})
        return learn(grounds)

    monkeypatch.setattr(scheme, "learn_rules", spy)
    model = replace(random_model("rgb"), network=Bright())
    found = steps_of(model, BANDS, Scenes(DOMAINS), Scenes((*DOMAINS, "palu")), lambda *_: None)
    cases = [(row["for"], row["subtracted"]) for row in found["learnt"]]
    assert sorted(cases) == sorted((domain, flag) for domain in (*DOMAINS, "palu") for flag in (False, True))
    for (domain, _), others in zip(cases, asked, strict=True):
        assert others == set(DOMAINS) - {domain}


def test_a_report_can_be_made_of_what_is_there(tmp_path: Path, result: dict[str, Any]) -> None:
    two = setting(tmp_path)
    assert EXPERIMENT.reduce(two, {}).tables
    trained = {**result["arms"][NETWORK], "seed": 0}
    done = {"msf-litenet--scheme-X1--seed0": result, "msf-litenet--scheme-fine-tune--seed1": result}
    done |= {f"msf-litenet--{name}--seed0": trained for name in ("X1", "fine-tune", "size020", "size040", "size010")}
    found = EXPERIMENT.reduce(two, done)
    titles = [table.title for table in found.tables]
    assert sum("Table 4" in title for title in titles) == sum("Table 5" in title for title in titles) == 3
    home = next(table for table in found.tables if "jiuzhaigou" in table.title and "Table 5" in table.title)
    assert [row[0] for row in home.rows][-3:] == [f"the paper: {name}" for name in GEOLOGY_COUNTS.rows]
    verdicts = {statement.paper_says: statement.verdict for statement in found.statements}
    assert verdicts["rules raise the counted landslides' IoU from 67.44 to 82.06"] == "holds"
    assert verdicts["40 % are better than 20 %"] == "undecided"
    assert len(found.charts) == 2


def test_the_papers_rows_are_as_printed() -> None:
    assert GEOLOGY_PIXELS.rows["subtracted"] == pytest.approx({"precision": 0.9997, "recall": 0.9870, "iou": 0.9867})
    for row in GEOLOGY_COUNTS.rows.values():
        assert 1 / row["iou"] == pytest.approx(1 / row["precision"] + 1 / row["recall"] - 1, abs=2e-3)


def test_the_scheme_learns_on_validation_ground_only() -> None:
    parts: list[tuple[str, tuple[str, ...]]] = []

    class Watched:
        def band_set(self) -> BandSet:
            return BANDS

        def blocks(self, part: str, _: BandSet, domains: tuple[str, ...]) -> Scenes:
            parts.append((part, domains))
            return Scenes(domains)

    class Desk:
        source, device = Watched(), "cpu"

        def model(self, key: str) -> Any:
            assert key == "start"
            return replace(random_model("rgb"), network=Bright())

        def tell(self, *_: object) -> None:
            pass

    found = Scheme("start", DOMAINS[:1], ("palu",))(Desk())  # type: ignore[arg-type]
    assert parts == [("validation", DOMAINS[:1]), ("test", ("palu",))]
    assert found["arms"][LEARNT]["counted"]
    assert found["held_out"] == []
