"""Weights files with changes: tensors of their bytes come out, or an error of the library's; soon, and small.

seeds ─┬─ zip: bytes; the pickle's bytes or opcodes, entries, CRC-32s made anew ─┐
       ├─ before 2020: bytes, opcodes ───────────────────────────────────────────┼─► open, read, check sums
       └─ safetensors: bytes, header ────────────────────────────────────────────┘

LATENTCODEC_FUZZ_CASES says how many cases the test tries. For hours of them, from a checkout:

    python -m tests.fuzz.test_checkpoints SECONDS [SEED]
"""

from __future__ import annotations

import io
import json
import os
import pickletools
import struct
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter, OrderedDict
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from safetensors.torch import save as save_safetensors

from latentcodec.errors import LatentCodecError
from latentcodec.weights.checkpoints.checkpoint import open_checkpoint
from latentcodec.weights.checkpoints.pickle_file import MAX_SHARING
from latentcodec.weights.pytorch.archive import check_sums
from tests.fuzz.mutate import mutated
from tests.fuzz.run import run_for
from tests.weights.made_pickles import LEGACY_HEAD, call, storage, tensor, text, tuple_of
from tests.weights.made_pickles import number as integer

CASES = int(os.environ.get("LATENTCODEC_FUZZ_CASES", "1500"))
SECONDS = 1.0  # of processor time for a case; the files have some kilobytes
MEMORY = 256 << 20  # bytes that a process of its own may grow by
# What PyTorch's pickles do not have, or not there.
ODD = (
    *(bytes([opcode]) for opcode in b"\x85(t}]N\x88Rb\x81QsuaE012dl\x8f\x90\x93\x94"),
    *(b"\x86q\x01h\x01", b"\x95" + bytes(8), b"\x8d" + b"\xff" * 8, b"G" + bytes(8), b"X\xff\xff\xff\x7f"),
    *(b"I1\n", b"L1L\n", b"S'a'\n", b"V\\u0061\n", b"Pa\n", b"i__builtin__\nset\n", b"\x82\x01"),
    *(b"r\xff\xff\xff\xff", integer(1 << 200), text("numel"), text("state_dict"), text(""), text("\x1b[2J")),
    *(tensor(), tensor(size=(1 << 40,), stride=(0,)), tensor(offset=3), storage("1", 1 << 50)),
    *(tuple_of(1, 0, 1 << 62), call("__builtin__ bytearray", integer(1 << 31)), call("builtins set", b"]")),
    *(call("_codecs encode", text("a"), text("hex")), call("posix system", text("id"))),
    call("torch._utils _rebuild_meta_tensor_no_storage"),
)


def contents() -> list[Any]:
    """What small checkpoints hold, of each kind that is read."""
    base = torch.arange(12.0)
    plain = {"a.weight": base.reshape(3, 4), "b": torch.ones(2, dtype=torch.float16), "c": torch.tensor(5)}
    shared = OrderedDict(base=base, part=base[2:8].reshape(2, 3).t(), none=torch.empty(0, 3))
    eighths, parameter = torch.ones(3).to(torch.float8_e4m3fn), torch.nn.Parameter(torch.ones(2).bfloat16())
    newer = {"e": eighths, "f": parameter}
    trained = {"state_dict": plain, "epoch": 3, "optimizer_states": [{"state": {0: {"step": base[:1]}}}],
               "lr": (0.9, None), "m": Counter([3]), "raw": b"\xff", "s": torch.Size([2])}  # fmt: skip
    return [plain, shared, newer, trained, {"x": torch.eye(2).to_sparse(), **plain}]


def seeds() -> dict[str, list[bytes]]:
    """Small files of each format."""
    files: dict[str, list[bytes]] = {"zip": [], "legacy": [], "safetensors": []}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sparse tensors
        for content in contents():
            for kind in ("zip", "legacy"):
                held = io.BytesIO()
                torch.save(content, held, _use_new_zipfile_serialization=kind == "zip")
                files[kind].append(held.getvalue())
    one, two = contents()[0], {"e": torch.ones(3).to(torch.float8_e5m2), "none": torch.empty(0, 3)}
    files["safetensors"] = [save_safetensors(one), save_safetensors(two, {"note": "x", "b": "{}"})]
    return files


def spliced(random: Random, program: bytes, others: list[bytes]) -> bytes:
    """A pickle with opcodes removed, repeated, exchanged, or put in from another one or from ODD."""
    steps = list(_opcodes(program))
    for _ in range(random.choice((1, 1, 2, 5))):
        place, until = (random.randrange(len(steps)) for _ in range(2))
        kind = random.randrange(5)
        if kind == 0:
            del steps[place : place + random.choice((1, 1, 2, 5))]
        elif kind == 1:
            steps[place:place] = steps[until : until + random.choice((1, 2, 10))] * random.choice((1, 1, 50))
        elif kind == 2:
            steps[place], steps[until] = steps[until], steps[place]
        elif kind == 3:
            other = _opcodes(random.choice(others))
            start = random.randrange(len(other))
            steps[place:place] = other[start : start + random.choice((1, 2, 10))]
        else:
            steps[place:place] = [random.choice(ODD)] * random.choice((1, 1, 1, 30))
        steps = steps or [b"."]
    return b"".join(steps)


@lru_cache
def _opcodes(program: bytes) -> tuple[bytes, ...]:
    places = [place or 0 for _, _, place in pickletools.genops(program)]
    return tuple(program[a:b] for a, b in zip(places, [*places[1:], places[-1] + 1], strict=True))


