"""The benchmark of autoencoders as codecs, on a toy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from benchmarks.commands.latents import latents_command
from benchmarks.experiments import latents
from latentcodec.codec.autoencoder.models import open_codec
from latentcodec.codec.values.prior_file import write_prior
from tests.benchmarks.conftest import make_picture
from tests.toy_autoencoder import save_pair
from tests.toy_prior import toy_prior


def test_static_bytes_by_hand() -> None:
    values = np.array([[[0, 0], [1, 1]], [[5, 5], [5, 5]]])
    assert latents.static_bytes(values) == pytest.approx(4 / 8)


def test_the_middle_is_taken() -> None:
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert np.array_equal(latents.crop(pixels, 2), pixels[1:3, 1:3])
    assert np.array_equal(latents.crop(pixels, 9), pixels)


def test_the_command_tells_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latents, "QUALITIES", (30.0, 60.0))
    Image.fromarray(make_picture(64, 64)).save(tmp_path / "a.png")
    model, rows = save_pair(tmp_path / "toy", 1), tmp_path / "rows.jsonl"
    arguments = [str(tmp_path / "a.png"), "--model", str(model), "--device", "cpu", "--rows", str(rows)]
    first = CliRunner().invoke(latents_command, arguments)
    assert first.exit_code == 0, first.output
    assert "a.png done" in first.stderr
    again = CliRunner().invoke(latents_command, arguments)
    assert again.stdout == first.stdout
    assert "done" not in again.stderr


@pytest.mark.slow
def test_a_prior_is_measured_beside_the_adaptive_coder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latents, "QUALITIES", (30.0, 60.0))
    Image.fromarray(make_picture(64, 64)).save(tmp_path / "a.png")
    model, prior = save_pair(tmp_path / "toy", 1), tmp_path / "prior.safetensors"
    write_prior(toy_prior(open_codec(model, torch.device("cpu"))), prior)
    arguments = [str(tmp_path / "a.png"), "--model", str(model), "--device", "cpu", "--prior", str(prior)]
    done = CliRunner().invoke(latents_command, arguments)
    assert done.exit_code == 0, done.output
    assert "prior against the adaptive coder" in done.stdout
    assert "delta rate of its files at equal PSNR" in done.stdout
