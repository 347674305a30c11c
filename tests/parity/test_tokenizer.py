"""The tokenizer against transformers' CLIPTokenizer, built from the same vocabulary file."""

from __future__ import annotations

import gzip
import random
import sys
import unicodedata
from collections.abc import Iterator
from importlib import resources

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from latentcodec.nn.stable_diffusion.tokenizer import (
    END,
    LENGTH,
    PAD_CLIP_L,
    PAD_OPENCLIP,
    START,
    VOCABULARY_FILE,
    decode,
    encode,
    tokenize,
)

SURROGATES = range(0xD800, 0xE000)
TEXTS = {
    "ASCII": "a photograph of an astronaut riding a horse, 4k; (deep:1.2) [soft] {x} #1 @ 50% ~ `x` \\ | /",
    "accents": "Ein Café in Ålesund, naïve façade; e\u0301te\u0301, \u1e9b\u0323, \u212b, Ÿ, İstanbul, ΟΔΟΣ",
    "CJK": "夕日の中の猫、水彩画。一隻貓在樹下 고양이 그림 ㈱ 〇",
    "other scripts": "кошка на крыше, قطة على السطح, חתול, बिल्ली छत पर, แมวบนหลังคา, გამარჯობა",
    "emoji": "🙂🙂 👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 1️⃣ ❤️!!",
    "long words": "pneumonoultramicroscopicsilicovolcanoconiosis " + "lopadotemachoselacho" * 20,
    "numbers": "2026 3.14159 1,000,000 ½ ² ⅷ ٣ 一二 1e-5 0x1F",
    "punctuation": "... !!! ?! -- — … «x» “smart” ‘quotes’ «» ¿qué? ~~~ '' \"\" <b>&amp;</b> </w> ﬁ Ａ",
    "contractions": "I'll we've you're he'd it's 'S 'T 'tis rock'n'roll can't've 'll's ''s !'s 'm'm ’s",
    "white space": "  a \t b\n\nc\r\nd\x0be\x0cf\x85g\u00a0h\u2003i\u2028j\u3000k  ",
    "control characters": "a\x00b\x01c\x1cd\x1de\x1ef\x1fg\x7fh\u200bi\u200dj\ufeffk\u2060l",
    "empty": "",
    "blank": " \n ",
}


@pytest.fixture(scope="module")
def oracle() -> CLIPTokenizer:
    return build()


def build(**options: str) -> CLIPTokenizer:
    """transformers' tokenizer; its vocabulary is built here by the rule of OpenAI's simple_tokenizer.py."""
    packed = (resources.files("latentcodec.nn.stable_diffusion") / "data" / VOCABULARY_FILE).read_bytes()
    merges = gzip.decompress(packed).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    characters = [chr(byte) for byte in visible] + [chr(256 + index) for index in range(256 - len(visible))]
    words = [
        *characters,
        *(each + "</w>" for each in characters),
        *(each.replace(" ", "") for each in merges),
    ]
    words += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: index for index, word in enumerate(words)}
    assert len(vocabulary) == 49408
    return CLIPTokenizer(vocab=vocabulary, merges=[tuple(each.split()) for each in merges], **options)


def ids_of(oracle: CLIPTokenizer, text: str) -> list[int]:
    ids: list[int] = oracle(text)["input_ids"]
    assert (ids[0], ids[-1]) == (START, END)
    return ids[1:-1]


@pytest.mark.parametrize("name", TEXTS)
def test_ids_and_text(oracle: CLIPTokenizer, name: str) -> None:
    ids = encode(TEXTS[name])
    assert ids == ids_of(oracle, TEXTS[name])
    assert decode(ids) == oracle.decode(ids).strip(" ")


@pytest.mark.parametrize("name", TEXTS)
def test_sequences(oracle: CLIPTokenizer, name: str) -> None:
    options = {"padding": "max_length", "max_length": LENGTH, "truncation": True}
    sequence = tokenize(TEXTS[name], padding=PAD_CLIP_L)
    assert list(sequence.ids) == oracle(TEXTS[name], **options)["input_ids"]
    assert bool(sequence.dropped) == (len(encode(TEXTS[name])) > LENGTH - 2)


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(st.data())
def test_random_text(oracle: CLIPTokenizer, data: st.DataObject) -> None:
    known = st.characters(exclude_categories=["Cs", "Cn"])
    words = st.sampled_from(
        ["'s", "'re", "don't", "<|x|>", "12", "é", "\u0301", "日本", "🙂", "\x1c", "\u00a0"]
    )
    text = data.draw(st.text(known) | st.lists(words | st.text(known, max_size=3)).map(" ".join))
    assert encode(text) == ids_of(oracle, text)


def test_padding_is_not_an_exclamation_mark() -> None:
    """Where the padding is "!" transformers reads a prompt's as padding; OpenCLIP does not."""
    oracle = build(pad_token="!")
    assert ids_of(oracle, "a cat!") == [320, 2368, 0]
    assert tokenize("a cat!", padding=PAD_OPENCLIP).ids[:5] == (START, 320, 2368, 256, END)
    plain = tokenize("a cat", padding=PAD_OPENCLIP)
    options = {"padding": "max_length", "max_length": LENGTH}
    assert list(plain.ids) == oracle("a cat", **options)["input_ids"]


def test_special_tokens_in_a_text_are_text(oracle: CLIPTokenizer) -> None:
    assert END in ids_of(oracle, "a <|endoftext|> b")
    assert decode(encode("a <|endoftext|> b")) == "a <| endoftext |> b"


def assigned() -> Iterator[str]:
    """Every character that this Python's Unicode knows."""
    for code in range(sys.maxunicode + 1):
        if code not in SURROGATES and unicodedata.category(chr(code)) != "Cn":
            yield chr(code)


def compare_characters(oracle: CLIPTokenizer, characters: list[str]) -> None:
    """Each between letters, behind a numeral, an apostrophe and a mark: its kind decides the words."""
    texts = [f"s{each}s 1{each} '{each}s ?{each}" for each in characters]
    for text, expected in zip(texts, oracle(texts)["input_ids"], strict=True):
        assert encode(text) == expected[1:-1], f"U+{ord(text[1]):04X}"


def test_some_of_all_characters(oracle: CLIPTokenizer) -> None:
    characters = list(assigned())
    common = [each for each in characters if ord(each) < 0x3000]
    compare_characters(oracle, [*common[::5], *random.Random(5).sample(characters, 1000)])


@pytest.mark.release
def test_all_characters(oracle: CLIPTokenizer) -> None:
    characters = list(assigned())
    for start in range(0, len(characters), 4096):
        compare_characters(oracle, characters[start : start + 4096])
