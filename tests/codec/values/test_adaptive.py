"""The adaptive context model: exact, the same for both sides, and better than a static coder."""

from __future__ import annotations

from zlib import crc32

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentcodec.codec.values.adaptive import MAX_GROUPS, PHASES, code_values
from latentcodec.codec.values.adaptive_tables import shipped_tables
from latentcodec.rans.coder import Decoder, Encoder
from tests.latents_reference import walk

Ints = npt.NDArray[np.int64]


def shape_of(values: Ints) -> tuple[int, int, int]:
    channels, height, width = values.shape
    return channels, height, width


def encode(values: Ints) -> tuple[bytes, int, int]:
    """Stream, digest, and CRC-32 of all rows and centres."""
    tables = shipped_tables()
    encoder = Encoder(tables.tables)
    flat = values.reshape(len(values), -1).T
    seen = [0]

    def code(members: slice, places: Ints, centre: Ints, sign: Ints, rows: Ints) -> Ints:
        assert rows.min() >= 0
        assert rows.max() < len(tables.tables.size)
        seen[0] = crc32(np.stack([centre, sign, rows]).astype("<i4").tobytes(), seen[0])
        own = flat[places, members]
        encoder.put(((own - centre) * sign).ravel(), rows.ravel())
        return own

    assert (code_values(*shape_of(values), tables.thresholds, code) == values).all()
    return encoder.finish(), encoder.digest, seen[0]


def decode(stream: bytes, channels: int, height: int, width: int) -> tuple[Ints, int]:
    tables = shipped_tables()
    decoder = Decoder(stream, tables.tables)

    def code(members: slice, places: Ints, centre: Ints, sign: Ints, rows: Ints) -> Ints:
        return centre + sign * decoder.take(rows.ravel()).reshape(rows.shape)

    values = code_values(channels, height, width, tables.thresholds, code)
    decoder.finish()
    return values, decoder.digest


def textured(channels: int, height: int, width: int, scale: float, seed: int = 1) -> Ints:
    """Values with neighbours and channels that resemble one another, busy in one half."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(channels, height + 2, width + 2))
    smooth = np.zeros((channels, height, width))
    for dy, dx in np.ndindex(3, 3):
        smooth += noise[:, dy : dy + height, dx : dx + width] / 3
    smooth[1:] += 0.5 * smooth[:1]
    smooth[:, :, : width // 2] *= 0.3
    return np.rint(scale * smooth).astype(np.int64)


@settings(deadline=None, max_examples=25)
@given(
    st.integers(1, 20),
    st.integers(1, 20),
    st.integers(1, 20),
    st.sampled_from([0.2, 3.0, 300.0, 20000.0]),
    st.integers(0, 99),
)
def test_round_trip(channels: int, height: int, width: int, scale: float, seed: int) -> None:
    values = textured(channels, height, width, scale, seed).clip(-32767, 32767)
    stream, digest, _ = encode(values)
    decoded, found = decode(stream, channels, height, width)
    assert (decoded == values).all()
    assert found == digest


@pytest.mark.parametrize("extreme", [32767, -32767])
def test_extremes_overflow_nothing(extreme: int) -> None:
    values = np.full((9, 24, 24), extreme, np.int64)
    values[:, ::2] *= -1
    stream, _, _ = encode(values)
    assert (decode(stream, *shape_of(values))[0] == values).all()


def test_the_integers_are_those_of_every_machine() -> None:
    # Remade only together with the tables' number: files depend on it.
    stream, digest, contexts = encode(textured(2 * MAX_GROUPS + 1, 33, 41, 2.0))
    assert (len(stream), digest, contexts) == KNOWN_ANSWER


def test_it_saves_what_neighbours_and_channels_tell() -> None:
    values = textured(16, 64, 64, 4.0)
    bits = 0.0
    for channel in values:
        _, counts = np.unique(channel, return_counts=True)
        bits -= float((counts * np.log2(counts / counts.sum())).sum())
    assert len(encode(values)[0]) < 0.85 * bits / 8


def test_constant_latents_cost_next_to_nothing() -> None:
    assert len(encode(np.zeros((32, 64, 64), np.int64))[0]) < 400


def test_rows_have_a_phase_each() -> None:
    assert len(shipped_tables().tables.size) % PHASES == 0


@pytest.mark.parametrize(("channels", "height", "width"), [(3, 21, 18), (19, 9, 11), (1, 2, 30)])
@pytest.mark.parametrize("scale", [1.5, 4000.0])
def test_it_does_what_the_text_says(channels: int, height: int, width: int, scale: float) -> None:
    values = textured(channels, height, width, scale).clip(-32767, 32767)
    flat = values.reshape(channels, -1).T
    thresholds = shipped_tables().thresholds
    coded: list[tuple[int, int]] = []

    def code(members: slice, places: Ints, centre: Ints, sign: Ints, rows: Ints) -> Ints:
        own = flat[places, members]
        coded.extend(zip(rows.ravel().tolist(), ((own - centre) * sign).ravel().tolist(), strict=True))
        return own

    code_values(channels, height, width, thresholds, code)
    rest = iter(coded)

    def symbol(row: int) -> int:
        ours, value = next(rest)
        assert ours == row
        return value

    assert walk(channels, height, width, thresholds.tolist(), symbol) == values.tolist()
    assert next(rest, None) is None


KNOWN_ANSWER = (5529, 2622988085, 4066372574)
