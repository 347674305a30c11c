"""Pictures and latents, both ways; the noise of seeds; previews of a latent on its way.

    seed, count ─► seeds ─► seeded_noise ─► first state
    Pillow image, array ─► to_pixels [─► resized] ─► padded ─► encode ─► latents (B, C, h, w)
    latents ─► decode, in pieces where the picture is large ─► cut to the size asked for ─► Pillow images
    latents ─► matrix, or tiny autoencoder ─► a small preview

Large pictures go through in overlapping pieces that fade into each other. Their group norms have the
statistics of pieces from all over the picture, so that neighbours agree in colour and contrast.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from latentcodec.codec.arguments import ImageLike
from latentcodec.codec.autoencoder.fixed_norms import fix_norms
from latentcodec.codec.autoencoder.vae_tiles import blended
from latentcodec.codec.planes import LatentBox, pad_to_patches
from latentcodec.errors import InvalidArgument
from latentcodec.generate.defaults import whole
from latentcodec.nn.stable_diffusion.autoencoder import AutoencoderKL
from latentcodec.nn.stable_diffusion.tiny_autoencoder import TinyAutoencoder
from latentcodec.picture.picture import Picture, Pixels, from_array, from_pillow
from latentcodec.weights.checkpoints.families import latent_space

Autoencoder = AutoencoderKL | TinyAutoencoder
Samples = npt.NDArray[np.float32]

MAX_SEED = (1 << 32) - 1
MAX_COUNT = 100_000
MAX_SIDE = 16_384  # pixels; bounds what a mistyped size costs
WHOLE_PIXELS = 1 << 20  # of a picture that goes through an autoencoder at once
_SAMPLED_ROWS = 3  # pieces along a side whose statistics stand for the whole picture's
_SAMPLED_SIDE = 40  # latent positions of such a piece

# Latent channels to red, green and blue in -1..1, by latent space: ComfyUI's latent_formats.py.
_PREVIEW = {
    "sd": (
        (0.3512, 0.2297, 0.3227),
        (0.3250, 0.4974, 0.2350),
        (-0.2829, 0.1762, 0.2721),
        (-0.2120, -0.2616, -0.7177),
    ),
    "sdxl": (
        (0.3920, 0.4054, 0.4549),
        (-0.2634, -0.0196, 0.0653),
        (0.0568, 0.1687, -0.0755),
        (-0.3112, -0.2359, -0.2076),
    ),
    "x4": (
        (-0.2340, -0.3863, -0.3257),
        (0.0994, 0.0885, -0.0908),
        (-0.2833, -0.2349, -0.3741),
        (0.2523, -0.0055, -0.1651),
    ),
}


def seeds_of(seed: int | None, count: int) -> tuple[int, ...]:
    """A seed for each of `count` pictures: seed, seed + 1 ... (after MAX_SEED comes 0); None draws the first.

    Raises InvalidArgument.
    """
    count = whole("count", count, 1, MAX_COUNT)
    seed = secrets.randbelow(MAX_SEED + 1) if seed is None else whole("seed", seed, 0, MAX_SEED)
    return tuple((seed + index) % (MAX_SEED + 1) for index in range(count))


def check_size(size: object) -> tuple[int, int]:
    """Width and height in pixels. Raises InvalidArgument."""
    if not isinstance(size, Sequence) or len(size) != 2:
        raise InvalidArgument(f"size {size!r}: it is (width, height) in pixels", ("size",))
    width, height = (whole("size", side, 1, MAX_SIDE) for side in size)
    return width, height


def plane_size(size: tuple[int, int], downscale: int) -> tuple[int, int]:
    """Height and width of the latent plane that covers a picture of (width, height) pixels."""
    width, height = size
    return -(-height // downscale), -(-width // downscale)


def to_pixels(image: ImageLike | Picture, size: tuple[int, int] | None = None) -> Pixels:
    """RGB pixels (H, W, 3) of a picture, resized to (width, height) where one is given; alpha is left out.

    Raises as picture.from_pillow and from_array do.
    """
    if not isinstance(image, Picture):
        image = from_pillow(image) if isinstance(image, Image.Image) else from_array(image)
    pixels = image.pixels
    if size is None or size == (image.width, image.height):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(check_size(size), Image.Resampling.LANCZOS))


def to_tensor(pixels: Pixels, grain: int, like: Tensor) -> Tensor:
    """Pixels (H, W, 3) -> (1, 3, H', W') in 0..1, the last row and column repeated to multiples of `grain`.

    like: has the device and the precision.
    """
    padded = torch.from_numpy(np.ascontiguousarray(pad_to_patches(pixels, grain)))
    wide = torch.promote_types(like.dtype, torch.float32)
    return padded.to(like.device).permute(2, 0, 1)[None].to(wide).div(255).to(like.dtype)


def to_images(pictures: Tensor, size: tuple[int, int]) -> list[Image.Image]:
    """Pictures (B, 3, H, W), about 0..1, -> Pillow images of (width, height), cut at the right and below."""
    width, height = size
    samples = pictures[:, :, :height, :width].clamp(0, 1).mul(255).round().to(torch.uint8)
    return [Image.fromarray(each) for each in samples.permute(0, 2, 3, 1).contiguous().cpu().numpy()]


def encode(autoencoder: Autoencoder, picture: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) in 0..1, sides multiples of the downscale -> latents (B, C, h, w): the means.

    diffusers draws from the encoder's posterior instead; the mean is what it says most surely, and the same
    in every run.
    """
    scale = _downscale(autoencoder)
    if picture.shape[2] * picture.shape[3] <= WHOLE_PIXELS:
        return autoencoder.encode(picture)
    network = _steady(autoencoder, _pieces(picture, _SAMPLED_SIDE * scale, scale), encodes=True)

    def run(image: Tensor, box: LatentBox) -> Tensor:
        x0, y0, x1, y1 = (edge * scale for edge in box)
        return network.encode(image[None, :, y0:y1, x0:x1])[0]

    return _in_pieces(picture, scale, 1, autoencoder.config.latents, run, divide=scale)


