"""Files of other autoencoders, from picture to picture: small ones with random weights."""

from __future__ import annotations

import os
from dataclasses import replace
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from latentcodec.codec import api, latent_file, vae_tiles
from latentcodec.codec.api import Codec
from latentcodec.codec.arguments import CodecOptions, DecodeOptions, EncodeOptions
from latentcodec.codec.autoencoder_chunk import AutoencoderChunk
from latentcodec.codec.decoder import decode_with
from latentcodec.codec.info import info
from latentcodec.codec.latent import LatentCodec, file_chunk
from latentcodec.codec.latent_file import LatentEncoder, LatentReader
from latentcodec.container import (
    Chunk,
    Limits,
    Tile,
    pack,
    read_chunks,
    structure_bytes,
    unpack,
    write_chunks,
)
from latentcodec.errors import (
    ChecksumMismatch,
    FormatError,
    InvalidArgument,
    InvalidWeights,
    LatentCodecError,
    LimitExceeded,
    MalformedFile,
    TargetUnreachable,
    TruncatedFile,
    WeightsMismatch,
)
from latentcodec.header import EXTERNAL_MODEL
from latentcodec.image import Picture, from_array
from latentcodec.nn.autoencoder import AutoencoderConfig, AutoencoderKL
from latentcodec.salvage import Report, salvage
from latentcodec.weights.detected import AUTOENCODER, Detected
from latentcodec.weights.load import Identity, LoadedAutoencoder
from tests.conftest import photograph, psnr

slow = pytest.mark.skipif(
    "LATENTCODEC_SLOW" not in os.environ, reason="takes minutes; set LATENTCODEC_SLOW=1 to run it"
)
CPU = torch.device("cpu")


def kl_codec(config: AutoencoderConfig | None = None) -> LatentCodec:
    torch.manual_seed(2)
    config = config or AutoencoderConfig(channels=(8, 8, 8, 8), blocks=1, groups=4)
    module = AutoencoderKL(config).eval().requires_grad_(False)
    detected = Detected(family="other", layout="diffusers", components=(AUTOENCODER,))
    return LatentCodec(LoadedAutoencoder(module, detected, Identity("tiny-kl", "other", "ab" * 32)), CPU)


def round_trip(codec: LatentCodec, picture: Picture, level: int = 2400) -> tuple[bytes, Picture]:
    data = LatentEncoder(codec, picture).encode(level).data
    file = unpack(data)
    reader = LatentReader(codec, file.header, file_chunk(file))
    return data, decode_with(reader, file, Limits(), None)[0]


# Toys: every branch of the path, with weights that mean nothing.


@pytest.mark.parametrize(("width", "height"), [(1, 1), (8, 8), (61, 45), (40, 200)])
def test_any_size_comes_back(toy: Codec, width: int, height: int) -> None:
    data = toy.encode(photograph(width=width, height=height))
    assert toy.decode(data).size == (width, height)
    assert toy.decode(data).mode == "RGB"


def test_what_the_file_says(toy: Codec) -> None:
    data = toy.encode(photograph(width=64, height=48), quality=30)
    told = info(data)
    assert told.model == EXTERNAL_MODEL
    assert told.quality == 30
    assert told.structure_bytes == structure_bytes(data) <= 96
    needs = told.autoencoder
    assert needs is not None
    assert (needs.name, needs.kind, needs.latents, needs.downscale) == ("toy", "taesd", 4, 8)
    assert needs.quantiser == "scalar"


def test_symbols_survive_exactly(toy: Codec) -> None:
    latent = toy._latent
    assert latent is not None
    encoder = LatentEncoder(latent, from_array(photograph(width=80, height=72)))
    encoded, plane = encoder._encode(2000)
    tile = encoded.file.tiles[0]
    assert tile is not None
    values, whole = latent.decode_tile(file_chunk(encoded.file), tile.stream, tile.digest, 9, 10)
    assert whole
    assert (values == plane.numpy()).all()


