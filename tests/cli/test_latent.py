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


def test_what_was_found_at_a_path_is_told(call: Call, picture: Path, model: Path, tmp_path: Path) -> None:
    packed, told = tmp_path / "small.lci", f"model {model}: family taesd ("
    assert told in call("compress", "--model", model, picture, packed).err
    assert call("compress", "-Q", "--model", model, picture, packed).err == ""
    assert told not in call("decompress", "--model", model, packed, tmp_path / "a.png").err
    assert told in call("decompress", "-v", "--model", model, packed, tmp_path / "a.png").err
    assert call("models", "add", model, "--name", "mine").code == 0
    known = call("compress", "--model", "mine", picture, packed)
    assert (known.code, known.err.count("\n")) == (0, 1)
    assert "model mine: family taesd (" in call("compress", "-v", "--model", "mine", picture, packed).err


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


def test_an_empty_name_is_not_the_current_folder(
    call: Call, picture: Path, model: Path, tmp_path: Path
) -> None:
    packed = tmp_path / "small.lci"
    for arguments in (
        ("compress", "--model", "", picture, packed),
        ("compress", "--model", model, "--cleanup-unet", "", picture, packed),
        ("models", "add", "", "--name", "here"),
    ):
        done = call(*arguments)
        assert (done.code, done.err.count("\n"), packed.exists()) == (1, 1, False)
    assert "model '': give the name of a model in the store, or a path" in done.err


def test_the_palette(call: Call, picture: Path, model: Path, tmp_path: Path) -> None:
    packed = tmp_path / "small.lci"
    assert call("compress", "--model", model, "--quantiser", "palette", picture, packed).code == 0
    assert json.loads(call("info", "--json", packed).out)["autoencoder"]["quantiser"] == "palette"
    assert "quality none: the palette has one rate" in " ".join(call("info", packed).out.decode().split())
    again = call("compress", "-v", "--model", model, "--quantiser", "palette", picture, packed)
    assert "quality" not in again.line
    shown = call("decompress", "-v", "--model", model, packed, tmp_path / "shown.png")
    assert (shown.code, "quality" in shown.line, " s" in shown.line) == (0, False, True)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--quantiser", "palette"], "--quantiser palette: for autoencoders only; name one as the model"),
        (["--cleanup-unet", "sd"], "--cleanup-unet sd: for autoencoders"),
        (["--prior", __file__], "for autoencoders"),
        (["--effort", "10"], "1<=x<=9"),
        (["-e", "0"], "1<=x<=9"),
        (["--model", "m", "--quantiser", "palette", "-q", "90"], "--quality 90: the palette has one rate"),
        (
            ["--model", "m", "--quantiser", "palette", "--target-size", "5KB"],
            "--target-size 5000: the palette",
        ),
        (["--model", "m", "--quantiser", "palette", "-e", "4"], "--effort 4: the palette is never refined"),
        (["--model", "m", "--quantiser", "palette", "--prior", __file__], "is coded without one"),
    ],
)
def test_options_that_do_not_fit(
    call: Call, picture: Path, tmp_path: Path, options: list[str], named: str
) -> None:
    done = call("compress", *options, picture, tmp_path / "small.lci")
    assert done.code == 2
    assert named in " ".join(done.err.split())
    assert not (tmp_path / "small.lci").exists()


def test_effort(call: Call, picture: Path, model: Path, tmp_path: Path) -> None:
    sizes = []
    for effort in ("1", "3", "4"):
        packed = tmp_path / f"{effort}.lci"
        assert call("compress", "--model", model, "-e", effort, picture, packed).code == 0
        sizes.append(packed.read_bytes())
    assert sizes[0] == sizes[1] != sizes[2]
    assert call("compress", "-e", "1", picture, tmp_path / "native.lci").code == 0


def test_several_files_with_one_loaded_model(call: Call, model: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(tmp_path / f"{name}.png")
    done = call(
        "compress", "--model", model, "--out-dir", tmp_path / "out", tmp_path / "a.png", tmp_path / "b.png"
    )
    assert done.code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.lci", "b.lci"]
