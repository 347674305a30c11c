"""Clean-up by denoisers that are written by hand: no checkpoint, no network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from latentcodec import CleanupSettings
from latentcodec.codec.api import Codec
from latentcodec.codec.autoencoder import vae_tiles
from latentcodec.codec.autoencoder.encoder import LatentEncoder
from latentcodec.codec.autoencoder.latent import LatentCodec, file_chunk
from latentcodec.codec.autoencoder.reader import LatentReader
from latentcodec.codec.cleanup.cleanup import Cleaner
from latentcodec.codec.cleanup.denoiser import SCHEDULE, CleanupDenoiser, Place, Prompt
from latentcodec.codec.cleanup.file import cleaner_for, load_request
from latentcodec.codec.decoder import decode_with
from latentcodec.codec.info import info
from latentcodec.container.file import Limits, unpack
from latentcodec.diffusion.cleanup import Amount
from latentcodec.diffusion.levels import karras_sigmas
from latentcodec.errors import InvalidArgument, UnknownModel, WeightsMismatch
from latentcodec.weights.checkpoints.detected import AUTOENCODER, Detected
from latentcodec.weights.load import Identity, LoadedAutoencoder
from tests.codec.cleanup.test_cleanup import COARSE, CPU, BlockMeans, squared, stored, synthetic
from tests.codec.cleanup.test_file import shown
from tests.conftest import photograph
from tests.toy_autoencoder import save_pair

PIXELS = photograph(width=64, height=48)


class ByHand:
    """Says that all latents are those of `clean` (C, h, w): their place in it is the piece's."""

    name = "by-hand"

    def __init__(self, clean: Tensor, prediction: str = "epsilon", fingerprint: bytes = b"by hand!") -> None:
        self.clean, self.prediction, self.fingerprint = clean, prediction, fingerprint
        self.seen: list[tuple[float, Prompt, Place]] = []

    def check(self, codec: LatentCodec) -> None:
        if codec.latents != len(self.clean):
            raise InvalidArgument(f"by hand for {len(self.clean)} channels")

    def predict(self, noisy: Tensor, sigma: float, prompt: Prompt, place: Place) -> Tensor:
        self.seen.append((sigma, prompt, place))
        rows = slice(place.top // 8, (place.top + place.height) // 8)
        columns = slice(place.left // 8, (place.left + place.width) // 8)
        clean = self.clean[None, :, rows, columns].to(noisy)
        epsilon = (noisy - clean) / sigma
        if self.prediction == "epsilon":
            return epsilon
        return (epsilon - sigma * clean) / (1 + sigma**2) ** 0.5


@pytest.fixture
def means() -> LatentCodec:
    detected = Detected(family="other", layout="diffusers", components=(AUTOENCODER,))
    loaded: Any = LoadedAutoencoder(BlockMeans(), detected, Identity("means", "other", "ab" * 32))  # type: ignore[arg-type]
    return LatentCodec(loaded, CPU)


@pytest.fixture(params=["one piece", "pieces"])
def pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """How many tiles a picture of 24 x 40 positions has."""
    if request.param == "pieces":
        for name, size in (("WHOLE", 0), ("CORE", 16), ("HALO", 6), ("RAMP", 4)):
            monkeypatch.setattr(vae_tiles, name, size)
        yield 2 * 3
    else:
        yield 1


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_one_that_knows_the_picture_restores_it(means: LatentCodec, pieces: int, prediction: str) -> None:
    picture = synthetic(5, 24, 40)
    clean = torch.from_numpy(means.analyse(picture.pixels))
    denoiser: CleanupDenoiser = ByHand(clean, prediction)
    request = load_request(CleanupSettings(unet=denoiser, prompt="a photo", seed=3), CPU)
    file = unpack(LatentEncoder(means, picture, cleanup=request).encode(COARSE).data)
    chunk = stored(file)
    assert (chunk.name, chunk.fingerprint, chunk.prediction) == ("by-hand", b"by hand!", prediction)
    assert (chunk.prompt, chunk.seed) == ((320, 1125), 3)
    assert chunk.amounts == (Amount.FULL,) * pieces
    assert {prompt for _, prompt, _ in denoiser.seen} == {(320, 1125)}  # type: ignore[attr-defined]

    def decoded(strength: float) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        cleaner = cleaner_for(file, means, strength, request)
        reader = LatentReader(means, file.header, file_chunk(file), None, cleaner)
        return decode_with(reader, file, Limits(), None)[0].pixels

    assert squared(decoded(0), picture.pixels) > 4
    assert np.abs(decoded(1).astype(int) - picture.pixels).max() <= 1  # float32 sums, then rounding


def test_through_the_public_api(tmp_path: Path) -> None:
    model = save_pair(tmp_path / "taesd", 1)
    denoiser = ByHand(torch.zeros(4, 6, 8))
    codec = Codec(model, "cpu", cleanup_settings=CleanupSettings(unet=denoiser, limit=1000.0))
    data = codec.encode(PIXELS, quality=30)
    cleanup = info(data).cleanup
    assert cleanup is not None
    assert (cleanup.unet, cleanup.fingerprint, cleanup.full) == ("by-hand", b"by hand!".hex(), 1)
    assert codec.cleanup_detected is None
    assert {place for _, _, place in denoiser.seen} == {Place(48, 64, 0, 0, 48, 64)}
    sigmas = [sigma for sigma, _, _ in denoiser.seen]
    assert sigmas == sorted(sigmas, reverse=True)
    assert sigmas[-1] > 0
    plain, cleaned = shown(codec, data), shown(codec, data, 1)
    assert (plain != cleaned).any()
    # All that is left of the latents is zero: one shade, but for the autoencoder's edges.
    assert cleaned[16:32, 16:48].std(axis=(0, 1)).max() < plain[16:32, 16:48].std(axis=(0, 1)).min()

    with pytest.raises(UnknownModel, match="needs the UNet by-hand"):
        Codec(model, "cpu").decode(data, cleanup=1)
    other = ByHand(torch.zeros(4, 6, 8), fingerprint=b"another!")
    with pytest.raises(WeightsMismatch, match="by-hand here has fingerprint"):
        Codec(model, "cpu", cleanup_settings=CleanupSettings(unet=other)).decode(data, cleanup=1)


def test_the_file_says_what_is_predicted(means: LatentCodec) -> None:
    """A denoiser of the same weights may be taken for another kind where a file is decoded."""

    class Nothing(ByHand):
        def predict(self, noisy: Tensor, sigma: float, prompt: Prompt, place: Place) -> Tensor:
            return torch.zeros_like(noisy)

    denoiser = Nothing(torch.zeros(3, 16, 16))
    request = load_request(CleanupSettings(unet=denoiser), CPU)
    file = unpack(LatentEncoder(means, synthetic(), cleanup=request).encode(COARSE).data)
    chunk = replace(stored(file), errors=(192,) * 3)  # 1/2 in each channel: no noise is added
    levels = [*karras_sigmas(SCHEDULE.least, 0.5, 3), 0.0]
    shrunk = 1.0
    for sigma, following in pairwise(levels):
        kept = 1 / (1 + sigma**2)  # of the latents, where v is 0
        shrunk *= kept + (1 - kept) * following / sigma
    latents = means.analyse(synthetic().pixels).astype(np.float32)
    for prediction, factor in (("epsilon", 1.0), ("v_prediction", shrunk)):
        cleaner = Cleaner(replace(chunk, prediction=prediction), denoiser, means, file.header)
        assert np.allclose(cleaner.clean(0, (0, 0, 16, 16), latents), factor * latents, rtol=1e-5, atol=1e-6)


def test_one_for_other_latents_is_refused(means: LatentCodec) -> None:
    request = load_request(CleanupSettings(unet=ByHand(torch.zeros(4, 16, 16))), CPU)
    with pytest.raises(InvalidArgument, match="by hand for 4 channels"):
        LatentEncoder(means, synthetic(), cleanup=request)


def test_a_prediction_of_another_shape_is_named(means: LatentCodec) -> None:
    class Wide(ByHand):
        def predict(self, noisy: Tensor, sigma: float, prompt: Prompt, place: Place) -> Tensor:
            return noisy.repeat(1, 2, 1, 1)

    request = load_request(CleanupSettings(unet=Wide(torch.zeros(3, 16, 16))), CPU)
    with pytest.raises(InvalidArgument, match=r"by-hand predicts shape \(1, 6, 16, 16\) .* \(1, 3, 16, 16\)"):
        LatentEncoder(means, synthetic(), cleanup=request).encode(COARSE)
