"""The whole integer model: the same latents on all engines, in int64 and docs/model.md, whatever is set."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from typing import Any

import numpy as np
import pytest
import torch

from latentcodec.codec.native.coder import EncodedTile, Floats, NativeCodec, step_targets
from latentcodec.errors import FormatError, InvalidWeights
from latentcodec.nn.device import full_precision
from latentcodec.nn.exact.choice import torch_engine
from latentcodec.nn.exact.layer import IntegerLayer
from latentcodec.nn.exact.numpy_engine import NumpyEngine
from latentcodec.nn.knots import Integers
from latentcodec.nn.native.config import MEAN_LIMIT, ROWS
from latentcodec.nn.native.integer_model import OFFSET_LIMIT, Code, IntegerModel, Ints
from latentcodec.weights.native import NativeWeights
from tests import model_reference
from tests.conftest import native_codec, photograph
from tests.nn.exact.reference_engine import ReferenceEngine

CPU = torch.device("cpu")
SIZES = [(1, 1), (1, 2), (2, 1), (3, 5), (4, 4), (5, 7), (9, 13), (1, 13), (9, 1)]
LEVELS = [0, 333, 1500, 2750, 4000]


@pytest.fixture(scope="module")
def reference(weights: NativeWeights) -> IntegerModel[Any]:
    return weights.integer_model(ReferenceEngine())


@pytest.fixture(scope="module")
def models(weights: NativeWeights) -> list[IntegerModel[Any]]:
    return [weights.integer_model(engine) for engine in (NumpyEngine(), torch_engine("cpu", False))]


def random_code(seed: int, spread: float) -> Code:
    """Residuals as a file might hold: mostly small, some huge."""
    random = np.random.default_rng(seed)

    def code(step: int, means: Ints, rows: Ints) -> Ints:
        values = np.rint(random.standard_t(2, rows.shape) * spread).clip(-(1 << 20), 1 << 20)
        return values.astype(np.int32) * (rows > 0)

    return code


def random_z(model: IntegerModel[Any], size: tuple[int, int], seed: int, limit: int) -> Ints:
    shape = (model.config.hyper, -(-size[0] // 4), -(-size[1] // 4))
    return np.random.default_rng(seed).integers(-limit, limit + 1, shape).astype(np.int32)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("limit", "spread"), [(3, 0.5), (127, 40.0), (1 << 20, 1e5)])
def test_all_engines_give_the_latents_of_int64(
    models: list[IntegerModel[Any]],
    reference: IntegerModel[Any],
    size: tuple[int, int],
    limit: int,
    spread: float,
) -> None:
    for level in LEVELS[:: 2 if size == (9, 13) else 4]:
        z = random_z(reference, size, level, limit)
        expected = reference.latents(z, level, *size, random_code(7, spread))
        for model in models:
            found = model.latents(z, level, *size, random_code(7, spread))
            assert found.dtype == np.int32
            assert found.shape == (reference.config.latents, *size)
            assert np.abs(found).max() <= MEAN_LIMIT
            assert np.array_equal(found, expected)


def test_rows_are_of_the_tables_and_zero_outside_the_plane(native: NativeCodec) -> None:
    for height, width in SIZES:
        counts = 0

        def code(step: int, means: Ints, rows: Ints) -> Ints:
            nonlocal counts
            assert rows.dtype == means.dtype == np.int32
            assert int(rows.min()) >= 0
            assert int(rows.max()) < ROWS
            assert int(np.abs(means).max()) <= MEAN_LIMIT
            counts += int((rows > 0).sum())
            return np.zeros_like(rows)

        native.integer.latents(random_z(native.integer, (height, width), 1, 100), 4000, height, width, code)
        assert 0 < counts <= native.integer.config.latents * height * width


@pytest.fixture(scope="module")
def latent_planes(native: NativeCodec) -> dict[tuple[int, int], Floats]:
    """y of real pixels at a middling level, by size in latents."""
    pixels = photograph(width=13 * 8, height=9 * 8)
    return {
        size: native.analyse(pixels[: size[0] * 8, : size[1] * 8], 2500) for size in [(9, 13), (1, 1), (6, 3)]
    }


def test_streams_decode_as_the_specification_says(
    native: NativeCodec, weights: NativeWeights, latent_planes: dict[tuple[int, int], Floats]
) -> None:
    for size, y in latent_planes.items():
        for level in (0, 2500, 3999):
            tile = native.encode_tile(y, level)
            plane, digest = model_reference.decode_tile(weights, tile.stream, level, *size)
            assert digest == tile.digest
            assert np.array_equal(plane, tile.latents)
            decoded = native.decode_tile(tile.stream, tile.digest, level, *size)
            assert decoded.complete
            assert np.array_equal(decoded.latents, tile.latents)


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def precision(name: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def newer_precision() -> Iterator[None]:
    """PyTorch's newer settings; from then on reading the older ones is an error."""
    backends = (torch.backends.mkldnn.matmul, torch.backends.mkldnn.conv)
    for backend in backends:
        backend.fp32_precision = "bf16"
    try:
        yield
    finally:
        for backend in backends:
            backend.fp32_precision = "none"


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


