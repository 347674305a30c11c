"""What a call in a PyTorch pickle means: the description of a tensor, a container, or nothing of interest.

name, arguments ─► is it known? ─┬─ rebuilds a tensor ────► StoredTensor: storage, offset, sizes, strides
                                 ├─ sparse, nested, meta ─► OddTensor: a kind that is not read
                                 ├─ OrderedDict ──────────► Container
                                 └─ bytes, numpy, others ─► OPAQUE: nobody looks at it

Nothing is called or imported: `called` compares texts and keeps numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

MAX_DEPTH = 64  # of containers in containers; Lightning's checkpoints have some 8
MAX_DIMENSIONS = 64  # as many as PyTorch has
MAX_ATTRIBUTES = 64  # of a tensor
MAX_STORAGE_KEY = 256  # characters: they are compared at every mention
MAX_INTEGER = 1 << 63  # of sizes, and of keys: old optimisers' are addresses

# Storages by their class, and what their numbers are (torch.storage._dtype_to_storage_type_map).
STORAGES = {
    "torch.DoubleStorage": "float64",
    "torch.FloatStorage": "float32",
    "torch.HalfStorage": "float16",
    "torch.BFloat16Storage": "bfloat16",
    "torch.LongStorage": "int64",
    "torch.IntStorage": "int32",
    "torch.ShortStorage": "int16",
    "torch.CharStorage": "int8",
    "torch.ByteStorage": "uint8",
    "torch.BoolStorage": "bool",
    "torch.ComplexFloatStorage": "complex64",
    "torch.ComplexDoubleStorage": "complex128",
    "torch.storage.UntypedStorage": "uint8",  # of newer types, which the rebuilding call names
    "torch.QInt8Storage": "int8",  # of quantised tensors
    "torch.QUInt8Storage": "uint8",
    "torch.QInt32Storage": "int32",
}
DTYPES = frozenset(STORAGES.values()) | {
    *("uint16", "uint32", "uint64"),
    *("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"),
}
_UTILS = "torch._utils."
# Arguments of the calls that rebuild a dense tensor: the fewest, and where the type and the flags stand.
_REBUILD = {
    _UTILS + "_rebuild_tensor": (4, None, None),
    _UTILS + "_rebuild_tensor_v2": (6, None, 6),
    _UTILS + "_rebuild_tensor_v3": (7, 6, 7),
}
_PARAMETER = {_UTILS + "_rebuild_parameter": 3, _UTILS + "_rebuild_parameter_with_state": 4}
_FROM_TYPE = "torch._tensor._rebuild_from_type_v2"
_TENSOR_CLASSES = ("torch.Tensor", "torch.nn.parameter.Parameter")
_ODD = {
    _UTILS + "_rebuild_sparse_tensor": "a sparse tensor",
    _UTILS + "_rebuild_qtensor": "a quantised tensor",
    _UTILS + "_rebuild_nested_tensor": "a nested tensor",
    _UTILS + "_rebuild_meta_tensor_no_storage": "a tensor without values (of the meta device)",
    _UTILS + "_rebuild_wrapper_subclass": "a tensor of a class of its own",
    _UTILS + "_rebuild_device_tensor_from_numpy": "a tensor of another device",
    _UTILS + "_rebuild_device_tensor_from_cpu_tensor": "a tensor of another device",
}
_ORDERED = "collections.OrderedDict"
_BUILTINS = ("builtins", "__builtin__")  # Python 3's name and Python 2's, which protocol 2 writes
_ENCODE = "_codecs.encode"
# Protocol 2 writes bytes as a call with a text. With other arguments these make what is larger than the file.
_BYTES = frozenset(
    [_ENCODE, *(f"{module}.{name}" for module in _BUILTINS for name in ("bytes", "bytearray"))]
)
# Other values that PyTorch's restricted unpickler makes, and classes that Lightning's checkpoints name beside
# the weights (sd-v1-4.ckpt's callbacks).
_VALUES = frozenset(
    ["collections.Counter", "torch.Size", "torch.device", "torch.serialization._get_layout"]
    + [f"{module}.{name}" for module in _BUILTINS for name in ("set", "complex")]
)
# numpy's numbers and arrays, which trainers keep beside the weights; numpy 2 renamed the module.
_NUMPY = frozenset(
    ["numpy.dtype", "numpy.ndarray"]
    + [f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")]
)
TRAINERS = frozenset(
    [
        "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
        "pytorch_lightning.callbacks.early_stopping.EarlyStopping",
        "pytorch_lightning.utilities.enums.AttributeDict",
    ]
)
_QUANTISED = ("tensor_affine", "tensor_symmetric", "channel_affine", "channel_symmetric")
_UNSEEN = _BYTES | _VALUES | _NUMPY | TRAINERS
NAMES = (
    {*STORAGES, *_REBUILD, *_PARAMETER, _FROM_TYPE, *_TENSOR_CLASSES, *_ODD, _ORDERED}
    | _UNSEEN
    | {f"torch.{dtype}" for dtype in DTYPES}
    | {f"torch.per_{scheme}" for scheme in (*_QUANTISED, "channel_affine_float_qparams")}
)


@dataclass(frozen=True, slots=True)
class Name:
    """A Python name that the pickle means: module and attribute, with a point between."""

    text: str


@dataclass(frozen=True, slots=True)
class Storage:
    """Numbers that the file stores: the key of their place, their type (a name in torch), how many."""

    key: str
    dtype: str
    numbers: int


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A view of a storage, as torch.as_strided has it: its first number, sizes and strides, in numbers.

    dtype: a name in torch. attributes: the names of Python attributes that were saved with it.
    """

    storage: Storage
    dtype: str
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    attributes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OddTensor:
    """A tensor of a kind that is not read, in words."""

    kind: str


