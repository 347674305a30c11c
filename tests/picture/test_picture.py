from __future__ import annotations

import io
import warnings
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from latentcodec.errors import InvalidArgument, LimitExceeded, UnreadableImage, UnsupportedImage
from latentcodec.picture.colour.icc import make_profile
from latentcodec.picture.picture import (
    DroppedDataWarning,
    Picture,
    from_array,
    from_pillow,
    pillow_errors,
    to_pillow,
)

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GRAY = make_profile("gray", 1.8, None)
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>'


def photo(height: int = 10, width: int = 16) -> Image.Image:
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112], tags[0x010F] = orientation, "maker"
    return tags


def saved(image: Image.Image, format: str, **options: object) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return Image.open(stream)


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (5, 7, 4), (1, 1), (1, 9, 4)])
def test_arrays_come_back_as_images(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(2).integers(0, 255, shape, dtype=np.uint8)
    picture = from_array(array)
    assert (picture.height, picture.width) == shape[:2]
    assert picture.channels == (shape[2] if len(shape) == 3 else 1)
    assert np.array_equal(np.asarray(to_pillow(picture)), array)


def test_arrays_that_are_views_or_read_only() -> None:
    array = np.random.default_rng(2).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    array.flags.writeable = False
    for view in (array, array[::-1, ::2], array.swapaxes(0, 1)):
        pixels = from_array(view).pixels
        assert np.array_equal(pixels, view)
        assert pixels.flags.c_contiguous
        assert pixels.flags.writeable


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((0, 5, 3), np.uint8), "shape"),
        (np.zeros((5, 0), np.uint8), "shape"),
        (np.zeros((5,), np.uint8), "shape"),
        (np.zeros((5, 5, 2), np.uint8), "shape"),
        (np.zeros((5, 5, 5), np.uint8), "shape"),
        (np.zeros((1, 5, 5, 3), np.uint8), "shape"),
        (np.zeros((5, 5), np.uint32), "uint32"),
        (np.zeros((5, 5, 3), np.float32), "float32"),
        (np.zeros((5, 5), bool), "bool"),
        ([[1, 2], [3, 4]], "list"),
        (None, "NoneType"),
    ],
)
def test_arrays_that_are_no_picture(array: object, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        from_array(array)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(0, 0), (0, 4), (4, 0)])
def test_empty_images(size: tuple[int, int]) -> None:
    with pytest.raises(InvalidArgument, match="at least one pixel"):
        from_pillow(Image.new("RGB", size))


def test_what_is_no_image() -> None:
    with pytest.raises(InvalidArgument, match="this is a str"):
        from_pillow("photo.png")  # type: ignore[arg-type]


def test_a_picture_checks_its_planes() -> None:
    pixels = np.zeros((4, 5, 3), np.uint8)
    for wrong in (pixels[..., 0], pixels[:0], pixels.astype(np.int16), np.zeros((4, 5, 4), np.uint8)):
        with pytest.raises(InvalidArgument, match=r"\(H, W, 3\)"):
            Picture(wrong)
    for wrong in (pixels, np.zeros((5, 4), np.uint8), np.zeros((4, 5))):
        with pytest.raises(InvalidArgument, match="alpha"):
            Picture(pixels, wrong)
    with pytest.raises(FrozenInstanceError):
        Picture(pixels).gray = True  # type: ignore[misc]


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("size", [(1, 1), (3, 1), (7, 5)])
def test_every_mode_that_comes_out_goes_in_again(mode: str, size: tuple[int, int]) -> None:
    channels = len(mode)
    array = np.random.default_rng(3).integers(0, 255, (size[1], size[0], channels), dtype=np.uint8)
    image = Image.fromarray(array.squeeze(2) if channels == 1 else array)
    picture = from_pillow(image)
    again = to_pillow(picture)
    assert (again.mode, again.size) == (mode, size)
    assert again.tobytes() == image.tobytes()
    assert picture.pixels.flags.writeable


def test_alpha_that_is_opaque_everywhere_is_dropped() -> None:
    image = photo().convert("RGBA")
    assert from_pillow(image).alpha is None
    image.putpixel((3, 3), (1, 2, 3, 254))
    assert from_pillow(image).channels == 4
    opaque = np.full((2, 2, 4), 255, np.uint8)
    assert from_array(opaque).channels == 3


