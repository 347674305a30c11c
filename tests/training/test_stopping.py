"""Signals during training."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
import torch

from latentcodec.training.native.loop import Run
from latentcodec.training.stopping import noted_signals
from tests.tiny_run import STEPS, make_pictures, make_run, same_parameters


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_is_noted(number: signal.Signals) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with noted_signals() as noted:
        assert noted == []
        os.kill(os.getpid(), number)
        assert noted == [number]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_the_second_does_what_it_always_did() -> None:
    with noted_signals() as noted:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert noted == [signal.SIGINT]


def test_handlers_come_back_after_an_error() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ZeroDivisionError), noted_signals():
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGTERM) is before


def test_other_threads_are_left_alone() -> None:
    results: list[list[signal.Signals]] = []

    def work() -> None:
        with noted_signals() as noted:
            results.append(noted)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert results == [[]]


def test_training_stops_after_the_step_and_goes_on_exactly(tmp_path: Path, one_thread: None) -> None:
    pictures = make_pictures(tmp_path / "pictures")
    whole = make_run(tmp_path / "whole", pictures)
    whole.train(steps=4)  # with a cool-down at the end
    assert whole.stopped_by is None

    cut = make_run(tmp_path / "cut", pictures)
    take = cut.train_step

    def step() -> dict[str, float]:
        row = take()
        if cut.step == STEPS + 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return row

    cut.train_step = step  # type: ignore[method-assign]
    cut.train(steps=4)
    assert (cut.step, cut.stopped_by, cut.finished) == (STEPS + 2, signal.SIGTERM, False)

    resumed = Run.resume(tmp_path / "cut", torch.device("cpu"))
    assert (resumed.step, resumed.finished) == (STEPS + 2, False)
    resumed.train()
    assert (resumed.step, resumed.stopped_by, resumed.finished) == (STEPS + 4, None, True)
    assert same_parameters(resumed.model.state_dict(), whole.model.state_dict())
    assert same_parameters(resumed.average, whole.average)
