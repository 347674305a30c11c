"""Clean-up of quantised latents, on denoisers that are random, known, or trained here on synthetic fields.

The trained one shows that the parts fit: on data like what it learned it lowers the error. It says nothing
about pictures.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentcodec.diffusion.cleanup import (
    SHARES,
    Amount,
    choose_amount,
    clean_up,
    cleanup_levels,
    latent_error,
)
from latentcodec.diffusion.noise import seeded_noise
from latentcodec.diffusion.prediction import Denoiser, denoiser_of
from latentcodec.diffusion.presets import MATCHED, PRESETS, Cleanup
from latentcodec.diffusion.samplers import Step
from latentcodec.diffusion.schedule import NoiseSchedule
from latentcodec.errors import InvalidArgument

SCHEDULE = NoiseSchedule()
STEPS = torch.tensor([0.9, 1.1, 1.3, 1.1])[:, None, None]  # quantiser steps of the four channels


def fields(count: int, seed: int, size: int = 16) -> Tensor:
    """Smooth random fields (count, 4, size, size) of variance 1."""
    white = torch.randn(count, 4, size, size, generator=torch.Generator().manual_seed(seed))
    radius = torch.fft.fftfreq(size)[:, None] ** 2 + torch.fft.rfftfreq(size)[None] ** 2
    smooth: Tensor = torch.fft.irfft2(torch.fft.rfft2(white) * torch.exp(-radius / 0.01), s=(size, size))
    return smooth / smooth.std()


class SmallNetwork(nn.Module):
    """Predicts the noise in (B, 4, h, w)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(5, 24, 5, padding=2, padding_mode="circular"),
            nn.SiLU(),
            nn.Conv2d(24, 24, 5, padding=2, padding_mode="circular"),
            nn.SiLU(),
            nn.Conv2d(24, 4, 1),
        )

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        time = (t / 300 - 1)[:, None, None, None].expand(-1, 1, *x.shape[2:])
        noise: Tensor = self.layers(torch.cat([x, time], 1))
        return noise


@pytest.fixture(scope="module")
def trained() -> Denoiser:
    """Some seconds of training on noise levels up to 1.6."""
    torch.manual_seed(0)
    network, generator = SmallNetwork(), torch.Generator().manual_seed(1)
    optimiser = torch.optim.Adam(network.parameters(), lr=4e-3)
    kept = torch.from_numpy(SCHEDULE.alphas_cumprod).float()
    data = fields(512, seed=2)
    for step in range(150):
        x0 = data[torch.randint(len(data), (16,), generator=generator)]
        t = torch.randint(0, 500, (16,), generator=generator)
        a = kept[t][:, None, None, None]
        n = torch.randn(x0.shape, generator=generator)
        loss = F.mse_loss(network(a.sqrt() * x0 + (1 - a).sqrt() * n, t.float()), n)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        for group in optimiser.param_groups:
            group["lr"] = 4e-3 * (1 - step / 150)
        optimiser.step()
    return denoiser_of(network.requires_grad_(False), SCHEDULE, "epsilon")


@pytest.fixture
def latents() -> tuple[Tensor, Tensor, Tensor]:
    """Originals, quantised ones, and the error of each channel."""
    original = fields(8, seed=3)
    quantised = (original / STEPS).round() * STEPS
    return original, quantised, latent_error(original, quantised)


def mse(a: Tensor, b: Tensor) -> float:
    return float((a - b).square().mean())


def test_the_error_is_the_uniform_quantisers() -> None:
    original = fields(64, seed=4)
    fine = 0.1 * STEPS
    error = latent_error(original, (original / fine).round() * fine)
    assert error.tolist() == pytest.approx((fine.flatten() / 12**0.5).tolist(), rel=0.02)


@pytest.mark.parametrize("steps", [1, 2, 3, 6])
def test_a_trained_denoiser_lowers_the_error(
    trained: Denoiser, latents: tuple[Tensor, Tensor, Tensor], steps: int
) -> None:
    original, quantised, error = latents
    cleaned = clean_up(quantised, error, trained, SCHEDULE, Cleanup(steps=steps))
    assert mse(cleaned, original) < 0.75 * mse(quantised, original)


def test_the_matched_level_is_better_than_ones_far_off(
    trained: Denoiser, latents: tuple[Tensor, Tensor, Tensor]
) -> None:
    original, quantised, error = latents
    errors = {
        factor: mse(clean_up(quantised, factor * error, trained, SCHEDULE), original)
        for factor in (0.3, 1.0, 3.0)
    }
    assert errors[1.0] < min(errors[0.3], errors[3.0])


