"""flows/out_folder.py: where nothing can be written is said before any work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flows import out_folder
from flows.errors import PublicationError
from flows.out_folder import require_folder, require_free_folder


def test_a_folder_may_be_new_deep_or_empty_and_nothing_is_made(tmp_path: Path) -> None:
    for out in (tmp_path, tmp_path / "new", tmp_path / "new" / "deep"):
        require_folder(out)
        require_free_folder(out)
    assert not any(tmp_path.iterdir())


def test_a_folder_in_the_place_of_a_file_or_beneath_one_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "taken"
    file.touch()
    for out in (file, file / "new", file / "new" / "deep"):
        with pytest.raises(PublicationError, match="taken is a file"):
            require_folder(out)
    with pytest.raises(PublicationError, match="is not empty"):
        require_free_folder(tmp_path)


def test_a_folder_that_is_not_ours_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(out_folder.os, "access", lambda path, mode: path != tmp_path)  # root may write everywhere
    with pytest.raises(PublicationError, match="cannot be written"):
        require_folder(tmp_path / "new")
    assert os.access is out_folder.os.access
