"""Domains: how far a region lies from what a model has learned, which model is nearest, and whether any is near."""
