"""The UNet: published sizes, options, half precision, gradients, errors. Parity: tests/parity."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from latentcodec.errors import InvalidArgument
from latentcodec.nn.stable_diffusion.unet import (
    LCM,
    SD2,
    SD2_DEPTH,
    SD2_INPAINTING,
    SD15,
    SD15_INPAINTING,
    SD21,
    SDXL,
    X4_UPSCALER,
    UNet,
    UNetConfig,
    size_embedding,
)
from tests.nn.networks import gradient_error, parameters, perturb, relative_error

SMALL = UNetConfig(
    channels=(8, 16), depth=(1, 0), heads=(2, 2), cross_only=(False, False), context=12, groups=4
)
FULL = {"classes": 10, "added": 20, "time_condition": 6, "upcast_attention": True}
EVERYTHING = UNetConfig(**SMALL.to_dict() | FULL)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The same random networks on every run."""
    torch.manual_seed(0)


def inputs(
    config: UNetConfig, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, float, Tensor, dict[str, Any]]:
    """Arguments of a call."""
    generator = torch.Generator().manual_seed(0)
    options: dict[str, Any] = {}
    if config.classes:
        options["labels"] = torch.tensor([3, 9])
    for name in ("added", "time_condition"):
        if width := getattr(config, name):
            options[name] = torch.randn(2, width, generator=generator).to(dtype)
    x = torch.randn(2, config.inputs, 8, 12, generator=generator).to(dtype)
    return x, 999.0, torch.randn(2, 5, config.context, generator=generator).to(dtype), options


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (SD15, 859_520_964),
        (SD2, 865_910_724),
        (X4_UPSCALER, 473_398_020),
        (SDXL, 2_567_463_684),
        (LCM, 859_520_964 + 256 * 320),
        (SD2_DEPTH, 865_910_724 + 320 * 9),
        (SD2_INPAINTING, 865_910_724 + 5 * 320 * 9),
    ],
    ids=["SD15", "SD2", "X4_UPSCALER", "SDXL", "LCM", "SD2_DEPTH", "SD2_INPAINTING"],
)
def test_parameter_counts_are_the_published_ones(config: UNetConfig, count: int) -> None:
    assert parameters(lambda: UNet(config)) == count


@pytest.mark.parametrize("config", [SD15, SD15_INPAINTING, SD21, X4_UPSCALER, SDXL, LCM, SMALL])
def test_configs_survive_json(config: UNetConfig) -> None:
    assert UNetConfig.from_dict(config.to_dict()) == config


def test_a_batch_is_its_pictures_one_by_one() -> None:
    model = perturb(UNet(EVERYTHING))
    x, _, context, options = inputs(EVERYTHING)
    times = torch.tensor([20.5, 999.0])
    together = model(x, times, context, **options)
    assert together.shape == (2, 4, 8, 12)
    for index in range(2):
        one = slice(index, index + 1)
        options_of_one = {name: value[one] for name, value in options.items()}
        alone = model(x[one], float(times[index]), context[one], **options_of_one)
        torch.testing.assert_close(alone, together[one], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("option", ["labels", "added", "time_condition"])
def test_every_condition_counts(option: str) -> None:
    model = perturb(UNet(EVERYTHING))
    x, timestep, context, options = inputs(EVERYTHING)
    other = model(x, timestep, context, **options | {option: options[option].flip(0)})
    assert relative_error(other, model(x, timestep, context, **options)) > 1e-4


@pytest.mark.parametrize(("dtype", "limit"), [(torch.bfloat16, 0.05), (torch.float16, 0.006)])
@pytest.mark.parametrize("config", [SMALL, EVERYTHING], ids=["small", "everything"])
def test_half_precision_stays_near_float32(config: UNetConfig, dtype: torch.dtype, limit: float) -> None:
    model = perturb(UNet(config))
    x, timestep, context, options = inputs(config)
    expected = model(x, timestep, context, **options)
    x, timestep, context, options = inputs(config, dtype)
    found = model.to(dtype)(x, timestep, context, **options)
    assert found.dtype == dtype
    assert relative_error(found, expected) < limit


def test_gradients_reach_the_latent() -> None:
    model = perturb(UNet(EVERYTHING)).double()
    x, timestep, context, options = inputs(EVERYTHING, torch.float64)
    assert gradient_error(lambda each: model(each, timestep, context, **options), x) < 1e-6


def test_the_inputs_stay_as_they_are() -> None:
    model = perturb(UNet(SMALL))
    x, timestep, context, _ = inputs(SMALL)
    before = x.clone(), context.clone()
    model(x, timestep, context)
    assert torch.equal(x, before[0])
    assert torch.equal(context, before[1])


def test_size_embedding_has_the_width_of_sdxl() -> None:
    sizes = torch.tensor([[512, 512, 0, 0, 512, 512]])
    assert size_embedding(torch.zeros(1, 1280), sizes).shape == (1, SDXL.added)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"x": torch.zeros(2, 5, 8, 8)}, "x: shape"),
        ({"context": torch.zeros(2, 5, 11)}, "context: shape"),
        ({"labels": None}, "labels: this model needs it"),
        ({"added": None}, "added: this model needs it, of width 20"),
        ({"added": torch.zeros(2, 19)}, "added: shape"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], complaint: str) -> None:
    x, timestep, context, options = inputs(EVERYTHING)
    with pytest.raises(InvalidArgument, match=complaint):
        UNet(EVERYTHING)(**{"x": x, "timestep": timestep, "context": context} | options | change)


def test_what_a_model_does_not_take_is_named() -> None:
    x, timestep, context, _ = inputs(SMALL)
    with pytest.raises(InvalidArgument, match="time_condition: this model takes none"):
        UNet(SMALL)(x, timestep, context, time_condition=torch.zeros(2, 6))


def test_configs_that_contradict_themselves() -> None:
    with pytest.raises(InvalidArgument, match="depth: 1 levels, but channels has 2"):
        replace(SMALL, depth=(1,))
    with pytest.raises(InvalidArgument, match="3 heads do not divide 16"):
        replace(SMALL, heads=(2, 3))
