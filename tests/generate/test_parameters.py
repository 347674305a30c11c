"""Parameters: the texts of other programs, ours back and forth, files of every kind, damage."""

from __future__ import annotations

import io
import json
import struct
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

import latentcodec
from latentcodec.errors import InvalidArgument, UnreadableImage
from latentcodec.generate.defaults import DEPTH_TO_IMAGE, IMAGE_TO_IMAGE, INPAINT, TEXT_TO_IMAGE
from latentcodec.generate.parameters import (
    MAX_CHARACTERS,
    Parameters,
    exif_of,
    from_bytes,
    from_file,
    from_json,
    from_text,
    from_texts,
    to_json,
    to_text,
    user_comment,
)
from latentcodec.picture.files import save_picture
from latentcodec.picture.picture import from_array

FULL = Parameters(
    prompt='a (red:1.2) cat,\nsecond line: "quoted", \\(x\\)',
    negative="blurry,\nlow: quality",
    pipeline=INPAINT,
    seed=4294967295,
    steps=30,
    guidance=7.5,
    rescale=0.7,
    sampler="dpm++2m",
    spacing="trailing",
    karras=True,
    eta=0.5,
    strength=0.123456789,
    noise_level=20,
    width=513,
    height=769,
    model="sd15",
    fingerprint="ab" * 32,
    prediction="epsilon",
    vae="ft-mse",
    loras=(("film, grain", 0.8), ("lcm", -1.0)),
    fast_decode=True,
    dtype="float16",
)
# As AUTOMATIC1111 1.10 writes them: the first from its own tests' model, the second with hires and LoRAs.
PLAIN = """a photo of a cat
Steps: 20, Sampler: Euler a, Schedule type: Automatic, CFG scale: 7, Seed: 965400086, Size: 512x768, \
Model hash: d7049739, Model: v1-5-pruned-emaonly, Version: v1.10.1"""
RICH = """masterpiece, (portrait:1.3), <lora:add_detail:0.5>, looking at viewer,
second line, [rain] <lora:film>
Negative prompt: EasyNegative, (worst quality:1.4),
bad: anatomy
Steps: 25, Sampler: DPM++ 2M Karras, CFG scale: 5.5, Seed: 2347823, Size: 640x960, Model hash: 7f96a1a9ca, \
Model: any,thing, VAE hash: f921fb3f29, VAE: "vae-ft-mse-840000, pruned.safetensors", \
Denoising strength: 0.45, Clip skip: 2, ENSD: 31337, Hires upscale: 1.8, Hires steps: 10, \
Hires upscaler: 4x_foolhardy_Remacri, Lora hashes: "add_detail: 7c6bad76eb54, film: 1f2e3d", \
TI hashes: "EasyNegative: c74b4e810b03", Version: 1.6.0"""


def test_a_plain_text_of_automatic1111() -> None:
    assert from_text(PLAIN) == Parameters(
        prompt="a photo of a cat",
        seed=965400086,
        steps=20,
        guidance=7.0,
        sampler="euler-a",
        width=512,
        height=768,
        model="v1-5-pruned-emaonly",
        others=(("Schedule type", "Automatic"), ("Model hash", "d7049739"), ("Version", "v1.10.1")),
    )


def test_a_rich_text_of_automatic1111() -> None:
    found = from_text(RICH)
    assert found.prompt == "masterpiece, (portrait:1.3),, looking at viewer,\nsecond line, [rain]"
    assert found.loras == (("add_detail", 0.5), ("film", 1.0))
    assert found.negative == "EasyNegative, (worst quality:1.4),\nbad: anatomy"
    assert (found.sampler, found.karras, found.pipeline) == ("dpm++2m", True, TEXT_TO_IMAGE)
    assert found.strength is None  # that of its second pass, which is kept
    assert found.vae == "vae-ft-mse-840000, pruned.safetensors"
    others = dict(found.others)
    assert others["Lora hashes"] == "add_detail: 7c6bad76eb54, film: 1f2e3d"
    assert others["Hires upscaler"] == "4x_foolhardy_Remacri"
    assert others["Clip skip"] == "2"
    assert from_text(to_text(found)) == replace(found, others=tuple(
        (key, value) for key, value in found.others if key != "Version"
    ))  # fmt: skip


