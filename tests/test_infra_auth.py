"""infra/local/auth.py: a new password each time, in a file that nobody else can read."""

from __future__ import annotations

import stat
from pathlib import Path

from infra.local.auth import AUTH_FILE, fresh_auth, read_auth, remove_auth, write_auth


def test_a_password_is_long_and_never_the_same() -> None:
    drawn = {fresh_auth() for _ in range(50)}
    assert len(drawn) == 50
    for each in drawn:
        user, _, password = each.partition(":")
        assert user == "admin"
        assert len(password) >= 32
        assert ":" not in password, "Prefect and browsers cut user and password apart at the first"


def test_the_file_is_its_owners_alone_whatever_was_there(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("untouched")
    for left in (None, "file", "link"):
        if left == "file":
            (tmp_path / AUTH_FILE).chmod(0o666)
        if left == "link":
            remove_auth(tmp_path)
            (tmp_path / AUTH_FILE).symlink_to(elsewhere)
        path = write_auth(tmp_path, f"admin:{left}")
        assert stat.S_IMODE(path.lstat().st_mode) == 0o600
        assert read_auth(tmp_path) == f"admin:{left}"
    assert elsewhere.read_text() == "untouched"
    remove_auth(tmp_path)
    assert read_auth(tmp_path) == ""
    remove_auth(tmp_path)
