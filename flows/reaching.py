"""How the services of the settings are reached: a session of Earth Engine and the bucket. Light: the watch needs no network."""

from __future__ import annotations

import re

from flows.settings import Settings
from flows.storage import Store
from gee.session import Session, SessionConfig, open_session


def session_config(settings: Settings, event_id: str = "") -> SessionConfig:
    """The part of the settings with which a worker reaches Earth Engine; what an event costs is accounted under its id."""
    earthengine = settings.earthengine
    return SessionConfig(
        earthengine.url, earthengine.project, timeout_s=earthengine.request_timeout_s,
        max_attempts=earthengine.max_attempts, max_concurrent=earthengine.max_concurrent_requests,
        max_per_s=earthengine.max_requests_per_s, quota_uri=f"gs://{settings.storage.bucket}/quota",
        storage_endpoint=settings.storage.endpoint, workload_tag=workload_tag(event_id),
    )  # fmt: skip


def workload_tag(event_id: str) -> str:
    """An event id as a label that Earth Engine takes: a-z, 0-9, - and _, at most 63; empty for an empty id."""
    return re.sub(r"[^a-z0-9_-]+", "-", event_id.lower())[:63].strip("-_")


def connected(settings: Settings, event_id: str = "") -> Session:
    """An Earth Engine session for building expressions; raises `SessionError` when there is none."""
    return open_session(session_config(settings, event_id))


def bucket(settings: Settings) -> Store:
    """The bucket of the settings."""
    return Store(f"gs://{settings.storage.bucket}", settings.storage.endpoint)
