"""Files with changes: an error of the library's comes out, or what the changed bytes say; soon, and small.

seeds ─┬─ bytes ─────────────────────────────────┐
       ├─ chunks, their CRC-32s made anew ───────┼─► unpack, salvage, info ─► whole, in part ─► decode
       └─ fields of the header, streams of tiles ┘
tables, values ─► rANS ─► bytes changed ─► decode, whole and in part

LATENTCODEC_FUZZ_CASES says how many cases each test tries. For hours of them, from a checkout:

    python -m tests.fuzz.test_files SECONDS [SEED]

corpus.zip holds a file for each complaint that 20,000 of them met: `python -m tests.fuzz.test_files corpus`.
"""

from __future__ import annotations

import os
import re
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch

from latentcodec.codec.api import Codec
from latentcodec.codec.autoencoder.encoder import LatentEncoder
from latentcodec.codec.autoencoder.latent import LatentCodec, file_chunk
from latentcodec.codec.autoencoder.reader import LatentReader
from latentcodec.codec.decoder import decode_with, read
from latentcodec.codec.info import info
from latentcodec.codec.lossless import PixelReader, pixel_tiles
from latentcodec.codec.native.coder import NativeCodec
from latentcodec.codec.native.decoder import NativeReader
from latentcodec.codec.native.encoder import NativeEncoder
from latentcodec.codec.values.prior import LatentPrior
from latentcodec.container.chunks import (
    Chunk,
    Limits,
    chunk_size,
    read_chunks,
    write_chunks,
    write_varint,
)
from latentcodec.container.cleanup import CleanupChunk, CleanupSteps
from latentcodec.container.file import File, Goal, Tile, pack, unpack
from latentcodec.container.header import EXTERNAL_MODEL, PIXELS, Header
from latentcodec.container.salvage import salvage
from latentcodec.errors import LatentCodecError
from latentcodec.picture.colour.points import Cicp
from latentcodec.picture.picture import Picture, with_depth
from latentcodec.rans import groups
from latentcodec.rans.coder import Decoder, Encoder
from latentcodec.rans.groups import GroupedTables
from tests.conftest import SRGB, photograph
from tests.fuzz.mutate import EDGES, mutated
from tests.fuzz.run import run_for
from tests.toy_autoencoder import kl_codec
from tests.toy_prior import toy_prior

CASES = int(os.environ.get("LATENTCODEC_FUZZ_CASES", "0"))  # 0: as many as each test takes seconds for
LIMITS = Limits(max_pixels=1 << 14, max_autoencoder_pixels=1 << 14, max_chunks=64, max_metadata_bytes=1 << 16)
SECONDS = 5.0  # of processor time for a case: pictures have 16 kilopixels at most
MEMORY = 512 << 20  # bytes that a process of its own may grow by
DECODED = 400  # of so many containers that are read, one is decoded
CORPUS = Path(__file__).with_name("corpus.zip")
_CPU = torch.device("cpu")

Case = Callable[[Random], str]


@cache
def native() -> NativeCodec:
    """The shipped model, by the engine that such pictures get."""
    return Codec(device="cpu")._load_native()


@cache
def autoencoder() -> LatentCodec:
    """A toy."""
    return kl_codec()


@cache
def prior() -> LatentPrior:
    """A prior of the toy's latents."""
    return LatentPrior(toy_prior(autoencoder()), _CPU)