def test_the_callers_image_stays_as_it_was() -> None:
    image = photo().quantize(16)
    image.info.update(transparency=3, exif=exif(6).tobytes(), xmp=XMP % 6)
    before, info = image.tobytes(), dict(image.info)
    from_pillow(image)
    assert image.tobytes() == before
    assert image.info == info
    assert image.mode == "P"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_the_orientation_is_applied_and_reset(format: str, orientation: int) -> None:
    lossless = {"WEBP": {"lossless": True}}.get(format, {})
    image = saved(photo(), format, exif=exif(orientation).tobytes(), **lossless)
    expected = ImageOps.exif_transpose(saved(photo(), format, exif=exif(orientation).tobytes(), **lossless))
    picture = from_pillow(image)
    assert np.array_equal(picture.pixels, np.asarray(expected.convert("RGB")))
    assert picture.pixels.flags.c_contiguous
    tags = to_pillow(picture).getexif()
    assert tags.get(0x0112, 1) == 1
    assert tags[0x010F] == "maker"


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "TIFF"])
def test_the_orientation_in_xmp_alone(format: str) -> None:
    options: dict[str, object] = {"xmp": XMP % 8}
    if format == "TIFF":
        options = {"tiffinfo": {700: XMP % 8}}
    expected = saved(photo(), format, **options).convert("RGB").transpose(Image.Transpose.ROTATE_90)
    if format == "TIFF":  # turned by Pillow as it is loaded
        expected = saved(photo(), format, **options).convert("RGB")
    picture = from_pillow(saved(photo(), format, **options))
    assert (picture.height, picture.width) == (16, 10)
    assert np.array_equal(picture.pixels, np.asarray(expected))
    assert b'Orientation="8"' not in (picture.xmp or b"")


def test_gray_and_alpha_are_turned_together() -> None:
    image = photo().convert("LA")
    image.putalpha(photo(10, 16).getchannel("G"))
    image.info["exif"] = exif(6).tobytes()
    picture = from_pillow(image)
    turned = image.transpose(Image.Transpose.ROTATE_270)
    assert to_pillow(picture).tobytes() == turned.tobytes()
    assert picture.alpha is not None
    assert picture.alpha.flags.c_contiguous


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_profile_and_metadata_are_kept(format: str) -> None:
    options: dict[str, object] = {"exif": exif(1).tobytes(), "icc_profile": SRGB, "xmp": XMP % 1}
    if format == "PNG":
        from PIL.PngImagePlugin import PngInfo

        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", XMP % 1)  # type: ignore[attr-defined]
    elif format == "TIFF":
        tags = exif(1)
        tags[700] = XMP % 1
        options["exif"] = tags
    picture = from_pillow(saved(photo(), format, **options))
    assert picture.profile == SRGB
    assert picture.xmp == XMP % 1
    assert picture.exif is not None
    assert picture.exif[:4] in (b"II*\0", b"MM\0*")
    info = to_pillow(picture).info
    assert info["icc_profile"] == SRGB
    assert info["xmp"] == XMP % 1
    assert info["exif"] == b"Exif\0\0" + picture.exif


def test_metadata_that_tells_of_no_turn_is_kept_byte_for_byte() -> None:
    odd = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x01\0\xab\xcd" + b"and the rest"
    image = photo()
    image.info.update(exif=odd, xmp=b"not XML at all")
    picture = from_pillow(image)
    assert picture.exif == odd
    assert picture.xmp == b"not XML at all"
    image.info.update(exif=odd.replace(b"\x01\0\xab", b"\x09\0\xab"), xmp=XMP % 6)  # EXIF: 9, of no meaning
    again = from_pillow(image)
    assert (again.exif, again.xmp) == (odd, XMP % 1)  # whatever was said, the picture stands upright
    assert np.array_equal(again.pixels, picture.pixels)


def test_a_plain_picture_has_an_empty_info() -> None:
    picture = from_pillow(photo())
    assert (picture.profile, picture.exif, picture.xmp) == (None, None, None)
    assert to_pillow(picture).info == {}


@pytest.mark.parametrize(("mode", "fitting", "other"), [("RGB", SRGB, GRAY), ("L", GRAY, SRGB)])
def test_a_profile_for_another_kind_of_colour_is_dropped(mode: str, fitting: bytes, other: bytes) -> None:
    image = photo().convert(mode)
    image.info["icc_profile"] = fitting
    assert from_pillow(image).profile == fitting
    image.info["icc_profile"] = other
    with pytest.warns(DroppedDataWarning, match=r"scan\.png: its ICC profile is for"):
        assert from_pillow(image, name="scan.png").profile is None


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        (b"what is this", "12 bytes without a profile's signature"),
        (SRGB[:-100], r"it claims \d+ bytes and has \d+"),
        (SRGB[:128] + b"\xff" * 4 + SRGB[132:], "it claims 4294967295 tags"),
        (SRGB[:136] + b"\xff" * 8 + SRGB[144:], r"a tag ends at byte \d+"),
        (SRGB.replace(b"rTRC", b"oTRC"), "it is dropped, and the colours count as sRGB"),
    ],
)
def test_a_broken_profile_is_dropped(profile: bytes, message: str) -> None:
    image = photo()
    image.info["icc_profile"] = profile
    with pytest.warns(DroppedDataWarning, match=message):
        assert from_pillow(image).profile is None


