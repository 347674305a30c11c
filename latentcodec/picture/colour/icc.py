"""ICC profiles of RGB and gray, written from primaries and a transfer curve (ICC.1:2022, version 4.4).

primaries, white ─► colorants under D50 (Bradford) ─┐
curve: a gamma, sRGB's, or a table ─────────────────┼─► make_profile ─► bytes, the same for the same arguments
CICP code points, where they say more ──────────────┘
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["ADOBE_RGB", "D65", "REC709", "SRGB_CURVE", "Chromaticities", "Curve", "make_profile"]

Point = tuple[float, float]
D65: Point = (0.3127, 0.3290)  # ITU-R BT.709
_D50 = np.array([0.9642, 1.0, 0.8249])  # of the profile connection space (ICC.1, 7.2.16)
_BRADFORD = np.array(  # ICC.1, annex E
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


@dataclass(frozen=True)
class Chromaticities:
    """Where red, green, blue and white lie in CIE's xy."""

    red: Point
    green: Point
    blue: Point
    white: Point = D65


REC709 = Chromaticities((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
ADOBE_RGB = Chromaticities((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))  # Adobe RGB (1998), 4.3.1

Curve = float | tuple[float, ...] | npt.NDArray[np.float64]
"""Encoded value to light: a gamma; the parameters g a b c d of a power above d and a line below; or a table
of light, 0 to 1, at equal steps of the value."""

SRGB_CURVE: Curve = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)  # IEC 61966-2-1


def make_profile(
    description: str,
    curve: Curve,
    chromaticities: Chromaticities | None,
    cicp: Sequence[int] = (),
) -> bytes:
    """A display profile: of RGB, or of gray where there are no chromaticities.

    cicp: primaries, transfer, matrix and range of ITU-T H.273, for readers that know them; the rest is for
    all others. Raises ValueError for chromaticities of no colour space.
    """
    trc = _curve(curve)
    tags: list[tuple[bytes, bytes]] = [
        (b"desc", _text(description)),
        (b"cprt", _text("No copyright, use freely")),
        (b"wtpt", _xyz(_D50)),
    ]
    if chromaticities is None:
        tags.append((b"kTRC", trc))
    else:
        adapt = _adaptation(_light(chromaticities.white))
        colorants = adapt @ _colorants(chromaticities)
        tags.append((b"chad", b"sf32" + bytes(4) + _fixed(*adapt.ravel())))
        for column, name in enumerate((b"r", b"g", b"b")):
            tags += [(name + b"XYZ", _xyz(colorants[:, column])), (name + b"TRC", trc)]
    if cicp:
        tags.append((b"cicp", b"cicp" + bytes(4) + bytes(cicp)))
    return _assemble(tags, b"GRAY" if chromaticities is None else b"RGB ")


def _assemble(tags: list[tuple[bytes, bytes]], space: bytes) -> bytes:
    place = 128 + 4 + 12 * len(tags)
    table, body, places = struct.pack(">I", len(tags)), b"", dict[bytes, int]()
    for name, data in tags:
        if data not in places:  # the curves of red, green and blue are one
            places[data] = place + len(body)
            body += data + bytes(-len(data) % 4)
        table += name + struct.pack(">II", places[data], len(data))
    header = struct.pack(
        ">I4sI4s4s4s6H4s4sI4s4sQI",
        *(128 + len(table) + len(body), bytes(4), 0x04400000, b"mntr", space, b"XYZ "),
        *(2026, 1, 1, 0, 0, 0),  # a date there must be
        *(b"acsp", bytes(4), 0, bytes(4), bytes(4), 0, 0),
    )
    return (header + _fixed(*_D50)).ljust(128, b"\0") + table + body


def _light(point: Point) -> npt.NDArray[np.float64]:
    """XYZ, Y = 1, of a point in xy."""
    x, y = point
    if not (0 < y <= 1 and 0 <= x <= 1):
        raise ValueError(f"no light has the chromaticity {x:g}, {y:g}")
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _colorants(of: Chromaticities) -> npt.NDArray[np.float64]:
    """Columns: XYZ of full red, green and blue, which together are the white."""
    points = (of.red, of.green, of.blue)
    if not all(-0.5 <= each <= 1.5 for point in points for each in point):  # blue of some is below 0
        raise ValueError("a primary lies far beyond all light")
    primaries = np.stack([[x, y, 1 - x - y] for x, y in points], 1)
    if abs(np.linalg.det(primaries)) < 1e-4:
        raise ValueError("the primaries lie on one line")
    return primaries * np.linalg.solve(primaries, _light(of.white))


def _adaptation(white: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The linear Bradford transform of a white to that of the profile connection space."""
    cones = _BRADFORD @ np.stack([white, _D50], 1)
    if (cones <= 0.01).any():
        raise ValueError("the white point is no white")
    adapted: npt.NDArray[np.float64] = (
        np.linalg.inv(_BRADFORD) @ np.diag(cones[:, 1] / cones[:, 0]) @ _BRADFORD
    )
    return adapted


def _curve(curve: Curve) -> bytes:
    if isinstance(curve, np.ndarray):
        samples = np.rint(np.clip(curve, 0, 1) * 65535).astype(">u2")
        return b"curv" + bytes(4) + struct.pack(">I", len(samples)) + samples.tobytes()
    kind, values = (3, curve) if isinstance(curve, tuple) else (0, (curve,))
    return b"para" + bytes(4) + struct.pack(">HH", kind, 0) + _fixed(*values)


def _xyz(values: Sequence[float] | npt.NDArray[np.float64]) -> bytes:
    return b"XYZ " + bytes(4) + _fixed(*values)


def _fixed(*values: float) -> bytes:
    """s15Fixed16Numbers. Raises ValueError for what they cannot hold."""
    try:
        return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))
    except (struct.error, OverflowError) as error:
        raise ValueError("the colour space is beyond what a profile can say") from error


def _text(text: str) -> bytes:
    data = text.encode("utf-16-be")
    return b"mluc" + bytes(4) + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(data), 28) + data
