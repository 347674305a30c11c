"""compress --model and decompress with an autoencoder, as a user calls them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import Call
from tests.toy_autoencoder import save_pair


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pair(tmp_path_factory.mktemp("models") / "toy", 1)


def test_there_and_back(call: Call, picture: Path, model: Path, tmp_path: Path) -> None:
    packed, shown = tmp_path / "small.lci", tmp_path / "shown.png"
    assert call("compress", "--model", model, "-q", "40", picture, packed).code == 0
    assert call("decompress", "--model", model, packed, shown).code == 0
    with Image.open(picture) as before, Image.open(shown) as after:
        assert before.size == after.size
    told = json.loads(call("info", "--json", packed).out)
    assert told["autoencoder"]["name"] == "toy"
    assert told["quality"] == 40
    listed = call("info", packed).out.decode()
    assert "autoencoder toy (taesd, fingerprint" in " ".join(listed.split())


def test_a_missing_model_is_a_line_with_the_way_out(
    call: Call, picture: Path, model: Path, tmp_path: Path
) -> None:
    packed = tmp_path / "small.lci"
    assert call("compress", "--model", model, picture, packed).code == 0
    done = call("decompress", packed, tmp_path / "shown.png")
    assert done.code == 1
    assert done.err.count("\n") == 1
    assert "needs the autoencoder toy" in done.err
    assert "latentcodec models add" in done.err
    assert not (tmp_path / "shown.png").exists()


def test_the_palette_and_the_options(call: Call, picture: Path, model: Path, tmp_path: Path) -> None:
    packed = tmp_path / "small.lci"
    assert call("compress", "--model", model, "--quantiser", "palette", picture, packed).code == 0
    assert json.loads(call("info", "--json", packed).out)["autoencoder"]["quantiser"] == "palette"
    assert call("compress", "--effort", "9", picture, packed).code == 2
    done = call("compress", "--effort", "1", picture, packed)
    assert done.code == 1
    assert "native" in done.line


def test_several_files_with_one_loaded_model(call: Call, model: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(tmp_path / f"{name}.png")
    done = call(
        "compress", "--model", model, "--out-dir", tmp_path / "out", tmp_path / "a.png", tmp_path / "b.png"
    )
    assert done.code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.lci", "b.lci"]
