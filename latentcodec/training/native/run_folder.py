"""What the folder of a run holds, read back; loop.py writes it.

RUN/config.json       sizes, training configuration, pictures, origin of the weights
RUN/checkpoint.pt     step, weights, moving average, moments, schedule (or in parts: checkpoint.py)
RUN/log.jsonl         means of the loss's parts, a line every few steps
RUN/evaluation.json   the last rate-distortion curve that was measured, and its step
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import torch

from latentcodec.errors import TrainingError
from latentcodec.nn.native.config import NativeConfig
from latentcodec.nn.native.model import NativeModel
from latentcodec.training.native.checkpoint import CHECKPOINT, checkpoint_file, read_checkpoint_bytes

CONFIG = "config.json"
LOG = "log.jsonl"
EVALUATION = "evaluation.json"
_CONFIG_KEYS = {"training", "native"}
_CHECKPOINT_KEYS = {"step", "model", "average", "optimiser", "schedule"}


def read_config(folder: Path) -> dict[str, Any]:
    """config.json as it stands. Raises TrainingError where there is none, or a damaged one."""
    path = folder / CONFIG
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise TrainingError(f"{folder}: no training run here ({CONFIG} is missing)") from error
    except ValueError as error:
        raise TrainingError(f"{path}: damaged ({error}); restore it, or start a new run") from error
    if not isinstance(values, dict) or not values.keys() >= _CONFIG_KEYS:
        raise TrainingError(f"{path}: not the configuration of a run, which has {' and '.join(_CONFIG_KEYS)}")
    return values


def native_config(values: dict[str, Any], folder: Path) -> NativeConfig:
    """The sizes in a run's configuration. Raises TrainingError."""
    try:
        return NativeConfig.from_dict(values["native"])
    except (KeyError, TypeError) as error:
        raise TrainingError(f"{folder / CONFIG}: sizes of another version ({error})") from error


def read_checkpoint(folder: Path, device: torch.device) -> dict[str, Any]:
    """The last checkpoint, its tensors on `device`. Raises TrainingError: there is none, or a damaged one."""
    try:
        data = read_checkpoint_bytes(folder)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            damaged = archive.testzip()  # torch.load itself does not notice a flipped bit
        if damaged is None:
            state = torch.load(io.BytesIO(data), map_location=device, weights_only=True)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise TrainingError(f"{folder}: no training run here ({CHECKPOINT} is missing)") from error
    except Exception as error:  # unpickling damaged bytes raises almost anything
        raise damaged_checkpoint(folder, error) from error
    if damaged is not None:
        raise damaged_checkpoint(folder, f"the checksum of {damaged} is wrong")
    if not isinstance(state, dict) or not state.keys() >= _CHECKPOINT_KEYS:
        raise damaged_checkpoint(folder, f"it lacks one of {', '.join(sorted(_CHECKPOINT_KEYS))}")
    return state


def damaged_checkpoint(folder: Path, reason: object) -> TrainingError:
    """The error for a checkpoint that cannot be used."""
    first = (str(reason).splitlines() or [""])[0] or type(reason).__name__
    return TrainingError(
        f"{checkpoint_file(folder)}: damaged, or of another version ({first}); restore a copy, or start a "
        "new run"
    )


def averaged_model(folder: Path, device: torch.device) -> tuple[NativeModel, int]:
    """The moving average of a run's weights as a model in evaluation mode, and its step.

    The pictures need not be there. Raises TrainingError.
    """
    config = native_config(read_config(folder), folder)
    state = read_checkpoint(folder, device)
    model = NativeModel(config)
    try:
        model.load_state_dict(state["average"])
        step = int(state["step"])
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise damaged_checkpoint(folder, error) from error
    return model.eval().requires_grad_(False).to(device), step


def logged_seconds(folder: Path) -> float:
    """The seconds that log.jsonl counts, over all processes that wrote it; 0 where there is no log."""
    total = last = 0.0
    try:
        lines = (folder / LOG).read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    for line in lines:
        try:
            seconds = float(json.loads(line)["seconds"])
        except (ValueError, KeyError, TypeError):
            continue  # the line that was being written when the power went
        if seconds < last:  # a new process counts from zero
            total += last
        last = seconds
    return total + last
