"""benchmarks.peers: every codec makes real files, and a higher setting means more bytes and more quality."""

from __future__ import annotations

import io
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.peers import PEERS, AvifFast, Jpeg, JpegXl, MozJpeg, Native, WebP, find_peers, make_peer
from benchmarks.peers.jpegxl import distance
from benchmarks.pictures.arrays import Pixels
from latentcodec.errors import InvalidArgument, MissingDependency, TargetUnreachable, UnknownModel
from latentcodec.weights import store
from latentcodec.weights.native import shipped_weights
from tests.benchmarks.conftest import make_picture, psnr
from tests.conftest import photograph

WEIGHTS = Path(__file__).resolve().parents[4] / "shared" / "weights"
FORMATS = {
    "jpeg": "JPEG",
    "mozjpeg": "JPEG",
    "webp": "WEBP",
    "avif": "AVIF",
    "avif-fast": "AVIF",
    "jpeg2000": "JPEG2000",
}
CLASSIC = [*FORMATS, "jpegxl"]


@pytest.mark.parametrize("name", CLASSIC)
def test_round_trip(name: str, picture: Pixels) -> None:
    peer = make_peer(name)
    sizes, qualities = [], []
    for setting in (peer.settings[0], peer.settings[4], peer.settings[-1]):
        data = peer.encode(picture, setting)
        decoded = peer.decode(data)
        assert (decoded.shape, decoded.dtype) == (picture.shape, np.uint8)
        sizes.append(len(data))
        qualities.append(psnr(picture, decoded))
    assert sizes == sorted(sizes)
    assert qualities == sorted(qualities)
    assert qualities[-1] > 22


@pytest.mark.parametrize("name", CLASSIC)
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (3, 5), (33, 300)])
def test_any_size(name: str, shape: tuple[int, int]) -> None:
    peer = make_peer(name)
    picture = make_picture(*shape)
    assert peer.decode(peer.encode(picture, peer.settings[-1])).shape == picture.shape


@pytest.mark.parametrize("name", CLASSIC)
def test_a_copy_in_another_process_does_the_same(name: str, picture: Pixels) -> None:
    peer = make_peer(name)
    copy = pickle.loads(pickle.dumps(peer))
    assert (copy.name, copy.version) == (peer.name, peer.version)
    assert copy.encode(picture, peer.settings[1]) == peer.encode(picture, peer.settings[1])


@pytest.mark.parametrize("name", FORMATS)
def test_bytes_are_a_whole_file_of_that_format(name: str, picture: Pixels) -> None:
    with Image.open(io.BytesIO(make_peer(name).encode(picture, 60))) as image:
        assert image.format == FORMATS[name]
        assert image.size == picture.shape[1::-1]


@pytest.mark.parametrize("name", CLASSIC)
def test_names_and_sweeps(name: str) -> None:
    peer = make_peer(name)
    assert peer.name == name
    assert list(peer.settings) == sorted(set(peer.settings))
    assert (peer.settings[0], peer.settings[-1]) == ((22, 42) if name == "jpeg2000" else (5, 90))
    assert peer.suffix.startswith(".")


def test_mozjpeg_is_jpeg_in_fewer_bytes(picture: Pixels) -> None:
    smaller, plain = MozJpeg().encode(picture, 60), Jpeg().encode(picture, 60)
    assert len(smaller) < len(plain)
    assert (Jpeg().decode(smaller) == Jpeg().decode(plain)).all()


def test_jpegxl_s_qualities_are_libjxl_s_distances(picture: Pixels) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    assert [distance(quality) for quality in (0, 30, 90, 99)] == pytest.approx([25, 6.4, 1, 0.19])
    assert distance(29.999) == pytest.approx(distance(30), abs=0.05)
    data = JpegXl().encode(picture, 90)
    assert data == imagecodecs.jpegxl_encode(picture, effort=7, distance=1.0, numthreads=1)
    for quality in (-1, 100):
        with pytest.raises(InvalidArgument, match="go from 0 to under 100"):
            JpegXl().encode(picture, quality)


def test_jpeg2000_comes_near_the_psnr_that_is_asked_for() -> None:
    peer, picture = make_peer("jpeg2000"), make_picture(256, 256)
    for setting in (26, 34):
        assert psnr(picture, peer.decode(peer.encode(picture, setting))) == pytest.approx(setting, abs=1)


