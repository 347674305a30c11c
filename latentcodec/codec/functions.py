"""The functions of the package: each makes a Codec and calls its method of the same name.

encode(image, ...) ─► Codec(model=, device=, ...).encode(image, ...)       with the keywords of both
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

from latentcodec.codec.api import Codec
from latentcodec.codec.arguments import DEFAULT_EFFORT, NATIVE, ImageLike, PathLike
from latentcodec.container.autoencoder import SCALAR
from latentcodec.container.chunks import DEFAULT_LIMITS
from latentcodec.container.file import Limits
from latentcodec.container.salvage import Report
from latentcodec.picture.picture import Picture

if TYPE_CHECKING:
    from latentcodec.codec.cleanup.settings import CleanupSettings

__all__ = ["compress", "decode", "decompress", "encode"]


def encode(
    image: ImageLike | Picture,
    *,
    model: PathLike = NATIVE,
    device: str = "auto",
    limits: Limits = DEFAULT_LIMITS,
    prior: PathLike | None = None,
    cleanup_settings: CleanupSettings | None = None,
    quality: float | None = None,
    target_size: int | None = None,
    target_bpp: float | None = None,
    min_psnr: float | None = None,
    strip: bool = False,
    quantiser: str = SCALAR,
    effort: int = DEFAULT_EFFORT,
    strict: bool = False,
) -> bytes:
    """Compress a picture: Codec(...).encode(image, ...), with the keywords of both."""
    codec = Codec(model, device, limits=limits, prior=prior, cleanup_settings=cleanup_settings)
    return codec.encode(
        image,
        quality=quality,
        target_size=target_size,
        target_bpp=target_bpp,
        min_psnr=min_psnr,
        strip=strip,
        quantiser=quantiser,
        effort=effort,
        strict=strict,
    )


def decode(
    data: bytes,
    *,
    model: PathLike = NATIVE,
    device: str = "auto",
    limits: Limits = DEFAULT_LIMITS,
    prior: PathLike | None = None,
    cleanup_settings: CleanupSettings | None = None,
    partial: bool = False,
    cleanup: float = 0.0,
    strict: bool = False,
) -> Image.Image:
    """Decompress to a Pillow image: Codec(...).decode(data, ...), with the keywords of both."""
    codec = Codec(model, device, limits=limits, prior=prior, cleanup_settings=cleanup_settings)
    return codec.decode(data, partial=partial, cleanup=cleanup, strict=strict)


def compress(
    src: PathLike,
    dst: PathLike,
    *,
    model: PathLike = NATIVE,
    device: str = "auto",
    limits: Limits = DEFAULT_LIMITS,
    prior: PathLike | None = None,
    cleanup_settings: CleanupSettings | None = None,
    quality: float | None = None,
    target_size: int | None = None,
    target_bpp: float | None = None,
    min_psnr: float | None = None,
    strip: bool = False,
    quantiser: str = SCALAR,
    effort: int = DEFAULT_EFFORT,
    strict: bool = False,
) -> int:
    """Compress a picture file: Codec(...).compress(src, dst, ...), with the keywords of both."""
    codec = Codec(model, device, limits=limits, prior=prior, cleanup_settings=cleanup_settings)
    return codec.compress(
        src,
        dst,
        quality=quality,
        target_size=target_size,
        target_bpp=target_bpp,
        min_psnr=min_psnr,
        strip=strip,
        quantiser=quantiser,
        effort=effort,
        strict=strict,
    )


def decompress(
    src: PathLike,
    dst: PathLike,
    *,
    model: PathLike = NATIVE,
    device: str = "auto",
    limits: Limits = DEFAULT_LIMITS,
    prior: PathLike | None = None,
    cleanup_settings: CleanupSettings | None = None,
    partial: bool = False,
    cleanup: float = 0.0,
    strict: bool = False,
) -> Report | None:
    """Decompress an .lci file: Codec(...).decompress(src, dst, ...), with the keywords of both."""
    codec = Codec(model, device, limits=limits, prior=prior, cleanup_settings=cleanup_settings)
    return codec.decompress(src, dst, partial=partial, cleanup=cleanup, strict=strict)
