"""Generator: a diffusion model kept loaded, with a method for each pipeline.

    Generator.open(model) ─► .text_to_image(prompt) ─► Generated: Pillow images, what made them, latents
                             .image_to_image(...), .inpaint, .depth_to_image, .upscale

Pictures are made in batches; each has a seed of its own, and is the same alone or in a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict, Unpack

import torch
from PIL import Image
from torch import Tensor

from latentcodec.diffusion.samplers import Step
from latentcodec.errors import InvalidArgument
from latentcodec.generate.defaults import (
    DEPTH_TO_IMAGE,
    IMAGE_TO_IMAGE,
    INPAINT,
    NOISE_LEVEL,
    TEXT_TO_IMAGE,
    UPSCALE,
    Settings,
    settle,
    whole,
)
from latentcodec.generate.depth_to_image import PLANES as DEPTH_PLANES
from latentcodec.generate.depth_to_image import depth_to_image, estimate_depth
from latentcodec.generate.image_to_image import image_to_image
from latentcodec.generate.inpaint import composed, inpaint, read_mask
from latentcodec.generate.latents import (
    MAX_COUNT,
    check_size,
    preview,
    seeds_of,
    to_pixels,
    to_tensor,
)
from latentcodec.generate.live import Progress
from latentcodec.generate.models import Model, Offload, PathLike, open_model
from latentcodec.generate.parameters import Parameters
from latentcodec.generate.text_to_image import Task, need, text_to_image
from latentcodec.generate.to_codec import (
    Source,
    StoredLatents,
    StoredPicture,
    as_picture,
    begin_with,
    store_latents,
)
from latentcodec.generate.upscale import FACTOR, upscale
from latentcodec.nn.stable_diffusion.safety_checker import SafetyChecker, picture_for_checker
from latentcodec.weights.safety_checker import load_safety_checker

__all__ = ["MAX_BATCH", "Generated", "Generator", "Options", "Progress"]

MAX_BATCH = 4  # pictures at once on a GPU; on a CPU it is one, which is as fast and takes less memory


@dataclass(frozen=True)
class Generated:
    """What a call made.

    images: Pillow images, RGB. parameters: what made each of them. latents: (B, C, h, w), on the CPU, in the
    autoencoder's scale: what a file holds (to_codec). notes: what was said on the way, for people.
    """

    images: list[Image.Image]
    parameters: list[Parameters]
    latents: Tensor
    notes: tuple[str, ...] = ()


class Options(TypedDict, total=False):
    """What every pipeline takes; None, or nothing, is the model's default (generate/defaults.py).

    negative: what the pictures should not show; of no effect at a guidance of 1 or less. steps: of the whole
    schedule. guidance: how strongly the prompt counts; up to 1 costs one network call a step instead of two.
    rescale: 0 to 1, against the glare of strong guidance. sampler, spacing: names of defaults.py.
    karras: noise levels of Karras et al. (2022), for euler and dpm++2m. eta: 0 to 1, DDIM's noise.
    seed: of the first picture; None draws one, which the parameters say. count: pictures of each prompt.
    batch: how many at once. callback: called after each step; what it raises ends the run. preview: whether
    the progress that it gets has a picture.
    """

    negative: str
    steps: int | None
    guidance: float | None
    rescale: float
    sampler: str | None
    spacing: str | None
    karras: bool | None
    eta: float | None
    seed: int | None
    count: int
    batch: int | None
    callback: Callable[[Progress], None] | None
    preview: bool


class Generator:
    """A loaded model that makes pictures. Not for several threads at once: see live.Latest."""

    def __init__(self, model: Model, checker: SafetyChecker | None = None) -> None:
        """checker: withholds pictures that it flags; by default there is none."""
        self.model, self.checker = model, checker

    @classmethod
    def open(
        cls,
        model: PathLike,
        *,
        device: str = "auto",
        dtype: str = "auto",
        vae: PathLike | None = None,
        loras: Sequence[PathLike | tuple[PathLike, float]] = (),
        fast_decode: bool | PathLike = False,
        safety_checker: PathLike | None = None,
        prediction: str | None = None,
        family: str | None = None,
        compile: bool = False,
        offload: Offload = "auto",
    ) -> Generator:
        """Load a model.

        model: a name in the store, or a path: a .safetensors or .ckpt file, or a diffusers folder.
        device: "auto" (a GPU if there is one), "cpu", "cuda" or "cuda:N". dtype: "auto" (float16 on CUDA,
        else float32), "float16", "bfloat16" or "float32"; an autoencoder whose halves overflow is float32.
        vae: another autoencoder of the same latents. loras: files, or (file, weight), merged in this order.
        fast_decode: True or a path: pictures by a tiny autoencoder (TAESD), quicker and a little rougher.
        safety_checker: the user's own file or folder of Stable Diffusion 1.x's: pictures that it flags come
        out black, and the notes say so; off by default.
        prediction ("epsilon" or "v_prediction") and family override what was detected.
        compile: torch.compile the UNet, which takes minutes once. offload: "always" keeps the parts in the
        machine's memory and brings each to the GPU while it works; "auto" does so where they do not fit.

        Raises UnknownModel where there is no such model or a part of it is missing, InvalidWeights for
        damage, InvalidArgument for what does not go together, ModelError where memory runs out.
        """
        checker = None if safety_checker is None else load_safety_checker(safety_checker)
        loaded = open_model(
            model,
            device=device,
            dtype=dtype,
            vae=vae,
            loras=loras,
            fast_decode=fast_decode,
            prediction=prediction,
            family=family,
            compile=compile,
            offload=offload,
        )
        return cls(loaded, checker)

    def text_to_image(
        self, prompt: str | Sequence[str], *, size: tuple[int, int] | None = None, **options: Unpack[Options]
    ) -> Generated:
        """Pictures of a prompt, or of several, in their order.

        size: (width, height) in pixels, any; by default the square that the model was trained for.
        Raises InvalidArgument and ModelError.
        """
        side = self.model.defaults.side
        wanted = check_size((side, side) if size is None else size)
        return self._make(
            TEXT_TO_IMAGE, prompt, wanted, lambda task: text_to_image(self.model, task), **options
        )

    def image_to_image(
        self,
        image: Source,
        prompt: str | Sequence[str],
        *,
        strength: float | None = None,
        size: tuple[int, int] | None = None,
        **options: Unpack[Options],
    ) -> Generated:
        """Pictures of a prompt that resemble `image`.

        image: a Pillow image, uint8 (H, W), (H, W, 3) or (H, W, 4), or a file's path; an .lci file of the
        same latents is not decoded: the run begins with those that it stores. strength: 0 to 1, the share of
        the steps that is run; 1 forgets the image. size: what the image is resized to; by default its own.
        Raises InvalidArgument (a strength that leaves no step), ModelError and what reading a picture raises.
        """
        source, notes = begin_with(self.model, image, size), []
        if isinstance(source, StoredLatents):
            wanted, latents = source.size, torch.from_numpy(source.latents)[None].to(self.model.state_dtype)
            notes.append("it began with the latents of the file, not with its picture")
        else:
            pixels = to_pixels(source, size)
            wanted, latents = (pixels.shape[1], pixels.shape[0]), self.model.encode(pixels)
        made = self._make(
            IMAGE_TO_IMAGE,
            prompt,
            wanted,
            lambda task: image_to_image(self.model, task, latents),
            strength=self._strength(strength),
            **options,
        )
        return replace(made, notes=(*made.notes, *notes))

    def inpaint(
        self,
        image: Source,
        mask: Any,
        prompt: str | Sequence[str],
        *,
        strength: float | None = None,
        size: tuple[int, int] | None = None,
        **options: Unpack[Options],
    ) -> Generated:
        """Pictures of `image` with the prompt shown where `mask` is white; elsewhere the pixels are its own.

        Models made for it (nine input channels) see what is around; others are guided by masking.
        mask: a Pillow image, or (H, W) of bool or uint8; one of another size is resized by nearest
        neighbours, which the notes say. strength: below 1 it begins with what is there; by default 1.
        Raises as image_to_image does, and InvalidArgument for a mask that is empty.
        """
        pixels = to_pixels(as_picture(self.model, image), size)
        wanted = (pixels.shape[1], pixels.shape[0])
        inside, notes = read_mask(mask, wanted)
        made = self._make(
            INPAINT,
            prompt,
            wanted,
            lambda task: inpaint(self.model, task, pixels, inside),
            strength=1.0 if strength is None else strength,
            **options,
        )
        images = [composed(image, pixels, inside) for image in made.images]
        return replace(made, images=images, notes=(*made.notes, *notes))

    def depth_to_image(
        self,
        image: Source,
        prompt: str | Sequence[str],
        *,
        strength: float | None = None,
        size: tuple[int, int] | None = None,
        **options: Unpack[Options],
    ) -> Generated:
        """Pictures of a prompt with the shapes of `image`: its depth, as MiDaS sees it.

        Arguments and errors are those of image_to_image; at a strength of 1 the colours are forgotten.
        """
        need(self.model, DEPTH_PLANES, "depth to image")
        pixels = to_pixels(as_picture(self.model, image), size)
        like = torch.empty(0, dtype=self.model.dtype, device=self.model.device)
        depth = estimate_depth(self.model, to_tensor(pixels, self.model.downscale, like))
        latents = self.model.encode(pixels)
        return self._make(
            DEPTH_TO_IMAGE,
            prompt,
            (pixels.shape[1], pixels.shape[0]),
            lambda task: depth_to_image(self.model, task, latents, depth),
            strength=self._strength(strength),
            **options,
        )

    def upscale(
        self,
        image: Source,
        prompt: str | Sequence[str] = "",
        *,
        noise_level: int = NOISE_LEVEL,
        **options: Unpack[Options],
    ) -> Generated:
        """`image` with four times the width and height; a prompt may say what it shows.

        noise_level: 0 to 350, how much noise the image is given first; more lets the model invent more.
        Large images go through in tiles, in bounded memory. Raises InvalidArgument, ModelError and what
        reading a picture raises.
        """
        pixels = to_pixels(as_picture(self.model, image))
        wanted = check_size((pixels.shape[1] * FACTOR, pixels.shape[0] * FACTOR))
        return self._make(
            UPSCALE,
            prompt,
            wanted,
            lambda task: upscale(self.model, task, pixels, noise_level),
            noise_level=noise_level,
            **options,
        )

    def _strength(self, strength: float | None) -> float:
        return self.model.defaults.strength if strength is None else strength

    def _make(
        self,
        name: str,
        prompt: str | Sequence[str],
        size: tuple[int, int],
        pipeline: Callable[[Task], Tensor],
        *,
        strength: float | None = None,
        noise_level: int | None = None,
        **options: Unpack[Options],
    ) -> Generated:
        """Run a pipeline batch by batch, and decode what it gives. name: of defaults.PIPELINES."""
        model = self.model
        unknown = sorted(set(options) - Options.__annotations__.keys())
        if unknown:
            raise InvalidArgument(f"{unknown[0]}: {name} takes no such option", tuple(unknown))
        given: object = prompt
        prompts = [given] if isinstance(given, str) else list(given) if isinstance(given, Sequence) else []
        if not prompts or not all(isinstance(text, str) for text in prompts):
            raise InvalidArgument("prompt: it is a text, or a sequence of at least one")
        count = whole("count", options.get("count", 1), 1, MAX_COUNT)
        seeds = seeds_of(options.get("seed"), count * len(prompts))
        prompts = [text for text in prompts for _ in range(count)]
        settings = settle(
            model.defaults,
            steps=options.get("steps"),
            guidance=options.get("guidance"),
            rescale=options.get("rescale", 0.0),
            sampler=options.get("sampler"),
            spacing=options.get("spacing"),
            karras=options.get("karras"),
            eta=options.get("eta"),
            strength=strength,
        )
        usual = MAX_BATCH if model.device.type == "cuda" else 1
        at_once = whole("batch", options.get("batch") or usual, 1, MAX_COUNT)
        batches = range(0, len(seeds), at_once)
        images: list[Image.Image] = []
        latents: list[Tensor] = []
        notes = list(model.notes)
        for number, first in enumerate(batches):
            own = slice(first, first + at_once)
            task = Task(
                prompts=tuple(prompts[own]),
                negative=options.get("negative", ""),
                settings=settings,
                size=size,
                seeds=seeds[own],
                callback=self._reporter(settings, number, len(batches), options),
            )
            sampled = pipeline(task).clone()  # a plain tensor, where that one is of inference mode
            decoded = model.decode(sampled, size)
            for index, image in enumerate(decoded):
                if self._flagged(image):  # nothing of it leaves, neither as a picture nor as latents
                    decoded[index] = Image.new("RGB", image.size)
                    sampled[index] = 0
                    notes.append(f"the safety checker withheld the picture of seed {task.seeds[index]}")
            images += decoded
            latents.append(sampled.float().cpu() if model.state_dtype == torch.float32 else sampled.cpu())
        parameters = [
            replace(self._parameters(settings, options), prompt=text, seed=seed, pipeline=name,
                    width=size[0], height=size[1], strength=strength, noise_level=noise_level)
            for text, seed in zip(prompts, seeds, strict=True)
        ]  # fmt: skip
        without_graphs = getattr(model.call, "reason", None)
        notes += [without_graphs] if without_graphs else []
        return Generated(images, parameters, torch.cat(latents), tuple(notes))

    def _flagged(self, image: Image.Image) -> bool:
        """Whether the safety checker, which runs on the CPU, flags a picture."""
        if self.checker is None:
            return False
        with torch.inference_mode():
            flagged: list[bool] = self.checker(picture_for_checker(image, self.checker.config.side))
        return flagged[0]

    def _parameters(self, settings: Settings, options: Options) -> Parameters:
        """What all pictures of a call have in common."""
        model = self.model
        return Parameters(
            negative=options.get("negative", ""),
            steps=settings.steps,
            guidance=settings.guidance,
            rescale=settings.rescale or None,
            sampler=settings.sampler,
            spacing=settings.spacing,
            karras=settings.karras or None,
            eta=settings.eta or None,
            model=model.name,
            fingerprint=model.fingerprint,
            prediction=model.detected.prediction,
            vae=model.vae,
            loras=model.loras,
            fast_decode=model.fast is not None or None,
            dtype=str(model.dtype).removeprefix("torch."),
        )

    def store(self, made: Generated, index: int = 0, **rate: Any) -> StoredPicture:
        """One of the pictures as an .lci file: its latents themselves, with its parameters as text.

        rate: quality, a target, and effort, as for Codec.encode. Raises as Codec.encode does.
        """
        parameters = made.parameters[index]
        size = made.images[index].size
        return store_latents(self.model, made.latents[index], size, text=parameters.texts(), **rate)

    def _reporter(
        self, settings: Settings, number: int, batches: int, options: Options
    ) -> Callable[[Step], None] | None:
        callback, model = options.get("callback"), self.model
        if callback is None:
            return None

        def report(step: Step) -> None:
            image = None
            if options.get("preview"):
                fast = None if model.fast is None else model.fast.module
                with model.on_device(fast):
                    image = preview(step.denoised, model.family, fast)
            callback(Progress(number * step.steps + step.index + 1, batches * step.steps, image))

        return report
