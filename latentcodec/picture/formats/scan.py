"""What any picture file holds beside its pixels, by its own bytes.

seekable stream ─► by its first bytes: png.py, jpeg.py, boxes.py, riff.py ─► Beside, and reports
"""

from __future__ import annotations

from typing import BinaryIO

from latentcodec.picture.formats import png
from latentcodec.picture.formats.beside import Beside
from latentcodec.picture.formats.boxes import JP2_START, is_heif, read_heif, read_jp2
from latentcodec.picture.formats.jpeg import START, read_jpeg
from latentcodec.picture.formats.riff import is_webp, read_webp

__all__ = ["read_file"]


def read_file(file: BinaryIO, name: str) -> Beside:
    """What the file says beside its pixels, Pillow apart; what is not kept of it is reported, of `name`."""
    file.seek(0)
    head = file.read(16)
    if head.startswith(png.SIGNATURE):
        return png.read_png(file, name)
    if head.startswith(START):
        file.seek(0)
        return read_jpeg(file.read(), name)
    if head.startswith(JP2_START):
        return read_jp2(file, name)
    if is_heif(head):
        return read_heif(file, name)
    if is_webp(head):
        return read_webp(file, name)
    return Beside()
