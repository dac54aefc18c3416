"""How far an earthquake shakes: an intensity prediction equation for events that have no ShakeMap (yet). Pure."""

from __future__ import annotations

import math

CITATION = "Allen, Wald and Worden (2012), Journal of Seismology 16, 409-433"
VALID_MAGNITUDES = (5.0, 7.9)
"""The magnitudes of the data behind the equation; beyond them it is an extrapolation."""
MAX_DISTANCE_KM = 300.0
"""The greatest distance of the data behind the equation."""
ASSUMED_DEPTH_KM = 10.0
"""Taken for an event whose record has no depth: the USGS's own default for shallow crust."""

_C0, _C1, _C2, _C4 = 2.085, 1.428, -1.402, 0.078
_M1, _M2 = -0.209, 2.042
_FAR_KM = 50.0


def predicted_mmi(magnitude: float, hypocentral_km: float) -> float:
    """Median Modified Mercalli Intensity at a hypocentral distance, in active shallow crust, site effects left out.

    The equation of Allen, Wald and Worden (2012) for hypocentral distance R (km) and moment magnitude M:
    MMI = c0 + c1 M + c2 ln sqrt(R² + RM²) [+ c4 ln(R / 50) beyond 50 km], RM = m1 + m2 exp(M - 5).
    Its standard deviation is about 0.8 far from the source and 1.2 close to it.
    """
    saturation_km = _M1 + _M2 * math.exp(magnitude - 5.0)
    mmi = _C0 + _C1 * magnitude + _C2 * math.log(math.hypot(hypocentral_km, saturation_km))
    return mmi + _C4 * math.log(hypocentral_km / _FAR_KM) if hypocentral_km > _FAR_KM else mmi


def magnitude_radius_km(magnitude: float, depth_km: float | None, minimum_mmi: float) -> float:
    """Epicentral distance in km within which the median intensity reaches `minimum_mmi`; 0 when nowhere.

    Landslides need shaking, so the radius is where the intensity that bounds the area of an event with a ShakeMap ends
    by `predicted_mmi`. It grows with magnitude, shrinks with depth, and stops at `MAX_DISTANCE_KM`. A depth of None is
    taken as `ASSUMED_DEPTH_KM`, one above sea level as 0.
    """
    depth = ASSUMED_DEPTH_KM if depth_km is None else max(depth_km, 0.0)

    def excess(epicentral_km: float) -> float:
        return predicted_mmi(magnitude, math.hypot(epicentral_km, depth)) - minimum_mmi

    near, far = 0.0, MAX_DISTANCE_KM
    if excess(near) < 0:
        return 0.0
    if excess(far) >= 0:
        return far
    while far - near > 1e-3:
        middle = (near + far) / 2
        near, far = (middle, far) if excess(middle) >= 0 else (near, middle)
    return near
