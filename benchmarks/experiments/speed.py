"""Where the time goes, and how it compares: medians of one picture, everything measured in turn.

    engine, threads ─► a process ─► rounds
    one round: matrix product ─► native encode, decode, by stage ─► JPEG ─► WebP ─► AVIF, each encode, decode
    rounds ─► medians ─► a megapixel, ratio to each peer, share of the matrix product's rate

The contestants take turns in every round, so that whatever else the machine does hits all of them alike. The
stages are timed inside whole encodes and decodes, by wrapping the functions that do the work.
Peers write the largest file that is no larger than ours.
"""

from __future__ import annotations

import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np
from rich.table import Table

from benchmarks.experiments.alone import thread_settings
from benchmarks.experiments.equal_bytes import nearest_not_over
from benchmarks.experiments.macs import analysis_macs, entropy_macs, hyper_analysis_macs, synthesis_macs
from benchmarks.peers import Peer, make_peer
from benchmarks.pictures.arrays import Pixels
from benchmarks.report.tables import NONE, Grid, to_rich
from latentcodec.codec.api import Codec
from latentcodec.codec.native.coder import NativeCodec
from latentcodec.nn.exact.choice import CHOICE as ENGINE
from latentcodec.nn.native.integer_model import IntegerModel
from latentcodec.nn.native.integer_synthesis import IntegerSynthesis
from latentcodec.rans import groups as rans_groups
from latentcodec.rans.coder import Encoder
from latentcodec.weights.native import shipped_weights

__all__ = [
    "ENTROPY",
    "PEERS",
    "TOTAL",
    "Speed",
    "measure",
    "speed_table",
    "stopwatch",
]

ENTROPY, TOTAL = "integer entropy model", "total"
STAGES: tuple[tuple[str, Any, str], ...] = (
    ("analysis", NativeCodec, "analyse"),
    ("hyper analysis", NativeCodec, "hyperlatents"),
    (ENTROPY, IntegerModel, "latents"),
    ("rANS: symbols taken in", rans_groups, "put"),
    ("rANS: encode", Encoder, "finish"),
    ("rANS: decode", rans_groups, "take"),
    ("synthesis", IntegerSynthesis, "__call__"),
    ("tile, all of it: encode", NativeCodec, "encode_tile"),
    ("tile, all of it: decode", NativeCodec, "decode_tile"),
)
RANS = {"rANS: symbols taken in", "rANS: decode"}
"""Called by the entropy model, whose own time is reported without them."""
PEERS = ("jpeg", "webp", "avif")
MATRIX = 1024  # side of the square product: large enough for the machine's full rate, a tenth of a second


@dataclass(frozen=True)
class Speed:
    """Medians of an engine at one number of threads.

    seconds: direction -> stage, `total` or codec -> seconds.
    """

    engine: str
    threads: int
    seconds: dict[str, dict[str, float]]
    macs: dict[str, dict[str, float]]
    """Multiply-accumulates of the whole and of the stages that are networks."""
    matrix_rate: float
    """Multiply-accumulates a second of a float32 matrix product in the same rounds."""
    bytes: dict[str, int]
    """Of each codec's file."""

    def share(self, direction: str, stage: str) -> float | None:
        """How much of the matrix product's rate a stage reaches, 0 to about 1; None if it is no network."""
        macs, seconds = self.macs[direction].get(stage), self.seconds[direction][stage]
        return macs / seconds / self.matrix_rate if macs and seconds > 0 else None


@contextmanager
def stopwatch(seconds: dict[str, float]) -> Iterator[None]:
    """Add each stage's wall-clock seconds to `seconds` while the context lasts."""

    open_stages: list[str] = []

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **keywords: Any) -> Any:
            open_stages.append(name)
            begun = time.perf_counter()
            try:
                return function(*args, **keywords)
            finally:
                spent = time.perf_counter() - begun
                seconds[name] += spent
                open_stages.pop()
                if name in RANS and ENTROPY in open_stages:  # the hyperlatent's symbols are coded before it
                    seconds[ENTROPY] -= spent

        return wrapper

    originals = [(kind, method, getattr(kind, method)) for _, kind, method in STAGES]
    for (name, _, _), (kind, method, original) in zip(STAGES, originals, strict=True):
        setattr(kind, method, timed(name, original))
    try:
        yield
    finally:
        for kind, method, original in originals:
            setattr(kind, method, original)


