"""Training sets in tar files: split, read where they lie, refused where a tar holds what it should not."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from latentcodec.errors import TrainingError
from latentcodec.training import pack as packing
from latentcodec.training import packed
from latentcodec.training.data import (
    SUFFIXES,
    find_pictures,
    find_training_pictures,
    is_held_out,
    load_pictures,
)
from latentcodec.training.pack import pack_pictures
from latentcodec.training.packed import read_pack
from latentcodec.training.provenance import describe_pictures

COUNT = 40
SIZE = 20_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty pictures of noise in two folders, of which some are held out."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    (folder / "deep" / "er").mkdir(parents=True)
    for number in range(COUNT):
        place = folder / ("deep/er" if number % 2 else ".") / f"bild-ä-{number:03}.png"
        Image.fromarray(rng.integers(0, 256, (32, 20 + number, 3), np.uint8)).save(place)
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_packs_hold_what_is_trained_on_and_name_the_rest(folder: Path, tmp_path: Path) -> None:
    written = pack_pictures(folder, tmp_path / "out", SIZE)
    assert len(written) > 3
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "pack.json",
        *(f"pictures-{number:03}.tar" for number in range(len(written))),
    ]
    assert all(path.stat().st_size <= SIZE for path in written)
    # No tar has room for what the next one begins with.
    firsts = [read_pack(path, SUFFIXES)[0].size for path in written[1:]]
    assert all(path.stat().st_size + size + 2048 > SIZE for path, size in zip(written, firsts, strict=False))
    paths = find_pictures(folder)
    used = [path for path in paths if not is_held_out(path)]
    assert 0 < len(used) < COUNT
    pictures = find_training_pictures(tmp_path / "out")
    assert not any(map(is_held_out, pictures))
    for one, other in zip(load_pictures(pictures, 16), load_pictures(used, 16), strict=True):
        assert np.array_equal(one, other)
    assert describe_pictures(folder, pictures)["sha256"] == describe_pictures(folder, used)["sha256"]
    manifest = json.loads((tmp_path / "out" / "pack.json").read_text())
    assert manifest["pictures"] == describe_pictures(folder, paths)
    assert manifest["held_out"] == [p.relative_to(folder).as_posix() for p in paths if is_held_out(p)]
    assert sum(manifest["tars"].values()) == len(used)


def test_the_same_pictures_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    one, other = (pack_pictures(folder, tmp_path / name, SIZE) for name in ("one", "other"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]
    with tarfile.open(one[0]) as tar:  # others can read it as well
        member = tar.getmembers()[0]
        stream = tar.extractfile(member)
        assert stream is not None
        assert stream.read() == (folder / member.name).read_bytes()


def test_what_cannot_be_packed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TrainingError, match=r"bytes in a tar, more than 1000 \(--size\)"):
        pack_pictures(folder, tmp_path / "out", 1000)
    assert not (tmp_path / "out").exists()
    pack_pictures(folder, tmp_path / "out", 1 << 20)
    with pytest.raises(TrainingError, match="already holds tar files"):
        pack_pictures(folder, tmp_path / "out", 1 << 20)
    with pytest.raises(TrainingError, match="no pictures"):
        pack_pictures(tmp_path / "out", tmp_path / "again", 1 << 20)
    monkeypatch.setattr(packing, "is_held_out", lambda path: True)
    with pytest.raises(TrainingError, match="held out"):
        pack_pictures(folder, tmp_path / "none", 1 << 20)


def test_a_picture_that_shrinks_meanwhile_leaves_no_tar(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = packing._header
    monkeypatch.setattr(packing, "_header", lambda place, length: header(place, length + 512))
    monkeypatch.setattr(
        packing, "_plan", lambda *_: [packing.Pack("a.tar", [("a.png", tmp_path / "a.png", 9)])]
    )
    (tmp_path / "a.png").write_bytes(b"short")
    with pytest.raises(TrainingError, match="4 of its 9 bytes went while it was packed"):
        pack_pictures(folder, tmp_path / "out", SIZE)
    assert list((tmp_path / "out").iterdir()) == []


def test_loose_pictures_and_packed_ones_are_both_trained_on(folder: Path, tmp_path: Path) -> None:
    pack_pictures(folder, tmp_path / "tars", SIZE)
    Image.new("RGB", (40, 40)).save(tmp_path / "loose.png")
    names = [picture.name for picture in find_training_pictures(tmp_path)]
    assert names[0] == "loose.png"
    assert len(names) > COUNT / 2
    assert find_training_pictures(folder) == find_pictures(folder)
    with pytest.raises(TrainingError, match="not a folder"):
        find_training_pictures(tmp_path / "loose.png")


def tar_of(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for member, data in members:
            tar.addfile(member, io.BytesIO(data))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, link
    return info


@pytest.mark.parametrize(
    ("kind", "link"),
    [
        (tarfile.SYMTYPE, "/etc/passwd"),
        (tarfile.LNKTYPE, "other.png"),
        (tarfile.CHRTYPE, ""),
        (tarfile.FIFOTYPE, ""),
    ],
)
def test_what_is_no_regular_file_is_refused(tmp_path: Path, kind: bytes, link: str) -> None:
    tar_of(tmp_path / "a.tar", (member("a.png", kind, link=link), b""))
    with pytest.raises(TrainingError, match=r"a\.tar: a\.png: not a regular file"):
        find_training_pictures(tmp_path)


def test_names_lead_nowhere(tmp_path: Path) -> None:
    """A name with dots or a root is a name: nothing is written, nothing else is read."""
    held = io.BytesIO()
    Image.new("RGB", (20, 20), (9, 8, 7)).save(held, "PNG")
    data = held.getvalue()
    names = ("../../up.png", "/root.png", "folder/a.png")
    members = [(member("folder", tarfile.DIRTYPE), b""), (member("x.txt", size=3), b"abc")]
    tar_of(tmp_path / "a.tar", *members, *((member(name, size=len(data)), data) for name in names))
    pictures = find_training_pictures(tmp_path)
    assert [picture.name for picture in pictures] == ["up.png", "root.png", "a.png"]
    assert all((pixels == (9, 8, 7)).all() for pixels in load_pictures(pictures, 16))
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]


def test_sizes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "MOST_BYTES", 1000)
    tar_of(tmp_path / "a.tar", (member("a.png", size=1001), bytes(1001)))
    with pytest.raises(TrainingError, match="1001 bytes; 1 to 1000 are read"):
        find_training_pictures(tmp_path)
    tar_of(tmp_path / "a.tar", (member("a.png"), b""))
    with pytest.raises(TrainingError, match="0 bytes; 1 to 1000"):
        find_training_pictures(tmp_path)


@pytest.mark.parametrize("kept", [512 + 100, 512])
def test_cut_tars(tmp_path: Path, kept: int) -> None:
    path = tar_of(tmp_path / "a.tar", (member("a.png", size=900), bytes(900)))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(TrainingError, match=r"a\.tar"):
        find_training_pictures(tmp_path)


def test_a_tar_that_is_cut_after_it_was_listed(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "a.tar", (member("a.png", size=900), bytes(900)))
    (picture,) = find_training_pictures(tmp_path)
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(TrainingError, match="cut after 188 of 900 bytes"):
        picture.open("rb")


@pytest.mark.parametrize("compression", ["gz", "xz"])
def test_compressed_tars_and_other_files_are_refused(tmp_path: Path, compression: str) -> None:
    with tarfile.open(tmp_path / "a.tar", f"w:{compression}") as tar:  # type: ignore[call-overload]
        tar.addfile(member("a.png", size=4), io.BytesIO(b"abcd"))
    with pytest.raises(TrainingError, match="not a plain tar file"):
        find_training_pictures(tmp_path)
    (tmp_path / "a.tar").write_bytes(b"x" * 2000)
    with pytest.raises(TrainingError, match="not a plain tar file"):
        find_training_pictures(tmp_path)


def test_broken_pictures_in_a_tar_are_named(tmp_path: Path) -> None:
    tar_of(tmp_path / "a.tar", (member("b/broken.png", size=4), b"text"))
    with pytest.raises(TrainingError, match=r"a\.tar: b/broken\.png: not a readable picture"):
        load_pictures(find_training_pictures(tmp_path), 16)
