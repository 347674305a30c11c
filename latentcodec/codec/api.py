"""The public API: pictures to bytes, bytes to pictures, files to files.

encode(image, quality= | target_size= | target_bpp= | min_psnr=) ─► bytes ─► decode ─► Pillow image
compress(src, dst), decompress(src, dst)                 the same for files, written atomically
Codec(model=, device=)                                   keeps the model loaded
"""

from __future__ import annotations

import math
import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from latentcodec.atomic import write_atomically
from latentcodec.chunks import DEFAULT_LIMITS
from latentcodec.codec.decoder import decode_file, read
from latentcodec.codec.encoder import PictureEncoder
from latentcodec.codec.info import Info, info
from latentcodec.codec.native import NativeCodec
from latentcodec.codec.targets import meet_psnr, meet_size
from latentcodec.container import Goal, Limits
from latentcodec.errors import InvalidArgument, UnknownModel
from latentcodec.image import Picture, from_array, from_pillow, to_pillow
from latentcodec.nn.device import choose_device
from latentcodec.nn.layers import MAX_LEVEL
from latentcodec.picture_files import open_picture, save_picture
from latentcodec.weights.native import FILES, NATIVE_MODEL, shipped_weights

ImageLike = Image.Image | NDArray[np.uint8]
PathLike = str | os.PathLike[str]
DEFAULT_QUALITY = 60.0

__all__ = ["Codec", "Info", "compress", "decode", "decompress", "encode", "info"]


class Codec:
    """A loaded model on a device; its methods are the module's functions."""

    def __init__(
        self, model: str = "native", device: str = "auto", *, limits: Limits = DEFAULT_LIMITS
    ) -> None:
        """Raises UnknownModel and InvalidArgument for names there are none of."""
        if model != "native":
            raise UnknownModel(f"model {model!r}: this version has 'native'")
        self.model, self.device, self.limits = model, choose_device(device), limits
        self._native = _native(NATIVE_MODEL, self.device)

    def encode(
        self,
        image: ImageLike | Picture,
        *,
        quality: float = DEFAULT_QUALITY,
        target_size: int | None = None,
        target_bpp: float | None = None,
        min_psnr: float | None = None,
        strip: bool = False,
    ) -> bytes:
        """Compress a picture.

        image: a Pillow image of any mode, or uint8 (H, W), (H, W, 3) or (H, W, 4).
        quality: 0 to 100, continuous. Or one target: target_size in bytes or target_bpp
        in bits per pixel (the file is never over, and within 1 % under where neighbouring qualities allow) or
        min_psnr in dB (the decoded picture is never under). strip leaves EXIF and XMP out.
        Raises InvalidArgument, TargetUnreachable (naming the reachable bound), UnsupportedImage,
        UnreadableImage, LimitExceeded.
        """
        targets = {"target_size": target_size, "target_bpp": target_bpp, "min_psnr": min_psnr}
        given = {name: value for name, value in targets.items() if value is not None}
        if len(given) + (quality != DEFAULT_QUALITY) > 1:
            raise InvalidArgument(f"{', '.join(given)} and quality {quality:g}: ask for one of them")
        if not 0 <= quality <= 100:
            raise InvalidArgument(f"quality {quality:g}: it goes from 0 to 100")
        for name, value in given.items():
            if not 0 < value < math.inf:
                raise InvalidArgument(f"{name} {value:g}: it must be a positive number")
        picture = _picture(image, self.limits.max_pixels)
        encoder = PictureEncoder(self._native, picture, strip=strip)
        if not given:
            return encoder.encode(round(quality / 100 * MAX_LEVEL)).data
        if min_psnr is not None:
            met = meet_psnr(lambda level: encoder.attempt(level, measure=True), min_psnr)
            return encoder.finish(met, Goal("psnr", min_psnr, met.psnr))
        pixels = encoder.picture.width * encoder.picture.height
        size = target_size if target_size is not None else math.floor((target_bpp or 0) * pixels / 8)
        return meet_size(lambda level: encoder.attempt(level, measure=False), size).encoded.data

    def decode(self, data: bytes, *, partial: bool = False) -> Image.Image:
        """Decompress to a Pillow image of mode L, LA, RGB or RGBA; its info has icc_profile, exif and xmp.

        With partial=True a damaged or truncated file gives what is left of it, and info["report"] (a
        latentcodec.salvage.Report) says what is missing. Raises FormatError, ModelError, LimitExceeded.
        """
        picture, report = self._decode(data, partial)
        image = to_pillow(picture)
        if report is not None:
            image.info["report"] = report
        return image

    def compress(
        self,
        src: PathLike,
        dst: PathLike,
        *,
        quality: float = DEFAULT_QUALITY,
        target_size: int | None = None,
        target_bpp: float | None = None,
        min_psnr: float | None = None,
        strip: bool = False,
    ) -> int:
        """Compress a picture file to an .lci file, replacing dst atomically. Returns the bytes written."""
        data = self.encode(
            open_picture(src, max_pixels=self.limits.max_pixels),
            quality=quality,
            target_size=target_size,
            target_bpp=target_bpp,
            min_psnr=min_psnr,
            strip=strip,
        )
        write_atomically(dst, data)
        return len(data)

    def decompress(self, src: PathLike, dst: PathLike, *, partial: bool = False) -> None:
        """Decompress an .lci file to a picture file of dst's extension, replacing it atomically."""
        picture, _ = self._decode(Path(src).read_bytes(), partial)
        save_picture(picture, dst)

    def _decode(self, data: bytes, partial: bool) -> tuple[Picture, object]:
        if not isinstance(data, bytes | bytearray | memoryview):
            raise InvalidArgument(
                f"the data to decode are bytes, not {type(data).__name__}: read the file first"
            )
        file, report = read(bytes(data), self.limits, partial)
        if file.header.model_number not in FILES:
            shipped_weights(file.header.model_number)  # raises, naming what is needed
        return decode_file(_native(file.header.model_number, self.device), file, self.limits, report)


