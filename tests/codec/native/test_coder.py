"""The native model on one tile: what is encoded is decoded, and damage is noticed."""

from __future__ import annotations

from zlib import crc32

import numpy as np
import pytest
import torch

from latentcodec.codec.native.coder import HYPER_LIMIT, RESIDUAL_LIMIT, NativeCodec, step_targets
from latentcodec.errors import ChecksumMismatch, FormatError, MalformedFile, TruncatedFile
from latentcodec.nn.native.entropy_model import FRACTION, MEAN_LIMIT
from tests.conftest import photograph, psnr


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (3, 3), (4, 5), (7, 9), (9, 13), (1, 40)])
@pytest.mark.parametrize("level", [0, 1300, 4000])
def test_tiles_of_any_size_come_back(native: NativeCodec, size: tuple[int, int], level: int) -> None:
    y = native.analyse(photograph("coffee", size[1] * 8, size[0] * 8), level)
    tile = native.encode_tile(y, level)
    decoded = native.decode_tile(tile.stream, tile.digest, level, *size)
    assert decoded.complete
    assert decoded.latents.shape == y.shape
    assert torch.equal(decoded.latents, tile.latents)


def test_latents_are_within_half_a_step_of_what_was_coded(native: NativeCodec) -> None:
    y = native.analyse(photograph(width=96, height=64), 3900)
    tile = native.encode_tile(y, 3900)
    error = (tile.latents / FRACTION - y).abs()
    # What is surely zero is not coded: its error is whatever its mean leaves.
    assert (error <= 0.5 + 1e-3).float().mean() > 0.9


def test_a_stream_is_as_long_as_its_symbols_need(native: NativeCodec) -> None:
    for level in (0, 2400, 4000):
        tile = native.encode_tile(native.analyse(photograph(width=256, height=192), level), level)
        assert tile.bits / 8 <= len(tile.stream) <= 1.01 * tile.bits / 8 + 32


def test_the_digest_is_of_all_symbols_in_their_order(
    native: NativeCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    from latentcodec.codec.native import coder as module

    taken: list[bytes] = []

    class Noting(module.Decoder):
        def take(self, rows: object) -> np.ndarray:
            values = super().take(rows)  # type: ignore[arg-type]
            taken.append(values.astype("<i4").tobytes())
            return values

    monkeypatch.setattr(module, "Decoder", Noting)
    tile = native.encode_tile(native.analyse(photograph(width=64, height=40), 2000), 2000)
    native.decode_tile(tile.stream, tile.digest, 2000, 5, 8)
    assert len(taken) == 5 * 3  # blocks of patterns, values and others
    assert crc32(b"".join(taken)) == tile.digest


@pytest.mark.parametrize("fill", [0.0, 1e3, -1e3, 1e9, -1e9])
def test_absurd_latents_saturate(native: NativeCodec, fill: float) -> None:
    y = torch.full((native.weights.config.transform.latents, 5, 6), fill)
    y[:, 2, 3] *= -1
    for level in (0, 4000):
        tile = native.encode_tile(y, level)
        decoded = native.decode_tile(tile.stream, tile.digest, level, 5, 6)
        assert torch.equal(decoded.latents, tile.latents)
        assert int(tile.latents.abs().max()) <= MEAN_LIMIT
    assert HYPER_LIMIT < 1 << 20
    assert RESIDUAL_LIMIT < 1 << 20


def test_extreme_pictures_do_not_saturate(native: NativeCodec) -> None:
    """Black, white, pure colours and checkerboards stay inside the latents' range at the finest quality."""
    squares = np.indices((64, 64)).sum(0)
    pictures = [np.full((64, 64, 3), value, np.uint8) for value in (0, 255)]
    for period in (1, 2, 8):
        pictures.append(np.repeat(((squares // period % 2) * 255).astype(np.uint8)[..., None], 3, 2))
    for channel in range(3):
        pure = np.zeros((64, 64, 3), np.uint8)
        pure[..., channel] = 255
        pictures.append(pure)
    for pixels in pictures:
        y = native.analyse(pixels, 4000)
        assert float(y.abs().max()) < MEAN_LIMIT / FRACTION
        tile = native.encode_tile(y, 4000)
        if pixels is pictures[2]:
            continue  # what the model renders worst, see below
        assert psnr(pixels, native.synthesise(tile.latents, 4000)) > 15  # it is no photograph


def test_a_checkerboard_of_single_pixels(native: NativeCodec) -> None:
    squares = np.indices((64, 64)).sum(0) % 2 * 255
    pixels = np.repeat(squares.astype(np.uint8)[..., None], 3, 2)
    tile = native.encode_tile(native.analyse(pixels, 4000), 4000)
    assert psnr(pixels, native.synthesise(tile.latents, 4000)) > 15


def test_step_targets_hold_every_latent_once() -> None:
    y = torch.arange(8 * 4 * 8).view(8, 4, 8).float()
    targets = step_targets(y)
    assert len(targets) == 4
    assert torch.equal(torch.cat(targets).flatten().sort().values, y.flatten())


def test_another_digest_is_a_mismatch(native: NativeCodec) -> None:
    tile = native.encode_tile(native.analyse(photograph(width=48, height=48), 2000), 2000)
    with pytest.raises(ChecksumMismatch, match=f"tile 7.*{tile.digest:08x}"):
        native.decode_tile(tile.stream, tile.digest ^ 1, 2000, 6, 6, name="tile 7")


def test_cut_streams(native: NativeCodec) -> None:
    y = native.analyse(photograph(width=128, height=96), 2800)
    tile = native.encode_tile(y, 2800)
    whole = native.synthesise(tile.latents, 2800)
    scores = []
    for length in [0, 1, 3, 6, *range(10, len(tile.stream), len(tile.stream) // 6)]:
        cut = tile.stream[:length]
        with pytest.raises(TruncatedFile):
            native.decode_tile(cut, tile.digest, 2800, 12, 16)
        left = native.decode_tile(cut, tile.digest, 2800, 12, 16, partial=True)
        assert not left.complete
        scores.append(psnr(whole, native.synthesise(left.latents, 2800)))
    assert scores[-1] > scores[4] + 3 > scores[0]  # coarse data first: more bytes, more picture
    full = native.decode_tile(tile.stream, tile.digest, 2800, 12, 16, partial=True)
    assert full.complete
    assert torch.equal(full.latents, tile.latents)


def test_damaged_streams_are_errors_of_the_tree(native: NativeCodec) -> None:
    y = native.analyse(photograph(width=64, height=64), 2500)
    tile = native.encode_tile(y, 2500)
    random = np.random.default_rng(11)
    kinds: set[type[Exception]] = set()
    for _ in range(60):
        data = bytearray(tile.stream)
        for _ in range(int(random.integers(1, 4))):
            data[random.integers(len(data))] ^= 1 << random.integers(8)
        for partial in (False, True):
            try:
                decoded = native.decode_tile(bytes(data), tile.digest, 2500, 8, 8, partial=partial)
            except FormatError as error:
                kinds.add(type(error))
            else:
                assert partial or bytes(data) == tile.stream
                assert int(decoded.latents.abs().max()) <= MEAN_LIMIT
    assert kinds <= {TruncatedFile, MalformedFile, ChecksumMismatch}
    assert kinds


def test_the_level_matters(native: NativeCodec) -> None:
    tile = native.encode_tile(native.analyse(photograph(width=64, height=64), 2500), 2500)
    with pytest.raises(FormatError):
        native.decode_tile(tile.stream, tile.digest, 2600, 8, 8)
