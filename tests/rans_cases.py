"""Tables, symbols and streams for the tests of rANS, and a reference decoder.

`reference_decode` is written from docs/format.md alone, symbol by symbol, and judges the package's coder.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import strategies as st

from latentcodec.container.chunks import write_varint
from latentcodec.errors import LatentCodecError
from latentcodec.kernel.library import CHOICE
from latentcodec.rans import lanes as rans_lanes
from latentcodec.rans.coder import MAX_LANES, MAX_VALUE, Decoder, Encoder, Tables
from latentcodec.rans.lanes import encode_scalar, encode_vector
from tests.kernel.built import has_compiler, kernel

Array = npt.NDArray[np.int64]
Segments = list[tuple[Array, Array]]  # (values, rows) each


def make_tables(frequencies: list[list[int]], offsets: list[int]) -> Tables:
    """Rows of frequencies that sum to 65536, the escape's last."""
    return Tables.from_frequencies(
        np.concatenate(frequencies), np.array(list(map(len, frequencies))), offsets
    )


def mixture_row(scale: float, reach: int) -> list[int]:
    """Frequencies of -reach..reach and the escape, for 0.9 N(0, scale) + 0.1 N(0, 3 scale)."""

    def below(x: float) -> float:
        return sum(
            w * (1 + math.erf(x / (s * math.sqrt(2)))) / 2 for w, s in ((0.9, scale), (0.1, 3 * scale))
        )

    weights = [below(k + 0.5) - below(k - 0.5) for k in range(-reach, reach + 1)]
    weights.append(max(0.0, 1 - sum(weights)))
    room = 65536 - len(weights)
    frequency = [1 + math.floor(room * w / sum(weights)) for w in weights]
    frequency[reach] += 65536 - sum(frequency)
    return frequency


SCALES = [0.09 * 1.16**k for k in range(40)]  # 0.09 .. 29


@cache
def mixtures() -> Tables:
    """Row 0 is surely zero; row 1 + k has scale SCALES[k] and reaches to four times that."""
    reaches = [math.ceil(4 * scale) for scale in SCALES]
    return make_tables([[65536], *map(mixture_row, SCALES, reaches)], [0, *reaches])


def draw(count: int, seed: int, low: int = 0, high: int = len(SCALES) + 1) -> tuple[Array, Array]:
    """Symbols as the tables expect them, of rows low..high - 1; some leave their rows."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(low, high, count)
    scale = np.array([0.0, *SCALES])[rows] * np.where(rng.random(count) < 0.1, 3, 1)
    return np.rint(rng.normal(size=count) * scale).astype(np.int64), rows


def encode(segments: Segments, tables: Tables) -> tuple[Encoder, bytes]:
    encoder = Encoder(tables)
    for values, rows in segments:
        encoder.put(values, rows)
    return encoder, encoder.finish()


def encode_with(encoder: Encoder, lanes: int) -> bytes:
    """The stream of `encoder` with this number of lanes; all paths must agree on it."""
    lookup, writers = encoder._lookup, [encode_scalar, encode_vector]
    if "compiled" in paths():
        with on_path("compiled"):
            compiled = lookup.compiled()
        assert compiled is not None
        writers.append(lambda _, segments, lanes: compiled.encode(segments, lanes))
    found = set()
    for write in writers:
        states, words = write(lookup, encoder._segments, lanes)
        found.add(write_varint(lanes) + states.astype("<u4").tobytes() + words.astype("<u2").tobytes())
    assert len(found) == 1
    return found.pop()


def decode(stream: bytes, rows: list[Array], tables: Tables) -> list[Array]:
    decoder = Decoder(stream, tables)
    taken = [decoder.take(each) for each in rows]
    decoder.finish()
    return [each.astype(np.int64) for each in taken]


PATHS = ("vector", "scalar", "compiled")


def paths() -> list[str]:
    """The ways to code that are there: the last needs a C compiler."""
    return [name for name in PATHS if name != "compiled" or has_compiler()]


@contextmanager
def on_path(name: str) -> Iterator[None]:
    """Code by numpy ("vector"), by plain Python, whatever the number of lanes, or by the kernel."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CHOICE, str(kernel()) if name == "compiled" else "off")
        patch.setattr(rans_lanes, "SCALAR_LANES", MAX_LANES if name == "scalar" else 0)
        yield


def by_every_path(action: Callable[[], object]) -> object:
    """What `action` gives, the same on every path."""
    outcomes = []
    for name in paths():
        with on_path(name):
            outcomes.append(action())
    assert all(outcome == outcomes[0] for outcome in outcomes), dict(zip(paths(), outcomes, strict=True))
    return outcomes[0]


