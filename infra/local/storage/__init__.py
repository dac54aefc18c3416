"""A stand-in for Cloud Storage that keeps its objects in a folder and survives being killed."""

from infra.local.storage.app import create_app

__all__ = ["create_app"]
