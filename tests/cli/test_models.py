"""latentcodec models: what it prints, what it changes, its exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from latentcodec.nn.stable_diffusion.tiny_autoencoder import TAEF2, TAESD, TinyAutoencoder
from latentcodec.weights.store import models_folder
from tests.cli.conftest import Call
from tests.toy_diffusion import know_toys, save_model
from tests.weights.made_checkpoints import random_network


@pytest.fixture
def single(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_file(random_network(lambda: TinyAutoencoder(TAESD)).state_dict(), path)
    return path


def test_a_models_life(call: Call, tmp_path: Path) -> None:
    network = random_network(lambda: TinyAutoencoder(TAEF2))
    for half in ("encoder", "decoder"):
        torch.save(getattr(network, half).state_dict(), tmp_path / f"x_{half}.pth")
    done = call("models", "add", tmp_path, "--name", "mine")
    assert done.code == 0
    assert b"taef2 (taesd layout: autoencoder)" in done.out
    assert b"32 latent channels, mid-block norms" in done.out
    listed = call("models", "list")
    assert b"mine" in listed.out
    assert b"to fetch: Stable Diffusion 1.5" in listed.out
    assert str(models_folder()) in listed.err
    (told,) = map(json.loads, call("models", "list", "--json").out.splitlines())
    assert (told["name"], told["detected"]["family"], told["linked"]) == ("mine", "taef2", False)
    assert json.loads(call("models", "info", "mine", "--json").out) == told
    assert call("models", "info", "mine").out == done.out
    assert call("models", "verify").out == b"mine: as it was added\n"
    assert call("models", "verify", "mine").code == 0
    done = call("models", "remove", "mine")
    assert (done.code, done.err) == (0, "mine: removed\n")
    assert call("models", "list", "--json").out == b""
    for command in ("info", "remove", "verify"):
        done = call("models", command, "mine")
        assert (done.code, done.err.startswith("latentcodec: mine: no such model in ")) == (1, True)


def test_options_of_add(call: Call, single: Path) -> None:
    done = call("models", "add", single, "--name", "xl", "--link", "--family", "taesdxl")
    assert done.code == 0
    assert b"(linked)" in done.out
    assert b"the caller says so" in done.out
    assert b"linked to" in call("models", "list").out
    assert call("models", "remove", "xl").code == 0
    assert single.is_file()
    for arguments in (
        ["--name", "a/b"],
        ["--name", "a", "--family", "sd9"],
        ["--name", "a", "--prediction", "epsilon"],
    ):
        assert call("models", "add", single, *arguments).code == 1
    for arguments in ([], ["--name", "a", "--prediction", "x0"]):
        assert call("models", "add", single, *arguments).code == 2
    done = call("models", "add", single.with_name("nothing"), "--name", "a")
    assert (done.code, "no such file or folder, nor a model in" in done.err) == (1, True)


def test_an_autoencoder_in_a_models_place(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    know_toys(monkeypatch)
    folder = save_model(tmp_path / "toy")
    vae = save_model(tmp_path / "other", 2) / "vae"
    assert call("models", "add", folder, "--name", "sd").code == 0
    done = call("models", "add", "sd", "--vae", vae, "--name", "sd-mse")
    assert done.code == 0
    own, other = (json.loads(call("models", "info", name, "--json").out) for name in ("sd", "sd-mse"))
    assert own["fingerprints"]["unet"] == other["fingerprints"]["unet"]
    assert own["fingerprint"] != other["fingerprint"] == other["fingerprints"]["autoencoder"]
    told = "".join(done.out.decode().split())
    for words in ("not the model's own:", other["fingerprint"], other["fingerprints"]["unet"], str(vae)):
        assert "".join(words.split()) in told
    assert "family sd1: a UNet of 4 input channels" in done.out.decode()
    assert "UNet: the only weights that the file has" in done.out.decode()
    assert call("models", "verify").code == 0
    done = call("models", "add", "sd", "--vae", folder, "--name", "bad")
    assert (done.code, "where an autoencoder alone is wanted" in done.err) == (1, True)


def test_damage_is_told(call: Call, single: Path) -> None:
    for name in ("a", "b", "c"):
        call("models", "add", single, "--name", name)
    (models_folder() / "a" / "files" / single.name).write_bytes(b"x")
    (models_folder() / "b" / "model.json").write_text("{")
    done = call("models", "verify")
    assert done.code == 1
    assert done.out == b"a: damaged\nb: damaged\nc: as it was added\n"
    assert "1 bytes, was added with" in done.err
    assert "remove b and add it again" in done.err
    done = call("models", "list", "--json")
    assert done.code == 1
    assert [json.loads(line)["name"] for line in done.out.splitlines()] == ["a", "c"]
    assert "remove b and add it again" in done.err


def test_a_bad_file_is_a_line(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "lora.safetensors"
    save_file({"x.lora_up.weight": torch.ones(1)}, path)
    done = call("models", "add", path, "--name", "a")
    message = f"latentcodec: {path}: holds a LoRA: it changes a model and is none\n"
    assert (done.code, done.err, models_folder().exists()) == (1, message, False)


def test_known_models(call: Call) -> None:
    done = call("models", "info", "sd15")
    assert done.code == 0
    for words in (
        b"CreativeML Open RAIL-M",
        b"restrictions",
        b"6ce0161689b3853acaa03779ec93eafe75a02f4ced659bee",
    ):
        assert words in done.out
    assert json.loads(call("models", "info", "sd15", "--json").out)["family"] == "sd1"
    done = call("models", "fetch", "taef2")
    assert done.code == 1
    assert "licence: MIT" in done.err
    assert "models add FOLDER --name taef2" in done.err
    assert call("models", "fetch", "nothing").code == 1


@pytest.mark.parametrize("arguments", [["models", "--help"], ["models", "list"], ["models", "info", "taesd"]])
def test_looking_needs_no_pytorch(arguments: list[str]) -> None:
    code = (
        f"import sys\nfrom latentcodec.cli.main import main\ntry:\n    main({arguments!r})\n"
        "except SystemExit as end:\n    assert end.code == 0\n"
        "print(*sorted({'torch', 'numpy', 'PIL'} & set(sys.modules)), file=sys.stderr)"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stderr.splitlines()[-1] == ""
