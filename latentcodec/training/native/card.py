"""The model card: what a weights file was made from, as JSON in its metadata.

RUN/config.json ─► pictures, sizes of steps, origin of the weights ─┐
RUN/checkpoint.pt ─► steps, seconds, hardware, PyTorch ─────────────┼─► card ─► export
RUN/evaluation.json ─► figures, if they are of this very step ──────┘

A card names folders by their last part only: nothing about the machine's layout leaves it.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from latentcodec import __version__
from latentcodec.atomic import write_atomically
from latentcodec.errors import TrainingError
from latentcodec.training.data import find_training_pictures
from latentcodec.training.native.evaluate import Point
from latentcodec.training.native.run_folder import EVALUATION, logged_seconds, read_checkpoint, read_config
from latentcodec.training.provenance import describe_hardware, describe_pictures


def save_figures(folder: Path, step: int, pictures: dict[str, Any], points: list[Point]) -> None:
    """Keep a rate-distortion curve in the run's folder, for the card."""
    values = {"step": step, "pictures": pictures, "points": [_rounded(asdict(point)) for point in points]}
    write_atomically(folder / EVALUATION, json.dumps(values, indent=1).encode())


def make_card(folder: Path) -> dict[str, Any]:
    """The card of a run as it stands. Raises TrainingError."""
    config, state = read_config(folder), read_checkpoint(folder, torch.device("cpu"))
    training = {k: v for k, v in config["training"].items() if k not in {"pictures", "threads"}}
    card = {
        "pictures": config.get("pictures") or _pictures_now(Path(config["training"]["pictures"])),
        "training": training,
        "init": config.get("init"),
        "steps": state["step"],
        "seconds": round(state.get("seconds") or logged_seconds(folder), 1),
        "hardware": state.get("hardware") or [describe_hardware(torch.device("cpu"))],
        "torch": state.get("torch") or [str(torch.__version__)],
        "latentcodec": __version__,
    }
    figures = _figures(folder, state["step"])
    return card | ({"figures": figures} if figures else {})


def _pictures_now(folder: Path) -> dict[str, Any]:
    """The pictures of a run that did not note them when it was made."""
    try:
        return describe_pictures(folder, find_training_pictures(folder))
    except TrainingError:
        return {"folder": folder.name}


def _figures(folder: Path, step: int) -> dict[str, Any] | None:
    """The curve in the run's folder, if it was measured at `step`."""
    try:
        values = json.loads((folder / EVALUATION).read_text(encoding="utf-8"))
        return {k: values[k] for k in ("pictures", "points")} if values["step"] == step else None
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            f"{folder / EVALUATION}: damaged ({error}); remove it, or evaluate again"
        ) from error


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {k: round(v, 5) for k, v in values.items()}
