"""Archives: those of zip's writers are read, and none costs more than its bytes."""

from __future__ import annotations

import struct
import time
import warnings
import zipfile
from pathlib import Path

import pytest
import torch

from latentcodec.errors import InvalidWeights
from latentcodec.weights.checkpoints.checkpoint import open_checkpoint
from latentcodec.weights.pytorch import archive
from latentcodec.weights.pytorch.archive import Entry, check_sums, read_archive
from tests.weights.made_pickles import save_zip, state, tensor

HONEST = state(a=tensor())


def refused(path: Path, message: str, seconds: float = 2.0) -> None:
    """By whoever opens it, and by whoever compares checksums; before anything long is done."""
    start = time.process_time()
    for read in (read_archive, check_sums, open_checkpoint):
        with pytest.raises(InvalidWeights, match=message) as caught:
            read(path)
        assert str(caught.value).isprintable()
    assert time.process_time() - start < seconds


def patched(path: Path, signature: bytes, place: int, value: bytes, last: bool = True) -> None:
    """Change bytes of a record: the last of that kind, or the first."""
    data = bytearray(path.read_bytes())
    start = (data.rfind if last else data.find)(signature) + place
    data[start : start + len(value)] = value
    path.write_bytes(data)


def test_entries_are_where_zipfile_finds_them(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"a": torch.arange(100.0), "b": torch.ones(0)}, path)
    data = path.read_bytes()
    with zipfile.ZipFile(path) as reader:
        expected = {each.filename: (each.CRC, reader.read(each)) for each in reader.infolist()}
    entries = read_archive(path)
    assert {
        name: (entry.crc, data[entry.start : entry.start + entry.size]) for name, entry in entries.items()
    } == expected
    check_sums(path)


def test_large_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers over 4 GB are in zip64's fields; a low limit lets zipfile write those."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 10)
    path = save_zip(tmp_path / "a.pth", HONEST)
    assert b"PK\x06\x06" in path.read_bytes()
    assert open_checkpoint(path)["a"].tolist() == [0, 0, 0, 0]
    check_sums(path)
    assert read_archive(path)["model/data/0"].size == 16


@pytest.mark.parametrize("count", [2, 20_000])
def test_one_name_many_times(tmp_path: Path, count: int) -> None:
    """20,000 times the same: 22 seconds of checksums, were they computed."""
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w") as writer, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        writer.writestr("model/data.pkl", HONEST)
        for _ in range(count):
            writer.writestr("model/data/0", bytes(16))
    refused(path, "the entry model/data/0 is there twice")


def test_one_entry_listed_many_times(tmp_path: Path) -> None:
    """A megabyte, listed 20,000 times."""
    path = save_zip(tmp_path / "a.pth", HONEST, {"data/0": bytes(1 << 20)})
    data = path.read_bytes()
    start, end = data.rfind(b"PK\x01\x02"), data.rfind(b"PK\x05\x06")
    count = 20_002
    listed = data[data.find(b"PK\x01\x02") : start] + data[start:end] * (count - 1)
    tail = struct.pack(
        "<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, len(listed), data.find(b"PK\x01\x02"), 0
    )
    path.write_bytes(data[: data.find(b"PK\x01\x02")] + listed + tail)
    refused(path, "the entry model/data/0 is there twice")


def test_entries_in_each_other(tmp_path: Path) -> None:
    """Each is in the one before: with n of them, n * n / 2 bytes to read."""
    path = tmp_path / "a.pth"
    names = [f"model/data/{index:03}".encode() for index in range(300)]
    local = struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, *bytes(7), len(names[0]), 0)
    count, size = len(names), len(local) + len(names[0])
    listed = b""
    for index, name in enumerate(names):
        left = (count - index - 1) * size
        numbers = (20, 20, *bytes(5), left, left, len(name), *bytes(5), index * size)
        listed += struct.pack("<4s6H3L5H2L", b"PK\x01\x02", *numbers) + name
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, len(listed), count * size, 0)
    path.write_bytes(b"".join(local + name for name in names) + listed + tail)
    refused(path, "the entries model/data/000 and model/data/001 are in the same bytes")


def test_more_entries_than_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"a": torch.ones(4)}, path)
    patched(path, b"PK\x06\x06", 32, struct.pack("<Q", archive.MAX_ENTRIES + 1))
    refused(path, f"{archive.MAX_ENTRIES + 1} entries, listed in")
    torch.save({"a": torch.ones(4)}, path)
    patched(path, b"PK\x06\x06", 32, struct.pack("<Q", archive.MAX_ENTRIES))
    refused(path, f"{archive.MAX_ENTRIES} entries are not in its directory")
    patched(path, b"PK\x06\x06", 40, struct.pack("<Q", 1 << 63))
    refused(path, "its directory ends at byte")