def history(stream: bytes, rows: list[Array], tables: Tables, *, partial: bool) -> list[object]:
    """All that a decoder tells of a stream, segment by segment, also after errors."""

    def tell(step: Callable[[], object]) -> object:
        try:
            return step()
        except LatentCodecError as error:
            return type(error), str(error)

    told: list[object] = []
    try:
        decoder = Decoder(stream, tables, partial=partial)
    except LatentCodecError as error:
        return [type(error), str(error)]
    for each in rows:
        told.append(tell(lambda each=each: decoder.take(each).tolist()))
        told.append((decoder.exhausted, decoder.digest))
    told.append(tell(decoder.finish))
    return told


def reference_decode(stream: bytes, segments: list[list[int]], tables: Tables) -> list[list[int]]:
    """A decoder of well-formed streams, from the text of docs/format.md."""
    lanes, position = stream[0] & 0x7F, 1
    if stream[0] > 0x7F:
        lanes, position = lanes | stream[1] << 7, 2
    numbers = [int.from_bytes(stream[position + 4 * k :][:4], "little") for k in range(lanes)]
    words = iter(range(position + 4 * lanes, len(stream), 2))

    def code(starts: list[list[int]]) -> list[int]:
        """One segment; starts[j] are the first slots of symbol j's entries, and 65536 behind them."""
        entries = []
        for begin in range(0, len(starts), lanes):
            batch = starts[begin : begin + lanes]
            for lane, row in enumerate(batch):
                slot = numbers[lane] % 65536
                entry = max(k for k, start in enumerate(row) if start <= slot)
                entries.append(entry)
                numbers[lane] = (row[entry + 1] - row[entry]) * (numbers[lane] // 65536) + slot - row[entry]
            for lane in range(len(batch)):
                if numbers[lane] < 65536:
                    word = next(words)
                    numbers[lane] = numbers[lane] * 65536 + int.from_bytes(stream[word : word + 2], "little")
        return entries

    result = []
    for rows in segments:
        values = [0] * len(rows)
        coded = [j for j, row in enumerate(rows) if tables.size[row] > 1]
        entries = code([tables.cumulative[rows[j], : tables.size[rows[j]] + 1].tolist() for j in coded])
        escapes: dict[int, list[int]] = {}
        for j, entry in zip(coded, entries, strict=True):
            values[j] = entry - int(tables.offset[rows[j]])
            if entry == tables.size[rows[j]] - 1:
                escapes[j] = []
        pending = list(escapes)
        while pending:
            for j, byte in zip(pending, code([list(range(0, 65537, 256))] * len(pending)), strict=True):
                escapes[j].append(byte)
            pending = [j for j in pending if escapes[j][-1] > 127]
        for j, found in escapes.items():
            distance = sum((byte & 127) << 7 * k for k, byte in enumerate(found))
            low, high = -tables.offset[rows[j]], tables.size[rows[j]] - 2 - tables.offset[rows[j]]
            values[j] = int(low - (distance + 1) // 2 if distance % 2 else high + 1 + distance // 2)
        result.append(values)
    assert set(numbers) == {65536}
    assert next(words, None) is None
    return result


# ---- for hypothesis


@st.composite
def table_rows(draw: st.DrawFn) -> tuple[list[int], int]:
    """A row's frequencies and offset."""
    size = draw(st.integers(1, 9))
    cuts = sorted(draw(st.sets(st.integers(1, 65535), min_size=size - 1, max_size=size - 1)))
    steps = [0, *cuts, 65536]
    return [b - a for a, b in pairwise(steps)], draw(st.integers(-3, 12))


@st.composite
def messages(draw: st.DrawFn) -> tuple[Tables, Segments]:
    """Tables, and segments that they code: some values escape, some rows say "surely zero"."""
    rows = draw(st.lists(table_rows(), min_size=1, max_size=5))
    tables = make_tables([frequency for frequency, _ in rows], [offset for _, offset in rows])
    values = st.integers(-4, 4) | st.integers(-300, 300) | st.integers(-MAX_VALUE, MAX_VALUE)
    segments = []
    for pairs in draw(
        st.lists(st.lists(st.tuples(values, st.integers(0, len(rows) - 1)), max_size=40), max_size=4)
    ):
        row = np.array([r for _, r in pairs], np.int64)
        value = np.array([v for v, _ in pairs], np.int64)
        segments.append((np.where(tables.size[row] > 1, value, 0), row))
    return tables, segments
