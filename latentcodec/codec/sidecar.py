"""Colour profile, EXIF and XMP as they stand in a file: zstandard frames of bounded size."""

from __future__ import annotations

import zstandard

from latentcodec.errors import LimitExceeded, MalformedFile

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
