"""The entropy model as integers: what files are encoded and decoded with.

    z, level ─► features ─► step s: mean, row ─► code(rows, means) ─► residuals ─► y^ ─► context of step s + 1

`code` is the only difference between the two directions: an encoder quantises its latents around the means
and returns the residuals, a decoder reads them from the stream. Everything here is integers below 2^23 in
float32, or int64; the caller's autocast and matrix-product settings are switched off and restored
(latentcodec.nn.device.full_precision).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from latentcodec.errors import InvalidWeights
from latentcodec.nn.device import full_precision
from latentcodec.nn.integer import ACTIVATION_LIMIT, INTEGERS, IntegerLayer, interpolate_integers
from latentcodec.nn.layers import KNOTS
from latentcodec.nn.native.entropy_model import (
    FRACTION,
    MEAN_LIMIT,
    ROWS,
    STEPS,
    EntropyConfig,
    channel_order,
    context_step,
    from_cells,
    hyper_synthesis,
    layer_shapes,
    put_step,
    take_step,
)

STRIP_POSITIONS = 1024  # of a neighbourhood matrix

# Rows (rows, residual limit) of one step -> residuals, all flat int32 arrays of the positions that are coded.
Code = Callable[[int, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class RunnableLayer:
    """An IntegerLayer laid out for one device and dtype (float32, or int64 as the reference in tests)."""

    weight: Tensor  # (O, I * k * k)
    bias: Tensor  # (KNOTS, O) int64
    scale: Tensor  # (O, 1): 2^(gain - shift)
    shift: Tensor  # (O, 1) int64: shift - gain
    kernel: int

    @classmethod
    def prepare(cls, layer: IntegerLayer, device: torch.device, dtype: torch.dtype) -> RunnableLayer:
        shift = (layer.shift.long() - layer.gain)[:, None].to(device)
        return cls(
            layer.weight.flatten(1).to(device=device, dtype=dtype),
            layer.bias.long().to(device),
            1 / (torch.ones_like(shift) << shift).float(),  # exact on every device, which exp2 need not be
            shift,
            layer.weight.shape[-1],
        )

    def __call__(self, x: Tensor, level: int) -> Tensor:
        """x (1, I, H, W), integers in -127..127 -> (1, O, H, W), integers."""
        _, _, height, width = x.shape
        if self.kernel == 1:
            accumulator = self.weight @ x[0].flatten(1)
        else:
            # In strips of rows: a neighbourhood matrix of the whole plane would be large and slow.
            padded = F.pad(x[0], (1, 1, 1, 1))
            strip = max(1, STRIP_POSITIONS // width)
            accumulator = torch.cat(
                [
                    self.weight @ patches_3x3(padded[:, top : top + strip + 2])
                    for top in range(0, height, strip)
                ],
                1,
            )
        bias = interpolate_integers(self.bias, level)[:, None]
        if x.dtype == torch.int64:
            half = torch.ones_like(self.shift) << (self.shift - 1)
            out = (accumulator + bias + half) >> self.shift
        else:
            out = torch.floor((accumulator + bias.to(x.dtype)) * self.scale + 0.5)
        return out.view(1, -1, height, width)


def patches_3x3(padded: Tensor) -> Tensor:
    """(I, H + 2, W + 2) -> (I * 9, H * W): 3x3 neighbourhoods, in the order of a flattened weight."""
    windows = padded.unfold(1, 3, 1).unfold(2, 3, 1)  # (I, H, W, 3, 3)
    return windows.permute(0, 3, 4, 1, 2).reshape(padded.shape[0] * 9, -1)


class IntegerModel:
    """The integer half of a native model on one device.

    layers: name -> IntegerLayer; row_offset (KNOTS, C) and hyper_row (KNOTS, hyper): int32, in sixteenths of
    a row; log_table (MEAN_LIMIT + 1,): the context input of each latent magnitude.
    """

    def __init__(
        self,
        config: EntropyConfig,
        layers: dict[str, IntegerLayer],
        row_offset: Tensor,
        hyper_row: Tensor,
        log_table: Tensor,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        shapes = layer_shapes(config)
        if set(shapes) != set(layers):
            raise InvalidWeights(
                f"integer layers: missing {set(shapes) - set(layers)}, unexpected {set(layers) - set(shapes)}"
            )
        for name, (inputs, outputs, kernel, gain) in shapes.items():
            layer = layers[name]
            if layer.weight.shape != (outputs, inputs, kernel, kernel) or layer.gain != gain:
                raise InvalidWeights(
                    f"{name}: weight {tuple(layer.weight.shape)} and gain {layer.gain} are not "
                    f"{(outputs, inputs, kernel, kernel)} and {gain}"
                )
            layer.validate(name)
        for name, table, shape in (
            ("row_offset", row_offset, (KNOTS, config.latents)),
            ("hyper_row", hyper_row, (KNOTS, config.hyper)),
            ("log_table", log_table, (MEAN_LIMIT + 1,)),
        ):
            if table.shape != shape or table.dtype not in INTEGERS:
                raise InvalidWeights(f"{name}: {table.dtype} {tuple(table.shape)}, not integers {shape}")
        if int(log_table.max()) > ACTIVATION_LIMIT or int(log_table.min()) < 0:
            raise InvalidWeights(
                f"log_table: {int(log_table.min())}..{int(log_table.max())} is outside 0..{ACTIVATION_LIMIT}"
            )
        self.config, self.device, self.dtype = config, device, dtype
        self.layers = {name: RunnableLayer.prepare(layer, device, dtype) for name, layer in layers.items()}
        order = channel_order(config.latents)
        self.row_offset = row_offset[:, order].to(device)
        self.hyper_row = hyper_row.to(device)
        self.log_table = log_table.to(device=device, dtype=dtype)

    def hyper_rows(self, level: int, height: int, width: int) -> Tensor:
        """Table rows of z (hyper, height, width), int32: they depend on channel and level alone."""
        rows = self._row(interpolate_integers(self.hyper_row, level))
        return rows[:, None, None].expand(-1, height, width)

    @staticmethod
    def _row(sixteenths: Tensor) -> Tensor:
        return ((sixteenths.long() + FRACTION // 2) >> 4).clamp(0, ROWS - 1).to(torch.int32)

    def latents(self, z: Tensor, level: int, height: int, width: int, code: Code) -> Tensor:
        """Run the four steps.

        z (hyper, ceil(height/4), ceil(width/4)) int32. code(step, means, rows) gets int32 arrays (C, cells),
        means in sixteenths and rows 0..ROWS-1 (row 0: residual surely zero; also where the plane has no such
        position), and returns the residuals. Returns y^ (C, height, width) int32, in sixteenths, within
        +-MEAN_LIMIT.
        """
        with full_precision(self.device):
            hyper = z.to(device=self.device, dtype=self.dtype)[None]
            features = hyper_synthesis(self.layers, hyper, level)  # type: ignore[arg-type]
            _, _, rows_of_cells, columns_of_cells = features.shape
            cells = torch.zeros(
                (1, 4, self.config.latents, rows_of_cells, columns_of_cells),
                dtype=torch.int32,
                device=self.device,
            )
            inside = torch.zeros(
                (1, 4, 1, rows_of_cells, columns_of_cells), dtype=torch.bool, device=self.device
            )
            for position in range(4):
                inside[
                    :, position, :, : (height - position // 2 + 1) // 2, : (width - position % 2 + 1) // 2
                ] = True
            inside = inside.expand(cells.shape)
            offset = interpolate_integers(self.row_offset, level)[None, :, None, None]
            context: list[Tensor] = []
            for step in range(STEPS):
                mean, row = context_step(self.layers, step, features, context, level)  # type: ignore[arg-type]
                valid = take_step(inside, step)
                rows = self._row(row.long() + offset) * valid
                means = mean.to(torch.int32)
                shape = (self.config.latents, -1)
                residual = (
                    code(step, means.reshape(shape), rows.reshape(shape)).to(self.device).view(means.shape)
                )
                latent = (means + FRACTION * residual).clamp(-MEAN_LIMIT, MEAN_LIMIT) * valid
                put_step(cells, step, latent)
                magnitude = self.log_table[latent.abs().long()]
                context.append(torch.where(latent < 0, -magnitude, magnitude))
            return from_cells(cells)[0, :, :height, :width].contiguous()
