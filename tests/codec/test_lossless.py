"""Files that hold pixels: chosen where they are smaller, exact, whole or in tiles, and safe to read."""

from __future__ import annotations

import math
import subprocess
import sys
import tracemalloc
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont, features

from latentcodec.codec.api import Codec
from latentcodec.codec.decoder import decode_with
from latentcodec.codec.info import info
from latentcodec.codec.lossless import (
    LONGEST_SIDE,
    NO_HASH,
    PixelReader,
    pack_pixels,
    unpack_pixels,
    worth_trying,
)
from latentcodec.codec.native.coder import NativeCodec
from latentcodec.codec.native.encoder import NativeEncoder
from latentcodec.container.chunks import DEFAULT_LIMITS
from latentcodec.container.file import File, Tile, pack, unpack
from latentcodec.container.header import PIXELS
from latentcodec.container.quality import CLEAN_LEVEL
from latentcodec.errors import (
    ChecksumMismatch,
    FormatError,
    InvalidArgument,
    LimitExceeded,
    MalformedFile,
    MissingDependency,
    TargetUnreachable,
    TruncatedFile,
)
from latentcodec.picture.picture import Picture, Pixels, from_array
from latentcodec.weights.native import NATIVE_MODEL
from tests.conftest import SRGB, photograph, rgb
from tests.toy_autoencoder import save_pair

# Written by libwebp 1.6.0 from `pattern()`; readers of all versions must find the same pixels.
GOLDEN = bytes.fromhex(
    "2f10c00200b92e44f43f7611d1ff8082b66d18432c7f3ebb08868748dba67cfea51e3fd4b66dc3b84c76ca1d9c003182c0480033"
    "02c0fadec2a1be08c011a03965b32902e0fa850f93088ca07ee1a2321b"
)


