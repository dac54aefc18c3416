"""Figures are drawn from numbers, whole or not at all, the same for the same numbers, and without a display."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from PIL import Image

from modeling import figures
from modeling.errors import DataError
from modeling.explaining.ablation import Ablation, AblationRow
from modeling.explaining.explain_attention import BandAttention
from modeling.figures import canvas, scores, training
from modeling.figures import explain as explained
from modeling.figures.scores import Point
from modeling.scoring.bootstrap import Difference, Interval, size_intervals
from modeling.scoring.objects import ObjectCounts
from modeling.scoring.reliability import MarginHistogram, reliability

RNG = np.random.default_rng(0)
TRUTH = RNG.random(5000) < 0.2
HISTOGRAM = MarginHistogram.of(RNG.normal(np.where(TRUTH, 2, -2), 2).astype(np.float32), TRUTH)
COUNTS = ObjectCounts((1e3, 3e4), (9, 5, 0), (3, 4, 0), (90, 500, 0), (30, 450, 0), (8, 6, 0), (5, 5, 0))
CHANGE = Interval(-0.2, -0.3, -0.1, 0.95, 100, 9)
POINTS = [Point(f"network-{k}", 10 ** (k % 4 / 4), 0.7 + k % 3 / 50, 0.65, 0.75, "ab"[k % 2]) for k in range(9)]


def cam(path: Path) -> Path:
    rgb = np.linspace(0, 1, 20 * 30 * 3, dtype=np.float32).reshape(20, 30, 3)
    rgb[0, 0] = np.nan
    truth = np.zeros((20, 30), np.uint8)
    truth[5:9, 5:9], truth[:2] = 1, 255
    probability = rgb[..., 0].copy()
    return explained.cam_panels(path, rgb, truth, probability, probability, title="a block")


def attentions(path: Path) -> Path:
    found = BandAttention("skips.0", "SqueezeExcitation", (0.2, 0.4), 0.3, {"a": 0.1, "b": 0.5}, {"a": 0.0, "b": 0.1})
    return explained.attention(path, [found, found])


def ablated(path: Path) -> Path:
    row = AblationRow("slope", ("slope",), {"f1": 0.6}, Difference(CHANGE, 0.0))
    return explained.ablation(path, Ablation("unknown", {"f1": 0.8}, (row, row)))


DRAWINGS: dict[str, Callable[[Path], Path]] = {
    "curves": lambda path: training.curves(
        path, [1, 2, 3], {"loss": {"training": [3, 2, 1], "validation": [3, float("nan"), 2]}, "F1": {"F1": [0, 1, 2]}},
        best_step=3, title="run",
    ),
    "reliability": lambda path: scores.reliability_diagram(path, {"map": reliability(HISTOGRAM)}),
    "sizes": lambda path: scores.sizes(path, {"map": COUNTS}, recalls={"map": size_intervals([COUNTS] * 3)["recall"]}),
    "bars": lambda path: scores.bars(path, {"a": CHANGE, "b": 0.3}, x_label="F1"),
    "benchmark": lambda path: scores.benchmark(path, POINTS, cost_label="G MAC", score_label="F1"),
    "cam": cam,
    "attention": attentions,
    "ablation": ablated,
}  # fmt: skip


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_drawing_is_a_picture_and_the_same_each_time(name: str, tmp_path: Path) -> None:
    path = DRAWINGS[name](tmp_path / "new" / "one.png")
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert len(image.convert("RGB").getcolors(1 << 20) or ()) > 10
    assert DRAWINGS[name](tmp_path / "new" / "two.png").read_bytes() == path.read_bytes()
    assert sorted(left.name for left in path.parent.iterdir()) == ["one.png", "two.png"]


def test_an_interrupted_drawing_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = DRAWINGS["bars"](tmp_path / "bars.png")
    before = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(OSError, match="space"):
        scores.bars(path, {"other": 1.0}, x_label="F1")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_names_of_networks_do_not_cover_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    real = canvas.save

    def keep(figure: Figure, path: Path) -> Path:
        drawn.append(figure)
        return real(figure, path)

    monkeypatch.setattr(scores, "save", keep)
    close = [Point(f"network-{k}", 1.0 + k / 10, 0.8 + (k % 2) / 500, group="all") for k in range(8)]
    scores.benchmark(tmp_path / "b.png", [*close, Point("far", 9, 0.5, group="far")], cost_label="x", score_label="y")
    labels = [text for text in drawn[0].axes[0].texts if isinstance(text, Annotation)]
    boxes = {label.get_text(): label.get_window_extent() for label in labels}
    assert len(boxes) == 9
    overlapping = [(a, b) for a in boxes for b in boxes if a < b and boxes[a].overlaps(boxes[b])]
    assert overlapping == []


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="2 values for 3 steps"):
        training.curves(tmp_path / "c.png", [1, 2, 3], {"loss": {"training": [1, 2]}})
    with pytest.raises(DataError, match="no step"):
        training.curves(tmp_path / "c.png", [], {"loss": {"training": []}})
    with pytest.raises(DataError, match="do not fit"):
        explained.cam_panels(
            tmp_path / "c.png",
            np.zeros((4, 4, 3), np.float32),
            np.zeros((4, 5), np.uint8),
            np.zeros((4, 4), np.float32),
            np.zeros((4, 4), np.float32),
        )
    assert list(tmp_path.iterdir()) == []


def test_drawing_needs_neither_pyplot_nor_torch() -> None:
    code = (
        "import sys; import modeling.figures.training, modeling.figures.scores, modeling.figures.explain;"
        "sys.exit(bool({'matplotlib.pyplot', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert figures.__doc__
