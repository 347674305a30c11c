"""PyTorch's pickles, read as descriptions: nothing in them is imported, called or allocated.

bytes ─► opcodes ─► a stack of values ─┬─ numbers, texts, dicts, lists and tuples as they stand
                                       └─ names and calls as calls.py describes them

A pickle is a program for a stack machine. This one has the opcodes of protocol 2 that PyTorch writes and the
names that state dicts and trainers' checkpoints need, and refuses all others. An opcode costs some
microseconds and some hundred bytes at most, and their number is bounded.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from latentcodec.errors import InvalidWeights
from latentcodec.weights.pytorch.calls import (
    MAX_INTEGER,
    NAMES,
    OPAQUE,
    TRAINERS,
    Container,
    Name,
    Storage,
    called,
    stored_in,
)

MAX_OPCODES = 1 << 19  # of a file; a tensor has some 30, SDXL with its optimiser's state some 230,000
MAX_TEXT = 1 << 20  # bytes of a text; trainers note configurations of thousands
MAX_KEY = 4096  # characters of a key, which is hashed and compared at every mention
MAX_GLOBAL = 256  # bytes of a module's name, and of a name in it


class Scan:
    """Reads the pickles in a file's `data` one after the other.

    place: where the next one begins. storages: those that pickles have named, by key.
    """

    def __init__(self, path: Path, data: bytes) -> None:
        self.path = path
        self.place = 0
        self.storages: dict[str, Storage] = {}
        self._data = data
        self._opcodes = 0
        self._stack: list[Any] = []
        self._marked: list[list[Any]] = []  # the stacks below each mark
        self._memo: dict[int, Any] = {}

    def read(self) -> Any:
        """The value of the next pickle.

        Raises InvalidWeights where it is damaged, needs what PyTorch's pickles do not, or is too large.
        """
        self._stack, self._marked, self._memo = [], [], {}
        try:
            while (opcode := self._take(1)) != pickle.STOP:
                self._opcodes += 1
                if self._opcodes > MAX_OPCODES:
                    raise ValueError(f"its pickles have more than {MAX_OPCODES} opcodes")
                if opcode in _CONSTANTS:
                    self._stack.append(_CONSTANTS[opcode])
                elif opcode in _NUMBERS:
                    self._stack.append(self._number(_NUMBERS[opcode]))
                elif opcode in _STEPS:
                    _STEPS[opcode](self)
                else:
                    self._refuse_opcode(opcode)
            return self._pop()
        except ValueError as error:
            raise InvalidWeights(
                f"{self.path}: a damaged PyTorch file, or one with objects other than tensors ({error})"
            ) from error

    def _refuse_opcode(self, opcode: bytes) -> NoReturn:
        raise InvalidWeights(
            f"{self.path}: a pickle in another form than PyTorch's, or a damaged one (opcode {opcode!r}); "
            "pickles could run code and are never loaded; use the model's .safetensors file"
        )

    # Bytes

    def _take(self, size: int) -> bytes:
        part = self._data[self.place : self.place + size]
        if len(part) < size:
            raise ValueError("its pickle has no end")
        self.place += size
        return part

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _push_text(self, length: str) -> None:
        size = self._number(length)
        if size > MAX_TEXT:
            raise ValueError(f"a text of {size} bytes; at most {MAX_TEXT} are read")
        self._stack.append(self._take(size).decode("utf-8"))

    def _push_integer(self) -> None:
        """An integer of up to 255 bytes."""
        self._stack.append(int.from_bytes(self._take(self._number("<B")), "little", signed=True))

    def _push_name(self) -> None:
        """Two lines: a module and a name in it."""
        lines = []
        for _ in range(2):
            end = self._data.find(b"\n", self.place, self.place + MAX_GLOBAL)
            if end < 0:
                raise ValueError(f"a name of more than {MAX_GLOBAL} bytes")
            lines.append(self._take(end + 1 - self.place)[:-1].decode("ascii", "backslashreplace"))
        name = ".".join(lines)
        if name not in NAMES:
            shown = ascii(name[:100])[1:-1]
            raise InvalidWeights(
                f"{self.path}: holds Python objects ({shown}), which could run code and are never loaded; "
                "use the model's .safetensors file"
            )
        self._stack.append(Name(name))

    # The stack

    def _pop(self) -> Any:
        if not self._stack:
            raise ValueError("its pickle takes what is not there")
        return self._stack.pop()

    def _top(self) -> Any:
        if not self._stack:
            raise ValueError("its pickle takes what is not there")
        return self._stack[-1]

    def _pop_marked(self) -> list[Any]:
        if not self._marked:
            raise ValueError("its pickle takes what is not there")
        values, self._stack = self._stack, self._marked.pop()
        return values

    def _mark(self) -> None:
        self._marked.append(self._stack)
        self._stack = []

    def _put(self, form: str) -> None:
        self._memo[self._number(form)] = self._top()

    def _get(self, form: str) -> None:
        index = self._number(form)
        if index not in self._memo:
            raise ValueError("its pickle takes what is not there")
        self._stack.append(self._memo[index])

    # Containers

    def _push_tuple(self, size: int | None) -> None:
        """Of the values that lie on the stack: the last `size`, or all above the mark."""
        values = self._pop_marked() if size is None else [self._pop() for _ in range(size)][::-1]
        made = Container(tuple(values))
        made.hold(values)
        self._stack.append(made)

    def _append(self, values: list[Any]) -> None:
        target = self._top()
        if not isinstance(target, Container) or not isinstance(target.items, list):
            raise ValueError("it appends to what is no list")
        target.hold(values)
        target.items += values

    def _set(self, values: list[Any]) -> None:
        """Keys and values in turn. Keys are texts, integers or trainers' classes: none takes long to hash."""
        target, keys, held = self._top(), values[::2], values[1::2]
        if len(keys) != len(held):
            raise ValueError("a key without a value")
        for key in keys:
            if not (
                (type(key) is str and len(key) <= MAX_KEY)
                or (type(key) is int and abs(key) < MAX_INTEGER)
                or (type(key) is Name and key.text in TRAINERS)
            ):
                raise ValueError(f"a key that is no integer and no text of up to {MAX_KEY}, but {_kind(key)}")
        if target is OPAQUE:  # a trainer's own kind of dict
            return
        if not isinstance(target, Container) or not isinstance(target.items, dict):
            raise ValueError("it sets a value in what is no dict")
        target.hold(held)
        target.items.update(zip(keys, held, strict=True))

    def _set_one(self) -> None:
        value, key = self._pop(), self._pop()
        self._set([key, value])

    # Calls

    def _call(self) -> None:
        arguments, function = self._pop(), self._pop()
        if not isinstance(function, Name):
            raise ValueError("it calls what is no function")
        self._stack.append(called(function.text, arguments))

    def _make(self) -> None:
        """An object of a class; only trainers' classes are made so."""
        _, kind = self._pop(), self._pop()
        if not isinstance(kind, Name) or kind.text not in TRAINERS:
            raise ValueError("it makes an object of another class than tensors'")
        self._stack.append(OPAQUE)

    def _build(self) -> None:
        """Attributes of an OrderedDict (a state dict's versions) or a trainer's object; they are not kept."""
        self._pop()
        target = self._top()
        if target is not OPAQUE and not (isinstance(target, Container) and isinstance(target.items, dict)):
            raise ValueError(f"it changes {_kind(target)}")

    def _push_storage(self) -> None:
        storage = stored_in(self._pop())
        if self.storages.setdefault(storage.key, storage) != storage:
            raise ValueError("two descriptions of one storage")
        self._stack.append(storage)


