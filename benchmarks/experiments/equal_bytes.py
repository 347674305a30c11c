"""A codec's best file of at most so many bytes.

qualities, ascending ─► bisection over the sizes of their files ─► the largest not over the limit
a codec that takes a size itself (ours) ─► asked for it
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from benchmarks.peers import Peer
from benchmarks.pictures.arrays import Pixels
from latentcodec.errors import TargetUnreachable

__all__ = ["HIGHEST", "best_file", "nearest_not_over"]

HIGHEST = 99  # of qualities: at 100 some codecs are lossless
Setting = TypeVar("Setting", int, float)


def nearest_not_over(
    encode: Callable[[Setting], bytes], settings: Sequence[Setting], limit: float
) -> tuple[Setting, bytes]:
    """The largest setting whose file has at most `limit` bytes, and the file; the first setting if none has.

    `settings` ascend, and sizes with them (nearly: where a codec's do not, a setting nearby is found).
    """
    low, high = 0, len(settings) - 1
    best = settings[0], encode(settings[0])
    while low < high:
        middle = (low + high + 1) // 2
        data = encode(settings[middle])
        if len(data) <= limit:
            low, best = middle, (settings[middle], data)
        else:
            high = middle - 1
    return best


def best_file(
    peer: Peer, picture: Pixels, size: int, between: tuple[float, float] = (0, HIGHEST)
) -> tuple[float | None, bytes, str | None]:
    """The setting, the codec's best file of at most `size` bytes, and a remark where it has none that
    small: then it is the smallest. `between` says in which qualities to look."""
    to_size = getattr(peer, "encode_to_size", None)
    if to_size is not None:
        try:
            return None, to_size(picture, size), None
        except TargetUnreachable:
            setting: float = 0 if len(peer.encode(picture, 0)) > size else 100
            data = peer.encode(picture, setting)
    else:
        low, high = between
        step = getattr(peer, "step", 1)
        settings = [low + step * index for index in range(round((high - low) / step) + 1)]
        setting, data = nearest_not_over(lambda quality: peer.encode(picture, quality), settings, size)
    if len(data) > size:
        return setting, data, "its smallest file: it cannot go as low"
    return setting, data, None
