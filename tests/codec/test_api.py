"""The public API: every kind of picture goes in and comes out, and mistakes are told."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from fractions import Fraction
from inspect import Parameter, signature
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import latentcodec
from latentcodec.codec.api import Codec
from latentcodec.codec.info import info
from latentcodec.container.chunks import Limits
from latentcodec.container.file import structure_bytes
from latentcodec.errors import (
    FormatError,
    InvalidArgument,
    LimitExceeded,
    NotLatentCodecFile,
    TargetUnreachable,
    TruncatedFile,
    UnknownModel,
    UnsupportedImage,
    UnsupportedVersion,
)
from latentcodec.picture.picture import DroppedDataWarning, from_array
from tests.conftest import SAMPLES, SRGB, photograph, psnr, rgb, with_metadata
from tests.nn.exact.engine_cases import RIGHT


@pytest.mark.parametrize(
    "size", [(1, 1), (1, 37), (37, 1), (7, 9), (8, 8), (31, 33), (33, 65), (129, 257), (200, 31)]
)
def test_pictures_of_any_size(codec: Codec, size: tuple[int, int]) -> None:
    pixels = photograph("chelsea", size[1], size[0], left=60)
    for quality in (0, 60, 100):
        data = codec.encode(pixels, quality=quality)
        image = codec.decode(data)
        assert image.mode == "RGB"
        assert image.size == (size[1], size[0])
        assert structure_bytes(data) <= 64
        assert psnr(pixels, rgb(image)) > (15, 22, 28)[[0, 60, 100].index(quality)]


def test_the_module_s_functions_and_the_codec_s_methods_agree(codec: Codec, one_thread: None) -> None:
    pixels = photograph(width=64, height=48)
    data = latentcodec.encode(pixels, quality=30, device="cpu")
    assert data == codec.encode(Image.fromarray(pixels), quality=30)
    assert np.array_equal(np.asarray(latentcodec.decode(data, device="cpu")), np.asarray(codec.decode(data)))


@pytest.mark.parametrize("name", ["encode", "decode", "compress", "decompress"])
def test_the_module_s_functions_have_the_keywords_of_codec_and_method(name: str) -> None:
    """By name, with their defaults: help(latentcodec.encode) shows them all."""

    def keywords(function: object) -> dict[str, object]:
        parameters = signature(function).parameters.values()  # type: ignore[arg-type]
        assert not any(each.kind in (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL) for each in parameters)
        return {each.name: each.default for each in parameters if each.default is not Parameter.empty}

    method = keywords(getattr(Codec, name))
    method.pop("latents", None)  # of an autoencoder that the caller has: a Codec's alone
    assert keywords(getattr(latentcodec, name)) == keywords(Codec) | method
    method.pop("preserve", None)  # of files alone
    own = keywords(getattr(Codec, {"compress": "encode", "decompress": "decode"}.get(name, name)))
    own.pop("latents", None)
    assert method == own


def test_the_native_model_is_loaded_when_it_is_needed() -> None:
    """And PyTorch not with it: only `device`, which is PyTorch's."""
    code = (
        "import sys\nfrom latentcodec import Codec\ncodec = Codec()\n"
        "told = lambda: print(codec.engine is None, 'torch' in sys.modules)\n"
        "told(), codec.load(), told(), print(codec.device.type in ('cpu', 'cuda')), told()"
    )
    unset = {name: value for name, value in os.environ.items() if name != "LATENTCODEC_ENGINE"}
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, capture_output=True, text=True, env=unset, check=False)
    assert done.stdout.split("\n")[:4] == ["True False", "False False", "True", "False True"], done.stderr


def test_a_codec_says_what_computes(monkeypatch: pytest.MonkeyPatch, codec: Codec) -> None:
    picture = photograph(width=40, height=24)
    data = codec.encode(picture)
    for choice, name in (("numpy", "numpy"), ("torch-float32", "torch float32 (cpu)")):
        monkeypatch.setenv("LATENTCODEC_ENGINE", choice)
        for use in (Codec.load, lambda codec: codec.encode(picture), lambda codec: codec.decode(data)):
            fresh = Codec()
            assert fresh.engine is None
            use(fresh)
            assert fresh.engine == name


