"""Pictures of more than 8 bits whose samples, kept in steps, beat the networks: no more bytes, and nearer.

    steps 1, 3, 5 ... ─► files of the samples (lossless.py) ─► the finest that fits a size, or
                                                              the coarsest that is near enough

Networks give smooth pictures to about 59 dB, however many bytes they may take: as 8 bits show them.
Interpolation gives them to any step, in hardly any bytes. Of photographs it is the other way round.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable

from latentcodec.codec.lossless import deep_tiles
from latentcodec.codec.targets import Attempt, Encoded
from latentcodec.container.file import File, Tile, pack
from latentcodec.container.header import Box, Header
from latentcodec.picture.picture import Picture, Pixels

Alpha = Callable[[int, Box], bytes | None]
Complete = Callable[[Header, list[Tile]], File]

# Of 16 bits; those of fewer bits end earlier. With the coarsest no sample is off by more than eight steps
# of 8 bits: there networks serve as well.
_STEPS = (1, 3, 5, 9, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 3999)
_MORE = 2  # steps that are tried beside the finest that fits
_BOLD = 3  # times the step whose uniform error is what is asked for: coarse samples have finer ones
_UNIFORM = 12  # an error that is uniform over one step has a square of one over this


class NearFiles:
    """The files of one picture's samples, in steps.

    alpha: the stored alpha of a tile. file: a file of header and tiles. psnr: of decoded pixels, in dB.
    """

    def __init__(
        self, picture: Picture, alpha: Alpha, file: Complete, psnr: Callable[[Pixels], float]
    ) -> None:
        self._picture, self._alpha, self._file, self._psnr = picture, alpha, file, psnr
        most = (_STEPS[-1] << picture.bit_depth) >> 16
        self._steps = [step for step in _STEPS if step <= max(most, 1)]

    def finest(self, limit: float) -> Attempt | None:
        """The nearest file of at most `limit` bytes, as far as a few are tried; None where there is none."""
        fitting: dict[int, Attempt] = {}

        def fits(index: int) -> bool:
            attempt = self.at(self._steps[index], limit)
            if attempt is not None:
                fitting[index] = attempt
            return attempt is not None

        if not fits(len(self._steps) - 1):
            return None
        first = bisect_left(range(len(self._steps) - 1), True, key=fits)
        for index in range(first + 1, min(first + 1 + _MORE, len(self._steps))):
            if index not in fitting:  # a coarser step may suit the picture's own better
                fits(index)
        return max(fitting.values(), key=_psnr)

    def smallest(self, target: float, limit: float) -> Attempt | None:
        """The smallest file of at least `target` dB and at most `limit` bytes; None where there is none."""
        wanted = self._picture.peak * 10 ** (-target / 20) * math.sqrt(_UNIFORM)
        for step in reversed([step for step in self._steps if step <= _BOLD * wanted] or self._steps[:1]):
            attempt = self.at(step, limit)
            if attempt is None:
                return None
            if _psnr(attempt) >= target:
                return attempt
        return None

    def at(self, step: int, limit: float) -> Attempt | None:
        """The file with this step; None where it takes more than `limit` bytes."""
        found = deep_tiles(self._picture, step, self._alpha, limit)
        if found is None:
            return None
        header, tiles, shown = found
        file = self._file(header, tiles)
        data = pack(file)
        if len(data) > limit:
            return None
        psnr = math.inf if step == 1 else self._psnr(shown)
        return Attempt(header.quality_level, len(data), psnr, Encoded(file, data))


def _psnr(attempt: Attempt) -> float:
    return attempt.psnr if attempt.psnr is not None else 0.0
