"""Networks and pictures beside diffusers' on the same weights: `python -m benchmarks networks` (needs it).

random weights ─┬─► ours      ─┐  by turns, one thread, CPU seconds (other work on the machine
                └─► diffusers ─┴─ disturbs them least), medians, peak memory of a call
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rich.table import Table
from torch import Tensor

from benchmarks.peers.diffusion import DiffusionPair, reference_unet, reference_vae, share
from latentcodec.generate.defaults import settle
from latentcodec.generate.text_to_image import Task, conditions
from latentcodec.nn.stable_diffusion.autoencoder import SD_VAE, AutoencoderKL
from latentcodec.nn.stable_diffusion.unet import SD15, X4_UPSCALER, UNet

__all__ = ["CONTESTS", "Contest", "compare", "generation"]

PROCESS = Path("/proc/self")  # Linux: its peak of resident memory can be read and reset


@dataclass
class Contest:
    """Two calls that return the same tensor, and what they cost."""

    name: str
    ours: Callable[[], Tensor]
    theirs: Callable[[], Tensor]
    seconds: dict[str, list[float]] = field(default_factory=lambda: {"ours": [], "theirs": []})
    peak: dict[str, int] = field(default_factory=lambda: {"ours": 0, "theirs": 0})
    error: float = 0.0

    def round(self) -> None:
        """Each call once."""
        result, expected = self._run("ours", self.ours), self._run("theirs", self.theirs)
        self.error = float((result - expected).norm() / expected.norm())

    def row(self) -> list[str]:
        """Name, seconds of both, ratio, peaks of both, relative error."""
        ours, theirs = (statistics.median(self.seconds[side]) for side in ("ours", "theirs"))
        peaks = [f"{self.peak[side] / 1e9:.2f}" if self.peak[side] else "-" for side in ("ours", "theirs")]
        return [
            self.name,
            f"{ours:.2f}",
            f"{theirs:.2f}",
            f"{ours / theirs:.3f}",
            *peaks,
            f"{self.error:.1e}",
        ]

    def _run(self, side: str, call: Callable[[], Tensor]) -> Tensor:
        gc.collect()
        if (PROCESS / "clear_refs").exists():
            (PROCESS / "clear_refs").write_text("5", encoding="ascii")
        begun = time.process_time()
        result = call()
        self.seconds[side].append(time.process_time() - begun)
        self.peak[side] = max(self.peak[side], _peak_bytes())
        return result


def _peak_bytes() -> int:
    """The peak of resident memory since it was last reset; 0 where the system does not report it."""
    status = PROCESS / "status"
    if not status.exists():
        return 0
    (line,) = (text for text in status.read_text(encoding="ascii").splitlines() if text.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def _pair(build_reference: Callable[[], Any], build_ours: Callable[[], Any]) -> tuple[Any, Any]:
    """Both networks, of the same random parameters."""
    with torch.device("meta"):
        reference, ours = build_reference(), build_ours()
    share(reference, ours)
    return reference, ours


def unet(side: int) -> Contest:
    """SD 1.5's UNet, a batch of one."""
    reference, ours = _pair(lambda: reference_unet(SD15), lambda: UNet(SD15))
    x, context = torch.randn(1, 4, side, side), torch.randn(1, 77, SD15.context)
    return Contest(
        f"SD 1.5 UNet, latent {side}x{side}",
        lambda: ours(x, 500, context),
        lambda: reference(x, 500, context).sample,
    )


def x4_unet(side: int) -> Contest:
    """The x4 upscaler's UNet, a batch of one: half the memory of SD 1.5's."""
    config = X4_UPSCALER
    reference, ours = _pair(lambda: reference_unet(config), lambda: UNet(config))
    x, context = torch.randn(1, config.inputs, side, side), torch.randn(1, 77, config.context)
    noise = torch.tensor([20])
    return Contest(
        f"x4 upscaler UNet, latent {side}x{side}",
        lambda: ours(x, 500, context, labels=noise),
        lambda: reference(x, 500, context, class_labels=noise).sample,
    )


def vae(side: int) -> Contest:
    """The decoder of SD's autoencoder."""
    reference, ours = _pair(lambda: reference_vae(SD_VAE), lambda: AutoencoderKL(SD_VAE))
    latent = torch.randn(1, SD_VAE.latents, side, side) * SD_VAE.scale
    return Contest(
        f"SD VAE decode, latent {side}x{side}",
        lambda: ours.decode(latent),
        lambda: reference.decode(latent / SD_VAE.scale).sample.add(1).div(2),
    )


