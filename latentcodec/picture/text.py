"""Text beside a picture: ordered pairs of key and value, as PNG's tEXt, zTXt and iTXt hold them.

PNG ─► Pillow's `text`, or the "text" of an image's info ─► read_text ─► Text ─► png_text ─► PNG
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from latentcodec.errors import InvalidArgument

if TYPE_CHECKING:
    from PIL import Image, PngImagePlugin

__all__ = ["MAX_KEY_BYTES", "MAX_TEXTS", "Text", "add_png_text", "check_text", "read_text"]

Text = tuple[tuple[str, str], ...]
"""Pairs of key and value, in order; a key may be there more than once."""

MAX_TEXTS = 4096  # pairs of one file (docs/format.md)
MAX_KEY_BYTES = 255  # of UTF-8
_PNG_KEY = 79  # characters of Latin-1 (PNG, third edition, 11.3.3.1)
_PNG_XMP = "XML:com.adobe.xmp"
_RAW_PROFILE = "Raw profile type "  # ImageMagick's name for metadata in hexadecimal
_COMPRESSED_FROM = 1024  # characters


def check_text(text: Sequence[object]) -> None:
    """Raise InvalidArgument for what are no pairs (Text) that a file can hold."""
    if len(text) > MAX_TEXTS:
        raise InvalidArgument(f"text: {len(text)} pairs, a file holds at most {MAX_TEXTS}")
    for pair in text:
        if not (isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(each, str) for each in pair)):
            raise InvalidArgument(f"text: {pair!r:.60} is no pair of key and value, both str")
        key, value = pair
        try:
            size = len(key.encode("utf-8"))
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InvalidArgument(f"text {key[:40]!r}: it is no Unicode text ({error})") from error
        if not 0 < size <= MAX_KEY_BYTES or "\0" in key:
            raise InvalidArgument(
                f"text: the key {key[:40]!r} has {size} bytes; it needs 1 to {MAX_KEY_BYTES}, without NUL"
            )


def read_text(image: Image.Image) -> Text:
    """The text of a loaded image: of a PNG file, or that of `info["text"]`, as `to_pillow` gives it."""
    found = image.info.get("text")
    if not isinstance(found, tuple):
        found = tuple(getattr(image, "text", {}).items())
    pairs = ((str(key), str(value)) for key, value in found)
    return tuple((k, v) for k, v in pairs if k != _PNG_XMP and not k.startswith(_RAW_PROFILE))


def add_png_text(info: PngImagePlugin.PngInfo, text: Text) -> None:
    """Add the pairs to what a PNG file is to hold: Latin-1 as tEXt or zTXt, all else as iTXt."""
    for key, value in text:
        try:
            info.add_text(key, value.encode("latin-1").decode("latin-1"), zip=len(value) > _COMPRESSED_FROM)
        except UnicodeEncodeError:
            info.add_itxt(key, value, zip=len(value) > _COMPRESSED_FROM)
