"""A prior's file: what was fitted to the latents of one autoencoder.

NAME.safetensors
    metadata       format, sizes, the autoencoder's fingerprint, what it was fitted to (JSON)
    integer.*      layers (prior_network.py), tables as those of the adaptive coder, and the channels' means
                   `centres` (C,) int32 in 2^-20: all that determines symbols

hash = the first 8 bytes of a SHA-256 over these tensors: files name the prior by it
$LATENTCODEC_HOME/priors/<hash>.safetensors        where decoders look for it
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from latentcodec.atomic import write_atomically
from latentcodec.codec.values.adaptive_tables import AdaptiveTables
from latentcodec.codec.values.prior_layer import RunnableLayer
from latentcodec.codec.values.prior_network import PriorConfig, layer_shapes
from latentcodec.container.autoencoder import FINGERPRINT_BYTES, PRIOR_HASH_BYTES
from latentcodec.errors import InvalidWeights
from latentcodec.nn.exact.layer import Activation, IntegerLayer, LayerSpec
from latentcodec.weights.store import home

INTEGERS = (torch.int8, torch.int16, torch.int32, torch.int64)
MAX_BYTES = 4 << 20  # of a file
MAX_INTEGER_BYTES = 2 << 20
CENTRE_BITS = 20  # fraction bits of a centre
_FORMAT = "latentcodec prior 2"
TABLES = ("frequencies", "offsets", "sizes", "thresholds")
_LARGEST = 1024  # of every size in the configuration
_UNREADABLE = (OSError, SafetensorError, AttributeError, KeyError, ValueError, TypeError, RecursionError)


@dataclass(frozen=True)
class PriorWeights:
    """A prior in memory. fingerprint: 8 bytes, of the autoencoder. card: what it was fitted to."""

    fingerprint: bytes
    config: PriorConfig
    card: dict[str, Any]
    tensors: Mapping[str, Tensor]

    @cached_property
    def hash(self) -> bytes:
        """8 bytes over everything that determines the symbols."""
        digest = hashlib.sha256()
        for name in sorted(name for name in self.tensors if name.startswith("integer.")):
            values = self.tensors[name].contiguous().numpy()
            digest.update(f"{name} {self.tensors[name].dtype} {values.shape}\n".encode())
            digest.update(values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes())
        return digest.digest()[:PRIOR_HASH_BYTES]

    def tensor(self, name: str) -> Tensor:
        """A tensor by its name. Raises InvalidWeights where there is none."""
        if name not in self.tensors:
            raise InvalidWeights(f"{name}: the prior has no such tensor")
        return self.tensors[name]

    def centres(self) -> Tensor:
        """(C,) integers: each channel's mean in 2^-20. Raises InvalidWeights."""
        centres = self.tensor("integer.centres")
        if centres.shape != (self.config.latents,) or centres.dtype not in INTEGERS:
            raise InvalidWeights(
                f"centres: {centres.dtype} {tuple(centres.shape)}, not integers ({self.config.latents},)"
            )
        return centres.long()

    def tables(self) -> AdaptiveTables:
        """The rows and the thresholds of their levels. Raises InvalidWeights."""
        arrays = {name: self.tensor(f"integer.{name}").contiguous().numpy() for name in TABLES}
        return AdaptiveTables.from_arrays(arrays, "tables")

    def runnable(self, device: torch.device, dtype: torch.dtype = torch.float32) -> dict[str, RunnableLayer]:
        """The layers on a device; int64 is the reference for tests.

        Raises InvalidWeights where a size or a bound does not hold.
        """
        layers = {}
        for name, (inputs, outputs, gain) in layer_shapes(self.config).items():
            parts = [self.tensor(f"integer.{name}.{part}") for part in ("weight", "bias", "shift")]
            weight, bias, shift = (part.contiguous().numpy() for part in parts)
            layer = IntegerLayer(weight, bias, shift, gain, Activation.WIDE)
            layer.check_spec(name, LayerSpec(inputs, outputs, 1, gain))
            layers[name] = RunnableLayer.prepare(layer, device, dtype)
        return layers


def write_prior(weights: PriorWeights, path: Path) -> None:
    """Write a prior's file, replacing it atomically. Raises OSError."""
    metadata = {
        "format": _FORMAT,
        "autoencoder": weights.fingerprint.hex(),
        "config": json.dumps(asdict(weights.config)),
        "card": json.dumps(weights.card, sort_keys=True),
    }
    write_atomically(path, save({k: v.contiguous() for k, v in weights.tensors.items()}, metadata))


def read_prior(path: Path) -> PriorWeights:
    """Read a prior's file. Raises InvalidWeights naming it where it is none, damaged or too large."""
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise InvalidWeights(f"{path}: {size} bytes, a prior has at most {MAX_BYTES}")
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if (version := metadata.get("format")) != _FORMAT:
            raise ValueError(f"its format is {version!r}, not {_FORMAT!r}: fit it again with this version")
        sizes, card = json.loads(metadata["config"]), json.loads(metadata["card"])
        if not all(type(size) is int and 1 <= size <= _LARGEST for size in sizes.values()):
            raise ValueError(f"sizes {sizes} are not all within 1..{_LARGEST}")
        fingerprint, config = bytes.fromhex(metadata["autoencoder"]), PriorConfig(**sizes)
        if len(fingerprint) != FINGERPRINT_BYTES:
            raise ValueError(f"a fingerprint of {len(fingerprint)} bytes, not {FINGERPRINT_BYTES}")
        integers = sum(t.nbytes for name, t in tensors.items() if name.startswith("integer."))
        if integers > MAX_INTEGER_BYTES:
            raise ValueError(f"integer networks of {integers} bytes, the limit is {MAX_INTEGER_BYTES}")
    except FileNotFoundError as error:
        raise InvalidWeights(f"{path}: no such file: it should hold a prior") from error
    except _UNREADABLE as error:
        raise InvalidWeights(f"{path}: not a prior's file ({error})") from error
    return PriorWeights(fingerprint, config, card, tensors)


def stored_path(prior: bytes) -> Path:
    """Where the store has, or would have, the prior of that hash."""
    return home() / "priors" / f"{prior.hex()}.safetensors"
