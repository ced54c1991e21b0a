"""How far a key reaches, and when two keys are one (section 3 of the method; arXiv 2602.02408)."""

from __future__ import annotations

import math

_NEAR, _OVERLAP = 0.1, 0.9
REACH = 0.16
"""Keys farther apart than this share of the smaller radius never merge: two equal circles overlap by 90 % at 0.157."""


def overlap(a: float, b: float, d: float) -> float:
    """The area that two circles share, divided by the area of the larger one.

    Args:
        a: Radius of one.
        b: Radius of the other.
        d: Distance between their centres.

    >>> round(overlap(1.0, 1.0, 0.0), 6), round(overlap(1.0, 0.5, 0.1), 6), overlap(1.0, 1.0, 2.0)
    (1.0, 0.25, 0.0)
    """
    small, large = sorted((a, b))
    if large <= 0:
        return 1.0 if d == 0 else 0.0
    if d >= a + b:
        return 0.0
    if d <= large - small:
        return (small / large) ** 2
    first = small**2 * math.acos(max(-1.0, min(1.0, (d * d + small**2 - large**2) / (2 * d * small))))
    second = large**2 * math.acos(max(-1.0, min(1.0, (d * d + large**2 - small**2) / (2 * d * large))))
    triangle = 0.5 * math.sqrt(
        max(0.0, (small + large - d) * (d + small - large) * (d - small + large) * (d + small + large))
    )
    return (first + second - triangle) / (math.pi * large**2)


def merges(a: float, b: float, d: float) -> bool:
    """Whether a new key of radius ``a`` merges into one of radius ``b`` at distance ``d``."""
    return (d < _NEAR * a and d < _NEAR * b) or overlap(a, b, d) > _OVERLAP
