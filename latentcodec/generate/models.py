"""A diffusion model's parts, loaded for generating: networks, schedule, defaults, and where they run.

    name or path ─┬─► UNet, text encoders, [depth] ─► in `dtype`   ─┐
                  ├─► [another] autoencoder ─► float32 where its halves overflow
                  ├─► [LoRAs merged] [compiled, or CUDA graphs]     ├─► Model
                  └─► family, prediction, a folder's scheduler ─► Defaults, NoiseSchedule

Where the device is too small for all parts at once they stay in the machine's memory, and each is brought to
the device while it works (`Model.on_device`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor, nn

from latentcodec.diffusion.prediction import Prediction
from latentcodec.diffusion.schedule import NoiseSchedule
from latentcodec.errors import InvalidArgument, ModelError, UnknownModel
from latentcodec.generate.conditioning import TextTowers
from latentcodec.generate.defaults import Defaults, defaults_of, needs_few_steps, with_scheduler
from latentcodec.generate.latents import decode, encode, to_images, to_tensor
from latentcodec.nn.device import choose_device, full_precision, placed
from latentcodec.nn.graphs import Graphed
from latentcodec.nn.stable_diffusion.depth import DepthEstimator
from latentcodec.nn.stable_diffusion.unet import UNet
from latentcodec.picture.picture import Pixels
from latentcodec.weights.checkpoints.detected import UNET, VELOCITY, Detected, describe
from latentcodec.weights.checkpoints.families import AUTOENCODERS, FAMILIES, latent_space
from latentcodec.weights.checkpoints.model_files import read_json
from latentcodec.weights.load import (
    LoadedAutoencoder,
    load_autoencoder,
    load_depth,
    load_text_encoder,
    load_unet,
)
from latentcodec.weights.lora import merge_lora, read_lora
from latentcodec.weights.store import list_models, resolve

DTYPES = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,  # for comparisons
}
UPSCALER_SCHEDULE = NoiseSchedule(beta_start=1e-4, beta_end=0.02)  # stability, x4-upscaling.yaml
# What a device needs free beside the weights, in bytes: the decoder's maps at 1024x1024.
WORKING_MEMORY = 4 << 30
FEW_STEPS = 8  # up to which a model's UNet runs as CUDA graphs
_SCHEDULER = "scheduler/scheduler_config.json"
_NO_MEMORY = ("not enough memory", "can't allocate memory")  # of the CPU's allocator, which has no class

PathLike = str | os.PathLike[str]
Offload = Literal["auto", "always", "never"]


@dataclass
class Model:
    """A loaded model. unet is its network, call what runs it (compiled, or replayed as a CUDA graph).

    fast: a tiny autoencoder of the same latents, for previews and quick pictures. vae: what was named in
    place of the model's own autoencoder. loras: names and weights of what was merged. fingerprint: of the
    UNet, where the store knows it. notes: what was decided while it was loaded, for people.
    """

    name: str
    detected: Detected
    device: torch.device
    dtype: torch.dtype
    unet: UNet
    call: Callable[..., Any]
    autoencoder: LoadedAutoencoder
    towers: TextTowers
    schedule: NoiseSchedule
    defaults: Defaults
    depth: DepthEstimator | None = None
    fast: LoadedAutoencoder | None = None
    offload: bool = False
    vae: str | None = None
    loras: tuple[tuple[str, float], ...] = ()
    fingerprint: str | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def family(self) -> str:
        """A name of families.FAMILIES."""
        return self.detected.family

    @property
    def prediction(self) -> Prediction:
        """What the UNet predicts."""
        return "v" if self.detected.prediction == VELOCITY else "epsilon"

    @property
    def channels(self) -> int:
        """Of a latent."""
        return self.autoencoder.module.config.latents

    @property
    def downscale(self) -> int:
        """Pixels of a latent position, along a side."""
        return int(getattr(self.autoencoder.module.config, "downscale", 8))

    @property
    def state_dtype(self) -> torch.dtype:
        """Of the sampler's state: float32 at least."""
        return torch.promote_types(self.dtype, torch.float32)

    def encode(self, pixels: Pixels) -> Tensor:
        """The latents (1, C, h, w) of a picture (H, W, 3), on the device."""
        network = self.autoencoder.module
        with self.on_device(network):
            picture = to_tensor(pixels, self.downscale, next(network.parameters()))
            return encode(network, picture).to(self.state_dtype)

    def decode(self, latents: Tensor, size: tuple[int, int]) -> list[Image.Image]:
        """Pillow images of (width, height) of latents (B, C, h, w), by the tiny autoencoder if there is one.

        Raises ModelError for pictures that are not finite.
        """
        network = (self.fast or self.autoencoder).module
        images = []
        with self.on_device(network):
            for latent in latents:  # one by one: a picture is the same alone and in a batch
                picture = decode(network, latent[None].to(self.device))
                check_finite(self, picture, "picture")
                images += to_images(picture, size)
        return images

    @contextmanager
    def on_device(self, *modules: nn.Module | None) -> Iterator[None]:
        """As `holding`, and ready to run: in full precision and without gradients."""
        with self.holding(*modules), full_precision(self.device):
            yield

    @contextmanager
    def holding(self, *modules: nn.Module | None) -> Iterator[None]:
        """The modules on the device, and where they lived before afterwards.

        Memory that runs out becomes an error that says what would help.
        """
        there = [module for module in modules if module is not None and self.offload]
        with memory_errors(self), placed(there, self.device):
            yield


