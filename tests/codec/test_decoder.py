"""Decoding: in pieces as at once, and damage kept local."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import zstandard

from latentcodec.codec.decoder import read
from latentcodec.codec.native import decoder as module
from latentcodec.codec.native.coder import NativeCodec
from latentcodec.codec.native.decoder import decode_file
from latentcodec.codec.native.encoder import NativeEncoder
from latentcodec.codec.planes import PATCH
from latentcodec.container.chunks import DEFAULT_LIMITS
from latentcodec.container.file import (
    Chunk,
    File,
    pack,
    read_chunks,
    unpack,
    write_chunks,
)
from latentcodec.container.salvage import Report
from latentcodec.errors import (
    ChecksumMismatch,
    FormatError,
    LimitExceeded,
    MalformedFile,
)
from latentcodec.picture.picture import Picture, from_array
from tests.conftest import largest_difference, photograph, psnr, retiled

pytestmark = pytest.mark.usefixtures("small_tiles")
SLOW = pytest.mark.slow
WIDTH, HEIGHT, SIDE = 330, 200, 64  # a picture of 6 x 4 tiles, wider than two halos


@pytest.fixture(scope="module")
def tiled(native: NativeCodec) -> File:
    alpha = np.zeros((HEIGHT, WIDTH), np.uint8)
    alpha[20:180, 30:300] = np.linspace(1, 255, 270).astype(np.uint8)
    picture = Picture(photograph("coffee", WIDTH, HEIGHT), alpha)
    with pytest.MonkeyPatch.context() as patch:
        return retiled(native, picture, SIDE, 2400, patch)


@pytest.fixture(scope="module")
def whole(native: NativeCodec, tiled: File) -> Picture:
    return decode_file(native, tiled, DEFAULT_LIMITS, None)[0]


def partial(native: NativeCodec, data: bytes) -> tuple[Picture, Report]:
    file, report = read(data, DEFAULT_LIMITS, True)
    picture, report = decode_file(native, file, DEFAULT_LIMITS, report)
    assert report is not None
    return picture, report


def smaller_pieces(patch: pytest.MonkeyPatch, side: int) -> None:
    patch.setattr(module, "PIECE_LATENTS", 1)
    patch.setattr(module, "PIECE_SIDE", side)


@pytest.mark.parametrize("side", [pytest.param(4, marks=SLOW), 11, 16])
def test_in_pieces_as_at_once(
    native: NativeCodec, tiled: File, whole: Picture, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(module.pieces(42, 25)) == 1
    smaller_pieces(monkeypatch, side)
    assert len(module.pieces(42, 25)) > 5
    picture, _ = decode_file(native, tiled, DEFAULT_LIMITS, None)
    assert largest_difference(picture.pixels, whole.pixels) <= 1


def test_gray_pictures_have_equal_planes(native: NativeCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    gray = photograph(width=77, height=50)[..., 1]
    file = NativeEncoder(native, from_array(gray)).encode(2500).file
    for _ in range(2):
        picture, _ = decode_file(native, file, DEFAULT_LIMITS, None)
        assert picture.gray
        assert (picture.pixels == picture.pixels[..., :1]).all()
        assert psnr(np.repeat(gray[..., None], 3, 2), picture.pixels) > 28
        smaller_pieces(monkeypatch, 5)


def ring(number: int, halo: int) -> tuple[slice, slice]:
    """Rows and columns of a tile and the halo around it, in pixels."""
    column, row = number % 6, number // 6
    reach = halo * PATCH
    return (
        slice(max(0, row * SIDE - reach), (row + 1) * SIDE + reach),
        slice(max(0, column * SIDE - reach), (column + 1) * SIDE + reach),
    )


@pytest.mark.parametrize(
    ("pieces", "number"),
    [
        (None, 0),
        (None, 23),
        (8, 9),
        pytest.param(None, 9, marks=SLOW),
        pytest.param(8, 0, marks=SLOW),
        pytest.param(8, 23, marks=SLOW),
    ],
)
def test_a_damaged_tile_costs_itself_and_a_ring(
    native: NativeCodec,
    tiled: File,
    number: int,
    pieces: int | None,
    monkeypatch: pytest.MonkeyPatch,
    one_thread: None,
) -> None:
    if pieces:
        smaller_pieces(monkeypatch, pieces)
    before, _ = decode_file(native, tiled, DEFAULT_LIMITS, None)
    data = bytearray(pack(tiled))
    tile = tiled.tiles[number]
    assert tile is not None
    data[data.index(tile.stream) + len(tile.stream) // 2] ^= 0x40
    with pytest.raises(ChecksumMismatch):
        unpack(bytes(data))
    after, report = partial(native, bytes(data))
    assert report.missing == (number,)
    assert report.incomplete == ()
    assert len(report.damaged) == 1
    assert not report.truncated
    outside = np.ones((HEIGHT, WIDTH), bool)
    outside[ring(number, native.weights.config.transform.synthesis_halo)] = False
    assert outside.any()
    # Nothing of the damage reaches so far; a kernel that works in blocks may round what is near otherwise.
    assert largest_difference(after.pixels[outside], before.pixels[outside]) <= 1
    rows, columns = ring(number, 0)
    lost = after.pixels[rows, columns]
    assert abs(float(lost.mean()) - 127.5) < 30  # gray, but for what spills in from around it
    assert after.alpha is not None
    assert (after.alpha[rows, columns] == 255).all()
    kept = np.ones((HEIGHT, WIDTH), bool)
    kept[rows, columns] = False
    assert np.array_equal(after.alpha[kept], before.alpha[kept])  # type: ignore[index]


def test_a_tile_whose_symbols_are_wrong_is_lost_whole_with_its_alpha(
    native: NativeCodec, tiled: File, whole: Picture
) -> None:
    """The checksums pass, the stream does not decode: no half of the tile is shown."""
    tiles = list(tiled.tiles)
    assert tiles[8] is not None
    tiles[8] = replace(tiles[8], digest=tiles[8].digest ^ 1)
    data = pack(replace(tiled, tiles=tiles))
    with pytest.raises(ChecksumMismatch, match="tile 8"):
        decode_file(native, unpack(data), DEFAULT_LIMITS, None)
    picture, report = partial(native, data)
    assert report.missing == (8,)
    assert "tile 8" in report.damaged[0]
    rows, columns = ring(8, 0)
    assert picture.alpha is not None
    assert (picture.alpha[rows, columns] == 255).all()


def test_alpha_that_does_not_unpack(native: NativeCodec, tiled: File) -> None:
    tiles = list(tiled.tiles)
    assert tiles[3] is not None
    tiles[3] = replace(tiles[3], alpha=b"\x00")
    with pytest.raises(MalformedFile, match="alpha"):
        decode_file(native, replace(tiled, tiles=tiles), DEFAULT_LIMITS, None)
    _, report = partial(native, pack(replace(tiled, tiles=tiles)))
    assert report.missing == (3,)


def test_what_is_left_of_a_cut_file(native: NativeCodec, tiled: File, whole: Picture) -> None:
    data = pack(tiled)
    scores: list[float] = []
    for length in [*range(0, 80, 3), *range(80, len(data), len(data) // 10), len(data) - 1]:
        cut = data[:length]
        with pytest.raises(FormatError):
            read(cut, DEFAULT_LIMITS, False)
        try:
            picture, report = partial(native, cut)
        except FormatError:
            assert not scores  # before the first tile's latents
            continue
        assert report.truncated
        assert not report.intact
        assert picture.pixels.shape == whole.pixels.shape
        assert picture.alpha is not None
        assert len(report.missing) + len(report.incomplete) > 0
        scores.append(psnr(whole.pixels, picture.pixels))
    assert len(scores) > 5
    assert scores == sorted(scores)
    assert scores[-1] > 40


def test_an_undamaged_file_is_reported_intact(native: NativeCodec, tiled: File, whole: Picture) -> None:
    picture, report = partial(native, pack(tiled))
    assert report.intact
    assert np.array_equal(picture.pixels, whole.pixels)


def test_a_cut_single_tile_shows_its_coarse_data(native: NativeCodec) -> None:
    pixels = photograph(width=192, height=160)
    data = NativeEncoder(native, from_array(pixels)).encode(3000).data
    scores = []
    for share in (0.05, 0.2, 0.5, 0.8, 0.97):
        picture, report = partial(native, data[: int(share * len(data))])
        assert report.incomplete == (0,)
        assert report.missing == ()
        scores.append(psnr(pixels, picture.pixels))
    assert scores[-1] > 25
    assert scores[0] > 8


@pytest.mark.parametrize("letter", ["C", "e", "x", "t", "i"])
def test_damaged_metadata_costs_only_itself(native: NativeCodec, letter: str) -> None:
    picture = Picture(
        photograph(width=40, height=40),
        profile=b"p" * 200,
        exif=b"II*\0" + bytes(60),
        xmp=b"<x/>",
        text=(("key", "value"),),
        iptc=b"\x1c\2",
    )
    chunks = read_chunks(NativeEncoder(native, picture).encode(1000).data)
    for payload in (b"", b"junk", zstandard.compress(b"x" * 50)[:-3], zstandard.compress(b"y") + b"more"):
        data = write_chunks(Chunk(c.type, payload) if c.type == letter else c for c in chunks)
        with pytest.raises(MalformedFile):
            decode_file(native, unpack(data), DEFAULT_LIMITS, None)
        shown, report = partial(native, data)
        assert len(report.damaged) == 1
        kept = {"C": shown.profile, "e": shown.exif, "x": shown.xmp, "t": shown.text, "i": shown.iptc}
        assert not kept.pop(letter)
        assert all(kept.values())


def test_metadata_bombs_are_limited(native: NativeCodec) -> None:
    bomb = zstandard.compress(bytes(32 << 20))
    assert len(bomb) < 10_000
    picture = from_array(photograph(width=24, height=24))
    file = replace(NativeEncoder(native, picture).encode(1000).file, exif=bomb)
    with pytest.raises(LimitExceeded, match=r"exif.*16777216"):
        decode_file(native, unpack(pack(file)), DEFAULT_LIMITS, None)
    _, report = partial(native, pack(file))
    assert "exif" in report.damaged[0]


def test_decoding_needs_no_gradients_and_leaves_none(native: NativeCodec, tiled: File) -> None:
    with torch.enable_grad():
        picture, _ = decode_file(native, tiled, DEFAULT_LIMITS, None)
    assert isinstance(picture.pixels, np.ndarray)
