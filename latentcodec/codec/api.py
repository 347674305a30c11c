"""Codec: pictures to bytes, bytes to pictures, files to files, with the model kept loaded.

Codec(model=, device=)
    .encode(image, quality= | a target | lossless=) ─► bytes ─► .decode ─► Pillow image
    .compress(src, dst), .decompress(src, dst)           the same for files, written atomically

model: "native", or an autoencoder: a name in the store (`latentcodec models list`), or a path. Files of any
model decode with any Codec, as long as their model is there.
"""

from __future__ import annotations

import os
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from latentcodec.atomic import write_atomically
from latentcodec.codec.arguments import (
    DEFAULT_EFFORT,
    NATIVE,
    ImageLike,
    PathLike,
    as_picture,
    check_encoding,
    check_orientation,
    check_target,
    number,
)
from latentcodec.codec.decoder import decode_with, read
from latentcodec.codec.lossless import PixelEncoder, PixelReader
from latentcodec.container.autoencoder import SCALAR
from latentcodec.container.chunks import DEFAULT_LIMITS
from latentcodec.container.file import Limits
from latentcodec.container.header import EXTERNAL_MODEL, PIXELS
from latentcodec.container.salvage import Report
from latentcodec.errors import InvalidArgument
from latentcodec.picture.files import open_picture, save_picture
from latentcodec.picture.notices import strictly
from latentcodec.picture.picture import Picture, to_array, to_pillow
from latentcodec.picture.samples import Plane

if TYPE_CHECKING:  # what needs PyTorch is imported where it is used: files without loss need none
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from latentcodec.codec.autoencoder.latent import LatentCodec
    from latentcodec.codec.cleanup.denoiser import CleanupDenoiser
    from latentcodec.codec.cleanup.file import CleanupRequest
    from latentcodec.codec.cleanup.settings import CleanupSettings
    from latentcodec.codec.encoder import BaseEncoder
    from latentcodec.codec.native.coder import NativeCodec
    from latentcodec.codec.values.prior import LatentPrior
    from latentcodec.nn.exact.engine import Engine
    from latentcodec.weights.checkpoints.detected import Detected

_ALWAYS_THERE = ("auto", "cpu")  # devices that need no check

__all__ = ["Codec"]


