"""The identity of weights: a hash of their content, whatever file they came in.

tensors by our names, sorted ─► name, shape, values as little-endian float32 ─► SHA-256

One tensor at a time is converted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """64 hexadecimal digits that name the weights' content.

    Neither the order nor the layout of a file counts, nor its dtype where the values are the same: float16
    weights and their exact copy in float32 have one fingerprint, weights rounded to float16 have another.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().to("cpu", torch.float32).contiguous()
        digest.update(f"{name} {'x'.join(map(str, tensor.shape))}\n".encode())
        values = tensor.numpy()
        digest.update(np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<"), copy=False)).data)
    return digest.hexdigest()
