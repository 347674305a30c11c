r"""A prompt as chunks of weighted tokens: one parser for all text encoders.

    "a (red:1.2) house BREAK [rain]"
          │ brackets              every ( ) around a text multiplies its weight by 1.1, (text:1.2) by 1.2,
          ▼                       every [ ] divides it by 1.1; nested ones multiply
    a 1.0 | red 1.2 | house 1.0 | BREAK | rain 0.909
          │ tokenizer, each text by itself
          ▼
    Chunk(a red house), Chunk(rain)      at most 75 tokens each; start, end and padding come to them later

A chunk ends at BREAK and where the next word does not fit; a word of more than 75 tokens is cut. `\(`, `\)`,
`\[`, `\]`, `\:` and `\\` are the characters themselves, and any other backslash is one. The syntax is the one
of AUTOMATIC1111's web interface, whose `[from:to:when]`, `[a|b]` and `<lora:...>` are refused: taken for text
they would give other pictures without a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from latentcodec.errors import InvalidArgument
from latentcodec.nn.stable_diffusion.tokenizer import (
    END,
    LENGTH,
    MAX_CHARACTERS,
    START,
    encode,
    ends_word,
)

STEP = 1.1  # what a bracket multiplies or divides by; AUTOMATIC1111's prompt_parser.py
MAX_WEIGHT = 10.0
MAX_NESTING = 50
CHUNK = LENGTH - 2  # tokens beside start and end
MAX_CHUNKS = 40  # 3,000 tokens; bounds memory: every layer of a UNet reads all of them

_BREAK = "BREAK"
_PIECE = re.compile(
    r"(?P<escape>\\[()\[\]:\\])"
    r"|(?P<open>[(\[])"
    r"|:\s*(?P<weight>[-+.,\d]+)\s*(?P<closed>[)\]])"
    r"|(?P<close>[)\]])"
    r"|(?P<network><(?:lora|lyco|hypernet):[^>]*>)"
    rf"|(?P<break>(?<!\w){_BREAK}(?!\w))"
    r"|(?P<text>[^\\()\[\]:<|B]+|.)",
    re.DOTALL,
)
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)")
_SHOWN = 20  # characters of a prompt that an error shows on either side of the place


@dataclass(frozen=True)
class Chunk:
    """At most CHUNK tokens and the weight of each, without start, end and padding."""

    tokens: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()

    def ids(self, padding: int) -> tuple[int, ...]:
        """LENGTH ids: start, the tokens, end, padding (the tokenizer's PAD_CLIP_L or PAD_OPENCLIP)."""
        return (START, *self.tokens, END, *[padding] * (CHUNK - len(self.tokens)))

    def multipliers(self) -> tuple[float, ...]:
        """LENGTH weights: 1 for start, end and padding."""
        return (1.0, *self.weights, *[1.0] * (LENGTH - 1 - len(self.weights)))


@dataclass(frozen=True)
class Weighted:
    """A piece of a prompt between two brackets, and its weight."""

    text: str
    weight: float


def parse(prompt: str) -> list[list[Weighted]]:
    """The pieces of a prompt, one list for each part between BREAKs; "" has one part of no pieces.

    Raises InvalidArgument, with the place, for brackets that do not match, for weights that are no number or
    not within MAX_WEIGHT either way, for syntax of other programs, and for more than MAX_CHARACTERS.
    """
    if len(prompt) > MAX_CHARACTERS:
        raise InvalidArgument(f"prompt: {len(prompt):,} characters, at most {MAX_CHARACTERS:,}; shorten it")
    parts: list[list[Weighted]] = [[]]
    # A bracket that is still open: where, and from which part and piece on its text runs.
    opened: list[tuple[int, int, int]] = []
    for match in _PIECE.finditer(prompt):
        kind, place = match.lastgroup, match.start()
        if kind == "escape":
            _append(parts[-1], match[0][1:])
        elif kind == "network":
            raise _wrong(prompt, place, "name networks beside the prompt (--lora FILE:WEIGHT), not in it")
        elif kind == "text":
            if match[0] == "|" and opened and prompt[opened[-1][0]] == "[":
                raise _wrong(prompt, place, "[a|b] is not supported; \\[ is the character")
            _append(parts[-1], match[0])
        elif kind == "break":
            parts.append([])
        elif kind == "open":
            if len(opened) == MAX_NESTING:
                raise _wrong(prompt, place, f"more than {MAX_NESTING} brackets within each other")
            opened.append((place, len(parts) - 1, len(parts[-1])))
            parts[-1].append(Weighted("", 1.0))  # what follows is a piece of its own
        else:
            _close(prompt, match, parts, opened)
    if opened:
        bracket = prompt[opened[-1][0]]
        raise _wrong(prompt, opened[-1][0], f"this {bracket} is never closed; \\{bracket} is the character")
    parts = [[piece for piece in part if piece.text.strip()] for part in parts]
    return [part for part in parts if part] or [[]]


def chunks_of(prompt: str) -> tuple[Chunk, ...]:
    """A prompt as the chunks that text encoders read, at least one.

    Raises InvalidArgument as parse and the tokenizer do, and for more than MAX_CHUNKS.
    """
    chunks: list[Chunk] = []
    for part in parse(prompt):
        tokens: list[int] = []
        weights: list[float] = []
        for word, weight in _words(part):
            if tokens and len(tokens) + len(word) > CHUNK:
                chunks.append(Chunk(tuple(tokens), tuple(weights)))
                tokens, weights = [], []
            tokens += word
            weights += [weight] * len(word)
        chunks.append(Chunk(tuple(tokens), tuple(weights)))
    if len(chunks) > MAX_CHUNKS:
        raise InvalidArgument(
            f"prompt: {len(chunks)} chunks of {CHUNK} tokens, at most {MAX_CHUNKS}; shorten it"
        )
    return tuple(chunks)


def _words(part: list[Weighted]) -> Iterator[tuple[list[int], float]]:
    """The tokens of each word, at most CHUNK together, and their weight."""
    for piece in part:
        word: list[int] = []
        for token in encode(piece.text):
            word.append(token)
            if ends_word(token) or len(word) == CHUNK:
                yield word, piece.weight
                word = []


def _append(part: list[Weighted], text: str) -> None:
    if part and part[-1].weight == 1.0:
        part[-1] = Weighted(part[-1].text + text, 1.0)
    else:
        part.append(Weighted(text, 1.0))


def _close(
    prompt: str, match: re.Match[str], parts: list[list[Weighted]], opened: list[tuple[int, int, int]]
) -> None:
    """Weigh what stands between a bracket that closes and its partner."""
    place = match.end() - 1
    closing, weight = prompt[place], match["weight"]
    opening = "(" if closing == ")" else "["
    if not opened:
        raise _wrong(prompt, place, f"this {closing} closes no {opening}; \\{closing} is the character")
    start, part, piece = opened.pop()
    if prompt[start] != opening:
        raise _wrong(
            prompt, place, f"this {closing} would close the {prompt[start]} at character {start + 1}"
        )
    if closing == "]" and weight is not None:
        raise _wrong(
            prompt, place, "[text] takes no number, and [from:to:when] is not supported; write (text:0.9)"
        )
    factor = STEP if closing == ")" else 1 / STEP
    if weight is not None:
        if not _NUMBER.fullmatch(weight):
            raise _wrong(prompt, match.start("weight"), f"{weight} is no weight; write a number such as 1.2")
        factor = float(weight)
    for index in range(part, len(parts)):
        first = piece if index == part else 0
        parts[index][first:] = [Weighted(each.text, each.weight * factor) for each in parts[index][first:]]
        for each in parts[index][first:]:
            if abs(each.weight) > MAX_WEIGHT:
                limits = f"from -{MAX_WEIGHT:g} to {MAX_WEIGHT:g}"
                raise _wrong(prompt, start, f"the weight {each.weight:g}, where weights are {limits}")
    parts[-1].append(Weighted("", 1.0))


def _wrong(prompt: str, place: int, what: str) -> InvalidArgument:
    """An error that shows the place: character 3: ...: "a »(«red house"."""
    before, after = prompt[max(place - _SHOWN, 0) : place], prompt[place + 1 : place + 1 + _SHOWN]
    shown = f"{'…' * (place > _SHOWN)}{before}»{prompt[place]}«{after}"
    shown += "…" * (len(prompt) > place + 1 + _SHOWN)
    return InvalidArgument(f'prompt, character {place + 1}: {what}: "{shown}"')
