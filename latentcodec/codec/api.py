"""The public API: pictures to bytes, bytes to pictures, files to files.

encode(image, quality= | target_size= | target_bpp= | min_psnr=) ─► bytes ─► decode ─► Pillow image
compress(src, dst), decompress(src, dst)                 the same for files, written atomically
Codec(model=, device=)                                   keeps the model loaded

model: "native", or an autoencoder: a name in the store (`latentcodec models list`), or a path. Files of any
model decode with any Codec, as long as their model is there.
"""

from __future__ import annotations

import math
import numbers
import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from latentcodec.atomic import write_atomically
from latentcodec.chunks import DEFAULT_LIMITS
from latentcodec.codec.decoder import decode_file, decode_with, read
from latentcodec.codec.encoder import BaseEncoder, PictureEncoder
from latentcodec.codec.info import Info, info
from latentcodec.codec.latent import file_chunk
from latentcodec.codec.latent_file import PALETTE, SCALAR, LatentEncoder, LatentReader, check_options
from latentcodec.codec.models import codec_for, open_codec
from latentcodec.codec.native import NativeCodec
from latentcodec.codec.targets import meet_bpp, meet_psnr, meet_size
from latentcodec.container import Goal, Limits
from latentcodec.errors import InvalidArgument, LimitExceeded
from latentcodec.header import EXTERNAL_MODEL
from latentcodec.image import PICTURE_EXTENSIONS, Picture, from_array, from_pillow, to_pillow
from latentcodec.nn.device import choose_device
from latentcodec.nn.layers import MAX_LEVEL
from latentcodec.picture_files import open_picture, save_picture
from latentcodec.salvage import Report
from latentcodec.weights.native import FILES, NATIVE_MODEL, shipped_weights

ImageLike = Image.Image | NDArray[np.uint8]
PathLike = str | os.PathLike[str]
DEFAULT_QUALITY = 60.0
NATIVE = "native"
_UNITS = {"target_size": "bytes", "target_bpp": "bits per pixel", "min_psnr": "dB"}

__all__ = ["Codec", "Info", "compress", "decode", "decompress", "encode", "info"]


