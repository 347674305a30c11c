"""What stands beside the pixels, as a file holds it: zstandard frames of bounded size, and some numbers.

Picture ─► pack_metadata ─► payloads by the names of File ─► unpack_metadata ─► what Picture takes
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import zstandard

from latentcodec.container.chunks import Fields, write_varint
from latentcodec.container.file import File
from latentcodec.errors import LimitExceeded, MalformedFile
from latentcodec.picture.colour.points import Cicp
from latentcodec.picture.notices import report
from latentcodec.picture.text import MAX_KEY_BYTES, MAX_TEXTS, Text

if TYPE_CHECKING:
    from latentcodec.picture.picture import Picture

_LEVEL = 19
_RECORD_BYTES = 4096  # of the record of what was left out
_NAMES = {"exif": "EXIF", "xmp": "XMP", "iptc": "IPTC"}
_DPI_UNIT = 1000
Damage = Callable[[], AbstractContextManager[None]]


def pack_metadata(picture: Picture, strip: bool, limit: int) -> dict[str, Any]:
    """The metadata as stored (bytes or None), by the names of File: each of at most `limit` bytes raw, and
    together no more stored; `strip`: what the colours mean alone.

    What does not fit is dropped with a report, but for the profile: LimitExceeded.
    """
    packed = {"profile": pack_sidecar(picture.profile), "cicp": bytes(picture.cicp) if picture.cicp else None}
    size = len(packed["profile"] or b"")
    if (largest := max(size, len(picture.profile or b""))) > limit:
        raise LimitExceeded(
            f"colour profile: {largest} bytes, readers take at most {limit}: convert the picture to sRGB and "
            "leave the profile out, or raise Limits.max_metadata_bytes here and where it is decoded"
        )
    if strip:
        return packed
    beside = {
        "exif": picture.exif,
        "xmp": picture.xmp,
        "text": text_bytes(picture.text),
        "iptc": picture.iptc,
    }
    left_out = list(picture.left_out)
    for name, data in beside.items():
        stored = pack_sidecar(data) if data is not None and len(data) <= limit else None
        if stored is not None and size + len(stored) > limit:
            stored = None
        if data and stored is None:
            what = f"{len(data)} bytes of {_NAMES.get(name, name)} are dropped"
            left_out.append(what)
            report("the picture", f"{what}: readers take at most {limit} bytes (Limits.max_metadata_bytes)")
        packed[name] = stored
        size += len(stored or b"")
    packed["dpi"] = None if picture.dpi is None else b"".join(map(_thousandths, picture.dpi))
    packed["left_out"] = _record(left_out)
    return packed


def unpack_metadata(file: File, limit: int, damage: Damage) -> dict[str, Any]:
    """What Picture takes besides planes, each with at most `limit` bytes, each read inside a `damage()`.

    Raises MalformedFile, LimitExceeded, which `damage` may catch: what is damaged is then left out.
    """
    found: dict[str, Any] = {}
    for name in ("profile", "exif", "xmp", "iptc"):
        with damage():
            found[name] = unpack_sidecar(getattr(file, name), name, limit)
    with damage():
        found["text"] = unpack_text(file.text, limit)
    with damage():
        found["cicp"] = unpack_cicp(file.cicp)
    with damage():
        found["dpi"] = unpack_dpi(file.dpi)
    with damage():
        found["left_out"] = unpack_record(file.left_out)
    return found


def unpack_cicp(data: bytes | None) -> Cicp | None:
    """The code points of a payload. Raises MalformedFile."""
    if data is None:
        return None
    if len(data) != 4 or data[2] or data[3] > 1:
        raise MalformedFile(f"code points: {data[:8].hex(' ')}: two bytes, 00, and 00 or 01 are allowed")
    return Cicp(*data)


def unpack_dpi(data: bytes | None) -> tuple[float, float] | None:
    """The dots per inch of a payload. Raises MalformedFile."""
    if data is None:
        return None
    fields = Fields(data, "resolution")
    across, down = fields.varint("across"), fields.varint("down")
    fields.finish()
    if not across or not down:
        raise MalformedFile(f"resolution: {across} and {down}, both are at least 1")
    return across / _DPI_UNIT, down / _DPI_UNIT


def unpack_record(data: bytes | None) -> tuple[str, ...]:
    """The lines of a payload: what the writer left out. Raises MalformedFile."""
    if data is None:
        return ()
    if len(data) > _RECORD_BYTES:
        raise MalformedFile(f"what was left out: {len(data)} bytes, at most {_RECORD_BYTES} are allowed")
    try:
        return tuple(data.decode("utf-8").split("\n"))
    except UnicodeDecodeError as error:
        raise MalformedFile(f"what was left out: it is not UTF-8 ({error})") from error


def _thousandths(dpi: float) -> bytes:
    return write_varint(min(max(1, round(dpi * _DPI_UNIT)), (1 << 32) - 1))


def _record(left_out: Sequence[str]) -> bytes | None:
    """Lines of UTF-8; those beyond the room are counted in a last one."""
    lines = [line.replace("\n", " ")[:200] for line in left_out]
    kept: list[str] = []
    for place, line in enumerate(lines):
        more = f"and {len(lines) - place} more"
        if len("\n".join((*kept, line, more)).encode("utf-8", "replace")) > _RECORD_BYTES:
            kept.append(more)
            break
        kept.append(line)
    return "\n".join(kept).encode("utf-8", "replace") or None


def pack_sidecar(data: bytes | None) -> bytes | None:
    """Compress metadata; nothing stays nothing."""
    return zstandard.ZstdCompressor(level=_LEVEL).compress(data) if data else None


def unpack_sidecar(data: bytes | None, name: str, limit: int) -> bytes | None:
    """Decompress metadata of at most `limit` bytes. Raises MalformedFile, LimitExceeded."""
    if data is None:
        return None
    try:
        size = zstandard.frame_content_size(data)
        if size > limit:
            raise LimitExceeded(
                f"{name}: {size} bytes decompressed, the limit is {limit} (Limits.max_metadata_bytes)"
            )
        if size < 0:
            raise MalformedFile(f"{name}: the zstandard frame does not give its size")
        return zstandard.ZstdDecompressor().decompress(data, max_output_size=limit, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise MalformedFile(f"{name}: not a whole zstandard frame ({error})") from error


def text_bytes(text: Text) -> bytes:
    """Pairs of key and value one after the other, each the length of its UTF-8 and that."""
    encoded = [each.encode("utf-8") for pair in text for each in pair]
    return b"".join(write_varint(len(each)) + each for each in encoded)


def unpack_text(data: bytes | None, limit: int) -> Text:
    """The pairs of a text chunk's payload, decompressed to at most `limit` bytes.

    Raises MalformedFile, LimitExceeded.
    """
    raw = unpack_sidecar(data, "text", limit)
    if raw is None:
        return ()
    fields, left = Fields(raw, "text"), len(raw)
    pairs: list[tuple[str, str]] = []
    while left:
        if len(pairs) == MAX_TEXTS:
            raise MalformedFile(f"text: over {MAX_TEXTS} pairs, which the format does not allow")
        key, value = (fields.take(fields.varint(f"length of {name}"), name) for name in ("key", "value"))
        if not 0 < len(key) <= MAX_KEY_BYTES or b"\0" in key:
            raise MalformedFile(
                f"text: a key of {len(key)} bytes; it has 1 to {MAX_KEY_BYTES}, none of them 0"
            )
        try:
            pairs.append((key.decode("utf-8"), value.decode("utf-8")))
        except UnicodeDecodeError as error:
            raise MalformedFile(f"text: pair {len(pairs)} is not UTF-8 ({error})") from error
        left = fields.left
    return tuple(pairs)