@lru_cache
def _entries(archive: bytes) -> tuple[tuple[str, bytes], ...]:
    with zipfile.ZipFile(io.BytesIO(archive)) as reader:
        return tuple((each.filename, reader.read(each)) for each in reader.infolist())


def zip_case(random: Random, seed: bytes, others: list[bytes]) -> bytes:
    """An archive with changes anywhere, or in its pickle or entries with the rest made to fit."""
    if random.random() < 0.3:
        return mutated(random, seed, others)
    entries = list(_entries(seed))
    index = random.choice((0, 0, 0, random.randrange(len(entries))))
    name, data = entries[index]
    if random.random() < 0.6 and name.endswith("data.pkl"):
        programs = [dict(_entries(other))["archive/data.pkl"] for other in others]
        data = spliced(random, data, programs)
    elif random.random() < 0.8:
        data = mutated(random, data)
    else:
        name = random.choice((mutated(random, name.encode()).decode("latin-1"), random.choice(entries)[0]))
    entries[index] = (name.partition("\0")[0] or "x", data)
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", random.choice((0, 0, 0, 8))) as writer, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are there twice
        for name, data in entries:
            writer.writestr(name, data)
    return held.getvalue()


def legacy_case(random: Random, seed: bytes, others: list[bytes]) -> bytes:
    """A file of before 2020 with changes anywhere, or in the opcodes of its content or keys."""
    if random.random() < 0.4:
        return mutated(random, seed, others)
    stream = io.BytesIO(seed)
    ends = []
    for _ in range(5):
        list(pickletools.genops(stream))
        ends.append(stream.tell())
    content, keys, rest = seed[ends[2] : ends[3]], seed[ends[3] : ends[4]], seed[ends[4] :]
    if random.random() < 0.8:
        content = spliced(random, content, [content, keys])
    else:
        keys = spliced(random, keys, [content, keys])
    return LEGACY_HEAD + content + keys + rest


def safetensors_case(random: Random, seed: bytes, others: list[bytes]) -> bytes:
    """A safetensors file with changes anywhere, or in its header with the length made to fit."""
    if random.random() < 0.3:
        return mutated(random, seed, others)
    length = int.from_bytes(seed[:8], "little")
    header, rest = seed[8 : 8 + length], seed[8 + length :]
    if random.random() < 0.5:
        header = mutated(random, header)
    else:
        values = json.loads(header)
        entry = values[random.choice([name for name in values if name != "__metadata__"])]
        side = random.choice((0, 1, 2, 1 << 32, 1 << 62, (1 << 64) - 1, -1, 0.5, [], "1", None))
        change = random.randrange(4)
        if change == 0:
            entry["shape"] = [*entry["shape"], side]
        elif change == 1:
            entry["shape"] = [random.choice((0, 1, side))] * random.choice((1, 2, 70))
        elif change == 2:
            entry["data_offsets"][random.randrange(2)] = side
        else:
            entry["dtype"] = random.choice(
                ("F64", "BOOL", "F8_E8M0", "F4", "F6_E2M3", "C64", "U64", "I8", "x")
            )
        header = json.dumps(values).encode()
    return struct.pack("<Q", len(header)) + header + rest


MAKE = {"zip": zip_case, "legacy": legacy_case, "safetensors": safetensors_case}


def outcome(path: Path, data: bytes) -> str:
    """What a file comes to: "opened", or the class of the error. Raises what is no error of the library."""
    path.write_bytes(data)
    start, message = time.process_time(), ""
    try:
        checkpoint = open_checkpoint(path)
        copies = 0
        for name in checkpoint:
            tensor = checkpoint[name]
            assert type(tensor) is torch.Tensor
            assert tuple(tensor.shape) == checkpoint.shape(name)
            copies += tensor.detach().contiguous().view(-1).clone().nbytes
        assert copies <= MAX_SHARING * len(data)
        check_sums(path)
        result = "opened"
    except LatentCodecError as error:
        result, message = type(error).__name__, str(error)
    if result != "opened" and not (message.startswith(str(path)) and len(message) < 2000):
        raise AssertionError(f"a message that does not name the file, or is long: {message[:2000]}")
    assert time.process_time() - start < SECONDS
    return result


def case(seed: int, number: int, files: dict[str, list[bytes]]) -> tuple[str, bytes]:
    """The case of a number: the same on every run with the same seed and the same release of PyTorch."""
    random = Random(f"{seed} {number}")
    kind = random.choice(list(files))
    return kind, MAKE[kind](random, random.choice(files[kind]), files[kind])


@pytest.mark.slow
def test_changed_checkpoints(tmp_path: Path) -> None:
    files = seeds()
    came_to: Counter[tuple[str, str]] = Counter()
    for number in range(CASES):
        kind, data = case(1, number, files)
        came_to[kind, outcome(tmp_path / "model.ckpt", data)] += 1
    for kind in files:  # the changes are neither all harmless nor all fatal
        assert came_to[kind, "opened"] > CASES / 100
        assert came_to[kind, "InvalidWeights"] > CASES / 10


def main(seconds: float, seed: int) -> None:
    """Cases for so long."""
    files = seeds()
    warnings.simplefilter("error")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.ckpt"
        outcome(path, files["zip"][0])

        def attempt(number: int) -> str:
            kind, data = case(seed, number, files)
            return f"{kind} {outcome(path, data)}"

        run_for(seconds, MEMORY, attempt)


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
