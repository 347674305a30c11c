"""What stands beside a picture, and what its colours mean, through a file of ours and out again."""

from __future__ import annotations

import io
import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

import latentcodec
from latentcodec.codec.api import Codec
from latentcodec.codec.info import info
from latentcodec.errors import NotKept
from latentcodec.picture.colour.points import Cicp
from latentcodec.picture.files import open_picture, save_picture
from latentcodec.picture.picture import DroppedDataWarning, Picture
from tests.cli.conftest import Call, call  # noqa: F401  # the fixture
from tests.conftest import photograph
from tests.picture.beside_files import EXIF, IPTC, PACKET, PROFILE, png

TEXT = (("parameters", "a cat\nSteps: 20"), ("Title", "ねこ"), ("Title", "twice"))
PIXELS = photograph(width=64, height=48)
FULL = Picture(
    PIXELS,
    profile=PROFILE,
    exif=EXIF,
    xmp=PACKET,
    text=TEXT,
    iptc=IPTC,
    dpi=(300, 150),
    left_out=("its gain map is left out",),
)


@pytest.fixture(scope="module")
def data(codec: Codec) -> bytes:
    return codec.encode(FULL, quality=30)


def test_all_of_it_comes_back(codec: Codec, data: bytes) -> None:
    picture, _ = codec.decode_picture(data)
    for field in ("profile", "exif", "xmp", "text", "iptc", "dpi", "cicp", "left_out"):
        assert getattr(picture, field) == getattr(FULL, field), field
    image = codec.decode(data)
    assert (image.info["text"], image.info["iptc"], image.info["dpi"]) == (TEXT, IPTC, (300, 150))
    again, _ = codec.decode_picture(codec.encode(image, quality=30))
    assert replace(again, left_out=FULL.left_out, pixels=PIXELS).text == TEXT
    assert (again.iptc, again.dpi, again.profile) == (IPTC, (300, 150), PROFILE)


def test_info_says_it(data: bytes, tmp_path: Path, call: Call) -> None:  # noqa: F811
    found = info(data)
    assert (found.text, found.iptc, found.dpi, found.cicp) == (TEXT, True, (300, 150), None)
    assert found.left_out == FULL.left_out
    path = tmp_path / "a.lci"
    path.write_bytes(data)
    as_json = json.loads(call("info", "--json", path).out)
    assert as_json["text"] == [list(pair) for pair in TEXT]
    assert as_json["left_out"] == list(FULL.left_out)
    shown = " ".join(call("info", path).out.decode().split())
    assert "metadata ICC profile, EXIF, XMP, IPTC" in shown
    assert "resolution 300 x 150 dpi" in shown
    assert "text Title ねこ; twice" in shown
    assert "left out its gain map is left out" in shown


def test_strip_keeps_pixels_and_colours(codec: Codec) -> None:
    stripped = info(codec.encode(FULL, quality=30, strip=True))
    assert stripped.profile
    assert not any((stripped.exif, stripped.xmp, stripped.text, stripped.iptc, stripped.dpi))
    assert stripped.left_out == ()


@pytest.mark.parametrize("gama", [100_000, 55_556])
def test_a_gamma_looks_the_same_in_a_viewer(codec: Codec, gama: int) -> None:
    """A gamma of 1.0 that was dropped cost 13.6 dB."""
    source = png((b"gAMA", gama.to_bytes(4, "big")))
    picture = open_picture(io.BytesIO(source))
    stream = io.BytesIO()
    save_picture(codec.decode_picture(codec.encode(picture, min_psnr=45))[0], stream, "PNG")
    with Image.open(io.BytesIO(source)) as image:
        light = (np.asarray(image) / 255) ** (100_000 / gama)
    meant = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    with Image.open(stream) as image:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
        shown = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"))
    assert 10 * np.log10(255**2 / np.mean((np.asarray(shown) - meant) ** 2)) > 35


@pytest.mark.parametrize(("extension", "bits"), [("png", 16), ("avif", 12)])
def test_an_hdr_picture_keeps_its_code_points_and_bits(
    codec: Codec, extension: str, bits: int, tmp_path: Path
) -> None:
    if extension == "avif":
        pytest.importorskip("imagecodecs")
    ramp = np.linspace(9000, 50_000, 48 * 40).reshape(40, 48, 1).repeat(3, 2).astype(np.uint16)
    path = tmp_path / f"out.{extension}"
    picture = Picture(ramp, bit_depth=16, cicp=Cicp(9, 16))
    decoded, _ = codec.decode_picture(codec.encode(picture, quality=100))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", latentcodec.picture.picture.ReducedDepthWarning)  # AVIF has 12
        save_picture(decoded, path)
    again = open_picture(path)
    assert (again.cicp, again.bit_depth) == (Cicp(9, 16), bits)
    shown = codec.decode(codec.encode(replace(picture, pixels=PIXELS, bit_depth=8), quality=30))
    assert (shown.info["cicp"], b"cicp" in shown.info["icc_profile"]) == (Cicp(9, 16), True)
    assert (info(codec.encode(shown)).cicp, info(codec.encode(shown)).profile) == (Cicp(9, 16), False)


def test_strict_is_an_error_on_the_way_in_and_out(codec: Codec, tmp_path: Path) -> None:
    path, lci, out = tmp_path / "a.png", tmp_path / "a.lci", tmp_path / "a.bmp"
    path.write_bytes(png((b"tIME", bytes(7)), (b"tEXt", b"a\0b")))
    with pytest.raises(NotKept, match=r"a\.png: its PNG chunks tIME are left out; strict forbids it"):
        codec.compress(path, lci, strict=True)
    assert not lci.exists()
    with pytest.warns(DroppedDataWarning, match="tIME"):
        codec.compress(path, lci)
    with pytest.raises(NotKept, match=r"a\.bmp: BMP has no place for text \('a'\)"):
        codec.decompress(lci, out, strict=True)
    assert not out.exists()
    with pytest.warns(DroppedDataWarning, match="no place"):
        codec.decompress(lci, out)
    with pytest.raises(NotKept, match="EXIF are dropped"):
        codec.encode(replace(FULL, exif=bytes(17 << 20)), strict=True)


@pytest.mark.filterwarnings("always")  # the command line prints them
def test_the_command_line(call: Call, tmp_path: Path) -> None:  # noqa: F811
    path, lci, out = tmp_path / "a.png", tmp_path / "a.lci", tmp_path / "a.bmp"
    path.write_bytes(png((b"tIME", bytes(7)), (b"tEXt", b"a\0b")))
    done = call("compress", "--strict", "-q", "30", path, lci)
    assert (done.code, lci.exists()) == (1, False)
    assert (
        done.err.splitlines()[-1]
        == f"latentcodec: {path}: its PNG chunks tIME are left out; strict forbids it"
    )
    done = call("compress", "-q", "30", path, lci)
    assert done.code == 0
    assert done.err.splitlines()[0] == f"latentcodec: warning: {path}: its PNG chunks tIME are left out"
    assert info(lci).left_out == ("its PNG chunks tIME are left out",)
    assert call("decompress", "--strict", lci, out).code == 1
    done = call("decompress", lci, out)
    assert (
        done.err.splitlines()[0] == f"latentcodec: warning: {out}: BMP has no place for text ('a'): left out"
    )