class Codec:
    """A loaded model on a device; its methods are the module's functions."""

    def __init__(
        self, model: PathLike = NATIVE, device: str = "auto", *, limits: Limits = DEFAULT_LIMITS
    ) -> None:
        """model: "native", or a name or path of an autoencoder.

        Raises UnknownModel and InvalidArgument for names there are none of, InvalidWeights for damaged files.
        """
        self.model, self.device, self.limits = model, choose_device(device), limits
        self._latent = open_codec(model, self.device) if model != NATIVE else None
        self._read_with = self._latent
        if self._latent is None:
            _native(NATIVE_MODEL, self.device)  # loaded now, so that what is wrong is told now

    @property
    def _native(self) -> NativeCodec:
        return _native(NATIVE_MODEL, self.device)

    def encode(
        self,
        image: ImageLike | Picture,
        *,
        quality: float = DEFAULT_QUALITY,
        target_size: int | None = None,
        target_bpp: float | None = None,
        min_psnr: float | None = None,
        strip: bool = False,
        quantiser: str = SCALAR,
        effort: int = 0,
    ) -> bytes:
        """Compress a picture.

        image: a Pillow image of any mode, or uint8 (H, W), (H, W, 3) or (H, W, 4).
        quality: 0 to 100, continuous. Or one target: target_size in bytes or target_bpp
        in bits per pixel (the file is never over, and within 1 % under where neighbouring qualities allow) or
        min_psnr in dB (the decoded picture is never under). strip leaves EXIF and XMP out; those larger than
        Limits.max_metadata_bytes are left out with a DroppedDataWarning.
        For autoencoders: quantiser is "scalar", or "palette" (of one rate, for comparison); effort 0 to 4
        refines the latents through the decoder, at a time that grows threefold each.
        Raises InvalidArgument, TargetUnreachable (naming the reachable bound; also where even quality 100
        stays over 1 % under a size), UnsupportedImage, UnreadableImage, LimitExceeded (pixels or profile).
        """
        quality = _number("quality", quality)
        targets = {"target_size": target_size, "target_bpp": target_bpp, "min_psnr": min_psnr}
        given = {name: _number(name, value) for name, value in targets.items() if value is not None}
        if len(given) + (quality != DEFAULT_QUALITY) > 1:
            raise InvalidArgument(f"{', '.join(given)} and quality {quality:g}: ask for one of them")
        if not 0 <= quality <= 100:
            raise InvalidArgument(f"quality {quality:g}: it goes from 0 to 100")
        for name, value in given.items():
            if not 0 < value < math.inf:
                raise InvalidArgument(f"{name} {value:g}: it must be a positive number of {_UNITS[name]}")
        check_options(quantiser, effort)
        if quantiser == PALETTE and given:
            raise InvalidArgument(f"{', '.join(given)}: the palette has one rate; leave it out")
        picture = _picture(image, self.limits.max_pixels)
        encoder = self._encoder(picture, strip, quantiser, effort)
        if not given:
            return encoder.encode(round(quality / 100 * MAX_LEVEL)).data
        if min_psnr is not None:
            met = meet_psnr(lambda level: encoder.attempt(level, measure=True), min_psnr)
            return encoder.finish(met, Goal("psnr", min_psnr, met.psnr))
        if target_bpp is not None:
            pixels = picture.width * picture.height
            met = meet_bpp(lambda level: encoder.attempt(level, measure=False), target_bpp, pixels)
        else:
            size = math.floor(given["target_size"])
            met = meet_size(lambda level: encoder.attempt(level, measure=False), size)
        return met.encoded.data

    def _encoder(self, picture: Picture, strip: bool, quantiser: str, effort: int) -> BaseEncoder:
        if self._latent is not None:
            return LatentEncoder(
                self._latent, picture, quantiser=quantiser, effort=effort, strip=strip, limits=self.limits
            )
        if (quantiser, effort) != (SCALAR, 0):
            raise InvalidArgument(
                f"quantiser {quantiser}, effort {effort}: the native model has neither; give a model"
            )
        return PictureEncoder(self._native, picture, strip=strip, limits=self.limits)

    def decode(self, data: bytes, *, partial: bool = False) -> Image.Image:
        """Decompress to a Pillow image of mode L, LA, RGB or RGBA; its info has icc_profile, exif and xmp.

        With partial=True a damaged or truncated file gives what is left of it, and info["report"] (a
        latentcodec.salvage.Report) says what is missing. Raises FormatError, ModelError, LimitExceeded.
        """
        picture, report = self.decode_picture(data, partial=partial)
        image = to_pillow(picture)
        if report is not None:
            image.info["report"] = report
        return image

    def decode_picture(self, data: bytes, *, partial: bool = False) -> tuple[Picture, Report | None]:
        """Decompress to planes, profile, EXIF and XMP as stored; `decode` and `decompress` build on it.

        With partial=True also a Report of what is missing, else None. Raises as `decode` does.
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            raise InvalidArgument(
                f"the data to decode are bytes, not {type(data).__name__}: read the file first"
            )
        file, report = read(bytes(data), self.limits, partial)
        if file.header.model_number == EXTERNAL_MODEL:
            chunk = file_chunk(file)
            # Kept: the next file is likely to need the same.
            self._read_with = codec_for(chunk, self.device, self._read_with)
            return decode_with(LatentReader(self._read_with, file.header, chunk), file, self.limits, report)
        if file.header.model_number not in FILES:
            shipped_weights(file.header.model_number)  # raises, naming what is needed
        return decode_file(_native(file.header.model_number, self.device), file, self.limits, report)

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
        quantiser: str = SCALAR,
        effort: int = 0,
    ) -> int:
        """Compress a picture file to an .lci file, replacing dst atomically. Returns the bytes written.

        Raises as `encode` does, OSError, and InvalidArgument where dst is src or is named as a picture.
        """
        _check_target(src, dst)
        data = self.encode(
            open_picture(src, max_pixels=self.limits.max_pixels),
            quality=quality,
            target_size=target_size,
            target_bpp=target_bpp,
            min_psnr=min_psnr,
            strip=strip,
            quantiser=quantiser,
            effort=effort,
        )
        write_atomically(dst, data)
        return len(data)

    def decompress(self, src: PathLike, dst: PathLike, *, partial: bool = False) -> Report | None:
        """Decompress an .lci file to a picture file of dst's extension, replacing it atomically.

        Returns with partial=True the Report of what is missing, else None. Raises as `decode` does, and
        OSError, InvalidArgument (unknown extension), UnsupportedImage (what the format cannot hold).
        """
        picture, report = self.decode_picture(Path(src).read_bytes(), partial=partial)
        save_picture(picture, dst)
        return report


@lru_cache(maxsize=2)
def _native(number: int, device: torch.device) -> NativeCodec:
    return NativeCodec(shipped_weights(number), device)


def _picture(image: ImageLike | Picture, max_pixels: int) -> Picture:
    """The image as a Picture of at most `max_pixels`, which is what a decoder with these limits takes."""
    if isinstance(image, Image.Image):
        return from_pillow(image, max_pixels=max_pixels)
    picture = image if isinstance(image, Picture) else from_array(image)
    if (pixels := picture.width * picture.height) > max_pixels:
        raise LimitExceeded(
            f"the picture is {picture.width}x{picture.height} = {pixels} pixels, the limit is {max_pixels}: "
            "raise max_pixels here and where it is decoded (Codec(limits=Limits(max_pixels=...)))"
        )
    return picture


def _number(name: str, value: object) -> float:
    """An argument as a float. Raises InvalidArgument for what is no real number; a bool is none."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InvalidArgument(f"{name} {value!r}: it must be a number, this is a {type(value).__name__}")
    try:
        return float(value)
    except OverflowError as error:
        raise InvalidArgument(f"{name}: it is beyond all floats; give a smaller number") from error


