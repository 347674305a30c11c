from __future__ import annotations

import io

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from latentcodec.codec.alpha import fill_transparent, pack_alpha, unpack_alpha
from latentcodec.errors import InvalidArgument, MalformedFile

NONE, SUB, UP = 0, 1, 2


def disc(size: int = 128) -> np.ndarray:
    """A disc with a soft edge."""
    y, x = np.mgrid[:size, :size] - size / 2 + 0.5
    return np.clip((size / 3 - np.hypot(x, y)) * 20 + 128, 0, 255).astype(np.uint8)


def unfilter_slowly(rows: np.ndarray) -> np.ndarray:
    """The filters as docs and PNG define them, sample by sample."""
    height, width = rows.shape[0], rows.shape[1] - 1
    plane = np.zeros((height, width), np.uint8)
    for y in range(height):
        for x in range(width):
            left = int(plane[y, x - 1]) if x else 0
            above = int(plane[y - 1, x]) if y else 0
            before = {NONE: 0, SUB: left, UP: above}[int(rows[y, 0])]
            plane[y, x] = (int(rows[y, 1 + x]) + before) % 256
    return plane


def frame(data: bytes, **options: bool) -> bytes:
    return zstandard.ZstdCompressor(**options).compress(data)


@given(arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_every_plane_survives(plane: np.ndarray) -> None:
    assert np.array_equal(unpack_alpha(pack_alpha(plane), *plane.shape), plane)


@given(arrays(np.uint8, (7, 5)), st.lists(st.sampled_from([NONE, SUB, UP]), min_size=7, max_size=7))
def test_every_mixture_of_filters_is_undone_as_defined(rows: np.ndarray, kinds: list[int]) -> None:
    rows[:, 0] = kinds
    assert np.array_equal(unpack_alpha(frame(rows.tobytes()), 7, 4), unfilter_slowly(rows))


def test_masks_are_small() -> None:
    mask = disc(512)
    packed = pack_alpha(mask)
    png = io.BytesIO()
    Image.fromarray(mask).save(png, "PNG", optimize=True)
    assert np.array_equal(unpack_alpha(packed, 512, 512), mask)
    assert len(packed) < len(png.getvalue())
    assert len(pack_alpha(np.zeros((1024, 1024), np.uint8))) < 80


def test_a_long_thin_plane_takes_no_loop_over_rows() -> None:
    plane = np.arange(1 << 20, dtype=np.uint8)[:, None]  # would take seconds, row by row
    assert np.array_equal(unpack_alpha(pack_alpha(plane), 1 << 20, 1), plane)


def test_a_plane_that_is_no_view_of_whole_memory() -> None:
    plane = disc()[::2, ::-3]
    assert np.array_equal(unpack_alpha(pack_alpha(plane), *plane.shape), plane)


@pytest.mark.parametrize("bits", [9, 12, 16])
def test_deep_alpha_is_exact(bits: int) -> None:
    y, x = np.mgrid[:37, :53]
    peak = (1 << bits) - 1
    for plane in ((x * y * 31) % (peak + 1), np.where(x > y, peak, 0), x * peak // 52):
        alpha = plane.astype(np.uint16)
        data = pack_alpha(alpha)
        back = unpack_alpha(data, 37, 53, bits)
        assert back.dtype == np.uint16
        assert np.array_equal(back, alpha)
    beyond = pack_alpha(np.full((1, 1), peak + 1 if bits < 16 else 1, np.uint16))
    if bits < 16:
        with pytest.raises(MalformedFile, match=f"{peak + 1} is no number of {bits} bits"):
            unpack_alpha(beyond, 1, 1, bits)
    with pytest.raises(MalformedFile, match="states"):
        unpack_alpha(beyond, 1, 1)  # of 8 bits it would be one row


@pytest.mark.parametrize(
    "array", [np.zeros((0, 3), np.uint8), np.zeros((2, 2), np.int16), np.zeros((2, 2, 1), np.uint8)]
)
def test_what_is_no_plane_is_refused(array: np.ndarray) -> None:
    with pytest.raises(InvalidArgument, match="uint8 or uint16 array"):
        pack_alpha(array)


@pytest.mark.parametrize(("height", "width"), [(0, 1), (1, 0), (-1, 5)])
def test_an_empty_plane_cannot_be_asked_for(height: int, width: int) -> None:
    with pytest.raises(InvalidArgument, match="at least one pixel"):
        unpack_alpha(b"", height, width)


ROWS = bytes([NONE, 1, 2, SUB, 3, 4])  # 2 rows of 2 pixels


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"", "frame"),
        (b"not zstandard", "frame"),
        (frame(ROWS)[:-1], "frame"),
        (frame(ROWS) + b"\0", "frame"),
        (frame(ROWS) + frame(ROWS), "frame"),
        (frame(ROWS[:-1]), "states 5 bytes, 2x2 pixels take 6"),
        (frame(ROWS + b"\0"), "states 7 bytes"),
        (frame(ROWS, write_content_size=False), "does not state its size"),
        (frame(bytes(1 << 24)), "states 16777216 bytes"),
        (frame(bytes([3]) + ROWS[1:]), "row 0 has filter 3"),
        (frame(ROWS[:3] + bytes([255]) + ROWS[4:]), "row 1 has filter 255"),
    ],
)
def test_damaged_payloads(payload: bytes, message: str) -> None:
    with pytest.raises(MalformedFile, match=message):
        unpack_alpha(payload, 2, 2)


