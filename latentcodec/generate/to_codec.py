"""Where generation and codec meet: sampled latents as .lci files, and .lci files as latents to begin with.

    sampled latents ─► steps of a quality ─► values ─► .lci, the parameters in its text
                  └─► decoded: the picture ─┴─► PSNR of what the file decodes to
    .lci ─► values ─► latents; no picture on the way, nor an autoencoder

The file's autoencoder is the model's own, so that it decodes to the picture that was shown, as exactly as its
quality says. Latents of another space than a model's (`latent_space`) go through the picture.
"""

from __future__ import annotations

import copy
import io
import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from latentcodec.codec.api import Codec
from latentcodec.codec.arguments import ImageLike, PathLike
from latentcodec.codec.autoencoder.latent import LatentCodec, file_chunk
from latentcodec.codec.autoencoder.reader import file_coder
from latentcodec.codec.planes import LatentBox, empty_plane, latent_box
from latentcodec.codec.values.coder import Floats
from latentcodec.container.chunks import DEFAULT_LIMITS, SIGNATURE, Limits
from latentcodec.container.file import default_tile_size, unpack
from latentcodec.container.header import EXTERNAL_MODEL, Header
from latentcodec.errors import InvalidArgument
from latentcodec.generate.models import Model
from latentcodec.picture.files import open_picture
from latentcodec.picture.picture import Picture, Pixels
from latentcodec.picture.text import Text
from latentcodec.weights.checkpoints.families import latent_space


@dataclass(frozen=True)
class StoredPicture:
    """An .lci file's bytes, and the PSNR in dB of its picture against that of the latents as they were."""

    data: bytes
    psnr: float


@dataclass(frozen=True)
class StoredLatents:
    """An .lci file of an autoencoder: its latents (C, h, w), the autoencoder's kind, (width, height) of the
    picture, and the file itself."""

    latents: Floats
    kind: str
    size: tuple[int, int]
    data: bytes


Source = ImageLike | Picture | PathLike | StoredLatents
"""What a pipeline may begin with: a Pillow image, uint8 (H, W), (H, W, 3) or (H, W, 4), or a file's path."""