def test_gray_alpha_and_metadata_go_the_same_way(toy: Codec) -> None:
    rgba = np.dstack([photograph(width=50, height=40), np.arange(2000).reshape(40, 50) % 256]).astype(
        np.uint8
    )
    shown = toy.decode(toy.encode(rgba))
    assert shown.mode == "RGBA"
    assert (np.asarray(shown)[..., 3] == rgba[..., 3]).all()
    gray = toy.decode(toy.encode(photograph(width=33, height=20)[..., 0]))
    assert gray.mode == "L"
    image = Image.fromarray(photograph(width=32, height=32))
    image.info["xmp"] = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"
    assert toy.decode(toy.encode(image)).info["xmp"] == image.info["xmp"]


def test_a_size_is_met(toy: Codec) -> None:
    pixels = photograph(width=96, height=96)
    assert 235 <= len(toy.encode(pixels, target_size=250)) <= 250
    with pytest.raises(TargetUnreachable):
        toy.encode(pixels, target_size=40)


def test_the_palette(toy: Codec) -> None:
    pixels = photograph(width=64, height=64)
    data = toy.encode(pixels, quantiser="palette")
    told = info(data).autoencoder
    assert told is not None
    assert told.quantiser == "palette"
    assert toy.decode(data).size == (64, 64)
    assert toy.encode(pixels, quantiser="palette", effort=3) == data


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"quantiser": "other"}, "use scalar or palette"),
        ({"effort": 10}, "effort 10: it is a whole number from 1 to 9"),
        ({"effort": 0}, "effort 0"),
        ({"effort": 4.0}, "effort 4.0"),
        ({"effort": True}, "effort True"),
        ({"quantiser": "palette", "effort": 4}, "effort 4: the palette has no refinement"),
        ({"quantiser": "palette", "target_size": 900}, "target_size: the palette has one rate"),
        ({"quantiser": "palette", "quality": 60}, "quality: the palette has one rate"),
    ],
)
def test_options_there_are_none_of(toy: Codec, options: dict[str, object], named: str) -> None:
    with pytest.raises(InvalidArgument, match=named):
        toy.encode(photograph(width=8, height=8), **options)  # type: ignore[arg-type]


def test_the_native_model_has_no_palette(codec: Codec) -> None:
    with pytest.raises(InvalidArgument, match="native"):
        codec.encode(photograph(width=8, height=8), quantiser="palette")


def test_the_module_functions_take_a_model(pair: Path, tmp_path: Path) -> None:
    source, packed, shown = (tmp_path / name for name in ("a.png", "a.lci", "b.png"))
    Image.fromarray(photograph(width=24, height=16)).save(source)
    assert api.compress(source, packed, model=pair, device="cpu") == packed.stat().st_size
    api.decompress(packed, shown, model=pair, device="cpu")
    data = api.encode(photograph(width=24, height=16), model=pair, device="cpu")
    assert data == packed.read_bytes()
    assert (np.asarray(api.decode(data, model=pair, device="cpu")) == np.asarray(Image.open(shown))).all()


def test_the_module_functions_take_every_keyword(pair: Path) -> None:
    own = set(signature(Codec.__init__).parameters) - {"self"}
    assert own == CodecOptions.__annotations__.keys()
    for method, options in ((Codec.encode, EncodeOptions), (Codec.decode, DecodeOptions)):
        own = set(signature(method).parameters) - {"self", "image", "data"}
        assert own == options.__annotations__.keys()
    pixels = photograph(width=24, height=16)
    with pytest.raises(LimitExceeded):
        api.encode(pixels, model=pair, device="cpu", limits=Limits(max_pixels=300))
    with pytest.raises(InvalidWeights, match="should hold a prior"):
        api.encode(pixels, model=pair, device="cpu", prior="none")
    with pytest.raises(TypeError, match="qality"):
        api.encode(pixels, qality=30)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="quality"):
        api.decode(b"", quality=30)  # type: ignore[call-arg]


