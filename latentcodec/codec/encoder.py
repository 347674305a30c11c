"""Picture -> file bytes at one quality level, or of a target, by attempts that its search measures.

Picture ─┬─► fill transparent, pad ─► tiles: analyse, encode ─► File ─► bytes
         │                                  │
         │            latent plane ─► synthesise ─► the picture that a decoder gets ─► PSNR, SSIMULACRA 2
         └─► few colours, repeating? ─► tiles of pixels, without loss ─► File ─► bytes

What all models share is here; each has its own encoder below `BaseEncoder`, in native/encoder.py and
autoencoder/encoder.py.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from latentcodec.codec.alpha import fill_transparent, pack_alpha
from latentcodec.codec.arguments import DEFAULT_QUALITY
from latentcodec.codec.planes import LatentPlane, pad_to_patches
from latentcodec.codec.sidecar import pack_metadata
from latentcodec.codec.targets import (
    PSNR,
    SSIMULACRA2,
    Attempt,
    Encoded,
    Measure,
    bytes_of_bpp,
    meet_bpp,
    meet_measure,
    meet_size,
)
from latentcodec.container.chunks import DEFAULT_LIMITS, Limits
from latentcodec.container.file import File, Goal, pack
from latentcodec.container.header import Box
from latentcodec.container.quality import level_of_quality
from latentcodec.errors import TargetUnreachable
from latentcodec.picture.picture import Picture, Pixels
from latentcodec.picture.similarity.comparison import visible_score
from latentcodec.picture.similarity.structure import psnr

MEASURES = {"min_psnr": PSNR, "min_ssimulacra2": SSIMULACRA2}


class BaseEncoder(ABC):
    """One picture, encoded as often as a target needs; the models' own encoders are below it."""

    def __init__(
        self, picture: Picture, patch: int, *, strip: bool = False, limits: Limits = DEFAULT_LIMITS
    ) -> None:
        """patch: pixels of a latent position, along a side.

        `limits` are those of the file's readers: EXIF and XMP beyond them are dropped with a
        DroppedDataWarning. Raises LimitExceeded for a colour profile beyond them, which is what is seen.
        """
        self.picture = picture
        pixels = picture.pixels
        if picture.alpha is not None:
            pixels = fill_transparent(pixels, picture.alpha, picture.bit_depth)
        self._padded = pad_to_patches(pixels, patch)
        self._metadata = pack_metadata(picture, strip, limits.max_metadata_bytes)
        self._alphas: dict[int, bytes] = {}

    def encode(self, level: int) -> Encoded:
        """Encode at a quality level of 0 to 4000."""
        encoded = self._encode(level)[0]
        file = self.complete(encoded.file)
        return encoded if file is encoded.file else Encoded(file, pack(file))

    def complete(self, file: File) -> File:
        """The file that was chosen, with what only that one needs; it stays of as many bytes."""
        return file

    @abstractmethod
    def _encode(self, level: int, *, rough: bool = False) -> tuple[Encoded, LatentPlane]:
        """The encoding, and the latent plane (C, h, w) that it decodes to; rough: with least effort."""

    @abstractmethod
    def _synthesise(self, plane: LatentPlane, file: File) -> Pixels:
        """The pixels (height, width, 3) that a decoder gets."""

    def _alpha(self, number: int, box: Box) -> bytes | None:
        """The stored alpha of a tile; None where the picture has none."""
        if self.picture.alpha is not None and number not in self._alphas:
            self._alphas[number] = pack_alpha(self.picture.alpha[box.y0 : box.y1, box.x0 : box.x1])
        return self._alphas.get(number)

    @property
    def slow(self) -> bool:
        """Whether a search had better begin with rough attempts, which are much quicker."""
        return False

    def without_loss(self, limit: float = math.inf) -> Attempt | None:
        """The picture's own pixels as a file; None where they hardly take few bytes, or over `limit`."""
        return None

    def near(self, limit: float, than: Encoded | None = None) -> Attempt | None:
        """The picture's samples, in steps, as a file of at most `limit` bytes that is nearer `than` another.

        None where there is none, and for pictures of 8 bits.
        """
        return None

    def near_enough(self, measure: Measure, target: float, limit: float = math.inf) -> Attempt | None:
        """The same that reaches `target`, of at most `limit` bytes: the smallest."""
        return None

    def attempt(self, level: int, *, measure: Measure | None, rough: bool = False) -> Attempt:
        """Encode at a level and measure its size and, if asked, what it decodes to."""
        # A search holds several attempts: none of them keeps its plane, which may be larger than the picture.
        encoded, plane = self._encode(level, rough=rough)
        attempt = Attempt(level, len(encoded.data), None, encoded)
        return (
            attempt
            if measure is None
            else self._measured(attempt, measure, self._synthesise(plane, encoded.file))
        )

    def _measured(self, attempt: Attempt, measure: Measure, decoded: Pixels) -> Attempt:
        """The attempt, with the measure of what a decoder gets."""
        if measure is SSIMULACRA2:
            return replace(attempt, ssimulacra2=visible_score(self.picture, decoded))
        return replace(attempt, psnr=self._psnr(decoded))

    def _psnr(self, decoded: Pixels) -> float:
        """PSNR in dB of what a decoder gets, over the pixels that are not fully transparent."""
        picture = self.picture
        seen = None if picture.alpha is None else picture.alpha > 0
        return psnr(picture.pixels, decoded, seen, picture.peak)

    def meet(self, asked: dict[str, float]) -> bytes:
        """The file of a quality, or the best that meets a target, each by its name in Codec.encode.

        Where nothing is asked for, quality 60. Raises TargetUnreachable.
        """
        measure = next((MEASURES[name] for name in asked if name in MEASURES), None)
        if measure is None and not asked.keys() & {"target_size", "target_bpp"}:
            encoded = self.encode(level_of_quality(asked.get("quality", DEFAULT_QUALITY)))
            size = len(encoded.data)
            other = self.without_loss(size) or self.near(size, encoded)
            return encoded.data if other is None or size < other.size else other.encoded.data
        attempt = partial(self.attempt, measure=measure)
        quick = partial(attempt, rough=True) if self.slow else None
        exact, ((name, target),) = self.without_loss(), asked.items()
        if measure is not None:
            met = _met(
                lambda: meet_measure(attempt, target, measure, quick, exact),
                lambda met: self.near_enough(measure, target, met.size if met else math.inf),
            )
            goal = Goal(name.removeprefix("min_"), target, met.psnr, met.ssimulacra2)
            return self.finish(met, goal)
        if name == "target_bpp":
            pixels = self.picture.width * self.picture.height
            limit = bytes_of_bpp(target, pixels)
            search = partial(meet_bpp, attempt, target, pixels, quick, exact)
        else:
            limit = math.floor(target)
            search = partial(meet_size, attempt, limit, quick, exact)

        def nearer(met: Attempt | None) -> Attempt | None:
            if met is not None and met.psnr == math.inf:
                return None
            return self.near(limit, met.encoded if met else None)

        return self.finish(_met(search, nearer))

    def finish(self, attempt: Attempt, goal: Goal | None = None) -> bytes:
        """The bytes of the attempt that was chosen; goal: what was asked for and achieved, to be stored."""
        return pack(replace(self.complete(attempt.encoded.file), goal=goal))


def _met(search: Callable[[], Attempt], near: Callable[[Attempt | None], Attempt | None]) -> Attempt:
    """What a search finds, or what `near` has that beats it, or beats None where nothing was found."""
    try:
        met = search()
    except TargetUnreachable:
        if (instead := near(None)) is None:
            raise
        return instead
    return near(met) or met
