"""Pillow image or array <-> Picture: 8-bit planes, upright, with what belongs to them.

Pillow image, any mode ─► gray or RGB, alpha (samples.py) ─► orientation applied ─┐
                       ─► ICC profile, EXIF, XMP (metadata.py) ─► orientation reset ─┴─► Picture
uint8 array ──────────────────────────────────────────────────────────────────────────►
Picture ─► to_pillow ─► L, LA, RGB or RGBA, with icc_profile, exif and xmp in its info
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from latentcodec.errors import (
    InvalidArgument,
    LatentCodecError,
    LimitExceeded,
    UnreadableImage,
    UnsupportedImage,
)
from latentcodec.picture.directories import count_directories, excess
from latentcodec.picture.metadata import (
    DroppedDataWarning,
    orientation,
    read_exif,
    read_xmp,
    sound_exif,
    upright_exif,
    upright_xmp,
)
from latentcodec.picture.samples import Plane, ReducedDepthWarning, stored_depth, to_planes
from latentcodec.picture.text import Text, check_text, read_text

__all__ = [
    "MAX_PIXELS",
    "PICTURE_EXTENSIONS",
    "DroppedDataWarning",
    "Picture",
    "Pixels",
    "ReducedDepthWarning",
    "from_array",
    "from_pillow",
    "pillow_errors",
    "to_pillow",
]

Pixels = npt.NDArray[np.uint8]
"""Colours (height, width, 3)."""

MAX_PIXELS = 178_956_970  # where Pillow itself refuses by default: twice its MAX_IMAGE_PIXELS

# What names a picture: such files are not written by compress, and folders are searched for them. Also
# formats that Pillow may not read: that such a picture was not compressed is to be reported.
PICTURE_EXTENSIONS = frozenset(
    f".{name}"
    for name in (
        *("apng", "avif", "bmp", "dib", "gif", "heic", "heif", "ico", "j2k", "jfif", "jp2", "jpe", "jpeg"),
        *("jpg", "jxl", "pbm", "pcx", "pgm", "png", "pnm", "ppm", "psd", "qoi", "tga", "tif", "tiff", "webp"),
    )
)

# Formats whose further "frames" are no animation (a second eye or a preview; layers): the first is the
# picture.
_FIRST_IS_THE_PICTURE = {"MPO": "secondary pictures", "PSD": "layers"}
_MOST_FRAMES = 1000  # that are counted
_PROFILE_SPACES = {b"GRAY": "gray", b"RGB ": "RGB", b"CMYK": "CMYK", b"Lab ": "Lab"}  # ICC.1, 7.2.6


@dataclass(frozen=True, eq=False)
class Picture:
    """What the codec stores: an upright 8-bit picture. Raises InvalidArgument for planes of another kind."""

    pixels: Pixels
    """Colour, uint8 (H, W, 3); the three planes are equal where `gray` is set."""
    alpha: Plane | None = None
    """Opacity, uint8 (H, W), 255 is opaque; None where the whole picture is."""
    gray: bool = False
    profile: bytes | None = None
    """The ICC profile that the colours are meant in; None: sRGB."""
    exif: bytes | None = None
    """TIFF bytes, without JPEG's "Exif\\0\\0" in front; its Orientation is 1 or absent."""
    xmp: bytes | None = None
    text: Text = ()
    """Pairs of key (1 to 255 bytes of UTF-8, without NUL) and value; a key may be there more than once."""

    def __post_init__(self) -> None:
        pixels, alpha = self.pixels, self.alpha
        check_text(self.text)
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0:
            raise InvalidArgument(
                f"pixels are a non-empty uint8 array (H, W, 3), these are {pixels.dtype} {pixels.shape}"
            )
        if alpha is not None and (alpha.dtype != np.uint8 or alpha.shape != pixels.shape[:2]):
            raise InvalidArgument(
                f"alpha is a uint8 array {pixels.shape[:2]}, as the pixels; this: {alpha.dtype} {alpha.shape}"
            )

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


def from_array(array: Plane) -> Picture:
    """A picture of a uint8 array: (H, W) gray, (H, W, 3) RGB or (H, W, 4) RGB and alpha, H and W at least 1.

    Shares the array's memory where it can. Raises InvalidArgument for any other array.
    """
    if not isinstance(array, np.ndarray):
        raise InvalidArgument(
            f"a picture is a Pillow image or a numpy array, this is a {type(array).__name__}"
        )
    if array.dtype != np.uint8:
        raise InvalidArgument(f"the array holds {array.dtype}: scale it to 0 ... 255 and convert it to uint8")
    if array.size == 0 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise InvalidArgument(
            f"an array of shape {array.shape} is no picture: (H, W), (H, W, 3) or (H, W, 4) is"
        )
    if array.ndim == 3 and array.shape[2] == 4:
        return _picture(array[..., :3], array[..., 3], turn=1)
    return _picture(array, None, turn=1)