def test_a_frame_that_lies_about_its_size_allocates_nothing() -> None:
    # Single segment, 8-byte content size: 2^60 bytes claimed, one raw empty last block.
    bomb = b"\x28\xb5\x2f\xfd\xe0" + (1 << 60).to_bytes(8, "little") + b"\x01\x00\x00"
    assert zstandard.frame_content_size(bomb) == 1 << 60
    with pytest.raises(MalformedFile, match="states 1152921504606846976 bytes"):
        unpack_alpha(bomb, 64, 64)


@given(st.data())
def test_any_damage_is_an_error_of_ours_or_a_plane(data: st.DataObject) -> None:
    payload = bytearray(pack_alpha(disc(24)))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        plane = unpack_alpha(bytes(payload), 24, 24)
    except MalformedFile:
        return
    assert plane.shape == (24, 24)
    assert plane.dtype == np.uint8


def noisy_picture(height: int, width: int) -> np.ndarray:
    smooth = np.linspace(40, 200, width)[None, :, None] + np.zeros((height, 1, 3))
    noise = np.random.default_rng(5).normal(0, 20, (height, width, 3))
    return np.clip(smooth + noise, 0, 255).astype(np.uint8)


def test_fill_keeps_what_is_visible() -> None:
    pixels, alpha = noisy_picture(128, 128), disc()
    before = pixels.copy()
    filled = fill_transparent(pixels, alpha)
    assert np.array_equal(pixels, before)
    assert np.array_equal(filled[alpha > 0], pixels[alpha > 0])
    assert filled.dtype == np.uint8


def test_fill_is_the_mean_of_the_smallest_block_with_anything_visible() -> None:
    pixels, alpha = np.zeros((32, 32, 3), np.uint8), np.zeros((32, 32), np.uint8)
    pixels[0, 0], pixels[0, 1], pixels[20, 20] = (10, 20, 30), (20, 40, 60), (200, 100, 50)
    alpha[0, 0], alpha[0, 1], alpha[20, 20] = 255, 1, 7
    pixels[5, 5] = 99  # hidden: counts for nothing
    filled = fill_transparent(pixels, alpha)
    assert filled[7, 7].tolist() == filled[5, 5].tolist() == [15, 30, 45]  # its own 8x8 block
    assert filled[15, 15].tolist() == [15, 30, 45]  # its 16x16 block
    assert filled[20, 31].tolist() == [200, 100, 50]
    assert filled[0, 31].tolist() == [77, 53, 47]  # all 32x32: (10+20+200)/3 ...


def test_fill_codes_better_than_black_or_one_colour() -> None:
    pixels, alpha = noisy_picture(128, 128), disc()
    one = pixels.copy()
    one[alpha == 0] = pixels[alpha > 0].mean(axis=0)

    def coded(picture: np.ndarray) -> int:
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, "JPEG", quality=75)
        return stream.tell()

    filled = coded(fill_transparent(pixels, alpha))
    assert filled < coded(one)
    assert filled < coded(pixels * (alpha > 0)[..., None])


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (17, 3), (8, 8), (33, 65)])
def test_fill_at_any_size(size: tuple[int, int]) -> None:
    pixels = noisy_picture(*size)
    assert fill_transparent(pixels, np.full(size, 255, np.uint8)) is pixels
    assert (fill_transparent(pixels, np.zeros(size, np.uint8)) == 128).all()
    alpha = np.zeros(size, np.uint8)
    alpha[-1, -1] = 1
    assert (fill_transparent(pixels, alpha) == pixels[-1, -1]).all()


def test_fill_wants_planes_of_one_size() -> None:
    with pytest.raises(InvalidArgument, match="differ in size"):
        fill_transparent(noisy_picture(4, 4), np.zeros((4, 5), np.uint8))
