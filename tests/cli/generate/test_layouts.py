"""Every layout of files goes through `models add`, or `models fetch`, and `generate`: the same picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType

import pytest

from latentcodec.generate.parameters import from_file
from latentcodec.weights import fetch, store
from latentcodec.weights.registry import KNOWN, Known, KnownFile
from tests.cli.conftest import Call
from tests.cli.generate.conftest import pixels_of
from tests.toy_pipelines import know_families, save_folder, save_single
from tests.weights.hub import COMMIT, Hub, running

OPTIONS = ("a cat", "--seed", "5", "--steps", "2", "--size", "32")


@pytest.mark.parametrize(
    ("family", "layouts"),
    [
        ("sd1", ("folder", "fp16", "model.ckpt", "model.safetensors")),
        ("sd2", ("folder", "model.safetensors")),
        ("sdxl", ("folder", "model.safetensors")),
    ],
)
def test_the_same_weights_make_the_same_picture(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, layouts: tuple[str, ...]
) -> None:
    know_families(monkeypatch)
    pictures = {}
    for layout in layouts:
        path = tmp_path / layout
        if layout.startswith("model"):
            save_single(path, family)
        else:
            save_folder(path, family, half=layout == "fp16")
        name = layout.replace(".", "-")
        done = call("models", "add", path, "--name", name)
        assert done.code == 0, done.err
        done = call("generate", *OPTIONS, tmp_path / f"{name}.png", "--model", name)
        assert done.code == 0, done.err
        assert done.err.startswith(f"{tmp_path / name}.png: 32x32")  # the store has said what it is
        assert from_file(tmp_path / f"{name}.png").model == name
        pictures[layout] = pixels_of(tmp_path / f"{name}.png").astype(int)
    for layout, picture in pictures.items():
        assert abs(picture - pictures["folder"]).max() <= (8 if layout == "fp16" else 1)


def test_the_only_model_is_taken(call: Call, tmp_path: Path, picture: Path) -> None:
    out = tmp_path / "a.png"
    done = call("generate", *OPTIONS, out)
    assert done.code == 1
    assert (
        "no model in the store can do text to image; get one with: latentcodec models fetch sd15" in done.line
    )
    for name, family in (("sd15", "sd1"), ("deep", "sd2-depth")):
        assert call("models", "add", save_folder(tmp_path / name, family), "--name", name, "--link").code == 0
    assert call("generate", *OPTIONS, out).code == 0
    assert from_file(out).model == "sd15"
    assert call("depth2img", picture, "cat", out, "--steps", "2").code == 0
    assert from_file(out).model == "deep"
    done = call("generate", *OPTIONS, out, "--model", "deep")
    assert done.code == 1
    assert "deep: a model of sd2-depth cannot do text to image; it can do depth to image" in done.line
    done = call("upscale", picture, out, "--model", tmp_path / "sd15")  # of a path nothing is known before
    assert (done.code, "cannot upscale by 4: take sd-x4-upscaler" in done.line) == (1, True)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    constants = pytest.importorskip("huggingface_hub.constants")
    folder = save_folder(tmp_path / "published", "sd1")
    paths = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    files = {f"toys/sd15/{path}": (folder / path).read_bytes() for path in paths}
    known = Known(
        name="sd15", what="a test", family="sd1", licence="CreativeML Open RAIL-M", restrictions="No harm.",
        page="https://example.org", repository="toys/sd15", revision=COMMIT,
        files=tuple(KnownFile(path, None, None) for path in paths),
    )  # fmt: skip
    for module in (fetch, store):
        monkeypatch.setattr(module, "KNOWN", MappingProxyType(dict(KNOWN) | {"sd15": known}))
    with running(files) as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        template = server.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        yield server


def test_fetch_and_generate(call: Call, hub: Hub, tmp_path: Path) -> None:
    done = call("models", "fetch", "sd15")
    assert done.code == 0, done.err
    assert "licence: CreativeML Open RAIL-M" in done.err
    assert "restrictions: No harm." in done.err
    out = tmp_path / "out.png"
    done = call("generate", *OPTIONS, out)
    assert (done.code, out.is_file()) == (0, True)
    assert call("generate", "--from", out, tmp_path / "again.png").code == 0  # it knows its model
    assert (tmp_path / "again.png").read_bytes() == out.read_bytes()


@pytest.mark.parametrize("part", ["vae", "text_encoder", "unet"])
def test_a_missing_part_is_named(call: Call, tmp_path: Path, part: str) -> None:
    folder = save_folder(tmp_path / "model", "sd1")
    next((folder / part).glob("*.safetensors")).unlink()
    done = call("generate", *OPTIONS, tmp_path / "a.png", "--model", folder)
    assert done.code == 1
    assert f"holds no {part.replace('vae', 'autoencoder').replace('_', ' ')}" in done.line
    assert not (tmp_path / "a.png").exists()
