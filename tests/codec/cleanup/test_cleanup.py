"""Clean-up of a file's latents in pieces, and the encoder's bound on it.

The autoencoder here is exact block means, the networks are random, known, or trained here on synthetic
fields. The trained one shows that the parts fit together; none of this says anything about photographs.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentcodec.codec.autoencoder import vae_tiles
from latentcodec.codec.autoencoder.encoder import LatentEncoder
from latentcodec.codec.autoencoder.latent import LatentCodec, file_chunk
from latentcodec.codec.autoencoder.reader import LatentReader
from latentcodec.codec.cleanup.cleanup import Cleaner, choose_amounts
from latentcodec.codec.cleanup.file import CleanupRequest, cleaner_for, load_request
from latentcodec.codec.cleanup.settings import CleanupSettings
from latentcodec.codec.cleanup.unet import CleanupUNet
from latentcodec.codec.decoder import decode_with
from latentcodec.codec.values.choice import coder_for
from latentcodec.container.cleanup import CleanupChunk, unpack_error
from latentcodec.container.file import File, Limits, unpack
from latentcodec.diffusion.cleanup import Amount
from latentcodec.diffusion.schedule import NoiseSchedule
from latentcodec.errors import InvalidArgument, MalformedFile
from latentcodec.nn.stable_diffusion.unet import UNet, UNetConfig
from latentcodec.picture.picture import Picture, Pixels, from_array
from latentcodec.weights.checkpoints.detected import AUTOENCODER, UNET, Detected
from latentcodec.weights.load import Identity, LoadedAutoencoder
from tests.weights.made_checkpoints import random_network

CPU = torch.device("cpu")
CONFIG = UNetConfig(
    inputs=3,
    outputs=3,
    channels=(16,),
    blocks=1,
    depth=(0,),
    middle_depth=0,
    heads=(1,),
    cross_only=(False,),
    context=0,
    groups=4,
)
SPREAD = 0.2  # of the pictures' samples, which is 1 in latents
COARSE = 1000  # a quality level at which quantisation shows


class BlockMeans(nn.Module):
    """Latents are the means of 8x8 blocks, pictures are flat blocks: a latent's error is the picture's."""

    config = SimpleNamespace(latents=3, downscale=8)

    def encode(self, picture: Tensor) -> Tensor:
        return (F.avg_pool2d(picture, 8) - 0.5) / SPREAD

    def decode(self, latent: Tensor) -> Tensor:
        return F.interpolate(latent * SPREAD + 0.5, scale_factor=8)


def fields(count: int, seed: int, height: int = 16, width: int = 16) -> Tensor:
    """Smooth random fields (count, 3, height, width) of variance 1."""
    white = torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(seed))
    radius = torch.fft.fftfreq(height)[:, None] ** 2 + torch.fft.rfftfreq(width)[None] ** 2
    smooth: Tensor = torch.fft.irfft2(torch.fft.rfft2(white) * torch.exp(-radius / 0.01), s=(height, width))
    return smooth / smooth.std()


def synthetic(seed: int = 5, height: int = 16, width: int = 16) -> Picture:
    """A picture of a field, a block of 8x8 a value."""
    blocks = (fields(1, seed, height, width)[0] * SPREAD + 0.5).clamp(0, 1).permute(1, 2, 0).numpy()
    pixels: Pixels = np.rint(np.kron(blocks, np.ones((8, 8, 1))) * 255).astype(np.uint8)
    return from_array(pixels)


def unet_of(module: nn.Module, name: str = "toy") -> CleanupUNet:
    detected = Detected(family="other", layout="diffusers", components=(UNET,), prediction="epsilon")
    return CleanupUNet("nowhere", module, name, detected, b"fingerpr", CPU)  # type: ignore[arg-type]


def request(unet: CleanupUNet, **fields: Any) -> CleanupRequest:
    return load_request(CleanupSettings(unet=unet, **fields), CPU)


@pytest.fixture(scope="module")
def codec() -> LatentCodec:
    detected = Detected(family="other", layout="diffusers", components=(AUTOENCODER,))
    loaded: Any = LoadedAutoencoder(BlockMeans(), detected, Identity("means", "other", "ab" * 32))  # type: ignore[arg-type]
    return LatentCodec(loaded, CPU)


@pytest.fixture(scope="module")
def trained() -> CleanupUNet:
    """A UNet after some seconds of training on noise levels up to 1."""
    torch.manual_seed(0)
    network, generator = UNet(CONFIG), torch.Generator().manual_seed(1)
    optimiser = torch.optim.Adam(network.parameters(), lr=4e-3)
    kept = torch.from_numpy(NoiseSchedule().alphas_cumprod).float()
    data, steps = fields(256, seed=2), 100
    for step in range(steps):
        x0 = data[torch.randint(len(data), (8,), generator=generator)]
        t = torch.randint(0, 400, (8,), generator=generator)
        a = kept[t][:, None, None, None]
        n = torch.randn(x0.shape, generator=generator)
        predicted = network(a.sqrt() * x0 + (1 - a).sqrt() * n, t.float(), torch.zeros(8, 1, 0))
        loss = F.mse_loss(predicted, n)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.param_groups[0]["lr"] = 4e-3 * (1 - step / steps)
        optimiser.step()
    return unet_of(network.eval().requires_grad_(False))


@pytest.fixture(scope="module")
def random() -> CleanupUNet:
    network = random_network(lambda: UNet(CONFIG), 3)
    spread = network(fields(1, 4), 100.0, torch.zeros(1, 1, 0)).std()
    network.conv_out.weight /= spread  # as large as noise, as what a UNet says is
    return unet_of(network)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of 16 positions, so that small pictures have several."""
    monkeypatch.setattr(vae_tiles, "WHOLE", 0)
    monkeypatch.setattr(vae_tiles, "CORE", 16)
    monkeypatch.setattr(vae_tiles, "HALO", 6)
    monkeypatch.setattr(vae_tiles, "RAMP", 4)


