"""latentcodec's own codecs: the native model, and its codec on any autoencoder that is installed."""

from __future__ import annotations

import numpy as np
from PIL import features

from benchmarks.pictures.arrays import Pixels, to_pixels

__all__ = ["ALL_VAES", "NATIVE", "VAE", "AnyVae", "Native"]

VAE = "vae:"
"""Stands before the name of a model, as in vae:taef2."""
NATIVE = "native:"
"""Stands before an effort, as in native:9."""
ALL_VAES = "vae"


class _LatentCodec:
    """A model of latentcodec.Codec's, kept loaded."""

    suffix = ".lci"
    settings: tuple[float, ...] = tuple(range(0, 101, 10))

    def __init__(self, name: str, model: str, device: str, effort: int | None = None) -> None:
        # Loads PyTorch, which the other codecs do not need.
        from latentcodec import Codec, __version__
        from latentcodec.codec.arguments import DEFAULT_EFFORT, check_effort
        from latentcodec.container.file import unpack

        self.name, self._model, self._device = name, model, device
        self._effort = DEFAULT_EFFORT if effort is None else check_effort(effort)
        self._codec = Codec(model=model, device=device)
        # A file names the networks that made it, so the first file made says which weights these are: one of
        # noise, since a picture that repeats may be kept without any.
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        header = unpack(self._codec.encode(noise)).header
        networks, synthesis = header.networks_hash.hex(), header.synthesis_hash.hex()
        self.version = f"latentcodec {__version__}, networks {networks}, synthesis {synthesis}"
        if self._codec.device.type != "cpu":
            self.version += f", on {self._codec.device.type}"  # a float network's latents differ there

    def encode(self, picture: Pixels, setting: float) -> bytes:
        return self._codec.encode(picture, quality=setting, effort=self._effort)

    def encode_to_size(self, picture: Pixels, size: int) -> bytes:
        """The best file of at most `size` bytes. Raises TargetUnreachable if there is none."""
        return self._codec.encode(picture, target_size=size, effort=self._effort)

    def decode(self, data: bytes) -> Pixels:
        return to_pixels(self._codec.decode(data))


class Native(_LatentCodec):
    """latentcodec's own model, at the default effort or another. Raises InvalidArgument for a wrong one."""

    def __init__(self, device: str = "auto", effort: int | None = None) -> None:
        super().__init__("native" if effort is None else f"{NATIVE}{effort}", "native", device, effort)
        self._asked = effort
        self.version += f", without loss by webp {features.version('webp')}"

    def __reduce__(self) -> tuple[type[Native], tuple[str, int | None]]:
        return Native, (self._device, self._asked)


class AnyVae(_LatentCodec):
    """The codec on an autoencoder's latents. Raises UnknownModel where there is no such model."""

    def __init__(self, model: str, device: str = "auto") -> None:
        super().__init__(f"{VAE}{model}", model, device)

    def __reduce__(self) -> tuple[type[AnyVae], tuple[str, str]]:
        return AnyVae, (self._model, self._device)