@cache
def seeds() -> dict[str, bytes]:
    """One small file of each kind."""
    pixels = photograph(width=48, height=40)
    alpha = np.indices((40, 48)).sum(0).astype(np.uint8)
    whole = Picture(
        pixels,
        alpha,
        profile=SRGB,
        exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0",
        xmp=b"<x/>",
        text=(("a", "b\n"),),
        iptc=b"\x1c\2",
        dpi=(300, 299.5),
        cicp=Cicp(9, 16),
        left_out=("a video",),
    )
    wide = np.tile(photograph(width=100, height=48), (1, 3, 1))
    flat = replace(whole, pixels=pixels // 64 * 64, alpha=None)
    deep = with_depth(whole, 16)
    files = {
        "deep": NativeEncoder(native(), deep).encode(2000).file,
        "samples": File(*_pixel_tiles(with_depth(flat, 12))),
        "native": NativeEncoder(native(), whole).encode(2000).file,
        "gray": NativeEncoder(native(), Picture(pixels[..., :1].repeat(3, 2), gray=True)).encode(900).file,
        "tiled": _tiled(wide),
        "pixels": File(*_pixel_tiles(flat), goal=Goal("size", 5000)),
        "scalar": LatentEncoder(autoencoder(), whole).encode(2500).file,
        "prior": LatentEncoder(autoencoder(), flat, prior=prior()).encode(2500).file,
        "palette": LatentEncoder(autoencoder(), flat, quantiser="palette").encode(0).file,
    }
    steps = CleanupSteps(20, None, 50)
    files["scalar"] = replace(
        files["scalar"],
        cleanup=CleanupChunk(
            prediction="epsilon",
            fingerprint=bytes(8),
            name="toy",
            steps=steps,
            seed=3,
            prompt=(320, 11),
            errors=(0, 208, 255),
            amounts=(2,),
        ).pack(),
    )
    return {name: pack(file) for name, file in files.items()}


def _tiled(pixels: np.ndarray) -> File:
    """A file of the native model in two tiles, each coded on its own."""
    parts = [
        NativeEncoder(native(), Picture(pixels[:, a:b])).encode(1500).file for a, b in ((0, 256), (256, 300))
    ]
    tiles = [replace(tile, number=number) for number, part in enumerate(parts) for tile in part.tiles if tile]
    header = replace(parts[0].header, width=pixels.shape[1], height=pixels.shape[0], tile_size=256)
    return File(header, tiles)


def _pixel_tiles(picture: Picture) -> tuple[Header, list[Tile]]:
    tiles = pixel_tiles(picture, 1, lambda number, box: None, always=True)
    if tiles is None:
        raise RuntimeError("a picture that is to be kept as pixels was not")
    return tiles


def changed_file(random: Random) -> tuple[str, bytes]:
    """The kind of a seed, and its bytes with changes."""
    kind = random.choice(list(seeds()))
    seed, others = seeds()[kind], list(seeds().values())
    if random.random() < 0.3:
        return kind, mutated(random, seed, others)
    chunks = read_chunks(seed)
    for _ in range(random.choice((1, 1, 2))):
        place = random.randrange(len(chunks))
        chunk = chunks[place]
        change = random.randrange(10)
        if change < 6:
            chunks[place] = Chunk(chunk.type, _changed_payload(random, chunk, others))
        elif change == 6:
            del chunks[place]
        elif change == 7:
            chunks.insert(
                random.randrange(len(chunks) + 1), random.choice(read_chunks(random.choice(others)))
            )
        elif change == 8:
            other = random.randrange(len(chunks))
            chunks[place], chunks[other] = chunks[other], chunks[place]
        else:
            chunks[place] = Chunk(random.choice("HVCNXTextirlgdAzq"), chunk.payload)
        chunks = chunks or [chunk]
    data = write_chunks(chunks)
    return kind, data[: random.randrange(len(data))] if random.random() < 0.1 else data


def _changed_payload(random: Random, chunk: Chunk, others: list[bytes]) -> bytes:
    header = _header(chunk.payload) if chunk.type == "H" and random.random() < 0.7 else None
    if header is not None:
        field = random.choice(("width", "height", "channels", "model_number", "quality_level", "tile_size"))
        value = getattr(header, field) + random.choice((-8, -1, 1, 8)) if random.random() < 0.5 else None
        value = random.choice((*EDGES, 3, 4, 64, 1000, 4000, 16384)) if value is None else value
        limit = 255 if field == "channels" else (1 << 32) - 1
        return replace(header, **{field: min(max(value, 0), limit)}).pack()
    if chunk.type == "T" and random.random() < 0.7:  # its head stays, so that what it codes is read
        head = min(random.choice((5, 6, 12)), len(chunk.payload))
        return chunk.payload[:head] + mutated(random, chunk.payload[head:], others)
    return mutated(random, chunk.payload, others)


def _header(payload: bytes) -> Header | None:
    """The header; None where an earlier change has damaged it."""
    try:
        return Header.unpack(payload)
    except LatentCodecError:
        return None


def container_case(random: Random) -> str:
    """Read a changed file, whole and what is left of it; now and then decode it."""
    kind, data = changed_file(random)
    came_to = _outcome(lambda: unpack(data, LIMITS))
    rest = _outcome(lambda: salvage(data, LIMITS))
    _outcome(lambda: info(data))
    if came_to == "read":
        file, report = salvage(data, LIMITS)
        assert report.intact
        assert file == unpack(data, LIMITS)
    if random.randrange(DECODED) == 0 and rest == "read":
        _decode(data, rest=True)
        if came_to == "read":
            return f"{kind} {_decode(data, rest=False)}"
    return f"{kind} {came_to}"


def decoding_case(random: Random) -> str:
    """Decode a file whose chunks are right but for one stream or field."""
    kind = random.choice(list(seeds()))
    chunks = read_chunks(seeds()[kind])
    place = random.choice([place for place, chunk in enumerate(chunks) if chunk.type in "HVTd"])
    payload = _changed_payload(random, chunks[place], list(seeds().values()))
    chunks[place] = Chunk(chunks[place].type, payload)
    tiles = [chunk for chunk in chunks if chunk.type == "T"]
    if len(tiles) > 1:  # the index says where they are
        index = b"".join(write_varint(chunk_size(tile)) for tile in tiles)
        chunks = [Chunk("X", index) if chunk.type == "X" else chunk for chunk in chunks]
    data = write_chunks(chunks)
    _decode(data, rest=True)
    return f"{kind} {_decode(data, rest=False)}"


def rans_case(random: Random) -> str:
    """Decode a changed stream, whole and in part."""
    tables, rows, seed = _streams()[random.randrange(len(_streams()))]
    data = mutated(random, seed)

    def take(*, cut: bool) -> None:
        decoder = Decoder(data, tables.tables, partial=cut)
        for part in np.array_split(rows, 3):
            values = groups.take(decoder, tables, part)
            assert values.shape == part.shape
            assert np.abs(values).max(initial=0) <= 1 << 20
        decoder.finish()

    _outcome(lambda: take(cut=True))
    return f"rans {_outcome(lambda: take(cut=False))}"


@cache
def _streams() -> list[tuple[GroupedTables, np.ndarray, bytes]]:
    """Tables, rows and streams of a few and of many lanes."""
    random = np.random.default_rng(1)
    tables, streams = native().tables, []
    for size in (30, 900, 6000):
        rows = np.sort(random.integers(1, len(tables.grouped), size)).astype(np.int32)
        values = np.rint(random.normal(0, 3, size)).astype(np.int32)
        values[:: size // 10] *= 5000
        encoder = Encoder(tables.tables)
        for part, chosen in zip(np.array_split(values, 3), np.array_split(rows, 3), strict=True):
            groups.put(encoder, tables, part, chosen)
        streams.append((tables, rows, encoder.finish()))
    return streams


def _decode(data: bytes, *, rest: bool) -> str:
    def decode() -> None:
        file, report = read(data, LIMITS, rest)
        header = file.header
        reader: NativeReader | PixelReader | LatentReader
        if header.model_number == EXTERNAL_MODEL:
            if file.cleanup is not None:
                CleanupChunk.unpack(file.cleanup)
            reader = LatentReader(autoencoder(), header, file_chunk(file), prior())
        elif header.model_number == PIXELS:
            reader = PixelReader(header)
        else:
            reader = NativeReader(native(), header)
        picture, report = decode_with(reader, file, LIMITS, report)
        assert picture.pixels.shape == (header.height, header.width, 3)
        assert (picture.alpha is None) == (not header.has_alpha)
        assert (report is not None) == rest

    return _outcome(decode)


def _outcome(step: Callable[[], object]) -> str:
    """ "read", or the class of the library's error."""
    try:
        step()
    except LatentCodecError as error:
        result, message = type(error).__name__, str(error)
    else:
        return "read"
    assert len(message) < 1000
    return result


TARGETS: dict[str, tuple[Case, int]] = {
    "containers": (container_case, 400),
    "decoding": (decoding_case, 60),
    "rans": (rans_case, 1000),
}
"""What is tried, and how often in the tests."""


def make_corpus(cases: int) -> None:
    """Keep a changed file for each thing that reading one may complain of, or find nothing wrong with."""
    kept: dict[tuple[str, str], bytes] = {}
    for number in range(cases):
        kind, data = changed_file(Random(f"corpus {number}"))
        try:
            unpack(data, LIMITS)
            complaint = "read"
        except LatentCodecError as error:
            complaint = re.sub(r"[0-9a-f]*\d[0-9a-f]*|'.*?'", "#", str(error))
        kept.setdefault((kind, complaint), data)
    with zipfile.ZipFile(CORPUS, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, ((kind, _), data) in enumerate(sorted(kept.items())):
            archive.writestr(zipfile.ZipInfo(f"{number:03}-{kind}.lci"), data)


def run_case(target: str, seed: int, number: int) -> str:
    """What a case comes to; the same on every run with the same seed."""
    start = time.process_time()
    result = TARGETS[target][0](Random(f"{target} {seed} {number}"))
    assert time.process_time() - start < SECONDS
    return result


@pytest.mark.slow
@pytest.mark.parametrize("target", list(TARGETS))
def test_changed_files(target: str) -> None:
    seeds()
    cases = CASES or TARGETS[target][1]
    came_to = Counter(run_case(target, 1, number).split()[-1] for number in range(cases))
    assert came_to["read"] > cases / 200  # the changes are neither all harmless nor all fatal
    assert came_to["read"] < cases * 0.7


@pytest.mark.slow
def test_the_corpus() -> None:
    """A picture or an error of the library's for each; with other weights most are refused early."""
    with zipfile.ZipFile(CORPUS) as archive:
        files = [archive.read(name) for name in archive.namelist()]
    assert len(files) > 100
    for data in files:
        start = time.process_time()
        came_to = _outcome(partial(unpack, data, LIMITS))
        _outcome(partial(info, data))
        assert (_decode(data, rest=False) == "read") <= (came_to == "read")
        _decode(data, rest=True)
        assert time.process_time() - start < SECONDS


def test_a_seed_of_each_kind_is_read() -> None:
    for data in seeds().values():
        assert _decode(data, rest=False) == _decode(data, rest=True) == "read"


def main(seconds: float, seed: int) -> None:
    """Cases for so long: run_case(target, seed, number) runs one again."""
    for data in seeds().values():
        _decode(data, rest=False)
    _streams()
    share = {"containers": 200, "decoding": 2, "rans": 10}  # they take about equal times so
    turns = [target for target, times in share.items() for _ in range(times)]

    def attempt(number: int) -> str:
        target = turns[number % len(turns)]
        return f"{target} {run_case(target, seed, number)}"

    run_for(seconds, MEMORY, attempt)


if __name__ == "__main__" and sys.argv[1] == "corpus":
    make_corpus(20_000)
elif __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
