"""The TAESD family: keys of the published files, real weights, half precision, gradients, errors."""

from __future__ import annotations

import pytest
import torch

from latentcodec.errors import InvalidArgument
from latentcodec.nn.stable_diffusion.tiny_autoencoder import (
    TAEF1,
    TAEF2,
    TAESD,
    TAESD3,
    TAESDXL,
    TinyAutoencoder,
    TinyAutoencoderConfig,
)
from tests.conftest import photograph
from tests.nn.networks import SHARED_WEIGHTS, gradient_error, parameters, perturb, relative_error

FAMILY = {"TAESD": TAESD, "TAESDXL": TAESDXL, "TAESD3": TAESD3, "TAEF1": TAEF1, "TAEF2": TAEF2}


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The same random networks on every run."""
    torch.manual_seed(0)


@pytest.mark.parametrize("config", FAMILY.values(), ids=FAMILY)
def test_shapes_and_config(config: TinyAutoencoderConfig) -> None:
    model = perturb(TinyAutoencoder(config))
    latent = model.encode(torch.rand(2, 3, 16, 24))
    assert latent.shape == (2, config.latents, 2, 3)
    assert model.decode(latent).shape == (2, 3, 16, 24)
    assert TinyAutoencoderConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(("name", "count"), [("TAESD", 2_445_063), ("TAEF1", 2_458_899)])
def test_parameter_counts(name: str, count: int) -> None:
    """1,222,532 + 1,222,531 of TAESD; 12 more latent channels add 2 x 12 x 576 + 12."""
    assert parameters(lambda: TinyAutoencoder(FAMILY[name])) == count


def test_keys_are_those_of_the_published_files() -> None:
    keys = set(TinyAutoencoder(TAEF2).state_dict())
    assert {"encoder.0.weight", "encoder.1.conv.0.weight", "encoder.2.weight", "encoder.14.bias"} <= keys
    assert {"decoder.1.weight", "decoder.3.pool.1.weight", "decoder.7.weight", "decoder.19.bias"} <= keys
    assert not keys & {"encoder.2.bias", "decoder.7.bias", "decoder.8.pool.0.weight"}


@pytest.mark.weights
@pytest.mark.skipif(not SHARED_WEIGHTS.is_dir(), reason=f"no weights in {SHARED_WEIGHTS}")
def test_the_real_taef2_reconstructs_a_photograph() -> None:
    model = TinyAutoencoder(TAEF2).requires_grad_(False)
    for part in ("encoder", "decoder"):
        state = torch.load(SHARED_WEIGHTS / f"taef2_{part}.pth", weights_only=True)
        model.get_submodule(part).load_state_dict(state)
    pixels = torch.from_numpy(photograph("astronaut", 256, 256)).permute(2, 0, 1)[None] / 255
    latent = model.encode(pixels)
    assert 0.5 < latent.std() < 1.5  # the diffusion model's scale
    assert -10 * torch.log10((model.decode(latent).clamp(0, 1) - pixels).square().mean()) > 28


@pytest.mark.parametrize(("dtype", "limit"), [(torch.bfloat16, 0.03), (torch.float16, 0.004)])
def test_half_precision_stays_near_float32(dtype: torch.dtype, limit: float) -> None:
    model = perturb(TinyAutoencoder(TAEF2))
    picture, latent = torch.rand(1, 3, 32, 32), torch.randn(1, 32, 4, 4)
    expected = model.encode(picture), model.decode(latent)
    model.to(dtype)
    for found, each in zip(
        (model.encode(picture.to(dtype)), model.decode(latent.to(dtype))), expected, strict=True
    ):
        assert found.dtype == dtype
        assert relative_error(found, each) < limit


def test_gradients_reach_the_latent() -> None:
    model = perturb(TinyAutoencoder(TAEF2)).double()
    assert gradient_error(model.decode, torch.randn(1, 32, 3, 3, dtype=torch.float64)) < 1e-6


def test_large_latents_saturate() -> None:
    model = perturb(TinyAutoencoder(TAESD))
    far = model.decode(torch.full((1, 4, 2, 2), 1e4))
    torch.testing.assert_close(far, model.decode(torch.full((1, 4, 2, 2), 1e6)))


@pytest.mark.parametrize("shape", [(1, 4, 16, 16), (1, 3, 16, 20), (3, 16, 16)])
def test_pictures_of_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidArgument, match="multiples of 8"):
        TinyAutoencoder(TAESD).encode(torch.zeros(shape))


def test_latents_of_other_shapes() -> None:
    with pytest.raises(InvalidArgument, match=r"\(1, 16, 2, 2\), expected \(batch, 4,"):
        TinyAutoencoder(TAESD).decode(torch.zeros(1, 16, 2, 2))
