"""Samples of 9 to 16 bits that Pillow would cut to 8: read before it loads the image.

    PNG, TIFF of 16 bits ─► Pillow twice: the upper bytes, and in the other byte order the lower ─┐
    PPM, PGM ─► the numbers themselves ───────────────────────────────────────────────────────────┼─► planes
    AVIF of 10, 12 bits, JPEG 2000 ─► its header says so ─► imagecodecs, where it is installed ───┤
    HEIF, where pillow-heif has registered itself ────────► pillow-heif ──────────────────────────┘

What another decoder gives has to look as what Pillow shows. A ReducedDepthWarning names the extra that lacks.
"""

from __future__ import annotations

import io
import struct
import sys
from importlib import import_module
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, TiffImagePlugin

from latentcodec.errors import UnsupportedImage
from latentcodec.picture.formats.boxes import without_jp2_profile
from latentcodec.picture.notices import ReducedDepthWarning, report
from latentcodec.picture.samples import (
    MAX_DEPTH,
    Plane,
    Planes,
    Stored,
    opaque_unless,
    scaled,
)

__all__ = ["EXTRA", "describe_tiff", "read_deep"]

EXTRA = "pip install latentcodec[deep]"
_TWICE = ("RGB;16", "RGBA;16", "RGBX;16")  # raw modes, without the letter of their byte order
_OTHER_ORDER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
_BOTH_BYTES = {"LA;16B": "RGBA"}  # a raw mode that hands out every byte as a channel of its own
_BITS_TAG, _TURN, _SAMPLES, _PLANAR, _FORMAT = 0x0102, 0x0112, 0x0115, 0x011C, 0x0153  # of TIFF
_SIZ = b"\xff\x4f\xff\x51"  # JPEG 2000, SOC and SIZ (ISO/IEC 15444-1, A.5.1)
_ALIKE = 2  # of 255: what two decoders of one file differ by, on average, at most


def read_deep(image: Image.Image, stored: Stored, name: str) -> Planes | None:
    """The planes of an image not yet loaded, which is then; None where it is Pillow's to say, loaded or not.

    `stored` is what samples.stored_depth says of it. Raises whatever Pillow raises for a damaged image.
    """
    if getattr(image, "fp", None) is None:
        return None
    if image.format == "HEIF":
        return _by_another(image, int(image.info.get("bit_depth", 8)), name)
    if not getattr(image, "tile", None):
        return None
    if image.format == "PPM" and stored.peak:
        return _portable(image)
    if image.format == "TIFF" and _in_planes(image):
        return _by_another(image, MAX_DEPTH, name)
    if image.format in ("PNG", "TIFF"):
        return _twice(image, stored.rawmode)
    if image.format in _BITS:
        return _by_another(image, _BITS[image.format](_file(image)), name)
    return None


def _file(image: Any) -> bytes:
    """All bytes of an image's file, which stays where it is."""
    place = image.fp.tell()
    image.fp.seek(0)
    data: bytes = image.fp.read()
    image.fp.seek(place)
    return data


def _twice(image: Image.Image, rawmode: str) -> Planes | None:
    if rawmode in _BOTH_BYTES:
        other = _BOTH_BYTES[rawmode]
    elif rawmode[:-1] in _TWICE:
        other = rawmode[:-1] + _OTHER_ORDER[rawmode[-1]]
    else:
        return None
    tiles: list[Any] = image.tile  # type: ignore[attr-defined]  # files have it
    if any(not isinstance(each.args, str) and each.args[0] != rawmode for each in tiles):
        return None  # planes of single colours
    twin: Any = Image.open(io.BytesIO(_file(image)), formats=(image.format or "",))
    twin.seek(image.tell())
    twin.tile = [
        each._replace(args=other if isinstance(each.args, str) else (other, *each.args[1:]))
        for each in twin.tile
    ]
    if image.format == "TIFF":  # which Pillow turns as it loads it
        twin.getexif()[_TURN] = image.getexif().get(_TURN, 1)
    image.load()
    twin.load()
    if rawmode in _BOTH_BYTES:
        pairs = np.ascontiguousarray(np.asarray(twin)).view(">u2").astype(np.uint16)
        return pairs[..., 0], pairs[..., 1], MAX_DEPTH
    samples = np.asarray(image).astype(np.uint16) << 8 | np.asarray(twin)
    key = image.info.get("transparency")
    if samples.shape[2] == 4:
        return samples[..., :3], samples[..., 3], MAX_DEPTH
    transparent = isinstance(key, tuple) and len(key) == 3
    alpha = opaque_unless((samples == key).all(axis=2), MAX_DEPTH) if transparent else None
    return samples, alpha, MAX_DEPTH


