"""How much a project may keep in Earth Engine, and what an error that speaks of a limit means for the user.

The limits (https://developers.google.com/earth-engine/guides/usage): 250 GB and 10,000 assets a project by default,
3,000 waiting tasks, about two of which run at a time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from gee.catalog import asset_info
from gee.errors import AssetError
from gee.session import Session

MORE = "ask for more at https://developers.google.com/earth-engine/guides/usage"
"""Where a project gets a larger quota."""

_QUEUE = re.compile(r"too many tasks|maximum number of .*(queued|pending).*tasks|tasks? queue .*full", re.IGNORECASE)
_ASSETS = re.compile(r"quota|storage limit|too many assets|number of assets", re.IGNORECASE)
_RATE = re.compile(r"quota metric|requests? per|rate|concurren|compute|EECU", re.IGNORECASE)


@dataclass(frozen=True)
class AssetQuota:
    """What a project keeps and what it may keep."""

    assets: int
    """Number of assets."""
    max_assets: int
    """How many are allowed; 0: not told."""
    size_bytes: int
    """Their size. COG-backed images lie in Cloud Storage and do not count."""
    max_bytes: int
    """How much is allowed; 0: not told."""

    @property
    def words(self) -> str:
        """The figures in words."""
        size = f"{self.size_bytes / 1e9:.3g} of {self.max_bytes / 1e9:.3g} GB"
        return f"{self.assets:,} of {self.max_assets:,} assets and {size}"

    def lacks(self, assets: int, size_bytes: int = 0) -> bool:
        """Whether there is no room for so many more."""
        return bool(
            (self.max_assets and self.assets + assets > self.max_assets)
            or (self.max_bytes and self.size_bytes + size_bytes > self.max_bytes)
        )


def asset_quota(session: Session) -> AssetQuota | None:
    """The quota of the session's project; None when this account may not see it."""
    info = asset_info(session, f"projects/{session.config.project}/assets")
    return None if info is None or "quota" not in info else _quota(info["quota"])


def _quota(told: dict[str, Any]) -> AssetQuota:
    # The interface writes 64-bit numbers as text, and has had two names for one of them.
    most = told.get("maxAssets", told.get("maxAssetCount", 0))
    return AssetQuota(
        int(told.get("assetCount", 0)), int(most), int(told.get("sizeBytes", 0)), int(told.get("maxSizeBytes", 0))
    )


def require_room(session: Session, assets: int, size_bytes: int = 0) -> None:
    """Raise `AssetError` before anything is written when the project has no room for so many more assets."""
    quota = asset_quota(session)
    if quota is not None and quota.lacks(assets, size_bytes):
        raise AssetError(
            f"project {session.config.project!r} has no room for {assets} more assets of {size_bytes / 1e6:.3g} MB: "
            f"it holds {quota.words}. {_remedy(session.config.project)}"
        )


def queue_is_full(words: str) -> bool:
    """Whether Earth Engine said that no further task may wait: a state that passes."""
    return bool(_QUEUE.search(words))


def explain(session: Session, words: str) -> str:
    """Earth Engine's words, and after them, when they speak of a limit, what is exceeded and what to do."""
    project = session.config.project
    if queue_is_full(words):
        return (
            f"{words} No more ingestions or exports of project {project!r} may wait: run again when some have ended, "
            "or cancel them (`earthengine task list`, `earthengine task cancel`)"
        )
    if _ASSETS.search(words) and not _RATE.search(words):
        quota = asset_quota(session)
        held = f": project {project!r} holds {quota.words}" if quota else ""
        return f"{words}{held}. {_remedy(project)}"
    return words


def _remedy(project: str) -> str:
    return (
        "Delete assets that nobody needs (`quakeslide tidy EVENT` removes what unfinished runs left; the Code Editor "
        f"lists all of {project!r}), or {MORE}"
    )
