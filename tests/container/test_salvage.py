"""Salvage: of a whole file the same as unpack; of a damaged one, all that was not touched."""

from __future__ import annotations

import itertools
import random
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentcodec.container.chunks import PREAMBLE, chunk_size
from latentcodec.container.file import (
    Chunk,
    File,
    Goal,
    Header,
    Limits,
    Tile,
    pack,
    read_chunks,
    unpack,
    write_chunks,
)
from latentcodec.container.header import PIXELS
from latentcodec.container.salvage import Report, salvage
from latentcodec.errors import (
    ChecksumMismatch,
    FormatError,
    LatentCodecError,
    LimitExceeded,
    MalformedFile,
    NotLatentCodecFile,
    TruncatedFile,
    UnsupportedChunk,
    UnsupportedVersion,
)


def make_file(count: int, channels: int = 3) -> File:
    rng = random.Random(count)
    header = Header(256 * count, 256, channels, 8, 1, b"abcd", b"efgh", 100, 256 if count > 1 else 0)
    alpha = b"alpha payload" if header.has_alpha else None
    tiles = [Tile(number, rng.getrandbits(32), alpha, rng.randbytes(100)) for number in range(count)]
    goal = Goal("psnr", 30.0, 30.01)
    return File(header, tiles, b"profile", b"exif", b"xmp", goal, text=b"text", iptc=b"iptc")


def spans(data: bytes) -> list[tuple[str, int, int]]:
    """(type, start, end) of every chunk."""
    result, position = [], len(PREAMBLE)
    for chunk in read_chunks(data):
        result.append((chunk.type, position, position + chunk_size(chunk)))
        position += chunk_size(chunk)
    return result


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("channels", [1, 4])
def test_a_whole_file(count: int, channels: int) -> None:
    data = pack(make_file(count, channels))
    file, report = salvage(data)
    assert file == unpack(data)
    assert report == Report((), (), (), False)
    assert report.intact


@pytest.mark.parametrize("count", [1, 2, 5])
def test_one_damaged_byte_costs_its_chunk(count: int) -> None:
    whole = make_file(count)
    data = pack(whole)
    number = -1
    for letter, start, end in spans(data):
        number += letter == "T"
        for place in range(start, end):
            changed = bytearray(data)
            changed[place] ^= 0x11
            if letter == "H":
                with pytest.raises(FormatError):
                    salvage(bytes(changed))
                continue
            file, report = salvage(bytes(changed))
            assert len(report.damaged) >= 1
            in_payload = place >= start + 2 and place < end - 4
            if letter == "T":
                assert report.missing == (number,) or report.incomplete == (number,)
                assert [*file.tiles[:number], *file.tiles[number + 1 :]] == [
                    *whole.tiles[:number],
                    *whole.tiles[number + 1 :],
                ]
            elif in_payload:
                assert report.missing == report.incomplete == ()
                assert file.tiles == whole.tiles
            if in_payload or (letter == "T" and count > 1):
                lost = {
                    "C": "profile",
                    "e": "exif",
                    "x": "xmp",
                    "t": "text",
                    "i": "iptc",
                    "r": "dpi",
                    "l": "left_out",
                    "N": "cicp",
                    "g": "goal",
                }.get(letter)
                assert file == replace(whole, tiles=file.tiles, **({lost: None} if lost else {}))  # type: ignore[arg-type]
                assert len(report.damaged) == 1
                assert not report.truncated


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("channels", [1, 2])
def test_every_truncation(count: int, channels: int) -> None:
    whole = make_file(count, channels)
    data = pack(whole)
    ends = [end for letter, _, end in spans(data) if letter == "T"]
    after_header = spans(data)[0][2]
    for length in range(len(data)):
        if length < after_header:
            with pytest.raises((TruncatedFile, NotLatentCodecFile)):
                salvage(data[:length])
            continue
        file, report = salvage(data[:length])
        complete = sum(end <= length for end in ends)
        assert list(file.tiles[:complete]) == whole.tiles[:complete]
        assert all(tile is None for tile in file.tiles[complete + 1 :])
        assert report.missing + report.incomplete == tuple(range(count))[complete:] or report.incomplete
        if complete < count:
            assert report.truncated
            cut, original = file.tiles[complete], whole.tiles[complete]
            if cut is not None:
                assert report.incomplete == (complete,)
                assert original is not None
                assert not cut.complete
                assert (cut.number, cut.digest, cut.alpha) == (complete, original.digest, original.alpha)
                assert original.stream.startswith(cut.stream)
            else:
                assert complete in report.missing
        if not report.truncated:  # between two chunks behind the last tile: nobody can know
            assert length in [end for _, _, end in spans(data)]


