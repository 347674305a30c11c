"""The network of a fitted prior: how far to trust what the adaptive coder expects of a latent.

    surroundings (prior_context.py) ─► in (one for each kind of step) ─► leaky clamp ─► mid ─► state
    then for each group of channels:
        state + own(what is expected of the group) ─► leaky clamp ─► out ─► changes of level and mean
        state + seen(what the group turned out to be) ─► state

All of it at single positions, so that every layer is a matrix product. The functions are written once over
layers that are either trainable (training/prior/model.py) or integer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from latentcodec.codec.values.adaptive import MAX_GROUPS
from latentcodec.codec.values.adaptive_order import Kind
from latentcodec.nn.integer import leaky_clamp

SURROUNDINGS = 11  # inputs a channel: three magnitudes, and four neighbours' values and residuals
EXPECTED = 5  # inputs a channel of what is expected of it
SEEN = 3  # inputs a channel of what it was
OUTPUT_GAIN = 2  # outputs come in 1/64
STATE_LIMIT = 1 << 14  # of the state: its sums stay exact in float32

Layer = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class PriorConfig:
    """Sizes of a prior's network: latent channels of the autoencoder, and the width of the state."""

    latents: int
    hidden: int = 96

    @property
    def groups(self) -> tuple[slice, ...]:
        """The groups of channels that are coded together, as the adaptive coder has them."""
        size = -(-self.latents // MAX_GROUPS)
        return tuple(slice(first, min(first + size, self.latents)) for first in range(0, self.latents, size))


def layer_shapes(config: PriorConfig) -> dict[str, tuple[int, int, int]]:
    """Name -> (inputs, outputs, gain) of every layer."""
    hidden = config.hidden
    shapes = {f"{kind.name.lower()}_in": (SURROUNDINGS * config.latents, hidden, 0) for kind in Kind}
    shapes["mid"] = (hidden, hidden, 0)
    for number, members in enumerate(config.groups):
        size = members.stop - members.start
        shapes[f"own{number}"] = (EXPECTED * size, hidden, 0)
        shapes[f"out{number}"] = (hidden, 2 * size, OUTPUT_GAIN)
        if members.stop < config.latents:
            shapes[f"seen{number}"] = (SEEN * size, hidden, 0)
    return shapes


def begin(layers: Mapping[str, Layer], kind: Kind, surroundings: Tensor, level: Tensor) -> Tensor:
    """The state (B, hidden, 1, n) of positions of a kind; surroundings (B, inputs, 1, n) in -127..127."""
    h = leaky_clamp(layers[f"{kind.name.lower()}_in"](surroundings, level))
    return layers["mid"](h, level).clamp(-STATE_LIMIT, STATE_LIMIT)


def judge(
    layers: Mapping[str, Layer], group: int, state: Tensor, own: Tensor, level: Tensor
) -> tuple[Tensor, Tensor]:
    """Changes (B, channels of the group, 1, n) in 1/64: of levels, and of means in expected magnitudes."""
    h = leaky_clamp(state + layers[f"own{group}"](own, level))
    wider, higher = layers[f"out{group}"](h, level).chunk(2, 1)
    return wider, higher


def go_on(layers: Mapping[str, Layer], group: int, state: Tensor, seen: Tensor, level: Tensor) -> Tensor:
    """The state after a group; any but the last."""
    return (state + layers[f"seen{group}"](seen, level)).clamp(-STATE_LIMIT, STATE_LIMIT)
