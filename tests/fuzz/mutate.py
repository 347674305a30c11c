"""Changes of bytes, drawn from a random.Random: what the fuzzers of every kind of file share."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

# Numbers at which lengths, counts and offsets go wrong.
EDGES = (0, 1, 2, *(2**bits + more for bits in (7, 8, 15, 16, 31, 32, 63, 64) for more in (-1, 0)))


def mutated(random: Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """`data` with one to four changes; parts of `others` may be put into it."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        random.choice(_CHANGES)(random, changed, others)
    return bytes(changed)


def _flip(random: Random, data: bytearray, _: Sequence[bytes]) -> None:
    if data:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _set(random: Random, data: bytearray, _: Sequence[bytes]) -> None:
    if data:
        data[random.randrange(len(data))] = random.randrange(256)


def _edge(random: Random, data: bytearray, _: Sequence[bytes]) -> None:
    """A number of 1 to 8 bytes becomes one of EDGES, or a little more or less than it was."""
    size = random.choice((1, 2, 4, 8))
    if len(data) < size:
        return
    start, order = random.randrange(len(data) - size + 1), random.choice(("little", "big"))
    was = int.from_bytes(data[start : start + size], order)
    number = random.choice((random.choice(EDGES), was + random.choice((-2, -1, 1, 2)), was * 2))
    data[start : start + size] = (number % (1 << 8 * size)).to_bytes(size, order)


def _remove(random: Random, data: bytearray, _: Sequence[bytes]) -> None:
    start, end = _span(random, data)
    del data[start:end]


def _repeat(random: Random, data: bytearray, _: Sequence[bytes]) -> None:
    """A part, once more or a few times, where it is or elsewhere."""
    start, end = _span(random, data)
    place = random.choice((end, random.randrange(len(data) + 1)))
    data[place:place] = data[start:end] * random.choice((1, 1, 2, 8))


def _splice(random: Random, data: bytearray, others: Sequence[bytes]) -> None:
    other = random.choice(others) if others else bytes(data)
    start, end = _span(random, other)
    place, until = _span(random, data)
    data[place : random.choice((place, until))] = other[start:end]


def _truncate(random: Random, data: bytearray, _: Sequence[bytes]) -> None:
    del data[random.randrange(len(data) + 1) :]


def _span(random: Random, data: bytes | bytearray) -> tuple[int, int]:
    """Where a part begins and ends: short ones mostly."""
    start = random.randrange(len(data) + 1)
    return start, min(len(data), start + random.choice((1, 2, 4, 8, 30, 200)))


_CHANGES = (_flip, _flip, _set, _set, _edge, _edge, _remove, _repeat, _splice, _truncate)
