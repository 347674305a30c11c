"""The visible difference: SSIMULACRA 2's own sum, as far as a loss needs it, with gradients everywhere."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from benchmarks.metrics.standard import ssimulacra2
from latentcodec.nn.perceptual import visible_cells, visible_difference
from tests.conftest import one_cell_flipped, photograph, picture


def renormalised_blur(image: Any, sigma: float = 1.5) -> Any:
    def blur(values: Any) -> Any:
        return gaussian_filter(values, sigma=sigma, truncate=3.33, mode="constant", axes=(0, 1))

    return blur(image) / blur(np.ones_like(image))


def score(difference: float) -> float:
    """SSIMULACRA 2's score of its sum."""
    bent = 2.326765642916932 * difference
    bent += -0.020884521182843837 * difference**2 + 6.248496625763138e-05 * difference**3
    return float(100 - 10 * bent**0.6276336467831387)


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea"])
@pytest.mark.parametrize(("form", "quality"), [("JPEG", 15), ("JPEG", 60), ("WEBP", 20), ("WEBP", 85)])
def test_it_scores_as_the_metric_does(
    name: str, form: str, quality: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = pytest.importorskip("ssimulacra2.ssimulacra2")
    monkeypatch.setattr(package, "blur_image", renormalised_blur)  # its own fades at borders
    pixels = photograph(name, 256, 256)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form, quality=quality)
    with Image.open(stream) as image:
        decoded = torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8)
    other = decoded.view(256, 256, 3)
    found = visible_difference(picture(name, 256, 256), other.permute(2, 0, 1)[None].float() / 255)
    assert found.shape == (1,)
    assert score(found.item()) == pytest.approx(ssimulacra2(pixels, other.numpy()), abs=1.5)  # small weights


def test_equal_pictures_do_not_differ_and_noise_is_seen() -> None:
    x = torch.cat([picture("chelsea", 128, 96), picture("coffee", 128, 96)])
    # Of equal pictures the local means may differ by rounding, and a root of such differences is some 0.04.
    assert visible_difference(x, x).abs().max() < 0.1
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    found = torch.stack([visible_difference(x, x + amount * noise) for amount in (0.01, 0.03, 0.1, 0.3)])
    assert (found[1:] > found[:-1]).all()


def test_a_picture_s_difference_does_not_depend_on_its_batch() -> None:
    x = torch.cat([picture("chelsea", 128, 128), picture("coffee", 128, 128)])
    y = (x + 0.1).clamp(0, 1)
    alone = torch.cat([visible_difference(x[i : i + 1], y[i : i + 1]) for i in range(2)])
    # Local variances are differences of float32 that agree in most digits: 0.001 where kernels differ.
    assert torch.allclose(visible_difference(x, y), alone, rtol=5e-3)


def test_values_outside_count_as_the_nearest_inside() -> None:
    x = picture("astronaut", 128, 128)
    wild = torch.where(x > 0.6, torch.tensor(1.4), torch.where(x < 0.3, torch.tensor(-0.4), x))
    assert torch.equal(visible_difference(x, wild), visible_difference(x, wild.clamp(0, 1)))


def test_gradients_are_finite_even_where_pictures_agree_or_are_flat() -> None:
    x = picture("chelsea", 128, 128)
    flat = torch.full_like(x, 0.5)
    black = torch.zeros_like(x)
    for reference, start in ((x, x), (x, 1 - x), (flat, flat), (x, black), (black, x)):
        y = start.clone().requires_grad_()
        visible_difference(reference, y).sum().backward()  # type: ignore[no-untyped-call]
        assert y.grad is not None
        assert y.grad.isfinite().all()


def test_its_gradient_makes_it_smaller() -> None:
    x = picture("coffee", 128, 128)
    blurred = torch.nn.functional.avg_pool2d(x, 5, 1, 2, count_include_pad=False)
    y = blurred.requires_grad_()
    before = visible_difference(x, y)
    before.sum().backward()  # type: ignore[no-untyped-call]
    assert y.grad is not None
    after = visible_difference(x, y.detach() - 1e-3 * y.grad / y.grad.square().mean().sqrt())
    assert after.item() < 0.98 * before.item()


def test_cells_of_one_picture_are_its_difference() -> None:
    x = torch.cat([picture("astronaut", 64, 64), picture("coffee", 64, 64)])
    y = (x + 0.05 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    assert torch.allclose(visible_cells(x, y, 64)[:, 0, 0], visible_difference(x, y), rtol=1e-4)
    cells = visible_cells(x, y, 16)
    assert cells.shape == (2, 4, 4)
    # A mean of 4-norms is at most the whole's: what is left are the means, which agree.
    assert (cells.mean((1, 2)) < visible_difference(x, y)).all()
    assert (cells.mean((1, 2)) > 0.6 * visible_difference(x, y)).all()


def test_a_cell_s_damage_is_seen_there_most() -> None:
    x = picture("chelsea", 128, 160)
    cells = visible_cells(x, one_cell_flipped(x), 16)[0]
    assert int(cells.argmax()) == 3 * 10 + 6
    assert cells[3, 6] > 5 * cells[3, 1]
