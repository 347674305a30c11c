"""Pillow image or array <-> Picture: planes of 8 to 16 bits, upright, with what belongs to them.

Pillow image, any mode ─► gray or RGB, alpha (samples.py) ─► orientation applied ─┐
                       ─► what its colours mean (colour/) ────────────────────────┼─► Picture
                       ─► what stands beside (formats/, metadata.py), made true ──┘
uint8 or uint16 array ────────────────────────────────────────────────────────────►
Picture ─► to_pillow ─► L, I;16, LA, RGB or RGBA, with icc_profile, exif, xmp and more in its info
Picture ─► to_array ─► uint8 or uint16, (H, W), (H, W, 3) or (H, W, 4)
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from latentcodec.errors import InvalidArgument, LatentCodecError, LimitExceeded, UnreadableImage
from latentcodec.picture.colour.points import Cicp
from latentcodec.picture.colour.profiles import (
    adobe_rgb_profile,
    is_gray,
    png_profile,
    profile_of,
    sound_profile,
)
from latentcodec.picture.deep_reading import read_deep
from latentcodec.picture.formats import exif as exif_bytes
from latentcodec.picture.formats import xmp as packets
from latentcodec.picture.formats.beside import Beside, Resolution, joined, sound_resolution
from latentcodec.picture.formats.frames import CLOSED, choose_frame, load_pixels
from latentcodec.picture.formats.info import read_info
from latentcodec.picture.formats.scan import read_file
from latentcodec.picture.metadata import orientation, read_exif, read_xmp, sound_exif
from latentcodec.picture.notices import DroppedDataWarning, ReducedDepthWarning, noted, report
from latentcodec.picture.samples import (
    MAX_DEPTH,
    Plane,
    sample_type,
    scaled,
    stored_depth,
    to_planes,
)
from latentcodec.picture.text import Text, check_text

__all__ = [
    "MAX_PIXELS",
    "PICTURE_EXTENSIONS",
    "DroppedDataWarning",
    "Picture",
    "Pixels",
    "ReducedDepthWarning",
    "check_size",
    "from_array",
    "from_pillow",
    "picture_of",
    "pillow_errors",
    "to_array",
    "to_pillow",
    "with_depth",
]

Pixels = npt.NDArray[np.uint8 | np.uint16]
"""Colours (height, width, 3)."""

MAX_PIXELS = 178_956_970  # where Pillow itself refuses by default: twice its MAX_IMAGE_PIXELS

# What names a picture: such files are not written by compress, and folders are searched for them. Also
# formats that Pillow may not read: that such a picture was not compressed is to be reported.
PICTURE_EXTENSIONS = frozenset(
    f".{name}"
    for name in (
        *("apng", "avif", "bmp", "dib", "gif", "heic", "heif", "hif", "icns", "ico", "j2k", "jfif", "jp2"),
        *("jpe", "jpeg", "jpg", "jxl", "mpo", "pbm", "pcx", "pgm", "png", "pnm", "ppm", "psd", "qoi", "sgi"),
        *("tga", "tif", "tiff", "webp"),
    )
)

_ORIENTATION = 0x0112


@dataclass(frozen=True, eq=False)
class Picture:
    """What the codec stores: an upright picture. Raises InvalidArgument for planes of another kind."""

    pixels: Pixels
    """Colour, (H, W, 3), uint8, or uint16 where the depth is above 8; the three planes are equal where `gray`
    is set."""
    alpha: Plane | None = None
    """Opacity, (H, W), of the same type, `peak` is opaque; None where the whole picture is."""
    gray: bool = False
    profile: bytes | None = None
    """The ICC profile that the colours are meant in; None: sRGB."""
    exif: bytes | None = None
    """TIFF bytes, without JPEG's "Exif\\0\\0" in front; its Orientation is 1 or absent."""
    xmp: bytes | None = None
    text: Text = ()
    """Pairs of key (1 to 255 bytes of UTF-8, without NUL) and value; a key may be there more than once."""
    iptc: bytes | None = None
    """Records of IPTC (IIM), without the blocks of Photoshop around them."""
    dpi: Resolution | None = None
    """Dots per inch, from left to right and from top to bottom."""
    cicp: Cicp | None = None
    """Code points of the colours, where they are not sRGB; they go before the profile."""
    left_out: tuple[str, ...] = ()
    """What could not be kept of the file that the picture comes from, in words."""
    bit_depth: int = 8
    """Bits a sample, 8 to 16, of colour and alpha alike."""

    def __post_init__(self) -> None:
        pixels, alpha = self.pixels, self.alpha
        check_text(self.text)
        if self.dpi is not None and sound_resolution(*self.dpi) is None:
            raise InvalidArgument(f"dpi {self.dpi}: two positive numbers of dots per inch")
        if self.cicp is not None and not all(0 <= each <= 255 for each in self.cicp):
            raise InvalidArgument(f"cicp {tuple(self.cicp)}: four numbers of 0 to 255")
        if not 8 <= self.bit_depth <= MAX_DEPTH:
            raise InvalidArgument(f"bit_depth {self.bit_depth}: samples have 8 to {MAX_DEPTH} bits")
        kind = np.dtype(sample_type(self.bit_depth))
        if pixels.dtype != kind or pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0:
            raise InvalidArgument(
                f"pixels of {self.bit_depth} bits are a non-empty {kind} array (H, W, 3), these are "
                f"{pixels.dtype} {pixels.shape}"
            )
        if alpha is not None and (alpha.dtype != kind or alpha.shape != pixels.shape[:2]):
            raise InvalidArgument(
                f"alpha is {kind} {pixels.shape[:2]}, as the pixels; this: {alpha.dtype} {alpha.shape}"
            )
        if 8 < self.bit_depth < MAX_DEPTH:
            most = max(int(plane.max()) for plane in (pixels, alpha) if plane is not None)
            if most > self.peak:
                raise InvalidArgument(
                    f"a sample is {most}: with {self.bit_depth} bits {self.peak} is the most"
                )

    @property
    def peak(self) -> int:
        """The sample that is white, or opaque."""
        return (1 << self.bit_depth) - 1

    @property
    def height(self) -> int:
        """Pixels from top to bottom."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Pixels from left to right."""
        return int(self.pixels.shape[1])

    @property
    def channels(self) -> int:
        """1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha: as the file's header counts them."""
        return (1 if self.gray else 3) + (self.alpha is not None)