def encoded(
    codec: LatentCodec, picture: Picture, cleanup: CleanupRequest | None, level: int = COARSE
) -> File:
    return unpack(LatentEncoder(codec, picture, cleanup=cleanup).encode(level).data)


def stored(file: File) -> CleanupChunk:
    chunk = CleanupChunk.unpack(file.cleanup or b"")
    assert chunk is not None
    return chunk


def decoded(codec: LatentCodec, file: File, unet: CleanupUNet | None = None, strength: float = 1) -> Pixels:
    cleaner = cleaner_for(file, codec, strength, None, unet) if unet else None
    reader = LatentReader(codec, file.header, file_chunk(file), None, cleaner)
    return decode_with(reader, file, Limits(), None)[0].pixels


def squared(a: Pixels, b: Pixels) -> float:
    return float(np.mean((a.astype(float) - b.astype(float)) ** 2))


# What is stored.


def test_without_a_request_the_file_is_as_it_was(codec: LatentCodec, random: CleanupUNet) -> None:
    picture = synthetic()
    plain = LatentEncoder(codec, picture).encode(COARSE).data
    asked = encoded(codec, picture, request(random))
    assert unpack(plain).cleanup is None
    assert replace(asked, cleanup=None) == unpack(plain)
    assert len(asked.cleanup or b"") < 40


def test_the_error_of_each_channel_is_stored(codec: LatentCodec, random: CleanupUNet) -> None:
    picture = synthetic()
    encoder = LatentEncoder(codec, picture, cleanup=request(random))
    both, plane = encoder._encode(COARSE)
    coder = coder_for(file_chunk(both.file), COARSE, codec.device)
    error = coder.dequantise(plane) - codec.analyse(picture.pixels)
    expected = np.sqrt((error**2).mean((1, 2)))
    assert [unpack_error(byte) for byte in stored(both.file).errors] == pytest.approx(expected, rel=0.022)


def test_the_clean_up_starts_at_the_stored_noise(codec: LatentCodec) -> None:
    seen: list[float] = []

    class Watching(nn.Module):
        config = CONFIG

        def forward(self, x: Tensor, t: Tensor, context: Tensor, *, added: Tensor | None) -> Tensor:
            seen.append(float(t[0]))
            return torch.zeros_like(x)

    watching = unet_of(Watching())
    file = encoded(codec, synthetic(), request(watching))
    schedule = NoiseSchedule()
    sigma = float(np.sqrt(np.mean([unpack_error(byte) ** 2 for byte in stored(file).errors])))
    assert seen[0] == pytest.approx(schedule.timestep_of(sigma), abs=0.01)
    assert len(seen) == 3
    seen.clear()
    encoded(codec, synthetic(), request(watching, preset="seed-2022"))
    assert seen == pytest.approx([16, 1], abs=1e-3)


