"""Simulated earthquakes with truth to the pixel: terrain, land cover, landslides, and Sentinel-2 before and after."""

from modeling.simulate.domains import DOMAINS, Domain, domain, vary
from modeling.simulate.optics import BANDS
from modeling.simulate.reference import layers_of, srtm_like
from modeling.simulate.region import Pass, Region, SimulatedQuake, simulate_region

__all__ = [
    "BANDS", "DOMAINS", "Domain", "Pass", "Region", "SimulatedQuake", "domain", "layers_of", "simulate_region",
    "srtm_like", "vary",
]  # fmt: skip