def from_array(array: Plane, turn: int = 1) -> Picture:
    """A picture of an array: (H, W) gray, (H, W, 3) RGB or (H, W, 4) RGB and alpha, H and W at least 1.

    uint8, or uint16 for samples of 16 bits, of which 65535 is white. turn: the orientation 1 ... 8 that it is
    stored in, as in EXIF. Shares the array's memory where it can. Raises InvalidArgument for any other array.
    """
    if not isinstance(array, np.ndarray):
        raise InvalidArgument(
            f"a picture is a Pillow image or a numpy array, this is a {type(array).__name__}"
        )
    if array.dtype not in (np.uint8, np.uint16):
        raise InvalidArgument(
            f"the array holds {array.dtype}: scale it to 0 ... 255 and convert it to uint8, or uint16 with "
            "0 ... 65535"
        )
    bits = 8 * array.dtype.itemsize
    if array.size == 0 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise InvalidArgument(
            f"an array of shape {array.shape} is no picture: (H, W), (H, W, 3) or (H, W, 4) is"
        )
    if array.ndim == 3 and array.shape[2] == 4:
        return _picture(array[..., :3], array[..., 3], turn, bits)
    return _picture(array, None, turn, bits)


def from_pillow(
    image: Image.Image,
    *,
    name: str = "",
    max_pixels: int = MAX_PIXELS,
    first_frame: bool = False,
    turn: int | None = None,
) -> Picture:
    """A picture of a Pillow image of any mode, loaded or not; `name` is what messages call it.

    Gray stays gray. A palette, CMYK (through its profile, where it has one) and all other colour become RGB.
    A transparent colour becomes alpha; alpha that is 255 everywhere is dropped. The EXIF orientation is
    applied, and EXIF and XMP are made true of the upright picture. What cannot be kept is told by a
    DroppedDataWarning each, and stands in `left_out`. Samples of 9 to 16 bits are kept as they are where
    they can be had (deep_reading.py): of an image that is loaded already only gray ones, as Pillow holds no
    others. A ReducedDepthWarning says where they are cut to 8 bits. Modes I and F count as 0 ... 255 if all
    samples lie there, else as 0 ... 65535 (and F as 0 ... 1 if they lie there and not all are whole); what is
    not whole is rounded to 16 bits, with the same warning.
    first_frame: take that of an animation. turn: the orientation 1 ... 8 in place of what EXIF and XMP say,
    for pixels that were turned by hand; 1 leaves them as they are.

    Raises InvalidArgument (no Pillow image, an empty or closed one), UnsupportedImage (an animation, samples
    outside every scale), UnreadableImage (damaged) and LimitExceeded (more than `max_pixels`, or than Pillow
    allows; a TIFF whose tags claim too much).
    """
    if not isinstance(image, Image.Image):
        raise InvalidArgument(
            f"a picture is a Pillow image or a numpy array, this is a {type(image).__name__}"
        )
    name = name or str(getattr(image, "filename", "")) or "the picture"
    with noted() as notes:
        own = _own_words(image, name)
        picture = picture_of(image, own, name, max_pixels, first_frame=first_frame, turn=turn)
    return replace(picture, left_out=tuple(notes))