def test_every_engine_gives_the_same_pixels(monkeypatch: pytest.MonkeyPatch, codec: Codec) -> None:
    picture = photograph("coffee", 75, 41)
    expected = np.asarray(codec.decode(codec.encode(picture, quality=70)))
    for encoding in ("numpy", "torch-float32"):
        monkeypatch.setenv("LATENTCODEC_ENGINE", encoding)
        data = Codec().encode(picture, quality=70)
        shown = []
        for decoding in ("numpy", "torch-float32", "torch-int8")[: 2 + RIGHT]:
            monkeypatch.setenv("LATENTCODEC_ENGINE", decoding)
            shown.append(np.asarray(Codec().decode(data)))
        assert all(np.array_equal(each, shown[0]) for each in shown)
        # An encoder's floats may round a latent otherwise; what comes of it is as good.
        assert abs(psnr(picture, shown[0]) - psnr(picture, expected)) < 0.2


def test_an_engine_that_is_none(monkeypatch: pytest.MonkeyPatch, codec: Codec) -> None:
    data = codec.encode(photograph(width=16, height=16))
    monkeypatch.setenv("LATENTCODEC_ENGINE", "abacus")
    with pytest.raises(InvalidArgument, match="LATENTCODEC_ENGINE=abacus: use one of auto, compiled"):
        Codec().decode(data)
    with pytest.raises(InvalidArgument, match="LATENTCODEC_ENGINE=abacus"):
        Codec().load()


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_data_of_any_kind(codec: Codec, kind: type) -> None:
    data = codec.encode(photograph(width=16, height=16))
    assert codec.decode(kind(data)).size == (16, 16)


@pytest.mark.parametrize(
    ("mode", "comes_back"),
    [
        ("L", "L"),
        ("1", "L"),
        ("LA", "LA"),
        ("RGB", "RGB"),
        ("RGBA", "RGBA"),
        ("P", "RGB"),
        ("CMYK", "RGB"),
        ("YCbCr", "RGB"),
        ("RGBX", "RGB"),
    ],
)
def test_pillow_modes(codec: Codec, mode: str, comes_back: str) -> None:
    image = Image.fromarray(photograph(width=72, height=56))
    if "A" in mode:
        image.putalpha(Image.linear_gradient("L").resize((72, 56)))
    shown = codec.decode(codec.encode(image.convert(mode), quality=90))
    assert shown.mode == comes_back
    if mode != "1":
        least = 20 if mode == "P" else 26  # Pillow dithers
        assert psnr(rgb(image.convert(mode)), rgb(shown)) > least


def test_arrays(codec: Codec) -> None:
    pixels = photograph(width=40, height=24)
    alpha = np.arange(40 * 24, dtype=np.uint8).reshape(24, 40)
    assert codec.decode(codec.encode(pixels[..., 0])).mode == "L"
    assert codec.decode(codec.encode(pixels)).mode == "RGB"
    assert codec.decode(codec.encode(np.dstack([pixels, alpha]))).mode == "RGBA"
    assert codec.decode(codec.encode(pixels[::-1, ::2])).size == (20, 24)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_is_lossless(codec: Codec, mode: str) -> None:
    random = np.random.default_rng(3)
    for alpha in (
        random.integers(0, 256, (50, 61), np.uint8),
        np.zeros((50, 61), np.uint8),
        np.indices((50, 61)).sum(0).astype(np.uint8),
    ):
        image = Image.fromarray(photograph(width=61, height=50)).convert(mode)
        image.putalpha(Image.fromarray(alpha))
        shown = codec.decode(codec.encode(image, quality=5))
        assert shown.mode == mode
        assert np.array_equal(np.asarray(shown.getchannel("A")), alpha)


def test_opaque_alpha_is_dropped(codec: Codec) -> None:
    image = Image.fromarray(photograph(width=40, height=40)).convert("RGBA")
    assert codec.decode(codec.encode(image)).mode == "RGB"


