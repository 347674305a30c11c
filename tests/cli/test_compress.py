"""latentcodec compress"""

from __future__ import annotations

import io
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from latentcodec.codec.info import info
from tests.cli.conftest import Call, pixels


def test_a_file(call: Call, picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.lci"
    out.write_bytes(b"what was there")
    done = call("compress", picture, out)
    assert (done.code, done.out) == (0, b"")
    made = info(out)
    assert (made.width, made.height, made.quality) == (64, 64, 60)
    bpp = made.bytes * 8 / 64**2
    assert done.err == f"{picture} -> {out}: 64x64, {made.bytes} bytes, {bpp:.3f} bpp\n"
    assert {path.name for path in tmp_path.iterdir()} == {"picture.png", "out.lci"}  # nothing temporary


def test_quality(call: Call, picture: Path, tmp_path: Path) -> None:
    for quality in (0, 12.5, 100):
        assert call("compress", "-q", str(quality), picture, tmp_path / "a.lci").code == 0
        assert info(tmp_path / "a.lci").quality == quality


def test_verbose_and_quiet(call: Call, picture: Path, tmp_path: Path) -> None:
    told = call("compress", picture, tmp_path / "a.lci", "-v", "-q", "42").err
    assert re.search(r"^model native, by [\w ()-]+, loaded in \d+\.\d+ s$", told, re.MULTILINE)
    assert re.search(r"64x64, \d+ bytes, \d\.\d{3} bpp, quality 42, \d+\.\d+ s$", told, re.MULTILINE)
    assert call("compress", picture, tmp_path / "a.lci", "-Q").err == ""


def test_targets(call: Call, picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.lci"
    assert call("compress", picture, out, "--target-size", "0.4KB").code == 0
    assert out.stat().st_size <= 400
    assert call("compress", picture, out, "--target-bpp", "0.7").code == 0
    assert info(out).bpp <= 0.7
    done = call("compress", picture, out, "--min-psnr", "26", "-v")
    assert done.code == 0
    goal = info(out).goal
    assert goal is not None
    assert goal.psnr is not None
    assert goal.psnr >= 26
    assert f"{goal.psnr:.2f} dB" in done.line


def test_a_target_out_of_reach(call: Call, picture: Path, tmp_path: Path) -> None:
    done = call("compress", picture, tmp_path / "a.lci", "--target-size", "5B")
    assert done.code == 1
    assert re.fullmatch(
        rf"latentcodec: {re.escape(str(picture))}: target size 5 bytes: .* ask for .*\n", done.err
    )
    assert not (tmp_path / "a.lci").exists()


def test_a_target_above_quality_100(call: Call, picture: Path, tmp_path: Path) -> None:
    done = call("compress", picture, tmp_path / "a.lci", "--target-bpp", "500")
    assert done.code == 1
    assert re.search(r": target 500 bpp: quality 100 takes (\S+) bpp; ask for at most \1 bpp\n", done.err)
    text = " ".join(call("compress", "--help").out.decode().split())
    assert "It is an error if even quality 100 stays over 1 % below it, and no lossless file fits." in text


def test_max_pixels(call: Call, picture: Path, tmp_path: Path) -> None:
    refused = call("compress", picture, tmp_path / "a.lci", "--max-pixels", "4095")
    assert refused.code == 1
    assert "64x64 = 4096 pixels, the limit is 4095: raise max_pixels" in refused.err
    assert not (tmp_path / "a.lci").exists()
    assert call("compress", picture, tmp_path / "a.lci", "--max-pixels", "4096").code == 0
    assert call("compress", picture, tmp_path / "a.lci", "--max-pixels", "0").code == 2


def test_more_pixels_than_by_default(
    call: Call, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our limit is lifted, and Pillow's with it, for as long as the picture is read."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert call("compress", picture, tmp_path / "a.lci").code == 1
    assert call("compress", picture, tmp_path / "a.lci", "--max-pixels", "200000000").code == 0
    assert Image.MAX_IMAGE_PIXELS == 1000


def test_pipes(call: Call, picture: Path) -> None:
    done = call("compress", "-", "-", data=picture.read_bytes())
    assert done.code == 0
    assert info(done.out).width == 64
    assert done.err.startswith("standard input -> standard output: 64x64, ")


def test_several_files_and_folders(call: Call, picture: Path, album: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = call("compress", album, picture, "--out-dir", out)
    assert done.code == 0
    found = {path.relative_to(out).as_posix(): path for path in out.rglob("*.lci")}
    assert set(found) == {"a.lci", "sub/b.lci", "sub/deep/c.lci", "picture.lci"}
    sizes = sum(path.stat().st_size for path in found.values())
    assert done.line == f"4 files, {sizes} bytes of .lci"


def test_those_that_fail_are_told_and_the_others_go_on(call: Call, album: Path, tmp_path: Path) -> None:
    (album / "0.png").write_text("a text renamed")
    frames = [Image.fromarray(pixels(seed=seed)) for seed in (1, 2)]
    frames[0].save(album / "moving.gif", save_all=True, append_images=frames[1:])
    done = call("compress", album, "gone.png", "--out-dir", tmp_path / "out", "-Q")
    assert done.code == 1
    lines = done.err.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith(f"latentcodec: {album}/0.png is no picture in a format that is read")
    assert lines[1].startswith(f"latentcodec: {album}/moving.gif")
    assert lines[2:] == [
        "latentcodec: gone.png: No such file or directory",
        "latentcodec: 3 of 6 files failed",
    ]
    assert len(list((tmp_path / "out").rglob("*.lci"))) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["a.lci", "-q", "101"], "101.0 is not in the range 0<=x<=100"),
        (["a.lci", "-q", "nan"], "'nan' is no finite number"),
        (["a.lci", "-q", "good"], "'good' is not a valid float range"),
        (["a.lci", "--target-size", "5XB"], "'5XB' is no size"),
        (["a.lci", "--target-bpp", "0"], "0.0 is not in the range x>0"),
        (["a.lci", "--min-psnr", "inf"], "'inf' is no finite number"),
        (["a.lci", "-q", "60", "--target-bpp", "1"], "--quality 60, --target-bpp 1: ask for one of them"),
        (
            ["a.lci", "--min-psnr", "30", "--target-size", "5KB"],
            "--target-size 5000, --min-psnr 30: ask for one of them",
        ),
        (["a.lci", "-v", "-Q"], "--verbose and --quiet: give one of them"),
        (["a.png"], "a.png: compress writes .lci files, not .png: name it a.lci, or use decompress"),
        (["a.JPEG"], "compress writes .lci files, not .JPEG"),
        ([], "name the output"),
        (["a.lci", "b.lci"], "3 files without --out-dir"),
        (["--frobnicate", "a.lci"], "No such option"),
    ],
)
def test_wrong_usage(
    call: Call,
    picture: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = call("compress", "picture.png", *options)
    assert done.code == 2
    assert message in " ".join(done.err.split())
    assert done.err.startswith("Usage: latentcodec compress [OPTIONS] IN OUT | IN... --out-dir DIR\n")
    assert [path.name for path in tmp_path.iterdir()] == ["picture.png"]


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--model", "dream"], "model 'dream': this version has"), (["--device", "abacus"], "device 'abacus'")],
)
def test_no_model_no_work(call: Call, album: Path, tmp_path: Path, options: list[str], message: str) -> None:
    done = call("compress", album, "--out-dir", tmp_path / "out", *options)
    assert done.code == 1
    assert done.err.count("\n") == 1  # once, not for every file
    assert message in done.err


def test_warnings_are_a_line(call: Call, tmp_path: Path) -> None:
    Image.fromarray(pixels()[..., 0].astype(np.float32) / 255).save(tmp_path / "deep.tif")
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        done = call("compress", tmp_path / "deep.tif", tmp_path / "a.lci")
    assert done.code == 0
    first, second = done.err.splitlines()
    assert re.fullmatch(r"latentcodec: warning: .*deep\.tif: .* rounded to 16 bits", first)
    assert second.startswith(f"{tmp_path}/deep.tif -> ")


def test_strip(call: Call, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "A camera"
    Image.fromarray(pixels()).save(tmp_path / "a.jpg", exif=exif)
    for options, kept in (([], True), (["--strip"], False)):
        assert call("compress", tmp_path / "a.jpg", tmp_path / "a.lci", *options).code == 0
        assert info(tmp_path / "a.lci").exif is kept


def test_a_failed_write_leaves_what_was_there(
    call: Call, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "/tmp/.temporary")

    out = tmp_path / "a.lci"
    out.write_bytes(b"before")
    monkeypatch.setattr("os.replace", full)
    done = call("compress", picture, out)
    assert done.code == 1
    assert done.err == f"latentcodec: {picture}: {out}: No space left on device\n"
    assert out.read_bytes() == b"before"
    assert len(list(tmp_path.iterdir())) == 2


def test_what_comes_out_is_the_picture(call: Call, picture: Path) -> None:
    compressed = call("compress", picture, "-", "-q", "90")
    decompressed = call("decompress", "-", "-", data=compressed.out)
    with Image.open(io.BytesIO(decompressed.out)) as image:
        assert image.format == "PNG"
        difference = np.asarray(image).astype(int) - pixels()
    assert np.mean(difference**2) < 40


def test_lossless(call: Call, picture: Path, tmp_path: Path) -> None:
    done = call("compress", picture, tmp_path / "a.lci", "--lossless", "-v")
    assert done.code == 0
    assert re.fullmatch(
        r".*64x64, \d+ bytes, \d+\.\d+ bpp, lossless, \d+\.\d+ s\n", done.err
    )  # and no model loaded
    assert call("decompress", tmp_path / "a.lci", tmp_path / "a.png").code == 0
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), pixels())
    for option in (("-q", "60"), ("--target-size", "5KB"), ("--min-psnr", "30"), ("--model", "taef2")):
        refused = call("compress", picture, tmp_path / "a.lci", "--lossless", *option)
        assert refused.code == 2
        assert "what is lossless" in refused.err


