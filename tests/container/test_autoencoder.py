"""The V chunk: its fields, their limits, and exact dequantisation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentcodec.codec.values import scalar
from latentcodec.container.autoencoder import KINDS, AutoencoderChunk, ScalarQuantiser
from latentcodec.errors import LimitExceeded, MalformedFile
from latentcodec.weights.checkpoints.families import AUTOENCODERS

CHUNK = AutoencoderChunk(
    "taef2", 4, 3, bytes(range(8)), "taef2", ScalarQuantiser(80, (0, 1, 2, 15), (0, -7, 7, 3))
)


@st.composite
def chunks(draw: st.DrawFn) -> AutoencoderChunk:
    bits = draw(st.integers(2, 5))
    latents = draw(st.integers(1, min(1 << 2 * bits, 64)))
    steps = ScalarQuantiser(
        draw(st.integers(0, 159)),
        tuple(draw(st.lists(st.integers(0, 15), min_size=latents, max_size=latents))),
        tuple(draw(st.lists(st.integers(-7, 7), min_size=latents, max_size=latents))),
    )
    name = draw(st.text(st.characters(categories=("L", "N")), max_size=20))
    kind, quantiser = draw(st.sampled_from(KINDS)), draw(st.sampled_from([steps, None]))
    prior = b""
    if quantiser is not None and draw(st.booleans()):
        quantiser, prior = replace(steps, offsets=(0,) * latents), draw(st.binary(min_size=8, max_size=8))
    fingerprint = draw(st.binary(min_size=8, max_size=8))
    return AutoencoderChunk(kind, latents, bits, fingerprint, name, quantiser, prior)


@settings(deadline=None)
@given(chunks())
def test_round_trip_and_every_truncation(chunk: AutoencoderChunk) -> None:
    payload = chunk.pack()
    if len(chunk.name.encode()) <= 64:
        assert AutoencoderChunk.unpack(payload) == chunk
    for length in range(len(payload)):
        with pytest.raises(MalformedFile, match="autoencoder"):
            AutoencoderChunk.unpack(payload[:length])
    with pytest.raises(MalformedFile, match="fields end at"):
        AutoencoderChunk.unpack(payload + b"\0")


def test_files_can_name_every_autoencoder_that_is_detected() -> None:
    assert set(AUTOENCODERS) <= set(KINDS)
    assert KINDS.index("taef2") == 5  # numbers stand in files
    assert KINDS.index("kl-x4") == 8
    assert KINDS.index("kl-flux") == 10


def test_known_bytes() -> None:
    assert CHUNK.pack().hex(" ") == "05 04 03 00 01 02 03 04 05 06 07 05 74 61 65 66 32 00 50 08 11 2f fb"


@pytest.mark.parametrize(
    ("place", "byte", "complaint"),
    [
        (0, 99, "kind 99"),
        (1, 0, "0 latent channels"),
        (1, 65, "65 latent channels"),
        (2, 1, "downscale"),
        (2, 6, "downscale"),
        (11, 65, "name of 65"),
        (12, 0xFF, "UTF-8"),
        (12, 0x1B, "control"),
        (17, 2, "all offsets are 0|prior's hash"),
        (17, 3, "quantiser 3"),
        (18, 160, "base step 160"),
        (19, 0x10, "offset is -8"),
    ],
)
def test_what_is_not_allowed(place: int, byte: int, complaint: str) -> None:
    payload = bytearray(CHUNK.pack())
    payload[place] = byte
    with pytest.raises(MalformedFile, match=complaint):
        AutoencoderChunk.unpack(bytes(payload))


def test_a_long_name_is_cut_between_letters() -> None:
    stored = AutoencoderChunk.unpack(replace(CHUNK, name="x" + "é" * 40).pack()).name
    assert stored == "x" + "é" * 31


def test_tiles_of_too_many_values() -> None:
    CHUNK.check_tile(1024, 2048)
    with pytest.raises(LimitExceeded, match="smaller tiles"):
        CHUNK.check_tile(1024, 2049)


def test_steps_are_integers_eight_an_octave() -> None:
    assert ScalarQuantiser(0, (0, 4, 8), (0, 0, 0)).steps() == (256, 512, 1024)
    assert ScalarQuantiser(1, (0,), (0,)).steps() == (279,)
    assert ScalarQuantiser(159, (15,), (0,)).steps() == (395 << 23,)


def test_dequantisation_is_exact_and_inverts_scaling() -> None:
    quantiser = ScalarQuantiser(159, (15, 0), (-7, 5))
    values = np.array([[[32767, -32767]], [[1, 0]]])
    latents = scalar.dequantise(quantiser, values)
    assert latents[0, 0, 0] == (8 * 32767 - 7) * (395 << 23) / 2**23
    assert np.array_equal(scalar.scale(quantiser, latents), values)
