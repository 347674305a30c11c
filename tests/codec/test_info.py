"""What a file says about itself, cheaply and as it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from latentcodec.codec.api import Codec
from latentcodec.codec.info import info
from latentcodec.codec.native.coder import NativeCodec
from latentcodec.container.chunks import Limits
from latentcodec.container.file import pack, structure_bytes
from latentcodec.errors import LimitExceeded, NotLatentCodecFile, TruncatedFile
from latentcodec.picture.picture import Picture
from tests.conftest import photograph, retiled

pytestmark = pytest.mark.usefixtures("small_tiles")


@pytest.fixture(scope="module")
def data(codec: Codec) -> bytes:
    return codec.encode(photograph(width=120, height=90), quality=42.5)


def test_fields(data: bytes, native: NativeCodec) -> None:
    found = info(data)
    assert (found.width, found.height, found.channels, found.depth) == (120, 90, 3, 8)
    assert found.bytes == len(data)
    assert found.bpp == pytest.approx(8 * len(data) / (120 * 90))
    assert found.quality == 42.5
    assert found.model == 1
    assert found.networks_hash == native.weights.networks_hash.hex()
    assert found.synthesis_hash == native.weights.synthesis_hash.hex()
    assert (found.tiles, found.tile_size) == (1, 0)
    assert found.structure_bytes == structure_bytes(data) <= 64
    assert (found.profile, found.exif, found.xmp) == (False, False, False)
    assert found.goal is None


def test_bytes_of_any_kind_and_paths(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "picture.lci"
    path.write_bytes(data)
    for source in (data, bytearray(data), memoryview(data), path, str(path)):
        assert info(source) == info(data)


def test_metadata_and_tiles(native: NativeCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    alpha = np.random.default_rng(0).integers(0, 256, (70, 100), np.uint8)
    picture = Picture(photograph(width=100, height=70), alpha, profile=b"icc", exif=b"II*\0", xmp=b"<x/>")
    found = info(pack(retiled(native, picture, 64, 1000, monkeypatch)))
    assert (found.tiles, found.tile_size, found.channels) == (4, 64, 4)
    assert found.profile
    assert found.exif
    assert found.xmp
    assert found.text == ()


def test_text(codec: Codec) -> None:
    text = (("parameters", "a cat\nSteps: 20"), ("prompt", "ねこ"))
    found = info(codec.encode(Picture(photograph(width=40, height=40), text=text)))
    assert found.text == text
    assert found.structure_bytes <= 64


def test_goal(codec: Codec) -> None:
    found = info(codec.encode(photograph(width=64, height=64), min_psnr=28))
    assert found.goal is not None
    assert found.goal.kind == "psnr"
    assert found.goal.target == 28
    assert found.goal.psnr is not None
    assert found.goal.psnr >= 28


def test_errors(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(NotLatentCodecFile):
        info(b"a text file renamed")
    with pytest.raises(TruncatedFile):
        info(data[:-1])
    with pytest.raises(LimitExceeded):
        info(data, limits=Limits(max_pixels=100))
    with pytest.raises(FileNotFoundError):
        info(tmp_path / "nothing.lci")


def test_it_needs_no_torch(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "picture.lci"
    path.write_bytes(data)
    code = (
        "import sys; from latentcodec.codec.info import info; print(info(sys.argv[1]).width);"
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "120\n"), done.stderr