CONTESTS: dict[str, Callable[[int], Contest]] = {"unet": unet, "x4": x4_unet, "vae": vae}


def compare(names: Sequence[str], side: int, rounds: int) -> Table:
    """Times these CONTESTS on one thread: medians of `rounds` calls of each network, on latents of `side`
    positions a side. Raises MissingDependency without diffusers."""
    torch.set_num_threads(1)
    table = Table("network", "ours s", "diffusers s", "ratio", "ours GB", "diffusers GB", "relative error")
    for name in names:
        with torch.inference_mode():
            contest = CONTESTS[name](side)
            for _ in range(rounds):
                contest.round()
        table.add_row(*contest.row())
        del contest
    return table


def generation(
    pair: DiffusionPair, side: int, steps: int, rounds: int, prompt: str = "a lighthouse on a cliff"
) -> Table:
    """Pictures of `side` pixels by both: seconds of the processor on a CPU, of the clock on a GPU.

    One UNet call is the floor; a step has the sampler beside it, of `steps`; a picture has the text, one step
    and the decoder; image to image at one step has the encoder too. Medians of `rounds` interleaved rounds.
    """
    model = pair.ours.model
    clock = time.process_time if model.device.type == "cpu" else _device_clock(model.device)
    image = Image.effect_noise((side, side), 60).convert("RGB")
    common: dict[str, Any] = {"seed": 1, "guidance": 0.0}
    given = {"guidance_scale": 0.0, "generator": torch.Generator().manual_seed(1)}
    size = {"height": side, "width": side}
    with torch.inference_mode():
        floor = _floor(pair, side, prompt)
    calls: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "one UNet call, the floor": floor,
        f"{steps} steps and a decode": (
            lambda: pair.ours.text_to_image(prompt, size=(side, side), steps=steps, **common),
            lambda: pair.theirs(prompt, num_inference_steps=steps, **size, **given),
        ),
        "a picture of one step": (
            lambda: pair.ours.text_to_image(prompt, size=(side, side), steps=1, **common),
            lambda: pair.theirs(prompt, num_inference_steps=1, **size, **given),
        ),
        "image to image, one step": (
            lambda: pair.ours.image_to_image(image, prompt, strength=0.5, steps=2, **common),
            lambda: pair.image_to_image(prompt, image=image, strength=0.5, num_inference_steps=2, **given),
        ),
    }
    table = Table(
        f"{model.name}, {side}x{side}, {model.dtype}", "ours s", "diffusers s", "ratio", "ours per s"
    )
    medians: dict[str, list[float]] = {}
    for name, sides in calls.items():
        seconds: list[list[float]] = [[], []]
        for number in range(rounds + 1):
            for place, call in enumerate(sides):
                gc.collect()
                begun = clock()
                with torch.inference_mode():
                    call()
                if number:  # the first warms up
                    seconds[place].append(clock() - begun)
        medians[name] = [statistics.median(each) for each in seconds]
    many, one = (medians[name] for name in list(medians)[1:3])
    step = [max((a - b) / (steps - 1), 1e-9) for a, b in zip(many, one, strict=True)]
    for name, (ours, theirs) in {**medians, "a step": step}.items():
        table.add_row(name, f"{ours:.3f}", f"{theirs:.3f}", f"{ours / theirs:.3f}", f"{1 / ours:.2f}")
    return table


def _floor(pair: DiffusionPair, side: int, prompt: str) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """One call of either UNet, as a picture's only step makes it."""
    model = pair.ours.model
    settings = settle(model.defaults, guidance=0.0)
    task = Task(prompts=(prompt,), negative="", settings=settings, size=(side, side), seeds=(1,))
    condition, _ = conditions(model, task)
    x = torch.randn(1, 4, side // 8, side // 8).to(model.device, model.dtype)
    times = torch.tensor([999.0], device=model.device)
    added = {}
    if condition.added is not None:
        pooled = condition.added[:, : -6 * 256]
        sizes = torch.tensor([[side, side, 0, 0, side, side]], device=model.device)
        added = {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": sizes}}
    return (
        lambda: model.call(
            x, times, condition.context, labels=None, added=condition.added, time_condition=None
        ),
        lambda: pair.theirs.unet(x, times, condition.context, **added),
    )


def _device_clock(device: torch.device) -> Callable[[], float]:
    def now() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return now
