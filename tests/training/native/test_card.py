"""The model card."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

import latentcodec
from latentcodec.errors import TrainingError
from latentcodec.training.data import find_pictures
from latentcodec.training.native.card import make_card, save_figures
from latentcodec.training.native.evaluate import Point
from latentcodec.training.native.loop import Run
from latentcodec.training.provenance import describe_hardware, describe_pictures
from tests.tiny_run import STEPS, make_pictures, make_run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures/ and the folder of a run on them."""
    folder = tmp_path_factory.mktemp("made")
    make_run(folder / "run", make_pictures(folder / "pictures"))
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Run:
    """The run in a folder of its own, with its pictures."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return Run.resume(tmp_path / "run", torch.device("cpu"), pictures=tmp_path / "pictures")


def test_what_a_card_holds(run: Run, tmp_path: Path) -> None:
    card = make_card(run.folder)
    assert card["pictures"] == describe_pictures(tmp_path / "pictures", find_pictures(tmp_path / "pictures"))
    assert card["pictures"]["folder"] == "pictures"
    assert (card["pictures"]["count"], card["pictures"]["held_out"]) == (2, 0)
    assert (card["steps"], card["init"]) == (STEPS, None)
    assert card["seconds"] > 0
    assert card["hardware"] == [describe_hardware(torch.device("cpu"))]
    assert card["torch"] == [str(torch.__version__)]
    assert card["latentcodec"] == latentcodec.__version__
    assert (card["training"]["batch"], card["training"]["crop"]) == (2, 128)
    assert "figures" not in card


def test_a_card_names_no_path(run: Run, tmp_path: Path) -> None:
    save_figures(
        run.folder, STEPS, describe_pictures(tmp_path / "pictures", []), [Point(0.0, 0.1, 20.0, 0.5)]
    )
    text = json.dumps(make_card(run.folder))
    assert str(tmp_path) not in text
    assert not re.search(r'"/[a-z]', text)


def test_figures_are_those_of_this_step(run: Run) -> None:
    pictures = {"folder": "kodak", "count": 1}
    points = [Point(0.0, 0.0512345678, 24.5, 0.8), Point(100.0, 2.5, 42.0, 0.999)]
    save_figures(run.folder, STEPS, pictures, points)
    assert make_card(run.folder)["figures"] == {
        "pictures": pictures,
        "points": [
            {"quality": 0.0, "bpp": 0.05123, "psnr": 24.5, "ms_ssim": 0.8},
            {"quality": 100.0, "bpp": 2.5, "psnr": 42.0, "ms_ssim": 0.999},
        ],
    }
    run.train(steps=1, cooldown=0.0)
    assert "figures" not in make_card(run.folder)


@pytest.mark.parametrize("text", ["", "{}", "[]", "3"])
def test_damaged_figures(run: Run, text: str) -> None:
    (run.folder / "evaluation.json").write_text(text)
    with pytest.raises(TrainingError, match=r"evaluation\.json: damaged"):
        make_card(run.folder)


def test_a_run_that_noted_no_pictures(run: Run, tmp_path: Path) -> None:
    path = run.folder / "config.json"
    config = json.loads(path.read_text())
    del config["pictures"], config["init"]
    path.write_text(json.dumps(config))
    assert make_card(run.folder)["pictures"]["count"] == 2
    (tmp_path / "pictures").rename(tmp_path / "moved")
    assert make_card(run.folder)["pictures"] == {"folder": "pictures"}


def test_resuming_elsewhere_adds_to_the_hardware(run: Run) -> None:
    state = torch.load(run.folder / "checkpoint.pt", weights_only=True)
    torch.save(state | {"hardware": ["an abacus"], "torch": ["0.1"]}, run.folder / "checkpoint.pt")
    resumed = Run.resume(run.folder, torch.device("cpu"))
    resumed.save()
    card = make_card(run.folder)
    assert card["hardware"] == ["an abacus", describe_hardware(torch.device("cpu"))]
    assert card["torch"] == ["0.1", str(torch.__version__)]