def test_json_in_the_text_as_civitai_writes_it() -> None:
    resources = '[{"type":"checkpoint","modelVersionId":128713},{"type":"lora","weight":0.8,"name":"a, b"}]'
    line = f"Steps: 30, Civitai resources: {resources}, Seed: 7, Size: 64x64, Civitai metadata: {{}}"
    found = from_text(f"cat\nNegative prompt: dog\n{line}")
    assert (found.steps, found.seed, found.width) == (30, 7, 64)
    assert dict(found.others) == {"Civitai resources": resources, "Civitai metadata": "{}"}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("Steps: 4, Sampler: UniPC, Seed: 1", {"others": (("Sampler", "UniPC"),)}),
        ("Steps: x, Seed: 1, CFG scale: nan", {"steps": None, "guidance": None,
                                               "others": (("Steps", "x"), ("CFG scale", "nan"))}),
        ("Steps: 4, Seed: 1, Denoising strength: 0.6", {"pipeline": IMAGE_TO_IMAGE, "strength": 0.6}),
        ("Steps: 4, Seed: 1, Denoising strength: 0.6, Mask blur: 4", {"pipeline": INPAINT,
                                                                      "others": (("Mask blur", "4"),)}),
        ("Steps: 4, Seed: 1, Size: 0x12345678", {"others": (("Size", "0x12345678"),)}),
        ("Steps: 4,, Seed: 1, CFG scale: 2,", {"guidance": 2.0}),
        ('Steps: 4, A: "open, Seed: 1', {"others": (("A", '"open'),)}),
        ("Steps: 4, Seed: 1, Eta: 1", {"eta": 1.0}),
    ],
)  # fmt: skip
def test_single_values(line: str, expected: dict[str, object]) -> None:
    found = from_text(f"a cat\n{line}")
    assert found.prompt == "a cat"
    base = {"steps": 4, "seed": 1} | expected
    assert {name: getattr(found, name) for name in base} == base


def test_a_text_without_settings_is_a_prompt() -> None:
    text = "a cat: fluffy, scale: huge\nand a dog"
    assert from_text(text) == Parameters(prompt=text)
    assert from_text("") == Parameters()
    assert from_text("a\nNegative prompt: b") == Parameters(prompt="a", negative="b")
    assert from_text("Steps: 1, Seed: 2, Size: 8x8").prompt == ""


def test_ours_is_read_back_from_text_and_json() -> None:
    assert from_json(to_json(FULL)) == FULL
    assert from_text(to_text(FULL)) == FULL
    other = replace(FULL, others=(("Clip skip", "2"), ("Note", 'a, "b"\nc: d')))
    assert from_text(to_text(other)) == other
    assert from_json(to_json(other)) == other
    empty = Parameters(pipeline=DEPTH_TO_IMAGE)
    assert from_text(to_text(empty)) == empty


def test_the_text_is_as_other_programs_expect() -> None:
    lines = to_text(FULL).split("\n")
    assert lines[1].endswith(" <lora:film, grain:0.8> <lora:lcm:-1>")
    assert lines[2] == "Negative prompt: blurry,"
    assert lines[4].startswith(
        "Steps: 30, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, Seed: 4294967295, "
        "Size: 513x769, Model: sd15, VAE: ft-mse, Denoising strength: 0.123456789, "
    )
    assert lines[4].endswith(f", RNG: CPU, Version: latentcodec {latentcodec.__version__}")


def test_json_goes_before_text() -> None:
    both = (("Title", "x"), ("parameters", PLAIN), ("latentcodec", to_json(FULL)))
    assert from_texts(both) == FULL
    assert from_texts(both[:2]) == from_text(PLAIN)
    assert from_texts(both[:1]) is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "it is no JSON"),
        ("[" * 100_000, "it is no JSON"),
        ("[1]", "it is no JSON object"),
        ('{"steps": "4"}', "its steps is '4', expected int"),
        ('{"steps": true}', "its steps is True"),
        ('{"guidance": Infinity}', "its guidance is inf"),
        ('{"prompt": 1}', "its prompt is 1, expected str"),
        ('{"loras": [["a"]]}', "its loras is"),
        ('{"loras": [["a", "b"]]}', "its loras is"),
        ('{"others": [["a", 1]]}', "its others is"),
        (" " * (MAX_CHARACTERS + 1), "131,073 characters; at most 131,072"),
    ],
)
def test_damaged_json(text: str, why: str) -> None:
    with pytest.raises(InvalidArgument, match=why):
        from_json(text)


def test_unknown_names_of_later_versions_are_left_out() -> None:
    assert from_json('{"prompt": "a", "tomorrow": {"x": []}, "version": "9"}') == Parameters(prompt="a")
    assert from_json('{"guidance": 7}').guidance == 7.0


