"""Evaluation counts what files would take, and shows what they would show."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from latentcodec.container.quality import level_of_quality
from latentcodec.errors import TrainingError
from latentcodec.nn.native.model import NativeModel
from latentcodec.nn.structure import ms_ssim
from latentcodec.training.native.evaluate import SMALLEST, evaluate, load, zero_branches
from tests.conftest import photograph


def saved(folder: Path, name: str, width: int, height: int) -> Path:
    path = folder / f"{name}.png"
    Image.fromarray(photograph(name, width, height)).save(path)
    return path


def test_pictures_are_cut_at_their_centre(tmp_path: Path) -> None:
    path = saved(tmp_path, "coffee", 230, 200)
    x = load(path)
    assert x.shape == (1, 3, 192, 224)
    expected = photograph("coffee", 230, 200)[4:196, 3:227]
    assert np.array_equal((x[0].permute(1, 2, 0) * 255).round().numpy(), expected)


@pytest.mark.slow
def test_a_curve(tiny_model: NativeModel, tmp_path: Path) -> None:
    paths = [saved(tmp_path, "coffee", 192, 192), saved(tmp_path, "astronaut", 224, 192)]
    seen: list[tuple[int, int]] = []
    points = evaluate(tiny_model, paths, (0.0, 50.0, 100.0), lambda done, of: seen.append((done, of)))
    assert seen == [(1, 2), (2, 2)]
    assert [p.quality for p in points] == [0, 50, 100]
    for name in ("bpp", "psnr", "ms_ssim"):
        values = [getattr(p, name) for p in points]
        assert values == sorted(values)
    x = load(paths[0])
    with torch.no_grad():
        decoded, bits = tiny_model(x, torch.tensor([float(level_of_quality(50))]), relaxed=False)
    (alone,) = evaluate(tiny_model, paths[:1], (50.0,))
    decoded = (decoded * 255).round().clamp(0, 255) / 255
    assert alone.bpp == pytest.approx(float(bits) / (192 * 192))
    assert alone.psnr == pytest.approx(-10 * np.log10(float(((decoded - x) ** 2).mean())))
    assert alone.ms_ssim == pytest.approx(float(ms_ssim(x, decoded, window=11)))


def test_evaluation_is_repeatable(tiny_model: NativeModel, tmp_path: Path, one_thread: None) -> None:
    paths = [saved(tmp_path, "coffee", 192, 192)]
    assert evaluate(tiny_model, paths, (30.0,)) == evaluate(tiny_model, paths, (30.0,))


def test_pictures_too_small_or_broken_are_named(tiny_model: NativeModel, tmp_path: Path) -> None:
    small = saved(tmp_path, "coffee", SMALLEST, SMALLEST - 1)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"text")
    for path in (small, broken):
        with pytest.raises(TrainingError, match=path.name):
            evaluate(tiny_model, [path], (50.0,))


def test_zeroed_branches_leave_the_block_transform(tiny_model: NativeModel, tmp_path: Path) -> None:
    model = copy.deepcopy(tiny_model)
    zero_branches(model)
    x = load(saved(tmp_path, "coffee", 192, 192))
    quality = torch.tensor([2000.0])
    with torch.no_grad():
        y, twice = model.analysis(x, quality), model.analysis(2 * x - 0.5, quality)
    assert torch.allclose(twice, 2 * y, atol=1e-3 * float(y.abs().max()))  # linear in x - 1/2
