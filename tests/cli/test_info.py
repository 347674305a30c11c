"""latentcodec info"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from latentcodec.codec.api import Codec
from latentcodec.codec.info import info
from tests.cli.conftest import Call, pixels


def test_json(call: Call, lci: Path) -> None:
    done = call("info", lci, "--json")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out) == {"file": str(lci)} | json.loads(json.dumps(asdict(info(lci))))
    assert json.loads(done.out)["structure_bytes"] <= 64


def test_json_of_several_is_an_object_a_line(call: Call, lci: Path, picture: Path) -> None:
    done = call("info", "--json", lci, picture, "-", data=lci.read_bytes())
    assert done.code == 1
    names = [json.loads(line)["file"] for line in done.out.splitlines()]
    assert names == [str(lci), "standard input"]
    assert done.err.startswith(f"latentcodec: {picture}: not a latentcodec file")


def test_table_of_one(call: Call, lci: Path) -> None:
    done = call("info", lci)
    text = " ".join(done.out.decode().split())
    made = info(lci)
    assert "picture 64x64, RGB, 8 bits" in text
    assert f"bytes {made.bytes} ({made.bpp:.3f} bits per pixel), of them {made.structure_bytes} of" in text
    assert f"quality 60 model 1 (networks {made.networks_hash}, synthesis {made.synthesis_hash})" in text
    assert "tiles 1 metadata none" in text
    assert "asked for" not in text


def test_a_picture_without_loss_says_so(call: Call, tmp_path: Path) -> None:
    source, path, back = tmp_path / "bars.png", tmp_path / "bars.lci", tmp_path / "back.png"
    bars = np.zeros((96, 160, 3), np.uint8)
    bars[:, ::9] = (255, 120, 0)
    Image.fromarray(bars).save(source)
    assert ", lossless, " in call("compress", "-v", source, path).err
    text = " ".join(call("info", path).out.decode().split())
    assert "quality none: lossless model 2 (the pixels themselves: no networks)" in text
    assert ", lossless, " in call("decompress", "-v", path, back).err
    with Image.open(back) as image:
        assert np.array_equal(np.asarray(image), bars)


def test_table_of_one_with_a_goal(call: Call, codec: Codec, tmp_path: Path) -> None:
    path = tmp_path / "[bold]a.lci"  # what rich would take for its markup
    path.write_bytes(codec.encode(pixels(), min_psnr=25))
    text = " ".join(call("info", path).out.decode().split())
    assert "asked for psnr 25 dB, reached " in text
    assert "[bold]a.lci" in "".join(text.split())


def test_table_of_several(call: Call, lci: Path) -> None:
    done = call("info", lci, lci)
    rows = [line for line in done.out.decode().splitlines() if "64x64" in line]
    assert len(rows) == 2
    assert all(str(info(lci).bytes) in row for row in rows)


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_no_file_of_ours(call: Call, picture: Path, tmp_path: Path, options: list[str]) -> None:
    done = call("info", picture, tmp_path / "gone.lci", tmp_path, *options)
    assert (done.code, done.out) == (1, b"")
    assert [line.rpartition(": ")[2] for line in done.err.splitlines()[1:]] == [
        "No such file or directory",
        "Is a directory",
    ]


def test_usage(call: Call) -> None:
    assert call("info").code == 2
