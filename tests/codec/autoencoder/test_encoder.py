"""Files of other autoencoders, from picture to picture: small ones with random weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from latentcodec.codec import functions
from latentcodec.codec.api import Codec
from latentcodec.codec.autoencoder import vae_tiles
from latentcodec.codec.autoencoder.encoder import LatentEncoder
from latentcodec.codec.autoencoder.latent import LatentCodec, file_chunk
from latentcodec.codec.autoencoder.reader import LatentReader
from latentcodec.codec.decoder import decode_with
from latentcodec.codec.info import info
from latentcodec.codec.targets import PSNR
from latentcodec.codec.values.choice import coder_for
from latentcodec.container.file import (
    Limits,
    pack,
    structure_bytes,
    unpack,
)
from latentcodec.container.header import EXTERNAL_MODEL
from latentcodec.errors import (
    InvalidArgument,
    InvalidWeights,
    LimitExceeded,
    TargetUnreachable,
)
from latentcodec.nn.stable_diffusion.autoencoder import AutoencoderConfig
from latentcodec.picture.picture import Picture, from_array, with_depth
from tests.conftest import photograph, psnr
from tests.toy_autoencoder import kl_codec

CPU = torch.device("cpu")


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
    coder = coder_for(file_chunk(encoded.file), 2000, CPU)
    assert encoded.file.header.networks_hash == coder.networks_hash
    values, whole = coder.decode(tile.stream, tile.digest, 9, 10)
    assert whole
    assert (values == plane).all()


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
        ({"quantiser": "palette", "effort": 4}, "effort 4: the palette is never refined"),
        ({"quantiser": "palette", "target_size": 900}, "target_size 900: the palette has one rate"),
        ({"quantiser": "palette", "quality": 60}, "quality 60: the palette has one rate"),
    ],
)
def test_options_there_are_none_of(toy: Codec, options: dict[str, object], named: str) -> None:
    with pytest.raises(InvalidArgument, match=named):
        toy.encode(photograph(width=8, height=8), **options)  # type: ignore[arg-type]


def test_the_native_model_has_no_palette(codec: Codec) -> None:
    with pytest.raises(InvalidArgument, match="quantiser palette: for autoencoders only"):
        codec.encode(photograph(width=8, height=8), quantiser="palette")


def test_the_module_functions_take_a_model(pair: Path, tmp_path: Path) -> None:
    source, packed, shown = (tmp_path / name for name in ("a.png", "a.lci", "b.png"))
    Image.fromarray(photograph(width=24, height=16)).save(source)
    assert functions.compress(source, packed, model=pair, device="cpu") == packed.stat().st_size
    functions.decompress(packed, shown, model=pair, device="cpu")
    data = functions.encode(photograph(width=24, height=16), model=pair, device="cpu")
    assert data == packed.read_bytes()
    assert (
        np.asarray(functions.decode(data, model=pair, device="cpu")) == np.asarray(Image.open(shown))
    ).all()


def test_the_module_functions_take_every_keyword(pair: Path) -> None:
    pixels = photograph(width=24, height=16)
    with pytest.raises(LimitExceeded):
        functions.encode(pixels, model=pair, device="cpu", limits=Limits(max_pixels=300))
    with pytest.raises(InvalidWeights, match="should hold a prior"):
        functions.encode(pixels, model=pair, device="cpu", prior="none")
    with pytest.raises(TypeError, match="qality"):
        functions.encode(pixels, qality=30)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="quality"):
        functions.decode(b"", quality=30)  # type: ignore[call-arg]


def test_a_file_and_its_chunk_must_agree(toy: Codec) -> None:
    file = unpack(toy.encode(photograph(width=16, height=16)))
    with pytest.raises(InvalidArgument, match="disagree"):
        pack(replace(file, autoencoder=None))


def test_a_codec_of_an_autoencoder_reads_native_files(toy: Codec, codec: Codec) -> None:
    data = codec.encode(photograph(width=16, height=16))
    assert (np.asarray(toy.decode(data)) == np.asarray(codec.decode(data))).all()


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
    attempt = LatentEncoder(codec, picture).attempt(2000, measure=PSNR)
    file = attempt.encoded.file
    decoded, _ = decode_with(LatentReader(codec, file.header, file_chunk(file)), file, Limits(), None)
    assert attempt.psnr == pytest.approx(psnr(picture.pixels, decoded.pixels), abs=1e-6)


@pytest.mark.release
def test_the_sd_layout_at_full_size() -> None:
    codec = kl_codec(AutoencoderConfig())
    data, decoded = round_trip(codec, from_array(photograph(width=256, height=192)))
    assert (decoded.width, decoded.height) == (256, 192)
    assert len(data) > 100


@pytest.mark.parametrize("bits", [10, 16])
def test_pictures_of_more_than_8_bits_keep_their_depth(toy: Codec, bits: int) -> None:
    pixels = photograph(width=61, height=45)
    deep = with_depth(from_array(pixels.astype(np.uint16) * 257), bits)
    deep = replace(deep, alpha=deep.pixels[..., 0].copy())
    data = toy.encode(deep, quality=50)
    assert info(data).depth == bits
    shown, _ = toy.decode_picture(data)
    assert shown.bit_depth == bits
    assert shown.alpha is not None
    assert np.array_equal(shown.alpha, deep.alpha)
    # The same latents as of 8 bits, hence about the same picture, less rounding to 8 bits.
    flat, _ = toy.decode_picture(toy.encode(replace(from_array(pixels), alpha=pixels[..., 0]), quality=50))
    assert np.abs(255 / deep.peak * shown.pixels - flat.pixels).mean() < 1
    assert len(np.unique(shown.pixels)) > 256


def test_refinement_and_targets_take_deep_pictures(toy: Codec) -> None:
    pixels = photograph(width=48, height=40).astype(np.uint16) * 257
    plain, refined = (toy.encode(pixels, quality=50, effort=effort) for effort in (3, 4))
    assert plain != refined
    asked = psnr(pixels / 257, toy.decode_array(plain) / 257) - 0.5
    met = toy.encode(pixels, min_psnr=asked)
    assert psnr(pixels / 257, toy.decode_array(met) / 257) >= asked
