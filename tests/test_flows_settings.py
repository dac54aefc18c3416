"""flows/settings.py: one place for every setting, told in words when it is wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from flows.errors import FlowError
from flows.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("QUAKESLIDE_"):
            monkeypatch.delenv(name)
    return tmp_path


def test_the_environment_wins_over_the_file_and_the_file_over_the_defaults(
    nothing_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (load_settings().cube.tile_px, load_settings().area.minimum_magnitude) == (512, 5.5)
    (nothing_set / "quakeslide.toml").write_text("[cube]\ntile_px = 256\n[area]\nminimum_magnitude = 6.0\n")
    monkeypatch.setenv("QUAKESLIDE_CUBE__TILE_PX", "128")
    settings = load_settings()
    assert (settings.cube.tile_px, settings.area.minimum_magnitude) == (128, 6.0)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("QUAKESLIDE_CUBE__TILE_PX", "12", r"cube\.tile_px = '12': .*greater than or equal to 64"),
        ("QUAKESLIDE_EARTHENGINE__MAX_CONCURRENT_REQUESTS", "0", "max_concurrent_requests = '0'"),
        ("QUAKESLIDE_IMAGERY__NO_SUCH", "1", r"imagery\.no_such"),
        ("QUAKESLIDE_MODE", "moon", "mode = 'moon'"),
        ("QUAKESLIDE_STORAGE_BUCKET", "mine", "QUAKESLIDE_STORAGE_BUCKET is no setting"),
        ("QUAKESLIDE_MODEL__MINIMUM_AREA_M2", "inf", r"minimum_area_m2 = 'inf': .*finite"),
        ("QUAKESLIDE_MODEL__MINIMUM_AREA_M2", "1e400", r"minimum_area_m2 = '1e400': .*finite"),
        ("QUAKESLIDE_WORK", "/x", r"^QUAKESLIDE_WORK = '/x' .* is a group of settings.*: QUAKESLIDE_WORK__SCRATCH$"),
        ("QUAKESLIDE_MODEL__ZOO", "a,b", r"^QUAKESLIDE_MODEL__ZOO = 'a,b' .* is a list.*ZOO='\[\"a\", \"b\"\]'$"),
    ],
)
def test_a_wrong_variable_is_named_with_its_value(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(FlowError, match=message):
        load_settings()


def test_a_group_and_a_list_may_be_given_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUAKESLIDE_WORK", '{"scratch": "/x"}')
    monkeypatch.setenv("QUAKESLIDE_MODEL__ZOO", '["a", "b"]')
    assert (load_settings().work.scratch, load_settings().model.zoo) == ("/x", ("a", "b"))
    monkeypatch.setenv("QUAKESLIDE_IMAGERY__DEMS", "srtm")
    with pytest.raises(FlowError, match=r"^QUAKESLIDE_IMAGERY__DEMS = 'srtm'"):
        load_settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [("tile_px = [", r"quakeslide\.toml cannot be read"), ("[kube]\ntile_px = 3\n", "setting kube")],
)
def test_a_wrong_file_is_named(nothing_set: Path, text: str, message: str) -> None:
    (nothing_set / "quakeslide.toml").write_text(text)
    with pytest.raises(FlowError, match=message):
        load_settings()


def test_settings_do_not_change_and_every_one_is_explained() -> None:
    settings = load_settings()
    with pytest.raises(ValidationError):
        settings.cube.tile_px = 3  # type: ignore[misc]
    for name in Settings.model_fields:
        group = getattr(settings, name)
        if isinstance(group, BaseModel):
            assert type(group).__doc__
            missing = [key for key, field in type(group).model_fields.items() if not field.description]
            assert missing == []


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("QUAKESLIDE_WORK", "/x", "work is a group of settings"),
        ("QUAKESLIDE_MODEL__ZOO", "a,b", 'write QUAKESLIDE_MODEL__ZOO=\'["a", "b"]\''),
        ("QUAKESLIDE_MODEL__MINIMUM_AREA_M2", "inf", "finite"),
    ],
)
def test_a_variable_of_another_form_is_named_with_the_one_that_is_wanted(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(FlowError) as refused:
        load_settings()
    assert said in str(refused.value)
    assert "toml" not in str(refused.value)