def test_latents_reach_the_network_in_its_own_scale(codec: LatentCodec) -> None:
    # At sigma s the network is given (latents + what is missing) / sqrt(1 + s^2).
    seen: list[Tensor] = []

    class Watching(nn.Module):
        config = CONFIG

        def forward(self, x: Tensor, t: Tensor, context: Tensor, *, added: Tensor | None) -> Tensor:
            seen.append(x.clone())
            return torch.zeros_like(x)

    picture = synthetic()
    file = encoded(codec, picture, request(unet_of(Watching())))
    errors = torch.tensor([unpack_error(byte) for byte in stored(file).errors])
    given = seen[0][0] * (1 + errors.square().mean()).sqrt()
    wanted = torch.from_numpy(codec.analyse(picture.pixels))
    assert float((given - wanted).square().mean()) == pytest.approx(float(errors.square().mean()), rel=0.4)


def test_networks_see_pieces_of_bounded_size(codec: LatentCodec) -> None:
    seen: list[tuple[int, ...]] = []

    class Watching(nn.Module):
        config = CONFIG

        def forward(self, x: Tensor, t: Tensor, context: Tensor, *, added: Tensor | None) -> Tensor:
            seen.append(tuple(x.shape[2:]))
            return torch.zeros_like(x)

    file = encoded(codec, synthetic(5, 90, 110), request(unet_of(Watching())))
    assert len(stored(file).amounts) == 4
    assert set(seen) == {(80, 80), (80, 62), (42, 80), (42, 62)}
    assert len(seen) == 4 * 3  # a piece is cleaned once, however many pictures are compared


# The guard.


def test_a_random_network_is_refused(codec: LatentCodec, random: CleanupUNet) -> None:
    file = encoded(codec, synthetic(), request(random))
    assert stored(file).amounts == (Amount.OFF,)
    assert (decoded(codec, file, random) == decoded(codec, file)).all()


@pytest.mark.slow
def test_a_trained_network_is_accepted_and_helps(codec: LatentCodec, trained: CleanupUNet) -> None:
    for seed in (5, 6, 7):
        picture = synthetic(seed)
        file = encoded(codec, picture, request(trained))
        assert stored(file).amounts == (Amount.FULL,)
        cleaned, plain = decoded(codec, file, trained), decoded(codec, file)
        assert squared(cleaned, picture.pixels) < 0.9 * squared(plain, picture.pixels)


def test_the_strength_scales_it(codec: LatentCodec, trained: CleanupUNet) -> None:
    file = encoded(codec, synthetic(), request(trained))
    plain = decoded(codec, file)
    changes = [squared(decoded(codec, file, trained, strength), plain) for strength in (0, 0.3, 0.7, 1)]
    assert changes[0] == 0
    assert changes == sorted(changes)
    assert changes[1] < 0.2 * changes[3]


@pytest.mark.parametrize("limit", [0.0, 0.5, 30.0])
@pytest.mark.usefixtures("small_pieces")
def test_no_tile_is_worse_than_the_limit(codec: LatentCodec, trained: CleanupUNet, limit: float) -> None:
    picture = synthetic(8, 40, 56)
    half_wrong = nn.Module()
    half_wrong.config = CONFIG  # type: ignore[assignment]

    def forward(x: Tensor, t: Tensor, context: Tensor, *, added: Tensor | None) -> Tensor:
        # Right where the picture is dark, wrong where it is bright: tiles differ in what they bear.
        right = trained.module(x, t, context)
        return torch.where(x.mean((1, 2, 3), keepdim=True) < 0, right, -right)

    half_wrong.forward = forward
    unet = unet_of(half_wrong)
    file = encoded(codec, picture, request(unet, limit=limit))
    chunk = stored(file)
    assert len(chunk.amounts) == 3 * 4
    shown, plain = decoded(codec, file, unet), decoded(codec, file)
    for box in vae_tiles.cores(56, 40):
        x0, y0, x1, y1 = (8 * edge for edge in box)
        errors = [squared(pixels[y0:y1, x0:x1], picture.pixels[y0:y1, x0:x1]) for pixels in (shown, plain)]
        assert errors[0] <= errors[1] * 10 ** (limit / 10) + 1e-9
    if limit == 0.0:
        assert len(set(chunk.amounts)) > 1  # some bear it, some do not
    if limit == 30.0:
        assert set(chunk.amounts) == {Amount.FULL}


