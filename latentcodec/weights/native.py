"""The native model's weights file: reading, writing, identity.

    native-1.safetensors
        metadata      model number, configuration, model card (JSON)
        analysis.*, hyper_analysis.*    float16 (gains float32): an encoder's alone
        integer.*     layers (int8 weights, int32 biases, int8 shifts), row offsets, tables:
                      all that determines symbols
        synthesis.*   layers and tables, integers too: all that determines samples

    hash A = SHA-256 over the integer tensors; hash B = over the synthesis tensors; four bytes of each stand
    in a file. Read by numpy: PyTorch is not needed.

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
from numpy.typing import NDArray

from latentcodec.errors import InvalidWeights, UnknownModel, WeightsMismatch
from latentcodec.nn.exact.engine import Engine
from latentcodec.nn.exact.layer import IntegerLayer, LayerSpec, NarrowLayer, NarrowSpec
from latentcodec.nn.native.config import ROWS, NativeConfig
from latentcodec.nn.native.entropy import entropy_layers
from latentcodec.nn.native.integer_model import IntegerModel
from latentcodec.nn.native.integer_synthesis import IntegerSynthesis, table_shapes
from latentcodec.nn.native.synthesis import synthesis_layers
from latentcodec.rans.tables import Tables
from latentcodec.weights.checkpoints.safetensors_file import read_safetensors

Map = TypeVar("Map")
Array = NDArray[Any]

NATIVE_MODEL = 1
FILES = {NATIVE_MODEL: "native-1.safetensors"}


@dataclass(frozen=True)
class NativeWeights:
    """A weights file in memory: arrays by name, configuration and model card."""

    number: int
    config: NativeConfig
    card: dict[str, Any]
    tensors: Mapping[str, Array]

    @cached_property
    def networks_hash(self) -> bytes:
        """Hash A: four bytes over everything that determines the symbols."""
        return _digest(self.tensors, "integer.")

    @cached_property
    def synthesis_hash(self) -> bytes:
        """Hash B: four bytes over everything that determines the samples, given the symbols."""
        return _digest(self.tensors, "synthesis.")

    def tensor(self, name: str) -> Array:
        """A tensor by its name. Raises InvalidWeights where there is none."""
        if name not in self.tensors:
            raise InvalidWeights(f"{name}: the weights file has no such tensor")
        return self.tensors[name]

    def tables(self) -> Tables:
        """The rANS tables."""
        sizes = self.tensor("integer.row_sizes")
        frequencies = self.tensor("integer.frequencies").astype(np.int64) + 1
        if sizes.shape != (ROWS,) or sizes[0] != 1 or sizes[1:].min() < 2:
            raise InvalidWeights(
                f"tables: {sizes.size} rows, not {ROWS} of which the first alone has one entry"
            )
        # Entries are the residuals -n..n and the escape.
        return Tables.from_frequencies(frequencies, sizes, (sizes - 1) // 2)

    def layers(self) -> dict[str, IntegerLayer]:
        """The entropy model's integer layers."""
        return {
            name: self._layer(f"integer.{name}", spec)
            for name, spec in entropy_layers(self.config.entropy).items()
        }

    def synthesis_layers(self) -> dict[str, IntegerLayer | NarrowLayer]:
        """The synthesis' integer layers."""
        layers: dict[str, IntegerLayer | NarrowLayer] = {}
        for name, spec in synthesis_layers(self.config.transform).items():
            stored = f"synthesis.{name}"
            if isinstance(spec, NarrowSpec):
                bias, shift = (self.tensor(f"{stored}.{part}") for part in ("bias", "shift"))
                layers[name] = NarrowLayer(bias, shift, spec.activation)
            else:
                layers[name] = self._layer(stored, spec)
        return layers

    def _layer(self, name: str, spec: LayerSpec) -> IntegerLayer:
        weight, bias, shift = (self.tensor(f"{name}.{part}") for part in ("weight", "bias", "shift"))
        return IntegerLayer(weight, bias, shift, spec.gain, spec.activation)

    def integer_model(self, engine: Engine[Map]) -> IntegerModel[Map]:
        """The entropy model's networks. Raises InvalidWeights where a bound does not hold."""
        offset, hyper, logs = (
            self.tensor(f"integer.{name}") for name in ("row_offset", "hyper_row", "log_table")
        )
        return IntegerModel(self.config.entropy, self.layers(), offset, hyper, logs, engine)

    def integer_synthesis(self, engine: Engine[Map]) -> IntegerSynthesis[Map]:
        """The synthesis. Raises InvalidWeights where a bound does not hold."""
        names = (*table_shapes(self.config.transform), "log_table")
        tables = {name: self.tensor(f"synthesis.{name}") for name in names}
        return IntegerSynthesis(self.config.transform, self.synthesis_layers(), tables, engine)


def _digest(tensors: Mapping[str, Array], prefix: str) -> bytes:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        if name.startswith(prefix):
            array = tensors[name]
            # The names of types and the form of shapes are PyTorch's, whichever package read them.
            digest.update(f"{name} torch.{array.dtype.name} {array.shape}\n".encode())
            digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.digest()[:4]


def read_weights(path: Path) -> NativeWeights:
    """Read a weights file. Raises InvalidWeights naming the file where it is damaged or of another kind."""
    try:
        shapes, read, metadata = read_safetensors(path, "np")
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
