"""MiDaS's DPT-hybrid: the relative depth of a picture, which SD 2.0's depth model is conditioned on.

    picture 0..1 ─► picture_for_depth ─► DepthEstimator ─► depth (B,H,W)
                                                            └─► depth_condition ─► (B,1,h,w) in -1..1

    picture ─► backbone ─┬─ 1/4 ──────────────────────────────────────────────────────► fuse ─► head ─► depth
                         ├─ 1/8 ───────────────────────────────────────────────► fuse ───┘
                         └─ 1/16 ─► layer x 9 ─┬─► reassemble, 1/16 ────► fuse ───┘
                                               └─ layer x 3 ─► reassemble, 1/32 ─► fuse (the first)

    reassemble:  each token beside the class token ─► linear ─► gelu ─► plane ─► conv 1x1 [─► conv, stride 2]
    fuse:        x [+ residual(plane)] ─► residual ─► conv 1x1 ─► twice the size

Ranftl et al. 2021, "Vision Transformers for Dense Prediction", https://arxiv.org/abs/2103.13413. The names of
the parameters are those of transformers' `DPTForDepthEstimation` (is_hybrid). Two groups of them stand in the
published files and are not read for depth: `dpt.layernorm` and the first fusion's `residual_layer1`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentcodec.errors import InvalidArgument
from latentcodec.nn.stable_diffusion.vision_backbone import Backbone

PATCH = 16  # pixels of a token's side
GRAIN = 32  # sides are multiples of it: the coarsest plane is 1/32
TRAINED_SIDE = 384
MAX_SIDE = 4 * TRAINED_SIDE  # a picture longer than this is squeezed: attention grows with the square
HEAD_WIDTH = 32
FLATNESS = 1e-4  # depths that differ by less than this part of the nearest are rounding, and not stretched


@dataclass(frozen=True, kw_only=True)
class DepthConfig:
    """The sizes of a DPT-hybrid network."""

    stem: int = 64
    backbone_widths: tuple[int, int, int] = (256, 512, 1024)
    backbone_depths: tuple[int, int, int] = (3, 4, 9)
    norm_groups: int = 32
    width: int = 768
    layers: int = 12
    heads: int = 12
    feed_forward: int = 3072
    grid: int = TRAINED_SIDE // PATCH  # position embeddings along a side
    taps: tuple[int, int] = (9, 12)  # how many layers the two reassembled planes have seen
    reassembled_widths: tuple[int, int] = (768, 768)
    fusion_width: int = 256
    norm_epsilon: float = 1e-6  # of the transformer; timm's, with which it was trained (transformers: 1e-12)

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DepthConfig:
        """The inverse of to_dict."""
        sizes: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**sizes)


DPT_HYBRID = DepthConfig()


def picture_for_depth(picture: Tensor) -> Tensor:
    """(B, 3, H, W) in 0..1 -> the same at the size that the network was trained for, bicubic.

    The side whose scale is nearer to 1 becomes 384, the other keeps the aspect; both are rounded to
    multiples of 32, and lie in 32 to MAX_SIDE. (MiDaS's transform, "minimal".) Raises InvalidArgument for
    other shapes.
    """
    _check(picture, grain=1)
    height, width = picture.shape[2:]
    scale = min((TRAINED_SIDE / height, TRAINED_SIDE / width), key=lambda scale: abs(1 - scale))
    size = [min(max(round(scale * side / GRAIN) * GRAIN, GRAIN), MAX_SIDE) for side in (height, width)]
    resized = F.interpolate(picture.float(), size, mode="bicubic", align_corners=False, antialias=True)
    return resized.clamp(0, 1).to(picture.dtype)


def depth_condition(depth: Tensor, size: tuple[int, int]) -> Tensor:
    """Depth (B, H, W) -> (B, 1, h, w) at the latent's size, farthest -1, nearest 1; float32 at least.

    Bicubic, then stretched to the range, each picture for itself. Where all is equally far it is about 0.
    """
    wide = depth[:, None].to(torch.promote_types(depth.dtype, torch.float32))
    resized = F.interpolate(wide, size, mode="bicubic", align_corners=False)
    low, high = resized.amin((1, 2, 3), keepdim=True), resized.amax((1, 2, 3), keepdim=True)
    spread = torch.maximum(high - low, FLATNESS * high.abs()).clamp(min=torch.finfo(torch.float32).tiny)
    return (2 * resized - (low + high)) / spread


def _check(picture: Tensor, grain: int) -> None:
    sides = picture.shape[2:]
    if picture.ndim != 4 or picture.shape[1] != 3 or any(side % grain or not side for side in sides):
        raise InvalidArgument(
            f"picture: shape {tuple(picture.shape)}, expected (batch, 3, height, width)"
            + (f" with sides that are multiples of {grain}; use picture_for_depth" if grain > 1 else "")
        )


class DepthEstimator(nn.Module):
    """Pictures to relative inverse depth: larger is nearer, scale and shift are unknown."""

    def __init__(self, config: DepthConfig) -> None:
        super().__init__()
        self.config = config
        self.dpt: Any = nn.ModuleDict(
            {
                "embeddings": _Embeddings(config),
                "encoder": nn.ModuleDict(
                    {"layer": nn.ModuleList(_Layer(config) for _ in range(config.layers))}
                ),
                "layernorm": _norm(config),
            }
        )
        self.neck = _Neck(config)
        self.head = nn.ModuleDict({"head": _head(config.fusion_width)})

    def forward(self, picture: Tensor) -> Tensor:
        """(B, 3, H, W) in 0..1, sides multiples of 32 -> (B, H, W), at least 0.

        Raises InvalidArgument for other shapes.
        """
        _check(picture, GRAIN)
        # Not channels-last: its group norms on the CPU round two to three times as much, and it runs once.
        quarter, eighth, tokens = self.dpt["embeddings"](2 * picture - 1)
        planes = [quarter, eighth]
        for count, layer in enumerate(self.dpt["encoder"]["layer"], 1):
            tokens = layer(tokens)
            if count in self.config.taps:
                planes.append(tokens)
        height, width = (side // PATCH for side in picture.shape[2:])
        depth: Tensor = self.head["head"](self.neck(planes, height, width))
        return depth.squeeze(1)


class _Embeddings(nn.Module):
    """Picture -> features at 1/4 and 1/8, and the class token before the tokens at 1/16: (B, 1 + h w, C)."""

    def __init__(self, config: DepthConfig) -> None:
        super().__init__()
        self.grid = config.grid
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.position_embeddings = nn.Parameter(torch.zeros(1, 1 + config.grid**2, config.width))
        backbone = Backbone(config.stem, config.backbone_widths, config.backbone_depths, config.norm_groups)
        self.backbone = nn.ModuleDict({"bit": backbone})
        self.projection = nn.Conv2d(config.backbone_widths[-1], config.width, 1)

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        quarter, eighth, sixteenth = self.backbone["bit"](picture)
        plane = self.projection(sixteenth)
        tokens = torch.cat(
            [self.cls_token.expand(len(plane), -1, -1), plane.flatten(2).transpose(1, 2)], dim=1
        )
        return quarter, eighth, tokens + self._positions(*plane.shape[2:])

    def _positions(self, height: int, width: int) -> Tensor:
        """The embeddings of the positions, interpolated to another grid than the trained one."""
        if height == width == self.grid:
            return self.position_embeddings
        first, others = self.position_embeddings[:, :1], self.position_embeddings[:, 1:]
        plane = others.transpose(1, 2).reshape(1, -1, self.grid, self.grid)
        resized = F.interpolate(plane, (height, width), mode="bilinear", align_corners=False)
        return torch.cat([first, resized.flatten(2).transpose(1, 2)], dim=1)


class _Layer(nn.Module):
    """A transformer layer, norms first: (B, T, C) -> the same."""

    def __init__(self, config: DepthConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.layernorm_before = _norm(config)
        self.attention: Any = nn.ModuleDict(
            {
                "attention": nn.ModuleDict(
                    {name: nn.Linear(config.width, config.width) for name in ("query", "key", "value")}
                ),
                "output": nn.ModuleDict({"dense": nn.Linear(config.width, config.width)}),
            }
        )
        self.layernorm_after = _norm(config)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(config.width, config.feed_forward)})
        self.output = nn.ModuleDict({"dense": nn.Linear(config.feed_forward, config.width)})

    def forward(self, x: Tensor) -> Tensor:
        normed = self.layernorm_before(x)
        projections = self.attention["attention"]
        q, k, v = (
            projections[name](normed).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.attention["output"]["dense"](attended)
        change: Tensor = self.output["dense"](F.gelu(self.intermediate["dense"](self.layernorm_after(x))))
        return x + change


class _Neck(nn.Module):
    """Planes, coarsest last, of which the last two are still tokens -> one (B, fusion_width, H/2, W/2)."""

    def __init__(self, config: DepthConfig) -> None:
        super().__init__()
        same, halved = config.reassembled_widths
        # The first two stages have nothing to reassemble: their places give the others their numbers.
        layers = [nn.Identity(), nn.Identity(), _Plane(config.width, same), _Plane(config.width, halved, 2)]
        readouts = [nn.Identity(), nn.Identity(), _readout(config.width), _readout(config.width)]
        self.reassemble_stage: Any = nn.ModuleDict(
            {"layers": nn.ModuleList(layers), "readout_projects": nn.ModuleList(readouts)}
        )
        widths = (*config.backbone_widths[:2], *config.reassembled_widths)
        self.convs = nn.ModuleList(
            nn.Conv2d(width, config.fusion_width, 3, padding=1, bias=False) for width in widths
        )
        self.fusion_stage: Any = nn.ModuleDict(
            {"layers": nn.ModuleList(_Fusion(config.fusion_width) for _ in widths)}
        )

    def forward(self, planes: list[Tensor], height: int, width: int) -> Tensor:
        stage = self.reassemble_stage
        for index in (2, 3):
            first, others = planes[index][:, :1], planes[index][:, 1:]
            read = stage["readout_projects"][index](torch.cat([others, first.expand_as(others)], dim=-1))
            planes[index] = stage["layers"][index](read.transpose(1, 2).unflatten(2, (height, width)))
        features = [conv(plane) for conv, plane in zip(self.convs, planes, strict=True)][::-1]
        first_fusion, *fusions = self.fusion_stage["layers"]
        fused: Tensor = first_fusion(features[0])
        for fuse, feature in zip(fusions, features[1:], strict=True):
            fused = fuse(feature, fused)
        return fused


def _readout(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(2 * width, width), nn.GELU())


class _Plane(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.projection = nn.Conv2d(inputs, outputs, 1)
        self.resize = nn.Conv2d(outputs, outputs, 3, stride, padding=1) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        resized: Tensor = self.resize(self.projection(x))
        return resized


class _Fusion(nn.Module):
    """A plane, and what was fused of the coarser ones -> one of twice the size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(width, width, 1)
        self.residual_layer1 = _Residual(width)
        self.residual_layer2 = _Residual(width)

    def forward(self, plane: Tensor, coarser: Tensor | None = None) -> Tensor:
        x = plane if coarser is None else coarser + self.residual_layer1(plane)
        # The references project after doubling: the same, as both are linear, at four times the work.
        x = self.projection(self.residual_layer2(x))
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolution1 = nn.Conv2d(width, width, 3, padding=1)
        self.convolution2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.convolution2(F.relu(self.convolution1(F.relu(x))))
        return x + change


def _head(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, width // 2, 3, padding=1),
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
        nn.Conv2d(width // 2, HEAD_WIDTH, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(HEAD_WIDTH, 1, 1),
        nn.ReLU(),
    )


def _norm(config: DepthConfig) -> nn.LayerNorm:
    return nn.LayerNorm(config.width, eps=config.norm_epsilon)
