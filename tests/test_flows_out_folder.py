"""flows/out_folder.py: where nothing can be written is said before any work."""

from __future__ import annotations

from pathlib import Path

import pytest

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


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted", str(tmp_path / ".x"))

    monkeypatch.setattr("flows.out_folder.tempfile.TemporaryDirectory", refused)  # root may write everywhere
    for require in (require_folder, require_free_folder):
        with pytest.raises(
            PublicationError, match=r"new cannot be written, in .*: Operation not permitted; name another"
        ):
            require(tmp_path / "deep" / "new")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="a folder that nobody can write in")
def test_a_system_folder_is_refused_to_root_as_well() -> None:
    with pytest.raises(PublicationError, match="cannot be written, in /proc: "):
        require_folder(Path("/proc/new"))
