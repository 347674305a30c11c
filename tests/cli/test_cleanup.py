"""compress --cleanup-unet and decompress --cleanup, as a user calls them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import Call
from tests.toy_diffusion import know_toys, save_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        know_toys(patch)
        return save_model(tmp_path_factory.mktemp("models") / "toy-sd")


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    know_toys(monkeypatch)


def pixels(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    with Image.open(path) as image:
        return np.asarray(image)


def test_there_and_back(call: Call, picture: Path, model: Path, tmp_path: Path) -> None:
    packed, plain, cleaned = tmp_path / "a.lci", tmp_path / "plain.png", tmp_path / "cleaned.png"
    assert call("models", "add", model, "--name", "sd").code == 0
    options = (
        "--cleanup-unet",
        "sd",
        "--cleanup-limit",
        "900",
        "--cleanup-prompt",
        "a photo!",
        "--cleanup-seed",
        "5",
    )
    assert call("compress", "--model", "sd", *options, "-q", "30", picture, packed).code == 0
    stored = json.loads(call("info", "--json", packed).out)["cleanup"]
    assert (stored["unet"], stored["steps"], stored["strength"], stored["seed"]) == ("sd", 3, None, 5)
    assert (stored["prompt"], stored["full"]) == (3, 1)
    assert "by the UNet sd (fingerprint" in " ".join(call("info", packed).out.decode().split())
    assert call("decompress", packed, plain).code == 0
    assert call("decompress", "--cleanup", packed, cleaned).code == 0
    assert (pixels(plain) != pixels(cleaned)).any()
    again, half = tmp_path / "again.png", tmp_path / "half.png"
    assert call("decompress", packed, again, "--cleanup", "1.0").code == 0
    assert (pixels(again) == pixels(cleaned)).all()
    assert call("decompress", packed, "--cleanup", "0.5", half).code == 0
    assert not any((pixels(half) == pixels(other)).all() for other in (plain, cleaned))
    assert call("decompress", "--cleanup=0", packed, again).code == 0
    assert (pixels(again) == pixels(plain)).all()
    assert call("decompress", packed, again, "--cleanup").code == 0
    assert (pixels(again) == pixels(cleaned)).all()


def test_a_missing_unet_is_a_line_with_the_way_out(
    call: Call, picture: Path, model: Path, tmp_path: Path
) -> None:
    packed, out = tmp_path / "a.lci", tmp_path / "out.png"
    options = ("--model", model, "--cleanup-unet", model, "--cleanup-limit", "900")
    assert call("compress", *options, "-q", "30", picture, packed).code == 0
    done = call("decompress", "--model", model, "--cleanup", packed, out)
    assert done.code == 1
    assert done.err.count("\n") == 1
    assert "needs the UNet toy-sd" in done.err
    assert "latentcodec models add" in done.err
    assert not out.exists()
    named = call("decompress", "--model", model, "--cleanup", "--cleanup-unet", model, packed, out)
    assert named.code == 0
    gone = call("compress", "--model", model, "--cleanup-unet", tmp_path / "gone", picture, packed)
    assert (gone.code, "gone" in gone.line) == (1, True)


def test_what_was_found_at_a_path_is_told(call: Call, picture: Path, model: Path, tmp_path: Path) -> None:
    packed, line = tmp_path / "a.lci", f"clean-up UNet {model}: family sd1 (a UNet of "
    options = ("--model", model, "--cleanup-unet")
    assert line in call("compress", *options, model, picture, packed).err
    assert call("compress", "-Q", *options, model, picture, packed).err == ""
    assert call("models", "add", model, "--name", "sd").code == 0
    assert "clean-up UNet" not in call("compress", *options, "sd", picture, packed).err
    assert "clean-up UNet sd: family sd1 (" in call("compress", "-v", *options, "sd", picture, packed).err


@pytest.mark.filterwarnings("default::latentcodec.codec.cleanup.file.CleanupWarning")
def test_a_file_without_the_chunk_says_so(call: Call, picture: Path, model: Path, tmp_path: Path) -> None:
    packed, out = tmp_path / "a.lci", tmp_path / "out.png"
    assert call("compress", "--model", model, picture, packed).code == 0
    done = call("decompress", "--model", model, "--cleanup", packed, out)
    assert (done.code, "stores no clean-up" in done.line) == (1, True)
    done = call("decompress", "--model", model, "--cleanup-unet", model, "--cleanup", packed, out)
    assert done.code == 0
    assert "warning: the file stores no clean-up" in done.err


def test_options_that_do_not_fit(call: Call, picture: Path, lci: Path, model: Path, tmp_path: Path) -> None:
    packed, out = tmp_path / "a.lci", tmp_path / "out.png"
    done = call("compress", "--cleanup-limit", "1", picture, packed)
    assert (done.code, "--cleanup-limit: give --cleanup-unet too" in done.line) == (2, True)
    assert call("compress", "--cleanup-unet", model, "--cleanup-preset", "best", picture, packed).code == 2
    assert call("decompress", "--cleanup", "2", lci, out).code == 2
    long = call(
        "compress", "--model", model, "--cleanup-unet", model, "--cleanup-prompt", "a " * 80, picture, packed
    )
    assert (long.code, "80 tokens" in long.line) == (1, True)
    native = call("decompress", "--cleanup", lci, out)
    assert (native.code, "not made with an autoencoder" in native.line) == (1, True)
    assert call("decompress", "--", "--cleanup", out).code == 1  # a file of that name