def test_every_channel_is_brought_to_the_level() -> None:
    original, seen = fields(16, seed=5, size=48), []
    error = torch.tensor([0.1, 0.3, 0.5, 0.7])
    level = float(error.square().mean().sqrt())
    noisy = original + error[:, None, None] * seeded_noise(range(900, 916))(original)

    def denoiser(x: Tensor, sigma: float) -> Tensor:
        seen.append((x, sigma))
        return original

    cleaned = clean_up(noisy, error, denoiser, SCHEDULE)
    x, sigma = seen[0]
    assert sigma == pytest.approx(level)
    expected = [level, level, 0.5, 0.7]  # the last two had more already
    assert latent_error(original, x).tolist() == pytest.approx(expected, rel=0.02)
    assert torch.allclose(cleaned, original, atol=1e-6)
    assert len(seen) == PRESETS[MATCHED].steps


def test_channels_at_the_level_get_no_noise() -> None:
    latent = fields(1, seed=6)
    seen: list[Tensor] = []

    def denoiser(x: Tensor, sigma: float) -> Tensor:
        seen.append(x)
        return x

    clean_up(latent, torch.full((4,), 0.25, dtype=torch.float64), denoiser, SCHEDULE)
    assert torch.allclose(seen[0], latent, atol=1e-6)


def test_the_seed_decides_and_each_image_has_its_own(
    trained: Denoiser, latents: tuple[Tensor, Tensor, Tensor]
) -> None:
    _, quantised, error = latents
    for settings in (Cleanup(seed=5), Cleanup(seed=5, eta=0.9), Cleanup(seed=5, steps=40, strength=0.1)):
        cleaned = clean_up(quantised, error, trained, SCHEDULE, settings)
        assert torch.equal(cleaned, clean_up(quantised, error, trained, SCHEDULE, settings))
        other = Cleanup(seed=6, eta=settings.eta, steps=settings.steps, strength=settings.strength)
        later_seeds = clean_up(quantised[1:], error, trained, SCHEDULE, other)
        assert torch.allclose(later_seeds, cleaned[1:], atol=1e-5)
        assert not torch.allclose(clean_up(quantised, error, trained, SCHEDULE, other), cleaned, atol=1e-3)


def test_an_error_below_what_the_network_knows_is_left_alone() -> None:
    def never(x: Tensor, sigma: float) -> Tensor:
        raise AssertionError

    latent = fields(1, seed=7)
    assert torch.equal(clean_up(latent, torch.full((4,), 0.02), never, SCHEDULE), latent)
    assert torch.equal(clean_up(latent, torch.zeros(4), never, SCHEDULE), latent)


def test_matched_levels_go_from_the_error_to_zero() -> None:
    levels = cleanup_levels(torch.tensor([0.3, 0.4]), SCHEDULE, Cleanup(steps=4))
    assert levels is not None
    assert levels.steps == 4
    assert levels.sigmas[0] == pytest.approx(((0.09 + 0.16) / 2) ** 0.5)
    assert list(levels.sigmas[-2:]) == pytest.approx([SCHEDULE.least, 0.0])
    least = cleanup_levels(torch.tensor([SCHEDULE.least]).double(), SCHEDULE, Cleanup(steps=4))
    assert least is None or list(least.sigmas) == sorted(least.sigmas, reverse=True)


def test_the_preset_of_2022_runs_the_last_two_of_66_steps() -> None:
    timesteps = []

    def network(x: Tensor, t: Tensor) -> Tensor:
        timesteps.append(float(t))
        return torch.zeros_like(x)

    latent = fields(1, seed=8)
    denoiser = denoiser_of(network, SCHEDULE, "epsilon")
    cleaned = clean_up(latent, torch.full((4,), 0.1), denoiser, SCHEDULE, PRESETS["seed-2022"])
    assert timesteps == pytest.approx([16, 1], abs=1e-4)
    assert 0 < mse(cleaned, latent) < 0.02
    assert PRESETS["seed-2022"].eta == 0.9


def test_the_callback_sees_the_steps(trained: Denoiser, latents: tuple[Tensor, Tensor, Tensor]) -> None:
    seen: list[Step] = []
    cleaned = clean_up(latents[1], latents[2], trained, SCHEDULE, Cleanup(steps=5), seen.append)
    assert [step.index for step in seen] == list(range(5))
    assert torch.equal(seen[-1].x, cleaned)


def test_shares_grow_with_the_amount_from_nothing_to_all() -> None:
    assert [SHARES[amount] for amount in Amount] == [0.0, 0.5, 1.0]


def decode(latent: Tensor) -> Tensor:
    """Stands for an autoencoder: to pixels of 0 to 255, rounded."""
    return (127.5 + 32 * F.interpolate(latent[:, :3], scale_factor=8)).round().clamp(0, 255)