def test_lab_uses_its_profile_up() -> None:
    image = photo().convert("LAB")
    image.info["icc_profile"] = SRGB[:16] + b"Lab " + SRGB[20:]
    assert from_pillow(image).profile is None


@pytest.mark.parametrize(("format", "frames"), [("GIF", 3), ("PNG", 2), ("WEBP", 4), ("AVIF", 2)])
def test_animations_are_refused_and_their_first_frame_taken_on_request(format: str, frames: int) -> None:
    images = [photo().point(lambda value, i=i: value // (i + 1)) for i in range(frames)]
    animation = saved(images[0], format, save_all=True, append_images=images[1:])
    with pytest.raises(UnsupportedImage, match=rf"moving\.{format} holds {frames} frames.*first_frame=True"):
        from_pillow(animation, name=f"moving.{format}")
    with pytest.warns(DroppedDataWarning, match=f"moving: only the first of its {frames} frames is kept"):
        first = from_pillow(animation, name="moving", first_frame=True)
    assert abs(first.pixels.mean() - np.asarray(photo()).mean()) < 12  # the second one is half as bright
    animation.seek(1)
    second = from_pillow(animation)  # one that was sought is a picture
    assert second.pixels.mean() < 0.6 * first.pixels.mean()


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_a_single_frame_is_no_animation(format: str) -> None:
    assert from_pillow(saved(photo(), format, save_all=True)).width == 16


def test_the_main_picture_of_an_mpo_is_taken_with_a_warning() -> None:
    stereo = saved(photo(), "MPO", save_all=True, append_images=[photo().rotate(180)])
    with pytest.warns(DroppedDataWarning, match="only its main picture"):
        picture = from_pillow(stereo)
    assert np.array_equal(picture.pixels, np.asarray(saved(photo(), "MPO").convert("RGB")))


def test_the_limit_is_checked_before_anything_is_decoded() -> None:
    image = saved(photo(), "PNG")
    with pytest.raises(LimitExceeded, match=r"big\.png is 16x10 = 160 pixels, the limit is 159"):
        from_pillow(image, name="big.png", max_pixels=159)
    assert image.tile  # still not loaded
    assert from_pillow(image, max_pixels=160).width == 16


def test_pillows_own_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pillow_errors("it"):
        photo_of_160 = saved(photo(), "PNG")  # more than the limit that Pillow warns at: ours is explicit
    assert from_pillow(photo_of_160).width == 16
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(LimitExceeded, match="MAX_IMAGE_PIXELS"), pillow_errors("it"):
        saved(photo(), "PNG")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "JPEG2000"])
def test_truncated_pictures_are_unreadable(format: str) -> None:
    stream = io.BytesIO()
    photo(64, 64).save(stream, format)
    for share in (0.3, 0.6, 0.9):
        part = io.BytesIO(stream.getvalue()[: int(stream.tell() * share)])
        with pytest.raises(UnreadableImage, match="cut off"), pillow_errors("cut off"):
            from_pillow(Image.open(part), name="cut off")


def test_no_memory_is_no_damage() -> None:
    with pytest.raises(MemoryError), pillow_errors("it"):
        raise MemoryError


def test_an_image_whose_file_is_gone(tmp_path: Path) -> None:
    photo().save(tmp_path / "photo.png")
    with Image.open(tmp_path / "photo.png") as image:
        pass
    with pytest.raises(InvalidArgument, match=r"photo\.png is closed: encode it before that"):
        from_pillow(image)


def test_no_damage_to_a_file_escapes_the_tree() -> None:
    random = np.random.default_rng(11)
    for format in ("JPEG", "PNG", "WEBP", "TIFF", "GIF"):
        stream = io.BytesIO()
        photo().save(stream, format, **({} if format == "GIF" else {"exif": exif(6).tobytes()}))
        whole = np.frombuffer(stream.getvalue(), np.uint8)
        for _ in range(60):
            damaged = whole.copy()
            damaged[random.integers(0, len(whole), 3)] = random.integers(0, 256, 3)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    with pillow_errors("it"):
                        image = Image.open(io.BytesIO(damaged.tobytes()))
                    from_pillow(image, max_pixels=1 << 20)
                except (UnreadableImage, UnsupportedImage, LimitExceeded, InvalidArgument):
                    continue
