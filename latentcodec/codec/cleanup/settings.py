"""What a user asks of diffusion clean-up. Loads no PyTorch.

CleanupSettings ─► Codec(cleanup_settings=) ─► encode: the d chunk, and how much of it each tile bears
                                          └─► decode: the UNet, and all else where a file stores no chunk
"""

from __future__ import annotations

import operator
import os
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from latentcodec.codec.arguments import PathLike, number
from latentcodec.container.cleanup import MAX_PROMPT_TOKENS, MAX_SEED
from latentcodec.diffusion.presets import MATCHED, PRESETS
from latentcodec.errors import InvalidArgument
from latentcodec.nn.stable_diffusion.tokenizer import encode

if TYPE_CHECKING:
    from latentcodec.codec.cleanup.denoiser import CleanupDenoiser

__all__ = ["CleanupSettings"]


@dataclass(frozen=True, kw_only=True)
class CleanupSettings:
    """How an autoencoder's latents are cleaned up.

    unet: a diffusion model, by its name in the store or its path; or a denoiser of your own.
    limit: dB of PSNR that a tile may lose by it against the plain decode, 0 or more.
    preset: "matched", which takes its noise level from the error, or "seed-2022", the steps of 2022.
    prompt: what the picture shows, in words, for the model: up to 75 tokens of CLIP's.
    seed: of the noise, 0 to 2^32 - 1.
    """

    unet: PathLike | CleanupDenoiser
    limit: float = 0.0
    preset: str = MATCHED
    prompt: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises InvalidArgument for what a file cannot say."""
        if not isinstance(self.unet, str | os.PathLike) and not hasattr(self.unet, "predict"):
            raise InvalidArgument(
                f"clean-up UNet {self.unet!r}: give the name of a model in the store, a path, or a denoiser"
            )
        if not number("clean-up limit", self.limit) >= 0:
            raise InvalidArgument(f"clean-up limit {self.limit:g} dB: it must be 0 or more")
        if self.preset not in PRESETS:
            raise InvalidArgument(f"clean-up preset {self.preset!r}: use one of {', '.join(PRESETS)}")
        if not isinstance(self.prompt, str):
            raise InvalidArgument(f"clean-up prompt: it must be text, this is a {type(self.prompt).__name__}")
        if len(self.tokens) > MAX_PROMPT_TOKENS:
            raise InvalidArgument(
                f"clean-up prompt of {len(self.tokens)} tokens: the model reads up to {MAX_PROMPT_TOKENS}; "
                "shorten it"
            )
        try:
            seed = -1 if isinstance(self.seed, bool) else operator.index(self.seed)
        except TypeError:
            seed = -1
        if not 0 <= seed <= MAX_SEED:
            raise InvalidArgument(f"clean-up seed {self.seed!r}: it is a whole number from 0 to {MAX_SEED}")

    @cached_property
    def tokens(self) -> tuple[int, ...]:
        """The prompt as a file holds it: ids of CLIP's vocabulary, without start and end."""
        return tuple(encode(self.prompt))