def _check_target(src: PathLike, dst: PathLike) -> None:
    """Raise InvalidArgument where compressing to dst would surely be a mistake."""
    target = Path(dst)
    if os.path.realpath(src) == os.path.realpath(dst):
        raise InvalidArgument(f"{target}: it would be written over the picture itself: name another file")
    if target.suffix.lower() in PICTURE_EXTENSIONS:
        raise InvalidArgument(
            f"{target}: compress writes .lci files, not {target.suffix}: "
            f"name it {target.with_suffix('.lci')}, or use decompress"
        )


def encode(
    image: ImageLike,
    *,
    quality: float = DEFAULT_QUALITY,
    target_size: int | None = None,
    target_bpp: float | None = None,
    min_psnr: float | None = None,
    model: PathLike = NATIVE,
    device: str = "auto",
    strip: bool = False,
    quantiser: str = SCALAR,
    effort: int = 0,
) -> bytes:
    """Compress a picture: see Codec.encode."""
    return Codec(model, device).encode(
        image,
        quality=quality,
        target_size=target_size,
        target_bpp=target_bpp,
        min_psnr=min_psnr,
        strip=strip,
        quantiser=quantiser,
        effort=effort,
    )


def decode(
    data: bytes, *, model: PathLike = NATIVE, device: str = "auto", partial: bool = False
) -> Image.Image:
    """Decompress to a Pillow image: see Codec.decode. model: an autoencoder that is not installed."""
    return Codec(model, device).decode(data, partial=partial)


def compress(
    src: PathLike,
    dst: PathLike,
    *,
    quality: float = DEFAULT_QUALITY,
    target_size: int | None = None,
    target_bpp: float | None = None,
    min_psnr: float | None = None,
    model: PathLike = NATIVE,
    device: str = "auto",
    strip: bool = False,
    quantiser: str = SCALAR,
    effort: int = 0,
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
        quantiser=quantiser,
        effort=effort,
    )


def decompress(
    src: PathLike,
    dst: PathLike,
    *,
    model: PathLike = NATIVE,
    device: str = "auto",
    partial: bool = False,
) -> Report | None:
    """Decompress an .lci file: see Codec.decompress and decode."""
    return Codec(model, device).decompress(src, dst, partial=partial)
