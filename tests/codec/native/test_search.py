"""The rate-distortion search: bits and error fall, and what is coded is what was found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from latentcodec.codec.native import distortion, encoder, search
from latentcodec.codec.native.coder import NativeCodec, step_targets
from latentcodec.codec.native.decoder import decode_file
from latentcodec.codec.native.distortion import Slopes, measure
from latentcodec.codec.native.encoder import NativeEncoder
from latentcodec.codec.native.tile_search import TileSearch, search_network
from latentcodec.codec.planes import LatentBox, empty_plane, with_halo
from latentcodec.container.chunks import DEFAULT_LIMITS
from latentcodec.container.file import unpack
from latentcodec.nn import device, integer
from latentcodec.nn.device import full_precision
from latentcodec.nn.exact.numpy_engine import NumpyEngine
from latentcodec.nn.layers import lambda_of_level
from latentcodec.nn.native import transform
from latentcodec.nn.native.config import FRACTION
from latentcodec.nn.native.entropy_model import channel_order
from latentcodec.nn.native.integer_model import Ints
from latentcodec.picture.picture import Picture, Pixels, from_array
from latentcodec.rans.tables import ESCAPE_BITS
from tests.conftest import native_codec, photograph

LEVEL = 2400


def decoded(codec: NativeCodec, data: bytes) -> Picture:
    return decode_file(codec, unpack(data), DEFAULT_LIMITS, None)[0]


def cost(picture: Picture, data: bytes, shown: Pixels, level: int) -> float:
    """Bits + lambda x distortion of a whole file."""
    x, y = (
        torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255 for pixels in (picture.pixels.copy(), shown)
    )
    cells = distortion._distortion(x, y, torch.ones_like(x[:, :1]))
    weight = float(lambda_of_level(torch.tensor(float(level))))
    return 8 * len(data) + weight * distortion.CELL**2 * float(cells.sum())


SLOW = pytest.mark.slow
PHOTOGRAPHS = ("coffee", "astronaut", "chelsea")


@pytest.mark.parametrize(
    ("level", "names"),
    [
        (1200, PHOTOGRAPHS[:1]),
        *(pytest.param(level, PHOTOGRAPHS, marks=SLOW) for level in (300, 1200, LEVEL, 3400)),
    ],
)
def test_more_effort_costs_less(native: NativeCodec, level: int, names: tuple[str, ...]) -> None:
    totals = [0.0] * 4
    for name in names:
        picture = from_array(photograph(name, 192, 128))
        costs = []
        for effort in (1, 4, 5, 7):
            data = NativeEncoder(native, picture, effort=effort).encode(level).data
            costs.append(cost(picture, data, decoded(native, data).pixels, level))
        assert max(costs[1:]) < 1.003 * costs[0]  # what is measured is not yet rounded
        if level >= 1200:  # so few bits as at 300 are known to a percent
            assert costs[3] < 0.99 * costs[0]
        totals = [total + one for total, one in zip(totals, costs, strict=True)]
    if level >= 1200:
        assert totals[2] < totals[0]
        assert totals[3] < 0.985 * totals[0]


def test_low_efforts_are_plain_rounding(native: NativeCodec) -> None:
    picture = from_array(photograph(width=96, height=64))
    files = {NativeEncoder(native, picture, effort=effort).encode(LEVEL).data for effort in (1, 2, 3)}
    assert len(files) == 1


def test_a_search_is_repeatable(native: NativeCodec, one_thread: None) -> None:
    picture = from_array(photograph(width=96, height=64))
    first, second = (NativeEncoder(native, picture, effort=6).encode(LEVEL).data for _ in range(2))
    assert first == second


@pytest.mark.usefixtures("small_tiles")
def test_tiles_are_searched_in_their_surroundings(
    native: NativeCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder, "default_tile_size", lambda width, height: 64)
    picture = from_array(photograph("coffee", 120, 60))
    plain, searched = (NativeEncoder(native, picture, effort=effort).encode(LEVEL) for effort in (1, 6))
    assert len(searched.file.tiles) > 1
    costs = [cost(picture, e.data, decoded(native, e.data).pixels, LEVEL) for e in (plain, searched)]
    assert costs[1] < costs[0]


def test_gray_and_transparent_pixels(native: NativeCodec) -> None:
    pixels = photograph("chelsea", 96, 64)
    gray = from_array(pixels[..., 1])
    data = [NativeEncoder(native, gray, effort=effort).encode(LEVEL).data for effort in (1, 6)]
    costs = [cost(gray, each, decoded(native, each).pixels, LEVEL) for each in data]
    assert costs[1] < costs[0]

    alpha = np.full((64, 96, 1), 255, np.uint8)
    alpha[:, 48:] = 0
    hidden = from_array(np.concatenate([pixels, alpha], 2))
    weight = search_of(native, hidden)._counted_pixels(2, 0, 8, 8)[3]
    assert weight[:, :32].all()
    assert not weight[:, 32:].any()
    data = NativeEncoder(native, hidden, effort=6).encode(LEVEL).data
    assert decoded(native, data).alpha is not None


def search_of(codec: NativeCodec, picture: Picture) -> TileSearch:
    """The search of a picture whose latents are not known yet."""
    padded = NativeEncoder(codec, picture)._padded
    plane = empty_plane(codec.weights.config.transform.latents, picture.width, picture.height)
    return TileSearch(codec, picture, padded, plane)


def test_pixels_beyond_the_picture_do_not_count(native: NativeCodec) -> None:
    samples = search_of(native, from_array(photograph(width=20, height=11)))._counted_pixels(1, 0, 3, 2)
    assert samples.shape == (4, 16, 16)
    assert (samples[3] > 0).sum() == 11 * 12


def test_the_network_with_gradients_is_made_once(native: NativeCodec) -> None:
    network = search_network(native)
    assert search_network(native) is network
    assert search_network(native_codec(native.weights, NumpyEngine())) is network
    other = native_codec(replace(native.weights), NumpyEngine())
    assert search_network(other) is not network


def test_nothing_better_leaves_the_tile(native: NativeCodec) -> None:
    pixels = photograph(width=64, height=64)
    y = native.analyse(pixels, LEVEL)
    tile = native.quantise(step_targets(y), native.hyperlatents(y, LEVEL), LEVEL, 8, 8)
    asked = []

    def ever_worse(latents: Ints, gradients: bool) -> Slopes:
        asked.append(gradients)
        worse = torch.full((4, 4), 1e6 * len(asked))
        return Slopes(worse, (torch.full(latents.shape, 1e3),) * 2 if gradients else ())

    found = search.search(native, search_network(native), tile, LEVEL, ever_worse, 3)
    assert np.array_equal(found.latents, tile.latents)
    assert asked == [True, *2 * (False, True), False, False]


def test_cells_that_got_cheaper_alone_but_dearer_together_leave_the_tile(native: NativeCodec) -> None:
    """What is measured of the first attempt is better everywhere, and of its mix worse."""
    pixels = photograph(width=64, height=64)
    y = native.analyse(pixels, LEVEL)
    tile = native.quantise(step_targets(y), native.hyperlatents(y, LEVEL), LEVEL, 8, 8)
    distortions = iter([1e6, 1e5, 2e6])

    def treacherous(latents: Ints, gradients: bool) -> Slopes:
        slopes = (torch.full(latents.shape, 1e3),) * 2 if gradients else ()
        return Slopes(torch.full((4, 4), next(distortions)), slopes)

    assert search.search(native, search_network(native), tile, LEVEL, treacherous, 1) is tile


def test_what_is_found_is_what_is_coded(native: NativeCodec) -> None:
    pixels = photograph(width=64, height=64)
    y = native.analyse(pixels, LEVEL)
    tile = native.quantise(step_targets(y), native.hyperlatents(y, LEVEL), LEVEL, 8, 8)
    again = native.quantise([step.values for step in tile.steps], tile.z, LEVEL, 8, 8)
    assert np.array_equal(again.latents, tile.latents)
    coded = native.code(tile, LEVEL)
    back = native.decode_tile(coded.stream, coded.digest, LEVEL, 8, 8)
    assert np.array_equal(back.latents, tile.latents)


def test_costs_are_the_tables(native: NativeCodec) -> None:
    costs, middle = search._costs(native, torch.device("cpu"))
    tables = native.tables.tables
    assert not costs[0].any()  # codes nothing
    for row in (1, 17, 63):
        size, offset = int(tables.size[row]), int(tables.offset[row])
        frequencies = np.diff(tables.cumulative[row, : size + 1])
        for value in (0, -1, offset, -offset):
            bits = float(costs[row, middle + value])
            assert bits == pytest.approx(16 - np.log2(frequencies[offset + value]), abs=1e-4)
        escape = 16 - np.log2(frequencies[-1]) + ESCAPE_BITS
        assert costs[row, middle + offset + 1] == pytest.approx(escape, abs=1e-4)


def test_bits_are_those_of_the_stream(native: NativeCodec) -> None:
    pixels = photograph("coffee", 128, 128)
    y = native.analyse(pixels, LEVEL)
    tile = native.quantise(step_targets(y), native.hyperlatents(y, LEVEL), LEVEL, 16, 16)
    costs, middle = search._costs(native, torch.device("cpu"))
    bits = sum(float(costs[step.rows, step.residual + middle].sum()) for step in tile.steps)
    rows = native.integer.hyper_rows(LEVEL, *tile.z.shape[1:])
    bits += float(costs[rows.copy(), tile.z + middle].sum())
    assert bits == pytest.approx(native.code(tile, LEVEL).bits, rel=0.01)


def slopes_of(native: NativeCodec, pixels: Pixels, latents: Ints, box: LatentBox) -> Slopes:
    """Of a piece of a picture's plane, with its halo."""
    made = search_of(native, from_array(pixels))
    x0, y0, x1, y1 = with_halo(box, search.HALO, latents.shape[2], latents.shape[1])
    core = slice(box[1] - y0, box[3] - y0), slice(box[0] - x0, box[2] - x0)
    samples = made._counted_pixels(x0, y0, x1, y1)
    piece = torch.from_numpy(latents[:, y0:y1, x0:x1])
    network = search_network(native)
    return measure(network, piece, LEVEL, samples, core, gray=False, gradients=True)


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """In float32, whatever the processor multiplies besides."""
    monkeypatch.setattr(distortion, "fast_precision", full_precision)


