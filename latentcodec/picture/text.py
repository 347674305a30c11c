"""Text beside a picture: ordered pairs of key and value, as PNG's tEXt, zTXt and iTXt hold them.

formats/ ─► Text ─► Picture ─► codec/sidecar.py ─► the chunk of a file ─► Picture ─► add_png_text ─► PNG
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from latentcodec.errors import InvalidArgument
from latentcodec.picture.notices import report

if TYPE_CHECKING:
    from PIL import PngImagePlugin

__all__ = ["MAX_KEY_BYTES", "MAX_TEXTS", "Text", "add_png_text", "bounded", "check_text", "decoded"]

Text = tuple[tuple[str, str], ...]
"""Pairs of key and value, in order; a key may be there more than once."""

MAX_TEXTS = 4096  # pairs of one file (docs/format.md)
MAX_KEY_BYTES = 255  # of UTF-8
_PNG_KEY = 79  # characters of Latin-1 (PNG, third edition, 11.3.3.1)
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


def bounded(pairs: Sequence[tuple[str, str]], name: str) -> Text:
    """As many pairs as a file holds; of more, the rest is reported for the picture `name`."""
    if len(pairs) > MAX_TEXTS:
        report(name, f"it has {len(pairs)} pieces of text: only the first {MAX_TEXTS} are kept")
    return tuple(pairs[:MAX_TEXTS])


def decoded(data: bytes) -> str:
    """Bytes of unknown encoding as text: UTF-8 where they are that, else Latin-1; without NUL at the end."""
    data = data.rstrip(b"\0")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def add_png_text(info: PngImagePlugin.PngInfo, text: Text, name: str) -> None:
    """Add the pairs to what a PNG file is to hold: Latin-1 as tEXt or zTXt, all else as iTXt.

    A key that is no keyword of PNG is reported, for the picture `name`, and left out with its value.
    """
    for key, value in text:
        if key.encode("latin-1", "ignore").decode("latin-1") != key or len(key) > _PNG_KEY:
            report(
                name, f"its text {key[:40]!r} is left out: PNG's keywords have at most 79 letters of Latin-1"
            )
            continue
        try:
            info.add_text(key, value.encode("latin-1").decode("latin-1"), zip=len(value) > _COMPRESSED_FROM)
        except UnicodeEncodeError:
            info.add_itxt(key, value, zip=len(value) > _COMPRESSED_FROM)
