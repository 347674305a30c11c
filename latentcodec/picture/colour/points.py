"""Coding-independent code points (ITU-T H.273): what colours mean in PNG's cICP and in nclx of AVIF and HEIF.

Without numpy: `info` names them.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["HLG", "PQ", "SRGB", "UNSPECIFIED", "Cicp", "name_of"]

UNSPECIFIED, SRGB, PQ, HLG = 2, 13, 16, 18
_NAMES = {
    1: "BT.709",
    5: "BT.601",
    6: "BT.601",
    9: "BT.2020",
    11: "DCI P3",
    12: "Display P3",
}
_TRANSFERS = {1: "BT.709", 4: "gamma 2.2", 8: "linear", SRGB: "sRGB", PQ: "PQ", HLG: "HLG"}


class Cicp(NamedTuple):
    """Four bytes: primaries, transfer, matrix (0: the samples are RGB), and whether the range is full."""

    primaries: int
    transfer: int
    matrix: int = 0
    full_range: int = 1

    @property
    def is_srgb(self) -> bool:
        """Whether they say what counts without them."""
        return (
            self.primaries in (1, UNSPECIFIED)
            and self.transfer in (SRGB, UNSPECIFIED)
            and self.full_range == 1
        )


def name_of(cicp: Cicp) -> str:
    """The colour space in words: "BT.2020, PQ"."""
    primaries = _NAMES.get(cicp.primaries, f"primaries {cicp.primaries}")
    narrow = "" if cicp.full_range else ", narrow range"
    return f"{primaries}, {_TRANSFERS.get(cicp.transfer, f'transfer {cicp.transfer}')}{narrow}"
