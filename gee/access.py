"""Who may read an asset: read-modify-write of its policy. Rights are added, never taken away.

An asset that nobody shares is private to the project's owners, editors and viewers. The images of a collection are
read with the collection's policy; tables and folders have one each. A COG-backed image can be read only by those who
may read the object in Cloud Storage as well.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from gee.assets import split_name
from gee.errors import AssetError, PermanentError
from gee.session import Session

READER = "roles/viewer"
"""The role of those who may read."""
MAX_TRIES = 12
"""How often a policy is read and written again when others write it at the same time."""

_MEMBER = re.compile(r"allUsers|allAuthenticatedUsers|domain:[^\s:@]+|(user|group|serviceAccount):[^\s:@]+@[^\s:@]+")
_CONFLICT = (409, 412)


def check_members(members: Sequence[str]) -> None:
    """Raise `AssetError` for a member that Earth Engine would not understand."""
    for member in members:
        if not _MEMBER.fullmatch(member):
            raise AssetError(
                f"{member!r} is nobody: write allUsers, user:NAME@HOST, group:NAME@HOST, serviceAccount:NAME@HOST "
                "or domain:HOST"
            )


def with_readers(policy: dict[str, Any], members: Sequence[str]) -> dict[str, Any] | None:
    """The policy in which `members` may read too, everything else as it was; None when they may already.

    The etag stays: with it the service refuses the write when someone else was quicker.
    """
    bindings = list(policy.get("bindings", ()))
    plain = next((n for n, held in enumerate(bindings) if held["role"] == READER and "condition" not in held), None)
    present = list(bindings[plain].get("members", ())) if plain is not None else []
    missing = [member for member in dict.fromkeys(members) if member not in present]
    if not missing:
        return None
    binding = {"role": READER, "members": [*present, *missing]}
    if plain is None:
        bindings.append(binding)
    else:
        bindings[plain] = {**bindings[plain], **binding}
    return {**policy, "bindings": bindings}


def share(session: Session, name: str, members: Sequence[str]) -> bool:
    """Let `members` read an asset; whoever had rights keeps them. True when the policy was changed.

    Raises `AssetError` for a member that is none, for an asset whose policy this account may not change, and when
    others change the policy `MAX_TRIES` times in a row.
    """
    split_name(name)
    check_members(members)
    if not members:
        return False
    for attempt in range(MAX_TRIES):
        try:
            wanted = with_readers(session.call("POST", f"/v1/{quote(name)}:getIamPolicy", {}), members)
            if wanted is not None:
                session.call("POST", f"/v1/{quote(name)}:setIamPolicy", {"policy": wanted})
        except PermanentError as error:
            if error.status in _CONFLICT:
                time.sleep(random.uniform(0, min(2.0, 0.05 * 2**attempt)))  # noqa: S311 - spreads rivals
                continue
            raise AssetError(
                f"{name} could not be shared with {', '.join(members)}: {error}. Only its owners and editors may"
            ) from error
        return wanted is not None
    raise AssetError(f"the policy of {name} was changed by others {MAX_TRIES} times in a row: run it again")
