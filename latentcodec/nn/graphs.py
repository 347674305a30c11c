"""A network as CUDA graphs: its kernels recorded once for each shape of its inputs, then replayed.

    inputs ─► [first of these shapes: warm up, record] ─► copied into the recorded ones ─► replay ─► output

A UNet has a thousand small kernels, and starting each takes the CPU longer than a fast GPU needs for it: of a
model of one step that is most of the time. The weights must stay where they are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_WARM_UPS = 3  # libraries choose their kernels and take their memory before anything is recorded
_KEPT = 4  # graphs; each holds the network's peak of memory


@dataclass
class _Recorded:
    graph: Any
    inputs: dict[str, Tensor]
    output: Tensor


class Graphed:
    """A network that takes tensors (or None, or numbers) and gives one.

    reason: why it runs without graphs, where recording failed; None otherwise.
    """

    def __init__(self, network: Callable[..., Tensor]) -> None:
        self.network = network
        self.reason: str | None = None
        self._recorded: OrderedDict[tuple[Any, ...], _Recorded] = OrderedDict()

    def __call__(self, *arguments: Any, **options: Any) -> Tensor:
        """What the network gives; the output is the caller's own."""
        named = {str(place): value for place, value in enumerate(arguments)} | options
        tensors = {name: value for name, value in named.items() if isinstance(value, Tensor)}
        if self.reason is not None or not tensors or not all(each.is_cuda for each in tensors.values()):
            return self.network(*arguments, **options)
        key = tuple(
            (name, tuple(value.shape), value.dtype, value.device) if name in tensors else (name, value)
            for name, value in named.items()
        )
        if key not in self._recorded:
            try:
                recorded = self._record(named, tensors, len(arguments))
            except RuntimeError as error:
                self.reason = f"CUDA graphs are not used: {error}"
                return self.network(*arguments, **options)
            self._recorded[key] = recorded
            if len(self._recorded) > _KEPT:
                self._recorded.popitem(last=False)
        recorded = self._recorded[key]
        self._recorded.move_to_end(key)
        for name, tensor in tensors.items():
            recorded.inputs[name].copy_(tensor)
        recorded.graph.replay()
        return recorded.output.clone()

    def _record(self, named: dict[str, Any], tensors: dict[str, Tensor], places: int) -> _Recorded:
        inputs = {name: tensor.clone() for name, tensor in tensors.items()}
        filled = [(name, inputs.get(name, value)) for name, value in named.items()]
        arguments, options = [value for _, value in filled[:places]], dict(filled[places:])
        aside: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UPS):
                self.network(*arguments, **options)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = self.network(*arguments, **options)
        return _Recorded(graph, inputs, output)
