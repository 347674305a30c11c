"""Pictures of ordinary size are coded without PyTorch, whose start takes longer than they do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from latentcodec.codec.api import Codec
from tests.conftest import photograph, psnr, rgb

ROOT = Path(__file__).resolve().parents[2]
BEGIN = "import sys\nfrom pathlib import Path\nsource, packed, shown = sys.argv[1:]\n"
CLASS = """
from latentcodec import Codec
codec = Codec()
codec.compress(source, packed)
codec.decompress(packed, shown)
"""
FUNCTIONS = """
import latentcodec
latentcodec.compress(source, packed)
latentcodec.decompress(packed, shown)
"""
BYTES = """
import latentcodec
from PIL import Image
data = latentcodec.encode(Image.open(source))
Path(packed).write_bytes(data)
latentcodec.decode(data).save(shown)
"""
COMMAND = """
from latentcodec.cli.main import main
main(["compress", source, packed], standalone_mode=False)
main(["decompress", packed, shown], standalone_mode=False)
"""
WAYS = {"class": CLASS, "functions": FUNCTIONS, "bytes": BYTES, "command": COMMAND}
END = "\nsys.exit('torch' in sys.modules)"
# PyTorch is not there at all.
HIDE = """
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hidden())
"""


def run(code: str, folder: Path, picture: Image.Image, **environment: str) -> int:
    """The exit status of a process that makes folder/shown.png of a picture, by way of folder/packed.lci."""
    paths = [folder / name for name in ("source.png", "packed.lci", "shown.png")]
    picture.save(paths[0])
    names = ("LATENTCODEC_ENGINE", "LATENTCODEC_KERNEL")
    inherited = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + code, *paths],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=inherited | environment,
        check=False,
    )
    assert done.stderr == "" or "Traceback" not in done.stderr, done.stderr
    return done.returncode


def check(folder: Path, codec: Codec) -> None:
    """What is shown is the picture, and what any other engine shows of the same file."""
    data = (folder / "packed.lci").read_bytes()
    with Image.open(folder / "shown.png") as shown, Image.open(folder / "source.png") as source:
        assert np.array_equal(rgb(shown), rgb(codec.decode(data)))
        assert psnr(rgb(source), rgb(shown)) > 25


@pytest.mark.parametrize("kernel", ["auto", "off"])
@pytest.mark.parametrize("way", WAYS)
def test_no_pytorch_is_loaded(codec: Codec, tmp_path: Path, way: str, kernel: str) -> None:
    picture = Image.fromarray(photograph(width=64, height=64))
    assert run(WAYS[way] + END, tmp_path, picture, LATENTCODEC_KERNEL=kernel) == 0
    check(tmp_path, codec)


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_nor_for_gray_and_transparent_pictures(codec: Codec, tmp_path: Path, mode: str) -> None:
    picture = Image.fromarray(photograph(width=50, height=33)).convert(mode)
    assert run(CLASS + END, tmp_path, picture) == 0
    check(tmp_path, codec)


def test_nor_for_a_target(codec: Codec, tmp_path: Path) -> None:
    picture = Image.fromarray(photograph("coffee", 96, 64))
    code = CLASS.replace("source, packed", "source, packed, min_psnr=33")
    assert run(code + END, tmp_path, picture) == 0
    check(tmp_path, codec)
    code = CLASS.replace("source, packed", "source, packed, target_size=900")
    assert run(code + END, tmp_path, picture) == 0
    assert (tmp_path / "packed.lci").stat().st_size <= 900


def test_where_there_is_no_pytorch_at_all(codec: Codec, tmp_path: Path) -> None:
    picture = Image.fromarray(photograph(width=64, height=64))
    assert run(HIDE + CLASS + END, tmp_path, picture) == 0
    check(tmp_path, codec)


def test_a_search_loads_it(codec: Codec, tmp_path: Path) -> None:
    """Efforts 4 to 9 need gradients."""
    picture = Image.fromarray(photograph(width=64, height=64))
    code = CLASS.replace("source, packed", "source, packed, effort=4")
    assert run(code + END, tmp_path, picture) == 1
    check(tmp_path, codec)