def check_size(image: Image.Image, name: str, max_pixels: int) -> None:
    """Raise InvalidArgument for an empty image, LimitExceeded for one of too many pixels."""
    if 0 in image.size:
        raise InvalidArgument(f"{name} is {image.width}x{image.height}: a picture has at least one pixel")
    if image.width * image.height > max_pixels:
        raise LimitExceeded(
            f"{name} is {image.width}x{image.height} = {image.width * image.height} pixels, the limit is"
            f" {max_pixels}: raise max_pixels if you trust it"
        )


def _own_words(image: Image.Image, name: str) -> Beside:
    """What the file of an opened image says itself, where it is still open and at its first frame."""
    file = getattr(image, "fp", None)
    loaded = not getattr(image, "tile", None) and image.format not in ("WEBP", "HEIF")  # they show no tiles
    if file is None or loaded or getattr(image, "_frame", False):
        return Beside()
    try:
        place = file.tell()
    except (OSError, ValueError, AttributeError):  # closed, or no file at all
        return Beside()
    try:
        return read_file(file, name)
    finally:
        file.seek(place)


def picture_of(
    image: Image.Image,
    own: Beside,
    name: str,
    max_pixels: int,
    *,
    first_frame: bool = False,
    turn: int | None = None,
) -> Picture:
    """A picture of a Pillow image and of what its file says itself; arguments are those of from_pillow."""
    with pillow_errors(name):
        choose_frame(image, name, first=first_frame, told=own.further)
    check_size(image, name, max_pixels)
    turns_itself = hasattr(image, "tag_v2") and bool(getattr(image, "tile", None))  # a TIFF, as it is loaded
    with pillow_errors(name):
        if turns_itself and turn is not None:
            image.getexif()[_ORIENTATION] = turn
        turn = _tiff_turn(image) if turn is None or turns_itself else turn
        stored = stored_depth(image)
        deep = read_deep(image, stored, name)
        image = load_pixels(image, name)
        beside = joined(own, read_info(image, name, text=not own.complete))
    planes, alpha, bits = deep or to_planes(image, stored, name)
    if planes.ndim == 3 and is_gray(beside.profile) and not (planes != planes[..., :1]).any():
        planes = planes[..., 0]  # WebP and AVIF know no gray, or Pillow hands it out so
    exif, xmp = read_exif(image, name, beside.exif), read_xmp(image, beside.xmp)
    turn = turn or orientation(exif, xmp)
    converted = image.mode in ("CMYK", "LAB")  # which uses the profile up
    profile, cicp = _meaning(beside, exif, planes.ndim == 2, name) if not converted else (None, None)
    picture = _picture(planes, alpha, 1 if turns_itself else turn, bits)
    return replace(
        picture,
        profile=profile,
        cicp=cicp,
        exif=exif_bytes.turned(exif, turn, name),
        xmp=packets.without_announcements(packets.turned(xmp, turn)),
        text=beside.text,
        iptc=beside.iptc,
        dpi=beside.dpi[::-1] if beside.dpi and turn >= 5 else beside.dpi,
    )


def _tiff_turn(image: Image.Image) -> int:
    """The orientation of a TIFF, which Pillow forgets once it has turned it; 0 of other formats."""
    if not hasattr(image, "tag_v2"):
        return 0
    value = image.getexif().get(_ORIENTATION, 1)
    return int(value) if value in range(1, 9) else 1


def _meaning(beside: Beside, exif: bytes | None, gray: bool, name: str) -> tuple[bytes | None, Cicp | None]:
    """Profile and code points that say what the colours mean; both None for sRGB."""
    profile = sound_profile(beside.profile, gray, name)
    if beside.cicp is not None and not beside.cicp.is_srgb:
        cicp = beside.cicp._replace(matrix=0)
        return None if profile == profile_of(None, cicp, gray) else profile, cicp  # as to_pillow makes one
    if beside.cicp is not None:
        return profile, None
    if profile is None and not beside.srgb:
        profile = png_profile(beside.gama, beside.chrm, gray, name)
        if profile is None and not gray and exif_bytes.is_adobe_rgb(exif):
            profile = adobe_rgb_profile()
    return profile, None


