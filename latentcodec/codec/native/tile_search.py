"""The search of a tile in its picture: what is around the tile, and what the picture has there.

    tile's integers ─► plane ─► for each piece around the tile: measure ─► Slopes ─► search ─► better integers

It needs PyTorch, for gradients; decoding and efforts 1 to 3 do not.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from latentcodec.codec.native.coder import NativeCodec, QuantisedTile
from latentcodec.codec.native.decoder import pieces
from latentcodec.codec.native.distortion import Slopes, measure
from latentcodec.codec.native.search import HALO, search
from latentcodec.codec.native.torch_networks import samples_tensor
from latentcodec.codec.planes import PATCH, LatentBox, LatentPlane, with_halo
from latentcodec.nn.native.integer_model import Ints
from latentcodec.nn.native.transform import Synthesis
from latentcodec.picture.picture import Picture, Pixels
from latentcodec.weights.native import NativeWeights
from latentcodec.weights.native_modules import synthesis


class TileSearch:
    """Searches the tiles of one picture, whose plane of latents it changes.

    pixels: the picture's, padded; plane: of its latents, as far as they are known.
    """

    def __init__(self, codec: NativeCodec, picture: Picture, pixels: Pixels, plane: LatentPlane) -> None:
        self._codec, self._picture, self._padded, self._plane = codec, picture, pixels, plane
        self._device = torch_device(codec)
        self._network = search_network(codec)

    def improve(self, tile: QuantisedTile, *, box: LatentBox, level: int, iterations: int) -> QuantisedTile:
        """What so many iterations of the search make of a tile at `box`."""
        slopes = partial(self._slopes, box=box, level=level)
        return search(self._codec, self._network, tile, level, slopes, iterations)

    def _slopes(self, latents: Ints, gradients: bool, *, box: LatentBox, level: int) -> Slopes:
        """What the picture says of a tile's latents, in the plane around it."""
        x0, y0, x1, y1 = box
        plane, device = self._plane, self._device
        plane[:, y0:y1, x0:x1] = latents
        distortion = torch.empty((-(-latents.shape[1] // 2), -(-latents.shape[2] // 2)), device=device)
        gradients_by = torch.empty((2 * gradients, *latents.shape), device=device)
        for left, top, right, bottom in pieces(x1 - x0, y1 - y0):
            piece = (x0 + left, y0 + top, x0 + right, y0 + bottom)
            a0, b0, a1, b1 = with_halo(piece, HALO, plane.shape[2], plane.shape[1])
            core = slice(piece[1] - b0, piece[3] - b0), slice(piece[0] - a0, piece[2] - a0)
            pixels = self._counted_pixels(a0, b0, a1, b1)
            slopes = measure(
                self._network,
                torch.from_numpy(plane[:, b0:b1, a0:a1]),
                level,
                pixels,
                core,
                gray=self._picture.gray,
                gradients=gradients,
            )
            for gradient, part in zip(gradients_by, slopes.gradients, strict=True):
                gradient[:, top:bottom, left:right] = part
            distortion[top // 2 : -(-bottom // 2), left // 2 : -(-right // 2)] = slopes.distortion
        return Slopes(distortion, tuple(gradients_by))

    def _counted_pixels(self, x0: int, y0: int, x1: int, y1: int) -> Tensor:
        """(4, 8h, 8w): samples in 0..1, and 1 where a pixel counts: inside and not fully transparent."""
        rows, columns = slice(PATCH * y0, PATCH * y1), slice(PATCH * x0, PATCH * x1)
        pixels = samples_tensor(self._padded[rows, columns].copy()).to(self._device)
        counts = torch.zeros(1, *pixels.shape[:2], device=pixels.device)
        inside = counts[:, : self._picture.height - PATCH * y0, : self._picture.width - PATCH * x0]
        inside.fill_(1)
        if self._picture.alpha is not None:
            inside.copy_(torch.from_numpy(self._picture.alpha[rows, columns] > 0))
        return torch.cat([pixels.permute(2, 0, 1) / self._picture.peak, counts])


def torch_device(codec: NativeCodec) -> torch.device:
    """The device of the codec's engine, where PyTorch can use it too."""
    device = getattr(codec.engine, "device", None)
    return device if isinstance(device, torch.device) else torch.device("cpu")


def search_network(codec: NativeCodec) -> Synthesis:
    """The synthesis with gradients, made once for a codec's weights and device."""
    key = id(codec.weights), torch_device(codec)
    if key not in _networks:
        _networks.clear()
        _networks[key] = codec.weights, synthesis(codec.weights, key[1])
    return _networks[key][1]


_networks: dict[tuple[int, torch.device], tuple[NativeWeights, Synthesis]] = {}
