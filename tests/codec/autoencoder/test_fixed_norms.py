"""Networks with fixed group norms: those of the run they met, on a part of what they met."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from latentcodec.codec.autoencoder.fixed_norms import FixedNorm, fix_norms
from latentcodec.nn.stable_diffusion.autoencoder import AutoencoderConfig, AutoencoderKL


@pytest.mark.parametrize("affine", [True, False])
def test_a_norm_is_what_it_was(affine: bool) -> None:
    torch.manual_seed(1)
    norm = nn.GroupNorm(4, 12, affine=affine).requires_grad_(False)
    if affine:
        norm.weight.normal_()
        norm.bias.normal_()
    x = torch.randn(1, 12, 9, 7) * 3 + 1
    fixed = FixedNorm(norm, x)
    torch.testing.assert_close(fixed(x), norm(x))
    torch.testing.assert_close(fixed(x[..., :3]), norm(x)[..., :3])


def test_a_network_keeps_its_weights_and_forgets_its_maps() -> None:
    torch.manual_seed(2)
    network = (
        AutoencoderKL(AutoencoderConfig(channels=(8, 16), blocks=1, groups=4)).eval().requires_grad_(False)
    )
    latents = torch.randn(1, 4, 12, 10)

    def run(module: AutoencoderKL) -> Tensor:
        return module.decode(latents)

    fixed = fix_norms(network, run)
    torch.testing.assert_close(run(fixed), run(network), atol=1e-5, rtol=1e-5)
    decoder = [module for module in fixed.decoder.modules() if isinstance(module, (nn.GroupNorm, FixedNorm))]
    assert decoder
    assert all(isinstance(module, FixedNorm) for module in decoder)
    assert not any(isinstance(module, FixedNorm) for module in network.modules())
    assert fixed.decoder.conv_in.weight is network.decoder.conv_in.weight
