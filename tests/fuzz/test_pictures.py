"""Picture files and EXIF with changes: a picture comes out, or an error of the library's; soon, and small.

seeds ─┬─ files of each format: bytes; of PNG with its CRC-32s made anew ─► open_picture ─┐
       ├─ files with one kind of data beside the picture each, the same ──► open_picture ─┤
       ├─ EXIF with changes, in JPEG, PNG, WebP, AVIF, and TIFF itself ───► open_picture ─┼─► save_picture
       └─ EXIF with changes, as an .lci file may hold it ─────────────────► Picture ──────┘

LATENTCODEC_FUZZ_CASES says how many cases the test tries. For hours of them, from a checkout:

    python -m tests.fuzz.test_pictures SECONDS [SEED]
"""

from __future__ import annotations

import io
import os
import struct
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from random import Random
from zlib import crc32

import numpy as np
import pytest
from PIL import Image

from latentcodec.errors import LatentCodecError
from latentcodec.picture.files import open_picture, save_picture
from latentcodec.picture.picture import Picture, to_pillow
from tests.fuzz.mutate import mutated
from tests.fuzz.run import run_for
from tests.picture import beside_files as beside
from tests.picture.tiff_bytes import claiming, many_pages, tiff, with_exif_segments

CASES = int(os.environ.get("LATENTCODEC_FUZZ_CASES", "2000"))
SECONDS = 2.0  # of processor time for a case; the files have some kilobytes
MEMORY = 512 << 20  # bytes that a process of its own may grow by
MAX_PIXELS = 1 << 18
WRITTEN = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "JPEG2000", "TGA", "BMP", "PPM")
Seeds = dict[str, list[bytes]]


def camera(order: str = "<", big: bool = False, turn: int = 6) -> bytes:
    """EXIF with its further directories and a maker note."""
    tags = Image.Exif()
    tags.endian, tags.bigtiff = order, big
    tags[0x010E], tags[0x010F], tags[0x011A] = "a description", "maker", 72.5
    if turn:
        tags[0x0112] = turn
    tags[0x0128], tags[0x9C9B], tags[0x8298] = 2, b"t\0", "nobody"
    tags.get_ifd(0x8769).update({0x9003: "2026:01:02 03:04:05", 0x927C: b"Note" * 9, 0x829A: 0.01})
    tags.get_ifd(0x8825).update({1: "N", 2: (10.0, 20.0, 30.5), 3: "E", 29: "2026:01:02"})
    return tags.tobytes()[6:]


UPRIGHT = camera(turn=0)  # which Pillow writes into an AVIF file as it is


def exifs() -> list[bytes]:
    """Small EXIF of many kinds, honest and not."""
    inner = tiff([(0x8769, 4, 1, 26)], [(0xA005, 4, 1, 44)], [(1, 2, 4, 0x00383952)], tail=bytes(8))
    return [
        *(camera(), camera(">"), camera(big=True), inner, many_pages(3)),
        *(claiming([0x011A, 0x011B], 5, 800), claiming(range(0x9000, 0x9010), 7, 400)),
        tiff([(0x0112, 3, 1, 6), (0x0100, 4, 1, 999), (0x010F, 2, 40, 8)], order=">"),
    ]


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)  # type: ignore[arg-type]
    return stream.getvalue()


def seeds() -> Seeds:
    """Small files of each format that is written by Pillow and read by us."""
    Image.init()
    noise = np.random.default_rng(5).integers(0, 255, (24, 24, 4), dtype=np.uint8)
    colour, alpha = Image.fromarray(noise[..., :3].copy()), Image.fromarray(noise)
    gray, deep = colour.convert("L"), Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
    palette, exif = colour.quantize(16), b"Exif\0\0" + camera()
    with_all = {"exif": exif, "xmp": b'<x tiff:Orientation="3"/>', "icc_profile": b"\0" * 128}
    files: Seeds = {
        "PNG": [
            saved(alpha, "PNG", exif=exif),
            saved(deep, "PNG"),
            saved(palette, "PNG", transparency=3),
            saved(colour, "PNG", save_all=True, append_images=[colour.rotate(90)]),
        ],
        "JPEG": [
            saved(colour, "JPEG", **with_all),
            saved(colour.convert("CMYK"), "JPEG"),
            saved(gray, "JPEG", progressive=True),
            saved(colour, "MPO", save_all=True, append_images=[gray]),
        ],
        "WEBP": [
            saved(alpha, "WEBP", lossless=True, **with_all),
            saved(colour, "WEBP"),
            saved(colour, "WEBP", save_all=True, append_images=[colour.rotate(90)]),
        ],
        "AVIF": [saved(alpha, "AVIF", exif=b"Exif\0\0" + UPRIGHT), saved(colour, "AVIF")],
        "TIFF": [
            saved(colour, "TIFF", exif=camera()),
            saved(alpha, "TIFF", compression="tiff_lzw"),
            saved(gray, "TIFF", compression="tiff_adobe_deflate", tiffinfo={700: b"<x/>"}),
            saved(colour, "TIFF", big_tiff=True),
            saved(colour, "TIFF", save_all=True, append_images=[gray]),
        ],
    }
    others = ("GIF", "BMP", "DIB", "ICO", "PPM", "TGA", "PCX", "SGI", "QOI", "JPEG2000")
    files["other"] = [saved(colour, format) for format in others if format in Image.SAVE]
    files["other"] += [
        saved(palette, "GIF", transparency=2),
        saved(gray, "PPM"),
        saved(alpha, "TGA", compression="tga_rle"),
    ]
    files["EXIF"] = exifs()
    files["beside"] = [make() for row in beside.FILES.values() for make in row.values()]
    files["beside"] = [data for data in files["beside"] if len(data) < 20_000]
    return files