@pytest.fixture
def unrounded(exact: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network as its gradients take it to be: what rounds in it would hide small differences."""
    for module in (integer, transform):
        monkeypatch.setattr(module, "round_half_up", lambda values: values)


def test_slopes_and_curvature(native: NativeCodec, unrounded: None) -> None:
    """Gradients against differences; the curvature of the linear path is of the size of the measured one."""
    pixels = photograph("coffee", 96, 96)
    y = native.analyse(pixels, LEVEL)
    tile = native.quantise(step_targets(y), native.hyperlatents(y, LEVEL), LEVEL, 12, 12)

    def at(latents: Ints) -> Slopes:
        return slopes_of(native, pixels, latents, (0, 0, 12, 12))

    linear, logarithmic = at(tile.latents).gradients
    curvature = search._curvature(search_network(native), LEVEL)[torch.argsort(channel_order(112)), 0]
    ratios = []
    for channel in (0, 1, 2, 5, 9, 64):
        one = np.zeros_like(tile.latents)
        one[channel, 6, 6] = 1  # a sixteenth of a step: over a wider one the branch's bends show
        here = float(tile.latents[channel, 6, 6]) / FRACTION
        slope = float(linear[channel, 6, 6] + logarithmic[channel, 6, 6] / (1 + abs(here)))
        rise = float((at(tile.latents + one).distortion - at(tile.latents - one).distortion).sum())
        difference = FRACTION / 2 * rise
        assert difference == pytest.approx(slope, abs=0.05 * float(curvature[channel]))
        whole = FRACTION * one
        up, middle, down = (float(at(tile.latents + sign * whole).distortion.sum()) for sign in (1, 0, -1))
        ratios.append((up - 2 * middle + down) / float(curvature[channel]))
    assert 0.3 < np.median(ratios) < 1.5


def test_a_halo_makes_a_core_s_slopes(native: NativeCodec, unrounded: None) -> None:
    pixels = photograph("coffee", 256, 128)
    y = native.analyse(pixels, LEVEL)
    tile = native.quantise(step_targets(y), native.hyperlatents(y, LEVEL), LEVEL, 16, 32)
    whole = slopes_of(native, pixels, tile.latents, (0, 0, 32, 16))
    for x in (0, 16):
        part = slopes_of(native, pixels, tile.latents, (x, 0, x + 16, 16))
        assert torch.allclose(part.distortion, whole.distortion[:, x // 2 : x // 2 + 8], rtol=0.1)
        for ours, theirs in zip(part.gradients, whole.gradients, strict=True):
            expected = theirs[:, :, x : x + 16]
            assert (ours - expected).norm() < 0.05 * expected.norm()


def test_rounding_leaves_slopes_what_they_are(
    native: NativeCodec, exact: None, request: pytest.FixtureRequest
) -> None:
    """Straight through: where activations round changes what is measured, and not where it leads."""
    pixels = photograph("coffee", 96, 96)
    y = native.analyse(pixels, LEVEL)
    tile = native.quantise(step_targets(y), native.hyperlatents(y, LEVEL), LEVEL, 12, 12)
    rounded = slopes_of(native, pixels, tile.latents, (0, 0, 12, 12))
    request.getfixturevalue("unrounded")
    smooth = slopes_of(native, pixels, tile.latents, (0, 0, 12, 12))
    assert (rounded.distortion - smooth.distortion).norm() < 0.05 * smooth.distortion.norm()
    for ours, theirs in zip(rounded.gradients, smooth.gradients, strict=True):
        alike = float((ours * theirs).sum() / (ours.norm() * theirs.norm()))
        assert 0.8 < alike < 0.9999


def test_estimates_in_bfloat16_are_close(native: NativeCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums of eight bits in an integer network: what is measured hardly changes, nor where it leads."""
    pixels = photograph("coffee", 96, 96)
    y = native.analyse(pixels, LEVEL)
    tile = native.quantise(step_targets(y), native.hyperlatents(y, LEVEL), LEVEL, 12, 12)
    monkeypatch.setattr(device, "_cpu_multiplies_bfloat16", lambda: True)
    fast = slopes_of(native, pixels, tile.latents, (0, 0, 12, 12))
    monkeypatch.setattr(distortion, "fast_precision", full_precision)
    exact = slopes_of(native, pixels, tile.latents, (0, 0, 12, 12))
    assert 0 < (fast.distortion - exact.distortion).norm() < 0.02 * exact.distortion.norm()
    for ours, theirs in zip(fast.gradients, exact.gradients, strict=True):
        assert float((ours * theirs).sum() / (ours.norm() * theirs.norm())) > 0.9
