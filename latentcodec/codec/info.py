"""What a file says about itself, without decoding it and without PyTorch.

bytes or path ─► container ─► Info
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from latentcodec.codec.sidecar import unpack_cicp, unpack_dpi, unpack_record, unpack_text
from latentcodec.container.autoencoder import NO_NETWORKS, AutoencoderChunk
from latentcodec.container.chunks import DEFAULT_LIMITS
from latentcodec.container.cleanup import AMOUNTS, CleanupChunk
from latentcodec.container.file import File, Goal, Limits, structure_bytes, unpack
from latentcodec.container.header import EXTERNAL_MODEL, PIXELS, Header
from latentcodec.container.quality import quality_of_level
from latentcodec.picture.colour.points import Cicp
from latentcodec.picture.text import Text


@dataclass(frozen=True)
class AutoencoderInfo:
    """The autoencoder that a file needs.

    fingerprint: 16 hexadecimal digits. quantiser: scalar, palette or prior; with a prior its hash, 16 digits.
    """

    name: str
    kind: str
    fingerprint: str
    latents: int
    downscale: int
    quantiser: str
    prior: str | None = None


@dataclass(frozen=True)
class CleanupInfo:
    """The clean-up that a file stores.

    unet, fingerprint: which UNet; 16 hexadecimal digits. steps, strength, eta, seed: see
    diffusion.presets.Cleanup; strength is None where the noise level is matched. prompt: its tokens. off,
    weak, full: how many tiles bear so much.
    """

    unet: str
    fingerprint: str
    steps: int
    strength: float | None
    eta: float
    seed: int
    prompt: int
    off: int
    weak: int
    full: int


@dataclass(frozen=True)
class Info:
    """A file's properties. Sizes in bytes; `bpp` is the file's bits over its pixels.

    has_quality: whether the quality had an effect. lossless: whether the file holds the pixels themselves.
    autoencoder: None where the file needs none of the user's.
    cleanup: None where the file stores none.
    text: pairs of key and value, in order. dpi: dots per inch, across and down. cicp: code points of the
    colours. left_out: what the writer did not keep of the picture's file, in words.
    """

    width: int
    height: int
    channels: int
    depth: int
    bytes: int
    bpp: float
    quality: float
    has_quality: bool
    lossless: bool
    model: int
    networks_hash: str
    synthesis_hash: str
    tiles: int
    tile_size: int
    structure_bytes: int
    profile: bool
    exif: bool
    xmp: bool
    text: Text
    iptc: bool
    dpi: tuple[float, float] | None
    cicp: Cicp | None
    left_out: tuple[str, ...]
    goal: Goal | None
    autoencoder: AutoencoderInfo | None = None
    cleanup: CleanupInfo | None = None


def info(
    source: bytes | bytearray | memoryview | str | os.PathLike[str], *, limits: Limits = DEFAULT_LIMITS
) -> Info:
    """Properties of a file, given its bytes or its path. Raises FormatError, LimitExceeded, OSError."""
    data = bytes(source) if isinstance(source, bytes | bytearray | memoryview) else Path(source).read_bytes()
    file = unpack(data, limits)
    header = file.header
    return Info(
        width=header.width,
        height=header.height,
        channels=header.channels,
        depth=header.depth,
        bytes=len(data),
        bpp=8 * len(data) / (header.width * header.height),
        quality=quality_of_level(header.quality_level),
        has_quality=has_quality(header),
        lossless=header.model_number == PIXELS,
        model=header.model_number,
        networks_hash=header.networks_hash.hex(),
        synthesis_hash=header.synthesis_hash.hex(),
        tiles=header.tile_count,
        tile_size=header.tile_size,
        structure_bytes=structure_bytes(data, limits),
        profile=file.profile is not None,
        exif=file.exif is not None,
        xmp=file.xmp is not None,
        text=unpack_text(file.text, limits.max_metadata_bytes),
        iptc=file.iptc is not None,
        dpi=unpack_dpi(file.dpi),
        cicp=unpack_cicp(file.cicp),
        left_out=unpack_record(file.left_out),
        goal=file.goal,
        autoencoder=_autoencoder(file),
        cleanup=_cleanup(file),
    )


def has_quality(header: Header) -> bool:
    """Whether the quality had an effect on a file: palettes and pixels, without networks, have one rate."""
    return header.model_number not in (EXTERNAL_MODEL, PIXELS) or header.networks_hash != NO_NETWORKS


def _autoencoder(file: File) -> AutoencoderInfo | None:
    if file.autoencoder is None:
        return None
    chunk = AutoencoderChunk.unpack(file.autoencoder)
    return AutoencoderInfo(
        chunk.name,
        chunk.kind,
        chunk.fingerprint.hex(),
        chunk.latents,
        chunk.downscale,
        chunk.quantiser,
        chunk.prior.hex() or None,
    )


def _cleanup(file: File) -> CleanupInfo | None:
    chunk = None if file.cleanup is None else CleanupChunk.unpack(file.cleanup)
    if chunk is None:
        return None
    return CleanupInfo(
        chunk.name,
        chunk.fingerprint.hex(),
        *chunk.steps.as_floats(),
        chunk.seed,
        len(chunk.prompt),
        *map(chunk.amounts.count, range(len(AMOUNTS))),
    )