def test_absent_codecs_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    monkeypatch.setitem(sys.modules, "mozjpeg_lossless_optimization", None)
    peers, absent = find_peers(["jpeg", "jpegxl", "mozjpeg", "jpeg", "vae:none"])
    assert [peer.name for peer in peers] == ["jpeg"]
    assert set(absent) == {"jpegxl", "mozjpeg", "vae:none"}
    assert absent["jpegxl"].startswith("needs imagecodecs (")
    assert "'none'" in absent["vae:none"]
    with pytest.raises(InvalidArgument, match="no codec is left: jpegxl: needs imagecodecs"):
        find_peers(["jpegxl"])
    with pytest.raises(MissingDependency):
        make_peer("jpegxl")
    with pytest.raises(UnknownModel):
        make_peer("vae:none")


def test_vae_is_every_model_in_the_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LATENTCODEC_HOME", str(tmp_path))
    peers, absent = find_peers(["jpeg", "vae"])
    assert [peer.name for peer in peers] == ["jpeg"]
    assert absent["vae"].startswith(f"no model is in {tmp_path}")
    monkeypatch.setattr(store, "stored_names", lambda: ["one", "two"])
    _, absent = find_peers(["jpeg", "vae"])
    assert set(absent) == {"vae:one", "vae:two"}  # neither can be opened


def test_jpeg_is_progressive(picture: Pixels) -> None:
    with Image.open(io.BytesIO(Jpeg().encode(picture, 60))) as image:
        assert "progressive" in image.info


@pytest.mark.parametrize("name", FORMATS)
def test_versions_say_what_wrote_the_files(name: str) -> None:
    assert make_peer(name).version.startswith("Pillow ")
    options = PEERS[name].options.items()  # type: ignore[attr-defined]
    assert " ".join(f"{key}={value}" for key, value in options) in make_peer(name).version
    assert make_peer("avif").version != AvifFast().version


def test_one_format_does_not_read_another(picture: Pixels) -> None:
    with pytest.raises(OSError, match="cannot identify"):
        Jpeg().decode(WebP().encode(picture, 50))


def test_fractions_are_refused_not_rounded(picture: Pixels) -> None:
    with pytest.raises(InvalidArgument, match=r"quality 50\.5: JPEG takes whole numbers"):
        Jpeg().encode(picture, 50.5)


def test_unknown_codec() -> None:
    with pytest.raises(
        InvalidArgument,
        match=r"no codec is called 'gif'; there are native, jpeg, mozjpeg, webp, avif, .*vae:NAME",
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


def test_native_at_an_effort(native: Native) -> None:
    searching = make_peer("native:6")
    assert searching.name == "native:6"
    picture = photograph("coffee", 96, 64)
    assert len(searching.encode(picture, 70)) < len(native.encode(picture, 70))
    again = pickle.loads(pickle.dumps(searching))
    assert again.name == "native:6"
    assert again.encode(picture, 70) == searching.encode(picture, 70)
    with pytest.raises(InvalidArgument, match="effort 10: it is a whole number from 1 to 9"):
        make_peer("native:10")


def test_native_version_names_its_weights(native: Native) -> None:
    assert native.version == pickle.loads(pickle.dumps(native)).version
    weights = shipped_weights()
    assert (
        f"networks {weights.networks_hash.hex()}, synthesis {weights.synthesis_hash.hex()}" in native.version
    )


def test_native_keeps_to_a_size(native: Native) -> None:
    picture = make_picture(128, 128)
    size = len(native.encode(picture, 50))
    assert 0.98 * size <= len(native.encode_to_size(picture, size)) <= size
    with pytest.raises(TargetUnreachable):
        native.encode_to_size(picture, 10)


@pytest.mark.skipif(not (WEIGHTS / "taef2_decoder.pth").exists(), reason="the weights of taef2 are not here")
def test_any_autoencoder_is_a_peer() -> None:
    peer, picture = make_peer(f"vae:{WEIGHTS}", "cpu"), make_picture(64, 72)
    small, large = peer.encode(picture, 20), peer.encode(picture, 90)
    assert len(small) < len(large)
    assert psnr(picture, peer.decode(small)) < psnr(picture, peer.decode(large))
    assert (peer.name, peer.suffix) == (f"vae:{WEIGHTS}", ".lci")
    assert "networks" in pickle.loads(pickle.dumps(peer)).version
