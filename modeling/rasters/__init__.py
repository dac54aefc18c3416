"""Rasters in and out: cloud-optimised GeoTIFFs, terrain, resampling, alignment."""