def measure(
    picture: Pixels, quality: float, engine: str, threads: int, rounds: int, peers: Sequence[str]
) -> Speed:
    """The medians of `rounds` rounds after a warm one, by an engine on so many threads, in its own process.

    engine: a name of nn.exact.choice.ENGINES. Peers run as benchmarks.peers has them, on one thread.
    """
    settings = thread_settings(threads) | {ENGINE: engine}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            return pool.submit(_measure, picture, quality, threads, rounds, tuple(peers)).result()
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _measure(picture: Pixels, quality: float, threads: int, rounds: int, peers: Sequence[str]) -> Speed:
    codec = Codec(device="cpu")
    data = codec.encode(picture, quality=quality)
    ours = {
        "encode": lambda: codec.encode(picture, quality=quality),
        "decode": lambda: codec.decode(data),
    }
    files = {name: _rival(make_peer(name), picture, len(data)) for name in peers}
    matrix = np.ones((MATRIX, MATRIX), np.float32)
    samples: dict[tuple[str, str], list[float]] = defaultdict(list)
    for _ in range(rounds + 1):
        samples["matrix", "product"].append(_seconds(lambda: matrix @ matrix))
        for direction, work in ours.items():
            spent: dict[str, float] = defaultdict(float)
            with stopwatch(spent):
                spent[TOTAL] = _seconds(work)
            for stage, value in spent.items():
                samples[direction, stage].append(value)
        for name, (peer, setting, file) in files.items():
            samples["encode", name].append(_seconds(partial(peer.encode, picture, setting)))
            samples["decode", name].append(_seconds(partial(peer.decode, file)))
    medians = {key: statistics.median(values[1:]) for key, values in samples.items()}  # the first warms up
    return Speed(
        codec.engine or "",
        threads,
        {way: {stage: median for (of, stage), median in medians.items() if of == way} for way in ours},
        _macs(picture),
        MATRIX**3 / medians["matrix", "product"],
        {"native": len(data), **{name: len(file) for name, (_, _, file) in files.items()}},
    )


def _macs(picture: Pixels) -> dict[str, dict[str, float]]:
    height, width = picture.shape[:2]
    config = shipped_weights().config
    stages = {
        "analysis": analysis_macs(config.transform, width, height),
        "hyper analysis": hyper_analysis_macs(config.entropy, width, height),
        ENTROPY: entropy_macs(config.entropy, width, height),
        "synthesis": synthesis_macs(config.transform, width, height),
    }
    ways = {
        "encode": ("analysis", "hyper analysis", ENTROPY),
        "decode": (ENTROPY, "synthesis"),
    }
    return {
        way: {name: stages[name] for name in names} | {TOTAL: sum(stages[name] for name in names)}
        for way, names in ways.items()
    }


def speed_table(speed: Speed, pixels: int) -> Table:
    """Where the time went, and beside whom."""
    megapixels = pixels / 1e6
    rows = []
    for direction, seconds in speed.seconds.items():
        order = sorted(seconds, key=lambda stage: (stage in PEERS, stage == TOTAL))
        for stage in order:
            share, macs = speed.share(direction, stage), speed.macs[direction].get(stage)
            rows.append(
                [
                    f"{direction}: {stage}",
                    f"{1000 * seconds[stage]:.2f}",
                    f"{seconds[stage] / megapixels:.3f}",
                    f"{seconds[TOTAL] / seconds[stage]:.2f}" if stage in PEERS else NONE,
                    f"{macs / pixels / 1000:.1f}" if macs else NONE,
                    f"{share:.0%}" if share else NONE,
                ]
            )
    columns = ("", "ms", "s/megapixel", "ours / it", "kMAC/pixel", "of matrix rate")
    sizes = ", ".join(f"{name} {size:,}" for name, size in speed.bytes.items())
    notes = (f"float32 matrix product: {2 * speed.matrix_rate / 1e9:.1f} GFLOP/s; bytes: {sizes}",)
    threads = f"{speed.threads} thread{'s' * (speed.threads > 1)}"
    title = f"engine {speed.engine} on {threads}, codecs beside ours on one"
    return to_rich(Grid(title, columns, rows, notes))


def _rival(peer: Peer, picture: Pixels, size: int) -> tuple[Peer, float, bytes]:
    setting, data = nearest_not_over(lambda quality: peer.encode(picture, quality), range(1, 96), size)
    return peer, setting, data


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