def store_latents(
    model: Model,
    latents: torch.Tensor,
    size: tuple[int, int],
    *,
    quality: float | None = None,
    target_size: int | None = None,
    target_bpp: float | None = None,
    min_psnr: float | None = None,
    effort: int = 3,
    text: Text = (),
) -> StoredPicture:
    """An .lci file of one picture's latents (C, h, w) as they were sampled, (width, height) in pixels.

    quality or a target, and effort: as for Codec.encode. text: for the file. Raises as Codec.encode does, and
    InvalidArgument for latents of another shape.
    """
    codec = latent_codec(model)
    with model.holding(codec.module):
        floats: Floats = latents.detach().double().cpu().numpy()
        width, height = size
        scale = codec.downscale
        needed = (codec.latents, -(-height // scale), -(-width // scale))
        if floats.shape != needed:
            raise InvalidArgument(
                f"latents of shape {floats.shape}: those of {width}x{height} pixels are {needed}"
            )
        picture = Picture(_decoded(codec, floats, size), text=text)
        data = Codec.around(codec).encode(
            picture,
            quality=quality,
            target_size=target_size,
            target_bpp=target_bpp,
            min_psnr=min_psnr,
            effort=effort,
            latents=floats,
        )
        stored = read_latents(data)
        error = (_decoded(codec, stored.latents, size).astype(float) - picture.pixels) ** 2
    return StoredPicture(data, 10 * math.log10(255**2 / error.mean()) if error.any() else math.inf)


def latent_codec(model: Model) -> LatentCodec:
    """A model's autoencoder as files need it: in float32. Use it within model.holding(codec.module)."""
    module = model.autoencoder.module
    if next(module.parameters()).dtype != torch.float32:
        module = copy.deepcopy(module).float()
    return LatentCodec(replace(model.autoencoder, module=module), model.device)


def begin_with(
    model: Model, source: Source, size: tuple[int, int] | None
) -> StoredLatents | Picture | ImageLike:
    """What a pipeline of latents begins with: those of an .lci file where the model works on such ones and
    no other (width, height) is asked for, and otherwise a picture."""
    if isinstance(source, str | os.PathLike):
        source = open_image(source)
    if isinstance(source, StoredLatents):
        space = latent_space(source.kind)
        if space is None or space != latent_space(model.family) or size not in (None, source.size):
            return _picture(model, source)
    return source


def as_picture(model: Model, source: Source) -> Picture | ImageLike:
    """The picture of a source, decoded where it is an .lci file's latents."""
    if isinstance(source, str | os.PathLike):
        source = open_image(source)
    return _picture(model, source) if isinstance(source, StoredLatents) else source


def _picture(model: Model, stored: StoredLatents) -> Picture:
    """Decoded by the model's autoencoder, or if the file needs another one, by that of the store."""
    codec = latent_codec(model)
    with model.holding(codec.module):
        return Codec.around(codec).decode_picture(stored.data)[0]


def _decoded(codec: LatentCodec, latents: Floats, size: tuple[int, int]) -> Pixels:
    """What a file of these latents decodes to, in the pieces of the format."""
    width, height = size
    header = Header(
        width=width,
        height=height,
        channels=3,
        depth=8,
        model_number=EXTERNAL_MODEL,
        networks_hash=bytes(4),
        synthesis_hash=bytes(4),
        quality_level=0,
        tile_size=default_tile_size(width, height),
    )

    def inside(box: LatentBox) -> npt.NDArray[np.float32]:
        x0, y0, x1, y1 = box
        return latents[:, y0:y1, x0:x1].astype(np.float32)

    return codec.synthesise_picture(inside, header)


def open_image(path: PathLike) -> Picture | StoredLatents:
    """The picture of a file, or the latents of an .lci file that holds an autoencoder's.

    Raises OSError, and as image_of does.
    """
    return image_of(Path(path).read_bytes(), os.fspath(path))


def image_of(data: bytes, name: str, limits: Limits = DEFAULT_LIMITS) -> Picture | StoredLatents:
    """The same of a file's content; `name` is what messages call it.

    Raises what reading a picture or an .lci file raises.
    """
    if not data.startswith(SIGNATURE):
        return open_picture(io.BytesIO(data), name=name)
    if unpack(data, limits).header.model_number == EXTERNAL_MODEL:
        return read_latents(data, limits)
    return Codec(limits=limits).decode_picture(data)[0]


def read_latents(data: bytes, limits: Limits = DEFAULT_LIMITS) -> StoredLatents:
    """The latents of an .lci file of an autoencoder.

    Raises FormatError for what is none, LimitExceeded, InvalidArgument for a file of another model, and where
    a fitted prior coded it UnknownModel if that is not there.
    """
    file = unpack(data, limits)
    header = file.header
    if header.model_number != EXTERNAL_MODEL:
        raise InvalidArgument("the file holds no autoencoder's latents: it is of another model")
    chunk = file_chunk(file)
    coder = file_coder(header, chunk, torch.device("cpu"))
    plane = empty_plane(chunk.latents, header.width, header.height, chunk.downscale)
    for number, (box, tile) in enumerate(zip(header.tile_grid(), file.tiles, strict=True)):
        if tile is None:  # only salvage leaves tiles out
            continue
        x0, y0, x1, y1 = latent_box(box, chunk.downscale)
        chunk.check_tile(y1 - y0, x1 - x0)
        values, _ = coder.decode(tile.stream, tile.digest, y1 - y0, x1 - x0, name=f"tile {number}")
        plane[:, y0:y1, x0:x1] = values
    return StoredLatents(coder.dequantise(plane), chunk.kind, (header.width, header.height), data)
