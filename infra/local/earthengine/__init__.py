"""A stand-in for Earth Engine: its REST protocol over a folder of rasters, for work and tests without an account."""

from infra.local.earthengine.app import create_app

__all__ = ["create_app"]
