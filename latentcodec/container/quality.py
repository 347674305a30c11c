"""Quality, 0 to 100, and the file's quality level, 0 to 4000: a polyline.

    quality    0 ───────────────────────── 60 ───────────── 100
    level      0 ──────────────────────── 2640 ──────────── 4000

Equal steps of the level are equal steps of ln(lambda). Below quality 60 a picture shows that it was
compressed, at 60 it looks clean on a normal screen, above it stands closer looks (docs/training.md).
"""

from __future__ import annotations

CLEAN = 60.0  # the quality where the two parts meet
CLEAN_LEVEL = 2640
_BELOW, _ABOVE = 44, 34  # levels a step of quality


def level_of_quality(quality: float) -> int:
    """The level of a quality of 0 to 100."""
    return round(quality * _BELOW if quality <= CLEAN else CLEAN_LEVEL + (quality - CLEAN) * _ABOVE)


def quality_of_level(level: int) -> float:
    """The inverse; what level_of_quality rounded off stays lost."""
    return level / _BELOW if level <= CLEAN_LEVEL else CLEAN + (level - CLEAN_LEVEL) / _ABOVE
