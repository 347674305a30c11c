"""An album of 500 files as people have them, through the program and through Python."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import pytest
from PIL import Image

import latentcodec
from latentcodec.cli.console import printable
from latentcodec.codec.api import Codec
from tests.cli.conftest import ROOT, pixels

FILES = 500
# What becomes of a file: stored without a word, with a line that names it, or not at all with such a line.
PLAIN, LINE, ERROR = "plain", "line", "error"


@dataclass(frozen=True)
class Kind:
    """A kind of file: the extension that it has, its bytes by a number, and what is to become of it."""

    extension: str
    data: Callable[[int], bytes]
    fate: str = PLAIN


def picture(number: int, mode: str = "RGB") -> Image.Image:
    """Of a size of its own, with alpha where the mode has it."""
    image = Image.fromarray(pixels(18 + number % 23, 20 + number % 31, seed=number))
    if mode in ("RGBA", "LA"):
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image.convert(mode)


def saved(format: str, mode: str = "RGB", **options: object) -> Callable[[int], bytes]:
    def data(number: int) -> bytes:
        stream = io.BytesIO()
        picture(number, mode).save(stream, format, **options)
        return stream.getvalue()

    return data


def moving(format: str) -> Callable[[int], bytes]:
    def data(number: int) -> bytes:
        stream = io.BytesIO()
        frames = [picture(number).point(lambda value, i=i: value // (i + 1)) for i in range(3)]
        frames[0].save(stream, format, save_all=True, append_images=frames[1:])
        return stream.getvalue()

    return data


def cut(format: str, left: float = 0.5, **options: object) -> Callable[[int], bytes]:
    whole = saved(format, **options)
    return lambda number: (data := whole(number))[: int(left * len(data))]


def deep(number: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.arange(900 + 30 * number, dtype=np.uint16).reshape(-1, 30) * 40).save(stream, "PNG")
    return stream.getvalue()


def turned(number: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 1 + number % 8
    return saved("JPEG", exif=exif)(number)


def heic(number: int) -> bytes:
    heif = pytest.importorskip("pillow_heif")
    stream = io.BytesIO()
    heif.from_pillow(picture(number).resize((64, 64))).save(stream, format="HEIF")
    return stream.getvalue()


KINDS = (
    *(Kind(".png", saved("PNG", mode)) for mode in ("RGB", "RGBA", "L", "LA", "P", "1")),
    *(Kind(".jpg", saved("JPEG", mode)) for mode in ("RGB", "L", "CMYK")),
    *(Kind(".jpeg", saved("JPEG", progressive=True)), Kind(".JPG", turned)),
    *(Kind(".webp", saved("WEBP", mode)) for mode in ("RGB", "RGBA")),
    *(Kind(".avif", saved("AVIF", mode)) for mode in ("RGB", "RGBA")),
    *(Kind(".tif", saved("TIFF", mode)) for mode in ("RGB", "RGBA", "L", "1")),
    Kind(".tiff", saved("TIFF", compression="tiff_lzw")),
    *(Kind(".jp2", saved("JPEG2000")), Kind(".bmp", saved("BMP")), Kind(".dib", saved("DIB"))),
    *(Kind(".gif", saved("GIF", "P")), Kind(".ppm", saved("PPM")), Kind(".pgm", saved("PPM", "L"))),
    *(Kind(".tga", saved("TGA", "RGBA")), Kind(".pcx", saved("PCX")), Kind(".ico", saved("ICO", "RGBA"))),
    *(Kind(".qoi", saved("QOI")), Kind(".heic", heic), Kind(".png", saved("JPEG"))),  # the content counts
    Kind(".png", deep),
    *(Kind(".tif", moving("TIFF"), LINE), Kind(".jpg", lambda number: saved("JPEG")(number)[:-2], LINE)),
    *(
        Kind(".gif", moving("GIF"), ERROR),
        Kind(".apng", moving("PNG"), ERROR),
        Kind(".webp", moving("WEBP"), ERROR),
    ),
    *(Kind(".jpg", cut("JPEG"), ERROR), Kind(".png", cut("PNG"), ERROR), Kind(".tif", cut("TIFF"), ERROR)),
    *(
        Kind(".webp", cut("WEBP"), ERROR),
        Kind(".avif", cut("AVIF"), ERROR),
        Kind(".jp2", cut("JPEG2000", 0.1), ERROR),
    ),
    *(Kind(".png", lambda _: b"", ERROR), Kind(".jpg", lambda _: b"a text renamed", ERROR)),
    Kind(".bmp", lambda number: np.random.default_rng(number).bytes(500), ERROR),
)
ODD = ("a b", "-dash", "ünï©öde", "new\nline", "\udcff", "*?[]", "\u202eright", "dots.in.name")


@dataclass(frozen=True)
class Album:
    """The folder; its files by what is to become of them; lines that are to be there besides."""

    folder: Path
    files: dict[str, list[Path]]
    lines: tuple[str, ...]


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Album:
    folder = tmp_path_factory.mktemp("people") / "album"
    files: dict[str, list[Path]] = {PLAIN: [], LINE: [], ERROR: []}
    for number in range(FILES - 4):
        kind = KINDS[number % len(KINDS)]
        name = f"{ODD[number // 9 % len(ODD)]}{number}" if number % 9 == 0 else f"IMG_{number:04}"
        place = folder / ("", "2024", "2024/summer", "2025")[number % 4] / f"{name}{kind.extension}"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(kind.data(number))
        files[kind.fate].append(place)
    for name, target in (("gone.jpg", "nowhere"), ("loop.png", "loop.png")):
        (folder / name).symlink_to(target)
        files[ERROR].append(folder / name)
    os.mkfifo(folder / "pipe.png")
    files[ERROR].append(folder / "pipe.png")
    (folder / "same.png").symlink_to(files[PLAIN][0])
    files[PLAIN].append(folder / "same.png")
    (folder / "IMG_0001.json").write_text("{}")
    (folder / ".hidden.png").write_bytes(b"nobody looks")
    (folder / "2025" / "up").symlink_to(folder)
    (folder / "best").symlink_to("2024/summer")
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "linked.png").write_bytes(saved("PNG")(1))
    (folder / "linked").symlink_to(elsewhere)
    files[PLAIN].append(folder / "linked" / "linked.png")
    lines = (
        f"{folder}/2025/up: this link leads back to what is searched already",
        f"{folder}/best: this link leads back to what is searched already",
        f"{folder}: files of other kinds are left alone: 1 (.json)",
    )
    return Album(folder, files, lines)


def run(*arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-m", "latentcodec", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, check=False)


def shown(path: Path) -> str:
    """A path as the program prints it."""
    return printable(click.format_filename(path))


@pytest.mark.slow
def test_an_album_through_the_program_and_through_python(album: Album, tmp_path: Path) -> None:
    out, back = tmp_path / "out", tmp_path / "back"
    done = run("compress", album.folder, "--out-dir", out, "--keep-extension", "-p", "-q", "40")
    assert done.returncode == 1
    told = done.stderr.decode()
    lines = told.splitlines()
    assert "Traceback" not in told

    def target(source: Path) -> Path:
        relative = source.relative_to(album.folder)
        return out / relative.with_name(relative.name + ".lci")

    kept = album.files[PLAIN] + album.files[LINE]
    assert {path for path in out.rglob("*") if path.is_file()} == {target(source) for source in kept}
    failed = len(album.files[ERROR])
    assert lines[-1] == f"latentcodec: {failed} of {len(kept) + failed} files failed"
    for fate, start in ((LINE, "latentcodec: warning: "), (ERROR, "latentcodec: ")):
        for source in album.files[fate]:
            assert any(line.startswith(start + shown(source)) for line in lines), (fate, source)
    for source in album.files[PLAIN]:
        assert not any(line.startswith(f"latentcodec: warning: {shown(source)}") for line in lines), source
        assert target(source).stat().st_mtime_ns == source.stat().st_mtime_ns
    assert set(album.lines) <= set(lines)

    without = run("compress", album.folder, "--out-dir", tmp_path / "clashes", "-Q", "-q", "40")
    clashing = [line for line in without.stderr.decode().splitlines() if "to one file" in line]
    assert without.returncode == 1
    assert clashing == []  # every name has its own number

    done = run("decompress", out, "--out-dir", back, "-p")
    assert (done.returncode, len(list(back.rglob("*.png")))) == (0, len(kept))

    codec = Codec(device="cpu")
    for source in kept:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            codec.compress(source, tmp_path / "one.lci", quality=40)
        assert bool(caught) == (source in album.files[LINE]), source
        assert (tmp_path / "one.lci").read_bytes() == target(source).read_bytes(), source
        decoded = back / target(source).relative_to(out).with_suffix(".png")
        with Image.open(decoded) as image:
            found = latentcodec.info(target(source))
            assert image.size == (found.width, found.height)
            assert np.array_equal(np.asarray(image), np.asarray(codec.decode(target(source).read_bytes())))
    for source in album.files[ERROR]:
        if source.name != "pipe.png":  # which would be waited for
            with pytest.raises((latentcodec.LatentCodecError, OSError)):
                codec.compress(source, tmp_path / "none.lci", quality=40)
    assert not (tmp_path / "none.lci").exists()


@pytest.mark.slow
def test_first_frames_and_targets_of_an_album(album: Album, tmp_path: Path) -> None:
    animations = [path for path in album.files[ERROR] if path.suffix in (".gif", ".apng")][:6]
    done = run("compress", *animations, "--out-dir", tmp_path, "--first-frame", "--min-ssimulacra2", "60")
    assert done.returncode == 0
    assert done.stderr.decode().count("only the first of its 3 frames is kept") == len(animations)
    for path in animations:
        with Image.open(path) as image:
            first = image.convert("RGB")
        assert latentcodec.compare(first, tmp_path / f"{path.stem}.lci").ssimulacra2 >= 60
