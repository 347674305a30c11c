"""Planes of deep samples: exact or within half a step, as specified, small where smooth, safe to read."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt
import pytest

from latentcodec.codec.values import interpolation
from latentcodec.codec.values.interpolation import Ints, pack_planes, unpack_planes
from latentcodec.errors import FormatError, MalformedFile, TruncatedFile
from tests import samples_reference
from tests.conftest import photograph

SHAPES = [(1, 1), (1, 2), (2, 1), (1, 9), (17, 1), (3, 5), (17, 33)]


def noise(shape: tuple[int, ...], bits: int, seed: int = 0) -> Ints:
    return np.random.default_rng(seed).integers(0, 1 << bits, shape).astype(np.int32)


def smooth(channels: int, height: int, width: int, bits: int = 16) -> Ints:
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 41 + c) * np.cos(y / 53) for c in range(channels)]
    return np.rint((np.stack(waves) + 1) / 2 * ((1 << bits) - 1)).astype(np.int32)


def deep_photograph(height: int, width: int) -> Ints:
    """Of 16 bits: a photograph at half its size, in linear light."""
    linear = (photograph(width=2 * width, height=2 * height) / 255.0) ** 2.2
    means = linear.reshape(height, 2, width, 2, 3).mean((1, 3)) ** (1 / 2.2)
    return np.ascontiguousarray(np.rint(means * 65535).astype(np.int32).transpose(2, 0, 1)[[1, 0, 2]])


@pytest.mark.parametrize("step", [1, 3, 257])
@pytest.mark.parametrize("bits", [9, 12, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_no_sample_is_off_by_more_than_half_a_step(channels: int, bits: int, step: int) -> None:
    for shape in SHAPES:
        for planes in (noise((channels, *shape), bits), smooth(channels, *shape, bits)):
            stream, decoded = pack_planes(planes, bits, step)
            assert np.abs(decoded - planes).max() <= step // 2
            assert np.array_equal(unpack_planes(stream, channels, *shape, bits, step, "tile"), decoded)


@pytest.mark.parametrize("kernel", ["auto", "off"])
def test_an_implementation_of_the_specification_finds_the_same(
    kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LATENTCODEC_KERNEL", kernel)
    for number, shape in enumerate([(1, 1), (1, 9), (7, 1), (2, 3), (11, 14)]):
        for bits, step in ((16, 1), (10, 1), (12, 7)):
            for planes in (
                noise((3, *shape), bits, number),
                smooth(3, *shape, bits),
                smooth(1, *shape, bits),
            ):
                stream, decoded = pack_planes(planes, bits, step)
                expected = samples_reference.decode(stream, len(planes), *shape, bits, step)
                assert np.array_equal(decoded, expected), (shape, bits, step)
    planes = deep_photograph(24, 31)
    stream, _ = pack_planes(planes, 16, 1)
    assert any(stream[6:8])  # shares
    assert np.array_equal(samples_reference.decode(stream, 3, 24, 31, 16, 1), planes)


def test_smooth_pictures_take_hardly_any_bytes() -> None:
    planes = smooth(3, 256, 256)
    stream, decoded = pack_planes(planes, 16, 33)
    assert len(stream) < 7000
    assert np.abs(decoded - planes).max() <= 16
    ramp = np.rint(np.tile(np.linspace(0, 65535, 512), (256, 1)))[None].astype(np.int32)
    assert len(pack_planes(ramp, 16, 9)[0]) < 200


def test_photographs_take_fewer_bytes_than_their_samples_have() -> None:
    planes = deep_photograph(128, 128)
    bits = 8 * len(pack_planes(planes, 16, 1)[0]) / planes.size
    assert bits < 12.5
    assert 8 * len(pack_planes(planes, 16, 257)[0]) / planes.size < bits - 7


def test_damaged_streams_are_refused_and_soon() -> None:
    planes = deep_photograph(32, 40)
    stream, _ = pack_planes(planes, 16, 1)
    random = np.random.default_rng(1)
    begun = time.perf_counter()
    found = 0
    for _ in range(40):
        broken = bytearray(stream)
        broken[int(random.integers(len(broken)))] ^= 1 << int(random.integers(8))
        try:
            found += np.array_equal(unpack_planes(bytes(broken), 3, 32, 40, 16, 1, "tile"), planes)
        except FormatError:
            continue
    assert not found
    assert time.perf_counter() - begun < 20
    for size in (0, 5, 7, 12, len(stream) // 2, len(stream) - 2):
        with pytest.raises((TruncatedFile, MalformedFile)):
            unpack_planes(stream[:size], 3, 32, 40, 16, 1, "tile")


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (b"\xff\xff\0\0\0\0\0\0", "1023 and 4 are the most"),
        (b"\0\0\0\0\0\0\0\5", "1023 and 4 are the most"),
        (b"\0\0\0\0\0\0\0", "the head of deep samples has 8"),
    ],
)
def test_heads_that_are_not_allowed(head: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        unpack_planes(head, 3, 4, 4, 10, 1, "tile 7")


class Scripted:
    """A decoder whose values are given."""

    def __init__(self, *values: int) -> None:
        self.values = list(values)

    def take(self, rows: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        return np.array([self.values.pop(0) if self.values else 0 for _ in rows], np.int32)

    def finish(self) -> None:
        """There is no stream."""


def test_values_and_low_bits_beyond_their_range(monkeypatch: pytest.MonkeyPatch) -> None:
    def decoded(*values: int) -> Ints:
        monkeypatch.setattr(interpolation, "Decoder", lambda data, tables: Scripted(*values))
        return unpack_planes(b"\0\2", 1, 1, 9, 10, 1, "tile 7")

    assert decoded(-500, 3)[0, 0, 8] == 12
    with pytest.raises(MalformedFile, match="tile 7: a value is beyond 1023"):
        decoded(1 << 20)
    # A value of 500 makes the next ones expected to be large: they have low bits.
    with pytest.raises(MalformedFile, match="tile 7: low bits"):
        decoded(500, 3, 1 << 12)
    with pytest.raises(MalformedFile, match="tile 7: low bits"):
        decoded(500, 3, -1)
