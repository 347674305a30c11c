"""Where the time goes: every stage of encode and decode on one picture, warm, medians over runs.

    picture ─► analysis ─► hyper analysis + integer model + rANS encode ─► file
    file ─► parse ─► rANS decode + integer model ─► synthesis ─► picture

The stages are timed inside whole encodes and decodes, by wrapping the functions that do the work.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from latentcodec.codec.api import Codec
from latentcodec.codec.native import NativeCodec
from latentcodec.nn.entropy_model import HyperAnalysis
from latentcodec.nn.integer_model import IntegerModel
from latentcodec.nn.transform import Analysis, Synthesis
from latentcodec.rans import Decoder, Encoder

STAGES: tuple[tuple[str, type, str], ...] = (
    ("analysis transform", Analysis, "forward"),
    ("hyper analysis", HyperAnalysis, "forward"),
    ("integer model (without rANS)", IntegerModel, "latents"),
    ("rANS: symbols taken in", Encoder, "put"),
    ("rANS: encode", Encoder, "finish"),
    ("rANS: decode", Decoder, "take"),
    ("synthesis transform", Synthesis, "forward"),
    ("tile: encode (all of it)", NativeCodec, "encode_tile"),
    ("tile: decode (all of it)", NativeCodec, "decode_tile"),
)
INSIDE_INTEGER_MODEL = {"rANS: symbols taken in", "rANS: decode"}


@contextmanager
def stopwatch(seconds: dict[str, float]) -> Iterator[None]:
    """Add each stage's wall-clock seconds to `seconds` while the context lasts."""
    originals = [(kind, method, getattr(kind, method)) for _, kind, method in STAGES]

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **keywords: Any) -> Any:
            begun = time.perf_counter()
            try:
                return function(*args, **keywords)
            finally:
                spent = time.perf_counter() - begun
                seconds[name] += spent
                if name in INSIDE_INTEGER_MODEL:
                    seconds["integer model (without rANS)"] -= spent

        return wrapper

    for (name, _, _), (kind, method, original) in zip(STAGES, originals, strict=True):
        setattr(kind, method, timed(name, original))
    try:
        yield
    finally:
        for kind, method, original in originals:
            setattr(kind, method, original)


def measure(
    picture: NDArray[np.uint8], quality: float, threads: int, runs: int
) -> dict[str, dict[str, float]]:
    """Median milliseconds of each stage: {"encode": {stage: ms, "total": ms}, "decode": {...}}."""
    previous = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        codec = Codec()
        data = codec.encode(picture, quality=quality)
        codec.decode(data)  # warm: look-up tables, allocator
        result = {}
        works: dict[str, Callable[[], object]] = {
            "encode": lambda: codec.encode(picture, quality=quality),
            "decode": lambda: codec.decode(data),
        }
        for name, work in works.items():
            samples: dict[str, list[float]] = defaultdict(list)
            for _ in range(runs):
                seconds: dict[str, float] = defaultdict(float)
                with stopwatch(seconds):
                    begun = time.perf_counter()
                    work()
                    seconds["total"] = time.perf_counter() - begun
                for stage, spent in seconds.items():
                    samples[stage].append(1000 * spent)
            result[name] = {stage: statistics.median(values) for stage, values in samples.items()}
        return result
    finally:
        torch.set_num_threads(previous)
