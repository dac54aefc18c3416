"""Who may do what with an asset. Policies are kept and checked like the service's, but restrict nobody here.

A policy that comes with an etag replaces the present one only when that has not changed since it was read. The images
of a collection have no policy of their own: theirs is the collection's.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from infra.local.earthengine.errors import ArgumentError, ServiceError
from infra.local.earthengine.store import JsonStore

ROLES = ("roles/owner", "roles/editor", "roles/viewer", "roles/reader", "roles/writer")
OWNER = "user:owner@localhost"
"""Who owns everything here."""
MAX_POLICY_BYTES = 64 * 1024
MEMBER = re.compile(
    r"allUsers|allAuthenticatedUsers|domain:[^\s:@]+|(user|group|serviceAccount|project\w+):[^\s:@]+(@[^\s:@]+)?"
)

Policy = dict[str, Any]


class Policies:
    """The policies of all assets."""

    def __init__(self, store: JsonStore) -> None:
        self._store = store

    def get(self, asset: str) -> Policy:
        """The policy of an asset, with its etag; that of its owner alone when nobody has set one."""
        kept = self._store.get(asset) or {"count": 0, "bindings": [{"role": "roles/owner", "members": [OWNER]}]}
        return {"version": 1, "bindings": kept["bindings"], "etag": _etag(asset, kept)}

    def set(self, asset: str, policy: Any) -> Policy:
        """Replace the policy of an asset, and show it. ServiceError 409 when the etag is not the present one."""
        bindings = _checked(policy)
        with self._store.lock:
            present = self.get(asset)
            if policy.get("etag") and policy["etag"] != present["etag"]:
                raise ServiceError(
                    409,
                    "There were concurrent policy changes. Please retry the whole read-modify-write with exponential "
                    "backoff.",
                    "ABORTED",
                )
            count = (self._store.get(asset) or {"count": 0})["count"] + 1
            # The owners of an asset cannot be changed.
            owners = [b for b in present["bindings"] if b["role"] == "roles/owner"]
            others = [b for b in bindings if b["role"] != "roles/owner"]
            self._store.put(asset, {"count": count, "bindings": [*owners, *others]})
            return self.get(asset)

    def delete(self, asset: str) -> None:
        """Forget the policy of an asset that is gone."""
        self._store.delete(asset)


def _checked(policy: Any) -> list[dict[str, Any]]:
    if not isinstance(policy, dict) or not isinstance(policy.get("bindings", []), list):
        raise ArgumentError("The request has no 'policy' with a list of 'bindings'.")
    if len(json.dumps(policy)) > MAX_POLICY_BYTES:
        raise ArgumentError(f"The policy is larger than {MAX_POLICY_BYTES} bytes.")
    bindings: list[dict[str, Any]] = policy.get("bindings", [])
    for binding in bindings:
        if binding.get("role") not in ROLES:
            raise ArgumentError(f"Role '{binding.get('role')}' is not supported for this resource.")
        for member in binding.get("members", ()):
            if not MEMBER.fullmatch(str(member)):
                raise ArgumentError(f"Invalid member '{member}': members look like 'user:a@b.c' or 'allUsers'.")
    return bindings


def _etag(asset: str, kept: dict[str, Any]) -> str:
    return hashlib.sha256(f"{asset}#{kept['count']}".encode()).hexdigest()[:16]
