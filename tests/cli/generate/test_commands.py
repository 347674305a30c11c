"""generate, img2img, inpaint, depth2img, upscale: pictures, settings that travel, bad input in one line."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from latentcodec.generate.parameters import from_file
from tests.cli.conftest import Call
from tests.cli.generate.conftest import Models, pixels_of
from tests.toy_diffusion import UNET
from tests.toy_pipelines import save_folder
from tests.weights.made_checkpoints import random_network
from tests.weights.made_loras import ATTENTION, CONVOLUTIONS, kohya, matrices

FAST = ("--steps", "2", "--size", "64x48")


def test_a_text_becomes_a_picture(call: Call, sd1: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.png"
    done = call("generate", "--model", sd1, "a (cat:1.2)", out, *FAST, "--seed", "7", "--negative", "dog")
    assert (done.code, done.out) == (0, b"")
    assert done.line.startswith(f"{out}: 64x48, {out.stat().st_size} bytes, seed 7, 2 steps in ")
    assert "family sd1 (a UNet of 4 input channels" in done.err  # a path is described
    assert pixels_of(out).shape == (48, 64, 3)
    made_with = from_file(out)
    assert (made_with.prompt, made_with.negative, made_with.seed) == ("a (cat:1.2)", "dog", 7)
    assert (made_with.steps, made_with.width, made_with.height) == (2, 64, 48)
    assert (made_with.guidance, made_with.sampler) == (7.5, "ddim")


def test_its_settings_make_it_again(call: Call, sd1: Path, tmp_path: Path) -> None:
    first, again, other = (tmp_path / f"{name}.png" for name in ("first", "again", "other"))
    more = (
        "--sampler",
        "dpm++2m",
        "--karras",
        "--rescale",
        "0.5",
        "--guidance",
        "3",
        "--spacing",
        "trailing",
    )
    assert call("generate", "--model", sd1, "a cat", first, *FAST, *more).code == 0
    assert call("generate", "--from", first, "--model", sd1, again).code == 0
    assert first.read_bytes() == again.read_bytes()
    assert call("generate", "--from", first, "--model", sd1, "a dog", other, "--steps", "3").code == 0
    changed = replace(from_file(first), prompt="a dog", steps=3)
    assert from_file(other) == changed


@pytest.mark.parametrize("ending", ["jpg", "webp"])
def test_other_formats_keep_the_settings(call: Call, sd1: Path, tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"a.{ending}"
    assert call("generate", "--model", sd1, "猫, a cat", out, *FAST, "--seed", "3", "-Q").err == ""
    assert (from_file(out).prompt, from_file(out).seed) == ("猫, a cat", 3)
    told = json.loads(call("info", "--json", out).out)["parameters"]
    assert (told["prompt"], told["steps"]) == ("猫, a cat", 2)
    shown = " ".join(call("info", out).out.decode().split())
    assert "made with seed 3" in shown
    assert "made with size 64x48" in shown


def test_several_pictures_have_seeds_of_their_own(call: Call, sd1: Path, tmp_path: Path) -> None:
    done = call(
        "generate", "--model", sd1, "cat", tmp_path / "%02d.png", *FAST, "--count", "2", "--seed", "9"
    )
    assert done.code == 0
    alone = tmp_path / "alone.png"
    assert call("generate", "--model", sd1, "cat", alone, *FAST, "--seed", "10").code == 0
    assert alone.read_bytes() == (tmp_path / "02.png").read_bytes()
    assert (tmp_path / "01.png").read_bytes() != alone.read_bytes()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["01.png", "02.png", "alone.png"]


def test_pipes(call: Call, sd1: Path, picture: Path, tmp_path: Path) -> None:
    done = call("generate", "--model", sd1, "-", "-", *FAST, "--seed", "1", data=b"a cat\n")
    assert done.out.startswith(b"\x89PNG")
    (tmp_path / "piped.png").write_bytes(done.out)
    assert from_file(tmp_path / "piped.png").prompt == "a cat"
    options = ("--model", sd1, "--steps", "2", "--format", "jpg")
    done = call("img2img", "-", "a cat", "-", *options, data=picture.read_bytes())
    assert (done.code, done.out[:3]) == (0, b"\xff\xd8\xff")
    done = call(
        "generate",
        "--model",
        sd1,
        "--from",
        "-",
        tmp_path / "b.png",
        data=(tmp_path / "piped.png").read_bytes(),
    )
    assert (tmp_path / "b.png").read_bytes() == (tmp_path / "piped.png").read_bytes()
    done = call("img2img", "-", "-", tmp_path / "b.png", "--model", sd1, data=b"")
    assert (done.code, "which can be read once" in done.err) == (2, True)


@pytest.mark.parametrize("family", ["sd2", "sdxl", "lcm"])
def test_other_families(call: Call, models: Models, tmp_path: Path, family: str) -> None:
    out = tmp_path / "a.png"
    assert call("generate", "--model", models(family), "a cat", out, *FAST, "--negative", "x").code == 0
    assert from_file(out).sampler == {"sd2": "ddim", "sdxl": "euler", "lcm": "lcm"}[family]


def test_a_picture_becomes_another(call: Call, sd1: Path, picture: Path, tmp_path: Path) -> None:
    near, far = tmp_path / "near.png", tmp_path / "far.png"
    for out, strength in ((near, "0.2"), (far, "1")):
        options = ("--model", sd1, "--steps", "5", "--strength", strength, "--seed", "1")
        assert call("img2img", picture, "a cat", out, *options).code == 0
    assert (pixels_of(near) != pixels_of(far)).any()
    assert from_file(near).strength == 0.2
    again = tmp_path / "again.png"
    assert call("img2img", picture, again, "--from", near, "--model", sd1).code == 0
    assert again.read_bytes() == near.read_bytes()
    done = call("generate", again, "--from", near, "--model", sd1)
    assert done.code == 1
    assert f"use 'latentcodec img2img IN ... OUT --from {near}'" in done.line


@pytest.mark.parametrize("family", ["sd2-inpainting", "sd1"])
def test_a_part_is_painted_anew(
    call: Call, models: Models, picture: Path, mask: Path, tmp_path: Path, family: str
) -> None:
    out = tmp_path / "a.png"
    options = ("--model", models(family), "--steps", "2", "--seed", "1")
    assert call("inpaint", picture, mask, "a cat", out, *options).code == 0
    same = (pixels_of(out) == pixels_of(picture)).all(axis=2)
    assert same[:32].all()
    assert not same[32:].all()
    assert from_file(out).pipeline == "inpaint"


def test_masks(call: Call, sd1: Path, picture: Path, mask: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.png"
    with Image.open(mask) as image:
        image.resize((32, 32), Image.Resampling.NEAREST).save(tmp_path / "small.png")
    options = ("a cat", out, "--model", sd1, "--steps", "2")
    done = call("inpaint", picture, tmp_path / "small.png", *options)
    assert done.code == 0
    assert "the mask of 32x32 was resized to 64x64 by nearest neighbours" in done.err
    Image.new("RGB", (64, 64), "white").save(tmp_path / "full.png")
    assert call("inpaint", picture, tmp_path / "full.png", *options).code == 0
    Image.new("L", (64, 64)).save(tmp_path / "empty.png")
    done = call("inpaint", picture, tmp_path / "empty.png", *options)
    assert (done.code, done.line.startswith("latentcodec: mask: it is empty")) == (1, True)


def test_depth_and_size_are_kept(call: Call, models: Models, picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.png"
    options = ("--model", models("sd2-depth"), "--steps", "3")
    assert call("depth2img", picture, "a statue", out, *options).code == 0
    assert pixels_of(out).shape == (64, 64, 3)
    Image.new("RGB", (40, 24), (90, 90, 90)).save(tmp_path / "flat.png")  # one depth everywhere
    assert call("depth2img", tmp_path / "flat.png", "a statue", out, *options).code == 0
    assert pixels_of(out).shape == (24, 40, 3)


def test_a_picture_becomes_larger(call: Call, models: Models, tmp_path: Path) -> None:
    small, out = tmp_path / "small.png", tmp_path / "large.png"
    Image.fromarray(np.arange(13 * 9 * 3, dtype=np.uint8).reshape(9, 13, 3)).save(small)
    options = ("--model", models("x4"), "--steps", "2", "--seed", "1", "--noise-level", "30")
    assert call("upscale", small, out, *options, "--prompt", "a wall").code == 0
    assert pixels_of(out).shape == (36, 52, 3)
    made_with = from_file(out)
    assert (made_with.prompt, made_with.noise_level, made_with.pipeline) == ("a wall", 30, "upscale")
    assert call("upscale", small, tmp_path / "again.png", "--model", models("x4"), "--from", out).code == 0
    assert (tmp_path / "again.png").read_bytes() == out.read_bytes()
    assert call("upscale", small, tmp_path / "plain.png", *options).code == 0  # a prompt is not needed


def test_loras_are_merged_and_found_again(call: Call, sd1: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from latentcodec.nn.stable_diffusion.unet import UNet

    lora = tmp_path / "film.safetensors"
    network = random_network(lambda: UNet(UNET))
    save_file(kohya(matrices(network, ATTENTION), "lora_unet_"), lora)
    with_lora, plain, again = (tmp_path / f"{name}.png" for name in ("with", "plain", "again"))
    options = ("--model", sd1, *FAST, "--seed", "1")
    assert call("generate", "a cat", plain, *options).code == 0
    assert call("generate", "a cat", with_lora, *options, "--lora", f"{lora}:0.7").code == 0
    assert from_file(with_lora).loras == (("film", 0.7),)
    assert (pixels_of(with_lora) != pixels_of(plain)).any()
    assert call("generate", again, "--from", with_lora, "--model", sd1).code == 0
    assert again.read_bytes() == with_lora.read_bytes()
    lora.rename(tmp_path / "moved.safetensors")
    done = call("generate", again, "--from", with_lora, "--model", sd1)
    assert done.code == 1
    assert (
        "made with the LoRA film, and there is no film.safetensors beside it: give --lora PATH:0.7"
        in done.line
    )
    done = call("generate", again, "--from", with_lora, *options, "--lora", tmp_path / "moved.safetensors")
    assert done.code == 0
    # As LCM-LoRA: convolutions too, a few steps of its sampler, no guidance.
    save_file(kohya(matrices(network, (*ATTENTION, *CONVOLUTIONS)), "lora_unet_"), lora)
    few = ("--lora", f"{lora}:0.2", "--sampler", "lcm", "--steps", "4", "--guidance", "1")
    assert call("generate", "a cat", again, "--model", sd1, "--size", "64", *few).code == 0
    assert (from_file(again).sampler, from_file(again).guidance) == ("lcm", 1.0)
    wide = random_network(lambda: UNet(replace(UNET, context=768)))
    save_file(kohya(matrices(wide, ATTENTION), "lora_unet_"), lora)
    done = call("generate", "a cat", again, *options, "--lora", lora)
    assert done.code == 1
    assert f"{lora}: a LoRA for another family (Stable Diffusion 1.x)" in done.line


def test_a_picture_of_another_program(call: Call, sd1: Path, tmp_path: Path) -> None:
    notes = PngImagePlugin.PngInfo()
    text = "a cat\nSteps: 2, Sampler: UniPC, CFG scale: 2, Seed: 5, Size: 32x32, Model: dream, Clip skip: 2"
    text += ", Schedule type: Automatic, Model hash: 1234, Version: v1.10"
    notes.add_text("parameters", text)
    source, out = tmp_path / "theirs.png", tmp_path / "ours.png"
    Image.new("RGB", (8, 8)).save(source, pnginfo=notes)
    done = call("generate", out, "--from", source)
    assert done.code == 1
    assert "made with the model dream, which is not in the store: name one with --model" in done.line
    done = call("generate", out, "--from", source, "--model", sd1)
    assert done.code == 0
    assert "it also says Sampler, Clip skip, which are left out here" in done.err
    assert (from_file(out).guidance, from_file(out).seed, from_file(out).sampler) == (2.0, 5, "ddim")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--steps", "0"), "steps 0: it is a whole number from 1 to 1000"),
        (("--guidance", "nan"), "guidance nan: it is a number from 0 to 100"),
        (("--seed", "-1"), "seed -1: it is a whole number from 0 to 4294967295"),
        (("--eta", "0.5", "--sampler", "euler"), "eta 0.5: of ddim only"),
        (("--karras", "--sampler", "ddim"), "karras: ddim has no such levels"),
        (("--size", "0x8"), "size 0"),
        (("--count", "0"), "--count 0: it is a number from 1 to"),
        (("--vae", "nowhere"), "nowhere: no such model"),
        (("--lora", "nowhere.safetensors"), "nowhere.safetensors: no such file"),
        (("--fast-decode",), "fast decode: sd1 needs taesd; get it with: latentcodec models fetch taesd"),
        (
            ("--negative", "a (dog"),
            'prompt, character 3: this ( is never closed; \\( is the character: "a »(«dog"',
        ),
        (("--family", "sd9"), "family 'sd9': use one of"),
        (("--device", "tpu"), "tpu"),
        (("--from", "nowhere.png"), "nowhere.png: No such file"),
    ],
)
def test_bad_options_are_one_line(
    call: Call, sd1: Path, tmp_path: Path, options: tuple[str, ...], why: str
) -> None:
    out = tmp_path / "a.png"
    out.write_bytes(b"kept")
    done = call("generate", "--model", sd1, "a cat", out, "--size", "64", "--steps", "2", *options)
    assert done.code == 1
    assert done.line.startswith("latentcodec: ")
    assert why in done.line
    assert out.read_bytes() == b"kept"
    assert [each.name for each in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("generate",), "0 arguments: name PROMPT OUT"),
        (("generate", "out.png"), "1 arguments: name PROMPT OUT"),
        (("generate", "a", "cat", "out.png"), "a prompt of words in quotes"),
        (("img2img", "in.png", "out.png"), "name IN PROMPT OUT"),
        (("inpaint", "in.png", "cat", "out.png"), "name IN MASK PROMPT OUT"),
        (("upscale", "in.png", "cat", "out.png"), "name IN and OUT"),
        (("generate", "cat", "out"), "OUT has no extension"),
        (("generate", "cat", "out.xyz"), "no picture format is known as '.xyz'"),
        (("generate", "cat", "."), "is a folder"),
        (
            ("generate", "cat", "a.png", "--count", "2"),
            "2 pictures need names: put %d into OUT, such as a-%d.png",
        ),
        (("generate", "cat", "a.png", "--size", "big"), "'big' is no size: write 768x512"),
        (("generate", "cat", "a.png", "--sampler", "unipc"), "--sampler"),
        (("generate", "cat", "a.png", "-v", "-Q"), "give one of them"),
        (("img2img", "a.png", "cat", "a.png"), "would be written over itself"),
    ],
)
def test_wrong_usage(call: Call, arguments: tuple[str, ...], why: str) -> None:
    done = call(*arguments)
    assert done.code == 2
    assert why in done.err


def test_prompts_of_every_kind(call: Call, sd1: Path, tmp_path: Path) -> None:
    out, options = tmp_path / "a.png", ("--model", sd1, "--size", "16", "--steps", "1")
    for prompt in ("", "夕日の中の猫, кот, 🐈‍⬛ 👩🏽‍🚀", "cat " * 200 + "BREAK dog", "--", "a\x1bb"):
        assert call("generate", *options, "--", prompt, out).code == 0
        assert from_file(out).prompt == prompt
    done = call("generate", *options, "word " * 10_000, out)
    assert (done.code, done.line) == (1, "latentcodec: prompt: 50,000 characters, at most 20,000; shorten it")


def test_sizes_that_are_no_multiples_of_eight(call: Call, sd1: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.png"
    for size, shape in (("61x37", (37, 61, 3)), ("1", (1, 1, 3))):
        assert call("generate", "--model", sd1, "cat", out, "--size", size, "--steps", "1").code == 0
        assert pixels_of(out).shape == shape


def test_a_strength_that_leaves_no_step(call: Call, sd1: Path, picture: Path, tmp_path: Path) -> None:
    options = ("--model", sd1, "--steps", "2", "--strength", "0.3")
    done = call("img2img", picture, "cat", tmp_path / "a.png", *options)
    assert done.code == 1
    assert "strength 0.3 of 2 steps leaves none to run: take a strength of at least 0.5" in done.line


def test_inputs_that_are_no_pictures(call: Call, sd1: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "in.png", tmp_path / "a.png"
    for content in (b"", b"no picture", b"\x8bLCI\r\n\x1a\n\x01broken"):
        source.write_bytes(content)
        done = call("img2img", source, "cat", out, "--model", sd1)
        assert done.code == 1
        assert done.err.startswith("latentcodec: ")
        assert len(done.err.splitlines()) == 1
    done = call("img2img", tmp_path / "none.png", "cat", out, "--model", sd1)
    assert (done.code, f"{tmp_path / 'none.png'}: No such file" in done.line) == (1, True)


def test_stored_pictures_are_inputs_too(call: Call, sd1: Path, lci: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.png"
    assert call("img2img", lci, "cat", out, "--model", sd1, "--steps", "2").code == 0
    assert pixels_of(out).shape == (64, 64, 3)


def test_latents_are_stored_themselves(call: Call, sd1: Path, mask: Path, tmp_path: Path) -> None:
    out, plain, back = tmp_path / "a.lci", tmp_path / "a.png", tmp_path / "back.png"
    options = ("a cat", "--model", sd1, *FAST, "--seed", "4")
    done = call("generate", *options, out, "-q", "90")
    assert done.code == 0
    assert re.search(r"64x48, \d+ bytes of [1-9]\d\.\d dB, seed 4, 2 steps", done.line)
    assert call("generate", *options, plain).code == 0
    assert call("decompress", out, back, "--model", sd1).code == 0
    error = (pixels_of(back).astype(float) - pixels_of(plain)) ** 2
    assert error.mean() < 10
    assert from_file(out) == from_file(plain) == from_file(back)
    assert "made with prompt a cat" in " ".join(call("info", out).out.decode().split())
    again = call("generate", "--from", out, "--model", sd1, tmp_path / "again.png")
    assert again.code == 0
    assert (tmp_path / "again.png").read_bytes() == plain.read_bytes()
    begun = call("img2img", out, "a dog", tmp_path / "b.lci", "--model", sd1, "--steps", "2")
    assert begun.code == 0
    piped = call("generate", *options, "-", "--format", "lci", "-q", "90")
    assert piped.out == out.read_bytes()
    done = call("inpaint", plain, out, "x", back, "--model", sd1)
    assert (done.code, "a mask is a picture" in done.line) == (1, True)
    done = call("generate", *options, out, "-q", "101")
    assert (done.code, "quality 101" in done.line) == (1, True)
    assert out.read_bytes() == piped.out


def test_a_safety_checker_withholds_what_it_flags(call: Call, sd1: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from latentcodec.nn.stable_diffusion.safety_checker import SafetyChecker, SafetyCheckerConfig

    config = SafetyCheckerConfig(width=64, layers=1, heads=1, feed_forward=8, side=28, projection=8)
    network = random_network(lambda: SafetyChecker(config))
    out, checker = tmp_path / "a.png", tmp_path / "checker.safetensors"
    for threshold, withheld in ((-2.0, True), (2.0, False)):
        network.concept_embeds_weights.fill_(threshold)
        network.special_care_embeds_weights.fill_(2.0)
        save_file(network.state_dict(), checker)
        options = ("--model", sd1, *FAST, "--seed", "3", "--safety-checker", checker)
        done = call("generate", "a cat", out, *options)
        assert done.code == 0
        assert ("the safety checker withheld the picture of seed 3" in done.err) == withheld
        assert (pixels_of(out).max() == 0) == withheld
    done = call("generate", "a cat", out, "--model", sd1, "--safety-checker", sd1)
    assert (done.code, "holds no safety checker" in done.line) == (1, True)


def test_latents_that_are_no_numbers(call: Call, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder, out = save_folder(tmp_path / "model", "sd1"), tmp_path / "a.png"
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    state = load_file(file)
    save_file(state | {"conv_out.weight": state["conv_out.weight"] * 1e38}, file)
    done = call("generate", "a cat", out, *FAST, "--model", folder)
    assert done.code == 1
    assert "not finite in float32" in done.line
    assert not out.exists()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError(
            "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes. Error code 12"
        ),
    ],
)
def test_memory_that_runs_out(
    call: Call, sd1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    from latentcodec.nn.stable_diffusion.unet import UNet

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(UNet, "forward", fail)
    done = call("generate", "a cat", tmp_path / "a.png", *FAST, "--model", sd1)
    assert done.code == 1
    assert "out of memory; a smaller size" in done.line


def test_info_of_several(call: Call, sd1: Path, lci: Path, picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.png"
    assert call("generate", "a cat", out, *FAST, "--model", sd1).code == 0
    done = call("info", out, lci)
    assert (done.code, b"toy-sd1" in done.out, b"64x48" in done.out) == (0, True, True)
    done = call("info", picture)  # a picture that was not generated
    assert (done.code, "not a latentcodec file" in done.line) == (1, True)


def test_a_file_of_strangers_opens_none(call: Call, sd1: Path, tmp_path: Path) -> None:
    """Names of models mean the store, those of LoRAs the folder of the file."""
    source, secret = tmp_path / "theirs.png", tmp_path / "secret.safetensors"
    secret.write_bytes(b"x")
    for settings, why in (
        ({"model": str(secret)}, "which is not in the store: name one with --model"),
        ({"vae": str(secret)}, "which is not in the store: name one with --vae"),
        ({"loras": [[str(secret.with_suffix("")), 1]]}, "beside it: give --lora PATH:1"),
    ):
        notes = PngImagePlugin.PngInfo()
        notes.add_text("latentcodec", json.dumps({"prompt": "a cat"} | settings))
        Image.new("RGB", (8, 8)).save(source, pnginfo=notes)
        options = () if "model" in settings else ("--model", sd1)
        done = call("generate", tmp_path / "a.png", "--from", source, *options)
        assert (done.code, why in done.line) == (1, True), done.err


def test_another_model_keeps_its_own_prediction(
    call: Call, models: Models, sd1: Path, tmp_path: Path
) -> None:
    made, again = tmp_path / "made.png", tmp_path / "again.png"
    options = (*FAST, "--seed", "1", "--prediction", "v_prediction")
    assert call("generate", "a cat", made, "--model", models("sd2"), *options).code == 0
    assert from_file(made).prediction == "v_prediction"
    assert call("generate", again, "--from", made, "--model", sd1).code == 0
    assert from_file(again).prediction == "epsilon"