def from_pillow(image: Image.Image, *, name: str = "", max_pixels: int = MAX_PIXELS) -> Picture:
    """A picture of a Pillow image of any mode, loaded or not; `name` is what messages call it.

    Gray stays gray. A palette, CMYK (through its profile, where it has one) and all other colour become RGB.
    A transparent colour becomes alpha; alpha that is 255 everywhere is dropped. The EXIF orientation is
    applied, and reset in the EXIF and XMP that are kept. More than 8 bits a channel are reduced to 8 with a
    ReducedDepthWarning: 16-bit samples by correct rounding where Pillow hands them out (gray), else as Pillow
    cuts them (colour). Modes I and F count as 0 ... 255 if all samples lie there, else as 0 ... 65535 (and F
    as 0 ... 1 if they lie there and not all are whole).

    Raises InvalidArgument (no Pillow image, or an empty one), UnsupportedImage (an animation, samples outside
    every scale), UnreadableImage (damaged) and LimitExceeded (more than `max_pixels`, or than Pillow allows;
    a TIFF whose tags claim too much).
    """
    if not isinstance(image, Image.Image):
        raise InvalidArgument(
            f"a picture is a Pillow image or a numpy array, this is a {type(image).__name__}"
        )
    name = name or str(getattr(image, "filename", "")) or "the picture"
    if 0 in image.size:
        raise InvalidArgument(f"{name} is {image.width}x{image.height}: a picture has at least one pixel")
    if image.width * image.height > max_pixels:
        raise LimitExceeded(
            f"{name} is {image.width}x{image.height} = {image.width * image.height} pixels, the limit is"
            f" {max_pixels}: raise max_pixels if you trust it"
        )
    with pillow_errors(name):
        _refuse_animation(image, name)
        _refuse_excess(image, name)
        rawmode, peak = stored_depth(image)
        image.load()
    planes, alpha = to_planes(image, rawmode, peak, name)
    exif, xmp = read_exif(image, name), read_xmp(image)
    turn = 1 if hasattr(image, "tag_v2") else orientation(exif, xmp)  # Pillow turns a TIFF as it loads it
    profile = _kept_profile(image, planes.ndim == 2, name)
    picture = _picture(planes, alpha, turn, profile=profile, exif=upright_exif(exif), xmp=upright_xmp(xmp))
    return replace(picture, text=read_text(image))


def to_pillow(picture: Picture) -> Image.Image:
    """A Pillow image of mode L, LA, RGB or RGBA; its info holds icc_profile, exif, xmp and text if there are
    any: the exif as Pillow likes it, with "Exif\\0\\0" in front, text as pairs of key and value. EXIF that
    would cost Pillow too much to take apart is dropped with a DroppedDataWarning.
    """
    planes = picture.pixels[..., 0] if picture.gray else picture.pixels
    if picture.alpha is not None:
        planes = np.dstack([planes, picture.alpha])
    image = Image.fromarray(planes)
    exif = sound_exif(picture.exif, "the picture")
    exif = b"Exif\0\0" + exif if exif else None
    metadata = {"icc_profile": picture.profile, "exif": exif, "xmp": picture.xmp, "text": picture.text}
    image.info.update({key: value for key, value in metadata.items() if value})
    return image


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
        raise UnreadableImage(f"{name} cannot be read, it may be damaged: {error!r}") from error


def _picture(
    planes: Plane,
    alpha: Plane | None,
    turn: int,
    *,
    profile: bytes | None = None,
    exif: bytes | None = None,
    xmp: bytes | None = None,
) -> Picture:
    """A Picture of gray (H, W) or RGB (H, W, 3) planes, turned upright; alpha that is all opaque goes."""
    gray = planes.ndim == 2
    pixels = np.repeat(_upright(planes, turn)[..., None], 3, axis=2) if gray else _upright(planes, turn)
    opaque = alpha is None or bool((alpha == 255).all())
    return Picture(
        pixels=np.require(pixels, requirements=["C", "W"]),
        alpha=None if alpha is None or opaque else np.require(_upright(alpha, turn), requirements=["C", "W"]),
        gray=gray,
        profile=profile,
        exif=exif,
        xmp=xmp,
    )


def _upright(plane: Plane, turn: int) -> Plane:
    """A view of the plane as EXIF's orientation `turn` (1-8) wants it shown."""
    if turn >= 5:
        plane = plane.swapaxes(0, 1)
    if turn in (2, 3, 6, 7):
        plane = plane[:, ::-1]
    return plane[::-1] if turn in (3, 4, 7, 8) else plane


def _refuse_animation(image: Image.Image, name: str) -> None:
    frames = _frames(image)
    if frames <= 1:
        return
    extra = _FIRST_IS_THE_PICTURE.get(image.format or "")
    if extra is None:
        raise UnsupportedImage(
            f"{name} holds {'over ' if frames > _MOST_FRAMES else ''}{min(frames, _MOST_FRAMES)} frames, and"
            " animations cannot be stored: save one frame as a picture"
        )
    warnings.warn(f"{name}: only its main picture is kept, not its {extra}", DroppedDataWarning, stacklevel=3)


def _refuse_excess(image: Image.Image, name: str) -> None:
    """A TIFF not yet loaded, whose tags Pillow takes apart while it loads it."""
    file = getattr(image, "fp", None) if hasattr(image, "tag_v2") else None
    if file is not None and (problem := excess(file)):
        raise LimitExceeded(f"{name}: {problem}")


def _frames(image: Image.Image) -> int:
    """How many there are. Those of a TIFF, which take Pillow quadratic time, are counted up to the limit."""
    if hasattr(image, "tag_v2"):
        if not getattr(image, "is_animated", True):
            return 1
        if (file := getattr(image, "fp", None)) is not None:
            return max(2, count_directories(file, _MOST_FRAMES + 1))
    return int(getattr(image, "n_frames", 1))


def _kept_profile(image: Image.Image, gray: bool, name: str) -> bytes | None:
    """The ICC profile, unless a conversion used it up or it is for another kind of colour."""
    profile = image.info.get("icc_profile")
    if not isinstance(profile, bytes) or not profile or image.mode in ("CMYK", "LAB"):
        return None
    space = _PROFILE_SPACES.get(profile[16:20])
    if space is None or space == ("gray" if gray else "RGB"):
        return profile  # one of no known kind is kept: it is the caller's
    warnings.warn(
        f"{name}: its ICC profile is for {space}, the picture is {'gray' if gray else 'RGB'}: it is dropped",
        DroppedDataWarning,
        stacklevel=3,
    )
    return None