def test_the_badge_sample(codec: Codec) -> None:
    with Image.open(SAMPLES / "badge.png") as image:
        shown = codec.decode(codec.encode(image, quality=80))
        assert np.array_equal(np.asarray(shown.getchannel("A")), np.asarray(image.getchannel("A")))


def test_metadata_is_kept_and_orientation_applied(codec: Codec) -> None:
    image = with_metadata()
    shown = codec.decode(codec.encode(image, quality=95))
    assert shown.size == (40, 64)
    assert psnr(np.rot90(rgb(image), -1), rgb(shown)) > 28
    assert shown.info["icc_profile"] == SRGB
    exif = shown.getexif()
    assert exif[0x010F] == "maker"
    assert exif.get(0x0112, 1) == 1


def test_stripping_takes_exif_but_not_what_is_seen(codec: Codec) -> None:
    data = codec.encode(with_metadata(), strip=True)
    shown = codec.decode(data)
    assert shown.size == (40, 64)
    assert "exif" not in shown.info
    assert shown.info["icc_profile"] == SRGB
    assert not info(data).exif


def test_xmp_is_kept(codec: Codec) -> None:
    packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'
    image = Image.fromarray(photograph(width=24, height=24))
    image.info["xmp"] = packet
    assert codec.decode(codec.encode(image)).info["xmp"] == packet
    assert "xmp" not in codec.decode(codec.encode(image, strip=True)).info


