"""The native model's decoder: pieces with halos are synthesised as the whole picture is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from latentcodec.codec.native import decoder
from latentcodec.codec.native.coder import NativeCodec
from latentcodec.codec.native.decoder import synthesise_tile
from latentcodec.codec.native.encoder import NativeEncoder
from latentcodec.codec.planes import PATCH, LatentPlane
from latentcodec.container.file import File, unpack
from latentcodec.picture.picture import Pixels, from_array
from tests.codec.native.halos import HALO, blur, cut
from tests.conftest import photograph


def synthesise(latents: LatentPlane) -> Pixels:
    enlarged = blur(torch.from_numpy(latents).float()).repeat_interleave(PATCH, 1).repeat_interleave(PATCH, 2)
    return enlarged.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()


@pytest.mark.parametrize("side", [1, 4, 5, 30])
def test_pieces_are_synthesised_as_the_whole(side: int) -> None:
    latents = np.random.default_rng(2).integers(0, 256, (3, 11, 14), np.int16)
    whole = synthesise(latents)
    for box in cut(14, 11, side):
        part = synthesise_tile(latents, box, HALO, synthesise)
        x0, y0, x1, y1 = (edge * PATCH for edge in box)
        assert np.abs(part.astype(int) - whole[y0:y1, x0:x1]).max() <= 1


@pytest.mark.parametrize(("width", "height"), [(1, 1), (4096, 6), (4097, 6), (300, 129), (129, 1000)])
def test_synthesis_pieces_cover_every_latent_once(width: int, height: int) -> None:
    seen = np.zeros((height, width), int)
    boxes = decoder.pieces(width, height)
    for x0, y0, x1, y1 in boxes:
        seen[y0:y1, x0:x1] += 1
        assert (x1 - x0) * (y1 - y0) <= decoder.PIECE_LATENTS
    assert (seen == 1).all()
    assert (len(boxes) == 1) == (width * height <= decoder.PIECE_LATENTS)


def decoded_plane(codec: NativeCodec, data: bytes) -> tuple[LatentPlane, File]:
    """The latents of a file of one tile."""
    file = unpack(data)
    (tile,) = file.tiles
    height, width = -(-file.header.height // PATCH), -(-file.header.width // PATCH)
    level = file.header.quality_level
    return codec.decode_tile(tile.stream, tile.digest, level, height, width).latents, file


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("side", [5, 12])
def test_pieces_of_the_model_are_the_whole_to_the_bit(
    native: NativeCodec, monkeypatch: pytest.MonkeyPatch, side: int, threads: int
) -> None:
    pixels = photograph("coffee", 150, 110)
    plane, file = decoded_plane(native, NativeEncoder(native, from_array(pixels)).encode(2345).data)
    whole = decoder.synthesise_picture(native, plane, file.header)
    assert np.array_equal(whole, native.synthesise(plane, 2345)[:110, :150])
    monkeypatch.setattr(decoder, "PIECE_LATENTS", 1)
    monkeypatch.setattr(decoder, "PIECE_SIDE", side)
    monkeypatch.setattr(native, "threads", threads)
    assert np.array_equal(decoder.synthesise_picture(native, plane, file.header), whole)


def test_gray_pictures_take_the_mean_of_the_three_samples(native: NativeCodec) -> None:
    gray = from_array(photograph("chelsea", 72, 40)[..., 1])
    plane, file = decoded_plane(native, NativeEncoder(native, gray).encode(1500).data)
    sums = native.synthesise(plane, 1500)[:40, :72].astype(int).sum(2)
    shown = decoder.synthesise_picture(native, plane, file.header)
    assert np.array_equal(shown, np.repeat((sums[..., None] + 1) // 3, 3, 2))
    assert {int(rest) for rest in np.unique(sums % 3)} == {0, 1, 2}