PIXELS = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "avif", "tif", "lci"])
def test_files_that_hold_ours(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"picture.{ending}"
    has_text = ending in ("png", "lci")
    text, exif = (FULL.texts(), None) if has_text else ((), exif_of(FULL))
    picture = replace(from_array(PIXELS), text=text, exif=exif)
    if ending == "lci":
        file.write_bytes(latentcodec.Codec().encode(picture, quality=20))
    else:
        save_picture(picture, file)
    assert from_file(file) == FULL
    assert from_bytes(file.read_bytes(), "x") == FULL


def test_a_jpeg_that_became_a_lci(tmp_path: Path) -> None:
    save_picture(replace(from_array(PIXELS), exif=exif_of(FULL)), tmp_path / "a.jpg")
    latentcodec.compress(tmp_path / "a.jpg", tmp_path / "a.lci", quality=20)
    assert from_file(tmp_path / "a.lci") == FULL


def test_a_png_of_another_program(tmp_path: Path) -> None:
    notes = PngImagePlugin.PngInfo()
    notes.add_text("parameters", RICH, zip=True)
    Image.fromarray(PIXELS).save(tmp_path / "a.png", pnginfo=notes)
    assert from_file(tmp_path / "a.png") == from_text(RICH)


def comment(code: bytes, content: bytes) -> bytes:
    """EXIF with a UserComment, little-endian."""
    data = code + content
    first = struct.pack("<2sHI H HHII I", b"II", 42, 8, 1, 0x8769, 4, 1, 26, 0)
    return first + struct.pack("<H HHII I", 1, 0x9286, 7, len(data), 44, 0) + data


@pytest.mark.parametrize(
    ("code", "encoding"),
    [(b"UNICODE\0", "utf-16-be"), (b"UNICODE\0", "utf-16-le"), (b"ASCII\0\0\0", "utf-8"), (bytes(8), "utf-8"),
     (b"", "utf-8")],
)  # fmt: skip
def test_comments_in_every_encoding(code: bytes, encoding: str) -> None:
    assert user_comment(comment(code, PLAIN.encode(encoding))) == PLAIN
    assert user_comment(comment(code, b"")) == ""


@pytest.mark.parametrize("exif", [b"", b"II*\0", b"nonsense", comment(b"", b"x")[:40], bytes(100)])
def test_damaged_exif_says_nothing(exif: bytes) -> None:
    assert user_comment(exif) == ""


def test_files_without_parameters(tmp_path: Path) -> None:
    file = tmp_path / "plain.png"
    Image.fromarray(PIXELS).save(file)
    with pytest.raises(InvalidArgument, match=r"plain.png: it holds no generation parameters$"):
        from_file(file)
    camera = replace(from_array(PIXELS), exif=comment(b"ASCII\0\0\0", b"my holidays"))
    save_picture(camera, tmp_path / "a.jpg")
    with pytest.raises(InvalidArgument, match="no generation parameters"):
        from_file(tmp_path / "a.jpg")
    notes = PngImagePlugin.PngInfo()
    notes.add_text("workflow", "{}")
    Image.fromarray(PIXELS).save(file, pnginfo=notes)
    with pytest.raises(InvalidArgument, match="only ComfyUI's own, which are not read"):
        from_file(file)
    file.write_bytes(b"no picture")
    with pytest.raises(UnreadableImage):
        from_file(file)
    with pytest.raises(FileNotFoundError):
        from_file(tmp_path / "none.png")


def test_damage_names_the_file(tmp_path: Path) -> None:
    picture = replace(from_array(PIXELS), text=(("latentcodec", "{"),))
    save_picture(picture, tmp_path / "a.png")
    with pytest.raises(InvalidArgument, match=r"a.png: text 'latentcodec': it is no JSON"):
        from_file(tmp_path / "a.png")


@pytest.mark.parametrize(
    "text",
    [
        "a " * (MAX_CHARACTERS // 2),
        " " * 1000 + "a" * 130_000,
        "a, " * (MAX_CHARACTERS // 3),
        "<lora:" * (MAX_CHARACTERS // 6),
        "<lora:a:" * (MAX_CHARACTERS // 8),
        " " * 65_000 + "<lora:a>" + " " * 65_000 + "x",
        'k: ["' * (MAX_CHARACTERS // 5),
        'k: "a, ' * (MAX_CHARACTERS // 7),
        "k: [" * (MAX_CHARACTERS // 4),
        "k: {, " * (MAX_CHARACTERS // 6),
    ],
)
def test_hostile_texts_take_no_time(text: str) -> None:
    start = time.process_time()
    from_text(text)
    assert time.process_time() - start < 5


_words = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r\n<>"), max_size=30)


@given(prompt=_words, negative=_words, model=_words.map(str.strip), seed=st.integers(0, 2**32 - 1))
def test_any_words_are_kept(prompt: str, negative: str, model: str, seed: int) -> None:
    made = Parameters(prompt=prompt, negative=negative, model=model or None, seed=seed, steps=3, guidance=1.5)
    assert from_json(to_json(made)) == made
    found = from_text(to_text(made))
    assert (found.seed, found.steps, found.guidance) == (seed, 3, 1.5)


def test_json_is_plain(tmp_path: Path) -> None:
    stream = io.BytesIO()
    save_picture(replace(from_array(PIXELS), text=FULL.texts()), stream, "PNG")
    with Image.open(stream) as image:
        assert json.loads(image.text["latentcodec"])["seed"] == 4294967295
        assert image.text["parameters"] == to_text(FULL)