def test_a_score(call: Call, picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.lci"
    done = call("compress", picture, out, "--min-ssimulacra2", "20", "-v")
    assert done.code == 0
    goal = info(out).goal
    assert goal is not None
    assert goal.ssimulacra2 is not None
    assert goal.ssimulacra2 >= 20
    assert f"SSIMULACRA 2 {goal.ssimulacra2:.2f}" in done.line
    assert f"ssimulacra2 20, reached {goal.ssimulacra2:.2f}" in call("info", out).out.decode()
    unreachable = call("compress", picture, out, "--min-ssimulacra2", "100")
    assert unreachable.code == 1
    assert "target SSIMULACRA 2 100: quality 100 reaches" in unreachable.err
    assert call("compress", picture, out, "--min-ssimulacra2", "101").code == 2


@pytest.mark.filterwarnings("default")
def test_a_first_frame(call: Call, tmp_path: Path) -> None:
    moving = tmp_path / "moving.gif"
    frames = [Image.fromarray(pixels(seed=seed)) for seed in (1, 2)]
    frames[0].save(moving, save_all=True, append_images=frames[1:])
    refused = call("compress", moving, tmp_path / "a.lci")
    assert refused.code == 1
    assert "moving.gif holds 2 frames" in refused.err
    assert "--first-frame" in refused.err
    done = call("compress", moving, tmp_path / "a.lci", "--first-frame")
    assert done.code == 0
    assert f"latentcodec: warning: {moving}: only the first of its 2 frames is kept\n" in done.err


def test_a_stated_orientation(call: Call, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    source, out = tmp_path / "turned.jpg", tmp_path / "a.lci"
    Image.fromarray(pixels(32, 48)).save(source, exif=exif)
    for options, size in (
        ((), (32, 48)),
        (("--orientation", "1"), (48, 32)),
        (("--orientation", "8"), (32, 48)),
    ):
        assert call("compress", source, out, *options).code == 0
        assert (info(out).width, info(out).height) == size
    assert call("compress", source, out, "--orientation", "9").code == 2
