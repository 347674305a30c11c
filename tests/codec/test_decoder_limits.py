"""What a decoder refuses, and what files made to be wrong cost: errors of the tree, in bounded memory."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from latentcodec.codec.alpha import pack_alpha
from latentcodec.codec.api import Codec
from latentcodec.codec.native import decoder as module
from latentcodec.codec.native.coder import NativeCodec
from latentcodec.codec.native.encoder import NativeEncoder
from latentcodec.container.file import (
    Chunk,
    File,
    Limits,
    Tile,
    pack,
    read_chunks,
    write_chunks,
)
from latentcodec.errors import (
    FormatError,
    LatentCodecError,
    LimitExceeded,
    TruncatedFile,
    UnknownModel,
    WeightsMismatch,
)
from latentcodec.picture.picture import Picture, from_array
from tests.conftest import photograph, retiled

pytestmark = pytest.mark.usefixtures("small_tiles")
SLOW = pytest.mark.slow


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
