"""The native model's weights file: reading, writing, identity.

    native-1.safetensors
        metadata      model number, configuration, model card (JSON)
        analysis.*, synthesis.*, hyper_analysis.*    float16 (gains float32)
        integer.*     layers (int8 weights, int32 biases, int8 shifts), row offsets, tables:
                      all that determines symbols

    hash A = SHA-256 over the integer tensors; hash B = over the synthesis tensors; four bytes of each stand
    in a file.

A registered number means one model for ever; NATIVE_MODEL is what this version writes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from latentcodec.errors import InvalidWeights, UnknownModel, WeightsMismatch
from latentcodec.nn.integer import IntegerLayer
from latentcodec.nn.native.entropy_model import ROWS, layer_shapes
from latentcodec.nn.native.integer_model import IntegerModel
from latentcodec.nn.native.model import NativeConfig
from latentcodec.nn.native.transform import Analysis, Synthesis
from latentcodec.rans.tables import Tables
from latentcodec.weights.checkpoints.safetensors_file import read_safetensors

Network = TypeVar("Network", bound=torch.nn.Module)

NATIVE_MODEL = 1
FILES = {NATIVE_MODEL: "native-1.safetensors"}


@dataclass(frozen=True)
class NativeWeights:
    """A weights file in memory: tensors by name, configuration and model card."""

    number: int
    config: NativeConfig
    card: dict[str, Any]
    tensors: Mapping[str, Tensor]

    @cached_property
    def networks_hash(self) -> bytes:
        """Hash A: four bytes over everything that determines the symbols."""
        return _digest(self.tensors, "integer.")

    @cached_property
    def synthesis_hash(self) -> bytes:
        """Hash B: four bytes over the synthesis transform."""
        return _digest(self.tensors, "synthesis.")

    def tensor(self, name: str) -> Tensor:
        """A tensor by its name. Raises InvalidWeights where there is none."""
        if name not in self.tensors:
            raise InvalidWeights(f"{name}: the weights file has no such tensor")
        return self.tensors[name]

    def tables(self) -> Tables:
        """The rANS tables."""
        sizes = self.tensor("integer.row_sizes").numpy()
        frequencies = self.tensor("integer.frequencies").numpy().astype(np.int64) + 1
        if sizes.shape != (ROWS,) or sizes[0] != 1 or sizes[1:].min() < 2:
            raise InvalidWeights(
                f"tables: {sizes.size} rows, not {ROWS} of which the first alone has one entry"
            )
        # Entries are the residuals -n..n and the escape.
        return Tables.from_frequencies(frequencies, sizes, (sizes - 1) // 2)

    def layers(self) -> dict[str, IntegerLayer]:
        """The integer layers."""
        return {
            name: IntegerLayer(
                self.tensor(f"integer.{name}.weight"),
                self.tensor(f"integer.{name}.bias"),
                self.tensor(f"integer.{name}.shift"),
                gain,
            )
            for name, (_, _, _, gain) in layer_shapes(self.config.entropy).items()
        }

    def integer_model(self, device: torch.device, dtype: torch.dtype = torch.float32) -> IntegerModel:
        """The integer networks on a device. Raises InvalidWeights where a bound does not hold."""
        return IntegerModel(
            self.config.entropy,
            self.layers(),
            self.tensor("integer.row_offset"),
            self.tensor("integer.hyper_row"),
            self.tensor("integer.log_table"),
            device,
            dtype,
        )

    def load_into(self, module: torch.nn.Module, prefix: str) -> None:
        """Copy the tensors below `prefix` into a module, strictly, and make it float32, not the default."""
        state = {k.removeprefix(prefix): v.float() for k, v in self.tensors.items() if k.startswith(prefix)}
        try:
            module.float().load_state_dict(state, strict=True)
        except RuntimeError as error:
            raise InvalidWeights(f"{prefix[:-1]}: {error}") from error

    def synthesis(self, device: torch.device) -> Synthesis:
        """The synthesis transform, ready to run."""
        module = Synthesis(self.config.transform)
        self.load_into(module, "synthesis.")
        return _ready(module, device)

    def analysis(self, device: torch.device) -> Analysis:
        """The analysis transform, ready to run."""
        module = Analysis(self.config.transform)
        self.load_into(module, "analysis.")
        return _ready(module, device)


def _ready(module: Network, device: torch.device) -> Network:
    module.eval().requires_grad_(False)
    module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return module


def _digest(tensors: Mapping[str, Tensor], prefix: str) -> bytes:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        if name.startswith(prefix):
            tensor = tensors[name].contiguous()
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.numpy().astype(tensor.numpy().dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.digest()[:4]


def read_weights(path: Path) -> NativeWeights:
    """Read a weights file. Raises InvalidWeights naming the file where it is damaged or of another kind."""
    try:
        shapes, read, metadata = read_safetensors(path)
        tensors = {name: read(name) for name in shapes}
        return NativeWeights(
            int(metadata["model_number"]),
            NativeConfig.from_dict(json.loads(metadata["config"])),
            json.loads(metadata["card"]),
            tensors,
        )
    except FileNotFoundError as error:
        raise InvalidWeights(f"{path}: no such weights file") from error
    except (OSError, InvalidWeights, KeyError, ValueError, TypeError, RecursionError) as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise InvalidWeights(f"{path}: not a native model's weights file ({reason})") from error


@lru_cache(maxsize=4)
def shipped_weights(number: int = NATIVE_MODEL) -> NativeWeights:
    """The weights of a registered model that this package ships. Raises UnknownModel naming those it has."""
    if number not in FILES:
        known = ", ".join(f"{n} ({f})" for n, f in FILES.items())
        raise UnknownModel(
            f"the file needs model {number}; this version has {known}: install a newer latentcodec"
        )
    with resources.as_file(resources.files("latentcodec.weights") / FILES[number]) as path:
        return read_weights(path)


def check_identity(weights: NativeWeights, networks_hash: bytes, synthesis_hash: bytes) -> None:
    """Raise WeightsMismatch unless a file's two hashes are those of the installed weights."""
    for what, needed, have in (
        ("integer networks", networks_hash, weights.networks_hash),
        ("synthesis", synthesis_hash, weights.synthesis_hash),
    ):
        if needed != have:
            raise WeightsMismatch(
                f"the file was made with other weights of model {weights.number}: its {what} have hash "
                f"{needed.hex()}, the installed ones {have.hex()}; "
                "decode it with the latentcodec version that wrote it"
            )