def amounts(plain: Tensor, cleaned: Tensor) -> dict[Amount, Tensor]:
    shown = (Amount.WEAK, Amount.FULL)
    return {amount: decode(plain + SHARES[amount] * (cleaned - plain)) for amount in shown}


def psnr(a: Tensor, b: Tensor) -> float:
    return float(10 * torch.log10(255**2 / (a.double() - b.double()).square().mean()))


def test_a_clean_up_that_helps_is_taken_in_full(
    trained: Denoiser, latents: tuple[Tensor, Tensor, Tensor]
) -> None:
    original, quantised, error = latents
    cleaned = clean_up(quantised, error, trained, SCHEDULE)
    for image in range(len(original)):
        tile = slice(image, image + 1)
        source, plain = decode(original[tile]), decode(quantised[tile])
        candidates = amounts(quantised[tile], cleaned[tile])
        assert choose_amount(source, plain, candidates, 0.0) is Amount.FULL


@pytest.mark.parametrize("limit", [0.0, 0.1, 1.0, 3.0, 20.0])
def test_no_tile_is_worse_than_the_limit_whatever_the_denoiser(
    latents: tuple[Tensor, Tensor, Tensor], limit: float
) -> None:
    original, quantised, error = latents
    chosen = set()
    for seed in range(12):
        generator = torch.Generator().manual_seed(seed)
        change = torch.randn(4, 1, 1, generator=generator) * (0.02 * 2**seed)
        cleaned = clean_up(quantised[:1], error, lambda x, sigma, change=change: x + change, SCHEDULE)  # type: ignore[misc]
        source, plain = decode(original[:1]), decode(quantised[:1])
        candidates = amounts(quantised[:1], cleaned)
        amount = choose_amount(source, plain, candidates, limit)
        shown = {Amount.OFF: plain, **candidates}[amount]
        assert psnr(source, shown) >= psnr(source, plain) - limit - 1e-9
        chosen.add(amount)
    assert Amount.OFF in chosen
    assert limit < 3 or Amount.FULL in chosen


def test_the_strongest_that_holds_is_chosen() -> None:
    source = torch.zeros(3, 8, 8)
    plain, slightly_worse, much_worse = source + 2, source + 2.1, source + 4
    candidates = {Amount.WEAK: slightly_worse, Amount.FULL: much_worse}
    assert choose_amount(source, plain, candidates, 0.0) is Amount.OFF
    assert choose_amount(source, plain, candidates, 0.5) is Amount.WEAK
    assert choose_amount(source, plain, candidates, 6.1) is Amount.FULL
    assert choose_amount(source, plain, candidates, float("inf")) is Amount.FULL
    assert choose_amount(source, plain, {}, 6.1) is Amount.OFF


def test_a_black_or_broken_candidate_is_never_chosen() -> None:
    source = torch.rand(3, 8, 8)
    broken = torch.full_like(source, float("nan"))
    assert choose_amount(source, source + 0.1, {Amount.FULL: broken}, 30.0) is Amount.OFF
    assert choose_amount(source, source, {Amount.FULL: source + 0.01}, 60.0) is Amount.OFF
    assert choose_amount(source, source, {Amount.FULL: source.clone()}, 0.0) is Amount.FULL


@pytest.mark.parametrize(
    ("error", "settings", "message"),
    [
        ([0.1, 0.1], {}, r"errors of shape \(2,\)"),
        ([0.1, 0.1, 0.1, float("nan")], {}, "finite"),
        ([0.1, 0.1, 0.1, -0.1], {}, "finite"),
        ([20.0] * 4, {}, "network's scale"),
        ([0.1] * 4, {"steps": 0}, "at least 1"),
        ([0.1] * 4, {"strength": 1.5, "steps": 50}, "strength"),
        ([0.1] * 4, {"strength": 0.5, "steps": 2000}, "1 to 1000"),
        ([0.1] * 4, {"eta": 2.0}, "eta"),
    ],
)
def test_what_cannot_be_cleaned_is_refused(
    error: list[float], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidArgument, match=message):
        clean_up(fields(1, seed=11), torch.tensor(error), lambda x, sigma: x, SCHEDULE, Cleanup(**settings))


def test_comparisons_of_other_shapes_and_negative_limits_are_refused() -> None:
    source = torch.zeros(3, 8, 8)
    with pytest.raises(InvalidArgument, match="shape"):
        choose_amount(source, source, {Amount.FULL: source[:, :4]}, 1.0)
    with pytest.raises(InvalidArgument, match="limit"):
        choose_amount(source, source, {}, -1.0)
    with pytest.raises(InvalidArgument, match="differ"):
        latent_error(torch.zeros(1, 4, 8, 8), torch.zeros(1, 4, 8, 4))