@pytest.mark.parametrize("place", [1 << 44, 1 << 61, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_places_that_no_file_has(tmp_path: Path, place: int) -> None:
    """File systems refuse to seek there, each at another number."""
    path = tmp_path / "a.pth"
    torch.save({"a": torch.ones(4)}, path)
    patched(path, b"PK\x06\x07", 8, struct.pack("<Q", place))
    refused(path, f"56 bytes at {place} are not there")


def test_compressed_entries(tmp_path: Path) -> None:
    """A thousand to one."""
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as writer:
        writer.writestr("model/data.pkl", HONEST)
        writer.writestr("model/data/0", bytes(50_000_000))
    assert path.stat().st_size < 60_000
    refused(path, "model/data.pkl is compressed, which PyTorch's files are not")


@pytest.mark.parametrize("name", [b"\xff\xfe\xff", b"\x1b[2J", "é".encode()])
@pytest.mark.parametrize("where", ["local", "both"])
def test_names_that_are_no_text(tmp_path: Path, name: bytes, where: str) -> None:
    """In the local header, of which zipfile has a bare UnicodeDecodeError, and in the directory."""
    path = save_zip(tmp_path / "a.pth", HONEST, {"data/0": bytes(16), "aaaaaaaaaaaa": b""})
    stands = b"model/aaaaaaaaaaaa"
    data = path.read_bytes()
    assert data.count(stands) == 2
    new = name.ljust(len(stands), b"b")
    data = data.replace(stands, new, 1 if where == "local" else 2)
    path.write_bytes(data)
    patched(path, b"PK\x01\x02", 8, struct.pack("<H", 0x800))
    patched(path, b"PK\x03\x04", 6, struct.pack("<H", 0x800))
    if where == "local":
        refused(path, "model/aaaaaaaaaaaa is not at byte")
    else:
        assert open_checkpoint(path)["a"].tolist() == [0, 0, 0, 0]
        check_sums(path)


@pytest.mark.parametrize(
    ("signature", "place", "value", "message"),
    [
        (b"PK\x01\x02", 42, struct.pack("<L", 5), "is not at byte 5"),
        (b"PK\x01\x02", 28, struct.pack("<H", 60_000), "entries are not in its directory"),
        (b"PK\x01\x02", 30, struct.pack("<H", 60_000), "entries are not in its directory"),
        (
            b"PK\x01\x02",
            20,
            struct.pack("<LL", 10**6, 10**6),
            "an entry is longer than the file: model/data/0",
        ),
        (b"PK\x01\x02", 20, struct.pack("<L", 17), "is compressed"),
        (b"PK\x03\x04", 28, struct.pack("<H", 200), "an entry is longer than the file"),
        (b"PK\x03\x04", 26, struct.pack("<H", 3), "is not at byte"),
        (b"PK\x05\x06", 20, struct.pack("<H", 1), "does not end with its directory"),
        (b"PK\x05\x06", 16, struct.pack("<L", 10**6), "its directory ends at byte"),
        (b"PK\x05\x06", 10, struct.pack("<H", 9), "9 entries are not in its directory"),
        (b"PK\x05\x06", 10, struct.pack("<H", 2), "a needs the storage '0', which the file lacks"),
        (b"PK\x05\x06", 10, struct.pack("<H", 0), "it has 0 data.pkl"),
    ],
)
def test_false_records(tmp_path: Path, signature: bytes, place: int, value: bytes, message: str) -> None:
    path = save_zip(tmp_path / "a.pth", HONEST)
    patched(path, signature, place, value)
    with pytest.raises(InvalidWeights, match=message):
        open_checkpoint(path)


def test_what_lies_behind_the_archive(tmp_path: Path) -> None:
    """zipfile looks for a directory within the last 64 kB; another program could find another one."""
    path = save_zip(tmp_path / "a.pth", HONEST)
    path.write_bytes(path.read_bytes() + b"x")
    refused(path, "it does not end with its directory")


def test_damage_is_told_by_its_name(tmp_path: Path) -> None:
    path = save_zip(tmp_path / "a.pth", HONEST)
    place: Entry = read_archive(path)["model/data/0"]
    data = bytearray(path.read_bytes())
    data[place.start + 3] ^= 1
    path.write_bytes(data)
    with pytest.raises(InvalidWeights, match=r"damaged: model/data/0 in it has another CRC-32 than noted"):
        check_sums(path)
