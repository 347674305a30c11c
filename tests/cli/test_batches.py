"""Albums as they are: what cannot be done is told, all else is done."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import Call, pixels


@pytest.fixture
def own_folder() -> Iterator[Path]:
    """A folder of a user who is not root, whom permissions bind, and who the test is until its end."""
    with tempfile.TemporaryDirectory() as name:
        if os.geteuid() != 0:
            yield Path(name)
            return
        os.chown(name, 65534, 65534)
        os.seteuid(65534)
        try:
            yield Path(name)
        finally:
            os.seteuid(0)


def save(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed=seed)).save(path)
    return path


def written(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_same_stem_twice(call: Call, tmp_path: Path) -> None:
    album, out = tmp_path / "album", tmp_path / "out"
    for seed, name in enumerate(("1.jpg", "1.png", "2.jpg")):
        save(album / name, seed)
    done = call("compress", album, "--out-dir", out, "-Q")
    assert (done.code, written(out)) == (1, {"2.lci"})
    clash, count = done.err.splitlines()
    assert f"{out}/1.lci of {album}/1.jpg and of {album}/1.png: --keep-extension keeps them apart" in clash
    assert count == "latentcodec: 2 of 3 files failed"
    assert call("compress", album, "--out-dir", out, "--keep-extension", "-Q").code == 0
    assert written(out) == {"2.lci", "1.jpg.lci", "1.png.lci", "2.jpg.lci"}
    assert call("decompress", out, "--out-dir", tmp_path / "back", "-Q").code == 0
    assert written(tmp_path / "back") == {"2.png", "1.jpg.png", "1.png.png", "2.jpg.png"}
    assert call("decompress", out / "1.png.lci", "--out-dir", out, "--keep-extension").code == 0
    assert "1.png.lci.png" in written(out)


def test_what_may_not_be_read_is_told(call: Call, own_folder: Path) -> None:
    album = own_folder / "album"
    for seed, name in enumerate(("a.png", "b.png", "shut/c.png")):
        save(album / name, seed)
    (album / "a.png").chmod(0)
    (album / "shut").chmod(0)
    done = call("compress", album, "--out-dir", own_folder / "out", "-Q")
    (album / "shut").chmod(0o700)
    assert (done.code, written(own_folder / "out")) == (1, {"b.lci"})
    assert done.err.splitlines() == [
        f"latentcodec: {album}/shut: Permission denied",
        f"latentcodec: {album}/a.png: Permission denied",
        "latentcodec: 1 of 2 files failed",
        "latentcodec: folders without any result, named above: 1",
    ]


def test_a_protected_output_stays(call: Call, own_folder: Path) -> None:
    source, out = save(own_folder / "a.png"), own_folder / "a.lci"
    out.write_bytes(b"dear")
    out.chmod(0o444)
    done = call("compress", source, out)
    assert (done.code, done.err) == (1, f"latentcodec: {source}: {out}: Permission denied\n")
    assert out.read_bytes() == b"dear"
    assert written(own_folder) == {"a.png", "a.lci"}


def test_permissions_and_times_are_kept_on_request(call: Call, tmp_path: Path) -> None:
    source, out, back = save(tmp_path / "a.png"), tmp_path / "a.lci", tmp_path / "back.png"
    source.chmod(0o640)
    os.utime(source, (1_000_000_000, 1_234_567_890.5))
    assert call("compress", "-p", source, out).code == 0
    assert call("decompress", "--preserve", out, back).code == 0
    for path in (out, back):
        assert path.stat().st_mode & 0o7777 == 0o640
        assert path.stat().st_mtime_ns == 1_234_567_890_500_000_000
    assert call("compress", source, out).code == 0
    assert out.stat().st_mtime > 1_500_000_000
    refused = call("compress", "-p", source, "-")
    assert refused.code == 2
    assert "--preserve: a pipe has neither permissions nor times" in refused.err


@pytest.mark.parametrize(
    "name",
    ["a\nb.png", "-a.png", " .png ", "\udcff\udc80.png", "\u202egnp.png", "*?[x].png", "a.", "ß" * 120],
)
def test_odd_names(call: Call, tmp_path: Path, name: str) -> None:
    source, out = tmp_path / name, tmp_path / "out"
    Image.fromarray(pixels()).save(source, "PNG")
    done = call("compress", "--out-dir", out, "--", source)
    assert done.code == 0
    assert done.err.count("\n") == 1
    assert done.err.encode("ascii", "backslashreplace").isascii()
    (made,) = out.iterdir()
    assert call("decompress", "--", made, tmp_path / "back.png").code == 0
    assert np.asarray(Image.open(tmp_path / "back.png")).shape == (64, 64, 3)


def test_a_link_to_nothing_and_a_circle_of_links(call: Call, tmp_path: Path) -> None:
    album = tmp_path / "album"
    save(album / "a.png")
    (album / "gone.png").symlink_to("nowhere")
    (album / "loop.png").symlink_to("loop.png")
    (album / "up").symlink_to("..")
    done = call("compress", album, "--out-dir", tmp_path / "out")
    assert (done.code, written(tmp_path / "out")) == (1, {"a.lci"})
    told = done.err.splitlines()
    assert f"latentcodec: {album}/gone.png: No such file or directory" in told
    assert any("loop.png: Too many levels of symbolic links" in line for line in told)
    assert f"{album}/up: this link leads back to what is searched already" in told
    assert told[-1] == "latentcodec: 2 of 3 files failed"
