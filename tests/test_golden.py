"""The golden files decode to the symbols, latents and pixels that were written down when they were made."""

from __future__ import annotations

import hashlib
import json
from typing import Any
from zlib import crc32

import numpy as np
import pytest

from latentcodec.codec.api import Codec
from latentcodec.codec.native.coder import NativeCodec
from latentcodec.container.file import unpack
from latentcodec.container.header import PIXELS
from latentcodec.weights.native import NativeWeights
from tests import model_reference, samples_reference
from tests.conftest import psnr
from tests.golden.remake import DESCRIPTION, FOLDER, describe, pictures

GOLDEN: dict[str, dict[str, Any]] = json.loads(DESCRIPTION.read_text())


@pytest.fixture(autouse=True)
def same_weights(weights: NativeWeights) -> None:
    """One plain message where the model has changed, instead of as many as there are tests."""
    for name in GOLDEN:
        header = unpack((FOLDER / f"{name}.lci").read_bytes()).header
        if header.model_number == PIXELS:
            continue
        if (header.networks_hash, header.synthesis_hash) != (weights.networks_hash, weights.synthesis_hash):
            pytest.fail(
                f"{name}.lci was made with other weights than those shipped now; until the first release: "
                "python -m tests.golden.remake"
            )


def test_every_file_is_described() -> None:
    assert {path.stem for path in FOLDER.glob("*.lci")} == set(GOLDEN) == set(pictures())


@pytest.mark.parametrize("name", GOLDEN)
def test_symbols_latents_and_pixels_are_those_of_old(native: NativeCodec, name: str) -> None:
    data = (FOLDER / f"{name}.lci").read_bytes()
    assert describe(native, data) == GOLDEN[name]


@pytest.mark.parametrize("name", GOLDEN)
def test_an_implementation_of_the_specification_finds_the_same(weights: NativeWeights, name: str) -> None:
    file = unpack((FOLDER / f"{name}.lci").read_bytes())
    tile, header = file.tiles[0], file.header
    assert tile is not None
    if header.model_number == PIXELS:
        green, red, blue = samples_reference.decode(
            tile.stream, 3, header.height, header.width, header.depth, 4001 - header.quality_level
        )
        pixels = np.stack([red, green, blue], 2).astype("<u2").tobytes()
        assert f"{crc32(pixels):08x}" == GOLDEN[name]["symbols_crc32"]
        assert hashlib.sha256(pixels).hexdigest() == GOLDEN[name]["pixels_sha256"]
        return
    _, height, width = GOLDEN[name]["latents_shape"]
    latents, digest = model_reference.decode_tile(
        weights, tile.stream, file.header.quality_level, height, width
    )
    assert f"{digest:08x}" == GOLDEN[name]["symbols_crc32"]
    stored = hashlib.sha256(latents.astype("<i2").tobytes()).hexdigest()
    assert stored == GOLDEN[name]["latents_sha256"]
    samples = model_reference.synthesise(weights, latents, header.quality_level, header.depth)
    pixels = samples[: header.height, : header.width]
    if header.channels <= 2:
        pixels = np.repeat((pixels.sum(2, keepdims=True) + 1) // 3, 3, 2)
    kind = "<u2" if header.depth > 8 else "u1"
    assert hashlib.sha256(pixels.astype(kind).tobytes()).hexdigest() == GOLDEN[name]["pixels_sha256"]


@pytest.mark.parametrize("name", GOLDEN)
def test_pictures_are_what_was_encoded(codec: Codec, name: str) -> None:
    picture, quality = pictures()[name]
    decoded, _ = codec.decode_picture((FOLDER / f"{name}.lci").read_bytes())
    assert (decoded.channels, decoded.bit_depth) == (picture.channels, picture.bit_depth)
    visible = np.ones((picture.height, picture.width), bool)
    if picture.alpha is not None:
        assert decoded.alpha is not None
        assert np.array_equal(decoded.alpha, picture.alpha)
        visible = picture.alpha > 0
    scale = 255 / picture.peak
    assert psnr(scale * picture.pixels[visible], scale * decoded.pixels[visible]) > (
        28 if quality > 50 else 22
    )
