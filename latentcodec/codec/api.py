"""The public API: pictures to bytes, bytes to pictures, files to files.

encode(image, quality= | target_size= | target_bpp= | min_psnr=) ─► bytes ─► decode ─► Pillow image
compress(src, dst), decompress(src, dst)                 the same for files, written atomically
Codec(model=, device=)                                   keeps the model loaded

The functions take the keywords of Codec as well as those of its methods.

model: "native", or an autoencoder: a name in the store (`latentcodec models list`), or a path. Files of any
model decode with any Codec, as long as their model is there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Unpack

import torch
from PIL import Image

from latentcodec.atomic import write_atomically
from latentcodec.chunks import DEFAULT_LIMITS
from latentcodec.codec.arguments import (
    DEFAULT_EFFORT,
    DEFAULT_QUALITY,
    NATIVE,
    SCALAR,
    DecodeOptions,
    DecodeWith,
    EncodeOptions,
    EncodeWith,
    ImageLike,
    PathLike,
    as_picture,
    check_effort,
    check_rate,
    check_target,
    number,
    split,
)
from latentcodec.codec.cleanup_file import MATCHED, CleanupRequest, cleaner_for
from latentcodec.codec.cleanup_unet import CleanupUNet, open_unet
from latentcodec.codec.decoder import decode_file, decode_with, read
from latentcodec.codec.encoder import BaseEncoder, PictureEncoder
from latentcodec.codec.info import Info, info
from latentcodec.codec.latent import LatentCodec, file_chunk
from latentcodec.codec.latent_file import LatentEncoder, LatentReader, check_quantiser
from latentcodec.codec.models import codec_for, open_codec
from latentcodec.codec.native import NativeCodec
from latentcodec.codec.pixels import PixelReader
from latentcodec.codec.prior import open_prior
from latentcodec.codec.quality import level_of_quality
from latentcodec.codec.targets import Attempt, meet_bpp, meet_psnr, meet_size
from latentcodec.container import Goal, Limits
from latentcodec.errors import InvalidArgument
from latentcodec.header import EXTERNAL_MODEL, PIXELS
from latentcodec.image import Picture, to_pillow
from latentcodec.nn.device import choose_device
from latentcodec.picture_files import open_picture, save_picture
from latentcodec.salvage import Report
from latentcodec.weights.detected import Detected
from latentcodec.weights.native import FILES, NATIVE_MODEL, shipped_weights

_GIVE = "give an autoencoder as the model"

__all__ = ["Codec", "Info", "compress", "decode", "decompress", "encode", "info"]


class Codec:
    """A loaded model on a device; its methods are the module's functions."""

    def __init__(
        self,
        model: PathLike = NATIVE,
        device: str = "auto",
        *,
        limits: Limits = DEFAULT_LIMITS,
        prior: PathLike | None = None,
        cleanup_unet: PathLike | None = None,
        cleanup_limit: float = 0.0,
        cleanup_preset: str = MATCHED,
        cleanup_prompt: Sequence[int] = (),
        cleanup_seed: int = 0,
    ) -> None:
        """model: "native", or a name or path of an autoencoder. prior: a file of `latentcodec train prior`.

        cleanup_unet: a name or path of a diffusion model; with it, encode stores for autoencoders what a
        clean-up at decode needs, and how much of it each tile bears that may lose cleanup_limit dB against
        the plain decode. cleanup_preset: "matched" or "seed-2022". cleanup_prompt: up to 75 token ids of
        generate.tokenizer.encode. cleanup_seed: below 2^32.
        Raises UnknownModel and InvalidArgument for names there are none of, InvalidWeights for damaged files.
        """
        self.model, self.device, self.limits = model, choose_device(device), limits
        self._latent = open_codec(model, self.device) if model != NATIVE else None
        self._kept: LatentCodec | None = None  # what earlier files needed: the next is likely to as well
        self._kept_unet: CleanupUNet | None = None
        self._prior = None if prior is None else open_prior(prior, self.device)
        self._cleanup: CleanupRequest | None = None
        if cleanup_unet is not None:
            self._cleanup = CleanupRequest(
                unet=open_unet(cleanup_unet, self.device),
                limit=number("cleanup_limit", cleanup_limit),
                preset=cleanup_preset,
                prompt=tuple(cleanup_prompt),
                seed=cleanup_seed,
            )
        if self._latent is None:
            _native(NATIVE_MODEL, self.device)  # loaded now, so that what is wrong is told now

    @property
    def detected(self) -> Detected | None:
        """What the autoencoder's files were found to be; None with the native model."""
        return None if self._latent is None else self._latent.detected

    @property
    def cleanup_detected(self) -> Detected | None:
        """What the clean-up's UNet was found to be; None without one."""
        return None if self._cleanup is None else self._cleanup.unet.detected

    @property
    def _native(self) -> NativeCodec:
        return _native(NATIVE_MODEL, self.device)

    def encode(
        self,
        image: ImageLike | Picture,
        *,
        quality: float | None = None,
        target_size: int | None = None,
        target_bpp: float | None = None,
        min_psnr: float | None = None,
        strip: bool = False,
        quantiser: str = SCALAR,
        effort: int = DEFAULT_EFFORT,
    ) -> bytes:
        """Compress a picture.

        image: a Pillow image of any mode, or uint8 (H, W), (H, W, 3) or (H, W, 4).
        quality: 0 to 100, continuous; 60 where nothing is asked for. Or one target: target_size in bytes or
        target_bpp in bits per pixel (the file is never over, and within 1 % under where neighbouring
        qualities allow) or min_psnr in dB (the decoded picture is never under). With the native model a
        picture that repeats (screens, pages, drawings) and takes no more bytes without any loss is kept
        so, at any quality and target.
        strip leaves EXIF and XMP out; those larger than Limits.max_metadata_bytes are left out with a
        DroppedDataWarning.
        effort: 1 to 9, how long the encoder looks for fewer bytes. 4 to 9 look for those of equal PSNR with
        the native model (docs/training.md: what that does to other metrics), or refine an autoencoder's
        latents through its decoder, each about twice as long as the one before. quantiser, of autoencoders:
        "scalar", or "palette" for comparison, which has one rate and neither refinement nor prior.
        Raises InvalidArgument, TargetUnreachable (naming the reachable bound; also where even quality 100
        stays over 1 % under a size, and no file without loss fits), UnsupportedImage, UnreadableImage,
        LimitExceeded (pixels or profile).
        """
        asked = check_rate(quality=quality, target_size=target_size, target_bpp=target_bpp, min_psnr=min_psnr)
        effort = check_effort(effort)
        check_quantiser(quantiser, effort, asked, self._prior)
        picture = as_picture(image, self.limits.max_pixels)
        encoder = self._encoder(picture, strip, quantiser, effort)

        def attempt(level: int, *, rough: bool = False) -> Attempt:
            return encoder.attempt(level, measure=min_psnr is not None, rough=rough)

        if target_size is target_bpp is min_psnr is None:
            data = encoder.encode(level_of_quality(asked.get("quality", DEFAULT_QUALITY))).data
            exact = encoder.without_loss(len(data))
            return data if exact is None or len(data) < exact.size else exact.encoded.data
        quick = partial(attempt, rough=True) if encoder.slow else None
        exact = encoder.without_loss()
        if min_psnr is not None:
            met = meet_psnr(attempt, asked["min_psnr"], quick, exact)
            return encoder.finish(met, Goal("psnr", asked["min_psnr"], met.psnr))
        if target_bpp is not None:
            met = meet_bpp(attempt, asked["target_bpp"], picture.width * picture.height, quick, exact)
        else:
            met = meet_size(attempt, math.floor(asked["target_size"]), quick, exact)
        return encoder.finish(met)

    def _encoder(self, picture: Picture, strip: bool, quantiser: str, effort: int) -> BaseEncoder:
        if self._latent is not None:
            return LatentEncoder(
                self._latent,
                picture,
                quantiser=quantiser,
                effort=effort,
                prior=self._prior,
                cleanup=self._cleanup,
                strip=strip,
                limits=self.limits,
            )
        if self._prior is not None:
            raise InvalidArgument(f"prior {self._prior.hash.hex()}: the native model has its own; {_GIVE}")
        if self._cleanup is not None:
            raise InvalidArgument(
                f"clean-up by {self._cleanup.unet.name}: the native model has none; {_GIVE}"
            )
        if quantiser != SCALAR:
            raise InvalidArgument(f"quantiser {quantiser}: the native model has its own; {_GIVE}")
        return PictureEncoder(self._native, picture, effort=effort, strip=strip, limits=self.limits)

    def decode(self, data: bytes, *, partial: bool = False, cleanup: float = 0.0) -> Image.Image:
        """Decompress to a Pillow image of mode L, LA, RGB or RGBA; its info has icc_profile, exif and xmp.

        With partial=True a damaged or truncated file gives what is left of it, and info["report"] (a
        latentcodec.salvage.Report) says what is missing. cleanup: the strength of an autoencoder file's
        clean-up, 0 for none to 1 for all that the file stores; one that stores none takes the Codec's UNet,
        with a CleanupWarning. Raises FormatError, ModelError, LimitExceeded, InvalidArgument.
        """
        picture, report = self.decode_picture(data, partial=partial, cleanup=cleanup)
        image = to_pillow(picture)
        if report is not None:
            image.info["report"] = report
        return image

    def decode_picture(
        self, data: bytes, *, partial: bool = False, cleanup: float = 0.0
    ) -> tuple[Picture, Report | None]:
        """Decompress to planes, profile, EXIF and XMP as stored; `decode` and `decompress` build on it.

        With partial=True also a Report of what is missing, else None. Raises as `decode` does.
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            raise InvalidArgument(
                f"the data to decode are bytes, not {type(data).__name__}: read the file first"
            )
        strength = number("cleanup", cleanup)
        if not 0 <= strength <= 1:
            raise InvalidArgument(
                f"cleanup {strength:g}: it goes from 0, none, to 1, all that the file stores"
            )
        file, report = read(bytes(data), self.limits, partial)
        if file.header.model_number == EXTERNAL_MODEL:
            chunk = file_chunk(file)
            codec = self._kept = codec_for(chunk, self.device, self._latent, self._kept)
            cleaner = cleaner_for(file, codec, strength, self._cleanup, self._kept_unet)
            self._kept_unet = cleaner.unet if cleaner else self._kept_unet
            reader = LatentReader(codec, file.header, chunk, self._prior, cleaner)
            return decode_with(reader, file, self.limits, report)
        if strength:
            raise InvalidArgument("cleanup: the file is of no autoencoder, and has none; leave it out")
        if file.header.model_number == PIXELS:
            return decode_with(PixelReader(file.header), file, self.limits, report)
        if file.header.model_number not in FILES:
            shipped_weights(file.header.model_number)  # raises, naming what is needed
        return decode_file(_native(file.header.model_number, self.device), file, self.limits, report)

    def compress(self, src: PathLike, dst: PathLike, **options: Unpack[EncodeOptions]) -> int:
        """Compress a picture file to an .lci file, replacing dst atomically. Returns the bytes written.

        Options and errors are those of `encode`; also OSError, and InvalidArgument where dst is src or is
        named as a picture.
        """
        check_target(src, dst)
        data = self.encode(open_picture(src, max_pixels=self.limits.max_pixels), **options)
        write_atomically(dst, data)
        return len(data)

    def decompress(self, src: PathLike, dst: PathLike, **options: Unpack[DecodeOptions]) -> Report | None:
        """Decompress an .lci file to a picture file of dst's extension, replacing it atomically.

        Options and errors are those of `decode`; also OSError, InvalidArgument (unknown extension) and
        UnsupportedImage (what the format cannot hold). Returns with partial=True the Report of what is
        missing, else None.
        """
        picture, report = self.decode_picture(Path(src).read_bytes(), **options)
        save_picture(picture, dst)
        return report


@lru_cache(maxsize=2)
def _native(number: int, device: torch.device) -> NativeCodec:
    return NativeCodec(shipped_weights(number), device)


def encode(image: ImageLike | Picture, **options: Unpack[EncodeWith]) -> bytes:
    """Compress a picture: Codec(...).encode(image, ...), with the keywords of both."""
    own, others = split(options)
    return Codec(**own).encode(image, **others)


def decode(data: bytes, **options: Unpack[DecodeWith]) -> Image.Image:
    """Decompress to a Pillow image: Codec(...).decode(data, ...), with the keywords of both."""
    own, others = split(options)
    return Codec(**own).decode(data, **others)


def compress(src: PathLike, dst: PathLike, **options: Unpack[EncodeWith]) -> int:
    """Compress a picture file: Codec(...).compress(src, dst, ...), with the keywords of both."""
    own, others = split(options)
    return Codec(**own).compress(src, dst, **others)


def decompress(src: PathLike, dst: PathLike, **options: Unpack[DecodeWith]) -> Report | None:
    """Decompress an .lci file: Codec(...).decompress(src, dst, ...), with the keywords of both."""
    own, others = split(options)
    return Codec(**own).decompress(src, dst, **others)
