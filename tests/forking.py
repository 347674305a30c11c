"""A process that codes on two threads and forks as servers, pools and data loaders do, for test_threads.

Writes a line for each way of forking: its name, and "codes" where the child encoded and decoded a picture.
A child that waits for threads that are not there is ended by an alarm, which its line tells.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from latentcodec.codec.api import Codec
from latentcodec.nn import device

PATIENCE = 60  # seconds that a child gets; it needs one
REPEATS = 3
THREADS = 2
CODEC = Codec(device="cpu")
with Image.open(Path(__file__).parents[1] / "samples" / "astronaut.png") as image:
    PICTURE = image.convert("RGB").crop((100, 0, 292, 128))
FILE = CODEC.encode(PICTURE)


def codes(_: object = None) -> bool:
    """Whether a picture goes through the codec."""
    signal.alarm(PATIENCE)
    coded = CODEC.decode(CODEC.encode(PICTURE)).size == PICTURE.size
    signal.alarm(0)
    return coded


def forked(fork: Callable[[], int] = os.fork, threads: int = THREADS) -> str:
    """What becomes of a child, which is to have so many threads."""
    pid = fork()
    if pid == 0:
        os._exit(0 if codes() and torch.get_num_threads() == threads else 1)
    _, status = os.waitpid(pid, 0)
    return "codes" if status == 0 else f"ends with status {status}"


def fork_of_c() -> int:
    """A fork before which no function of Python's is called, only after it, as uWSGI does."""
    pid: int = ctypes.PyDLL(None).fork()
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
    return pid


def after_decoding() -> str:
    CODEC.decode(FILE)
    return forked()


def again_and_again() -> str:
    outcomes = {codes() and forked() for _ in range(REPEATS)}
    return ", ".join(map(str, outcomes))


def after_another_thread() -> str:
    thread = threading.Thread(target=CODEC.encode, args=(PICTURE,))
    thread.start()
    thread.join()
    return forked()


def in_another_thread() -> str:
    outcomes: list[str] = []
    thread = threading.Thread(target=lambda: outcomes.append(forked() if CODEC.encode(PICTURE) else ""))
    thread.start()
    thread.join()
    return outcomes[0]


def while_another_thread_sets_precision() -> str:
    held = threading.Event()

    def hold() -> None:
        with device._guard:
            held.set()
            time.sleep(0.3)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    outcome = forked()
    thread.join()
    return outcome


def by_a_pool() -> str:
    CODEC.encode(PICTURE)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return "codes" if all(pool.map_async(codes, range(4)).get(PATIENCE)) else "does not"


class Coded(Dataset[bool]):
    """A data set that is made by coding."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> bool:
        return codes()


def by_a_data_loader() -> str:
    CODEC.encode(PICTURE)
    loader = DataLoader(Coded(), num_workers=1, multiprocessing_context="fork", timeout=PATIENCE)
    return "codes" if all(map(bool, loader)) else "does not"


def by_c() -> str:
    CODEC.encode(PICTURE)
    return forked(fork_of_c, threads=1)


WAYS = (
    after_decoding,
    again_and_again,
    after_another_thread,
    in_another_thread,
    while_another_thread_sets_precision,
    by_a_pool,
    by_a_data_loader,
    by_c,
)

if __name__ == "__main__":
    torch.set_num_threads(THREADS)
    for way in WAYS:
        sys.stdout.write(f"{way.__name__} {way()}\n")
        sys.stdout.flush()
