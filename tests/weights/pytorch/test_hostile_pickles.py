"""Small pickles that would cost gigabytes, minutes or the process: refused in an instant.

files ─► one process with little memory left and one clock ─► the library's error, and its time, for each
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import pytest

from tests.bounded import run_bounded
from tests.weights.made_pickles import (
    ORDERED,
    call,
    number,
    save_legacy,
    save_zip,
    state,
    storage,
    tensor,
    text,
    tuple_of,
)

MEMORY = 96 << 20  # bytes that the process may take: 200 for an opcode, and PyTorch's own
SECONDS = 0.9  # of processor time for each file, and
SECONDS_A_BYTE = 2e-5  # some 4 microseconds an opcode on a processor of 2020
ALL_SECONDS = 60
MANY = 600_000  # opcodes, more than are read
SETTING = """
import json, sys, time
from pathlib import Path
from latentcodec.weights.checkpoints.checkpoint import open_checkpoint
for path in sys.argv[1:3]:
    open_checkpoint(Path(path))  # PyTorch grows in a first call
"""
CODE = """
came_to = {}
for path in map(Path, sys.argv[3:]):
    start = time.process_time()
    try:
        open_checkpoint(path)
        what = "nothing"
    except Exception as error:
        what = type(error).__name__
    came_to[path.name] = [what, time.process_time() - start, path.stat().st_size]
print(json.dumps(came_to))
"""


def doubled(start: bytes, times: int) -> bytes:
    """(x, x), then a pair of that, and so on: 2^times leaves in three bytes a level."""
    return start + b"".join(b"q\x01h\x01\x86" for _ in range(times))


def encoded(times: int) -> bytes:
    """Each time twice as long."""
    value = call("_codecs encode", text("a" * 64), text("utf-32"))
    for _ in range(times):
        value = call("_codecs encode", value, text("hex"))
    return value


def key(value: bytes) -> bytes:
    return b"}" + value + b"Ns"


def attributes(count: int) -> bytes:
    return b"}(" + b"".join(text(str(index)) + b"N" for index in range(count)) + b"u"


VALUES: dict[str, bytes] = {
    "bytearrays": b"(" + call("__builtin__ bytearray", number(1 << 28)) * 12 + b"t",
    "bytearrays3": b"(" + call("builtins bytearray", number(1 << 28)) * 12 + b"t",
    "bytes": call("__builtin__ bytes", number(1 << 32)),
    "encoded": encoded(26),
    "escapes": call("_codecs encode", text("a" * 1000), text("utf-7")),
    "doubled keys": key(doubled(b"N\x85", 30)),
    "doubled keys of integers": key(doubled(number(1) + b"\x85", 30)),
    "tuple keys": key(b"N\x85"),
    "keys of sizes": key(call("torch Size", tuple_of(*range(50)))),
    "nested tuples": b"N" + b"\x85" * 300_000,
    "nested tuple keys": key(b"N" + b"\x85" * 300_000),
    "nested lists": b"]" * 100_000 + b"a" * 99_999,
    "nested dicts": (b"}" + text("a")) * 20_000 + b"N" + b"s" * 20_000,
    "nested marks": b"(" * 100_000 + b"t" * 100_000,
    "in itself": b"]q\x01h\x01a",
    "dict in itself": b"}q\x01" + text("a") + b"h\x01s",
    "grown after use": b"]q\x01\x85q\x02h\x01h\x02a",
    "integers": number((1 << 2000) - 1) * 2 + b"\x86" + key(number(1 << 2000)),
    "colliding keys": b"}(" + b"".join(number(((1 << 61) - 1) * i) + b"N" for i in range(9, 20_000)) + b"u",
    "attributes": call(
        "torch._utils _rebuild_parameter_with_state", tensor(), b"\x89", ORDERED, attributes(1000)
    ),
    "pops": b"]" + b"N0" * 3,
    "marked pops": b"N(NNN1",
    "many opcodes": b"(" + b"}" * MANY + b"t",
    "many tuples": b"(" + b")" * MANY + b"t",
    "copies": b"(" + tuple_of(*range(60)) + b"q\x01" + b"h\x01" * MANY + b"t",
    "long text": b"X\x00\x00\x00\x7fabc",
    "text of 4 GB": b"X\xff\xff\xff\xffabc",
    "text of 2^60": b"\x8d" + bytes([0, 0, 0, 0, 0, 0, 0, 16]) + b"abc",
    "long integer": b"\x8b\xff\xff\xff\x7f1",
    "long memo": b"Nr\xff\xff\xff\xff" + b"j\xfe\xff\xff\xff",
    "long name": b"c" + b"a" * 500_000 + b"\nb\n",
    "persistent id": doubled(b"N\x85", 30) + b"Q",
    "persistent tuple": b"(" + doubled(b"N\x85", 30) + b"NNNNtQ",
    "storage key": b"(" + text("storage") + b"ctorch\nFloatStorage\n" + doubled(b"N\x85", 30) + b"NK\x04tQ",
    "huge storage": tensor(storage("0", 1 << 40)),
    "negative storage": tensor(storage("0", -1)),
    "pairs": b"ccollections\nOrderedDict\n(" + key(doubled(b"N\x85", 30)) + b"tR",
    "counter": call("collections Counter", call("collections Counter", doubled(b"N\x85", 30))),
    "set": call("__builtin__ set", b"]" + doubled(b"N\x85", 30) + b"a"),
    "long storage key": tensor(storage("k" * 300, 4)),
    "long dict key": b"}" + text("k" * 5000) + b"Ns",
    "sides": tensor(size=(1,) * 65, stride=(1,) * 65),
    "meta": call("torch._utils _rebuild_meta_tensor_no_storage", b"ctorch\nint8\n", tuple_of(1 << 40)),
}  # fmt: skip
# Read, where they are not the weights themselves: nobody looks at their values, so they cost nothing.
HARMLESS = {"counter", "set", "meta"}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, float, int]]:
    """What each file came to: the error's class, seconds, its bytes. Names end in the value's place."""
    if sys.platform != "linux":
        pytest.skip("needs Linux's limits on memory")
    folder = tmp_path_factory.mktemp("hostile")
    programs: dict[str, Callable[[bytes], bytes]] = {
        "alone": lambda value: b"\x80\x02" + value + b".",
        "beside": lambda value: state(a=tensor(), x=value),
        "within": lambda value: state(epoch=value, state_dict=b"}" + text("a") + tensor() + b"s"),
    }
    honest = state(a=tensor())
    paths = [save_zip(folder / "honest.zip", honest), save_legacy(folder / "honest.old", honest)]
    for name, value in VALUES.items():
        for place, program in programs.items():
            if len(value) >= MANY and place != "alone":  # these take a second each
                continue
            paths.append(save_zip(folder / f"{name}-{place}-zip", program(value)))
            paths.append(save_legacy(folder / f"{name}-{place}-legacy", program(value)))
    printed = run_bounded(SETTING, CODE, *paths, memory=MEMORY, seconds=ALL_SECONDS)
    return {name: tuple(came_to) for name, came_to in json.loads(printed).items()}


@pytest.mark.parametrize("name", VALUES)
def test_what_would_exhaust_the_machine(told: dict[str, tuple[str, float, int]], name: str) -> None:
    files = {each: came_to for each, came_to in told.items() if each.startswith(f"{name}-")}
    assert len(files) in (2, 6)
    for each, (what, seconds, size) in files.items():
        assert what == "InvalidWeights" or (what == "nothing" and name in HARMLESS), each
        assert seconds < SECONDS + SECONDS_A_BYTE * size, each
