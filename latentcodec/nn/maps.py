"""What networks do with maps of floats, whoever computes them: PyTorch with gradients, or numpy. No PyTorch.

x ─► [+ bias(level)] ─► leaky ─► conv1 ─► leaky ─► conv2 ─► + x            residual_block
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class FloatOperations(Protocol):
    """What the networks do with maps of floats besides their layers; a map may be a tensor or an array."""

    def leaky(self, x: Any) -> Any:
        """max(x, 0.1 x)."""

    def signed_log(self, x: Any) -> Any:
        """sign(x) log(1 + |x|)."""

    def unshuffle(self, x: Any, side: int) -> Any:
        """Space to depth: channel c at (r y + dy, r x + dx) becomes channel r^2 c + r dy + dx at (y, x)."""


def residual_block(
    leaky: Callable[[Any], Any],
    conv1: Callable[[Any], Any],
    conv2: Callable[[Any], Any],
    x: Any,
    bias: Any,
) -> Any:
    """x + conv2(leaky(conv1(leaky(x + bias))))."""
    return x + conv2(leaky(conv1(leaky(x + bias))))
