"""The d chunk: its fields, their limits, and the errors in its bytes."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentcodec.container.autoencoder import MIN_DOWNSCALE_BITS
from latentcodec.container.chunks import DEFAULT_LIMITS, write_varint
from latentcodec.container.cleanup import (
    AMOUNTS,
    MAX_TILES,
    CleanupChunk,
    CleanupSteps,
    pack_error,
    unpack_error,
)
from latentcodec.container.header import MAX_SIDE
from latentcodec.diffusion.cleanup import Amount
from latentcodec.diffusion.presets import PRESETS
from latentcodec.diffusion.schedule import NoiseSchedule
from latentcodec.errors import InvalidArgument, LatentCodecError, MalformedFile
from tests.bounded import run_bounded

CHUNK = CleanupChunk(
    prediction="v_prediction",
    fingerprint=bytes(range(8)),
    name="sd15",
    steps=CleanupSteps(66, 40, 90),
    seed=300,
    prompt=(320, 1125),
    errors=(0, 208, 255, 1),
    amounts=(2, 1, 0, 2, 1),
)


@st.composite
def chunks(draw: st.DrawFn) -> CleanupChunk:
    matched = CleanupSteps(draw(st.integers(1, 50)), None, draw(st.integers(0, 100)))
    share = CleanupSteps(draw(st.integers(1, 1000)), draw(st.integers(0, 50)), 90)
    return CleanupChunk(
        prediction=draw(st.sampled_from(["epsilon", "v_prediction"])),
        fingerprint=draw(st.binary(min_size=8, max_size=8)),
        name=draw(st.text(st.characters(categories=("L", "N")), max_size=20)),
        steps=draw(st.sampled_from([matched, share])),
        seed=draw(st.integers(0, 2**32 - 1)),
        prompt=tuple(draw(st.lists(st.integers(0, 49405), max_size=75))),
        errors=tuple(draw(st.lists(st.integers(0, 255), min_size=1, max_size=40))),
        amounts=tuple(draw(st.lists(st.integers(0, 2), max_size=40))),
    )


@settings(deadline=None, max_examples=60)
@given(chunks())
def test_round_trip_and_every_truncation(chunk: CleanupChunk) -> None:
    payload = chunk.pack()
    if len(chunk.name.encode()) <= 64:
        assert CleanupChunk.unpack(payload) == chunk
    for length in range(len(payload)):
        with pytest.raises(MalformedFile, match="clean-up"):
            CleanupChunk.unpack(payload[:length])
    with pytest.raises(MalformedFile, match="fields end at"):
        CleanupChunk.unpack(payload + b"\0")


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=60))
def test_any_bytes_are_a_chunk_or_an_error(payload: bytes) -> None:
    try:
        chunk = CleanupChunk.unpack(b"\0" + payload)
    except LatentCodecError:
        return
    assert chunk is not None
    assert chunk.pack() == b"\0" + payload


def test_known_bytes() -> None:
    assert CHUNK.pack().hex() == "0001000102030405060704736431350142285aac0202c002e5080400d0ff01058601"


def test_another_method_is_ignored() -> None:
    assert CleanupChunk.unpack(b"\x01whatever") is None


@pytest.mark.parametrize(
    ("place", "byte", "complaint"),
    [
        (1, 2, "prediction 2"),
        (10, 65, "name length 65"),
        (11, 0xFF, "UTF-8"),
        (11, 0x1B, "control"),
        (15, 2, "mode 2"),
        (16, 0, "steps 0"),
        (18, 101, "eta 101"),
        (21, 76, "prompt length 76"),
        (26, 0, "channels 0"),
        (32, 0x87, "amount is 3"),
        (33, 5, "bits after the last"),
    ],
)
def test_what_is_not_allowed(place: int, byte: int, complaint: str) -> None:
    payload = bytearray(CHUNK.pack())
    payload[place] = byte
    with pytest.raises(MalformedFile, match=complaint):
        CleanupChunk.unpack(bytes(payload))


@pytest.mark.parametrize(
    "steps", [CleanupSteps(51, None, 0), CleanupSteps(1000, 51, 0), CleanupSteps(1001, 1, 0)]
)
def test_no_file_makes_a_decoder_run_many_steps(steps: CleanupSteps) -> None:
    with pytest.raises(MalformedFile, match="steps"):
        CleanupChunk.unpack(replace(CHUNK, steps=steps).pack())


def test_a_chunk_that_claims_tiles_it_has_not() -> None:
    payload = bytearray(CHUNK.pack())
    for claim, complaint in (
        (write_varint(MAX_TILES), "amounts ends at byte"),
        (write_varint(MAX_TILES + 1), f"tiles {MAX_TILES + 1} is outside 0..{MAX_TILES}"),
        (write_varint((1 << 32) - 1), "tiles 4294967295 is outside"),
    ):
        with pytest.raises(MalformedFile, match=complaint):
            CleanupChunk.unpack(bytes(payload[:-3]) + claim + bytes(payload[-2:]))


@pytest.mark.slow
def test_the_most_tiles_are_read_at_once_and_more_are_refused() -> None:
    """A chunk of 8 MB took 14 s and 0.8 GB."""
    setting = (
        "from dataclasses import replace\nfrom latentcodec.container.chunks import write_varint\n"
        "from latentcodec.container.cleanup import MAX_TILES, CleanupChunk\n"
        "from latentcodec.errors import MalformedFile\nfrom tests.container.test_cleanup import CHUNK\n"
        "most = replace(CHUNK, amounts=tuple(n % 3 for n in range(MAX_TILES)))\npayload = most.pack()\n"
        "more = replace(CHUNK, amounts=()).pack()[:-1] + write_varint(1 << 25) + bytes(1 << 23)\n"
    )
    code = (
        "assert CleanupChunk.unpack(payload) == most\ntry:\n    CleanupChunk.unpack(more)\n"
        "except MalformedFile as error:\n    print(error)\n"
    )
    told = run_bounded(setting, code, memory=32 << 20, seconds=1)
    assert told == f"clean-up: tiles {1 << 25} is outside 0..{MAX_TILES}\n"
    with pytest.raises(InvalidArgument, match=f"{MAX_TILES + 1} tiles; a file holds up to {MAX_TILES}"):
        replace(CHUNK, amounts=(0,) * (MAX_TILES + 1)).pack()


def test_no_picture_that_is_read_by_default_has_more_tiles() -> None:
    """Cores of 64 latents, of 4 pixels at least: the most where the picture is one row of them."""
    side = 64 << MIN_DOWNSCALE_BITS
    assert MAX_SIDE // side * -(-(DEFAULT_LIMITS.max_pixels // MAX_SIDE) // side) <= MAX_TILES


def test_errors_are_stored_within_three_per_cent() -> None:
    for error in (0.001, 0.03, 0.5, 1.0, 7.0):
        assert unpack_error(pack_error(error)) == pytest.approx(error, rel=2 ** (1 / 32) - 1 + 1e-9)
    assert (pack_error(0), pack_error(math.nan), unpack_error(0)) == (0, 0, 0.0)
    assert (pack_error(1e-9), pack_error(1e9)) == (1, 255)
    assert all(unpack_error(byte) < unpack_error(byte + 1) for byte in range(255))


def test_no_stored_error_is_above_the_highest_noise() -> None:
    assert unpack_error(255) < NoiseSchedule().most


def test_the_presets_are_stored_exactly() -> None:
    for preset in PRESETS.values():
        stored = CleanupSteps.of(preset.steps, preset.strength, preset.eta)
        assert stored.as_floats() == (preset.steps, preset.strength, preset.eta)
    with pytest.raises(InvalidArgument, match="eta"):
        CleanupSteps.of(3, None, 1.5)


def test_amounts_are_numbered_as_in_the_diffusion_core() -> None:
    assert tuple(amount.name.lower() for amount in Amount) == AMOUNTS
    assert [int(amount) for amount in Amount] == [0, 1, 2]


def test_what_a_chunk_cannot_hold() -> None:
    with pytest.raises(InvalidArgument, match="prediction 'sample'; a file holds epsilon or v_prediction"):
        replace(CHUNK, prediction="sample").pack()
    with pytest.raises(InvalidArgument, match="a fingerprint of 7 bytes"):
        replace(CHUNK, fingerprint=bytes(7)).pack()
    with pytest.raises(InvalidArgument, match="a printable name and 8 bytes"):
        replace(CHUNK, name="sd\n15").pack()


def test_a_long_prompt_and_a_long_name() -> None:
    with pytest.raises(InvalidArgument, match="76 tokens"):
        replace(CHUNK, prompt=(1,) * 76).pack()
    with pytest.raises(InvalidArgument, match="49405"):
        replace(CHUNK, prompt=(49406,)).pack()
    stored = CleanupChunk.unpack(replace(CHUNK, name="x" + "é" * 40).pack())
    assert stored is not None
    assert stored.name == "x" + "é" * 31
