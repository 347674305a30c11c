"""train prior, and what compress and decompress do with its file."""

from __future__ import annotations

import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from latentcodec.cli.training import prior as train_prior
from latentcodec.cli.training.progress import prior_line
from latentcodec.codec.values.prior_file import read_prior, stored_path
from latentcodec.training.data import is_held_out
from latentcodec.training.prior.data import Examples
from tests.cli.conftest import Call
from tests.conftest import photograph
from tests.toy_autoencoder import save_pair


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pair(tmp_path_factory.mktemp("models") / "toy", 1)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for name in ("astronaut", "coffee"):
        Image.fromarray(photograph(name, 288, 272)).save(folder / f"{name}.png")
    Image.fromarray(photograph("coffee", 64, 64)).save(folder / "small.png")
    return folder


def few(model: Path, pictures: Path, *more: object) -> list[object]:
    return ["train", "prior", model, pictures, "--steps", "1", "--crops", "1", "--threads", "1", *more]


@pytest.mark.slow
def test_there_and_back(call: Call, model: Path, pictures: Path, picture: Path, tmp_path: Path) -> None:
    out, packed, shown = tmp_path / "x" / "p.safetensors", tmp_path / "a.lci", tmp_path / "a.png"
    done = call(*few(model, pictures, "--out", out))
    assert done.code == 0
    hashed = read_prior(out).hash.hex()
    assert done.err.splitlines() == [
        "toy: encoding up to 1 crops of 3 pictures",
        "1 of 1 crops encoded, 0:00:00 left",
        "1 of 1 crops coded, 0:00:00 left",
        "toy: fitting to 4 samples, 4 of each crop",
        "toy: not tried on pictures held out",
    ]
    assert re.fullmatch(rf"{out}: step 1, \d+ bytes, prior {hashed} of toy\n", done.out.decode())
    assert call("compress", "--model", model, "--prior", out, picture, packed).code == 0
    assert f"at 1/8, prior {hashed}" in " ".join(call("info", packed).out.decode().split())
    assert call("decompress", "--model", model, "--prior", out, packed, shown).code == 0
    with Image.open(shown) as after, Image.open(picture) as before:
        assert after.size == before.size
        one = np.asarray(after)
    missing = call("decompress", "--model", model, packed, tmp_path / "b.png")
    assert missing.code == 1
    assert f"needs the prior {hashed}" in missing.err
    assert "--prior" in missing.err
    assert not (tmp_path / "b.png").exists()
    # The same training again, into the store, where decoders look.
    assert call(*few(model, pictures, "-Q")).code == 0
    assert stored_path(bytes.fromhex(hashed)).exists()
    assert call("decompress", "--model", model, packed, tmp_path / "b.png").code == 0
    with Image.open(tmp_path / "b.png") as after:
        assert (np.asarray(after) == one).all()


@pytest.mark.slow
def test_it_is_tried_on_pictures_held_out(
    call: Call, model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = (f"{number}.png" for number in range(1000))
    unseen = tmp_path / "album" / next(name for name in names if is_held_out(Path(name)))
    shutil.copytree(pictures, tmp_path / "album")
    shutil.copy(pictures / "coffee.png", unseen)
    monkeypatch.setattr(train_prior, "_CHECKED", 2)
    out = tmp_path / "p.safetensors"
    done = call(*few(model, tmp_path / "album", "--out", out))
    told = r"toy: on pictures held out (0\.\d{4}) bits a latent, \d+\.\d % (less|more) than without it"
    found = re.match(told, done.err.splitlines()[-1])
    assert found
    held = read_prior(out).card["held_out"]
    assert held["crops"] == 2
    assert f"{held['bits']:.4f}" == found[1]
    assert held["adaptive"] == pytest.approx(held["bits"], rel=0.02)  # after one step
    # Held-out pictures that are too small are no reason to lose the prior.
    shutil.copy(pictures / "small.png", unseen)
    done = call(*few(model, tmp_path / "album", "--out", out))
    assert done.code == 0
    assert "not tried on pictures held out: no picture of 1 has both sides" in done.err
    assert read_prior(out).card["held_out"] is None


def test_ctrl_c_writes_what_is_there(
    call: Call, model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = Examples.batch

    def batch(self: Examples, *arguments: int) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return take(self, *arguments)

    monkeypatch.setattr(Examples, "batch", batch)
    out = tmp_path / "p.safetensors"
    begun = ["train", "prior", model, pictures, "--crops", "1", "--threads", "1", "-Q", "--out", out]
    done = call(*begun, "--minutes", "5")
    assert done.code == 130
    assert read_prior(out).card["steps"] == 1


def test_errors_are_a_line(call: Call, model: Path, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "little").mkdir()
    (tmp_path / "bad").mkdir()
    Image.fromarray(photograph("coffee", 64, 64)).save(tmp_path / "little" / "a.png")
    (tmp_path / "bad" / "text.png").write_text("not a picture")
    for folder, message in (
        ("empty", "no pictures"),
        ("little", "no picture of 1 has both sides of at least 256 pixels"),
        ("bad", "text.png: not a readable picture"),
    ):
        done = call(*few(model, tmp_path / folder, "--out", tmp_path / "p"))
        assert done.code == 1
        assert message in done.err
    assert call(*few(model, pictures, "--minutes", "1")).code == 2
    done = call(*few(tmp_path / "gone", pictures))
    assert done.code == 1
    assert "no such file or folder" in done.err
    (tmp_path / "p").write_text("none")
    done = call(
        "compress", "--model", model, "--prior", tmp_path / "p", pictures / "small.png", tmp_path / "o"
    )
    assert done.code == 1
    assert "p: not a prior's file" in done.err
    assert not (tmp_path / "o").exists()


def test_the_progress_line() -> None:
    row = {"step": 40, "rate": 1.5, "seconds": 65.4, "remaining": 20.0, "bits": 0.51234}
    assert prior_line(row) == "step 40, 1.50 steps/s, 0:01:05 gone, 0:00:20 left, 0.5123 bits a latent"
    assert "no end set" in prior_line(row | {"remaining": None})
    row = {"crops": 40, "what": "coded", "count": 400, "seconds": 61.2, "remaining": 551.0}
    assert prior_line(row) == "40 of 400 crops coded, 0:09:11 left"