def with_sums(png: bytes) -> bytes:
    """A PNG file with the checksum of every chunk made anew, as far as there are whole ones."""
    data, place = bytearray(png), 8
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        end = place + 8 + length
        if end + 4 > len(data):
            break
        struct.pack_into(">I", data, end, crc32(data[place + 4 : end]))
        place = end + 4
    return bytes(data)


def png_with(exif: bytes, png: bytes) -> bytes:
    """A PNG file with an eXIf chunk behind its header."""
    chunk = b"eXIf" + exif
    return png[:33] + struct.pack(">I", len(exif)) + chunk + struct.pack(">I", crc32(chunk)) + png[33:]


def webp_with(exif: bytes, webp: bytes) -> bytes:
    """A WebP file of which EXIF, its last chunk, is replaced."""
    place = webp.rindex(b"EXIF")
    body = webp[8:place] + b"EXIF" + struct.pack("<I", len(exif)) + exif + bytes(len(exif) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def avif_with(exif: bytes, avif: bytes) -> bytes:
    """An AVIF file of which EXIF is replaced in its place, cut or filled up."""
    place, size = avif.index(UPRIGHT), len(UPRIGHT)
    return avif[:place] + exif[:size].ljust(size, b"\0") + avif[place + size :]


def case(seed: int, number: int, files: Seeds) -> tuple[str, bytes]:
    """The kind of a case, and its file (of the kind "stored": EXIF): always the same for seed and number."""
    random = Random(seed * 1_000_003 + number)
    kind = random.choice([*files, "EXIF", "stored"])
    if kind in ("EXIF", "stored"):
        exif = mutated(random, random.choice(files["EXIF"]), files["EXIF"])
        embed: list[Callable[[], bytes]] = [
            lambda: with_exif_segments(files["JPEG"][1], exif, random.choice((65000, 90))),
            lambda: png_with(exif, files["PNG"][1]),
            lambda: webp_with(exif, files["WEBP"][0]),
            lambda: avif_with(exif, files["AVIF"][0]),
            lambda: exif,
        ]
        return kind, exif if kind == "stored" else random.choice(embed)()
    data = mutated(random, random.choice(files[kind]), files[random.choice(list(files))])
    return kind, with_sums(data) if data.startswith(b"\x89PNG") and random.random() < 0.9 else data


def outcome(kind: str, data: bytes, number: int) -> str:
    """What a file comes to: "opened", or the name of the error of ours that it raises; and that soon."""
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if kind == "stored":
                picture = Picture(np.full((6, 5, 3), number % 256, np.uint8), exif=data)
            else:
                picture = open_picture(io.BytesIO(data), max_pixels=MAX_PIXELS)
            came_to = "opened"
            to_pillow(picture)
            save_picture(picture, io.BytesIO(), WRITTEN[number % (5 if kind == "stored" else len(WRITTEN))])
        except LatentCodecError as error:
            came_to = type(error).__name__
    taken = time.process_time() - start
    if taken > SECONDS:
        raise TimeoutError(f"{taken:.1f} s of processor time")
    return came_to


@pytest.mark.slow
def test_changed_pictures() -> None:
    files = seeds()
    came_to: Counter[tuple[str, str]] = Counter()
    for number in range(CASES):
        kind, data = case(1, number, files)
        came_to[kind, outcome(kind, data, number)] += 1
    for kind in files:  # the changes are neither all harmless nor all fatal
        total = sum(count for (name, _), count in came_to.items() if name == kind)
        assert 0 < came_to[kind, "opened"] < total


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF", "other", "beside"])
def test_seeds_are_opened(kind: str) -> None:
    came_to = [outcome(kind, data, 0) for data in seeds()[kind]]
    assert set(came_to) <= {"opened", "UnsupportedImage"}  # the last: animations
    assert came_to.count("opened") >= len(came_to) / 2


def main(seconds: float, seed: int) -> None:
    """Cases for so long."""
    files = seeds()
    for number, format in enumerate(WRITTEN):
        outcome("stored", camera(), number)
        outcome(format, files.get(format, files["other"])[0], number)

    def attempt(number: int) -> str:
        kind, data = case(seed, number, files)
        return f"{kind} {outcome(kind, data, number)}"

    run_for(seconds, MEMORY, attempt)


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