class Opaque:
    """A value that the weights do not need."""


OPAQUE = Opaque()


@dataclass(eq=False, slots=True)
class Container:
    """A dict, list or tuple. depth: of containers, itself counted; placed: it is in another one."""

    items: dict[Any, Any] | list[Any] | tuple[Any, ...]
    depth: int = 1
    placed: bool = False

    def hold(self, values: Iterable[Any]) -> None:
        """Note that these are in it now. Raises ValueError where they are nested too deep.

        What is in another container stays as it is: so no container is in itself, and depths are right.
        """
        if self.placed:
            raise ValueError("a container changes after it was stored")
        for value in values:
            if value is self:
                raise ValueError("a container in itself")
            if isinstance(value, Container):
                value.placed = True
                self.depth = max(self.depth, value.depth + 1)
        if self.depth > MAX_DEPTH:
            raise ValueError(f"containers are nested more than {MAX_DEPTH} deep")


def stored_in(pid: Any) -> Storage:
    """The storage of a persistent id: ("storage", class, key, device, numbers[, None]). Raises ValueError."""
    match _tuple(pid, "a persistent id"):
        case ("storage", Name(kind), str(key), _, int(numbers), *rest) if (
            kind in STORAGES
            and 0 <= numbers < MAX_INTEGER
            and rest in ([], [None])
            and len(key) <= MAX_STORAGE_KEY
        ):
            return Storage(key, STORAGES[kind], numbers)
    raise ValueError("a persistent id that names no storage")


def called(name: str, arguments: Any) -> Any:
    """What a call makes. Raises ValueError for a call that PyTorch's pickles do not have."""
    values = _tuple(arguments, f"the arguments of {name}")
    if name in _REBUILD:
        return _rebuilt(name, values)
    if name in _PARAMETER and len(values) == _PARAMETER[name]:
        return _with_attributes(values[0], values[3] if len(values) > 3 else None)
    if name == _FROM_TYPE and len(values) == 4 and isinstance(values[0], Name):
        inner, kind = values[0].text, values[1]
        if inner == _FROM_TYPE:  # could call itself without end
            raise ValueError(f"{name} of itself")
        if not (isinstance(kind, Name) and kind.text in _TENSOR_CLASSES):
            return OddTensor("a tensor of a class of its own")
        return _with_attributes(called(inner, values[2]), values[3])
    if name in _ODD:
        return OddTensor(_ODD[name])
    if name == _ORDERED and not values:
        return Container({})
    if name in _BYTES and values:
        from_text = isinstance(values[0], str) and values[1:] in (("latin1",), ("latin-1",))
        if not from_text and (name == _ENCODE or values != (OPAQUE,)):
            raise ValueError(f"{name} of other arguments than a text and latin-1")
        return OPAQUE
    if name in _UNSEEN:
        return OPAQUE
    raise ValueError(f"a call of {name}")


def _rebuilt(name: str, values: tuple[Any, ...]) -> StoredTensor | OddTensor:
    fewest, type_at, flags_at = _REBUILD[name]
    if len(values) not in (fewest, fewest + (flags_at is not None)):
        raise ValueError(f"{name} of {len(values)} arguments")
    storage, offset = values[:2]
    size, stride = _sides(values[2]), _sides(values[3])
    if not isinstance(storage, Storage) or not _is_count(offset) or len(size) != len(stride):
        raise ValueError(f"{name} of no storage, or of sizes and strides that do not fit")
    dtype = storage.dtype
    if type_at is not None:
        dtype = values[type_at].text.removeprefix("torch.") if isinstance(values[type_at], Name) else ""
        if dtype not in DTYPES:
            raise ValueError(f"{name} of no type of numbers")
    if fewest > 4 and not _is_empty(values[5]):
        raise ValueError("a tensor with hooks")
    if len(values) > fewest and not _is_empty(values[-1]):
        return OddTensor("a view of conjugate or negated numbers")
    return StoredTensor(storage, dtype, offset, size, stride)


def _with_attributes(tensor: Any, state: Any) -> StoredTensor | OddTensor:
    if isinstance(tensor, OddTensor):
        return tensor
    if not isinstance(tensor, StoredTensor):
        raise ValueError("a parameter of no tensor")
    if _is_empty(state):
        return tensor
    if not isinstance(state, Container) or not isinstance(state.items, dict):
        raise ValueError("a tensor with attributes that have no names")
    if len(state.items) > MAX_ATTRIBUTES:
        raise ValueError(f"a tensor with {len(state.items)} attributes; at most {MAX_ATTRIBUTES} are read")
    return replace(tensor, attributes=tuple(map(str, state.items)))


def _tuple(value: Any, what: str) -> tuple[Any, ...]:
    if isinstance(value, Container) and isinstance(value.items, tuple):
        return value.items
    raise ValueError(f"{what} are no tuple")


def _sides(value: Any) -> tuple[int, ...]:
    sides = _tuple(value, "sizes")
    if len(sides) > MAX_DIMENSIONS or not all(map(_is_count, sides)):
        raise ValueError("sizes that are none")
    return sides


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < MAX_INTEGER


def _is_empty(value: Any) -> bool:
    return value is None or (
        isinstance(value, Container) and isinstance(value.items, dict) and not value.items
    )
