"""Arguments are checked before anything is loaded, and errors carry the names of the arguments."""

from __future__ import annotations

import math
from typing import Any

import pytest

from latentcodec.codec.arguments import check_encoding, check_orientation
from latentcodec.errors import InvalidArgument


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({}, {}),
        ({"quality": 0}, {"quality": 0.0}),
        ({"target_size": 5000, "effort": 9}, {"target_size": 5000.0}),
        (
            {"model": "sd15", "prior": "a.safetensors", "min_psnr": 30, "cleanup_unet": "sd15"},
            {"min_psnr": 30.0},
        ),
        ({"model": "sd15", "quantiser": "palette", "effort": 3, "cleanup_unet": "sd15"}, {}),
        ({"model": "sd15", "effort": 4}, {}),
        ({"lossless": True, "effort": 9}, {}),
        ({"min_ssimulacra2": 100}, {"min_ssimulacra2": 100.0}),
    ],
)
def test_what_goes_together(options: dict[str, Any], asked: dict[str, float]) -> None:
    assert check_encoding(**{"model": "native", **options}) == asked


@pytest.mark.parametrize(
    ("options", "names", "message"),
    [
        ({"quality": 101}, ("quality",), "quality 101: it goes from 0 to 100"),
        ({"quality": math.nan}, ("quality",), "quality nan: it goes"),
        ({"target_bpp": 0}, ("target_bpp",), "target_bpp 0: it must be a positive number of bits per pixel"),
        ({"min_psnr": math.inf}, ("min_psnr",), "min_psnr inf: it must be a positive number of dB"),
        (
            {"quality": 60, "target_bpp": 0.5},
            ("quality", "target_bpp"),
            "quality 60, target_bpp 0.5: ask for one of them",
        ),
        ({"min_ssimulacra2": 101}, ("min_ssimulacra2",), "min_ssimulacra2 101: no score is above 100"),
        ({"min_ssimulacra2": -3}, ("min_ssimulacra2",), "min_ssimulacra2 -3: it must be a positive number"),
        (
            {"min_psnr": 30, "min_ssimulacra2": 70},
            ("min_psnr", "min_ssimulacra2"),
            "min_psnr 30, min_ssimulacra2 70: ask for one of them",
        ),
        *(
            (
                {"lossless": True, name: value},
                (name,),
                f"{name} {value}: what is lossless has no other quality",
            )
            for name, value in (("quality", 60), ("target_size", 900), ("target_bpp", 1), ("min_psnr", 30))
        ),
        (
            {"lossless": True, "min_ssimulacra2": 90},
            ("min_ssimulacra2",),
            "min_ssimulacra2 90: what is lossless",
        ),
        ({"lossless": True, "model": "sd15"}, ("model",), "model sd15: what is lossless needs no model"),
        ({"lossless": True, "quantiser": "palette"}, ("quantiser",), "quantiser palette: for auto"),
        ({"effort": 10}, ("effort",), "effort 10: it is a whole number from 1 to 9"),
        ({"effort": 4.0}, ("effort",), "effort 4.0"),
        ({"effort": True}, ("effort",), "effort True"),
        ({"quantiser": "other"}, ("quantiser",), "quantiser 'other': use scalar or palette"),
        ({"quantiser": "palette"}, ("quantiser",), "quantiser palette: for autoencoders only; name one"),
        ({"prior": "a.safetensors"}, ("prior",), "prior a.safetensors: for autoencoders only"),
        ({"cleanup_unet": "sd15"}, ("cleanup_unet",), "cleanup_unet sd15: for autoencoders only"),
        (
            {"model": "sd15", "quantiser": "palette", "quality": 90},
            ("quality",),
            "quality 90: the palette has one rate",
        ),
        (
            {"model": "sd15", "quantiser": "palette", "target_size": 900},
            ("target_size",),
            "target_size 900: the palette has one rate",
        ),
        (
            {"model": "sd15", "quantiser": "palette", "prior": "a.safetensors"},
            ("prior",),
            "prior a.safetensors: the palette is coded without one",
        ),
        (
            {"model": "sd15", "quantiser": "palette", "effort": 4},
            ("effort",),
            "effort 4: the palette is never refined",
        ),
    ],
)
def test_what_does_not(options: dict[str, Any], names: tuple[str, ...], message: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        check_encoding(**{"model": "native", **options})
    assert raised.value.names == names
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize("orientation", [0, 9, True, 1.0, "6"])
def test_what_is_no_orientation(orientation: object) -> None:
    with pytest.raises(InvalidArgument, match="it is a whole number from 1, upright, to 8") as raised:
        check_orientation(orientation)
    assert raised.value.names == ("orientation",)
    assert [check_orientation(turn) for turn in (None, 1, 8)] == [None, 1, 8]