def _kind(value: Any) -> str:
    return f"a {type(value.items if isinstance(value, Container) else value).__name__}"


_CONSTANTS = {pickle.NONE: None, pickle.NEWTRUE: True, pickle.NEWFALSE: False}
_NUMBERS = {pickle.BININT: "<i", pickle.BININT1: "<B", pickle.BININT2: "<H", pickle.BINFLOAT: ">d"}
_STEPS: dict[bytes, Callable[[Scan], None]] = {
    pickle.PROTO: lambda scan: scan._number("<B"),
    pickle.BINUNICODE: lambda scan: scan._push_text("<I"),
    pickle.SHORT_BINSTRING: lambda scan: scan._push_text("<B"),  # Python 2's texts
    pickle.LONG1: Scan._push_integer,
    pickle.GLOBAL: Scan._push_name,
    pickle.BINPUT: lambda scan: scan._put("<B"),
    pickle.LONG_BINPUT: lambda scan: scan._put("<I"),
    pickle.BINGET: lambda scan: scan._get("<B"),
    pickle.LONG_BINGET: lambda scan: scan._get("<I"),
    pickle.MARK: Scan._mark,
    pickle.EMPTY_DICT: lambda scan: scan._stack.append(Container({})),
    pickle.EMPTY_LIST: lambda scan: scan._stack.append(Container([])),
    pickle.EMPTY_TUPLE: lambda scan: scan._stack.append(Container(())),
    pickle.TUPLE: lambda scan: scan._push_tuple(None),
    pickle.TUPLE1: lambda scan: scan._push_tuple(1),
    pickle.TUPLE2: lambda scan: scan._push_tuple(2),
    pickle.TUPLE3: lambda scan: scan._push_tuple(3),
    pickle.APPEND: lambda scan: scan._append([scan._pop()]),
    pickle.APPENDS: lambda scan: scan._append(scan._pop_marked()),
    pickle.SETITEM: Scan._set_one,
    pickle.SETITEMS: lambda scan: scan._set(scan._pop_marked()),
    pickle.REDUCE: Scan._call,
    pickle.NEWOBJ: Scan._make,
    pickle.BUILD: Scan._build,
    pickle.BINPERSID: Scan._push_storage,
}