def check_finite(model: Model, x: Tensor, what: str) -> None:
    """Raise ModelError, which names the precision and the cure, where x has a NaN or an infinity."""
    if not bool(x.isfinite().all()):
        dtype = str(x.dtype if x.dtype.itemsize == 2 else model.dtype).removeprefix("torch.")
        cure = (
            "use dtype bfloat16 or float32"
            if dtype == "float16"
            else "use dtype float32, or another copy of it"
        )
        raise ModelError(f"{model.name}: the {what} is not finite in {dtype}; {cure}")


@contextmanager
def memory_errors(model: Model) -> Iterator[None]:
    """Turns a device's or the machine's lack of memory into a ModelError that says what would help."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        lacking = isinstance(error, MemoryError | torch.OutOfMemoryError)
        lacking |= any(words in str(error) for words in _NO_MEMORY)
        if not lacking:
            raise
        ways = ["a smaller size", "fewer pictures at once (a smaller batch)"]
        if model.device.type == "cuda":
            ways += [] if model.offload else ["offload 'always'"]
            ways += [] if model.dtype.itemsize == 2 else ["dtype float16"]
        else:
            ways += [] if model.dtype.itemsize == 2 else ["dtype bfloat16"]
        ways += [] if model.fast else ["fast decode"]
        raise ModelError(
            f"{model.name} on {model.device}: out of memory; {', '.join(ways)} would help"
        ) from error


def open_model(
    model: PathLike,
    *,
    device: str = "auto",
    dtype: str = "auto",
    vae: PathLike | None = None,
    loras: Sequence[PathLike | tuple[PathLike, float]] = (),
    fast_decode: bool | PathLike = False,
    prediction: str | None = None,
    family: str | None = None,
    compile: bool = False,
    offload: Offload = "auto",
) -> Model:
    """Load a diffusion model; the arguments are Generator.open's.

    Raises UnknownModel where there is no such model or a part of it is missing, InvalidWeights for damage,
    and InvalidArgument for what does not go together.
    """
    where = choose_device(device)
    precision = choose_dtype(dtype, where)
    if offload not in ("auto", "always", "never"):
        raise InvalidArgument(f"offload {offload!r}: use auto, always or never")
    cpu = torch.device("cpu")
    unet = load_unet(model, cpu, precision, family=family, prediction=prediction)
    detected = unet.detected
    known = FAMILIES[detected.family]
    text = load_text_encoder(model, cpu, precision, family=family).module
    second = None
    if known.text_encoder_2 is not None:
        second = load_text_encoder(model, cpu, precision, second=True, family=family).module
    depth = load_depth(model, cpu, precision).module if known.needs_depth else None
    autoencoder = _autoencoder(model, vae, detected.family, precision)
    fast = _fast(fast_decode, detected.family, precision) if fast_decode else None
    towers = TextTowers(text, second, detected.family)
    merged = tuple(_merge(lora, unet.module, towers) for lora in loras)
    stored = resolve(model)
    stated = read_json(stored.path / _SCHEDULER) if stored.path.is_dir() else {}
    names = (stored.name, stored.path.name, Path(stored.source).name)
    few_steps = needs_few_steps(names, stated)
    defaults = defaults_of(detected.family, detected.prediction, few_steps=few_steps)
    loaded = Model(
        name=stored.name,
        detected=detected,
        device=where,
        dtype=precision,
        unet=unet.module,
        call=unet.module,
        autoencoder=autoencoder,
        towers=towers,
        schedule=UPSCALER_SCHEDULE if detected.family == "x4" else NoiseSchedule(),
        defaults=with_scheduler(defaults, stated),
        depth=depth,
        fast=fast,
        vae=None if vae is None else Path(vae).name,
        loras=merged,
        fingerprint=stored.fingerprints.get(UNET),
        notes=[describe(detected)],
    )
    if stated.get("rescale_betas_zero_snr") is True:
        loaded.notes.append("its scheduler asks for a schedule that ends in pure noise; ours does not")
    _place(loaded, offload)
    if compile:
        loaded.call = torch.compile(unet.module)
    elif where.type == "cuda" and not loaded.offload and loaded.defaults.steps <= FEW_STEPS:
        loaded.call = Graphed(unet.module)
    return loaded


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The precision of a name: "auto" is float16 on CUDA and float32 elsewhere. Raises InvalidArgument."""
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    if name not in DTYPES:
        raise InvalidArgument(f"dtype {name!r}: use auto, float16, bfloat16 or float32")
    return DTYPES[name]


