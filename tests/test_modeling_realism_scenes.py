"""Scenes, patches and scars: the same numbers from the same ground, and rules that find what is planted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modeling.realism.__main__ import main
from modeling.realism.patch_features import PATCH_PX, features, together
from modeling.realism.report import markdown, simulator_version
from modeling.realism.scars import scars
from modeling.realism.scenes import COLOURS, Scene, levelled, real_iburi, simulated_iburi
from modeling.realism.sections import Section, Settings, all_sections

SIDE = 160


@pytest.fixture(scope="module")
def scene() -> Scene:
    return simulated_iburi(8190, SIDE)


def planted(rise: float) -> Scene:
    """A dark tilted plane with one bright scar of 20 by 8 pixels."""
    rng = np.random.default_rng(0)
    level = {"red": 0.06, "green": 0.07, "blue": 0.09}
    layers = {
        f"{colour}_{phase}": (level[colour] + 0.003 * rng.standard_normal((SIDE, SIDE))).astype(np.float32)
        for phase in ("pre", "post")
        for colour in COLOURS
    }
    for colour, share in (("red", 1.0), ("green", 0.6), ("blue", 0.3)):
        layers[f"{colour}_post"][60:80, 50:58] += np.float32(rise * share)
    y = np.broadcast_to(np.arange(SIDE, dtype=np.float32)[:, None], (SIDE, SIDE))
    layers |= {"elevation": 3 * y, "slope": np.full_like(y, 17.0), "hillshade": np.full_like(y, 180.0)}
    truth = np.zeros((SIDE, SIDE), bool)
    truth[60:80, 50:58] = True
    return Scene("planted", layers, truth)


def test_a_planted_scar_is_found_and_measured() -> None:
    found = scars(planted(0.08))
    assert found.recall is not None
    assert found.precision is not None
    assert found.recall > 0.9
    assert found.precision > 0.9
    values = dict(zip(found.patches.names, found.patches.values[0], strict=True))
    assert values["brightness: red inside"] == pytest.approx(0.14, abs=0.01)
    assert values["contrast: red over ring"] == pytest.approx(0.14 / 0.06, rel=0.1)
    assert 10 ** values["shape: elongation"] == pytest.approx(2.5, rel=0.1)
    assert values["terrain: slope"] == pytest.approx(17)


def test_ground_that_is_hardly_brighter_is_no_scar() -> None:
    assert not scars(planted(0.02)).found.any()


def test_features_tell_brightness_and_shading() -> None:
    one, brighter = planted(0.0), planted(0.0)
    layers = dict(brighter.layers)
    y = np.arange(SIDE, dtype=np.float32)[:, None]
    layers["red_post"] = layers["red_post"] + np.float32(0.02)
    layers["elevation"] = np.asarray(40 * np.sin(y / 5) + 0 * layers["slope"], np.float32)
    shade = np.asarray(0.03 * np.cos(y / 5), np.float32)
    layers |= {f"{colour}_post": layers[f"{colour}_post"] + shade for colour in COLOURS}
    plain, shaded = features(one, "post"), features(replace(brighter, layers=layers), "post")
    at = {name: index for index, name in enumerate(plain.names)}
    change = shaded.values - plain.values
    assert change[:, at["brightness: mean red post"]].mean() == pytest.approx(0.02, abs=0.003)
    assert (shaded.values[:, at["light: shading strength post"]] > 0.8).all()
    assert len(plain.values) == (SIDE // PATCH_PX) ** 2
    assert plain.family("light").values.shape[1] == 1


def test_what_is_unknown_is_left_out(scene: Scene) -> None:
    layers = dict(scene.layers)
    layers["red_pre"] = np.where(np.arange(SIDE)[None, :] < 80, np.nan, layers["red_pre"]).astype(np.float32)
    half = replace(scene, layers=layers)
    assert len(features(half, "post").values) > len(features(half, "pre", "post").values) > 0
    joined = together([features(scene, "post"), features(half, "post", first_block=10**6)], by_scene=True)
    assert set(joined.fold.tolist()) == {0, 1}


def test_levelling_takes_haze_and_gain_away(scene: Scene) -> None:
    layers = {name: (0.7 * layer + 0.05 if "_" in name else layer) for name, layer in scene.layers.items()}
    back = levelled(replace(scene, layers=layers), scene)
    # What is taken for cloud changes with the gain, so the medians are not of quite the same pixels.
    assert np.nanmedian(np.abs(back.layers["red_post"] - scene.layers["red_post"])) < 3e-3


def test_the_same_seed_gives_the_same_scene(scene: Scene) -> None:
    again = simulated_iburi(8190, SIDE)
    assert all(np.array_equal(scene.layers[name], again.layers[name], equal_nan=True) for name in scene.layers)
    assert scene.truth is not None
    assert np.isfinite(scene.layers["red_post"]).mean() > 0.95


@pytest.mark.slow
def test_the_real_pair_as_it_is(shared_data: Path) -> None:
    real = real_iburi(shared_data / "iburi2018")
    assert real.truth is None
    assert 0.5 < np.isfinite(real.layers["red_pre"]).mean() < 0.6  # the swath's edge
    assert 0.02 < float(np.nanmedian(real.layers["red_post"])) < 0.12


def test_what_has_no_data_is_skipped_with_its_reason(tmp_path: Path) -> None:
    made = all_sections(Settings(tmp_path, tmp_path / "pictures"))
    assert set(made) == {"images", "landslides", "seasons", "terrain", "map"}
    assert all(section.skipped for section in made.values())
    assert "no folder iburi2018" in made["images"].skipped
    assert main(["--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "simulator.md").read_text()
    assert text.count("Not compared:") == 5
    assert simulator_version() in text
    assert main(["--data", str(tmp_path), "--seeds", "2"]) == 2


def test_a_reading_of_other_weights_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "simulator_reading.md").write_text("<!-- weights abcd1234 -->\n## Reading\n\nSeen by eye.\n")
    for used, shown in (("abcd1234ff", True), ("ffff", False)):
        sections = {"map": Section("Map", "about", values={"weights_hash": used})}
        text = markdown(sections, command="c", made_on="d", folder=tmp_path)
        assert ("Seen by eye." in text) == shown
        assert ("is of other weights" in text) != shown
