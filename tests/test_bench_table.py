"""The harness of the measurements: who is compared with whom, and what is written down. No time is measured here."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from bench import __main__ as command
from bench.cases import BenchError, Case, Group, Row, Setting, measure, rows
from bench.stages import STAGES
from bench.table import RESULTS, RUNS, TABLE, Run, markdown, read, save

ROWS = [
    Row("pull", "200 ms: raw socket", 303.2, "MB/s", 1.0, 2.021),
    Row("pull", "200 ms: quakeslide", 290.0, "MB/s", 0.9565, 1.933),
    Row("pull", "200 ms: other", 150.0, "MB/s", 0.4947, 1.0),
    Row("pull", "memory", 1234.5, "MB", None, None),
]
RUN = Run(
    stage="pull", date="2026-11-21T12:00:00+00:00", seconds=12.3, quick=False, machine="2 cores", versions={"numpy": "2"},
    method="How it is measured.", values={row.case: [row.value, row.value * 1.1] for row in ROWS},
)  # fmt: skip


def said(values: dict[str, list[float]], name: str, order: list[str] | None = None) -> Callable[[], float]:
    left = iter(values[name])

    def run() -> float:
        if order is not None:
            order.append(name)
        return next(left)

    return run


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(quick=False, repetitions=3, scratch=tmp_path, say=lambda _: None)


def test_cases_take_turns_and_the_median_counts(setting: Setting) -> None:
    order: list[str] = []
    values = {"bare": [100.0, 90, 110], "we": [90.0, 10, 95], "they": [50.0, 60, 40]}
    cases = (
        Case("bare", "limit", said(values, "bare", order)),
        Case("we", "ours", said(values, "we", order)),
        Case("they", "peer", said(values, "they", order)),
    )
    group = Group("read", "MB/s", cases)
    measured = measure(group, setting)
    assert order == ["bare", "we", "they", "we", "they", "bare", "they", "bare", "we"]
    assert {who: sorted(each) for who, each in measured.items()} == {who: sorted(v) for who, v in values.items()}
    found = {row.case: (row.value, row.ratio_to_limit, row.ratio_to_peers) for row in rows("zarr", group, measured)}
    assert found == {"read: bare": (100, 1, 2), "read: we": (90, 0.9, 1.8), "read: they": (50, 0.5, 1)}


def test_less_is_better_turns_the_ratios_round() -> None:
    cases = tuple(Case(who, role, float) for who, role in (("we", "ours"), ("a", "peer"), ("b", "peer"), ("c", "fact")))
    group = Group("layout", "ns/px", cases, limit=10.0, less_is_better=True)
    found = rows("layout", group, {"we": [20.0], "a": [40.0], "b": [30.0], "c": [1.0]})
    assert [(row.ratio_to_limit, row.ratio_to_peers) for row in found] == [
        (0.5, 1.5), (0.25, 0.75), (0.3333, 1.0), (None, None),
    ]  # fmt: skip


def test_without_limit_and_peers_there_are_no_ratios() -> None:
    (row,) = rows("pull", Group("alone", "MB/s", (Case("we", "ours", float),)), {"we": [3.0]})
    assert (row.ratio_to_limit, row.ratio_to_peers) == (None, None)


def test_a_warm_group_runs_each_case_once_before(setting: Setting) -> None:
    values = {"we": [1.0, 2, 3, 4]}
    assert measure(Group("g", "s", (Case("we", "ours", said(values, "we")),), warm=True), setting) == {"we": [2, 3, 4]}


def test_two_cases_of_one_name_are_refused(setting: Setting) -> None:
    with pytest.raises(BenchError, match="one name"):
        measure(Group("g", "s", (Case("we", "ours", float), Case("we", "peer", float))), setting)


def test_results_are_a_plain_list_and_come_back(tmp_path: Path) -> None:
    save(tmp_path, RUN, ROWS, ["zarr", "pull"])
    plain = json.loads((tmp_path / RESULTS).read_text())
    assert [set(row) for row in plain] == [
        {"stage", "case", "value", "unit", "ratio_to_limit", "ratio_to_peers"} for _ in ROWS
    ]
    assert json.loads((tmp_path / RUNS).read_text())[0]["machine"] == "2 cores"
    assert read(tmp_path) == (ROWS, [RUN])


def test_a_stage_run_singly_replaces_its_rows_and_keeps_the_others(tmp_path: Path) -> None:
    order = ["zarr", "pull"]
    save(tmp_path, RUN, ROWS, order)
    zarr_rows = [Row("zarr", "read: we", 5.0, "MB/s", None, None)]
    save(tmp_path, replace(RUN, stage="zarr", values={"read: we": [5.0]}), zarr_rows, order)
    save(tmp_path, replace(RUN, values={ROWS[0].case: [1.0]}), [replace(ROWS[0], value=1.0)], order)
    found, runs = read(tmp_path)
    assert [(row.stage, row.value) for row in found] == [("zarr", 5.0), ("pull", 1.0)]
    assert [run.stage for run in runs] == order


def test_the_table_for_people() -> None:
    lines = markdown(ROWS, [RUN]).splitlines()
    assert "| 200 ms: quakeslide | 290 MB/s | 0.96 | 1.93 | 10% |" in lines
    assert "| memory | 1,234 MB |  |  | 10% |" in lines
    assert "2026-11-21, 12 s, 2 cores; numpy 2." in lines
    assert "How it is measured." in lines
    assert "not to be cited" in markdown(ROWS, [replace(RUN, quick=True)])


def test_a_stage_that_gives_wrong_pixels_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong() -> float:
        raise BenchError("other pixels")

    class Stage:
        """How."""

        def __init__(self, run: Callable[[], float]) -> None:
            self.run = run

        def groups(self, setting: Setting) -> list[Group]:
            return [Group("g", "MB/s", (Case("we", "ours", self.run),))]

    stages = {"zarr": Stage(wrong), "layout": Stage(lambda: 7.0)}
    monkeypatch.setattr(command, "load", stages.__getitem__)
    assert command.main(["zarr", "layout", "--quick", "--out", str(tmp_path)]) == 1
    assert [(row.stage, row.value) for row in read(tmp_path)[0]] == [("layout", 7.0)]
    assert (tmp_path / TABLE).exists()


def test_a_trial_leaves_the_results_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stage:
        """How."""

        @staticmethod
        def groups(setting: Setting) -> list[Group]:
            return [Group("g", "MB/s", (Case("we", "ours", lambda: 7.0),))]

    monkeypatch.setattr(command, "load", lambda name: Stage)
    monkeypatch.setattr(command, "save", lambda *_: pytest.fail("a trial was written down"))
    assert command.main(["zarr", "--quick"]) == 0


def test_unknown_stages_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["nothing"])
    assert "nothing" in capsys.readouterr().err


def test_every_stage_says_how_it_measures() -> None:
    folder = Path(command.__file__).parent
    for module in STAGES.values():
        text = (folder / f"{module}.py").read_text(encoding="utf-8")
        assert text.startswith('"""') and len(text.split('"""')[1].splitlines()) > 3
        assert "def groups(setting: Setting)" in text
