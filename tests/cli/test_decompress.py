"""latentcodec decompress"""

from __future__ import annotations

import io
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from latentcodec.cli.decompress import FORMATS
from latentcodec.codec.api import Codec
from latentcodec.container.file import Chunk, read_chunks, write_chunks
from latentcodec.picture.files import save_picture
from latentcodec.picture.picture import from_array
from tests.cli.conftest import Call, pixels


def test_a_file(call: Call, lci: Path, codec: Codec, tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    done = call("decompress", lci, out)
    assert (done.code, done.out) == (0, b"")
    size = lci.stat().st_size
    assert done.err == f"{lci} -> {out}: 64x64, {size} bytes, {size * 8 / 64**2:.3f} bpp\n"
    with Image.open(out) as image:
        assert np.array_equal(np.asarray(image), np.asarray(codec.decode(lci.read_bytes())))


def test_verbose_and_quiet(call: Call, lci: Path, tmp_path: Path) -> None:
    told = call("decompress", lci, tmp_path / "a.png", "-v")
    assert ", quality 60, " in told.line
    assert call("decompress", lci, tmp_path / "a.png", "-Q").err == ""


@pytest.mark.parametrize(("name", "kind"), [("a.jpg", "JPEG"), ("a.WEBP", "WEBP"), ("a.tif", "TIFF")])
def test_the_extension_decides(call: Call, lci: Path, tmp_path: Path, name: str, kind: str) -> None:
    assert call("decompress", lci, tmp_path / name).code == 0
    with Image.open(tmp_path / name) as image:
        assert image.format == kind


def test_pipes(call: Call, lci: Path) -> None:
    for options, magic in (
        ([], b"\x89PNG"),
        (["--format", "ppm"], b"P6"),
        (["--format", "JPG"], b"\xff\xd8"),
    ):
        done = call("decompress", "-", "-", *options, data=lci.read_bytes())
        assert done.code == 0
        assert done.out.startswith(magic)
        assert done.err.startswith("standard input -> standard output: 64x64")


def test_a_file_without_extension(call: Call, lci: Path, tmp_path: Path) -> None:
    assert call("decompress", lci, tmp_path / "a", "--format", "png").code == 0
    with Image.open(tmp_path / "a") as image:
        assert image.format == "PNG"


def test_every_format_can_be_written() -> None:
    for name in FORMATS:
        save_picture(from_array(pixels()), io.BytesIO(), name)


def test_a_folder(call: Call, lci: Path, tmp_path: Path) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for name in ("a.lci", "sub/B.LCI"):
        shutil.copy(lci, tmp_path / "in" / name)
    (tmp_path / "in" / "note.txt").write_text("no file of ours")
    for options, suffix in (([], "png"), (["--format", "webp"], "webp")):
        out = tmp_path / suffix
        assert call("decompress", tmp_path / "in", "--out-dir", out, *options).code == 0
        found = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
        assert found == {f"a.{suffix}", f"sub/B.{suffix}"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.lci", "a"], "a: OUT has no extension; give it one (png, "),
        (["a.lci", "a.xyz"], "a.xyz: no picture format is known as '.xyz'; use .png, "),
        (["a.lci", "b.lci"], "b.lci: no picture format is known as '.lci'"),
        (["a.lci", "a.png", "--format", "jpg"], "a.png: OUT's extension sets the format"),
        (["a.lci", "-", "--format", "gif"], "'gif' is not one of"),
        (["a.lci"], "name the output"),
    ],
)
def test_wrong_usage(call: Call, arguments: list[str], message: str) -> None:
    done = call("decompress", *arguments)
    assert done.code == 2
    assert message in " ".join(done.err.split())


def test_what_is_no_file_of_ours(call: Call, picture: Path, tmp_path: Path) -> None:
    for source, message in (
        (picture, "not a latentcodec file"),
        (tmp_path / "gone.lci", "No such file or directory"),
    ):
        done = call("decompress", source, tmp_path / "out.png")
        assert done.code == 1
        assert done.err.startswith(f"latentcodec: {source}: {message}")
        assert done.err.count("\n") == 1
        assert not (tmp_path / "out.png").exists()


def test_max_pixels(call: Call, lci: Path, tmp_path: Path) -> None:
    refused = call("decompress", lci, tmp_path / "out.png", "--max-pixels", "4095")
    assert refused.code == 1
    assert "4096 pixels, the limit is 4095" in refused.err
    assert call("decompress", lci, tmp_path / "out.png", "--max-pixels", "4096").code == 0


def test_metadata_come_out_as_they_are_stored(call: Call, codec: Codec, tmp_path: Path) -> None:
    """Nothing is turned or converted again: an odd profile and XMP that asks for a turn are kept."""
    xmp, profile = b'<rdf:Description tiff:Orientation="6"/>', bytes(16) + b"CMYK" + bytes(12)
    stored = replace(from_array(pixels(48, 64)), xmp=xmp, profile=profile)
    (tmp_path / "a.lci").write_bytes(codec.encode(stored))
    assert call("decompress", tmp_path / "a.lci", tmp_path / "a.png").code == 0
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (64, 48)
        assert image.info["xmp"] == xmp
        assert image.info["icc_profile"] == profile


def test_other_weights(call: Call, lci: Path, tmp_path: Path) -> None:
    """A file whose header names the model with other hashes."""
    header, *rest = read_chunks(lci.read_bytes())
    payload = header.payload.replace(bytes.fromhex(_networks_hash(lci)), b"\1\2\3\4")
    other = tmp_path / "other.lci"
    other.write_bytes(write_chunks([Chunk(header.type, payload), *rest]))
    done = call("decompress", other, tmp_path / "out.png")
    assert done.code == 1
    assert "made with other weights of model 1" in done.err
    assert done.err.count("\n") == 1


def _networks_hash(path: Path) -> str:
    from latentcodec.codec.info import info

    return info(path).networks_hash


def test_damaged_files(call: Call, lci: Path, tmp_path: Path) -> None:
    data, damaged, out = lci.read_bytes(), tmp_path / "damaged.lci", tmp_path / "out.png"
    cut, changed = data[: len(data) - 60], data[:-40] + bytes([data[-40] ^ 1]) + data[-39:]
    for bad in (cut, changed):
        damaged.write_bytes(bad)
        strict = call("decompress", damaged, out)
        assert strict.code == 1
        assert strict.err.startswith(f"latentcodec: {damaged}: chunk 'T'")
        assert not out.exists()
    partial = call("decompress", damaged, out, "--partial", "-Q")
    assert partial.code == 1
    assert partial.err.startswith(f"latentcodec: {damaged}: none of the 1 tile(s) is left (chunk 'T'")
    assert not out.exists()
    damaged.write_bytes(cut)
    partial = call("decompress", damaged, out, "--partial", "-Q")  # the report is no summary: it is printed
    assert partial.code == 0
    lines = partial.err.splitlines()
    expected = ["1 of 1 tiles incomplete: 0", "the file is cut short", "chunk 'T'"]
    assert all(line.startswith(f"{damaged}: {start}") for line, start in zip(lines, expected, strict=True))
    with Image.open(out) as image:
        assert image.size == (64, 64)


def test_partial_of_a_whole_file(call: Call, lci: Path, tmp_path: Path) -> None:
    done = call("decompress", lci, tmp_path / "out.png", "--partial")
    assert done.code == 0
    assert done.err.splitlines()[0] == f"{lci}: nothing is missing"
    assert call("decompress", lci, tmp_path / "out.png", "--partial", "-Q").err == ""


def test_partial_of_chunks_in_another_order(call: Call, lci: Path, tmp_path: Path) -> None:
    """Everything is there, but a file that is not as it should be is not called whole."""
    path = tmp_path / "a.lci"
    chunks = read_chunks(lci.read_bytes())
    path.write_bytes(write_chunks([*chunks, Chunk("x", b""), Chunk("e", b"")]))
    done = call("decompress", path, tmp_path / "out.png", "--partial")
    assert done.code == 0
    assert "nothing is missing" not in done.err
    assert (
        f"{path}: chunk 'e' is repeated or out of order; the order is HVCNXTextirlgd" in done.err.splitlines()
    )


def test_partial_without_a_header(call: Call, lci: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.lci").write_bytes(lci.read_bytes()[:20])
    done = call("decompress", tmp_path / "cut.lci", tmp_path / "out.png", "--partial")
    assert done.code == 1
    assert done.err.count("\n") == 1


def test_transparency_where_there_is_no_place_for_it(call: Call, codec: Codec, tmp_path: Path) -> None:
    clear = np.dstack([pixels(), np.full((64, 64), 7, np.uint8)])
    (tmp_path / "a.lci").write_bytes(codec.encode(clear))
    done = call("decompress", tmp_path / "a.lci", tmp_path / "a.jpg")
    assert done.code == 1
    assert "JPEG cannot hold transparency" in done.err
    assert call("decompress", tmp_path / "a.lci", tmp_path / "a.png").code == 0
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "RGBA"
        assert np.array_equal(np.asarray(image)[..., 3], clear[..., 3])