def decode(autoencoder: Autoencoder, latents: Tensor) -> Tensor:
    """Latents (B, C, h, w) -> pictures (B, 3, H, W), about 0..1, in the autoencoder's precision."""
    scale = _downscale(autoencoder)
    latents = latents.to(next(autoencoder.parameters()).dtype)
    if latents.shape[2] * latents.shape[3] * scale**2 <= WHOLE_PIXELS:
        return autoencoder.decode(latents)
    network = _steady(autoencoder, _pieces(latents, _SAMPLED_SIDE, 1), encodes=False)

    def run(plane: Tensor, box: LatentBox) -> Tensor:
        x0, y0, x1, y1 = box
        return network.decode(plane[None, :, y0:y1, x0:x1])[0]

    return _in_pieces(latents, 1, scale, 3, run)


def preview(latents: Tensor, family: str, fast: Autoencoder | None = None) -> Image.Image:
    """A picture of the first of latents (B, C, h, w): the tiny autoencoder's, or one pixel a position.

    family: whose latents they are; of an unknown one the first three channels are shown.
    """
    if fast is not None:
        picture = decode(fast, latents[:1]).float()
        return to_images(picture, (picture.shape[3], picture.shape[2]))[0]
    space = latent_space(family)
    plane = latents[0].float().cpu()
    matrix = _PREVIEW.get(space or "") if len(plane) == 4 else None
    rgb = plane[:3] if matrix is None else torch.einsum("chw,cr->rhw", plane, torch.tensor(matrix))
    shown = rgb.nan_to_num().add(1).div(2)
    return to_images(shown.expand(3, -1, -1)[None], (shown.shape[2], shown.shape[1]))[0]


def _downscale(autoencoder: Autoencoder) -> int:
    return int(getattr(autoencoder.config, "downscale", 8))


def _in_pieces(
    x: Tensor,
    grain: int,
    scale: int,
    channels: int,
    run: Callable[[Tensor, LatentBox], Tensor],
    *,
    divide: int = 1,
) -> Tensor:
    """run over the pieces of each of x (B, ...), mixed where they overlap.

    grain: samples of x per latent position; scale: of what run gives.
    """
    height, width = x.shape[2] // grain, x.shape[3] // grain
    out = torch.empty((len(x), channels, height * scale, width * scale), dtype=torch.float32)
    for index, image in enumerate(x):

        def samples(box: LatentBox, image: Tensor = image) -> Samples:
            piece: Samples = run(image, box).float().permute(1, 2, 0).cpu().numpy()
            return piece

        for top, band in blended(width, height, scale, channels, samples):
            out[index, :, top : top + len(band)] = torch.from_numpy(band).permute(2, 0, 1)
    return out.to(x.device, x.dtype)


def _pieces(x: Tensor, side: int, grain: int) -> Tensor:
    """Pieces (n, C, side, side) from all over the first of x (B, C, H, W), their corners on the grain."""
    rows, columns = (min(side, size) for size in x.shape[2:])
    corners = [
        [int(place) // grain * grain for place in np.linspace(0, size - length, _SAMPLED_ROWS)]
        for size, length in zip(x.shape[2:], (rows, columns), strict=True)
    ]
    return torch.cat([x[:1, :, y : y + rows, z : z + columns] for y in corners[0] for z in corners[1]])


def _steady(autoencoder: Autoencoder, pieces: Tensor, *, encodes: bool) -> Autoencoder:
    """The autoencoder with the group norms' statistics of these pieces; the tiny ones have no such norms."""
    if isinstance(autoencoder, TinyAutoencoder):
        return autoencoder
    return fix_norms(autoencoder, lambda network: (network.encode if encodes else network.decode)(pieces))