def _autoencoder(model: PathLike, vae: PathLike | None, family: str, dtype: torch.dtype) -> LoadedAutoencoder:
    """The model's autoencoder, or another of the same latents, in the precision that it bears."""
    place = model if vae is None else vae
    loaded = _of_latents(place, family, FAMILIES[family].autoencoder, dtype, "vae")
    if dtype.itemsize == 2 and getattr(loaded.module.config, "needs_float32", False):
        loaded.module.float()
    return loaded


def _of_latents(
    place: PathLike, family: str, kind: str, dtype: torch.dtype, option: str
) -> LoadedAutoencoder:
    """An autoencoder that has a family's latents, such as one of `kind`, which is believed where only a name
    could tell. Raises InvalidArgument for others."""
    loaded = load_autoencoder(place, dtype=dtype)
    if latent_space(loaded.identity.kind) == latent_space(family):
        return loaded
    if any("is assumed" in reason for reason in loaded.detected.reasons):
        return load_autoencoder(place, dtype=dtype, kind=kind)
    raise InvalidArgument(
        f"{option} {os.fspath(place)}: it is {loaded.identity.kind}, and {family} works on latents of "
        f"{FAMILIES[family].autoencoder}, which are others; use {kind}",
        (option,),
    )


def _fast(chosen: bool | PathLike, family: str, dtype: torch.dtype) -> LoadedAutoencoder:
    """The tiny autoencoder that is named, or the first of the store that has the family's latents."""
    kind = _tiny_kind(family)
    if not isinstance(chosen, bool):
        return _of_latents(chosen, family, kind, dtype, "fast_decode")
    for stored in list_models():
        if stored.detected is not None and stored.detected.family == kind:
            return load_autoencoder(stored.name, dtype=dtype)
    raise UnknownModel(f"fast decode: {family} needs {kind}; get it with: latentcodec models fetch {kind}")


def _tiny_kind(family: str) -> str:
    """The kind of tiny autoencoder with a family's latents. Raises InvalidArgument where there is none."""
    space = latent_space(family)
    tiny = [kind for kind in AUTOENCODERS if kind.startswith("tae") and latent_space(kind) == space]
    if not tiny:
        raise InvalidArgument(f"fast decode: there is no tiny autoencoder for the latents of {family}")
    return tiny[0]


def _merge(lora: PathLike | tuple[PathLike, float], unet: UNet, towers: TextTowers) -> tuple[str, float]:
    """Merge a LoRA; its name and weight."""
    path, weight = lora if isinstance(lora, tuple) else (lora, 1.0)
    merge_lora(read_lora(path), weight, unet=unet, text_encoder=towers.first, text_encoder_2=towers.second)
    return Path(path).stem, float(weight)


def _place(model: Model, offload: Offload) -> None:
    """Bring the parts to the device, or note that they are to be brought there one at a time."""
    if model.device.type == "cpu":
        return
    modules = [model.unet, model.autoencoder.module, model.towers.first, model.towers.second, model.depth]
    modules += [model.fast.module] if model.fast else []
    parts = [module for module in modules if module is not None]
    needed = sum(tensor.nbytes for module in parts for tensor in module.parameters())
    if offload == "auto" and model.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(model.device)
        model.offload = needed + WORKING_MEMORY > free
        if model.offload:
            model.notes.append(
                f"the parts take {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free on {model.device}: they "
                "are brought there one at a time"
            )
    else:
        model.offload = offload == "always"
    if not model.offload:
        with memory_errors(model):
            for part in parts:
                nn.Module.to(part, model.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