def to_pillow(picture: Picture) -> Image.Image:
    """A Pillow image of mode L, LA, RGB or RGBA; its info holds, as far as they are there, icc_profile (also
    of code points), exif (as Pillow likes it, with "Exif\\0\\0" in front), xmp, text (pairs of key and
    value), dpi, iptc and cicp. EXIF that would cost Pillow too much to take apart is dropped with a report.
    Gray of more than 8 bits without alpha is of mode I;16, whose white is 65535. Pillow has no such mode for
    others: they are rounded to 8 bits, with a ReducedDepthWarning.
    """
    if picture.bit_depth > 8 and picture.gray and picture.alpha is None:
        image = Image.fromarray(with_depth(picture, MAX_DEPTH).pixels[..., 0])
    else:
        if picture.bit_depth > 8:
            report(
                "the picture",
                f"it has {picture.bit_depth} bits a channel, and Pillow no mode for them: they are rounded "
                "to 8 bits (decode_array keeps them)",
                ReducedDepthWarning,
            )
            picture = with_depth(picture, 8)
        planes = picture.pixels[..., 0] if picture.gray else picture.pixels
        if picture.alpha is not None:
            planes = np.dstack([planes, picture.alpha])
        image = Image.fromarray(planes)
    exif = sound_exif(picture.exif, "the picture")
    metadata = {
        "icc_profile": profile_of(picture.profile, picture.cicp, picture.gray),
        "exif": b"Exif\0\0" + exif if exif else None,
        "xmp": picture.xmp,
        "text": picture.text,
        "dpi": picture.dpi,
        "iptc": picture.iptc,
        "cicp": picture.cicp,
    }
    image.info.update({key: value for key, value in metadata.items() if value})
    return image


def to_array(picture: Picture) -> Plane:
    """An array that from_array takes: (H, W) gray, (H, W, 3) RGB, or (H, W, 4) with alpha, gray or not.

    uint8, or uint16 where the picture has 9 to 16 bits: of 16 bits, 65535 is white.
    """
    picture = picture if picture.bit_depth == 8 else with_depth(picture, MAX_DEPTH)
    if picture.alpha is not None:
        return np.dstack([picture.pixels, picture.alpha])
    return picture.pixels[..., 0].copy() if picture.gray else picture.pixels


def with_depth(picture: Picture, bits: int) -> Picture:
    """The picture with samples of so many bits, 8 to 16, each rounded to the nearest."""
    if bits == picture.bit_depth:
        return picture
    scale = partial(scaled, peak=picture.peak, bits=bits)
    alpha = None if picture.alpha is None else scale(picture.alpha)
    return replace(picture, pixels=scale(picture.pixels), alpha=alpha, bit_depth=bits)


@contextmanager
def pillow_errors(name: str) -> Iterator[None]:
    """Turns what Pillow raises on a damaged picture, or on one too large for it, into errors of our tree.

    Pillow's warning about pictures of half its limit is silenced: our own limit is explicit. MemoryError is
    let through: it says nothing about the picture.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            yield
    except (LatentCodecError, Warning, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise LimitExceeded(f"{name}: {error} Raise PIL.Image.MAX_IMAGE_PIXELS if you trust it.") from error
    except UnidentifiedImageError as error:
        known = "PNG, JPEG, WebP, AVIF, TIFF and some more are"
        raise UnreadableImage(f"{name} is no picture in a format that is read; {known}") from error
    except Exception as error:  # Pillow's decoders raise almost anything on damaged data
        if str(error) == CLOSED:
            raise InvalidArgument(f"{name} is closed: encode it before that, or open it again") from error
        raise UnreadableImage(f"{name} cannot be read, it may be damaged: {error!r}") from error


def _picture(planes: Plane, alpha: Plane | None, turn: int, bits: int) -> Picture:
    """A Picture of gray (H, W) or RGB (H, W, 3) planes, turned upright; alpha that is all opaque goes."""
    gray = planes.ndim == 2
    pixels = np.repeat(_upright(planes, turn)[..., None], 3, axis=2) if gray else _upright(planes, turn)
    opaque = alpha is None or bool((alpha == (1 << bits) - 1).all())
    return Picture(
        pixels=np.require(pixels, requirements=["C", "W"]),
        alpha=None if alpha is None or opaque else np.require(_upright(alpha, turn), requirements=["C", "W"]),
        gray=gray,
        bit_depth=bits,
    )


def _upright(plane: Plane, turn: int) -> Plane:
    """A view of the plane as EXIF's orientation `turn` (1-8) wants it shown."""
    if turn >= 5:
        plane = plane.swapaxes(0, 1)
    if turn in (2, 3, 6, 7):
        plane = plane[:, ::-1]
    return plane[::-1] if turn in (3, 4, 7, 8) else plane