@pytest.mark.usefixtures("small_pieces")
def test_tiles_have_seeds_of_their_own_and_borders_do_not_show(
    codec: LatentCodec, trained: CleanupUNet
) -> None:
    picture = synthetic(9, 32, 48)
    file = encoded(codec, picture, request(trained, limit=60.0))
    shown, plain = decoded(codec, file, trained), decoded(codec, file)
    assert set(stored(file).amounts) == {Amount.FULL}
    change = np.abs(np.diff((shown.astype(int) - plain)[::8, ::8], axis=1)).max((0, 2))
    assert change[[15, 31]].max() <= np.delete(change, [15, 31]).max() + 2
    other = replace(file, cleanup=replace(stored(file), seed=1).pack())
    assert (decoded(codec, other, trained) != shown).any()


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("spoils", ["itself", "its neighbour", "everything"])
def test_tiles_that_are_worse_together_step_back(spoils: str) -> None:
    # Alone (weak or full everywhere) each tile is fine; what they show together is another thing.
    source = from_array(np.full((16 * 8, 48 * 8, 3), 100, np.uint8))
    shown: list[tuple[int, ...]] = []

    def show(amounts: Any) -> Pixels:
        shown.append(tuple(amounts))
        pixels = np.full((128, 384, 3), 104, np.uint8)
        for tile, amount in enumerate(amounts):
            pixels[:, 128 * tile : 128 * (tile + 1)] -= np.uint8(amount)
        if len(shown) > 3:
            spoilt = {"itself": amounts[1] == 2, "its neighbour": amounts[0] > 0, "everything": True}[spoils]
            pixels[:, 128:256] = 110 if spoilt else pixels[:, 128:256]
        return pixels

    cleaner: Any = SimpleNamespace(
        width=48,
        height=16,
        downscale=8,
        chunk=SimpleNamespace(amounts=(0, 0, 0)),
        change_of=lambda amounts, plain, clean: amounts,
    )
    amounts = choose_amounts(cleaner, lambda box: np.zeros((3, 1, 1), np.float32), show, source, 0.0)
    assert shown[3] == (2, 2, 2)
    assert amounts == {"itself": (2, 1, 2), "its neighbour": (0, 0, 0), "everything": (0, 0, 0)}[spoils]


def test_the_same_bytes_give_the_same_pixels(codec: LatentCodec, trained: CleanupUNet) -> None:
    for preset in ("matched", "seed-2022"):
        file = encoded(codec, synthetic(), request(trained, preset=preset, limit=60.0, seed=7))
        shown = decoded(codec, file, trained)
        assert (decoded(codec, file, trained) == shown).all()
        assert (shown != decoded(codec, file)).any()


def test_a_network_without_finite_answers_changes_nothing(codec: LatentCodec) -> None:
    class Broken(nn.Module):
        config = CONFIG

        def forward(self, x: Tensor, t: Tensor, context: Tensor, *, added: Tensor | None) -> Tensor:
            return torch.full_like(x, float("nan"))

    broken = unet_of(Broken())
    file = encoded(codec, synthetic(), request(broken, limit=60.0))
    assert stored(file).amounts == (Amount.OFF,)
    forced = replace(file, cleanup=replace(stored(file), amounts=(2,)).pack())
    assert (decoded(codec, forced, broken) == decoded(codec, file)).all()


def test_a_picture_that_is_transparent_in_part(codec: LatentCodec, trained: CleanupUNet) -> None:
    picture = synthetic()
    for alpha in (np.zeros, np.ones):
        hidden = replace(picture, alpha=alpha(picture.pixels.shape[:2], np.uint8))
        file = encoded(codec, hidden, request(trained))
        assert stored(file).amounts == ((Amount.OFF,) if alpha is np.zeros else (Amount.FULL,))


# What does not fit.


def test_channels_that_do_not_fit_are_named(codec: LatentCodec) -> None:
    other = unet_of(random_network(lambda: UNet(replace(CONFIG, inputs=9, outputs=4)), 3), "inpainting")
    with pytest.raises(
        InvalidArgument, match="inpainting takes 9 channels and gives 4, the latents of means have 3"
    ):
        encoded(codec, synthetic(), request(other))


def test_labels_are_not_there(codec: LatentCodec) -> None:
    other = unet_of(random_network(lambda: UNet(replace(CONFIG, classes=10)), 3))
    with pytest.raises(InvalidArgument, match="10 labels"):
        encoded(codec, synthetic(), request(other))


@pytest.mark.parametrize("change", [{"errors": (1, 2)}, {"amounts": (2, 2)}])
def test_a_chunk_of_another_picture(codec: LatentCodec, trained: CleanupUNet, change: dict[str, Any]) -> None:
    file = encoded(codec, synthetic(), request(trained))
    with pytest.raises(MalformedFile, match="channels and"):
        Cleaner(replace(stored(file), **change), trained, codec, file.header)