def pattern() -> Pixels:
    y, x = np.mgrid[:12, :17]
    planes = [(x // 4) * 60, (y // 3) * 80, np.where((x + y) % 5 == 0, 255, 10)]
    return np.stack(planes, 2).astype(np.uint8)


def page(width: int = 300, height: int = 200) -> Pixels:
    image = Image.new("RGB", (width, height), (250, 250, 245))
    draw = ImageDraw.Draw(image)
    for line in range(height // 14):
        text = " ".join(f"{(line * 7919 + word * 104729) % 9973:d} words" for word in range(width // 60))
        draw.text((6, 14 * line), text, (20, 20, 40 + 3 * line % 200), ImageFont.load_default(11))
    return np.array(image)


def exact(native: NativeCodec, picture: Picture) -> File:
    found = NativeEncoder(native, picture).without_loss()
    assert found is not None
    return found.encoded.file


DECODE = "print(latentcodec.decode(pathlib.Path(sys.argv[1]).read_bytes()).size)"
DECOMPRESS = "latentcodec.decompress(sys.argv[1], sys.argv[2])"
INFO = "print(latentcodec.info(sys.argv[1]).lossless)"
COMMAND = "main.main(['decompress', *sys.argv[1:]], standalone_mode=False)"


@pytest.mark.parametrize("statement", [DECODE, DECOMPRESS, INFO, COMMAND])
def test_reading_loads_no_pytorch(codec: Codec, tmp_path: Path, statement: str) -> None:
    packed, shown = tmp_path / "page.lci", tmp_path / "page.png"
    packed.write_bytes(codec.encode(page()))
    assert info(packed.read_bytes()).lossless
    code = (
        "import pathlib, sys, latentcodec\nfrom latentcodec.cli import main\n"
        f"{statement}\nsys.exit('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(packed), str(shown)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    if shown.exists():
        with Image.open(shown) as image:
            assert np.array_equal(rgb(image), page())
    assert shown.exists() == (statement in (DECOMPRESS, COMMAND))


def test_a_page_is_kept_as_it_is(codec: Codec) -> None:
    pixels = page()
    data = codec.encode(pixels)
    assert info(data).model == PIXELS
    assert info(data).lossless
    assert np.array_equal(rgb(codec.decode(data)), pixels)
    assert len(data) < 0.6 * len(
        NativeEncoder(codec._load_native(), from_array(pixels)).encode(CLEAN_LEVEL).data
    )


def test_the_smaller_file_is_chosen_at_every_quality(codec: Codec) -> None:
    pixels, models = page(), set()
    without_loss = len(codec.encode(pixels, quality=100))
    for quality in (0, 10, 20, 40, 60):
        data = codec.encode(pixels, quality=quality)
        assert len(data) <= without_loss
        models.add(info(data).model)
    assert models == {NATIVE_MODEL, PIXELS}


def drawn(kind: str) -> Pixels:
    y, x = np.mgrid[:128, :160]
    shades = np.random.default_rng(1).integers(0, 256, (128, 160))
    planes = {
        "checkerboard": 255 * ((x + y) % 2),
        "columns": 90 * (x % 2) + 30,
        "ramp": x + 20,
        "ramp downwards": y + 20,
        "dithered": 255 * (shades > x + 40),
    }
    return np.repeat(planes[kind][..., None], 3, 2).astype(np.uint8)


@pytest.mark.parametrize("kind", ["checkerboard", "columns", "ramp", "ramp downwards", "dithered"])
def test_what_repeats_is_found(codec: Codec, kind: str) -> None:
    pixels = drawn(kind)
    assert worth_trying(pixels)
    data = codec.encode(pixels, quality=100)
    assert info(data).lossless
    assert np.array_equal(rgb(codec.decode(data)), pixels)


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea"])
def test_photographs_are_not_even_tried(codec: Codec, name: str) -> None:
    pixels = photograph(name)
    assert not worth_trying(pixels)
    assert info(codec.encode(pixels[:128, :128], quality=100)).model == NATIVE_MODEL


def test_targets_are_met_without_loss_where_that_fits(codec: Codec) -> None:
    pixels = page()
    size = len(codec.encode(pixels))
    area = pixels.shape[0] * pixels.shape[1]
    for asked in ({"target_size": size}, {"target_size": 100 * size}, {"target_bpp": 8.001 * size / area}):
        assert len(codec.encode(pixels, **asked)) == size
    smaller = codec.encode(pixels, target_size=round(0.6 * size))
    assert info(smaller).model == NATIVE_MODEL
    assert 0.9 * 0.6 * size <= len(smaller) <= 0.6 * size
    reached = info(codec.encode(pixels, min_psnr=70)).goal
    assert reached is not None
    assert (reached.target, reached.psnr) == (70, 100)
    assert info(codec.encode(pixels, min_psnr=1e300)).lossless
    with pytest.raises(TargetUnreachable, match="quality 100 reaches"):
        codec.encode(photograph(width=128, height=128), min_psnr=70)


def test_bounds_that_errors_name_are_reachable(codec: Codec) -> None:
    columns = drawn("columns")
    size = len(codec.encode(columns))
    assert size < len(NativeEncoder(codec._load_native(), from_array(columns)).encode(0).data)
    with pytest.raises(TargetUnreachable, match=f"ask for at least {size} bytes"):
        codec.encode(columns, target_size=size - 1)
    assert len(codec.encode(columns, target_size=size)) == size
    assert len(codec.encode(columns, min_psnr=20)) <= size + 12  # with its goal


@pytest.mark.slow
def test_every_effort_is_exact_and_more_is_no_larger(codec: Codec) -> None:
    pixels = page()
    sizes = []
    for effort in range(1, 10):
        stream, digest = pack_pixels(pixels, effort)
        assert digest == zlib.crc32(pixels.tobytes())
        assert np.array_equal(unpack_pixels(stream, len(pixels), pixels.shape[1], "tile"), pixels)
        sizes.append(len(stream))
    assert min(sizes) == sizes[-1]
    assert sizes[3:] == sorted(sizes[3:], reverse=True)


@pytest.mark.parametrize("shape", [(1, 77), (50, 1), (33, 31)])
def test_any_size(codec: Codec, shape: tuple[int, int]) -> None:
    pixels = np.full((*shape, 3), (200, 30, 90), np.uint8)
    pixels[::3] = 10
    data = codec.encode(pixels, quality=100)
    assert info(data).lossless
    assert np.array_equal(rgb(codec.decode(data)), pixels)


def test_gray_and_alpha_and_sidecars(native: NativeCodec) -> None:
    gray = page()[..., :1].repeat(3, 2)
    alpha = np.zeros(gray.shape[:2], np.uint8)
    alpha[20:150, 10:280] = 255
    alpha[100:, 50:] = 128
    picture = Picture(gray, alpha, True, exif=b"II*\0" + bytes(100))
    file = unpack(pack(exact(native, picture)))
    found, _ = decode_with(PixelReader(file.header), file, DEFAULT_LIMITS, None)
    assert found.gray
    assert found.alpha is not None
    assert np.array_equal(found.alpha, alpha)
    assert np.array_equal(found.pixels[alpha > 0], gray[alpha > 0])
    assert found.exif == picture.exif


def test_hidden_colours_cost_nothing(codec: Codec) -> None:
    image = np.dstack([page(), np.full((200, 300), 255, np.uint8)])
    image[60:120, 40:250, 3] = 0
    plain = codec.encode(Image.fromarray(image))
    image[60:120, 40:250, :3] = np.random.default_rng(1).integers(0, 256, (60, 210, 3))
    data = codec.encode(Image.fromarray(image))
    assert data == plain
    decoded = np.asarray(codec.decode(data))
    seen = image[..., 3] > 0
    assert np.array_equal(decoded[..., 3], image[..., 3])
    assert np.array_equal(decoded[seen], image[seen])


def test_pictures_with_other_planes_than_they_say_are_left_to_the_model(native: NativeCodec) -> None:
    assert NativeEncoder(native, Picture(page(), None, True)).without_loss() is None


def test_any_codec_reads_them_and_autoencoders_never_write_them(codec: Codec, toy_model: Path) -> None:
    pixels = page(96, 64)
    other = Codec(str(toy_model), device="cpu")
    assert not info(other.encode(pixels)).lossless
    assert np.array_equal(rgb(other.decode(codec.encode(pixels, quality=100))), pixels)


def test_pillow_s_limit_of_pixels_is_not_ours(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    data = codec.encode(page())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40_000)  # Pillow warns from here on, and refuses twice it
    assert codec.decode(data).size == (300, 200)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(LimitExceeded, match=r"60000 pixels, .* no more than 2000; raise PIL\.Image\.MAX"):
        codec.decode(data)


def test_what_follows_the_bitstream_is_ignored() -> None:
    assert np.array_equal(unpack_pixels(GOLDEN + b"more", 12, 17, "tile"), pattern())


def test_a_claimed_size_costs_no_memory_that_is_not_there(codec: Codec) -> None:
    file = replace(exact(codec._load_native(), from_array(page())), tiles=[])
    header = replace(file.header, width=8000, height=8000, tile_size=1024)
    data = pack(replace(file, header=header, tiles=[Tile(n, 0, None, b"") for n in range(64)]))[:60]
    tracemalloc.start()
    with pytest.raises(TruncatedFile, match=r"none of the 64 tile\(s\) is left"):
        codec.decode(data, partial=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


@pytest.fixture(scope="module")
def tiled(codec: Codec) -> tuple[Pixels, bytes]:
    """A page of 2 x 2 tiles, and its file."""
    pixels = page(1280, 1240)
    return pixels, codec.encode(pixels)


def test_a_damaged_tile_costs_itself(codec: Codec, tiled: tuple[Pixels, bytes]) -> None:
    pixels, data = tiled[0], bytearray(tiled[1])
    assert info(bytes(data)).tiles == 4
    assert np.array_equal(rgb(codec.decode(bytes(data))), pixels)
    tile = unpack(bytes(data)).tiles[1]
    assert tile is not None
    data[data.index(tile.stream) + len(tile.stream) // 2] ^= 0x10
    with pytest.raises(ChecksumMismatch):
        codec.decode(bytes(data))
    image = codec.decode(bytes(data), partial=True)
    assert image.info["report"].missing == (1,)
    shown = rgb(image).copy()
    assert (shown[:1024, 1024:] == 128).all()
    shown[:1024, 1024:] = pixels[:1024, 1024:]
    assert np.array_equal(shown, pixels)


def test_a_cut_file_gives_its_whole_tiles(codec: Codec, tiled: tuple[Pixels, bytes]) -> None:
    pixels, data = tiled
    tile = unpack(data).tiles[2]
    assert tile is not None
    image = codec.decode(data[: data.index(tile.stream) + 500], partial=True)
    assert image.info["report"].missing == (2, 3)
    assert np.array_equal(rgb(image)[:1024], pixels[:1024])


def test_old_streams_decode_for_ever() -> None:
    assert np.array_equal(unpack_pixels(GOLDEN, 12, 17, "tile"), pattern())


@pytest.mark.parametrize(
    ("stream", "error", "words"),
    [
        (b"", TruncatedFile, "0 bytes"),
        (GOLDEN[:4], TruncatedFile, "4 bytes"),
        (GOLDEN[:40], MalformedFile, "damaged or cut"),
        (b"\x2e" + GOLDEN[1:], MalformedFile, "no beginning"),
        (GOLDEN[:4] + bytes([GOLDEN[4] | 0x10]) + GOLDEN[5:], MalformedFile, "without alpha"),
        (GOLDEN[:4] + bytes([GOLDEN[4] | 0x20]) + GOLDEN[5:], MalformedFile, "no beginning"),
        (b"\x2f\xff\xff\xff\x0f" + GOLDEN[5:], MalformedFile, "16384x16384 pixels, the tile 17x12"),
        (GOLDEN[:5] + bytes(60), MalformedFile, "damaged or cut"),
        (GOLDEN[:5] + b"\xff" * 60, MalformedFile, "damaged or cut"),
    ],
)
def test_what_is_no_such_stream_is_refused(stream: bytes, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        unpack_pixels(stream, 12, 17, "tile 0")


def test_random_damage_never_passes(native: NativeCodec) -> None:
    file = exact(native, from_array(page(120, 60)))
    tile = file.tiles[0]
    assert tile is not None
    random, refused = np.random.default_rng(3), 0
    for _ in range(200):
        stream = bytearray(tile.stream)
        stream[int(random.integers(len(stream)))] ^= int(random.integers(1, 256))
        damaged = replace(file, tiles=[replace(tile, stream=bytes(stream))])
        try:
            picture, _ = decode_with(PixelReader(file.header), damaged, DEFAULT_LIMITS, None)
        except FormatError:
            refused += 1
            continue
        assert np.array_equal(picture.pixels, page(120, 60))  # a bit that nothing depends on
    assert refused > 150


def test_headers_that_name_networks_are_refused(native: NativeCodec) -> None:
    header = exact(native, from_array(page())).header
    assert header.networks_hash == header.synthesis_hash == NO_HASH
    other = b"\0\0\0\1"
    for wrong in (replace(header, networks_hash=other), replace(header, synthesis_hash=other)):
        with pytest.raises(MalformedFile, match="need no networks"):
            PixelReader(wrong)


def test_colours_in_a_gray_file_are_refused(native: NativeCodec) -> None:
    file = exact(native, from_array(page()))
    file = replace(file, header=replace(file.header, channels=1))
    with pytest.raises(MalformedFile, match="the picture is gray"):
        decode_with(PixelReader(file.header), file, DEFAULT_LIMITS, None)


def test_sides_beyond_the_bitstream_s_are_tiled(codec: Codec) -> None:
    wide = np.zeros((24, LONGEST_SIDE + 1, 3), np.uint8)
    wide[:, ::500] = 255
    for pixels, tiles in ((wide, 16), (wide[:, 1:], 1)):
        data = codec.encode(pixels)
        assert (info(data).tiles, info(data).model) == (tiles, PIXELS)
        assert np.array_equal(rgb(codec.decode(data)), pixels)


@pytest.mark.parametrize("shape", [(1, 9000), (20_000, 3)])
@pytest.mark.parametrize("target", [{}, {"quality": 5}, {"target_size": 200_000}, {"min_psnr": 30}])
def test_a_picture_too_thin_for_networks_is_kept_without_loss(
    codec: Codec, shape: tuple[int, int], target: dict[str, int]
) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
    data = codec.encode(pixels, **target)
    assert info(data).lossless
    assert np.array_equal(rgb(codec.decode(data)), pixels)
    with pytest.raises(TargetUnreachable, match="ask for at least"):
        codec.encode(pixels, target_size=1000)


def test_a_strip_whose_tiles_would_be_thin_is_kept_without_loss(codec: Codec) -> None:
    """Not too thin as a whole, but in the tiles of 1024 that such a width has: its encoding was an error."""
    pixels = np.random.default_rng(1).integers(0, 256, (1, 60_000, 3), np.uint8).repeat(12, 0)
    data = codec.encode(pixels)
    assert (info(data).model, info(data).tiles) == (PIXELS, 59)
    assert np.array_equal(rgb(codec.decode(data)), pixels)


def test_a_limit_ends_the_attempt(native: NativeCodec) -> None:
    encoder = NativeEncoder(native, from_array(page()))
    found = encoder.without_loss()
    assert found is not None
    assert (found.psnr, found.size) == (math.inf, len(found.encoded.data))
    assert encoder.without_loss(found.size) is not None
    assert encoder.without_loss(100) is None


def test_without_webp_nothing_is_tried_and_files_name_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "check", lambda name: name != "webp")
    assert not worth_trying(page())
    with pytest.raises(MissingDependency, match="install Pillow"):
        unpack_pixels(GOLDEN, 12, 17, "tile 0")


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_pixels_are_kept_on_request(codec: Codec, mode: str) -> None:
    """Every sample, those under alpha 0 too, with what is beside them."""
    shape = (70, 90, len(mode)) if len(mode) > 1 else (70, 90)
    samples = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    if mode in ("LA", "RGBA"):
        samples[:30, :, -1] = 0
    image = Image.fromarray(samples)
    assert image.mode == mode
    image.info |= {"icc_profile": SRGB if "RGB" in mode else None, "xmp": b"<x:xmpmeta/>"}
    exif = Image.Exif()
    exif[0x010F] = "maker"
    image.info["exif"] = exif.tobytes()
    data = codec.encode(image, lossless=True)
    found = info(data)
    assert (found.lossless, found.exif, found.xmp, found.profile) == (True, True, True, "RGB" in mode)
    back = codec.decode(data)
    assert back.mode == mode
    assert np.array_equal(np.asarray(back), samples)
    assert back.info["xmp"] == b"<x:xmpmeta/>"
    assert len(codec.encode(image, lossless=True, strip=True, effort=9)) < len(data)


@pytest.mark.parametrize("shape", [(40, 52), (40, 52, 3), (40, 52, 4)])
def test_deep_samples_are_kept_on_request(codec: Codec, shape: tuple[int, ...]) -> None:
    samples = np.random.default_rng(1).integers(0, 65536, shape, np.uint16)
    if shape[2:] == (4,):
        samples[:20, :, 3] = 0  # what is hidden stays as well
    data = codec.encode(samples, lossless=True)
    assert info(data).lossless
    assert np.array_equal(codec.decode_array(data), samples)


def test_lossless_loads_no_model_and_is_for_any_size(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*arguments: object) -> None:
        raise AssertionError

    monkeypatch.setattr(Codec, "_load_native", none)
    for shape in ((1, 1, 3), (1, 3000, 3), (1600, 1100, 3)):
        pixels = np.random.default_rng(2).integers(0, 256, shape, np.uint8)
        data = Codec().encode(pixels, lossless=True, effort=1)
        assert np.array_equal(np.asarray(codec.decode(data)), pixels)


def test_an_autoencoder_codec_keeps_nothing_without_loss(codec: Codec, tmp_path: Path) -> None:
    other = Codec(str(save_pair(tmp_path / "toy", 1)), "cpu")
    with pytest.raises(InvalidArgument, match="what is lossless needs no model"):
        other.encode(pattern(), lossless=True)