@lru_cache(maxsize=2)
def _native(number: int, device: torch.device) -> NativeCodec:
    return NativeCodec(shipped_weights(number), device)


def _picture(image: ImageLike | Picture, max_pixels: int) -> Picture:
    if isinstance(image, Picture):
        return image
    return from_pillow(image, max_pixels=max_pixels) if isinstance(image, Image.Image) else from_array(image)


def encode(
    image: ImageLike,
    *,
    quality: float = DEFAULT_QUALITY,
    target_size: int | None = None,
    target_bpp: float | None = None,
    min_psnr: float | None = None,
    model: str = "native",
    device: str = "auto",
    strip: bool = False,
) -> bytes:
    """Compress a picture: see Codec.encode."""
    return Codec(model, device).encode(
        image, quality=quality, target_size=target_size, target_bpp=target_bpp, min_psnr=min_psnr, strip=strip
    )


def decode(data: bytes, *, device: str = "auto", partial: bool = False) -> Image.Image:
    """Decompress to a Pillow image: see Codec.decode."""
    return Codec(device=device).decode(data, partial=partial)


def compress(
    src: PathLike,
    dst: PathLike,
    *,
    quality: float = DEFAULT_QUALITY,
    target_size: int | None = None,
    target_bpp: float | None = None,
    min_psnr: float | None = None,
    model: str = "native",
    device: str = "auto",
    strip: bool = False,
) -> int:
    """Compress a picture file: see Codec.compress."""
    return Codec(model, device).compress(
        src,
        dst,
        quality=quality,
        target_size=target_size,
        target_bpp=target_bpp,
        min_psnr=min_psnr,
        strip=strip,
    )


def decompress(src: PathLike, dst: PathLike, *, device: str = "auto", partial: bool = False) -> None:
    """Decompress an .lci file: see Codec.decompress."""
    Codec(device=device).decompress(src, dst, partial=partial)
