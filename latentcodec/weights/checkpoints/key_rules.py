"""From a network's own tensor names to those of a file, and its tensors from there, strictly.

our name ─► KeyRules ─► their name, change ─► Checkpoint ─► tensor of our shape
                                                  └─ what is missing, left over or misshapen: one error

The map goes forward, from the names that the network has: some layouts (averaged weights, whose names lost
their dots) cannot be inverted. The tables are in key_tables.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from latentcodec.errors import InvalidWeights
from latentcodec.weights.checkpoints.checkpoint import Checkpoint, Shape, floating

LISTED = 20  # names that an error lists of each kind; it counts the rest

Renames = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Change:
    """What a layout does to a tensor, undone: its effect on shapes, and on values."""

    name: str
    shape: Callable[[Shape, Shape], Shape]  # (stored, needed) -> what comes out
    apply: Callable[[Tensor, Shape], Tensor]


def _ones_apart(stored: Shape, needed: Shape) -> Shape:
    """A 1x1 convolution and a linear layer hold the same matrix."""
    long, short = (stored, needed) if len(stored) > len(needed) else (needed, stored)
    return needed if long == short + (1,) * (len(long) - len(short)) else stored


def _third(index: int) -> Change:
    """One of query, key and value, stored one above the other."""

    def shape(stored: Shape, _: Shape) -> Shape:
        return (stored[0] // 3, *stored[1:]) if stored and stored[0] % 3 == 0 else stored

    return Change(f"third {index}", shape, lambda tensor, _: tensor.chunk(3)[index])


MATRIX = Change("matrix", _ones_apart, lambda tensor, needed: tensor.reshape(needed))
TRANSPOSE = Change("transpose", lambda stored, _: stored[::-1], lambda tensor, _: tensor.t().contiguous())
QUERY, KEY, VALUE = (_third(index) for index in range(3))


@dataclass(frozen=True)
class Block:
    """Names that begin with `ours` begin with `theirs` in the file; `inner` renames what follows it."""

    ours: str
    theirs: str
    inner: Renames = ()


@dataclass(frozen=True)
class KeyRules:
    """One layout's names for one network.

    blocks: the longest `ours` that fits counts. changes: by a pattern that fits our whole name. ignored:
    patterns of their whole names that the network has no use for; nothing else may be left over.
    """

    layout: str
    blocks: tuple[Block, ...] = (Block("", ""),)
    changes: tuple[tuple[str, Change], ...] = ()
    ignored: tuple[str, ...] = ()

    def name(self, ours: str) -> str:
        """Their name for a tensor. Raises KeyError where the layout has none."""
        fitting = [block for block in self.blocks if ours.startswith(block.ours)]
        if not fitting:
            raise KeyError(ours)
        block = max(fitting, key=lambda block: len(block.ours))
        rest = ours.removeprefix(block.ours)
        for mine, yours in block.inner:
            if rest.startswith(mine):
                rest = yours + rest.removeprefix(mine)
                break
        return block.theirs + rest

    def change(self, ours: str) -> Change | None:
        """What has to be done to their tensor, if anything."""
        return next((change for pattern, change in self.changes if re.fullmatch(pattern, ours)), None)

    def without(self, *names: str) -> KeyRules:
        """The same, for a network that lacks what the file has under these names (patterns)."""
        return replace(self, ignored=(*self.ignored, *names))


def read_tensors(
    checkpoint: Checkpoint, shapes: Mapping[str, Shape], rules: KeyRules, title: str
) -> dict[str, Tensor]:
    """A network's tensors by our names, as the file stores them (mapped, in its dtype).

    shapes: those of the network. title: its name in messages. Raises InvalidWeights that lists every
    tensor that is missing, left over or of another shape (LISTED of each; the rest are counted).
    """
    names = check_names(checkpoint, shapes, rules, title)
    tensors = {}
    for ours, name in names.items():
        tensor, change = floating(checkpoint, name).detach(), rules.change(ours)
        tensors[ours] = change.apply(tensor, shapes[ours]) if change else tensor
    return tensors


def check_names(
    checkpoint: Checkpoint, shapes: Mapping[str, Shape], rules: KeyRules, title: str
) -> dict[str, str]:
    """Their name of each of our tensors; reads no values. Arguments and errors are those of read_tensors."""
    names = {ours: rules.name(ours) for ours in shapes}
    missing = sorted(name for name in set(names.values()) if name not in checkpoint)
    left_over = sorted(
        name
        for name in set(checkpoint) - set(names.values())
        if not any(re.fullmatch(pattern, name) for pattern in rules.ignored)
    )
    misshapen = []
    for ours, name in names.items():
        if name in checkpoint:
            stored, change = checkpoint.shape(name), rules.change(ours)
            if (change.shape(stored, shapes[ours]) if change else stored) != shapes[ours]:
                misshapen.append(f"{name} is {_sides(stored)}, {ours} of the network {_sides(shapes[ours])}")
    wrong = [
        listed(fault, faulty)
        for fault, faulty in (
            ("missing", missing),
            ("unexpected", left_over),
            ("of another shape", sorted(misshapen)),
        )
        if faulty
    ]
    if wrong:
        raise InvalidWeights(
            f"{checkpoint.path}: these are not the weights of the {title} ({rules.layout} layout): "
            + "; ".join(wrong)
        )
    return names


def check_finite(checkpoint: Checkpoint, names: Iterable[str], prefix: str) -> None:
    """Raise InvalidWeights for the first of these tensors with a NaN or an infinity, one at a time in memory.

    prefix: of their names in the file, for the message.
    """
    for name in names:
        values = floating(checkpoint, name).detach().to(torch.float32)
        if values.numel() and not torch.isfinite(torch.stack(torch.aminmax(values))).all():
            wrong = values.numel() - int(torch.isfinite(values).sum())
            raise InvalidWeights(
                f"{checkpoint.path}: {prefix}{name}: {wrong} of its {values.numel()} values are no finite "
                "numbers: the file is damaged, or was made in a precision too small for it; use another copy"
            )


def listed(words: str, names: Sequence[str]) -> str:
    """ "3 missing: a, b, c"; of more than LISTED names the rest are counted."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"{len(names)} {words}: {', '.join(names[:LISTED])}{more}"


def _sides(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "a single number"
