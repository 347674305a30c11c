"""Boxes of JPEG 2000, AVIF and HEIF: what they say, and that damage in them stops nothing."""

from __future__ import annotations

import io
import random
import struct
import warnings

import numpy as np
import pytest
from PIL import Image

from latentcodec.picture.colour.points import Cicp
from latentcodec.picture.files import open_picture
from latentcodec.picture.formats.boxes import (
    is_heif,
    read_heif,
    read_jp2,
    with_jp2_boxes,
    with_nclx,
    without_jp2_profile,
)
from latentcodec.picture.notices import DroppedDataWarning
from tests.picture.beside_files import EXIF, IPTC, PACKET, PIXELS, PROFILE, saved


def box(kind: bytes, content: bytes, version: bytes = b"") -> bytes:
    return struct.pack(">I", 8 + len(version + content)) + kind + version + content


def heif(*, nclx: tuple[tuple[int, int, int], ...], primary: int = 1, wide: bool = False) -> bytes:
    """A HEIF file's boxes: nclx of (item, primaries, transfer) each, and two items."""
    full = b"\1\0\0\1" if wide else bytes(4)
    colours = b"".join(box(b"colr", b"nclx" + struct.pack(">HHHB", p, t, 6, 128)) for _, p, t in nclx)
    entries = b"".join(
        struct.pack(">IB" if wide else ">HB", item, 1) + struct.pack(">H" if wide else ">B", number)
        for number, (item, _, _) in enumerate(nclx, 1)
    )
    ipma = box(b"ipma", struct.pack(">I", len(nclx)) + entries, full)
    items = b"".join(
        box(b"infe", struct.pack(">HH4s", n, 0, kind) + b"\0", b"\2\0\0\0")
        for n, kind in ((1, b"hvc1"), (2, b"tmap"))
    )
    meta = box(b"pitm", struct.pack(">H", primary), bytes(4)) + box(b"iinf", b"\0\2" + items, bytes(4))
    meta += box(b"iprp", box(b"ipco", colours) + ipma)
    return box(b"ftyp", b"heic\0\0\0\0mif1heic") + box(b"meta", meta, bytes(4)) + box(b"mdat", bytes(9))


@pytest.mark.parametrize("wide", [False, True])
def test_the_code_points_of_the_primary_item(wide: bool) -> None:
    nclx = ((2, 9, 18), (1, 12, 13))
    with pytest.warns(DroppedDataWarning, match="its gain map is left out"):
        assert read_heif(io.BytesIO(heif(nclx=nclx, wide=wide)), "it").cicp == Cicp(12, 13)
    with pytest.warns(DroppedDataWarning, match="gain map"):
        assert read_heif(io.BytesIO(heif(nclx=nclx, primary=2, wide=wide)), "it").cicp == Cicp(9, 18)
    assert is_heif(heif(nclx=nclx)[:16])


def test_avif_says_what_it_is_told() -> None:
    data = with_nclx(saved("AVIF"), Cicp(9, 16))
    assert open_picture(io.BytesIO(data)).cicp == Cicp(9, 16)
    with pytest.raises(ValueError, match="no colr box"):
        with_nclx(b"no AVIF", Cicp(9, 16))


def test_jpeg_2000_keeps_all_that_it_is_given() -> None:
    data = with_jp2_boxes(saved("JP2"), PROFILE, EXIF, PACKET, IPTC, (300.0, 72.5))
    said = read_jp2(io.BytesIO(data), "it")
    assert (said.profile, said.exif, said.xmp, said.iptc) == (PROFILE, EXIF, PACKET, IPTC)
    assert said.dpi == pytest.approx((300, 72.5), rel=1e-3)
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(np.asarray(image), PIXELS)
    assert read_jp2(io.BytesIO(without_jp2_profile(data)), "it").profile is None


@pytest.mark.parametrize("dpi", [(0.01, 3_999_999.0), (1.0, 96.0), (2400.0, 2400.0)])
def test_any_resolution_fits(dpi: tuple[float, float]) -> None:
    data = with_jp2_boxes(saved("JP2"), None, None, None, None, dpi)
    assert read_jp2(io.BytesIO(data), "it").dpi == pytest.approx(dpi, rel=0.02)


def test_another_colour_space_is_told() -> None:
    plain = saved("JP2")
    place = plain.index(b"colr") + 7
    with pytest.warns(
        DroppedDataWarning, match="its colour space, number 20 of JPEG 2000, is taken for sRGB"
    ):
        read_jp2(io.BytesIO(plain[:place] + struct.pack(">I", 20) + plain[place + 4 :]), "it")


def test_damage_never_raises() -> None:
    chance = random.Random(5)
    files = [heif(nclx=((1, 9, 16),)), with_jp2_boxes(saved("JP2"), PROFILE, EXIF, PACKET, IPTC, (300, 300))]
    for data in files:
        for _ in range(400):
            damaged = bytearray(data[: chance.randrange(len(data))] if chance.random() < 0.3 else data)
            for _ in range(3):
                if damaged:
                    damaged[chance.randrange(len(damaged))] = chance.choice(
                        (0, 1, 8, 255, chance.randrange(256))
                    )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DroppedDataWarning)
                read_heif(io.BytesIO(damaged), "it")
                read_jp2(io.BytesIO(damaged), "it")


@pytest.mark.parametrize("format", ["AVIF", "JP2"])
def test_what_stands_behind_the_picture(format: str) -> None:
    read = read_heif if format == "AVIF" else read_jp2
    video = struct.pack(">I", 3008) + b"mpvd" + bytes(3000)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read(io.BytesIO(saved(format) + bytes(500)), "it")  # padding
        assert caught == []
        read(io.BytesIO(saved(format) + video + struct.pack(">I", 12) + b"sefdabcd" + b"SEFT" * 5), "it")
    assert [str(each.message) for each in caught] == [
        "it: the video behind the picture (3000 bytes) is left out",
        "it: its boxes sefd are left out",
        "it: 20 bytes behind the end of the picture are left out",
    ]