HOSTILE: dict[str, list[Callable[[], object]]] = {
    "as it is": [nullcontext],
    "one thread": [lambda: threads(1)],
    "two threads": [lambda: threads(2)],
    "no oneDNN": [lambda: torch.backends.mkldnn.flags(enabled=False, allow_tf32=None)],
    "autocast": [lambda: torch.autocast("cpu", torch.bfloat16)],
    "float16 autocast": [lambda: torch.autocast("cpu", torch.float16)],
    "medium precision": [lambda: precision("medium")],
    "high precision": [lambda: precision("high")],
    "newer precision": [newer_precision],
    "float64": [lambda: default_dtype(torch.float64)],
    "float16": [lambda: default_dtype(torch.float16)],
    "gradients": [torch.enable_grad],
    "no gradients": [torch.no_grad],
    "inference": [torch.inference_mode],
    "deterministic": [deterministic],
    "other default device": [lambda: torch.device("meta")],
    "all at once": [
        lambda: threads(2),
        lambda: precision("medium"),
        lambda: default_dtype(torch.float64),
        lambda: torch.autocast("cpu", torch.bfloat16),
        torch.enable_grad,
    ],
}


def settings() -> list[object]:
    """What a caller can notice of the settings; "error" where PyTorch refuses to tell."""
    found: list[object] = [
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.is_autocast_enabled("cpu"),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
    ]
    for read in (
        torch.get_float32_matmul_precision,
        lambda: torch.backends.cuda.matmul.allow_tf32,
        lambda: torch.backends.cudnn.allow_tf32,
        lambda: torch.backends.mkldnn.matmul.fp32_precision,
        lambda: torch.backends.mkldnn.conv.fp32_precision,
        lambda: torch.backends.cuda.matmul.fp32_precision,
        lambda: torch.backends.cudnn.conv.fp32_precision,
    ):
        try:
            found.append(read())
        except RuntimeError:
            found.append("error")
    return found


@pytest.fixture(scope="module")
def undisturbed(native: NativeCodec, latent_planes: dict[tuple[int, int], Floats]) -> EncodedTile:
    return native.encode_tile(latent_planes[9, 13], 2500)


@pytest.fixture(scope="module")
def hyperlatents(native: NativeCodec, latent_planes: dict[tuple[int, int], Floats]) -> Ints:
    """Those of `undisturbed`."""
    return native.hyperlatents(latent_planes[9, 13], 2500)


@pytest.mark.parametrize("kind", HOSTILE)
def test_symbols_do_not_depend_on_settings_and_settings_come_back(
    native: NativeCodec,
    latent_planes: dict[tuple[int, int], Floats],
    undisturbed: EncodedTile,
    hyperlatents: Ints,
    kind: str,
) -> None:
    y = latent_planes[9, 13]
    with ExitStack() as stack:
        for setting in HOSTILE[kind]:
            stack.enter_context(setting())  # type: ignore[arg-type]
        before = settings()
        z = native.hyperlatents(y, 2500)
        encoded = native.code(native.quantise(step_targets(y), hyperlatents, 2500, 9, 13), 2500)
        decoded = native.decode_tile(undisturbed.stream, undisturbed.digest, 2500, 9, 13)
        with pytest.raises(FormatError):
            native.decode_tile(undisturbed.stream[:-40], undisturbed.digest, 2500, 9, 13)
        assert settings() == before
        assert encoded.stream == undisturbed.stream
        assert encoded.digest == undisturbed.digest
        assert np.array_equal(encoded.latents, undisturbed.latents)
        assert np.array_equal(decoded.latents, undisturbed.latents)
        # Floats, rounded: under other kernels the few that are near a half may fall to its other side.
        assert np.abs(z - hyperlatents).max() <= 1
        assert (z != hyperlatents).mean() < 0.01


