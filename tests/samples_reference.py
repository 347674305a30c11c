"""A decoder of deep samples written from docs/format.md alone, place by place: it judges the package's.

The tables and the rANS stream are taken from the package (tests/rans judges those).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from latentcodec.codec.values.adaptive_tables import shipped_tables
from latentcodec.rans.coder import Decoder, Tables

WEIGHTS = {
    (True, True): (16, 40, 0),
    (True, False): (16, 16, 20),
    (False, True): (6, 60, 0),
    (False, False): (6, 38, 14),
}
PARTS = [(0, 0), (1, 1), (0, 1), (1, 0)]
LEVELS = 45


def decode(
    payload: bytes, count: int, height: int, width: int, bits: int, step: int
) -> npt.NDArray[np.int64]:
    """(planes, height, width)."""
    peak = 2**bits - 1
    first = [int.from_bytes(payload[2 * c : 2 * c + 2], "little") for c in range(count)]
    shares = [0, *payload[2 * count : 3 * count - 1]]
    decoder = Decoder(payload[3 * count - 1 :], tables())
    thresholds = shipped_tables().thresholds.tolist()
    sample = [{(0, 0): first[c]} for c in range(count)]
    size = [{(0, 0): 0} for _ in range(count)]  # M
    average = [256] * count
    n = max(height, width)
    d = 1
    while 2 * d < n:
        d *= 2
    while d >= 1 and n > 1:
        for column_pass in (False, True):
            if d >= (height if column_pass else width):
                continue

            def place(i: int, t: int) -> tuple[int, int]:
                """Of line i, t half spacings along."""
                return (d * t, d * i) if column_pass else (2 * d * i, d * t)  # noqa: B023

            across, along = (width, height) if column_pass else (height, width)
            lines = -(-across // (d if column_pass else 2 * d))
            length = len(range(d, along, 2 * d))
            grid = [(i, j) for i in range(lines) for j in range(length)]
            x: list[dict[tuple[int, int], int]] = [
                {
                    (i, j): interpolated(sample[c], [place(i, 2 * k) for k in range(j - 1, j + 3)], peak)
                    for i, j in grid
                }
                for c in range(count)
            ]
            found: list[dict[tuple[int, int], int]] = [{} for _ in range(count)]
            done = 0
            for part in PARTS:
                own = [(i, j) for i, j in grid if (i % 2, j % 2) == part]
                if not own:
                    continue
                floors = [
                    (max(256 * sum(found[c].values()) // done, 1) if done else average[c]) // 16
                    for c in range(count)
                ]
                for c in range(count):
                    a, b, weight = WEIGHTS[part == (0, 0), c == 0]
                    expected = []
                    for i, j in own:
                        before_it, after_it = place(i, 2 * j), place(i, 2 * j + 2)
                        near = 128 * (size[c][before_it] + size[c].get(after_it, size[c][before_it]))
                        around = (
                            average[c]
                            if part == (0, 0)
                            else 64 * around_it(found[c], i, j, part, lines, length)
                        )
                        before = 256 * sum(found[p][i, j] for p in range(c)) // c if c else 0
                        expected.append(max((a * near + b * around + weight * before) >> 6, floors[c]))
                    low = [next(k for k in range(64) if e >> k < 4096) for e in expected]
                    rows = [sum(t <= e >> k for t in thresholds) for e, k in zip(expected, low, strict=True)]
                    values = decoder.take(np.array(rows, np.int32)).tolist()
                    with_low = [p for p, k in enumerate(low) if k]
                    if with_low:
                        rest = decoder.take(
                            np.array([LEVELS - 1 + low[p] for p in with_low], np.int32)
                        ).tolist()
                        for p, extra in zip(with_low, rest, strict=True):
                            assert 0 <= extra < 2 ** low[p]
                            values[p] = values[p] * 2 ** low[p] + extra - 2 ** (low[p] - 1)
                    for (i, j), v in zip(own, values, strict=True):
                        assert abs(v) <= peak
                        aim, where = x[c][i, j], place(i, 2 * j + 1)
                        if c:
                            error = sample[0][where] - x[0][i, j]
                            aim = min(max(aim + ((shares[c] * error + 2) >> 2), 0), peak)
                        u = (step if d == 1 else step >> 1 if d == 2 else step >> 2) | 1
                        sample[c][where] = min(max(aim + u * v, 0), peak)
                        size[c][where] = found[c][i, j] = abs(v)
                done += len(own)
            average = [max(256 * sum(found[c].values()) // done, 1) for c in range(count)]
        d //= 2
    decoder.finish()
    planes = np.zeros((count, height, width), np.int64)
    for c in range(count):
        for (y, left), value in sample[c].items():
            planes[c, y, left] = value
        assert len(sample[c]) == height * width
    return planes


def tables() -> Tables:
    """The rows of the levels, then those of low bits."""
    shipped = shipped_tables().tables
    frequencies, sizes, offsets = [], [], []
    for row in range(0, 9 * LEVELS, 9):
        own = int(shipped.size[row])
        frequencies += np.diff(shipped.cumulative[row])[:own].tolist()
        sizes.append(own)
        offsets.append(int(shipped.offset[row]))
    for k in range(1, 14):
        slots = 65535 // 2**k
        frequencies += [slots] * 2**k + [65536 - slots * 2**k]
        sizes.append(2**k + 1)
        offsets.append(0)
    return Tables.from_frequencies(np.array(frequencies), np.array(sizes), offsets)


def interpolated(known: dict[tuple[int, int], int], places: list[tuple[int, int]], peak: int) -> int:
    z, p, q, r = (known.get(place) for place in places)
    assert p is not None
    if z is not None and q is not None and r is not None:
        x = (9 * (p + q) - z - r + 8) >> 4
    elif z is not None and q is not None:
        x = (6 * p + 3 * q - z + 4) >> 3
    elif q is not None and r is not None:
        x = (3 * p + 6 * q - r + 4) >> 3
    elif q is not None:
        x = (p + q + 1) >> 1
    elif z is not None:
        x = (3 * p - z + 1) >> 1
    else:
        x = p
    return min(max(x, 0), peak)


def around_it(
    found: dict[tuple[int, int], int], i: int, j: int, part: tuple[int, int], lines: int, length: int
) -> int:
    offsets = [(-1, -1), (-1, 1), (1, -1), (1, 1)] if part == (1, 1) else [(-1, 0), (1, 0), (0, -1), (0, 1)]
    total = 0
    for di, dj in offsets:
        di = di if 0 <= i + di < lines else -di
        dj = dj if 0 <= j + dj < length else -dj
        if 0 <= i + di < lines and 0 <= j + dj < length:
            total += found[i + di, j + dj]
    return total
