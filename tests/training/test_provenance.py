"""What a card says of pictures and hardware."""

from __future__ import annotations

from pathlib import Path

import torch

from latentcodec.training.data import find_pictures
from latentcodec.training.provenance import describe_hardware, describe_pictures
from tests.tiny_run import make_pictures


def test_the_hash_tells_pictures_apart(tmp_path: Path) -> None:
    folder = make_pictures(tmp_path / "pictures")

    def described() -> dict[str, object]:
        return describe_pictures(folder, find_pictures(folder))

    first = described()
    assert described() == first
    folder.rename(tmp_path / "renamed")
    folder = tmp_path / "renamed"
    assert described() == first | {"folder": "renamed"}  # wherever they are
    (folder / "first.png").rename(folder / "third.png")
    assert described()["sha256"] != first["sha256"]
    (folder / "third.png").rename(folder / "first.png")
    with (folder / "first.png").open("ab") as file:
        file.write(b"\0")
    assert described()["sha256"] != first["sha256"]


def test_the_hardware_names_the_threads_in_use() -> None:
    described = describe_hardware(torch.device("cpu"))
    assert described.endswith(f", {torch.get_num_threads()} threads")
    assert not described.startswith(",")
