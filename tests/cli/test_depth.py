"""The command line with pictures of more than 8 bits."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from latentcodec.codec.info import info
from latentcodec.picture.files import open_picture, save_picture
from latentcodec.picture.picture import from_array
from tests.cli.conftest import Call


@pytest.fixture
def ramp(tmp_path: Path) -> Path:
    """A 16-bit PNG."""
    y, x = np.mgrid[:48, :1024]
    path = tmp_path / "ramp.png"
    save_picture(from_array(np.stack([x * 64, y * 1300, x * 30 + y * 600], 2).astype(np.uint16)), path)
    return path


def test_16_bits_go_through(call: Call, ramp: Path, tmp_path: Path) -> None:
    packed = tmp_path / "ramp.lci"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        done = call("compress", "-q", "100", "-v", ramp, packed)
        assert done.code == 0, done.err
        assert ", samples in steps of " in done.err or ", lossless, " in done.err
        for name in ("back.png", "back.tif"):
            assert call("decompress", packed, tmp_path / name).code == 0
            back = open_picture(tmp_path / name)
            assert back.bit_depth == 16
            assert np.abs(back.pixels.astype(int) - open_picture(ramp).pixels).max() < 33
    text = " ".join(call("info", packed).out.decode().split())
    assert "picture 1024x48, RGB, 16 bits" in text


def test_what_is_not_exact_says_how_near_it_is(call: Call, ramp: Path, tmp_path: Path) -> None:
    packed = tmp_path / "ramp.lci"
    assert call("compress", "--min-psnr", "70", ramp, packed).code == 0
    step = info(packed).step
    assert step is not None
    assert step > 1
    text = " ".join(call("info", packed).out.decode().split())
    assert f"quality none: samples in steps of {step}, off by at most {step // 2} of 65535" in text
    assert f"samples in steps of {step}" in call("decompress", "-v", packed, tmp_path / "back.png").err


def test_a_format_of_8_bits_gets_rounded_samples_and_a_line(call: Call, ramp: Path, tmp_path: Path) -> None:
    packed, back = tmp_path / "ramp.lci", tmp_path / "back.webp"
    assert call("compress", ramp, packed).code == 0
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        done = call("decompress", packed, back)
    assert done.code == 0
    first, second = done.err.splitlines()
    assert first.endswith("back.webp: WEBP has 8 bits a channel, the picture's 16 are rounded")
    assert first.startswith("latentcodec: warning: ")
    assert second.startswith(f"{packed} -> ")
    exact = open_picture(ramp).pixels / 257
    assert np.abs(open_picture(back).pixels - exact).max() <= 2
