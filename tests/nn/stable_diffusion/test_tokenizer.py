"""The tokenizer: known ids, sequences, what it refuses. tests/parity compares it with transformers."""

from __future__ import annotations

import hashlib
import time
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentcodec.errors import InvalidArgument
from latentcodec.nn.stable_diffusion.tokenizer import (
    END,
    LENGTH,
    MAX_CHARACTERS,
    PAD_CLIP_L,
    PAD_OPENCLIP,
    START,
    VOCABULARY_FILE,
    decode,
    encode,
    tokenize,
)

# Of the file in open_clip_torch 3.3.0, which is that of https://github.com/openai/CLIP.
VOCABULARY_SHA256 = "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"
DATA = resources.files("latentcodec.nn.stable_diffusion") / "data"


def test_the_vocabulary_is_the_published_file_with_its_licence() -> None:
    assert hashlib.sha256((DATA / VOCABULARY_FILE).read_bytes()).hexdigest() == VOCABULARY_SHA256
    assert "Copyright (c) 2021 OpenAI" in (DATA / "LICENSE").read_text()


def test_known_ids() -> None:
    """The examples that OpenAI's and Hugging Face's documentation print."""
    assert encode("a photo of a cat") == [320, 1125, 539, 320, 2368]
    assert encode("a diagram") == [320, 22697]
    assert encode("hello world!") == [3306, 1002, 256]


@pytest.mark.parametrize("padding", [PAD_CLIP_L, PAD_OPENCLIP])
def test_a_sequence_is_start_text_end_padding(padding: int) -> None:
    sequence = tokenize("a cat!", padding=padding)
    assert sequence.ids == (START, 320, 2368, 256, END, *[padding] * 72)
    assert sequence.dropped == ""
    assert tokenize("", padding=padding).ids == (START, END, *[padding] * 75)


def test_what_does_not_fit_is_given_back() -> None:
    fits = tokenize("cat " * 75, padding=PAD_OPENCLIP)
    assert fits.ids == (START, *[2368] * 75, END)
    assert fits.dropped == ""
    long = tokenize("cat " * 75 + "and, at last, a dog's", padding=PAD_OPENCLIP)
    assert long.ids == fits.ids
    assert long.dropped == "and , at last , a dog 's"


def test_a_character_cut_in_two_is_marked() -> None:
    long = tokenize("cat " * 74 + "\U0001fadf", padding=PAD_CLIP_L)  # too new to have tokens of its own
    assert len(long.ids) == LENGTH
    assert long.dropped.startswith("\N{REPLACEMENT CHARACTER}")


def test_no_text_is_special() -> None:
    for text in ("<|endoftext|>", "<|startoftext|>", "<end_of_text>", "</w>"):
        assert not {START, END} & set(encode(text))
        assert decode(encode(text)).replace(" ", "") == text


def test_what_is_equal() -> None:
    assert encode("CAT") == encode("cat")
    assert encode("e\N{COMBINING ACUTE ACCENT}t\u00e9") == encode("\u00e9t\u00e9")
    assert encode("  a\t\n\N{NO-BREAK SPACE}cat\N{IDEOGRAPHIC SPACE}") == encode("a cat")
    assert encode("2026") == encode("2 0 2 6")
    assert encode("don't") == encode("don 't")


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_decoding_gives_the_text_but_for_case_and_spaces(text: str) -> None:
    once = decode(encode(text))
    assert decode(encode(once)) == once
    assert encode(once) == encode(text)


def test_ids_without_text() -> None:
    assert decode([START, 320, 2368, END, END]) == "a cat"
    assert decode([]) == ""
    for token in (-1, END + 1):
        with pytest.raises(InvalidArgument, match=f"token {token}: expected 0 to {END}"):
            decode([320, token])


def test_refusals() -> None:
    with pytest.raises(InvalidArgument, match=f"{MAX_CHARACTERS + 1} characters, at most {MAX_CHARACTERS}"):
        encode("a" * (MAX_CHARACTERS + 1))
    with pytest.raises(InvalidArgument, match="character 3 is half of one"):
        tokenize("ab\ud800", padding=PAD_CLIP_L)


@pytest.mark.parametrize(
    "unit",
    ["a", "ab", "\u65e5\u672c", "\N{COMBINING ACUTE ACCENT}\N{COMBINING DOT BELOW}", "'", "!?", "\U0001f642"],
)
def test_the_longest_texts_take_a_moment(unit: str) -> None:
    text = unit * (MAX_CHARACTERS // len(unit))
    start = time.process_time()
    assert encode(text)
    assert time.process_time() - start < 5
