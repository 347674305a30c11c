"""The context model, written from docs/latents.md alone, value by value: it judges the package's."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

Position = tuple[int, int]
Offsets = list[tuple[int, int]]


def clip(x: int, low: int, high: int) -> int:
    return min(max(x, low), high)


def signed(dy: int, dx: int) -> Offsets:
    return [(a * dy, b * dx) for a, b in product((-1, 1), repeat=2)]


AXIAL: Offsets = [(-1, 0), (1, 0), (0, -1), (0, 1)]
KINDS = {
    "centre": ((1, 1), signed(1, 1), signed(1, 3) + signed(3, 1)),
    "row": ((0, 1), AXIAL, signed(1, 2) + signed(2, 1)),
    "column": ((1, 0), AXIAL, signed(1, 1)),
}


def order(height: int, width: int) -> list[tuple[str, int, int, list[Position]]]:
    """(kind, level, spacing, positions) of every part."""
    found = [("first", 0, 8, [(y, x) for y in range(0, height, 8) for x in range(0, width, 8)])]
    for level, d in ((1, 4), (2, 2), (3, 1)):
        for kind, ((top, left), _, _) in KINDS.items():
            places = [(y, x) for y in range(top * d, height, 2 * d) for x in range(left * d, width, 2 * d)]
            n = len(places)
            for p in range(4) if level == 3 else [None]:
                part = places if p is None else places[n * p // 4 : n * (p + 1) // 4]
                found.append((kind, level, d, part))
    return [part for part in found if part[3]]


class Fit:
    """Least squares by one Gauss-Seidel sweep a part."""

    def __init__(self, start: list[int], ridge: int, limit: int) -> None:
        n = len(start)
        self.w, self.start, self.ridge, self.limit = list(start), list(start), ridge, limit
        self.products, self.targets = [[0] * n for _ in range(n)], [0] * n

    def add(self, features: list[int], target: int) -> None:
        for i, f in enumerate(features):
            self.targets[i] += f * target
            for j, other in enumerate(features):
                self.products[i][j] += f * other

    def largest(self) -> int:
        return max((row[i] + self.ridge for i, row in enumerate(self.products)), default=0)

    def sweep(self, shift: int) -> None:
        n = len(self.w)
        g = [
            [self.products[i][j] + (self.ridge if i == j else 0) >> shift for j in range(n)] for i in range(n)
        ]
        t = [4096 * self.targets[i] + self.ridge * self.start[i] >> shift for i in range(n)]
        for j in range(n):
            d = (t[j] - sum(self.w[i] * g[i][j] for i in range(n))) // max(g[j][j], 1)
            self.w[j] = clip(self.w[j] + d, -self.limit, self.limit)


def walk(
    channels: int, height: int, width: int, thresholds: list[int], symbol: Callable[[int], int]
) -> list[list[list[int]]]:
    """Values [channel][y][x]; symbol(row) gives each symbol in coding order."""
    seen: list[dict[Position, int]] = [{} for _ in range(channels)]
    values: list[dict[Position, int]] = [{} for _ in range(channels)]
    residual: list[dict[Position, int]] = [{} for _ in range(channels)]
    size = -(-channels // 8)
    first_of = [c // size * size for c in range(channels)]
    total, count, average = [0] * channels, 0, [205] * channels
    sums = {(kind, c): [0] * 5 for kind in KINDS for c in range(channels)}
    levels = dict.fromkeys(KINDS, 1)
    across = [Fit([0] * first_of[c], 7680, 4096) for c in range(channels)]
    expects = [
        Fit([1638, 1229, 1229, 0] if first_of[c] == 0 else [1229, 819, 819, 1229], 20 << 16, 8192)
        for c in range(channels)
    ]
    for kind, level, d, places in order(height, width):
        if kind != "first" and levels[kind] != level:
            levels[kind] = level
            for c in range(channels):
                sums[kind, c] = [s >> 2 for s in sums[kind, c]]

        def neighbours(at: Position, offsets: Offsets, d: int = d) -> list[Position | None]:
            found: list[Position | None] = []
            for dy, dx in offsets:
                y, x = at[0] + dy * d, at[1] + dx * d
                y = y if 0 <= y < height else at[0] - dy * d
                x = x if 0 <= x < width else at[1] - dx * d
                found.append((y, x) if 0 <= y < height and 0 <= x < width else None)
            return found

        inner_mean, outer_mean, near, spatial = {}, {}, {}, {}
        for c, at in product(range(channels), places):
            inner_mean[c, at] = outer_mean[c, at] = near[c, at] = spatial[c, at] = 0
            if kind == "first":
                continue
            inner, outer = neighbours(at, KINDS[kind][1]), neighbours(at, KINDS[kind][2])
            inner_mean[c, at] = 16 * sum(seen[c][p] for p in inner if p) // len(inner)
            outer_mean[c, at] = 16 * sum(seen[c][p] for p in outer if p) // len(outer)
            near[c, at] = 16 * sum(abs(residual[c][p]) for p in inner if p) // len(inner)
            ii, io, oo, it, ot = sums[kind, c]
            ii, oo, it, ot = ii + 2560, oo + 2560, 4096 * it + 2560 * 1229, 4096 * ot + 2560 * 1229
            det = ii * oo - io * io
            w1 = clip((it * oo - ot * io) // det, -8192, 8192)
            w2 = clip((ot * ii - it * io) // det, -8192, 8192)
            spatial[c, at] = (w1 * inner_mean[c, at] + w2 * outer_mean[c, at] + 2048) >> 12
        around = {
            at: sum(near[c, at] * 256 // average[c] for c in range(channels)) // channels for at in places
        }
        for first in range(0, channels, size):
            members = range(first, min(first + size, channels))
            learned = []
            for at, c in product(places, members):
                before = [residual[p][at] for p in range(first)]
                x = (
                    (sum(u * e for u, e in zip(across[c].w, before, strict=True)) + 2048) >> 12
                    if first
                    else 0
                )
                m = clip(spatial[c, at] + x, -16368, 16368)
                z = (m + 8) >> 4
                r = m - 16 * z
                here = sum(abs(e) * 4096 // average[p] for p, e in enumerate(before)) // first if first else 0
                a = average[c]
                features = [a, near[c, at], around[at] * a >> 8, here * a >> 8]
                weights = expects[c].w
                if kind == "first":
                    weights = [2048, 0, 0, 2048] if first else [4096, 0, 0, 0]
                e = sum(w * f for w, f in zip(weights, features, strict=True)) >> 12
                expected = clip(e, max(5, a // 10), 524288)
                row = 9 * sum(t <= expected for t in thresholds) + abs(r)
                value = z + (-1 if r < 0 else 1) * symbol(row)
                q = clip(value, -1023, 1023)
                values[c][at], seen[c][at], residual[c][at] = value, q, 16 * q - m
                learned.append((c, before, 16 * q - spatial[c, at], features, expected, abs(16 * q - m)))
            for c, before, target, features, expected, size_of in learned:
                across[c].add(before, target)
                if kind != "first":
                    relative = [min(f * 256 // expected, 4095) for f in features]
                    expects[c].add(relative, min(size_of * 4096 // expected, 4095))
        for c, at in product(range(channels), places):
            if kind != "first":
                i, o, t = inner_mean[c, at], outer_mean[c, at], 16 * seen[c][at]
                for n, term in enumerate((i * i, i * o, o * o, i * t, o * t)):
                    sums[kind, c][n] += term
            total[c] += abs(residual[c][at])
        count += len(places)
        average = [max((16 * s + 820) // (count + 4), 5) for s in total]
        for first in range(size, channels, size):
            group = across[first : first + size]
            shift = max(max(fit.largest() for fit in group).bit_length() - 31, 0)
            for fit in group:
                fit.sweep(shift)
        if kind != "first":
            shift = max(max(fit.largest() for fit in expects).bit_length() - 31, 0)
            for fit in expects:
                fit.sweep(shift)
    return [[[values[c][y, x] for x in range(width)] for y in range(height)] for c in range(channels)]