def _portable(image: Any) -> Planes | None:
    """Of PGM and PPM; None where the numbers are not to be had."""
    decoder, _, offset, arguments = image.tile[0]
    peak = 65535 if isinstance(arguments, str) else arguments[-1]
    shape = image.height, image.width, 3 if image.mode == "RGB" else 1
    count = shape[0] * shape[1] * shape[2]
    place = image.fp.tell()
    image.fp.seek(offset)
    samples: npt.NDArray[Any]
    if decoder == "ppm_plain":
        lines = (line.partition(b"#")[0] for line in image.fp.read().splitlines())
        try:
            samples = np.array(b" ".join(lines).split()[:count], np.uint32)
        except (ValueError, OverflowError):
            samples = np.empty(0, np.uint32)
    else:
        data = image.fp.read(2 * count)
        samples = np.frombuffer(data[: len(data) // 2 * 2], ">u2")
    image.fp.seek(place)
    if samples.size != count:
        return None  # Pillow says what is wrong
    bits = peak.bit_length()
    if peak != (1 << bits) - 1:
        bits = MAX_DEPTH
    planes = scaled(samples, peak, bits).reshape(shape)
    return planes[..., 0] if shape[2] == 1 else planes, None, bits


def _in_planes(image: Any) -> bool:
    """Whether a TIFF has 16 bits of each colour in planes of their own, which Pillow reads by the byte."""
    tags = image.tag_v2
    planar = tags.get(_PLANAR, 1) == 2 and len(image.getbands()) > 1
    return bool(planar and max(tags.get(_BITS_TAG, (8,))) == MAX_DEPTH)


def _by_another(image: Image.Image, bits: int, name: str) -> Planes | None:
    if not 8 < bits <= MAX_DEPTH:
        return None
    data, planes = _file(image), None
    mangled = image.format == "TIFF" and image.tile[0].codec_name == "raw"  # type: ignore[attr-defined]
    image.load()
    if image.mode.startswith("I;16"):  # gray, which Pillow hands out, shifted up to 16 bits
        return (np.asarray(image) >> (MAX_DEPTH - bits)).astype(np.uint16), None, bits
    try:
        planes = _separated(_decoded(image.format or "", data, bits))
    except ImportError:
        if mangled:
            raise UnsupportedImage(
                f"{name} has its colours in planes of 16 bits, which Pillow does not read: {EXTRA} does"
            ) from None
        _reduced(name, f"it has {bits} bits a channel, and Pillow hands out 8: {EXTRA} keeps all of them")
        return None
    except Exception as error:  # noqa: BLE001 - each of its codecs has a class of its own
        _reduced(name, f"it has {bits} bits a channel, which cannot be read ({error}): 8 are kept")
        return None
    if mangled and planes is not None and image.tag_v2.get(_TURN, 1) == 1:  # type: ignore[attr-defined]
        return (*planes, bits)
    if mangled:
        raise UnsupportedImage(f"{name} has its colours in planes of 16 bits of a kind that is not read")
    if planes is None or not _alike(planes, image, bits):
        _reduced(name, f"it has {bits} bits a channel, which two decoders read differently: 8 are kept")
        return None
    return (*planes, bits)


def _decoded(kind: str, data: bytes, bits: int) -> npt.NDArray[Any]:
    """All of a file's samples. Raises ImportError without the package, and whatever that raises."""
    if kind == "HEIF":  # by the plugin itself, which shifts samples up to 16 bits
        heif = import_module("pillow_heif").open_heif(io.BytesIO(data), convert_hdr_to_8bit=False)
        return np.asarray(heif) >> (MAX_DEPTH - bits)
    plain = without_jp2_profile(data) if kind == "JPEG2000" else data  # imagecodecs would apply it
    return np.asarray(getattr(import_module("imagecodecs"), _DECODERS[kind])(plain))


def _separated(array: npt.NDArray[Any]) -> tuple[Plane, Plane | None] | None:
    """Colours and alpha of an array (H, W), (H, W, n), or of a TIFF also (n, H, W)."""
    if array.dtype != np.uint16 or not (array.ndim == 2 or array.ndim == 3):
        return None
    if array.ndim == 2:
        return array, None
    if len(array) in (3, 4) and array.shape[2] not in (3, 4):  # planes of a TIFF
        array = array.transpose(1, 2, 0)
    if array.shape[2] > 4:
        return None
    alpha = array[..., -1] if array.shape[2] in (2, 4) else None
    return array[..., :3] if array.shape[2] >= 3 else array[..., 0], alpha


def _alike(planes: tuple[Plane, Plane | None], image: Image.Image, bits: int) -> bool:
    """Whether planes look as the loaded image does, in 8 bits."""
    shown = np.asarray(image.convert("RGBA")).astype(np.int16)
    colours, alpha = (None if plane is None else plane >> (bits - 8) for plane in planes)
    if colours is None or colours.shape[:2] != shown.shape[:2]:
        return False
    colours = colours if colours.ndim == 3 else colours[..., None]
    differences = [np.abs(colours.astype(np.int16) - shown[..., :3]).mean()]
    if alpha is not None:
        differences.append(np.abs(alpha.astype(np.int16) - shown[..., 3]).mean())
    return bool(max(differences) <= _ALIKE)


def _avif_bits(data: bytes) -> int:
    """Bits a sample by the first av1C box (AV1-ISOBMFF, 2.3.3); 8 where there is none."""
    place = data.find(b"av1C")
    if place < 0 or place + 7 > len(data):
        return 8
    high, twelve = data[place + 6] & 0x40, data[place + 6] & 0x20
    return 8 if not high else 12 if twelve else 10


def _jpeg2000_bits(data: bytes) -> int:
    """Bits a sample by the SIZ marker, where all components are alike and unsigned; else 8."""
    place = data.find(_SIZ)
    if place < 0 or place + 42 > len(data):
        return 8
    (components,) = struct.unpack_from(">H", data, place + 40)
    fields = data[place + 42 : place + 42 + 3 * components]
    same = len(fields) == 3 * components and len(set(fields[::3])) == 1 and set(fields[1::3]) == {1}
    return fields[0] + 1 if same and fields[0] < 0x80 else 8


_BITS = {"AVIF": _avif_bits, "JPEG2000": _jpeg2000_bits}
_DECODERS = {"AVIF": "avif_decode", "JPEG2000": "jpeg2k_decode", "TIFF": "tiff_decode"}


def describe_tiff(file: BinaryIO) -> str:
    """What samples a TIFF has that Pillow does not read; its tags have been checked (guard.py)."""
    file.seek(0)
    head = file.read(8)
    head += file.read(8) if head[2:3] == b"\x2b" else b""  # BigTIFF
    if not head.startswith(tuple(TiffImagePlugin.PREFIXES)):
        return ""
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(head)
        file.seek(tags.next)
        tags.load(file)
        samples, bits = tags.get(_SAMPLES, 1), max(tags.get(_BITS_TAG, (1,)))
        kind = tags.get(_FORMAT, (1,))[0]
    except Exception:  # noqa: BLE001 - Pillow raises almost anything on damaged tags
        return ""
    kinds = {1: "integers", 2: "signed integers", 3: "floats"}
    return f"{samples} samples a pixel, {kinds.get(kind, 'numbers')} of {bits} bits"


def _reduced(name: str, what: str) -> None:
    report(name, what, ReducedDepthWarning)
