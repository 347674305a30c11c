"""The native model on one tile: what is encoded is decoded, and damage is noticed."""

from __future__ import annotations

from zlib import crc32

import numpy as np
import pytest
import torch

from latentcodec.codec.native.coder import HYPER_LIMIT, RESIDUAL_LIMIT, NativeCodec, step_targets
from latentcodec.codec.native.networks import NumpyNetworks
from latentcodec.errors import ChecksumMismatch, FormatError, MalformedFile, TruncatedFile
from latentcodec.nn.exact.choice import torch_engine
from latentcodec.nn.exact.numpy_engine import NumpyEngine
from latentcodec.nn.native.config import FRACTION, MEAN_LIMIT
from latentcodec.nn.native.entropy_model import take_step, to_cells
from latentcodec.weights.native import NativeWeights
from tests.conftest import native_codec, photograph, psnr
from tests.nn.exact.engine_cases import RIGHT


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (3, 3), (4, 5), (7, 9), (9, 13), (1, 40)])
@pytest.mark.parametrize("level", [0, 1300, 4000])
def test_tiles_of_any_size_come_back(native: NativeCodec, size: tuple[int, int], level: int) -> None:
    y = native.analyse(photograph("coffee", size[1] * 8, size[0] * 8), level)
    tile = native.encode_tile(y, level)
    decoded = native.decode_tile(tile.stream, tile.digest, level, *size)
    assert decoded.complete
    assert decoded.latents.shape == y.shape
    assert np.array_equal(decoded.latents, tile.latents)


def test_latents_are_within_half_a_step_of_what_was_coded(native: NativeCodec) -> None:
    y = native.analyse(photograph(width=96, height=64), 3900)
    tile = native.encode_tile(y, 3900)
    error = np.abs(tile.latents / FRACTION - y)
    # What is surely zero is not coded: its error is whatever its mean leaves.
    assert (error <= 0.5 + 1e-3).mean() > 0.9


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
    y = np.full((native.weights.config.transform.latents, 5, 6), fill, np.float32)
    y[:, 2, 3] *= -1
    for level in (0, 4000):
        tile = native.encode_tile(y, level)
        decoded = native.decode_tile(tile.stream, tile.digest, level, 5, 6)
        assert np.array_equal(decoded.latents, tile.latents)
        assert int(np.abs(tile.latents).max()) <= MEAN_LIMIT
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
        assert float(np.abs(y).max()) < MEAN_LIMIT / FRACTION
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
    y = np.arange(8 * 4 * 8, dtype=np.float32).reshape(8, 4, 8)
    targets = step_targets(y)
    assert len(targets) == 4
    assert np.array_equal(np.sort(np.concatenate(targets).reshape(-1)), y.reshape(-1))


@pytest.mark.parametrize("size", [(4, 8), (1, 1), (5, 3), (6, 10)])
def test_step_targets_are_those_of_training(size: tuple[int, int]) -> None:
    y = np.random.default_rng(1).normal(0, 3, (8, *size)).astype(np.float32)
    whole = np.pad(y, ((0, 0), (0, -size[0] % 4), (0, -size[1] % 4)))
    cells = to_cells(torch.from_numpy(whole)[None])
    for step, target in enumerate(step_targets(y)):
        assert np.array_equal(target, take_step(cells, step)[0].reshape(8, -1).numpy())


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
    assert np.array_equal(full.latents, tile.latents)


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
                assert int(np.abs(decoded.latents).max()) <= MEAN_LIMIT
    assert kinds <= {TruncatedFile, MalformedFile, ChecksumMismatch}
    assert kinds


def test_the_level_matters(native: NativeCodec) -> None:
    tile = native.encode_tile(native.analyse(photograph(width=64, height=64), 2500), 2500)
    with pytest.raises(FormatError):
        native.decode_tile(tile.stream, tile.digest, 2600, 8, 8)


@pytest.mark.parametrize("size", [(5, 7), (1, 1)])
def test_every_engine_codes_and_decodes_the_same(
    native: NativeCodec, weights: NativeWeights, size: tuple[int, int]
) -> None:
    """Of the same latents: the same bytes, and of these the same pixels."""
    engines = NumpyEngine(), *(torch_engine("cpu", int8) for int8 in (False, True)[: 1 + RIGHT])
    codecs = [native_codec(weights, engine) for engine in engines]
    for level in (0, 2345, 4000):
        y = native.analyse(photograph("coffee", size[1] * 8, size[0] * 8), level)
        z = native.hyperlatents(y, level)
        tiles = [codec.code(codec.quantise(step_targets(y), z, level, *size), level) for codec in codecs]
        assert len({(tile.stream, tile.digest) for tile in tiles}) == 1
        shown = native.synthesise(tiles[0].latents, level)
        for codec in codecs:
            back = codec.decode_tile(tiles[0].stream, tiles[0].digest, level, *size)
            assert np.array_equal(back.latents, tiles[0].latents)
            assert np.array_equal(codec.synthesise(back.latents, level), shown)


def test_an_engine_says_how_many_threads_are_worth_having(
    weights: NativeWeights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    engine = NumpyEngine()
    monkeypatch.setattr(engine, "serial", False)
    assert native_codec(weights, engine).threads == 3
    monkeypatch.setattr(engine, "serial", True)
    assert native_codec(weights, engine).threads == 1


def test_an_encoder_s_networks_are_made_when_they_are_needed(weights: NativeWeights) -> None:
    """Once, and never to decode."""
    made: list[NativeWeights] = []

    def make(weights: NativeWeights) -> NumpyNetworks:
        made.append(weights)
        return NumpyNetworks(weights, NumpyEngine())

    codec = NativeCodec(weights, NumpyEngine(), make)
    codec.synthesise(np.zeros((weights.config.transform.latents, 1, 2), np.int32), 100)
    assert made == []
    y = codec.analyse(photograph(width=16, height=16), 100)
    codec.hyperlatents(y, 100)
    assert made == [weights]