def test_a_cut_stream_is_there_to_its_last_byte() -> None:
    data = pack(replace(make_file(1), exif=None, xmp=None, text=None, iptc=None, goal=None))
    stream = unpack(data).tiles[0].stream  # type: ignore[union-attr]
    for missing in range(1, 105):
        tile = salvage(data[:-missing])[0].tiles[0]
        assert tile is not None
        assert not tile.complete
        assert tile.stream == stream[: len(stream) - max(0, missing - 4)]


def test_a_damaged_index() -> None:
    whole = make_file(4)
    data = bytearray(pack(whole))
    places = {letter: (start, end) for letter, start, end in spans(bytes(data))}
    data[places["X"][1] - 1] ^= 1
    file, report = salvage(bytes(data))
    assert file == whole
    assert len(report.damaged) == 1
    assert "chunk 'X'" in report.damaged[0]
    second = next(start for letter, start, _ in spans(pack(whole)) if letter == "T") + 120
    data[second] ^= 1  # and a tile: its length still leads to the next
    file, report = salvage(bytes(data))
    assert sum(tile is not None for tile in file.tiles) == 3
    assert len(report.missing) == 1


@pytest.mark.parametrize(
    "lengths", [b"\x00\x00\x00", b"\x01\x02\x03", b"\x6e\x6e\x6e", b"\x7f\x7f\x7f", b"\x6e\x6e"]
)
def test_a_wrong_index_is_reported(lengths: bytes) -> None:
    chunks = read_chunks(pack(make_file(3)))
    chunks = [Chunk("X", lengths) if chunk.type == "X" else chunk for chunk in chunks]
    _, report = salvage(write_chunks(chunks))
    assert report.damaged


def test_repeated_and_misplaced_chunks_are_reported() -> None:
    whole = make_file(1)
    header, profile, tile, *rest = read_chunks(pack(whole))
    beyond = Chunk("T", Tile(7, 0, None, b"").pack())
    file, report = salvage(
        write_chunks([header, header, profile, profile, tile, tile, beyond, Chunk("X", b"\x01"), *rest])
    )
    assert file == whole
    assert [line.split(":")[0].split(" at")[0] for line in report.damaged] == [
        "chunk 'H' is repeated",
        "chunk 'C' is repeated",
        "tile 0 is there twice, or beyond the 1 tiles",
        "tile 7 is there twice, or beyond the 1 tiles",
        "index",
    ]
    assert not report.intact


def test_what_a_strict_reader_rejects_is_never_called_intact() -> None:
    """Every order of the chunks; each of them left out; every tile under another's number."""
    chunks = read_chunks(pack(replace(make_file(2), text=None, iptc=None)))
    header, *rest = chunks
    orders = [[header, *order] for order in itertools.permutations(rest)]
    less = [chunks[:place] + chunks[place + 1 :] for place in range(1, len(chunks))]
    intact = 0
    for made in (chunks, *orders, *less):
        data = write_chunks(made)
        _, report = salvage(data)
        try:
            unpack(data)
        except FormatError:
            assert report.truncated or report.damaged
        else:
            assert report.intact
            intact += 1
    assert intact == 2 + len(less) - len("XTT")  # each ancillary chunk, and the profile, may be missing