def test_a_model_loaded_under_hostile_settings_is_the_same(
    weights: NativeWeights, undisturbed: EncodedTile, latent_planes: dict[tuple[int, int], Floats]
) -> None:
    pixels = photograph(width=64, height=64)
    expected = native_codec(weights)
    y = expected.analyse(pixels, 3000)
    with default_dtype(torch.float64), torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        other = native_codec(weights)
        assert np.array_equal(other.analyse(pixels, 3000), y)
    assert other.encode_tile(latent_planes[9, 13], 2500).stream == undisturbed.stream
    shown = expected.synthesise(undisturbed.latents, 2500)
    assert np.array_equal(other.synthesise(undisturbed.latents, 2500), shown)


def test_threads_of_the_caller_may_share_a_model(native: NativeCodec, undisturbed: EncodedTile) -> None:
    found: list[bool] = []

    def work() -> None:
        for _ in range(3):
            tile = native.decode_tile(undisturbed.stream, undisturbed.digest, 2500, 9, 13)
            found.append(np.array_equal(tile.latents, undisturbed.latents))

    with precision("medium"):
        before = settings()
        workers = [threading.Thread(target=work) for _ in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert settings() == before
    assert found == [True] * 9


def test_full_precision_nests_and_survives_errors() -> None:
    with precision("medium"):
        before = settings()
        with full_precision(CPU), full_precision(CPU):
            assert torch.get_float32_matmul_precision() == "highest"
        assert settings() == before
        with suppress(KeyError), full_precision(CPU), full_precision(CPU):
            raise KeyError
        assert settings() == before


@pytest.mark.gpu
def test_cuda_gives_the_same_symbols_and_samples(weights: NativeWeights, native: NativeCodec) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    pixels = photograph(width=256, height=160)
    for int8 in (False, None):
        on_gpu = native_codec(weights, torch_engine("cuda", int8))
        for level in (0, 2000, 4000):
            y = native.analyse(pixels, level)
            tile = native.encode_tile(y, level)
            with precision("medium"), torch.autocast("cuda", torch.float16):
                decoded = on_gpu.decode_tile(tile.stream, tile.digest, level, 20, 32)
                again = on_gpu.encode_tile(y, level)
                shown = on_gpu.synthesise(tile.latents, level)
            assert np.array_equal(decoded.latents, tile.latents)
            back = native.decode_tile(again.stream, again.digest, level, 20, 32)
            assert np.array_equal(back.latents, again.latents)
            assert np.array_equal(shown, native.synthesise(tile.latents, level))


def test_a_model_of_bad_parts_is_refused(weights: NativeWeights) -> None:
    config, layers = weights.config.entropy, weights.layers()
    tables = {name: weights.tensors[f"integer.{name}"] for name in ("row_offset", "hyper_row", "log_table")}

    def make(layers: dict[str, IntegerLayer] = layers, **other: Integers) -> None:
        parts = tables | other
        IntegerModel(
            config, layers, parts["row_offset"], parts["hyper_row"], parts["log_table"], NumpyEngine()
        )

    make()
    at_the_limit = np.full_like(tables["row_offset"], -OFFSET_LIMIT)
    make(row_offset=at_the_limit, hyper_row=np.full_like(tables["hyper_row"], OFFSET_LIMIT))
    bad: list[tuple[str, Integers, str]] = [
        ("row_offset", tables["row_offset"][1:], "row_offset"),
        ("row_offset", tables["row_offset"].astype(np.float32), "float32"),
        ("row_offset", at_the_limit - 1, "-16385..-16385 reaches past -16384..16384"),
        ("row_offset", np.full(at_the_limit.shape, np.iinfo(np.int64).min), "reaches past"),
        ("hyper_row", tables["hyper_row"][:, 1:], "hyper_row"),
        ("hyper_row", tables["hyper_row"].astype(np.uint32), "uint32"),
        ("hyper_row", np.full_like(tables["hyper_row"], OFFSET_LIMIT + 1), "reaches past"),
        ("log_table", tables["log_table"][:-1], "8191"),
        ("log_table", tables["log_table"].astype(np.int16) + 1, "outside 0..127"),
        ("log_table", -tables["log_table"], "outside 0..127"),
    ]
    for name, table, message in bad:
        with pytest.raises(InvalidWeights, match=f"{name}: .*{message}|{message}"):
            make(**{name: table})
    for name in ("hyper_up", "context2_in"):
        rest = {key: layer for key, layer in layers.items() if key != name}
        with pytest.raises(InvalidWeights, match=f"missing.*{name}"):
            make(rest)
        with pytest.raises(InvalidWeights, match=name):
            make(layers | {name: layers["hyper_in"]})
    with pytest.raises(InvalidWeights, match=r"unexpected.*hyper_more"):
        make(layers | {"hyper_more": layers["hyper_in"]})
