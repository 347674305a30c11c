"""Generator: seeds, batches, sizes, progress and cancelling, previews, what is refused and what is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from latentcodec.errors import InvalidArgument, ModelError, Superseded, UnknownModel
from latentcodec.generate.generator import Generated, Generator
from latentcodec.generate.live import Progress, stream
from latentcodec.generate.models import Model
from tests.conftest import photograph

SMALL: dict[str, Any] = {"size": (40, 24), "steps": 2}
PROMPT = "a lighthouse"


def pixels(image: Image.Image) -> Any:
    return np.asarray(image).astype(int)


def test_a_picture_depends_on_its_seed_alone(toy: Generator) -> None:
    several = toy.text_to_image(PROMPT, seed=7, count=3, batch=3, **SMALL)
    assert [each.seed for each in several.parameters] == [7, 8, 9]
    for index, image in enumerate(several.images):
        alone = toy.text_to_image(PROMPT, seed=7 + index, **SMALL)
        assert np.abs(pixels(image) - pixels(alone.images[0])).max() <= 1
        assert torch.allclose(several.latents[index], alone.latents[0], atol=1e-4)
    assert np.abs(pixels(several.images[0]) - pixels(several.images[1])).max() > 1


def test_several_prompts_and_a_count(toy: Generator) -> None:
    made = toy.text_to_image(["a", "b"], seed=1, count=2, **SMALL)
    assert [(each.prompt, each.seed) for each in made.parameters] == [("a", 1), ("a", 2), ("b", 3), ("b", 4)]
    assert made.latents.shape == (4, 4, 3, 5)


def test_a_seed_that_was_drawn_is_reported_and_makes_the_picture_again(toy: Generator) -> None:
    first = toy.text_to_image(PROMPT, **SMALL)
    again = toy.text_to_image(PROMPT, seed=first.parameters[0].seed, **SMALL)
    assert first.images[0].tobytes() == again.images[0].tobytes()


@pytest.mark.parametrize("size", [(40, 24), (41, 23), (8, 8), (1, 1)])
def test_the_picture_has_the_size_that_is_asked_for(toy: Generator, size: tuple[int, int]) -> None:
    made = toy.text_to_image(PROMPT, size=size, steps=1)
    assert made.images[0].size == size
    assert (made.parameters[0].width, made.parameters[0].height) == size


def test_guidance_of_up_to_1_costs_one_call_a_step(toy: Generator) -> None:
    rows: list[int] = []

    def counted(x: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        rows.append(len(x))
        return toy.model.unet(x, *arguments, **options)

    counting = Generator(replace(toy.model, call=counted))
    counting.text_to_image(PROMPT, guidance=0, **SMALL)
    assert rows == [1, 1]
    counting.text_to_image(PROMPT, guidance=5, **SMALL)
    assert rows[2:] == [2, 2]
    counting.text_to_image("", guidance=5, **SMALL)  # away from the very same text: no use
    assert rows[4:] == [1, 1]


def test_a_negative_prompt_counts(toy: Generator) -> None:
    plain, negative = (
        toy.text_to_image(PROMPT, negative=text, seed=1, guidance=20, **SMALL) for text in ("", "storm")
    )
    assert not torch.equal(plain.latents, negative.latents)
    assert negative.parameters[0].negative == "storm"


def test_progress_and_previews(toy: Generator) -> None:
    seen: list[Progress] = []
    toy.text_to_image(PROMPT, count=2, callback=seen.append, preview=True, **SMALL)
    assert [(each.step, each.steps) for each in seen] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert all(each.preview is not None and each.preview.size == (5, 3) for each in seen)


def test_what_a_callback_raises_ends_the_run(toy: Generator) -> None:
    calls = 0

    def stop(_: Progress) -> None:
        nonlocal calls
        calls += 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        toy.text_to_image(PROMPT, size=(40, 24), steps=5, callback=stop)
    assert calls == 1


def test_a_stream(toy: Generator) -> None:
    *progress, made = stream(toy.text_to_image, PROMPT, preview=True, **SMALL)
    assert [each.step for each in progress if isinstance(each, Progress)] == [1, 2]
    assert isinstance(made, Generated)
    with pytest.raises(InvalidArgument, match="steps 0"):
        list(stream(toy.text_to_image, PROMPT, steps=0))
    endless = stream(toy.text_to_image, PROMPT, size=(40, 24), steps=900)
    next(endless)
    endless.close()  # type: ignore[attr-defined]  # returns: the work ended after a step


def test_a_stream_that_nobody_reads_ends_its_work() -> None:
    ended: list[BaseException] = []

    def work(callback: Any) -> None:
        try:
            for step in range(10_000):
                callback(Progress(step, 10_000))
        except Superseded as error:
            ended.append(error)
            raise

    events = stream(work)
    next(events)
    events.close()  # type: ignore[attr-defined]
    assert len(ended) == 1


def test_an_unknown_option_is_refused(toy: Generator) -> None:
    with pytest.raises(InvalidArgument, match="step: text to image takes no such option"):
        toy.text_to_image(PROMPT, step=3)  # type: ignore[call-arg]


@pytest.mark.parametrize("prompt", [[], [3], 5])
def test_prompts_that_are_none(toy: Generator, prompt: Any) -> None:
    with pytest.raises(InvalidArgument, match="prompt"):
        toy.text_to_image(prompt, **SMALL)


@pytest.mark.parametrize("prompt", ["", "夕日の中の猫", "🐈" * 40, "word " * 300, "ﷺ" * 30, "\u202egnirts"])
def test_prompts_of_all_kinds(toy: Generator, prompt: str) -> None:
    assert len(toy.text_to_image(prompt, **SMALL).images) == 1


def test_image_to_image_keeps_more_of_the_picture_at_less_strength(toy: Generator) -> None:
    source = photograph(width=41, height=30)
    latents = toy.model.encode(source).float()
    apart = []
    for strength in (0.2, 0.9):
        made = toy.image_to_image(source, PROMPT, strength=strength, steps=10, seed=1)
        assert made.images[0].size == (41, 30)
        assert made.parameters[0].strength == strength
        apart.append(float((made.latents - latents).norm()))
    assert apart[0] < apart[1]
    assert toy.image_to_image(source, PROMPT, size=(24, 16), steps=2).images[0].size == (24, 16)


def test_a_picture_of_a_file(toy: Generator, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    Image.fromarray(photograph(width=24, height=16)).save(path)
    made = toy.image_to_image(path, PROMPT, steps=2, seed=1)
    same = toy.image_to_image(photograph(width=24, height=16), PROMPT, steps=2, seed=1)
    assert torch.equal(made.latents, same.latents)
    with pytest.raises(OSError, match="missing"):
        toy.image_to_image(tmp_path / "missing.png", PROMPT)


def test_latents_that_are_not_finite_name_dtype_and_cure(toy: Generator) -> None:
    def infinite(x: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return torch.full_like(x[:, :4], torch.inf)

    broken = Generator(replace(toy.model, call=infinite))
    with pytest.raises(
        ModelError, match=r"latent is not finite in float32; use dtype float32, or another copy"
    ):
        broken.text_to_image(PROMPT, guidance=0, **SMALL)


def test_memory_that_runs_out_names_what_would_help(toy: Generator) -> None:
    def large(x: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: not enough memory")

    with pytest.raises(ModelError, match=r"out of memory; a smaller size.*bfloat16.*would help"):
        Generator(replace(toy.model, call=large)).text_to_image(PROMPT, **SMALL)


def test_other_errors_of_a_network_stay_what_they_are(toy: Generator) -> None:
    def wrong(x: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        Generator(replace(toy.model, call=wrong)).text_to_image(PROMPT, **SMALL)


def test_a_model_of_another_purpose_says_which_has_it(toy: Generator) -> None:
    with pytest.raises(InvalidArgument, match=r"cannot do depth to image.*take sd2-depth"):
        toy.depth_to_image(photograph(width=16, height=16), PROMPT)
    with pytest.raises(InvalidArgument, match=r"cannot upscale by 4: take sd-x4-upscaler"):
        toy.upscale(photograph(width=16, height=16))


class Flags:
    """A safety checker that flags every second picture."""

    class config:
        side = 28

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, pictures: torch.Tensor) -> list[bool]:
        assert pictures.shape == (1, 3, 28, 28)
        self.calls += 1
        return [self.calls % 2 == 0]


def test_pictures_that_are_flagged_are_withheld(toy: Generator) -> None:
    made = Generator(toy.model, Flags()).text_to_image(PROMPT, seed=3, count=2, **SMALL)  # type: ignore[arg-type]
    assert pixels(made.images[0]).any()
    assert not pixels(made.images[1]).any()
    assert not made.latents[1].any()
    assert "the safety checker withheld the picture of seed 4" in made.notes


def test_open_says_what_is_missing(known_toys: None, tmp_path: Path) -> None:
    from tests.toy_diffusion import save_model

    save_model(tmp_path / "silent", text=False)
    with pytest.raises(UnknownModel, match="holds no text encoder"):
        Generator.open(tmp_path / "silent")
    with pytest.raises(UnknownModel, match="no safety checker"):
        Generator.open(tmp_path / "silent", safety_checker=tmp_path)


def test_the_model_is_a_plain_record(toy: Generator) -> None:
    assert isinstance(toy.model, Model)
    assert toy.model.family == "sd1"
