"""What many tests share: the shipped model, loaded once, and small pictures of many kinds."""

from __future__ import annotations

import fcntl
import io
import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# One thread a process unless the caller says otherwise: pytest-xdist has workers, and on a busy machine
# products of numpy wait for threads far longer than they compute. It stands before numpy and PyTorch are
# loaded, and holds for the processes that tests start, too.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from PIL import Image, ImageCms

from latentcodec.codec.api import Codec
from latentcodec.codec.native import encoder
from latentcodec.codec.native.coder import NativeCodec
from latentcodec.codec.native.networks import encoder_networks
from latentcodec.container import header
from latentcodec.container.file import File
from latentcodec.nn.exact.choice import torch_engine
from latentcodec.nn.exact.engine import Engine
from latentcodec.nn.knots import MAX_LEVEL
from latentcodec.nn.layers import lambda_of_level
from latentcodec.nn.native.config import EntropyConfig, NativeConfig, TransformConfig
from latentcodec.nn.native.model import NativeModel
from latentcodec.picture.picture import Picture, Pixels
from latentcodec.training.data import batch
from latentcodec.training.optimiser import Optimiser
from latentcodec.weights.native import NativeWeights, shipped_weights

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SAMPLES = Path(__file__).resolve().parents[1] / "samples"
_homes = itertools.count()

# The same examples on every run, however busy the machine is.
settings.register_profile(
    "latentcodec", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("latentcodec")


def photograph(
    name: str = "astronaut", width: int = 0, height: int = 0, left: int = 96, top: int = 0
) -> Pixels:
    """A sample photograph as uint8 (H, W, 3), or a piece of it."""
    with Image.open(SAMPLES / f"{name}.png") as image:
        pixels = np.array(image.convert("RGB"))
    return pixels if not width else pixels[top : top + height, left : left + width].copy()


def picture(name: str, height: int, width: int) -> torch.Tensor:
    """(1, 3, height, width) of a photograph, in 0..1."""
    return torch.from_numpy(photograph(name, width, height)).permute(2, 0, 1)[None].float() / 255


def one_cell_flipped(x: torch.Tensor) -> torch.Tensor:
    """A picture as x, but for the 16x16 pixels of the cell in row 3 and column 6, which are mirrored."""
    y = x.clone()
    y[..., 48:64, 96:112] = y[..., 48:64, 96:112].flip(-1)
    return y


def rgb(image: Image.Image) -> Pixels:
    """A Pillow image as uint8 (H, W, 3)."""
    return np.asarray(image.convert("RGB"))


def with_metadata() -> Image.Image:
    """A turned picture with profile and EXIF, as a camera's file has them."""
    image = Image.fromarray(photograph(width=64, height=40))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    held = io.BytesIO()
    image.save(held, "PNG", exif=exif.tobytes(), icc_profile=SRGB)
    return Image.open(held)


def psnr(reference: Pixels, distorted: Pixels) -> float:
    """dB over all samples."""
    error = np.mean((reference.astype(float) - distorted.astype(float)) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def largest_difference(a: Pixels, b: Pixels) -> int:
    """The largest difference of two pictures, in levels of 255."""
    return int(np.abs(a.astype(int) - b.astype(int)).max())


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Ctrl-C works in tests and the processes they start, also where the suite runs in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store of models: no test sees the user's own. It is no folder yet: few tests need one."""
    path = tmp_path_factory.getbasetemp() / f"home-{next(_homes)}"
    monkeypatch.setenv("LATENTCODEC_HOME", str(path))
    return path


@pytest.fixture(scope="session")
def weights() -> NativeWeights:
    """The shipped weights."""
    return shipped_weights()


@pytest.fixture(scope="session")
def codec() -> Codec:
    """The public codec on the CPU, its model loaded."""
    return Codec(device="cpu")


@pytest.fixture(scope="session")
def native(codec: Codec) -> NativeCodec:
    """The native model behind it, at work on tiles."""
    return codec._load_native()


def native_codec(weights: NativeWeights, engine: Engine[Any] | None = None) -> NativeCodec:
    """A native model of any weights on an engine, PyTorch's in float32 on the CPU if none is named."""
    engine = engine or torch_engine("cpu", False)
    return NativeCodec(weights, engine, encoder_networks(engine))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """PyTorch on one thread, for tests that compare floats bit for bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tiny_config() -> NativeConfig:
    """A native model that trains in seconds; every part of it there, none of it wide."""
    return NativeConfig(
        transform=TransformConfig(
            luma=24, chroma=8, fine=16, coarse=24, analysis_coarse=16, analysis_blocks=1, synthesis_blocks=1
        ),
        entropy=EntropyConfig(latents=40, hyper=8, hyper_hidden=24, features=16, context=32, analysis=16),
    )


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> NativeModel:
    """A tiny model, trained for some steps: its means, rows and contexts are those of a real one."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # of all workers: one trains it
    path = folder / "tiny.pt"
    with (folder / "tiny.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            torch.save(_trained_tiny_model(), path)
    model = NativeModel(tiny_config())
    model.load_state_dict(torch.load(path, weights_only=True))
    return model.eval().requires_grad_(False)


def _trained_tiny_model() -> dict[str, torch.Tensor]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the same model on every run
    torch.manual_seed(3)
    model = NativeModel(tiny_config())
    pictures = [photograph("astronaut"), photograph("coffee"), photograph("chelsea")]
    model.calibrate(batch(pictures, 1, 1 << 20, 16, 128))
    optimiser = Optimiser(model.named_parameters())
    for step in range(40):
        torch.manual_seed(step)
        x, level = batch(pictures, 1, step, 2, 64), torch.rand(2) * MAX_LEVEL
        decoded, bits = model(x, level)
        weight, squared = lambda_of_level(level), 255**2 * (x - decoded).square().mean((1, 2, 3))
        loss = ((bits / 64**2 + weight * squared) / weight.sqrt()).mean()  # MS-SSIM needs larger pictures
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 200.0)
        optimiser.step(2e-3)
    torch.set_num_threads(threads)
    return model.state_dict()


@pytest.fixture(scope="module")
def small_tiles() -> Iterator[None]:
    """Files may have tiles as small as the model allows, so that small pictures have many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(header, "MIN_TILE_SIDE", header.TILE_GRAIN)
        yield


def retiled(
    codec: NativeCodec, picture: Picture, tile_size: int, level: int, monkeypatch: pytest.MonkeyPatch
) -> File:
    """A file of a small picture in small tiles, for tests that use the fixture `small_tiles`."""
    with monkeypatch.context() as patch:
        patch.setattr(encoder, "default_tile_size", lambda width, height: tile_size)
        return encoder.NativeEncoder(codec, picture).encode(level).file


@pytest.fixture
def toy_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A diffusers folder of a toy, where sizes of toys are those of Stable Diffusion 1.x and SDXL's VAE."""
    from latentcodec.weights.checkpoints.families import AUTOENCODERS
    from tests.toy_diffusion import VAE, know_toys, save_model

    know_toys(monkeypatch)
    monkeypatch.setitem(AUTOENCODERS, "kl-sdxl", VAE)
    return save_model(tmp_path / "toy-sd")
