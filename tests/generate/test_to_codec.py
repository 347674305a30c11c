"""Sampled latents as .lci files and back: what is stored, how near, and what img2img begins with."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from latentcodec.codec.api import Codec
from latentcodec.errors import FormatError, InvalidArgument
from latentcodec.generate.generator import Generated, Generator
from latentcodec.generate.parameters import from_bytes
from latentcodec.generate.to_codec import StoredLatents, image_of, open_image, read_latents, store_latents
from latentcodec.picture.picture import Picture
from tests.conftest import photograph


@pytest.fixture(scope="module")
def made(toy: Generator) -> Generated:
    return toy.text_to_image("a lighthouse", size=(70, 50), steps=3, seed=5)


def test_more_quality_is_nearer_to_the_picture_that_was_shown(toy: Generator, made: Generated) -> None:
    stored = [toy.store(made, quality=quality) for quality in (10, 40, 70, 100)]
    psnrs, sizes = [each.psnr for each in stored], [len(each.data) for each in stored]
    assert psnrs == sorted(psnrs)
    assert sizes == sorted(sizes)
    assert psnrs[-1] > 45


def test_it_decodes_to_the_picture_without_going_through_pixels(
    toy: Generator, made: Generated, toy_folder: Path, known_toys: None
) -> None:
    stored = toy.store(made, quality=90)
    image = Codec(toy_folder, "cpu").decode(stored.data)
    assert image.size == (70, 50)
    shown = np.asarray(made.images[0]).astype(float)
    error = ((np.asarray(image) - shown) ** 2).mean()
    assert 10 * math.log10(255**2 / error) == pytest.approx(stored.psnr, abs=0.5)
    again = read_latents(stored.data)
    assert again.size == (70, 50)
    assert (torch.from_numpy(again.latents) - made.latents[0]).norm() < 0.2 * made.latents[0].norm()
    # A picture's own encoding is further away than what was sampled.
    encoded = read_latents(Codec(toy_folder, "cpu").encode(made.images[0], quality=90))
    assert (torch.from_numpy(encoded.latents) - made.latents[0]).norm() > 0.2 * made.latents[0].norm()


def test_the_parameters_travel(toy: Generator, made: Generated) -> None:
    assert from_bytes(toy.store(made).data, "a.lci") == made.parameters[0]


def test_a_target(toy: Generator, made: Generated) -> None:
    assert len(toy.store(made, target_size=480).data) <= 480


def test_img2img_begins_with_the_stored_latents(toy: Generator, made: Generated, tmp_path: Path) -> None:
    path = tmp_path / "made.lci"
    path.write_bytes(toy.store(made, quality=80).data)
    result = toy.image_to_image(path, "a boat", steps=5, strength=0.4, seed=1)
    assert any("latents of the file" in note for note in result.notes)
    assert result.images[0].size == (70, 50)
    latents = torch.from_numpy(read_latents(path.read_bytes()).latents)[None].float()
    from latentcodec.generate.defaults import settle
    from latentcodec.generate.image_to_image import image_to_image
    from latentcodec.generate.text_to_image import Task

    settings = settle(toy.model.defaults, steps=5, strength=0.4)
    task = Task(prompts=("a boat",), negative="", settings=settings, size=(70, 50), seeds=(1,))
    assert torch.equal(image_to_image(toy.model, task, latents), result.latents)


def test_of_another_size_or_space_it_begins_with_the_picture(
    toy: Generator, made: Generated, tmp_path: Path
) -> None:
    path = tmp_path / "made.lci"
    path.write_bytes(toy.store(made, quality=80).data)
    result = toy.image_to_image(path, "a boat", size=(32, 24), steps=2)
    assert result.images[0].size == (32, 24)
    assert not any("latents of the file" in note for note in result.notes)
    native = tmp_path / "native.lci"
    native.write_bytes(Codec(device="cpu").encode(photograph(width=40, height=30)))
    assert isinstance(open_image(native), Picture)
    assert toy.image_to_image(native, "a boat", steps=2).images[0].size == (40, 30)


def test_other_pipelines_decode_it(toy: Generator, made: Generated, tmp_path: Path) -> None:
    path = tmp_path / "made.lci"
    path.write_bytes(toy.store(made, quality=80).data)
    mask = np.zeros((50, 70), bool)
    mask[10:30, 10:40] = True
    assert toy.inpaint(path, mask, "a boat", steps=1).images[0].size == (70, 50)


def test_a_files_content(toy: Generator, made: Generated) -> None:
    assert isinstance(image_of(toy.store(made).data, "stdin"), StoredLatents)
    with pytest.raises(FormatError):
        image_of(toy.store(made).data[:-9], "stdin")


def test_latents_of_another_picture_are_refused(toy: Generator, made: Generated) -> None:
    for latents, size in ((made.latents[0], (100, 50)), (made.latents[0, :3], (70, 50))):
        with pytest.raises(InvalidArgument, match="latents of shape"):
            store_latents(toy.model, latents, size)
    with pytest.raises(InvalidArgument, match="for autoencoders only"):
        Codec(device="cpu").encode(made.images[0], latents=np.zeros((4, 7, 9)))


def test_a_half_precision_model_stores_in_float32(
    made: Generated, toy_folder: Path, known_toys: None
) -> None:
    half: Any = Generator.open(toy_folder, device="cpu", dtype="bfloat16")
    stored = half.store(made, quality=80)
    assert stored.psnr > 30
    assert next(half.model.autoencoder.module.parameters()).dtype == torch.bfloat16
