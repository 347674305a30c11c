"""benchmarks.peers: every codec makes real files, and a higher setting means more bytes and more quality."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from benchmarks.datasets import Pixels
from benchmarks.peers import PEERS, Avif, Jpeg, Native, WebP, make_peer
from latentcodec.errors import InvalidArgument, TargetUnreachable
from tests.benchmarks.conftest import make_picture, psnr

FORMATS = {"jpeg": "JPEG", "webp": "WEBP", "avif": "AVIF"}


@pytest.mark.parametrize("name", FORMATS)
def test_round_trip(name: str, picture: Pixels) -> None:
    peer = make_peer(name)
    sizes, qualities = [], []
    for setting in (5, 50, 90):
        data = peer.encode(picture, setting)
        decoded = peer.decode(data)
        assert (decoded.shape, decoded.dtype) == (picture.shape, np.uint8)
        sizes.append(len(data))
        qualities.append(psnr(picture, decoded))
    assert sizes == sorted(sizes)
    assert qualities == sorted(qualities)
    assert qualities[-1] > 22


@pytest.mark.parametrize("name", FORMATS)
def test_bytes_are_a_whole_file_of_that_format(name: str, picture: Pixels) -> None:
    with Image.open(io.BytesIO(make_peer(name).encode(picture, 60))) as image:
        assert image.format == FORMATS[name]
        assert image.size == picture.shape[1::-1]


@pytest.mark.parametrize("name", PEERS)
def test_names_and_sweeps(name: str) -> None:
    kind = {"native": Native, "jpeg": Jpeg, "webp": WebP, "avif": Avif}[name]
    assert kind.name == name
    assert list(kind.settings) == sorted(set(kind.settings))
    low, high = (0, 100) if name == "native" else (5, 90)
    assert (kind.settings[0], kind.settings[-1]) == (low, high)


def test_jpeg_is_progressive(picture: Pixels) -> None:
    with Image.open(io.BytesIO(Jpeg().encode(picture, 60))) as image:
        assert "progressive" in image.info


@pytest.mark.parametrize("name", FORMATS)
def test_versions_say_what_wrote_the_files(name: str) -> None:
    assert make_peer(name).version.startswith("Pillow ")
    assert " ".join(f"{key}={value}" for key, value in PEERS[name].options.items()) in make_peer(name).version


def test_one_format_does_not_read_another(picture: Pixels) -> None:
    with pytest.raises(OSError, match="cannot identify"):
        Jpeg().decode(WebP().encode(picture, 50))


def test_fractions_are_refused_not_rounded(picture: Pixels) -> None:
    with pytest.raises(InvalidArgument, match=r"quality 50\.5: JPEG takes whole numbers"):
        Jpeg().encode(picture, 50.5)


def test_unknown_codec() -> None:
    with pytest.raises(
        InvalidArgument, match=r"no codec is called 'gif'; there are native, jpeg, webp, avif"
    ):
        make_peer("gif")


@pytest.fixture(scope="module")
def native() -> Native:
    return Native(device="cpu")


def test_native_round_trip(native: Native) -> None:
    picture = make_picture(100, 131)
    small, large = native.encode(picture, 20), native.encode(picture, 80.5)
    assert len(small) < len(large)
    assert native.decode(small).shape == picture.shape
    assert psnr(picture, native.decode(small)) < psnr(picture, native.decode(large))


def test_native_version_names_its_weights(native: Native) -> None:
    assert native.version == Native(device="cpu").version
    assert "networks" in native.version
    assert "synthesis" in native.version


def test_native_keeps_to_a_size(native: Native) -> None:
    picture = make_picture(128, 128)
    size = len(native.encode(picture, 50))
    assert 0.98 * size <= len(native.encode_to_size(picture, size)) <= size
    with pytest.raises(TargetUnreachable):
        native.encode_to_size(picture, 10)