class Codec:
    """A loaded model on a device."""

    def __init__(
        self,
        model: PathLike = NATIVE,
        device: str = "auto",
        *,
        limits: Limits = DEFAULT_LIMITS,
        prior: PathLike | None = None,
        cleanup_settings: CleanupSettings | None = None,
    ) -> None:
        """Models that are named are loaded at once, the native one when the first picture needs it.

        model: "native", or a name or path of an autoencoder. device: "auto" (a GPU if there is one), "cpu",
        "cuda" or "cuda:N". prior: a file of `latentcodec train prior`.
        cleanup_settings: encode stores for autoencoders what a clean-up at decode needs, and how much of it
        each tile bears; decode takes from them what a file does not store.
        Raises UnknownModel and InvalidArgument for names there are none of, InvalidWeights for damaged files.
        """
        self.model, self.limits = model, limits
        self._device_name, self._prior_path = device, prior
        self._latent: LatentCodec | None = None
        self._cached: LatentCodec | None = None  # what earlier files needed: the next is likely to as well
        self._cached_denoiser: CleanupDenoiser | None = None
        self._prior: LatentPrior | None = None
        self._cleanup: CleanupRequest | None = None
        self._engine: str | None = None
        if device not in _ALWAYS_THERE:
            from latentcodec.nn.device import choose_device

            choose_device(device)
        if model != NATIVE:
            from latentcodec.codec.autoencoder.models import open_codec

            self._latent = open_codec(model, self.device)
        if prior is not None:
            from latentcodec.codec.values.prior import open_prior

            self._prior = open_prior(prior, self.device)
        if cleanup_settings is not None:
            from latentcodec.codec.cleanup.file import load_request

            self._cleanup = load_request(cleanup_settings, self.device)

    @classmethod
    def around(cls, latent: LatentCodec, *, limits: Limits = DEFAULT_LIMITS) -> Codec:
        """A Codec of an autoencoder that is loaded already, on its device."""
        codec = cls(device=str(latent.device), limits=limits)
        codec.model, codec._latent = latent.name, latent
        return codec

    @cached_property
    def device(self) -> torch.device:
        """The device that the networks run on."""
        from latentcodec.nn.device import choose_device

        return choose_device(self._device_name)

    def load(self, pixels: int = 0) -> None:
        """Load the native model now, where this is a Codec of it, rather than with the first picture.

        pixels: of that picture, as a large one may be computed otherwise. Raises InvalidWeights.
        """
        if self._latent is None:
            self._engine = self._load_native(pixels).engine.name

    @property
    def detected(self) -> Detected | None:
        """What the autoencoder's files were found to be; None with the native model."""
        return None if self._latent is None else self._latent.detected

    @property
    def cleanup_detected(self) -> Detected | None:
        """What the clean-up's UNet was found to be; None without one, and for a denoiser of your own."""
        detected: Detected | None = getattr(self._cleanup and self._cleanup.denoiser, "detected", None)
        return detected

    @property
    def engine(self) -> str | None:
        """What computes the native model, as of the last picture or `load`: "compiled", "numpy" ...; or None.

        All engines give the same pixels.
        """
        return self._engine

    def _load_native(self, pixels: int = 0) -> NativeCodec:
        from latentcodec.weights.native import NATIVE_MODEL

        return _native(NATIVE_MODEL, self._device_name, pixels)

    def encode(
        self,
        image: ImageLike | Picture,
        *,
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
        latents: NDArray[np.floating] | None = None,
        strict: bool = False,
    ) -> bytes:
        """Compress a picture.

        image: a Pillow image of any mode, or an array (H, W), (H, W, 3) or (H, W, 4) of uint8 or uint16.
        quality: 0 to 100, continuous; 60 where nothing is asked for. Or one target: target_size in bytes or
        target_bpp in bits per pixel (the file is never over, and within 1 % under where neighbouring
        qualities allow), or min_psnr in dB or min_ssimulacra2 (the decoded picture is never under). With the
        native model a picture that repeats (screens, pages, drawings) and takes no more bytes without any
        loss is kept so, at any quality and target. lossless keeps any picture so, with the colours that alpha
        hides.
        strip leaves out all that stands beside the pixels but the meaning of the colours: EXIF, XMP, IPTC,
        text, resolution. What cannot be kept is left out with a DroppedDataWarning, such as what is larger
        than Limits.max_metadata_bytes; with strict it is an error, NotKept.
        first_frame: of an animation, which is refused else, store the first frame, with such a warning.
        orientation: 1 (upright) to 8, in place of what EXIF and XMP say: Pillow's `rotate` and `transpose`
        leave EXIF as it was, so that a picture turned by them would be turned twice.
        effort: 1 to 9, how long the encoder looks for fewer bytes. 4 to 9 look for those of equal PSNR with
        the native model (docs/training.md: what that does to other metrics), or refine an autoencoder's
        latents through its decoder, each about twice as long as the one before. quantiser, of autoencoders:
        "scalar", or "palette" for comparison, which has one rate and neither refinement nor prior.
        latents: (channels, h, w), of an autoencoder, where the image is what they decode to: they are coded
        as they are, where else the autoencoder would give the image its own.
        Raises InvalidArgument, TargetUnreachable (naming the reachable bound; also where even quality 100
        stays over 1 % under a size, and no file without loss fits), UnsupportedImage, UnreadableImage,
        LimitExceeded (pixels or profile).
        """
        asked = check_encoding(
            self.model,
            quality=quality,
            target_size=target_size,
            target_bpp=target_bpp,
            min_psnr=min_psnr,
            min_ssimulacra2=min_ssimulacra2,
            lossless=lossless,
            quantiser=quantiser,
            effort=effort,
            prior=self._prior_path,
            cleanup_unet=None if self._cleanup is None else self._cleanup.denoiser.name,
        )
        with strictly(strict):
            picture = as_picture(
                image, self.limits, self.model, first_frame=first_frame, orientation=orientation
            )
            if lossless:
                return PixelEncoder(picture, effort=effort, strip=strip, limits=self.limits).encode(0).data
            encoder = self._encoder(picture, strip, quantiser, effort, latents)
        return encoder.meet(asked)

    def _encoder(
        self,
        picture: Picture,
        strip: bool,
        quantiser: str,
        effort: int,
        latents: NDArray[np.floating] | None,
    ) -> BaseEncoder:
        if self._latent is not None:
            from latentcodec.codec.autoencoder.encoder import LatentEncoder

            return LatentEncoder(
                self._latent,
                picture,
                quantiser=quantiser,
                effort=effort,
                prior=self._prior,
                cleanup=self._cleanup,
                strip=strip,
                limits=self.limits,
                latents=None if latents is None else latents.astype("float64"),
            )
        if latents is not None:
            raise InvalidArgument("latents: for autoencoders only; name one as the model", ("latents",))
        from latentcodec.codec.native.encoder import NativeEncoder

        codec = self._load_native(picture.width * picture.height)
        self._engine = codec.engine.name
        return NativeEncoder(codec, picture, effort=effort, strip=strip, limits=self.limits)

    def decode(
        self, data: bytes, *, partial: bool = False, cleanup: float = 0.0, strict: bool = False
    ) -> Image.Image:
        """Decompress to a Pillow image of mode L, LA, RGB or RGBA; its info has what the file holds of
        icc_profile, exif, xmp, text, dpi, iptc and cicp.

        Gray of 9 to 16 bits is of mode I;16. Pillow has no such mode for colours: they are rounded to 8 bits,
        with a ReducedDepthWarning; decode_array keeps them.

        With partial=True a damaged or truncated file gives what is left of it, and info["report"] (a
        latentcodec.Report) says what is missing. cleanup: the strength of an autoencoder file's clean-up, 0
        for none to 1 for all that the file stores; one that stores none takes the Codec's UNet, with a
        CleanupWarning. strict: NotKept in place of a DroppedDataWarning. Raises FormatError, ModelError,
        LimitExceeded, InvalidArgument.
        """
        picture, report = self.decode_picture(data, partial=partial, cleanup=cleanup)
        with strictly(strict):
            image = to_pillow(picture)
        if report is not None:
            image.info["report"] = report
        return image

    def decode_array(self, data: bytes, *, partial: bool = False, cleanup: float = 0.0) -> Plane:
        """Decompress to an array that `encode` takes: (H, W) gray, (H, W, 3) RGB, or (H, W, 4) with alpha.

        uint8, or uint16 of 0 to 65535 where the file has 9 to 16 bits a sample. Options and errors are those
        of `decode`.
        """
        return to_array(self.decode_picture(data, partial=partial, cleanup=cleanup)[0])

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
            from latentcodec.codec.autoencoder.latent import file_chunk
            from latentcodec.codec.autoencoder.models import codec_for
            from latentcodec.codec.autoencoder.reader import LatentReader
            from latentcodec.codec.cleanup.file import cleaner_for

            chunk = file_chunk(file)
            codec = self._cached = codec_for(chunk, self.device, self._latent, self._cached)
            cleaner = cleaner_for(file, codec, strength, self._cleanup, self._cached_denoiser)
            self._cached_denoiser = cleaner.denoiser if cleaner else self._cached_denoiser
            reader = LatentReader(codec, file.header, chunk, self._prior, cleaner)
            return decode_with(reader, file, self.limits, report)
        if strength:
            raise InvalidArgument(
                "cleanup: the file was not made with an autoencoder and has no clean-up: leave it out"
            )
        if file.header.model_number == PIXELS:
            return decode_with(PixelReader(file.header), file, self.limits, report)
        from latentcodec.codec.native.decoder import decode_file

        pixels = file.header.width * file.header.height
        native = _native(file.header.model_number, self._device_name, pixels)
        self._engine = native.engine.name
        return decode_file(native, file, self.limits, report)

    def compress(
        self,
        src: PathLike,
        dst: PathLike,
        *,
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
        """Compress a picture file to an .lci file, replacing dst atomically. Returns the bytes written.

        Options and errors are those of `encode`; also OSError, and InvalidArgument where dst is src or is
        named as a picture. preserve: dst has the permissions and times of src.
        """
        check_target(src, dst)
        with strictly(strict):
            picture = open_picture(
                src,
                max_pixels=self.limits.max_pixels,
                first_frame=first_frame,
                turn=check_orientation(orientation),
            )
        data = self.encode(
            picture,
            quality=quality,
            target_size=target_size,
            target_bpp=target_bpp,
            min_psnr=min_psnr,
            min_ssimulacra2=min_ssimulacra2,
            lossless=lossless,
            strip=strip,
            quantiser=quantiser,
            effort=effort,
            strict=strict,
        )
        write_atomically(dst, data, like=os.stat(src) if preserve else None)
        return len(data)

    def decompress(
        self,
        src: PathLike,
        dst: PathLike,
        *,
        partial: bool = False,
        cleanup: float = 0.0,
        preserve: bool = False,
        strict: bool = False,
    ) -> Report | None:
        """Decompress an .lci file to a picture file of dst's extension, replacing it atomically.

        Options and errors are those of `decode`; also OSError, InvalidArgument (unknown extension) and
        UnsupportedImage (what the format cannot hold). preserve: as of `compress`. Returns with partial=True
        the Report of what is missing, else None.
        """
        picture, report = self.decode_picture(Path(src).read_bytes(), partial=partial, cleanup=cleanup)
        with strictly(strict):
            save_picture(picture, dst, like=os.stat(src) if preserve else None)
        return report


def _native(number: int, device: str, pixels: int) -> NativeCodec:
    """The native model of a header's number. Raises UnknownModel, InvalidWeights."""
    from latentcodec.nn.exact.choice import choose_engine

    return _native_on(number, choose_engine(device, pixels))


@lru_cache(maxsize=2)
def _native_on(number: int, engine: Engine[Any]) -> NativeCodec:
    from latentcodec.codec.native.coder import NativeCodec
    from latentcodec.codec.native.networks import encoder_networks
    from latentcodec.weights.native import shipped_weights

    return NativeCodec(shipped_weights(number), engine, encoder_networks(engine))