def test_a_file_and_its_chunk_must_agree(toy: Codec) -> None:
    file = unpack(toy.encode(photograph(width=16, height=16)))
    with pytest.raises(InvalidArgument, match="disagree"):
        pack(replace(file, autoencoder=None))


def test_a_codec_of_an_autoencoder_reads_native_files(toy: Codec, codec: Codec) -> None:
    data = codec.encode(photograph(width=16, height=16))
    assert (np.asarray(toy.decode(data)) == np.asarray(codec.decode(data))).all()


def test_tables_of_another_hash_are_refused(toy: Codec) -> None:
    file = unpack(toy.encode(photograph(width=16, height=16)))
    data = pack(replace(file, header=replace(file.header, networks_hash=b"\1\2\3\4")))
    with pytest.raises(WeightsMismatch, match="tables"):
        toy.decode(data)


# Damage.


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


# KL autoencoders, pieces and tiles.


def test_a_tiny_kl_autoencoder() -> None:
    picture = from_array(photograph(width=70, height=50))
    data, decoded = round_trip(kl_codec(), picture)
    assert (decoded.width, decoded.height) == (70, 50)
    assert info(data).autoencoder is not None


def test_an_f4_autoencoder() -> None:
    codec = kl_codec(AutoencoderConfig(channels=(8, 8, 8), blocks=1, groups=4))
    assert codec.downscale == 4
    _, decoded = round_trip(codec, from_array(photograph(width=30, height=22)))
    assert (decoded.width, decoded.height) == (30, 22)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of 16 positions, so that small pictures have several."""
    monkeypatch.setattr(vae_tiles, "WHOLE", 0)
    monkeypatch.setattr(vae_tiles, "CORE", 16)
    monkeypatch.setattr(vae_tiles, "HALO", 6)
    monkeypatch.setattr(vae_tiles, "RAMP", 4)


def test_the_encoder_measures_what_the_decoder_shows(small_pieces: None) -> None:
    codec = kl_codec()
    picture = from_array(photograph(width=300, height=200))
    attempt = LatentEncoder(codec, picture).attempt(2000, measure=True)
    file = attempt.encoded.file
    decoded, _ = decode_with(LatentReader(codec, file.header, file_chunk(file)), file, Limits(), None)
    assert attempt.psnr == pytest.approx(psnr(picture.pixels, decoded.pixels), abs=1e-6)


def test_tiles_are_independent_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latent_file, "default_tile_size", lambda width, height: 256)
    codec, picture = kl_codec(), from_array(photograph(width=400, height=300))
    data, decoded = round_trip(codec, picture)
    file = unpack(data)
    assert len(file.tiles) == 4
    lost = replace(file, tiles=[file.tiles[0], None, *file.tiles[2:]])
    report = Report((1,), (), (), False)
    reader = LatentReader(codec, file.header, file_chunk(file))
    shown, found = decode_with(reader, lost, Limits(), report)
    assert found is not None
    assert found.missing == (1,)
    assert shown.pixels.shape == decoded.pixels.shape


def test_a_lost_tile_of_a_palette(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latent_file, "default_tile_size", lambda width, height: 256)
    codec, picture = kl_codec(), from_array(photograph(width=300, height=200))
    data = LatentEncoder(codec, picture, quantiser="palette").encode(2400).data
    cut = data[: len(data) - 5]
    file, report = salvage(cut)
    reader = LatentReader(codec, file.header, file_chunk(file))
    shown, found = decode_with(reader, file, Limits(), report)
    assert found is not None
    assert found.missing == (1,)
    assert shown.pixels.shape == (200, 300, 3)


@slow
@pytest.mark.slow
def test_the_sd_layout_at_full_size() -> None:
    codec = kl_codec(AutoencoderConfig())
    data, decoded = round_trip(codec, from_array(photograph(width=256, height=192)))
    assert (decoded.width, decoded.height) == (256, 192)
    assert len(data) > 100
