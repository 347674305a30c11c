"""latentcodec compare"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import latentcodec
from latentcodec.errors import InvalidArgument
from latentcodec.picture.picture import DroppedDataWarning
from latentcodec.picture.similarity.ssimulacra2 import ssimulacra2
from latentcodec.picture.similarity.structure import ms_ssim, psnr
from tests.cli.conftest import Call, pixels
from tests.conftest import SRGB, photograph, rgb


def test_a_table(call: Call, picture: Path, lci: Path) -> None:
    done = call("compare", picture, lci)
    assert (done.code, done.err) == (0, "")
    lines = dict(line.split("  ", 1) for line in done.out.decode().splitlines())
    table = {label: value.strip() for label, value in lines.items()}
    decoded = rgb(latentcodec.decode(lci.read_bytes()))
    bits = 8 * lci.stat().st_size / 64**2
    assert table["B"].replace("\n", "").endswith(f"{lci.stat().st_size} bytes ({bits:.3f} bits per pixel)")
    assert table["pictures"] == "64x64, different"
    assert table["PSNR"] == f"{psnr(pixels(), decoded):.2f} dB"
    assert table["MS-SSIM"] == "needs 161 pixels a side"
    assert table["SSIMULACRA 2"] == f"{ssimulacra2(pixels(), decoded):.2f}"
    assert "identical" in call("compare", lci, lci).out.decode()


def test_json_and_pipes(call: Call, tmp_path: Path) -> None:
    original, jpeg = tmp_path / "a.png", tmp_path / "a.jpg"
    Image.fromarray(photograph(width=200, height=180)).save(original)
    Image.fromarray(photograph(width=200, height=180)).save(jpeg, quality=40)
    done = call("compare", original, "-", "--json", data=jpeg.read_bytes())
    assert done.code == 0
    found = json.loads(done.out)
    pair = rgb(Image.open(original)), rgb(Image.open(jpeg))
    assert found == {
        "first": str(original),
        "second": "standard input",
        "width": 200,
        "height": 180,
        "identical": False,
        "psnr": psnr(*pair),
        "alpha_psnr": None,
        "ms_ssim": ms_ssim(*pair),
        "ssimulacra2": ssimulacra2(*pair),
        "first_bytes": original.stat().st_size,
        "second_bytes": jpeg.stat().st_size,
    }
    same = json.loads(call("compare", original, original, "--json").out)
    assert (same["identical"], same["psnr"], same["ms_ssim"], same["ssimulacra2"]) == (True, None, 1.0, 100.0)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("{picture}",), 2, "Missing argument 'B'"),
        (("-", "-"), 2, "standard input holds one of them"),
        (("{picture}", "gone.png"), 1, "gone.png: No such file or directory"),
        (("{picture}", "{small}"), 1, "the pictures are 64x64 and 8x9: only pictures of one size"),
        (("{picture}", "{text}"), 1, "notes.txt is no picture in a format that is read"),
    ],
)
def test_what_cannot_be_compared(
    call: Call, picture: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    small, text = tmp_path / "small.png", tmp_path / "notes.txt"
    Image.new("RGB", (8, 9)).save(small)
    text.write_text("notes")
    done = call("compare", *(each.format(picture=picture, small=small, text=text) for each in arguments))
    assert done.code == code
    assert message in done.err
    assert done.out == b""


def test_in_python(picture: Path, lci: Path) -> None:
    found = latentcodec.compare(pixels(), Image.fromarray(pixels()))
    assert (found.identical, found.psnr, found.first_bytes) == (True, math.inf, None)
    assert latentcodec.compare(picture, lci) == latentcodec.compare(picture.read_bytes(), str(lci))
    with pytest.raises(InvalidArgument, match="only pictures of one size"):
        latentcodec.compare(pixels(), pixels(32, 64))
    profiled = Image.fromarray(pixels())
    profiled.info["icc_profile"] = SRGB
    with pytest.warns(DroppedDataWarning, match="different colour profiles"):
        assert latentcodec.compare(pixels(), profiled).identical
    assert np.isfinite(latentcodec.compare(pixels(), pixels(seed=1)).psnr)
