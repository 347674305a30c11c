"""Code points of colours as an ICC profile, for formats that have no place for them.

Cicp ─► primaries, curve (ITU-T H.273; PQ and HLG by BT.2100) ─► icc_of ─► a profile, or None
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from latentcodec.picture.colour.icc import D65, REC709, SRGB_CURVE, Chromaticities, Curve, make_profile
from latentcodec.picture.colour.points import HLG, PQ, SRGB, UNSPECIFIED, Cicp, name_of

__all__ = ["icc_of"]

Light = npt.NDArray[np.float64]

_C_WHITE, _DCI_WHITE, _E_WHITE = (0.310, 0.316), (0.314, 0.351), (1 / 3, 1 / 3)
_PRIMARIES = {  # H.273, table 2
    1: REC709,
    4: Chromaticities((0.67, 0.33), (0.21, 0.71), (0.14, 0.08), _C_WHITE),
    5: Chromaticities((0.64, 0.33), (0.29, 0.60), (0.15, 0.06)),
    6: Chromaticities((0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),
    7: Chromaticities((0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),
    8: Chromaticities((0.681, 0.319), (0.243, 0.692), (0.145, 0.049), _C_WHITE),
    9: Chromaticities((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    10: Chromaticities((1, 0), (0, 1), (0, 0), _E_WHITE),
    11: Chromaticities((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _DCI_WHITE),
    12: Chromaticities((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), D65),
    22: Chromaticities((0.630, 0.340), (0.295, 0.605), (0.155, 0.077)),
}
_REC709_CURVE: Curve = (1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)
_SMPTE_240M: Curve = (1 / 0.45, 1 / 1.1115, 0.1115 / 1.1115, 1 / 4.0, 0.0913)
_CURVES: dict[int, Curve] = {  # H.273, table 3
    **dict.fromkeys((1, 6, 11, 12, 14, 15), _REC709_CURVE),
    4: 2.2,
    5: 2.8,
    7: _SMPTE_240M,
    8: 1.0,
    SRGB: SRGB_CURVE,
}
_TABLE = 1024  # steps of a curve that has no formula in a profile
_WHITE_NITS = 203  # of diffuse white in HDR (ITU-R BT.2408)
_PQ_NITS, _HLG_NITS, _HLG_GAMMA = 10_000, 1000, 1.2  # peak and system gamma (ITU-R BT.2100)


def icc_of(cicp: Cicp, gray: bool) -> bytes | None:
    """A profile with the same meaning, or None for code points that have none.

    PQ and HLG are shown by readers that do not know the profile's cicp tag with diffuse white (203 cd/m2) as
    white, and what is brighter cut off.
    """
    primaries = _PRIMARIES.get(1 if cicp.primaries == UNSPECIFIED else cicp.primaries)
    curve = _curve(cicp)
    if primaries is None or curve is None:
        return None
    return make_profile(f"CICP {name_of(cicp)}", curve, None if gray else primaries, cicp)


def _curve(cicp: Cicp) -> Curve | None:
    transfer = SRGB if cicp.transfer == UNSPECIFIED else cicp.transfer
    curve = _CURVES.get(transfer)
    if curve is not None and cicp.full_range:
        return curve
    value = np.linspace(0, 1, _TABLE)
    if not cicp.full_range:
        value = np.clip((value * 255 - 16) / 219, 0, 1)  # H.273, 8.3
    if curve is not None:
        return _light(value, curve)
    if transfer == PQ:
        return np.minimum(_pq(value) * _PQ_NITS / _WHITE_NITS, 1)
    if transfer == HLG:
        return np.minimum(_hlg(value) ** _HLG_GAMMA * _HLG_NITS / _WHITE_NITS, 1)
    return None


def _light(value: Light, curve: Curve) -> Light:
    if isinstance(curve, tuple):
        g, a, b, c, d = curve
        above: Light = np.power(np.maximum(a * value + b, 0), g)
        return np.where(value >= d, above, c * value)
    light: Light = np.power(value, curve)
    return light


def _pq(value: Light) -> Light:
    """Light of 0 to 1, which is 10,000 cd/m2 (SMPTE ST 2084)."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    root = value ** (1 / m2)
    light: Light = (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)
    return light


def _hlg(value: Light) -> Light:
    """Light of the scene, 0 to 1 (ITU-R BT.2100)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(value <= 0.5, value * value / 3, (np.exp((value - c) / a) + b) / 12)
