"""A file's coder follows from its V chunk alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from latentcodec.codec.planes import empty_plane
from latentcodec.codec.values.adaptive_coder import AdaptiveCoder
from latentcodec.codec.values.adaptive_tables import shipped_tables
from latentcodec.codec.values.choice import asked_chunk, coder_for
from latentcodec.codec.values.coder import latents_of
from latentcodec.codec.values.palette import PaletteCoder
from latentcodec.container.autoencoder import NO_NETWORKS, AutoencoderChunk, ScalarQuantiser
from latentcodec.errors import UnknownModel

CPU = torch.device("cpu")
PALETTE = AutoencoderChunk("taesd", 4, 3, bytes(range(8)), "toy", scalar=None)
SCALAR = replace(PALETTE, scalar=ScalarQuantiser(96, (0, 1, 2, 3), (0,) * 4))


def test_each_quantiser_has_its_coder() -> None:
    palette, adaptive = coder_for(PALETTE, 0, CPU), coder_for(SCALAR, 0, CPU)
    assert isinstance(palette, PaletteCoder)
    assert isinstance(adaptive, AdaptiveCoder)
    assert (palette.networks_hash, palette.blank) == (NO_NETWORKS, 128)
    assert (adaptive.networks_hash, adaptive.blank) == (shipped_tables().hash, 0)


def test_a_prior_that_is_not_here_is_named() -> None:
    needed = replace(SCALAR, prior=bytes(range(8)))
    with pytest.raises(
        UnknownModel, match="the file needs the prior 0001020304050607 of the autoencoder toy"
    ):
        coder_for(needed, 0, CPU)


def test_without_a_prior_nothing_is_added() -> None:
    assert asked_chunk(PALETTE, None) is PALETTE


def test_latents_come_box_by_box() -> None:
    plane = empty_plane(4, 80, 48)
    plane[:] = np.random.default_rng(1).integers(-9, 9, plane.shape)
    coder = coder_for(SCALAR, 0, CPU)
    box = latents_of(coder, plane)((1, 2, 7, 5))
    assert box.dtype == np.float32
    assert np.array_equal(box, coder.dequantise(plane)[:, 2:5, 1:7].astype(np.float32))
