"""Text beside a picture: in from PNG, out to PNG, and through a file of ours."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from latentcodec.errors import InvalidArgument
from latentcodec.picture.files import open_picture, save_picture
from latentcodec.picture.picture import Picture, from_pillow, to_pillow

PIXELS = np.full((4, 5, 3), 9, np.uint8)
TEXT = (
    ("parameters", "a cat, masterpiece\nNegative prompt: dog\nSteps: 20, Seed: 1"),
    ("workflow", '{"nodes": [' + "1, " * 600 + "2]}"),
    ("Title", "ねこ"),
    ("Copyright", "© é"),
    ("Comment", ""),
)


def saved(picture: Picture, format: str = "PNG") -> bytes:
    stream = io.BytesIO()
    save_picture(picture, stream, format)
    return stream.getvalue()


def test_through_png() -> None:
    data = saved(Picture(PIXELS, text=TEXT))
    assert open_picture(io.BytesIO(data)).text == TEXT
    with Image.open(io.BytesIO(data)) as image:
        assert image.text == dict(TEXT)


def test_through_pillow() -> None:
    image = to_pillow(Picture(PIXELS, text=TEXT))
    assert image.info["text"] == TEXT
    assert from_pillow(image).text == TEXT


def test_xmp_is_no_text() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", "<x/>")
    info.add_text("a", "b")
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, "PNG", pnginfo=info)
    picture = open_picture(stream)
    assert (picture.text, picture.xmp) == ((("a", "b"),), b"<x/>")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ((("", "v"),), "has 0 bytes"),
        ((("é" * 128, "v"),), "has 256 bytes; it needs 1 to 255"),
        ((("a\0b", "v"),), "without NUL"),
        ((("a", "\ud800"),), "no Unicode text"),
        ((("a", 5),), "no pair of key and value"),
        ((("a",),), "no pair of key and value"),
        ((("a", ""),) * 4097, "4097 pairs, a file holds at most 4096"),
    ],
)
def test_text_that_no_file_holds(text: tuple[tuple[str, str], ...], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        Picture(PIXELS, text=text)
