"""The container: files survive the trip and cost little; whatever is changed in them ends in an error."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentcodec.container.chunks import PREAMBLE
from latentcodec.container.file import (
    METADATA,
    Chunk,
    File,
    Goal,
    Header,
    Limits,
    Tile,
    pack,
    read_chunks,
    structure_bytes,
    unpack,
    write_chunks,
)
from latentcodec.container.header import PIXELS
from latentcodec.container.salvage import Report, salvage
from latentcodec.errors import (
    FormatError,
    InvalidArgument,
    LatentCodecError,
    LimitExceeded,
    MalformedFile,
    TruncatedFile,
    UnsupportedChunk,
)


def make_file(
    columns: int, rows: int, channels: int = 3, seed: int = 0, **extra: bytes | Goal | None
) -> File:
    """A file of `columns` x `rows` tiles of 256 pixels, or of one tile, with random streams."""
    rng = random.Random(seed)
    size = 256 if columns * rows > 1 else 0
    header = Header(
        256 * columns - 7, 256 * rows - 5, channels, 8, 1, rng.randbytes(4), rng.randbytes(4), 2400, size
    )
    tiles = [
        Tile(
            number,
            rng.getrandbits(32),
            rng.randbytes(rng.randrange(1, 40)) if header.has_alpha else None,
            rng.randbytes(rng.randrange(5, 300)),
        )
        for number in range(columns * rows)
    ]
    return File(header, tiles, **extra)  # type: ignore[arg-type]


EVERYTHING = {
    "profile": b"ICC" * 9,
    "exif": b"EXIF",
    "xmp": b"<xmp/>",
    "text": b"text",
    "cicp": bytes((9, 16, 0, 1)),
    "iptc": b"iptc",
    "dpi": b"dpi",
    "left_out": b"none",
    "goal": Goal("size", 5000, 31.41),
}

relaxed = settings(deadline=None)  # the machine may be busy

goals = st.builds(
    Goal,
    st.sampled_from(["quality", "size", "bpp", "psnr"]),
    st.integers(0, 100).map(float),
    st.none() | st.integers(1, 10_000).map(lambda hundredths: hundredths / 100),
)


@st.composite
def files(draw: st.DrawFn) -> File:
    optional = st.none() | st.binary(max_size=60)
    extra = {name: draw(optional) for name in METADATA}
    columns, rows, channels = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 4))
    seed = draw(st.integers(0, 9))
    return make_file(columns, rows, channels, seed, **extra, goal=draw(st.none() | goals))


# ---- known answers: these bytes may never change

ONE_TILE = File(
    Header(768, 512, 3, 8, 1, b"\x01\x02\x03\x04", b"\x05\x06\x07\x08", 2400, 0),
    [Tile(0, 0x89ABCDEF, None, bytes.fromhex("0143f8f197cf10f7ff01d90ffc7f0016ffc0fe"))],
)
TWO_TILES = File(
    Header(300, 30, 4, 8, 300, b"abcd", b"efgh", 4000, 256),
    [Tile(0, 1, b"alpha 0", b"stream 0"), Tile(1, 2, b"a1", b"the second stream")],
    profile=b"profile",
    exif=b"exif",
    xmp=b"xmp",
    goal=Goal("bpp", 0.25, 30.5),
)
KNOWN = {
    "one tile": (
        ONE_TILE,
        "8b4c43490d0a1a0a014812800680040308010102030405060708e01200e11646f8541800efcdab89"
        "0143f8f197cf10f7ff01d90ffc7f0016ffc0fea172bc7e",
    ),
    "two tiles": (
        TWO_TILES,
        "8b4c43490d0a1a0a014812ac021e0408ac026162636465666768a01f205f9b1569430770726f6669"
        "6c650457e81758021b1f50ea47085415000100000007616c706861203073747265616d203039e2dd"
        "6854190102000000026131746865207365636f6e642073747265616dc3859df8650465786966d0b3"
        "8f5a7803786d70c3ae81c7670502fa01ea17936d2b36",
    ),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_answer(name: str) -> None:
    file, expected = KNOWN[name]
    assert pack(file).hex() == expected
    assert unpack(bytes.fromhex(expected)) == file


def test_the_format_text_takes_this_file_apart() -> None:
    text = (Path(__file__).parents[2] / "docs" / "format.md").read_text(encoding="utf-8")
    dump = text.split("**A file of one tile**")[1].split("```")[1]
    columns = [line.split("  ")[0] for line in dump.strip().splitlines()]
    assert bytes.fromhex("".join(columns)) == pack(ONE_TILE)


# ---- round trips


@relaxed
@given(files())
def test_round_trip(file: File) -> None:
    data = pack(file)
    assert unpack(data) == file
    letters = "".join(chunk.type for chunk in read_chunks(data))
    assert letters == "".join(sorted(letters, key="HCNXTextirlg".index))


@pytest.mark.parametrize("kind", ["quality", "size", "bpp", "psnr"])
@pytest.mark.parametrize("target", [0, 1, 30.5, 100])
def test_goals(kind: str, target: float) -> None:
    target = float(round(target) if kind == "size" else target)
    for psnr in (None, 0.01, 31.42, 100.0):
        assert Goal.unpack(Goal(kind, target, psnr).pack()) == Goal(kind, target, psnr)
    assert Goal.unpack(Goal(kind, target, float("inf")).pack()) == Goal(kind, target, 100.0)
    assert Goal.unpack(Goal(kind, target, 0.0).pack()) == Goal(kind, target, 0.01)


@pytest.mark.parametrize("reached", [None, 0.01, 71.23, 100.0])
def test_a_goal_of_ssimulacra2_has_that_score(reached: float | None) -> None:
    goal = Goal("ssimulacra2", 70.5, ssimulacra2=reached)
    assert Goal.unpack(goal.pack()) == goal
    assert goal.pack()[0] == 4


def test_goals_of_other_versions_and_broken_ones() -> None:
    for fields in (b"", b"\1", b"\1\2", b"\1\2\3", b"\xff\xff\xff\xff\xff", b"any text"):
        assert Goal.unpack(b"\x05" + fields) is None
        *chunks, _ = chunks_of(make_file(1, 1, goal=Goal("psnr", 30.0)))
        assert unpack(write_chunks([*chunks, Chunk("g", b"\x05" + fields)])) == make_file(1, 1)
    with pytest.raises(MalformedFile, match="goal: kind"):
        Goal.unpack(b"")
    with pytest.raises(MalformedFile, match="goal: 4 bytes of payload, its fields end at 3"):
        Goal.unpack(bytes([3, 1, 2, 3]))
    with pytest.raises(MalformedFile, match="goal: achieved"):
        Goal.unpack(bytes([3, 1]))
    with pytest.raises(InvalidArgument, match="'ssim' is none of quality, size, bpp, psnr, ssimulacra2"):
        Goal("ssim", 1).pack()
    with pytest.raises(InvalidArgument):
        Goal("size", -1).pack()


def test_structure_is_at_most_64_bytes_on_one_tile() -> None:
    # The largest that a writer makes of one tile: a stream of four length bytes, and everything present.
    header = Header(49_152, 32, 4, 8, 127, b"abcd", b"efgh", 4000, 0)
    tile = Tile(0, 2**32 - 1, bytes(1_500_000), bytes(3_000_000))
    extra = {**EVERYTHING, "goal": Goal("size", 9_000_000, 100.0)}
    file = File(header, [tile], **extra)  # type: ignore[arg-type]
    assert structure_bytes(pack(file)) == 63
    assert structure_bytes(pack(ONE_TILE)) == len(pack(ONE_TILE)) - 19 == 44


@relaxed
@given(files())
def test_structure_and_payloads_are_the_whole_file(file: File) -> None:
    payload = sum(len(tile.stream) + len(tile.alpha or b"") for tile in file.tiles if tile)
    bare = replace(file, **dict.fromkeys(METADATA))
    assert structure_bytes(pack(file)) == structure_bytes(pack(bare)) == len(pack(bare)) - payload


# ---- what pack refuses


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tiles": []}, "0 tiles, but the header's grid has 4"),
        ({"tiles": [None] * 4}, "tile 0 is missing"),
        ({"tiles": [Tile(0, 0, None, b"")] * 4}, "tile 1 is missing, incomplete or out of place"),
        ({"tiles": [Tile(n, 0, None, b"", complete=n < 3) for n in range(4)]}, "tile 3"),
        ({"tiles": [Tile(n, 0, b"", b"") for n in range(4)]}, "tile 0 and the header disagree about alpha"),
        ({"header": replace(make_file(2, 2).header, width=0)}, "width 0"),
        ({"header": replace(make_file(2, 2).header, tile_size=0, width=9999, height=9999)}, "a tile has"),
        ({"header": replace(make_file(2, 2).header, networks_hash=b"")}, "networks hash has 0 bytes"),
    ],
)
def test_pack_refuses(change: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        pack(replace(make_file(2, 2), **change))  # type: ignore[arg-type]


def test_pack_needs_alpha_where_the_header_has_it() -> None:
    file = make_file(1, 1, channels=2)
    with pytest.raises(InvalidArgument, match="alpha"):
        pack(replace(file, tiles=[replace(file.tiles[0], alpha=None)]))  # type: ignore[type-var]


def test_writers_are_not_held_to_readers_limits() -> None:
    header = Header(20_000, 20_000, 3, 8, 1, b"abcd", b"efgh", 0, 2816)
    data = pack(File(header, [Tile(number, 0, None, b"") for number in range(64)]))
    with pytest.raises(LimitExceeded):
        unpack(data)
    assert unpack(data, Limits(max_pixels=400_000_000)).header == header


def test_what_can_be_packed_can_be_read_however_many_tiles() -> None:
    header = Header(1 << 24, 1, 3, 8, PIXELS, b"abcd", b"efgh", 0, 1024)
    tiles = [Tile(number, 0, None, b"stream") for number in range(1 << 14)]
    file = File(header, tiles, **EVERYTHING)  # type: ignore[arg-type]
    data = pack(file)
    assert unpack(data) == file
    assert salvage(data) == (file, Report((), (), (), False))
    # 16,400 tiles are as many as readers accept chunks, which leaves none for the header and the index.
    header = replace(header, width=16_400 * 256, tile_size=256)
    with pytest.raises(
        InvalidArgument, match="file: 16402 chunks, readers accept 16400; choose larger tiles"
    ):
        pack(File(header, [Tile(number, 0, None, b"") for number in range(16_400)]))
    with pytest.raises(InvalidArgument, match="16401 tiles, the limit is 16400"):
        pack(File(replace(header, width=16_401 * 256), []))


def test_small_tiles_are_refused_by_writers_and_readers() -> None:
    file = make_file(2, 1)
    small = replace(file.header, tile_size=224, width=448)
    with pytest.raises(InvalidArgument, match="tile size 224 is below 256"):
        pack(replace(file, header=small))
    with pytest.raises(MalformedFile, match="tile size 224 is below 256"):
        unpack(write_chunks([Chunk("H", small.pack()), *chunks_of(file)[1:]]))


# ---- files with changed chunks, checksums recomputed


def chunks_of(file: File) -> list[Chunk]:
    return read_chunks(pack(file))


def test_unknown_chunks() -> None:
    for file in (make_file(1, 1), make_file(2, 1)):
        first, *middle, last = chunks_of(replace(file, exif=b"exif"))
        assert unpack(write_chunks([first, Chunk("q", b"new"), *middle, last, Chunk("z", b"")])) == unpack(
            write_chunks([first, *middle, last])
        )
        with pytest.raises(
            UnsupportedChunk, match="needs chunk 'Q', which this release does not know: upgrade"
        ):
            unpack(write_chunks([first, *middle, last, Chunk("Q", b"")]))


def test_chunks_among_the_tiles_would_break_the_index() -> None:
    chunks = chunks_of(make_file(3, 1))
    assert "".join(chunk.type for chunk in chunks) == "HXTTT"
    for place in (2, 3, 4):
        with pytest.raises(MalformedFile, match="another chunk stands between"):
            unpack(write_chunks([*chunks[:place], Chunk("q", b""), *chunks[place:]]))
    for place in (1, 5):
        unpack(write_chunks([*chunks[:place], Chunk("q", b""), *chunks[place:]]))


def reordered() -> Iterator[tuple[list[Chunk], type[FormatError], str]]:
    every = chunks_of(make_file(2, 1, **EVERYTHING))  # type: ignore[arg-type]
    by_type = {chunk.type: chunk for chunk in every}
    yield every[1:], MalformedFile, "first chunk is 'C'"
    yield every[::-1], MalformedFile, "first chunk is 'g'"
    yield [], TruncatedFile, "a chunk would start at byte 9"
    for place in range(len(every) - 1):
        if "T" not in (every[place].type, every[place + 1].type) and place:
            swapped = [*every[:place], every[place + 1], every[place], *every[place + 2 :]]
            yield swapped, MalformedFile, "repeated or out of order"
    for letter in "HCNXextirlg":
        place = every.index(by_type[letter])
        yield (
            [*every[:place], by_type[letter], *every[place:]],
            MalformedFile,
            f"chunk '{letter}' is repeated",
        )
    first, second = (chunk for chunk in every if chunk.type == "T")
    place = every.index(first)
    rest = every[place + 2 :]
    yield [*every[:place], second, first, *rest], MalformedFile, "not numbered from 0 to 1"
    yield [*every[:place], first, first, *rest], MalformedFile, "not numbered from 0 to 1"
    yield [*every[:place], first, second, second, *rest], MalformedFile, "the 3 tiles"
    yield [*every[:place], first, *rest], TruncatedFile, "holds 1 of its 2 tiles"
    yield [*every[:place], *rest], TruncatedFile, "holds 0 of its 2 tiles"
    yield [chunk for chunk in every if chunk.type != "X"], MalformedFile, "index: it is missing"
    one = chunks_of(make_file(1, 1))
    yield [one[0], by_type["X"], one[1]], MalformedFile, "index: it is there, but the picture has 1 tile"


@pytest.mark.parametrize(("chunks", "error", "message"), list(reordered()))
def test_order(chunks: list[Chunk], error: type[FormatError], message: str) -> None:
    with pytest.raises(error, match=message):
        unpack(write_chunks(chunks))


@pytest.mark.parametrize(
    ("letter", "payload", "message"),
    [
        ("X", b"", "index: length: the data end"),
        ("X", b"\x10", "index: length"),
        ("X", b"\x10\x20", "index: its lengths are not those of the tiles"),
        ("X", b"\x10\x20\x30", "index: 3 bytes of payload"),
        ("T", b"", "tile: number"),
        ("T", b"\x00abc", "tile: symbol digest ends at byte 5"),
        ("T", b"\x00abcd", "tile: alpha length"),
        ("T", b"\x00abcd\x05abcd", "tile: alpha ends at byte 11"),
        ("g", b"", "goal: kind"),
        ("H", b"", "header: width"),
    ],
)
def test_malformed_payloads(letter: str, payload: bytes, message: str) -> None:
    chunks = chunks_of(make_file(2, 1, channels=4, **EVERYTHING))  # type: ignore[arg-type]
    place = [chunk.type for chunk in chunks].index(letter)
    with pytest.raises(MalformedFile, match=message):
        unpack(write_chunks([*chunks[:place], Chunk(letter, payload), *chunks[place + 1 :]]))


@settings(relaxed, max_examples=300)
@given(files(), st.data())
def test_mutations_behind_the_checksums(file: File, data: st.DataObject) -> None:
    chunks = chunks_of(file)
    place = data.draw(st.integers(0, len(chunks) - 1))
    payload = bytearray(chunks[place].payload)
    cut = data.draw(st.integers(0, len(payload)))
    payload[cut : cut + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    letter = data.draw(st.just(chunks[place].type) | st.sampled_from("HCNXTextirlgAq"))
    changed = write_chunks([*chunks[:place], Chunk(letter, bytes(payload)), *chunks[place + 1 :]])
    try:
        result = unpack(changed)
    except LatentCodecError:
        return
    known = [chunk for chunk in read_chunks(changed) if chunk.type in "HCNXTextirlg"]
    assert result.goal is not None or "g" not in "".join(chunk.type for chunk in known) or letter == "g"
    if result.goal == file.goal and (result.goal or all(chunk.type != "g" for chunk in known)):
        assert pack(result) == write_chunks(known)


@relaxed
@given(files(), st.data())
def test_mutations_of_bytes(file: File, data: st.DataObject) -> None:
    changed = bytearray(pack(file))
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(FormatError):
        unpack(bytes(changed))


@pytest.mark.parametrize(("columns", "channels"), [(1, 3), (1, 2), (3, 4)])
def test_truncation(columns: int, channels: int) -> None:
    data = pack(make_file(columns, 1, channels, profile=b"profile"))
    for length in range(1, len(data)):
        with pytest.raises(TruncatedFile):
            unpack(data[:length])


@relaxed
@given(st.binary(max_size=200))
def test_noise(noise: bytes) -> None:
    header = write_chunks([Chunk("H", make_file(2, 1).header.pack())])
    for start in (b"", PREAMBLE, header):
        with pytest.raises(LatentCodecError):
            unpack(start + noise)


def test_metadata_is_limited() -> None:
    data = pack(make_file(1, 1, profile=b"p" * 10, exif=b"e" * 10, xmp=b"x" * 10, text=b"t" * 5))
    unpack(data, Limits(max_metadata_bytes=35))
    with pytest.raises(LimitExceeded, match="metadata: 35 bytes, the limit is 34"):
        unpack(data, Limits(max_metadata_bytes=34))


def test_the_header_is_judged_before_the_rest() -> None:
    chunks = chunks_of(make_file(2, 1))
    huge = replace(make_file(2, 1).header, width=1 << 24, height=1 << 24, tile_size=1024)
    damaged = write_chunks([Chunk("H", huge.pack()), *chunks[1:]])[:-1] + b"\0"
    with pytest.raises(LimitExceeded, match="raise Limits"):
        unpack(damaged)
