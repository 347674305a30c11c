"""The functions of the package: each makes a Codec and calls its method of the same name.

encode(image, ...) ─► Codec(model=, device=, ...).encode(image, ...)       with the keywords of both
compare(a, b) ─► each decoded or opened ─► Comparison
"""

from __future__ import annotations

import dataclasses
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from latentcodec.codec.api import Codec
from latentcodec.codec.arguments import DEFAULT_EFFORT, NATIVE, ImageLike, PathLike, as_picture
from latentcodec.container.autoencoder import SCALAR
from latentcodec.container.chunks import DEFAULT_LIMITS, SIGNATURE
from latentcodec.container.file import Limits
from latentcodec.container.salvage import Report
from latentcodec.picture.files import open_picture
from latentcodec.picture.notices import report
from latentcodec.picture.picture import Picture
from latentcodec.picture.samples import Plane
from latentcodec.picture.similarity.comparison import Similarity, compare_pictures

if TYPE_CHECKING:
    from latentcodec.codec.cleanup.settings import CleanupSettings

__all__ = ["Comparison", "compare", "compress", "decode", "decode_array", "decompress", "encode"]


@dataclass(frozen=True)
class Comparison(Similarity):
    """How near the second picture is to the first, and the bytes of each; None of what is no file."""

    first_bytes: int | None
    second_bytes: int | None


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
    min_ssimulacra2: float | None = None,
    lossless: bool = False,
    strip: bool = False,
    first_frame: bool = False,
    orientation: int | None = None,
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
        min_ssimulacra2=min_ssimulacra2,
        lossless=lossless,
        strip=strip,
        first_frame=first_frame,
        orientation=orientation,
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


def decode_array(
    data: bytes,
    *,
    model: PathLike = NATIVE,
    device: str = "auto",
    limits: Limits = DEFAULT_LIMITS,
    prior: PathLike | None = None,
    cleanup_settings: CleanupSettings | None = None,
    partial: bool = False,
    cleanup: float = 0.0,
) -> Plane:
    """Decompress to a uint8 or uint16 array: Codec(...).decode_array, with the keywords of both."""
    codec = Codec(model, device, limits=limits, prior=prior, cleanup_settings=cleanup_settings)
    return codec.decode_array(data, partial=partial, cleanup=cleanup)


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
    min_ssimulacra2: float | None = None,
    lossless: bool = False,
    strip: bool = False,
    first_frame: bool = False,
    orientation: int | None = None,
    preserve: bool = False,
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
        min_ssimulacra2=min_ssimulacra2,
        lossless=lossless,
        strip=strip,
        first_frame=first_frame,
        orientation=orientation,
        preserve=preserve,
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
    preserve: bool = False,
    strict: bool = False,
) -> Report | None:
    """Decompress an .lci file: Codec(...).decompress(src, dst, ...), with the keywords of both."""
    codec = Codec(model, device, limits=limits, prior=prior, cleanup_settings=cleanup_settings)
    return codec.decompress(src, dst, partial=partial, cleanup=cleanup, preserve=preserve, strict=strict)


def compare(
    first: ImageLike | PathLike | bytes,
    second: ImageLike | PathLike | bytes,
    *,
    model: PathLike = NATIVE,
    device: str = "auto",
    limits: Limits = DEFAULT_LIMITS,
) -> Comparison:
    """Measure how near the second picture is to the first, by PSNR, MS-SSIM and SSIMULACRA 2.

    Each is the path of a picture or an .lci file, the bytes of one, a Pillow image or an array; model,
    device: for .lci files, as of Codec. PSNR counts where the first picture is not fully transparent; MS-SSIM
    and SSIMULACRA 2 are the lower one of those on a dark and on a light ground, where there is alpha. Samples
    of 8 bits are compared with deeper ones as 16 bits. A DroppedDataWarning says where colour profiles
    differ, whose values are compared as they stand. Raises InvalidArgument for pictures of different sizes,
    OSError, and what `decode` and `encode` raise for files that they cannot read.
    """
    codec = Codec(model, device, limits=limits)
    return _compared(*(_read(image, codec) for image in (first, second)))


def compare_files(codec: Codec, first: tuple[str, bytes], second: tuple[str, bytes]) -> Comparison:
    """As `compare`, of the bytes of two files with their names, by a Codec that is there."""
    return _compared(*(_open(name, data, codec) for name, data in (first, second)))


def _read(image: ImageLike | PathLike | bytes, codec: Codec) -> tuple[Picture, int | None]:
    """A picture, and the bytes of its file."""
    if isinstance(image, bytes):
        return _open("the bytes", image, codec)
    if isinstance(image, str | os.PathLike):
        return _open(os.fspath(image), Path(image).read_bytes(), codec)
    return as_picture(image, codec.limits), None


def _open(name: str, data: bytes, codec: Codec) -> tuple[Picture, int]:
    if data.startswith(SIGNATURE[:4]):
        return codec.decode_picture(data)[0], len(data)
    return open_picture(io.BytesIO(data), name=name, max_pixels=codec.limits.max_pixels), len(data)


def _compared(first: tuple[Picture, int | None], second: tuple[Picture, int | None]) -> Comparison:
    (a, first_bytes), (b, second_bytes) = first, second
    if (a.profile, a.cicp) != (b.profile, b.cicp):
        report("the pictures", "they have different colour profiles: values are compared as they stand")
    found = compare_pictures(a, b)
    fields = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
    return Comparison(**fields, first_bytes=first_bytes, second_bytes=second_bytes)
