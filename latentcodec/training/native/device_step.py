"""A whole training step that stays on the device, so that a CUDA graph can hold it.

    crops ─► analysis, entropy model, synthesis ─► loss ─► gradients ─► clip ─► Muon, Adam ─► bounds, average
                                                      └───────────────────────────────► sums of the parts

    prepare: [compile two parts] ─► steps on a side stream ─► capture ─► all tensors as they were before
    step():  the learning rate and what else changes go into tensors, then one replay

On a GPU that takes half of the time that launching each operation does. Whatever fails in `prepare` is warned
of and left out: the compiled parts, the graph.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from latentcodec.nn.native.model import NativeModel
from latentcodec.nn.native.transform import LARGEST_LOG_SCALE, NARROWEST_STEP, WIDEST_STEP, initial_log_gain
from latentcodec.nn.perceptual import visible_difference
from latentcodec.training.native.device_pictures import DevicePictures, stratified_levels
from latentcodec.training.native.losses import rate_distortion_loss
from latentcodec.training.native.settings import TrainingConfig
from latentcodec.training.optimiser import Optimiser

PARTS = ("loss", "bpp", "mse", "ms_ssim", "visible", "norm")
_STEPS_BEFORE_CAPTURE = 3  # after them memory is allocated and kernels are chosen


class Float32Transforms(TorchFunctionMode):
    """Makes convolutions in float32 that precise, without TF32, and those of 1x1 matrix products: quicker."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.conv2d and args[0].dtype == torch.float32:
            x, weight = args[:2]
            if not torch.is_autocast_enabled(x.device.type):
                if len(args) == 2 and not kwargs and weight.shape[2:] == (1, 1):
                    return (x.movedim(1, -1) @ weight.flatten(1).t()).movedim(-1, 1)
                with torch.backends.cudnn.flags(
                    enabled=True,
                    benchmark=torch.backends.cudnn.benchmark,
                    deterministic=torch.backends.cudnn.deterministic,
                    allow_tf32=False,
                ):
                    return func(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


class DeviceStep:
    """A training step over a model, its moving average and its optimiser, whose tensors it changes."""

    def __init__(
        self,
        model: NativeModel,
        average: dict[str, Tensor],
        optimiser: Optimiser,
        pictures: DevicePictures,
        config: TrainingConfig,
    ) -> None:
        self.model, self.optimiser, self.pictures, self.config = model, optimiser, pictures, config
        device = self.device = pictures.device
        own = model.state_dict()
        self._values, self._averages = [own[name] for name in average], list(average.values())
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        # What changes from step to step, where a graph can read it.
        self._rate, self._following, self._pull = (torch.zeros((), device=device) for _ in range(3))
        self._sums = torch.zeros(len(PARTS), device=device)
        optimiser.prepare_device_step(self._rate)
        uniform = initial_log_gain(model.config.transform.latents)
        self._lowest = (uniform - math.log(WIDEST_STEP)).to(device)
        self._highest = (uniform - math.log(NARROWEST_STEP)).to(device)
        self._difference: Callable[[Tensor, Tensor], Tensor] = visible_difference
        self._graph: torch.cuda.CUDAGraph | None = None

    @property
    def captured(self) -> bool:
        """Whether steps are replays of a CUDA graph."""
        return self._graph is not None

    def step(self, rate: float, following: float, pull: float) -> None:
        """Take a step, without waiting for it.

        rate: the learning rate; following: the share of the way to the new weights that the average goes;
        pull: of the rate on hyperlatents.
        """
        self._rate.fill_(rate)
        self._following.fill_(following)
        self._pull.fill_(pull)
        if self._graph is None:
            self._take()
        else:
            self._graph.replay()

    def take_sums(self) -> dict[str, float]:
        """The sums of the loss's parts and of the gradients' norm over the steps since the last call.

        Waits for the device.
        """
        sums = dict(zip(PARTS, self._sums.tolist(), strict=True))
        self._sums.zero_()
        return sums

    def kept(self) -> list[Tensor]:
        """Copies of all that steps change, for `go_back`."""
        return [tensor.clone() for tensor in self._changing()]

    @torch.no_grad()
    def go_back(self, kept: list[Tensor]) -> None:
        """Put back what `kept` gave. Moments that did not exist then become zero, as they begin."""
        changing = self._changing()
        for tensor, before in zip(changing, kept, strict=False):
            tensor.copy_(before)
        for tensor in changing[len(kept) :]:
            tensor.zero_()

    def prepare(self) -> None:
        """Compile and capture, as device and configuration have it. No tensor of training is changed."""
        before = self.kept()
        self._rate.fill_(0.0)
        self._pull.fill_(1.0)
        if self.config.compile:
            self._try("compiling parts of the step", self._compile, self._undo_compile)
        if self.device.type == "cuda":
            self._try("capturing the step in a CUDA graph", self._capture, self._undo_capture)
        self._undo()
        self.go_back(before)
        self._sums.zero_()

    def _changing(self) -> list[Tensor]:
        return self._values + self._averages + self.optimiser.moments()

    def _try(self, what: str, attempt: Callable[[], None], undo: Callable[[], None]) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # PyTorch's own: that Adam is not captured yet, and others
                attempt()
        except Exception as error:  # noqa: BLE001 - compilers and drivers raise anything
            first = (str(error).splitlines() or [""])[0] or type(error).__name__
            warnings.warn(f"{what} failed ({first}): training goes on without it, slower", stacklevel=3)
            undo()

    def _compile(self) -> None:
        entropy = self.model.entropy
        self._take()  # constants are on the device from here on
        entropy.relaxed_bits = torch.compile(entropy.relaxed_bits, dynamic=False)  # type: ignore[method-assign]
        self._difference = torch.compile(visible_difference, dynamic=False)
        self._take()

    def _undo_compile(self) -> None:
        self.model.entropy.__dict__.pop("relaxed_bits", None)
        self._difference = visible_difference
        self._undo()

    def _capture(self) -> None:
        aside = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream(self.device))
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=False, allow_tf32=True):
            with torch.cuda.stream(aside):
                for _ in range(_STEPS_BEFORE_CAPTURE):
                    self._take()
            torch.cuda.current_stream(self.device).wait_stream(aside)
            torch.cuda.synchronize(self.device)
            torch.cuda.empty_cache()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.device(self.device), torch.cuda.graph(graph):
                self._take()
        graph.replay()
        torch.cuda.synchronize(self.device)
        self._graph = graph

    def _undo_capture(self) -> None:
        self._graph = None
        self._undo()

    def _undo(self) -> None:
        """No half of a step is left."""
        for parameter in self._parameters:
            parameter.grad = None

    def _take(self) -> None:
        self.update(self.pictures.batch(self.config.batch), stratified_levels(self.config.batch, self.device))

    def update(self, x: Tensor, level: Tensor) -> None:
        """A step on these crops (B, 3, H, W) and levels (B,), at the rate of the last `step`."""
        config, model = self.config, self.model
        model.entropy.hyper_pull = cast(float, self._pull)
        # Without autocast's cache: a captured step must round its weights anew in every replay.
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.autocast, cache_enabled=False):
            with Float32Transforms():
                y = model.analysis(x, level)
            latents, bits_y, bits_z = model.entropy(y, level)
            with Float32Transforms():
                decoded = model.synthesis(latents, level)
        loss, parts = rate_distortion_loss(
            x, decoded, bits_y + bits_z, level, config.structure, config.visible, self._difference
        )
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, config.clip)
        self.optimiser.device_step(self._rate)
        with torch.no_grad():
            model.analysis.log_gain.clamp_(min=self._lowest)
            model.synthesis.log_gain.clamp_(max=self._highest)
            model.synthesis.log_scale.clamp_(max=LARGEST_LOG_SCALE)
            ways = torch._foreach_sub(self._values, self._averages)
            torch._foreach_mul_(ways, self._following)
            torch._foreach_add_(self._averages, ways)
            self._sums += torch.stack([*(parts[name] for name in PARTS[:-1]), norm])