@pytest.mark.parametrize(
    ("order", "complaint"),
    [
        ("HCXTTxeg", "chunk 'e' is repeated or out of order; the order is HVCNXTextirlgd"),
        ("HCTTexg", "index: it is missing, but the picture has 2"),
        ("HTTCexg", "chunk 'C' is repeated or out of order"),
    ],
)
def test_the_order_of_the_chunks_is_told(order: str, complaint: str) -> None:
    """The picture is there all the same."""
    whole = make_file(2)
    tiles = iter([chunk for chunk in read_chunks(pack(whole)) if chunk.type == "T"])
    others = {chunk.type: chunk for chunk in read_chunks(pack(whole))}
    made = write_chunks(next(tiles) if letter == "T" else others[letter] for letter in order)
    file, report = salvage(made)
    assert file.tiles == whole.tiles
    assert complaint in report.damaged[0]
    assert not report.truncated


def test_tiles_in_another_order_are_told() -> None:
    whole = make_file(2)
    chunks = [chunk for chunk in read_chunks(pack(whole)) if chunk.type != "X"]
    tiles = [chunk for chunk in chunks if chunk.type == "T"]
    file, report = salvage(write_chunks([chunks[0], *reversed(tiles)]))
    assert file.tiles == whole.tiles
    assert report.damaged == ("the 2 tiles are not numbered from 0 to 1 in this order",)


def test_a_broken_goal_is_dropped() -> None:
    *chunks, _ = read_chunks(pack(make_file(1)))
    file, report = salvage(write_chunks([*chunks, Chunk("g", b"\x01")]))
    assert file == replace(make_file(1), goal=None)
    assert len(report.damaged) == 1


def test_unknown_ancillary_chunks_are_skipped() -> None:
    first, *rest = read_chunks(pack(make_file(2)))
    file, report = salvage(write_chunks([first, Chunk("q", b"new"), *rest]))
    assert file == make_file(2)
    assert report.intact


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", NotLatentCodecFile),
        (b"GIF89a", NotLatentCodecFile),
        (PREAMBLE[:8] + b"\x02", UnsupportedVersion),
        (PREAMBLE, TruncatedFile),
        (PREAMBLE + b"\0", MalformedFile),
        (write_chunks([Chunk("H", b"")]), MalformedFile),
        (write_chunks([Chunk("H", b"")])[:-1] + b"\0", ChecksumMismatch),
        (write_chunks([*read_chunks(pack(make_file(1))), Chunk("Q", b"")]), UnsupportedChunk),
        (write_chunks([*read_chunks(pack(make_file(1)))] + [Chunk("q", b"")] * 70_000), LimitExceeded),
    ],
)
def test_what_still_raises(data: bytes, error: type[LatentCodecError]) -> None:
    with pytest.raises(error):
        salvage(data)


def test_metadata_is_limited() -> None:
    with pytest.raises(LimitExceeded, match="metadata"):
        salvage(pack(make_file(1)), Limits(max_metadata_bytes=3))


@settings(max_examples=300, deadline=None)
@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=8)), max_size=4),
)
def test_any_damage(count: int, damages: list[tuple[float, bytes]]) -> None:
    whole = make_file(count, 4)
    data = pack(whole)
    for where, replacement in damages:
        place = int(where * len(data))
        data = data[:place] + replacement + data[place + len(replacement) // 2 :]
    try:
        file, report = salvage(data)
    except LatentCodecError:
        return
    if file.header != whole.header:
        return
    for number, tile in enumerate(file.tiles):
        assert (tile is None) == (number in report.missing)
        assert (tile is not None and not tile.complete) == (number in report.incomplete)
        if tile is not None and tile.complete:
            assert tile == whole.tiles[number]
    if report.intact:
        assert file.tiles == whole.tiles


def test_hostile_files_take_no_longer() -> None:
    header = Header(1 << 24, 10, 3, 8, PIXELS, bytes(4), bytes(4), 4000, 1024)
    count = header.tile_count
    chunks = [Chunk("H", header.pack()), Chunk("X", b"\x06" * count)]
    data = write_chunks(chunks) + b"T\xff\xff\xff\x01T" * (count + 100_000)
    start = time.process_time()
    _, report = salvage(data)
    assert time.process_time() - start < 3
    assert len(report.missing) + len(report.incomplete) == count
