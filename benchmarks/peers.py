"""The codecs that are measured: each turns a picture and a quality into a file's bytes, and back.

                       setting
                          ▼
    uint8 (H, W, 3) ─► encode ─► bytes of a whole file ─► decode ─► uint8 (H, W, 3)

JPEG, WebP and AVIF are Pillow's, at the settings a careful user would choose; `native` is latentcodec's own.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol

import numpy as np
import PIL
from PIL import Image, features

from benchmarks.datasets import Pixels, to_pixels
from latentcodec.errors import InvalidArgument, MissingDependency

__all__ = ["PEERS", "Avif", "Jpeg", "Native", "Peer", "WebP", "make_peer"]


class Peer(Protocol):
    """A codec under test. More of `setting` means more bytes and a better picture."""

    name: str
    version: str
    """Everything that its files depend on: rows of another version are measured again."""
    settings: tuple[float, ...]
    """The sweep that a run makes unless told otherwise."""

    def encode(self, picture: Pixels, setting: float) -> bytes:
        """The picture as a whole file."""

    def decode(self, data: bytes) -> Pixels:
        """The file as a picture of the same size."""


class _Pillow:
    """A codec of Pillow's: integer quality 0-100 and fixed options."""

    format: ClassVar[str]
    feature: ClassVar[str]
    options: ClassVar[Mapping[str, Any]]

    def __init__(self) -> None:
        if not features.check(self.feature):
            raise MissingDependency(
                f"this Pillow ({PIL.__version__}) was built without {self.format}; PyPI's wheels have it"
            )
        library = (
            "libjpeg_turbo" if features.check("libjpeg_turbo") and self.feature == "jpg" else self.feature
        )
        options = " ".join(f"{key}={value}" for key, value in self.options.items())
        self.version = f"Pillow {PIL.__version__}, {library} {features.version(library)}, {options}"

    def encode(self, picture: Pixels, setting: float) -> bytes:
        if setting != int(setting):
            raise InvalidArgument(f"quality {setting:g}: {self.format} takes whole numbers")
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, self.format, quality=int(setting), **self.options)
        return buffer.getvalue()

    def decode(self, data: bytes) -> Pixels:
        with Image.open(io.BytesIO(data), formats=[self.format]) as image:
            return to_pixels(image)


class Jpeg(_Pillow):
    """libjpeg-turbo, with optimised Huffman tables and progressive scans; 4:2:0, Pillow's default."""

    name = "jpeg"
    settings: tuple[float, ...] = (5, 10, 15, 20, 30, 50, 75, 90)
    format = "JPEG"
    feature = "jpg"
    options: ClassVar = {"optimize": True, "progressive": True}


class WebP(_Pillow):
    """libwebp, lossy, at its slowest and best method."""

    name = "webp"
    settings: tuple[float, ...] = (5, 10, 20, 30, 40, 60, 80, 90)
    format = "WEBP"
    feature = "webp"
    options: ClassVar = {"method": 6}


class Avif(_Pillow):
    """libavif with AV1, at a speed of which the slower ones gain little."""

    name = "avif"
    settings: tuple[float, ...] = (5, 15, 25, 35, 45, 60, 75, 90)
    format = "AVIF"
    feature = "avif"
    options: ClassVar = {"speed": 4}


class Native:
    """latentcodec's own model, kept loaded."""

    name = "native"
    settings: tuple[float, ...] = tuple(range(0, 101, 10))

    def __init__(self, device: str = "auto") -> None:
        from latentcodec import (
            Codec,
            __version__,
            container,
        )  # loads PyTorch, which the other codecs do not need

        self._codec = Codec(model="native", device=device)
        # A file names the networks that made it, so the first file made says which weights these are.
        header = container.unpack(self._codec.encode(np.full((64, 64, 3), 128, np.uint8))).header
        networks, synthesis = header.networks_hash.hex(), header.synthesis_hash.hex()
        self.version = f"latentcodec {__version__}, networks {networks}, synthesis {synthesis}"

    def encode(self, picture: Pixels, setting: float) -> bytes:
        return self._codec.encode(picture, quality=setting)

    def encode_to_size(self, picture: Pixels, size: int) -> bytes:
        """The best file of at most `size` bytes. Raises TargetUnreachable if there is none."""
        return self._codec.encode(picture, target_size=size)

    def decode(self, data: bytes) -> Pixels:
        return to_pixels(self._codec.decode(data))


PEERS: dict[str, Callable[[], Peer]] = {"native": Native, "jpeg": Jpeg, "webp": WebP, "avif": Avif}


def make_peer(name: str, device: str = "auto") -> Peer:
    """The codec of that name; `device` is for `native`. Raises InvalidArgument for an unknown name."""
    if name not in PEERS:
        raise InvalidArgument(f"no codec is called {name!r}; there are {', '.join(PEERS)}")
    return Native(device) if name == "native" else PEERS[name]()
