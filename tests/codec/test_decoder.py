"""Decoding: in pieces as at once, damage kept local, and nothing but errors of the tree for bad files."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
import zstandard

from latentcodec.codec.alpha import pack_alpha
from latentcodec.codec.api import Codec
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
    Limits,
    Tile,
    pack,
    read_chunks,
    unpack,
    write_chunks,
)
from latentcodec.container.salvage import Report
from latentcodec.errors import (
    ChecksumMismatch,
    FormatError,
    LatentCodecError,
    LimitExceeded,
    MalformedFile,
    TruncatedFile,
    UnknownModel,
    WeightsMismatch,
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


@pytest.mark.parametrize("letter", ["C", "e", "x"])
def test_damaged_metadata_costs_only_itself(native: NativeCodec, letter: str) -> None:
    picture = Picture(
        photograph(width=40, height=40), profile=b"p" * 200, exif=b"II*\0" + bytes(60), xmp=b"<x/>"
    )
    chunks = read_chunks(NativeEncoder(native, picture).encode(1000).data)
    for payload in (b"", b"junk", zstandard.compress(b"x" * 50)[:-3], zstandard.compress(b"y") + b"more"):
        data = write_chunks(Chunk(c.type, payload) if c.type == letter else c for c in chunks)
        with pytest.raises(MalformedFile):
            decode_file(native, unpack(data), DEFAULT_LIMITS, None)
        shown, report = partial(native, data)
        assert len(report.damaged) == 1
        kept = {"C": shown.profile, "e": shown.exif, "x": shown.xmp}
        assert kept.pop(letter) is None
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


def test_other_models_and_other_weights(codec: Codec, native: NativeCodec) -> None:
    file = NativeEncoder(native, from_array(photograph(width=24, height=24))).encode(1000).file
    for partial_too in (False, True):
        other = pack(replace(file, header=replace(file.header, model_number=77)))
        with pytest.raises(UnknownModel, match=r"model 77.*native-1"):
            codec.decode(other, partial=partial_too)
        for field, what in (("networks_hash", "integer networks"), ("synthesis_hash", "synthesis")):
            header = replace(file.header, **{field: b"\xde\xad\xbe\xef"})
            with pytest.raises(WeightsMismatch, match=f"{what} have hash deadbeef"):
                codec.decode(pack(replace(file, header=header)), partial=partial_too)


def test_limits(codec: Codec, native: NativeCodec) -> None:
    data = NativeEncoder(native, from_array(photograph(width=40, height=40))).encode(1000).data
    strict = Codec(device="cpu", limits=Limits(max_pixels=1599))
    for partial_too in (False, True):
        with pytest.raises(LimitExceeded, match="1600 pixels"):
            strict.decode(data, partial=partial_too)
    assert Codec(device="cpu", limits=Limits(max_pixels=1600)).decode(data).size == (40, 40)


def small_file(native: NativeCodec, monkeypatch: pytest.MonkeyPatch) -> File:
    alpha = np.random.default_rng(4).integers(0, 3, (40, 72), np.uint8) * 127
    picture = Picture(photograph(width=72, height=40), alpha, profile=b"profile", exif=b"II*\0", xmp=b"<x/>")
    return retiled(native, picture, 64, 1800, monkeypatch)


@pytest.mark.parametrize("changes", [60, pytest.param(150, marks=SLOW)])
def test_mutated_files_only_raise_errors_of_the_tree(
    codec: Codec, native: NativeCodec, monkeypatch: pytest.MonkeyPatch, changes: int
) -> None:
    """Bytes of every chunk changed, cut, grown, repeated, left out, swapped; checksums made right again."""
    chunks = read_chunks(pack(small_file(native, monkeypatch)))
    random = np.random.default_rng(2024)
    outcomes: set[str] = set()
    for _ in range(changes):
        changed = list(chunks)
        for _ in range(int(random.integers(1, 3))):
            at = int(random.integers(len(changed)))
            payload = bytearray(changed[at].payload)
            match int(random.integers(7)):
                case 0 | 1 if payload:
                    payload[random.integers(len(payload))] ^= 1 << int(random.integers(8))
                case 2:
                    del payload[int(random.integers(len(payload) + 1)) :]
                case 3:
                    place = int(random.integers(len(payload) + 1))
                    payload[place:place] = random.bytes(int(random.integers(1, 9)))
                case 4:
                    changed.insert(at, changed[int(random.integers(len(changed)))])
                case 5:
                    payload = bytearray(random.bytes(int(random.integers(40))))
                case 6:
                    del changed[at]
                    continue
            changed[at] = Chunk(changed[at].type, bytes(payload))
        data = write_chunks(changed)
        for partial_too in (False, True):
            try:
                image = codec.decode(data, partial=partial_too)
            except LatentCodecError as error:
                outcomes.add(type(error).__name__)
            else:
                outcomes.add("decoded")
                assert image.width * image.height < 1 << 22
    assert {"decoded", "MalformedFile", "TruncatedFile", "WeightsMismatch"} <= outcomes


@pytest.mark.parametrize("changes", [80, pytest.param(200, marks=SLOW)])
def test_mutated_headers_only_raise_errors_of_the_tree(
    native: NativeCodec, monkeypatch: pytest.MonkeyPatch, changes: int
) -> None:
    """Fields set to any values, the rest of the file as it was: wrong sizes, limits, other grids."""
    file = small_file(native, monkeypatch)
    chunks = read_chunks(pack(file))
    random = np.random.default_rng(7)
    interesting = [
        0,
        1,
        2,
        3,
        31,
        32,
        64,
        96,
        127,
        128,
        300,
        1024,
        4000,
        4001,
        1 << 14,
        1 << 24,
        (1 << 32) - 1,
    ]
    codec = Codec(device="cpu", limits=Limits(max_pixels=1 << 25))
    before = peak_memory()
    for _ in range(changes):
        header = file.header
        for _ in range(int(random.integers(1, 4))):
            field = ("width", "height", "channels", "quality_level", "tile_size")[int(random.integers(5))]
            value = int(random.choice(interesting))
            if field == "channels":
                value %= 256
            header = replace(header, **{field: value})
        data = write_chunks([Chunk("H", header.pack()), *chunks[1:]])
        for partial_too in (False, True):
            try:
                image = codec.decode(data, partial=partial_too)
            except LatentCodecError:
                continue
            assert image.size == (header.width, header.height)
    assert peak_memory() - before < 700 << 20


def test_a_small_file_that_claims_to_be_huge_takes_no_memory(codec: Codec, native: NativeCodec) -> None:
    """169 megapixels with alpha in 7 kB: refused at its first tile, before the planes are paid for."""
    first = NativeEncoder(native, from_array(photograph(width=8, height=8))).encode(4000).file
    header = replace(first.header, width=13_000, height=13_000, channels=4, tile_size=2048)
    stream = b"\x01\x00\x00\x01\x00"
    clear = cache(lambda height, width: pack_alpha(np.zeros((height, width), np.uint8)))
    tiles = [
        Tile(number, 0, clear(box.y1 - box.y0, box.x1 - box.x0), stream)
        for number, box in enumerate(header.tile_grid())
    ]
    data = pack(File(header, tiles))
    assert len(data) < 20_000
    before = peak_memory()
    with pytest.raises(FormatError):
        codec.decode(data)
    assert peak_memory() - before < 250 << 20


def test_a_header_alone_takes_no_time(
    codec: Codec, native: NativeCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """60 bytes that claim 33 megapixels, and then one tile of them: not by way of the networks."""
    first = NativeEncoder(native, from_array(photograph(width=8, height=8))).encode(4000).file
    header = replace(first.header, width=8000, height=4100, tile_size=1024)
    begun = time.process_time()  # whatever else the machine does
    with pytest.raises(TruncatedFile, match=r"none of the 40 tile\(s\) is left"):
        codec.decode(write_chunks([Chunk("H", header.pack())]), partial=True)
    assert time.process_time() - begun < 0.1
    (tile,) = first.tiles
    assert tile is not None
    corner = Chunk("T", replace(tile, number=39).pack())  # 8 x 4 pixels
    header = replace(header, width=7 * 1024 + 8)
    monkeypatch.setattr(module, "PIECE_SIDE", 16)  # those around the corner are decoded
    image = codec.decode(write_chunks([Chunk("H", header.pack()), corner]), partial=True)
    assert time.process_time() - begun < 3
    assert image.size == (7 * 1024 + 8, 4100)
    assert image.info["report"].missing == tuple(range(39))
    assert np.asarray(image)[:3000].min() == np.asarray(image)[:3000].max() == 128


def peak_memory() -> int:
    """The largest resident size of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def test_decoding_needs_no_gradients_and_leaves_none(native: NativeCodec, tiled: File) -> None:
    with torch.enable_grad():
        picture, _ = decode_file(native, tiled, DEFAULT_LIMITS, None)
    assert isinstance(picture.pixels, np.ndarray)
