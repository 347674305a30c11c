"""The kernel's shared library: found, opened, checked; or None, and all works without it.

    hatch_build.py: *.c ─► libkernel.so, beside this file ─► load ─► ctypes.CDLL, or None
    LATENTCODEC_KERNEL ─► auto (or unset): that file, if it fits │ off: None │ a path: that file must fit

A library may be missing (no compiler was there), unreadable, built for another processor or left over from
another version: `auto` passes over all of these. What it computes, numpy computes too, equal to the bit.
LATENTCODEC_KERNEL is read whenever a coder is made. Like LD_PRELOAD, a path in it is code that runs: the
environment is trusted. It serves the tests, which run sanitised builds through it.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from latentcodec.errors import InvalidArgument

__all__ = ["ABI", "CHOICE", "FUNCTIONS", "LIBRARY", "Pointer", "int32s", "load", "pointer"]

ABI = 2  #: LC_ABI of kernel.h: of all functions' arguments together
CHOICE = "LATENTCODEC_KERNEL"  #: the environment's variable
LIBRARY = Path(__file__).with_name("libkernel.so")
FUNCTIONS = (  # that rans.py and groups.py call: a library without one is left over from another version
    "lc_abi",
    "lc_gather",
    "lc_groups_patterns",
    "lc_groups_places",
    "lc_groups_split",
    "lc_rans_encode",
    "lc_rans_index",
    "lc_rans_put",
    "lc_rans_take",
    "lc_scatter",
)

Pointer = ctypes.Array[ctypes.c_byte] | int
_MOST = (1 << 31) - 1
_Bytes = ctypes.c_byte * 0


def load() -> ctypes.CDLL | None:
    """The library that LATENTCODEC_KERNEL chooses, opened once; None where there is none that fits.

    Raises InvalidArgument where the variable says neither auto, off nor the path of a library that fits.
    """
    return _chosen(os.environ.get(CHOICE) or "auto")


@cache
def _chosen(choice: str) -> ctypes.CDLL | None:
    if choice == "off":
        return None
    if choice == "auto":
        try:
            return _opened(LIBRARY)
        except OSError:
            return None
    if os.sep not in choice:
        raise InvalidArgument(f"{CHOICE}={choice}: 'auto', 'off', or the path of a library is needed")
    try:
        return _opened(Path(choice).absolute())
    except OSError as error:
        raise InvalidArgument(f"{CHOICE}={choice}: no kernel that fits: {error}") from error


def _opened(path: Path) -> ctypes.CDLL:
    """The library of a file. Raises OSError where it is none, or one of another version."""
    library = ctypes.CDLL(str(path))
    lacking = [name for name in FUNCTIONS if not hasattr(library, name)]
    if lacking:
        raise OSError(f"{path}: it lacks {', '.join(lacking)}: build it again")
    version = int(library.lc_abi())
    if version != ABI:
        raise OSError(f"{path}: its ABI is {version}, not {ABI}: build it again")
    return library


def pointer(array: npt.NDArray[np.generic]) -> Pointer:
    """What ctypes passes as the address of an array in C's order; hold the array as long as this is used.

    Raises TypeError for an array in another order.
    """
    if array.flags.writeable:
        return _Bytes.from_buffer(array.data)  # four times faster than array.ctypes; checks the order itself
    if not array.flags.c_contiguous:
        raise TypeError("an array in C's order is needed")
    return array.ctypes.data


def int32s(array: npt.ArrayLike) -> npt.NDArray[np.int32]:
    """A 1-D array of integers as int32 in C's order, itself if it is one.

    Raises ValueError where it is no such array, a number does not fit, or an int32 would not count them.
    """
    integers = np.asarray(array)
    fits = integers.ndim == 1 and integers.size <= _MOST
    if fits and integers.size and integers.dtype != np.int32:
        fits = integers.dtype.kind in "iu"
        fits = fits and bool(integers.min() >= -_MOST and integers.max() <= _MOST)
    if not fits:
        raise ValueError("a 1-D array of integers within int32 is needed")
    return np.ascontiguousarray(integers, np.int32)
