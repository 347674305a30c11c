"""A run's checkpoint on disk: one file, or parts of moderate size that are replaced as one.

    state ─► torch.save ─► RUN/checkpoint.pt                                      one file
                       └─► RUN/checkpoint-12000-3f2a9c01-0.part, -1.part, ...     cut every PART_BYTES
                           RUN/checkpoint.json   names the parts: replaced last, and the checkpoint is another

A reader finds the old checkpoint or the new one, whenever the writer is killed: parts of the new one have
names of their own, and old ones are removed when nothing names them any more. Where both files are there,
checkpoint.json is the one that counts.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentcodec.atomic import write_atomically

CHECKPOINT = "checkpoint.pt"
PARTS = "checkpoint.json"
PART_BYTES = 16_000_000
_PART_NAME = re.compile(r"checkpoint-\d+-[0-9a-f]{8}-\d+\.part")
_ATTEMPTS = 3  # to read parts while a run replaces them


def write_checkpoint(folder: Path, state: dict[str, Any], *, in_parts: bool) -> None:
    """Make `state` the folder's checkpoint, in one file or in parts of at most PART_BYTES. Raises OSError.

    Tensors may be on any device; they are written as those of the host, contiguous.
    """
    buffer = io.BytesIO()
    torch.save(_on_host(state), buffer)
    data = buffer.getbuffer()
    if in_parts:
        digest = hashlib.sha256(data).hexdigest()
        pieces = [data[start : start + PART_BYTES] for start in range(0, len(data), PART_BYTES)]
        names = [f"checkpoint-{state['step']}-{digest[:8]}-{index}.part" for index in range(len(pieces))]
        for name, piece in zip(names, pieces, strict=True):
            write_atomically(folder / name, piece)
        listing = {"step": state["step"], "parts": names, "sha256": digest}
        write_atomically(folder / PARTS, json.dumps(listing, indent=1).encode())
        (folder / CHECKPOINT).unlink(missing_ok=True)
    else:
        names = []
        write_atomically(folder / CHECKPOINT, data)
        (folder / PARTS).unlink(missing_ok=True)
    for path in list(folder.iterdir()):
        if _PART_NAME.fullmatch(path.name) and path.name not in names:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()


def checkpoint_file(folder: Path) -> Path:
    """The file that a checkpoint is read from, or read from first."""
    return folder / PARTS if (folder / PARTS).exists() else folder / CHECKPOINT


def read_checkpoint_bytes(folder: Path) -> bytes:
    """What torch.save wrote. Raises FileNotFoundError where there is none, OSError, ValueError for damage."""
    for _ in range(_ATTEMPTS):
        path = checkpoint_file(folder)
        try:
            return path.read_bytes() if path.name == CHECKPOINT else _join(path)
        except FileNotFoundError as error:
            missing = error
    if checkpoint_file(folder).name == PARTS:
        raise ValueError(f"{Path(missing.filename).name} is missing")
    raise missing


def _join(listing: Path) -> bytes:
    """The parts that checkpoint.json names, as one."""
    values = json.loads(listing.read_text(encoding="utf-8"))
    names = values.get("parts") if isinstance(values, dict) else None
    if not isinstance(names, list) or not all(
        isinstance(name, str) and _PART_NAME.fullmatch(name) for name in names
    ):
        raise ValueError("it names no parts")
    data = b"".join((listing.parent / name).read_bytes() for name in names)
    if hashlib.sha256(data).hexdigest() != values.get("sha256"):
        raise ValueError("the checksum of its parts is wrong")
    return data


def _on_host(value: Any) -> Any:
    """The same with its tensors on the host and contiguous; tensors that are so already are not copied."""
    if isinstance(value, Tensor):
        return value.detach().cpu().contiguous()
    if isinstance(value, dict):
        return type(value)((key, _on_host(part)) for key, part in value.items())
    if isinstance(value, list | tuple):
        return type(value)(_on_host(part) for part in value)
    return value
