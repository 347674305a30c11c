"""Prompts: weights worked out by hand, chunks, errors that show the place."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentcodec.errors import InvalidArgument
from latentcodec.generate.prompt import CHUNK, MAX_CHUNKS, Chunk, chunks_of, parse
from latentcodec.nn.stable_diffusion.tokenizer import (
    END,
    MAX_CHARACTERS,
    PAD_CLIP_L,
    PAD_OPENCLIP,
    START,
    decode,
    encode,
)

A, PHOTO, CAT, DOG = 320, 1125, 2368, 1929


def pieces(prompt: str) -> list[list[tuple[str, float]]]:
    return [[(piece.text, round(piece.weight, 6)) for piece in part] for part in parse(prompt)]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("", []),
        ("a cat", [("a cat", 1.0)]),
        ("a (cat)", [("a ", 1.0), ("cat", 1.1)]),
        ("a ((cat))", [("a ", 1.0), ("cat", 1.21)]),
        ("a (cat:1.5) here", [("a ", 1.0), ("cat", 1.5), (" here", 1.0)]),
        ("[cat]", [("cat", 0.909091)]),
        ("[[cat]]", [("cat", 0.826446)]),
        ("([cat])", [("cat", 1.0)]),
        # 1.1 around 1.1, and a number in the middle: each text is multiplied by what stands around it
        ("(a (b:2) [c] d:1.5)", [("a ", 1.5), ("b", 3.0), ("c", 1.363636), (" d", 1.5)]),
        ("(cat: 0.8 )", [("cat", 0.8)]),
        ("(cat:-1)(dog:.5)", [("cat", -1.0), ("dog", 0.5)]),
        ("(cat:0)", [("cat", 0.0)]),
        (r"a \(cat\) \[x\] \\ (b\:1)", [("a (cat) [x] \\ ", 1.0), ("b:1", 1.1)]),
        (r"C:\dir a:b 16:9 | x", [(r"C:\dir a:b 16:9 | x", 1.0)]),
        ("(a:b)", [("a:b", 1.1)]),
        ("()", []),
        ("BREAKFAST A_BREAK", [("BREAKFAST A_BREAK", 1.0)]),
    ],
)  # fmt: skip
def test_weights_by_hand(prompt: str, expected: list[tuple[str, float]]) -> None:
    assert pieces(prompt) == [expected]


def test_break_splits_also_inside_of_brackets() -> None:
    assert pieces("a BREAK b") == [[("a ", 1.0)], [(" b", 1.0)]]
    assert pieces("(a BREAK b:2) c") == [[("a ", 2.0)], [(" b", 2.0), (" c", 1.0)]]
    assert pieces("BREAK a BREAK BREAK b BREAK") == [[(" a ", 1.0)], [(" b ", 1.0)]]
    assert pieces("BREAK") == [[]]


@pytest.mark.parametrize(
    ("prompt", "place", "why"),
    [
        ("a (red house", 3, 'this ( is never closed; \\( is the character: "a »(«red house"'),
        ("a [red (house)", 3, "this [ is never closed"),
        ("a red) house", 6, "this ) closes no ("),
        ("a red:1.2) house", 10, "this ) closes no ("),
        (":]", 2, "this ] closes no ["),
        ("(a]", 3, "this ] would close the ( at character 1"),
        ("a [b:1.2)", 9, "this ) would close the [ at character 3"),
        ("[cat:0.8]", 9, "[text] takes no number"),
        ("a [cat:dog:0.5]", 15, "[from:to:when] is not supported"),
        ("a [cat|dog]", 7, "[a|b] is not supported"),
        ("(cat:1,2)", 6, "1,2 is no weight; write a number such as 1.2"),
        ("(cat:1.2.3)", 6, "1.2.3 is no weight"),
        ("x (cat:11)", 3, "the weight 11, where weights are from -10 to 10"),
        ("((cat:5):5)", 1, "the weight 25"),
        ("(" * 30 + "cat" + ")" * 30, 6, "the weight 10.8"),
        ("[" * 51 + "cat" + "]" * 51, 51, "more than 50 brackets"),
        ("a cat <lora:style:0.8>", 7, "--lora FILE:WEIGHT"),
    ],
)
def test_an_error_shows_the_place(prompt: str, place: int, why: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        chunks_of(prompt)
    message = str(raised.value)
    assert message.startswith(f"prompt, character {place}: ")
    assert why in message


def test_a_long_prompt_is_shown_around_the_place() -> None:
    with pytest.raises(InvalidArgument, match='"…' + "x" * 20 + r"»\(«" + "y" * 20 + '…"'):
        parse("x" * 50 + "(" + "y" * 50)


def test_a_chunk_is_start_tokens_end_padding() -> None:
    (chunk,) = chunks_of("a (cat:2) photo")
    assert chunk == Chunk((A, CAT, PHOTO), (1.0, 2.0, 1.0))
    assert chunk.ids(PAD_CLIP_L) == (START, A, CAT, PHOTO, *[END] * 73)
    assert chunk.ids(PAD_OPENCLIP) == (START, A, CAT, PHOTO, END, *[0] * 72)
    assert chunk.multipliers() == (1.0, 1.0, 2.0, *[1.0] * 74)
    assert Chunk().ids(PAD_OPENCLIP) == (START, END, *[0] * 75)


def test_past_75_tokens_another_chunk_begins() -> None:
    assert [len(chunk.tokens) for chunk in chunks_of("cat " * 75)] == [75]
    assert [chunk.tokens for chunk in chunks_of("cat " * 75 + "dog")] == [(CAT,) * 75, (DOG,)]
    assert [len(chunk.tokens) for chunk in chunks_of("cat BREAK dog a")] == [1, 2]


def test_words_are_not_cut_unless_they_are_longer_than_a_chunk() -> None:
    word = encode("antidisestablishmentarianism")
    assert len(word) > 1
    first, second = chunks_of("cat " * 74 + "antidisestablishmentarianism")
    assert first.tokens == (CAT,) * 74
    assert list(second.tokens) == word
    long = chunks_of("q" * 1000)
    assert [token for chunk in long for token in chunk.tokens] == encode("q" * 1000)
    assert all(len(chunk.tokens) == CHUNK for chunk in long[:-1])


@pytest.mark.parametrize(
    "prompt",
    ["猫の写真、桜", "фото кошки", "صورة قطة", "रंगीन बिल्ली", "🐈‍⬛🌸 👩🏽‍🚀", "ﬁ ½ Ⅻ ９", "a\x00b\u202ec"],
)
def test_every_script_keeps_its_tokens(prompt: str) -> None:
    assert [token for chunk in chunks_of(prompt) for token in chunk.tokens] == encode(prompt)
    (chunk,) = chunks_of(f"({prompt}:1.3)")
    assert decode(chunk.tokens) == decode(encode(prompt))
    assert set(chunk.weights) == {1.3}


def test_endless_prompts_are_refused_at_once() -> None:
    start = time.process_time()
    with pytest.raises(InvalidArgument, match=rf"50,000 characters, at most {MAX_CHARACTERS:,}; shorten"):
        chunks_of("word " * 10_000)
    with pytest.raises(InvalidArgument, match=rf"chunks of 75 tokens, at most {MAX_CHUNKS}"):
        chunks_of("a " * 9_999)
    with pytest.raises(InvalidArgument, match="more than 50 brackets"):
        chunks_of("(" * MAX_CHARACTERS)
    with pytest.raises(InvalidArgument, match="half of one"):
        chunks_of("a \ud83d cat")
    chunks_of("(a)" * 900)
    assert time.process_time() - start < 5


@given(st.text(st.sampled_from("a (:1.2)[]\\|BREAK<lora:>"), max_size=40))
def test_any_text_is_parsed_or_refused(prompt: str) -> None:
    try:
        chunks = chunks_of(prompt)
    except InvalidArgument:
        return
    assert all(len(chunk.tokens) == len(chunk.weights) <= CHUNK for chunk in chunks)


@given(st.text(max_size=60).filter(lambda text: "BREAK" not in text))
def test_escaped_text_is_the_text(text: str) -> None:
    escaped = "".join("\\" + each if each in "()[]:\\" else each for each in text).replace("<", " ")
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    (part,) = parse(escaped)
    assert "".join(piece.text for piece in part).strip() == text.replace("<", " ").strip()
