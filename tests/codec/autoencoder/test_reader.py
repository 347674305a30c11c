"""Reading files of other autoencoders: what is damaged, what is lost, what belongs to another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from latentcodec.codec.api import Codec
from latentcodec.codec.autoencoder import encoder
from latentcodec.codec.autoencoder.encoder import LatentEncoder
from latentcodec.codec.autoencoder.latent import file_chunk
from latentcodec.codec.autoencoder.reader import LatentReader
from latentcodec.codec.decoder import decode_with
from latentcodec.container.autoencoder import AutoencoderChunk
from latentcodec.container.file import (
    Chunk,
    Limits,
    Tile,
    pack,
    read_chunks,
    unpack,
    write_chunks,
)
from latentcodec.container.salvage import Report, salvage
from latentcodec.errors import (
    ChecksumMismatch,
    FormatError,
    LatentCodecError,
    LimitExceeded,
    MalformedFile,
    TruncatedFile,
    WeightsMismatch,
)
from latentcodec.picture.picture import from_array
from tests.conftest import photograph
from tests.toy_autoencoder import kl_codec


def test_tables_of_another_hash_are_refused(toy: Codec) -> None:
    file = unpack(toy.encode(photograph(width=16, height=16)))
    data = pack(replace(file, header=replace(file.header, networks_hash=b"\1\2\3\4")))
    with pytest.raises(WeightsMismatch, match="tables"):
        toy.decode(data)


def test_every_truncation_is_an_error(toy: Codec) -> None:
    data = toy.encode(photograph(width=40, height=40))
    for length in range(0, len(data), 7):
        with pytest.raises(FormatError):
            toy.decode(data[:length])


def test_a_cut_tile_shows_what_is_left(toy: Codec) -> None:
    data = toy.encode(photograph(width=96, height=96), quality=90)
    shown = toy.decode(data[: len(data) * 2 // 3], partial=True)
    assert shown.size == (96, 96)
    assert shown.info["report"].incomplete == (0,)


@pytest.mark.parametrize("quantiser", ["scalar", "palette"])
def test_mutated_files_with_right_checksums(toy: Codec, quantiser: str) -> None:
    rng = np.random.default_rng(1)
    chunks = read_chunks(toy.encode(photograph(width=40, height=40), quantiser=quantiser))
    for _ in range(60):
        changed = list(chunks)
        place = int(rng.integers(len(chunks)))
        payload = bytearray(chunks[place].payload)
        payload[rng.integers(len(payload))] ^= 1 << rng.integers(8)
        changed[place] = Chunk(chunks[place].type, bytes(payload))
        try:
            image = toy.decode(write_chunks(changed))
        except LatentCodecError:
            continue
        assert image.size[0] * image.size[1] <= 1 << 24  # a name, a quality, a smaller picture


def test_symbols_with_another_digest(toy: Codec) -> None:
    file = unpack(toy.encode(photograph(width=40, height=40)))
    (tile,) = file.tiles
    assert tile is not None
    other = Tile(0, tile.digest ^ 1, tile.alpha, tile.stream)
    with pytest.raises(ChecksumMismatch, match="digest"):
        toy.decode(pack(replace(file, tiles=[other])))
    with pytest.raises((MalformedFile, TruncatedFile)):
        toy.decode(pack(replace(file, tiles=[Tile(0, tile.digest, tile.alpha, tile.stream[:-2])])))


def test_the_chunk_and_the_number_go_together(toy: Codec, codec: Codec) -> None:
    chunks = read_chunks(toy.encode(photograph(width=16, height=16)))
    with pytest.raises(MalformedFile, match="'V' is missing"):
        toy.decode(write_chunks([chunk for chunk in chunks if chunk.type != "V"]))
    native = read_chunks(codec.encode(photograph(width=16, height=16)))
    with pytest.raises(MalformedFile, match="'V' is there"):
        codec.decode(write_chunks([native[0], chunks[1], *native[1:]]))


def test_a_file_that_claims_other_channels(toy: Codec) -> None:
    file = unpack(toy.encode(photograph(width=16, height=16)))
    chunk = file_chunk(file)
    lying = AutoencoderChunk(chunk.kind, 16, 3, chunk.fingerprint, chunk.name, None)
    with pytest.raises(MalformedFile, match="16 channels"):
        toy.decode(pack(replace(file, autoencoder=lying.pack())))


def test_the_limit_of_pixels_holds(toy: Codec, pair: Path) -> None:
    data = toy.encode(photograph(width=64, height=64))
    with pytest.raises(LimitExceeded):
        Codec(pair, "cpu", limits=Limits(max_pixels=4000)).decode(data)


def test_tiles_are_independent_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "default_tile_size", lambda width, height: 256)
    codec, picture = kl_codec(), from_array(photograph(width=400, height=300))
    file = unpack(LatentEncoder(codec, picture).encode(2400).data)
    assert len(file.tiles) == 4
    lost = replace(file, tiles=[file.tiles[0], None, *file.tiles[2:]])
    report = Report((1,), (), (), False)
    reader = LatentReader(codec, file.header, file_chunk(file))
    shown, found = decode_with(reader, lost, Limits(), report)
    assert found is not None
    assert found.missing == (1,)
    assert shown.pixels.shape == picture.pixels.shape


def test_a_lost_tile_of_a_palette(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "default_tile_size", lambda width, height: 256)
    codec, picture = kl_codec(), from_array(photograph(width=300, height=200))
    data = LatentEncoder(codec, picture, quantiser="palette").encode(2400).data
    cut = data[: len(data) - 5]
    file, report = salvage(cut)
    reader = LatentReader(codec, file.header, file_chunk(file))
    shown, found = decode_with(reader, file, Limits(), report)
    assert found is not None
    assert found.missing == (1,)
    assert shown.pixels.shape == (200, 300, 3)
