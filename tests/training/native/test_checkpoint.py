"""Checkpoints in one file and in parts: replaced as a whole, read whatever was written last."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from latentcodec.errors import TrainingError
from latentcodec.training.native import checkpoint
from latentcodec.training.native.checkpoint import write_checkpoint
from latentcodec.training.native.run_folder import averaged_model, read_checkpoint
from tests.conftest import tiny_config

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "PART_BYTES", 4000)


def state(step: int, value: float = 1.0) -> dict[str, Any]:
    weights = {"weight": torch.full((40, 40), value), "bias": torch.arange(3)}
    return {"step": step, "model": weights, "average": weights, "optimiser": {"lr": 0.5}, "schedule": {}}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def stored(folder: Path) -> tuple[int, float]:
    """Step and value of the checkpoint that is read."""
    read = read_checkpoint(folder, CPU)
    return read["step"], float(read["model"]["weight"][0, 0])


def test_parts_are_of_moderate_size_and_come_back(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, state(7), in_parts=True)
    parts = sorted(tmp_path.glob("checkpoint-7-*.part"))
    assert len(parts) >= 2
    assert max(path.stat().st_size for path in parts) <= 4000
    assert len(names(tmp_path)) == len(parts) + 1
    read = read_checkpoint(tmp_path, CPU)
    assert torch.equal(read["model"]["weight"], torch.ones(40, 40))
    assert read["optimiser"] == {"lr": 0.5}


def test_a_new_one_takes_the_old_one_s_place(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, state(7), in_parts=True)
    write_checkpoint(tmp_path, state(7, 2.0), in_parts=True)  # of the same step too
    assert stored(tmp_path) == (7, 2.0)
    assert len(list(tmp_path.glob("*.part"))) == len(
        json.loads((tmp_path / "checkpoint.json").read_text())["parts"]
    )
    write_checkpoint(tmp_path, state(8), in_parts=False)
    assert names(tmp_path) == ["checkpoint.pt"]
    assert stored(tmp_path) == (8, 1.0)
    write_checkpoint(tmp_path, state(9), in_parts=True)
    assert "checkpoint.pt" not in names(tmp_path)
    assert stored(tmp_path) == (9, 1.0)


@pytest.mark.parametrize("in_parts", [False, True])
def test_a_writer_that_is_killed_leaves_the_old_one_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_parts: bool
) -> None:
    """Killed before each file that it replaces or removes."""
    write, unlink = checkpoint.write_atomically, Path.unlink
    seen = set()
    for end in range(12):
        folder = tmp_path / str(end)
        folder.mkdir()
        write_checkpoint(folder, state(1), in_parts=True)
        left = end

        def count() -> None:
            nonlocal left
            if not left:
                raise KeyboardInterrupt
            left -= 1

        def writing(path: Path, data: Any) -> None:
            count()
            write(path, data)

        def removing(path: Path, missing_ok: bool = False) -> None:
            count()
            unlink(path, missing_ok)

        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "write_atomically", writing)
            patch.setattr(Path, "unlink", removing)
            try:
                write_checkpoint(folder, state(2), in_parts=in_parts)
            except KeyboardInterrupt:
                seen.add(stored(folder)[0])
            else:
                break
        assert stored(folder)[0] in (1, 2)
        write_checkpoint(folder, state(3), in_parts=True)  # and what it left behind goes
        assert not list(folder.glob("checkpoint-[12]-*"))
        assert stored(folder)[0] == 3
    assert seen == {1, 2}


def test_a_reader_that_meets_a_writer_reads_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_checkpoint(tmp_path, state(1), in_parts=True)
    join = checkpoint._join
    calls = 0

    def late(listing: Path) -> bytes:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise FileNotFoundError(2, "gone", str(tmp_path / "checkpoint-0-00000000-0.part"))
        return join(listing)

    monkeypatch.setattr(checkpoint, "_join", late)
    assert stored(tmp_path) == (1, 1.0)


@pytest.mark.parametrize(
    ("listing", "reason"),
    [
        ("", "Expecting value"),
        ("[]", "it names no parts"),
        ('{"parts": ["../../secret"]}', "it names no parts"),
        ('{"parts": [], "sha256": "0"}', "the checksum of its parts is wrong"),
        ('{"parts": ["checkpoint-1-00000000-0.part"], "sha256": "0"}', "00000000-0.part is missing"),
    ],
)
def test_damaged_listings(tmp_path: Path, listing: str, reason: str) -> None:
    write_checkpoint(tmp_path, state(1), in_parts=True)
    (tmp_path / "checkpoint.json").write_text(listing)
    with pytest.raises(TrainingError, match=rf"checkpoint\.json: damaged, or of another version.*{reason}"):
        read_checkpoint(tmp_path, CPU)


def test_a_damaged_part(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, state(1), in_parts=True)
    part = next(tmp_path.glob("*-1.part"))
    data = bytearray(part.read_bytes())
    data[50] ^= 1
    part.write_bytes(data)
    with pytest.raises(TrainingError, match="the checksum of its parts is wrong"):
        read_checkpoint(tmp_path, CPU)


def test_tensors_of_any_layout_are_written_as_plain_ones(tmp_path: Path) -> None:
    values = state(1)
    values["model"] = {"weight": torch.rand(4, 6, 3, 3).to(memory_format=torch.channels_last)}
    write_checkpoint(tmp_path, values, in_parts=True)
    read = read_checkpoint(tmp_path, CPU)["model"]["weight"]
    assert read.is_contiguous()
    assert torch.equal(read, values["model"]["weight"])


def test_models_are_read_from_parts(tmp_path: Path) -> None:
    from latentcodec.nn.native.model import NativeModel

    model = NativeModel(tiny_config())
    values = state(5) | {"average": model.state_dict()}
    config = {"training": {}, "native": tiny_config().to_dict()}
    (tmp_path / "config.json").write_text(json.dumps(config))
    write_checkpoint(tmp_path, values, in_parts=True)
    read, step = averaged_model(tmp_path, CPU)
    assert step == 5
    assert all(torch.equal(read.state_dict()[name], value) for name, value in model.state_dict().items())
