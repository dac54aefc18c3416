"""A stand-in for the USGS earthquake services: replays recorded and simulated quakes, with updates and deletions."""

from infra.local.usgs.app import create_app
from infra.local.usgs.play import play_event

__all__ = ["create_app", "play_event"]
