"""The codecs that are measured: each turns a picture and a setting into a file's bytes, and back.

                       setting
                          ▼
    uint8 (H, W, 3) ─► encode ─► bytes of a whole file ─► decode ─► uint8 (H, W, 3)

    jpeg, mozjpeg, webp, avif, avif-fast, jpeg2000    classic: Pillow's, at what a careful user would choose
    jpegxl                                            jpegxl: imagecodecs
    native, native:9 (of effort 9)                    latent: latentcodec's own,
    vae:NAME, vae (all that are installed)            latent: and on any autoencoder

All run on one thread, so that their times compare.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from benchmarks.peers.classic import Avif, AvifFast, Jpeg, Jpeg2000, MozJpeg, WebP
from benchmarks.peers.jpegxl import JpegXl
from benchmarks.peers.latent import ALL_VAES, NATIVE, VAE, AnyVae, Native
from benchmarks.pictures.arrays import Pixels
from latentcodec.errors import InvalidArgument, LatentCodecError

__all__ = [
    "DEFAULT_PEERS",
    "PEERS",
    "AnyVae",
    "Avif",
    "AvifFast",
    "Jpeg",
    "Jpeg2000",
    "JpegXl",
    "MozJpeg",
    "Native",
    "Peer",
    "WebP",
    "find_peers",
    "make_peer",
]


class Peer(Protocol):
    """A codec under test. More of `setting` means more bytes and a better picture."""

    name: str
    version: str
    """Everything that its files depend on: rows of another version are measured again."""
    settings: tuple[float, ...]
    """The sweep that a run makes unless others are asked for, ascending."""
    suffix: str
    """Of its files."""

    def encode(self, picture: Pixels, setting: float) -> bytes:
        """The picture as a whole file."""

    def decode(self, data: bytes) -> Pixels:
        """The file as a picture of the same size."""


PEERS: dict[str, Callable[[], Peer]] = {
    "native": Native,
    "jpeg": Jpeg,
    "mozjpeg": MozJpeg,
    "webp": WebP,
    "avif": Avif,
    "avif-fast": AvifFast,
    "jpegxl": JpegXl,
    "jpeg2000": Jpeg2000,
}
DEFAULT_PEERS = ("native", "jpeg", "webp", "avif", "jpegxl", "jpeg2000")


def make_peer(name: str, device: str = "auto") -> Peer:
    """The codec of that name; `device` is for those that are networks.

    Raises InvalidArgument for an unknown name, MissingDependency or UnknownModel for an absent codec.
    """
    if name.startswith(VAE):
        return AnyVae(name.removeprefix(VAE), device)
    if name.startswith(NATIVE) and name.removeprefix(NATIVE).isdecimal():
        return Native(device, int(name.removeprefix(NATIVE)))
    if name not in PEERS:
        known = (*PEERS, f"{NATIVE}EFFORT", f"{VAE}NAME", ALL_VAES)
        raise InvalidArgument(f"no codec is called {name!r}; there are {', '.join(known)}")
    return Native(device) if name == "native" else PEERS[name]()


def find_peers(names: Sequence[str], device: str = "auto") -> tuple[list[Peer], dict[str, str]]:
    """The codecs of these names that are installed, and why each of the others is not, by name.

    "vae" stands for every model in the store. Raises InvalidArgument for an unknown name, and where all are
    absent.
    """
    peers: list[Peer] = []
    absent: dict[str, str] = {}
    requested = dict.fromkeys(names)
    if ALL_VAES in requested:
        from latentcodec.weights.store import models_folder, stored_names

        del requested[ALL_VAES]
        installed = stored_names()
        requested |= dict.fromkeys(f"{VAE}{name}" for name in installed)
        if not installed:
            absent[ALL_VAES] = f"no model is in {models_folder()}; see latentcodec models --help"
    for name in requested:
        try:
            peers.append(make_peer(name, device))
        except (LatentCodecError, OSError) as error:
            if isinstance(error, InvalidArgument) and not name.startswith(VAE):
                raise
            absent[name] = str(error)
    if not peers:
        raise InvalidArgument(
            "no codec is left: " + ("; ".join(f"{name}: {why}" for name, why in absent.items()) or "name one")
        )
    return peers, absent
