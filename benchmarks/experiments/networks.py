"""The networks beside diffusers' on the same weights: `python -m benchmarks networks` (needs diffusers).

random weights ─┬─► ours      ─┐  by turns, one thread, CPU seconds (other work on the machine
                └─► diffusers ─┴─ disturbs them least), medians, peak memory of a call
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor, nn

from latentcodec.errors import MissingDependency
from latentcodec.nn.stable_diffusion.autoencoder import SD_VAE, AutoencoderKL
from latentcodec.nn.stable_diffusion.unet import SD15, X4_UPSCALER, UNet

__all__ = ["CONTESTS", "Contest", "compare"]

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


def _on_meta(build: Callable[[], Any]) -> Any:
    with torch.device("meta"):
        return build()


def _pair(reference: Any, ours: Any) -> None:
    """The same random parameters in both, in memory once."""
    reference.to_empty(device="cpu")
    for parameter in reference.parameters():
        nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.2)
    for module in reference.modules():
        if isinstance(module, nn.GroupNorm | nn.LayerNorm):
            nn.init.ones_(module.weight)
    ours.load_state_dict(reference.state_dict(), assign=True)
    for network in (reference, ours):
        network.eval().requires_grad_(False)


def _diffusers() -> Any:
    try:
        return import_module("diffusers")
    except ImportError as error:
        raise MissingDependency("diffusers is not installed: pip install diffusers") from error


def unet(side: int) -> Contest:
    """SD 1.5's UNet, a batch of one."""
    reference = _on_meta(lambda: _diffusers().UNet2DConditionModel(cross_attention_dim=SD15.context))
    ours = _on_meta(lambda: UNet(SD15))
    _pair(reference, ours)
    x, context = torch.randn(1, 4, side, side), torch.randn(1, 77, SD15.context)
    return Contest(
        f"SD 1.5 UNet, latent {side}x{side}",
        lambda: ours(x, 500, context),
        lambda: reference(x, 500, context).sample,
    )


def x4_unet(side: int) -> Contest:
    """The x4 upscaler's UNet, a batch of one: half the memory of SD 1.5's."""
    config = X4_UPSCALER
    reference = _on_meta(
        lambda: _diffusers().UNet2DConditionModel(
            in_channels=config.inputs,
            block_out_channels=config.channels,
            down_block_types=("DownBlock2D", *["CrossAttnDownBlock2D"] * 3),
            up_block_types=(*["CrossAttnUpBlock2D"] * 3, "UpBlock2D"),
            only_cross_attention=config.cross_only,
            use_linear_projection=True,
            cross_attention_dim=config.context,
            num_class_embeds=config.classes,
        )
    )
    ours = _on_meta(lambda: UNet(config))
    _pair(reference, ours)
    x, context = torch.randn(1, config.inputs, side, side), torch.randn(1, 77, config.context)
    noise = torch.tensor([20])
    return Contest(
        f"x4 upscaler UNet, latent {side}x{side}",
        lambda: ours(x, 500, context, labels=noise),
        lambda: reference(x, 500, context, class_labels=noise).sample,
    )


def vae(side: int) -> Contest:
    """The decoder of SD's autoencoder."""
    levels = len(SD_VAE.channels)
    reference = _on_meta(
        lambda: _diffusers().AutoencoderKL(
            block_out_channels=SD_VAE.channels,
            layers_per_block=SD_VAE.blocks,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
        )
    )
    ours = _on_meta(lambda: AutoencoderKL(SD_VAE))
    _pair(reference, ours)
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
