"""Random tables and changed streams through the kernel, for a time: what a sanitised build runs on.

    python -m tests.kernel.hostile SECONDS [SEED]

It prints how many cases came to what. PyTorch is not loaded: a sanitiser would watch that too.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from itertools import count
from random import Random

import numpy as np

from latentcodec.errors import LatentCodecError
from latentcodec.kernel.library import load
from latentcodec.rans import groups
from latentcodec.rans.coder import MAX_LANES, MAX_VALUE, Decoder, Encoder
from latentcodec.rans.groups import GroupedTables
from latentcodec.rans.tables import TOTAL, Tables
from tests.fuzz.mutate import mutated

Array = np.ndarray
HEADS = (b"\x01", b"\x02", b"\x13", b"\x80\x10", b"\xff\x07")


def draw_tables(random: np.random.Generator) -> Tables:
    """Up to 30 rows of 1 to 400 entries, one now and then of very many; most symbols 0 in some."""
    frequencies, sizes, offsets = [], [], []
    for _ in range(random.integers(1, 30)):
        size = int(random.choice([1, 2, 3, 9, 60, 400, 65536 if random.random() < 0.02 else 5]))
        cuts = np.sort(random.choice(TOTAL - 1, size - 1, replace=False) + 1)
        own = np.diff(np.concatenate([[0], cuts, [TOTAL]]))
        offset = int(random.choice([0, size // 2, -3, size + 2, -MAX_VALUE]))
        offset = max(offset, size - 2 - MAX_VALUE)
        if 0 <= offset < size - 1 and random.random() < 0.6:
            own = np.maximum(1, own // 50)
            own[offset] += TOTAL - own.sum()
        frequencies.append(own)
        sizes.append(size)
        offsets.append(offset)
    return Tables.from_frequencies(np.concatenate(frequencies), np.array(sizes), offsets)


def draw_block(random: np.random.Generator, tables: Tables, most: int) -> tuple[Array, Array]:
    """Values and rows: zeros, small values, and any."""
    size = int(random.integers(0, most))
    rows = random.integers(0, len(tables.size), size).astype(np.int32)
    scale = random.choice([0, 1, 300, MAX_VALUE], size, p=[0.6, 0.3, 0.05, 0.05])
    values = np.where(scale, random.integers(-MAX_VALUE, MAX_VALUE + 1, size) % (scale + 1), 0)
    values *= random.choice([-1, 1], size)
    return np.where(tables.size[rows] > 1, values, 0).astype(np.int32), rows


def case(seed: int, number: int) -> str:
    """What a stream, as it is and changed, comes to; the same for seed and number."""
    random, changes = np.random.default_rng([seed, number]), Random(seed * 1_000_003 + number)
    tables = GroupedTables(draw_tables(random))
    own = tables.tables if number % 2 else None  # singly, or in groups
    encoder = Encoder(tables.tables)
    size = int(random.choice([10, 100, 3000]))
    blocks = [draw_block(random, _rows_of(tables), size) for _ in range(random.integers(1, 4))]
    for values, rows in blocks:
        encoder.put(values, rows) if own else groups.put(encoder, tables, values, rows)
    stream = encoder.finish()
    assert _read(stream, tables, blocks, own, partial=False) == "read"
    came_to = "read"
    for _ in range(8):
        changed = mutated(changes, stream, [random.bytes(200)])
        if changes.random() < 0.1:
            states = random.integers(1 << 16, 1 << 32, MAX_LANES).astype("<u4").tobytes()
            changed = changes.choice(HEADS) + states[: 4 * changes.randrange(MAX_LANES)] + changed
        for partial in (False, True):
            came_to = _read(changed, tables, blocks, own, partial=partial)
    return came_to


def _rows_of(tables: GroupedTables) -> Tables:
    """The model's own rows: those that the groups added come behind them."""
    count, both = len(tables.grouped), tables.tables
    return Tables(both.cumulative[:count], both.size[:count], both.offset[:count])


def _read(
    stream: bytes,
    tables: GroupedTables,
    blocks: list[tuple[Array, Array]],
    own: Tables | None,
    *,
    partial: bool,
) -> str:
    try:
        decoder = Decoder(stream, tables.tables, partial=partial)
        for _, rows in blocks:
            taken = decoder.take(rows) if own else groups.take(decoder, tables, rows)
            assert len(taken) == len(rows)
            assert np.abs(taken).max(initial=0) <= MAX_VALUE
        decoder.finish()
    except LatentCodecError as error:
        return type(error).__name__
    return "exhausted" if decoder.exhausted else "read"


def main(seconds: float, seed: int) -> None:
    """Cases for so long. Raises RuntimeError where there is no kernel to try."""
    library = load()
    if library is None:
        raise RuntimeError("no kernel: LATENTCODEC_KERNEL names one")
    came_to, start = Counter[str](), time.monotonic()
    for number in count():
        if time.monotonic() - start > seconds:
            break
        came_to[case(seed, number)] += 1
    print(f"{sum(came_to.values())} cases through {library._name}: {dict(sorted(came_to.items()))}")


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