def test_animations_are_refused(codec: Codec) -> None:
    held = io.BytesIO()
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(held, "GIF", save_all=True, append_images=frames[1:])
    with pytest.raises(UnsupportedImage, match="2 frames"):
        codec.encode(Image.open(held))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"quality": -1}, "0 to 100"),
        ({"quality": 100.5}, "0 to 100"),
        ({"quality": float("nan")}, "0 to 100"),
        ({"target_size": 0}, "positive"),
        ({"target_bpp": -1.0}, "positive number of bits per pixel"),
        ({"quality": "60"}, "quality '60': it must be a number, this is a str"),
        ({"quality": True}, "quality True: it must be a number"),
        ({"target_size": "5KB"}, "target_size '5KB': it must be a number"),
        ({"target_size": 10**400}, "target_size: it is beyond all floats"),
        ({"target_bpp": b"1"}, "target_bpp b'1': it must be a number"),
        ({"min_psnr": [30]}, "min_psnr"),
        ({"min_psnr": float("inf")}, "positive"),
        ({"min_psnr": float("nan")}, "positive"),
        ({"target_size": 5000, "quality": 60}, "quality 60, target_size 5000: ask for one"),
        ({"target_size": 5000, "min_psnr": 30.0}, "target_size 5000, min_psnr 30"),
        ({"effort": 0}, "effort 0: it is a whole number from 1 to 9"),
    ],
)
def test_arguments_out_of_range(codec: Codec, arguments: dict[str, float], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        codec.encode(photograph(width=16, height=16), **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("image", [None, "picture.png", np.zeros((4, 4, 2), np.uint8), np.zeros((4, 4))])
def test_what_is_no_picture(codec: Codec, image: object) -> None:
    with pytest.raises(InvalidArgument):
        codec.encode(image)  # type: ignore[arg-type]


def test_numbers_of_any_kind(codec: Codec) -> None:
    pixels = photograph(width=16, height=16)
    assert codec.encode(pixels, quality=np.float32(30)) == codec.encode(pixels, quality=30)  # type: ignore[arg-type]
    assert codec.encode(pixels, quality=Fraction(61, 2)) == codec.encode(pixels, quality=30.5)  # type: ignore[arg-type]
    size = len(codec.encode(pixels, quality=100))
    assert len(codec.encode(pixels, target_size=np.int64(size))) == size  # type: ignore[arg-type]


def test_pictures_beyond_the_limit_are_not_made(codec: Codec) -> None:
    """What encode makes, decode with the same limits takes."""
    small = Codec(device="cpu", limits=Limits(max_pixels=16 * 15))
    for height, width in ((16, 16), (1, 241)):
        pixels = photograph(width=width, height=height)
        for image in (pixels, pixels[..., 0], Image.fromarray(pixels), from_array(pixels)):
            with pytest.raises(LimitExceeded, match=rf"{width}x{height} = \d+ .* 240: raise max_pixels"):
                small.encode(image)
    fits = small.encode(photograph(width=16, height=15))
    assert small.decode(fits).size == (16, 15)


def test_metadata_beyond_the_limit_are_not_stored() -> None:
    small = Codec(device="cpu", limits=Limits(max_metadata_bytes=1000))
    image = Image.fromarray(photograph(width=24, height=24))
    image.info["xmp"] = bytes(1001)
    with pytest.warns(DroppedDataWarning, match="1001 bytes of XMP are dropped: .* at most 1000"):
        data = small.encode(image)
    assert "xmp" not in small.decode(data).info
    image.info["icc_profile"] = SRGB + bytes(1000)
    with pytest.raises(LimitExceeded, match="colour profile: "):
        small.encode(image, strip=True)


@pytest.mark.parametrize("data", ["picture.lci", 12, None, [1, 2]])
def test_what_is_no_data(codec: Codec, data: object) -> None:
    with pytest.raises(InvalidArgument, match="bytes"):
        codec.decode(data)  # type: ignore[arg-type]


def test_what_is_no_file_of_ours(codec: Codec) -> None:
    good = codec.encode(photograph(width=16, height=16))
    for partial in (False, True):
        for data, error in (
            (b"", NotLatentCodecFile),
            (b"\x89PNG\r\n\x1a\n", NotLatentCodecFile),
            (good[:8] + b"\x02" + good[9:], UnsupportedVersion),
            (good[:5], TruncatedFile),
            (good[:20], TruncatedFile),
        ):
            with pytest.raises(error):
                codec.decode(data, partial=partial)


def test_other_models_and_devices() -> None:
    with pytest.raises(UnknownModel, match="'native'"):
        Codec("sdxl")
    with pytest.raises(InvalidArgument, match="device"):
        Codec(device="tpu")


def test_files(codec: Codec, tmp_path: Path) -> None:
    source, packed, shown = (tmp_path / name for name in ("in.png", "a.lci", "out.png"))
    Image.fromarray(photograph(width=50, height=30)).save(source)
    packed.write_bytes(b"an older file")
    written = codec.compress(source, packed, quality=75)
    assert written == packed.stat().st_size
    codec.decompress(str(packed), str(shown))
    with Image.open(shown) as image:
        assert image.size == (50, 30)
        assert np.array_equal(np.asarray(image), np.asarray(codec.decode(packed.read_bytes())))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.lci", "in.png", "out.png"]
    latentcodec.compress(source, packed, min_psnr=30, device="cpu")
    latentcodec.decompress(packed, tmp_path / "out.webp", device="cpu")
    assert (tmp_path / "out.webp").exists()


def test_targets_that_are_mistakes(codec: Codec, tmp_path: Path) -> None:
    source = tmp_path / "in.png"
    Image.new("RGB", (8, 8)).save(source)
    before = source.read_bytes()
    (tmp_path / "link.lci").symlink_to(source)
    for target in (source, str(source), tmp_path / "." / "in.png", tmp_path / "link.lci"):
        with pytest.raises(InvalidArgument, match="over the picture itself"):
            codec.compress(source, target)
    for name in ("out.jpg", "out.PNG", "out.heic"):
        with pytest.raises(InvalidArgument, match=r"writes \.lci files, not .*out\.lci, or use decompress"):
            latentcodec.compress(source, tmp_path / name, device="cpu")
    assert source.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2


def test_a_failure_leaves_the_older_file_alone(codec: Codec, tmp_path: Path) -> None:
    source, packed = tmp_path / "in.png", tmp_path / "a.lci"
    Image.new("RGB", (8, 8)).save(source)
    packed.write_bytes(b"an older file")
    with pytest.raises(TargetUnreachable):
        codec.compress(source, packed, target_size=3)
    assert packed.read_bytes() == b"an older file"
    shown = tmp_path / "out.png"
    shown.write_bytes(b"an older picture")
    with pytest.raises(FormatError):
        codec.decompress(packed, shown)
    assert shown.read_bytes() == b"an older picture"


def test_partial_decoding_tells_what_is_missing(codec: Codec, tmp_path: Path) -> None:
    data = codec.encode(photograph(width=128, height=96), quality=80)
    cut = tmp_path / "cut.lci"
    cut.write_bytes(data[: len(data) // 2])
    with pytest.raises(TruncatedFile):
        codec.decode(cut.read_bytes())
    image = codec.decode(cut.read_bytes(), partial=True)
    report = image.info["report"]
    assert report.truncated
    assert report.incomplete == (0,)
    assert codec.decompress(cut, tmp_path / "left.png", partial=True) == report
    assert latentcodec.decompress(cut, tmp_path / "left.png", device="cpu", partial=True) == report
    picture, again = codec.decode_picture(cut.read_bytes(), partial=True)
    assert again == report
    assert np.array_equal(picture.pixels, rgb(image))
    with Image.open(tmp_path / "left.png") as left:
        assert np.array_equal(np.asarray(left), np.asarray(image))
    assert codec.decode(data, partial=True).info["report"].intact
    assert "report" not in codec.decode(data).info
    assert codec.decode_picture(data)[1] is None
    cut.write_bytes(data)
    assert codec.decompress(cut, tmp_path / "whole.png") is None


def test_first_frames_and_orientations(codec: Codec, tmp_path: Path) -> None:
    frames = [Image.fromarray(photograph(width=48, height=32, left=left)) for left in (0, 96)]
    moving = tmp_path / "moving.png"
    frames[0].save(moving, save_all=True, append_images=frames[1:])
    with pytest.raises(UnsupportedImage, match=r"moving\.png holds 2 frames.*first_frame=True"):
        codec.compress(moving, tmp_path / "a.lci")
    with pytest.warns(DroppedDataWarning, match=r"moving\.png: only the first of its 2 frames is kept"):
        codec.compress(moving, tmp_path / "a.lci", first_frame=True, lossless=True)
    assert np.array_equal(rgb(codec.decode((tmp_path / "a.lci").read_bytes())), rgb(frames[0]))
    with pytest.warns(DroppedDataWarning), Image.open(moving) as image:
        assert codec.encode(image, first_frame=True, lossless=True) == (tmp_path / "a.lci").read_bytes()
    turned = with_metadata()
    assert codec.decode(codec.encode(turned)).size == (40, 64)
    assert codec.decode(codec.encode(turned, orientation=1)).size == (64, 40)
    turned.save(tmp_path / "turned.png", exif=turned.getexif())
    codec.compress(tmp_path / "turned.png", tmp_path / "b.lci", orientation=3)
    assert info(tmp_path / "b.lci").width == 64
    assert codec.decode(codec.encode(rgb(turned), orientation=6)).size == (40, 64)
    with pytest.raises(InvalidArgument, match="orientation 9"):
        codec.encode(turned, orientation=9)


def test_permissions_and_times_are_kept_on_request(codec: Codec, tmp_path: Path) -> None:
    source, stored, back = (tmp_path / name for name in ("a.png", "a.lci", "b.png"))
    Image.fromarray(photograph(width=32, height=32)).save(source)
    source.chmod(0o600)
    os.utime(source, (1_000_000_000, 1_000_000_000))
    codec.compress(source, stored, preserve=True)
    codec.decompress(stored, back, preserve=True)
    for path in (stored, back):
        assert (path.stat().st_mode & 0o777, path.stat().st_mtime) == (0o600, 1_000_000_000)
    codec.compress(source, tmp_path / "c.lci")
    assert (tmp_path / "c.lci").stat().st_mtime > 1_500_000_000
