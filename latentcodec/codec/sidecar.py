"""What stands beside the pixels, as a file holds it: zstandard frames of bounded size.

bytes, or pairs of text ─► pack_sidecar, pack_text ─► a frame ─► unpack_sidecar, unpack_text ─► the same
"""

from __future__ import annotations

import zstandard

from latentcodec.container.chunks import Fields, write_varint
from latentcodec.errors import LimitExceeded, MalformedFile
from latentcodec.picture.text import MAX_KEY_BYTES, MAX_TEXTS, Text

_LEVEL = 19


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
