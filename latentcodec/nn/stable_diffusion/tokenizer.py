"""CLIP's tokenizer: text to the ids that the text encoders read, and back.

    "A photo!"  ─► NFC, white space to one blank, lower case ─► words ─► bytes ─► merge pairs ─► ids
                                        a | photo | !          lowest rank first     320, 1125, 256
    tokenize:  start, at most 75 ids, end, padding up to 77           what does not fit is given back as text

A word is a contraction ('s 't 're 've 'm 'll 'd), a run of letters, one numeral, or a run of anything else
that is not white space; letters and numerals are Unicode's general categories L and N. The vocabulary is
OpenAI's file (data/, MIT): 256 bytes, 256 bytes that end a word, one id a merge, start and end.

The ids are those of transformers' `CLIPTokenizer`, with two exceptions on purpose. No text is special: a
prompt that holds "<|endoftext|>" holds these thirteen characters, so that a sequence has the one start and
the one end that its maker gave it. And an exclamation mark is 256 whatever the padding is: transformers
reads it as padding where the padding is 0, which is the id of a "!" inside a word. OpenCLIP's training also
mended mojibake, curly quotes, ligatures, full-width letters and HTML entities, dropped control characters,
and lower-cased a final Greek sigma to its final form; here, as in transformers, the text stays what was
typed. Letters that Unicode gained after this Python's tables count as neither letters
nor numerals.
"""

from __future__ import annotations

import gzip
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from heapq import heapify, heappop, heappush
from importlib import resources
from string import ascii_lowercase

from latentcodec.errors import InvalidArgument

VOCABULARY_FILE = "bpe_simple_vocab_16e6.txt.gz"
MERGES = 49152 - 256 - 2  # of the file's 262,144 the first; OpenAI's simple_tokenizer.py
END_OF_WORD = "</w>"

START = 49406
END = 49407
LENGTH = 77
# What fills a sequence up to LENGTH, by the encoder that reads it.
PAD_CLIP_L = END  # SD 1.x, SDXL's first
PAD_OPENCLIP = 0  # SD 2.x, SDXL's second

MAX_CHARACTERS = 20_000  # bounds the time; a sequence holds a few hundred

_WORD = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[a-z]+|0|['.]+")
_WHITE_SPACE = re.compile(r"[^\S\x1c-\x1f]+")  # Unicode's; `re` counts four control characters too


@dataclass(frozen=True)
class TokenSequence:
    """What an encoder reads, and the text that did not fit ("" where all did)."""

    ids: tuple[int, ...]
    dropped: str


def tokenize(text: str, *, padding: int) -> TokenSequence:
    """A text as one sequence of LENGTH ids; `padding` is PAD_CLIP_L or PAD_OPENCLIP.

    Text past 75 ids is dropped from the end, in the middle of a word if need be, and given back as decode
    spells it: say so to its author. Raises as encode does.
    """
    ids = encode(text)
    tokens = [START, *ids[: LENGTH - 2], END]
    return TokenSequence((*tokens, *[padding] * (LENGTH - len(tokens))), decode(ids[LENGTH - 2 :]))


def encode(text: str) -> list[int]:
    """The ids of a text of any number of tokens, without start, end and padding.

    Raises InvalidArgument for more than MAX_CHARACTERS and for what is no text (a lone surrogate).
    """
    if len(text) > MAX_CHARACTERS:
        raise InvalidArgument(f"text: {len(text)} characters, at most {MAX_CHARACTERS}; shorten it")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"text: character {error.start + 1} is half of one; remove it") from error
    return [token for word in _words(_normalise(text)) for token in _merge(word.encode())]


def decode(ids: Iterable[int]) -> str:
    """The text of ids: in lower case, blanks between words; start and end have none.

    Bytes that are no UTF-8 (a character cut in two) become U+FFFD. Raises InvalidArgument for other ids.
    """
    pieces = _vocabulary().pieces
    ids = list(ids)
    for token in ids:
        if not 0 <= token < len(pieces):
            raise InvalidArgument(f"token {token}: expected 0 to {len(pieces) - 1}")
    return b"".join(pieces[token] for token in ids).decode(errors="replace").strip(" ")


def ends_word(token: int) -> bool:
    """Whether a word ends with an id of encode."""
    return _vocabulary().pieces[token].endswith(b" ")


def _normalise(text: str) -> str:
    blanks = _WHITE_SPACE.sub(" ", unicodedata.normalize("NFC", text))
    return "".join(character.lower() for character in blanks)  # one by one: no final sigma


def _words(text: str) -> Iterator[str]:
    kinds = "".join(map(_kind, text))
    for match in _WORD.finditer(kinds):
        yield text[match.start() : match.end()]


def _kind(character: str) -> str:
    """A character that stands for its kind in _WORD; the letters of contractions stand for themselves."""
    if character in ascii_lowercase or character in " '":
        return character
    return {"L": "x", "N": "0"}.get(unicodedata.category(character)[0], ".")


def _merge(word: bytes) -> list[int]:
    """A word's ids: again and again the known pair of lowest rank, of these the leftmost, becomes one id.

    A heap of candidates over a linked list: time n log n in the word's length. An entry is out of date
    where its pair no longer stands there.
    """
    vocabulary = _vocabulary()
    ids = [vocabulary.byte_ids[byte] for byte in word]
    ids[-1] += len(vocabulary.byte_ids)
    count = len(ids)
    before, after = list(range(-1, count - 1)), list(range(1, count + 1))
    absorbed = -1

    def merged(left: int) -> int | None:
        right = after[left]
        return vocabulary.merges.get((ids[left], ids[right])) if right < count else None

    queue = [(token, left) for left in range(count) if (token := merged(left)) is not None]
    heapify(queue)
    while queue:
        token, left = heappop(queue)
        if merged(left) != token:
            continue
        right = after[left]
        ids[left], ids[right] = token, absorbed
        after[left] = after[right]
        if after[left] < count:
            before[after[left]] = left
        for neighbour in (before[left], left):
            if neighbour >= 0 and (candidate := merged(neighbour)) is not None:
                heappush(queue, (candidate, neighbour))
    return [token for token in ids if token != absorbed]


@dataclass(frozen=True)
class _Vocabulary:
    byte_ids: list[int]  # of the 256 bytes; plus 256 at the end of a word
    merges: dict[tuple[int, int], int]  # a pair of ids -> the id that replaces it; lower ones first
    pieces: list[bytes]  # the text of each id, with a blank where a word ends


@cache
def _vocabulary() -> _Vocabulary:
    # The file spells the bytes that are no visible Latin-1 characters as those from U+0100 on.
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = sorted(set(range(256)) - set(visible))
    spelling = dict(zip(map(chr, visible), visible, strict=True))
    spelling |= {chr(256 + index): byte for index, byte in enumerate(hidden)}
    ids = {character: token for token, character in enumerate(spelling)}
    ids |= {character + END_OF_WORD: token + len(spelling) for character, token in ids.items()}
    pieces = [bytes([byte]) for byte in spelling.values()]
    pieces += [piece + b" " for piece in pieces]
    merges = {}
    packed = (resources.files("latentcodec.nn.stable_diffusion") / "data" / VOCABULARY_FILE).read_bytes()
    for line in gzip.decompress(packed).decode().split("\n")[1 : MERGES + 1]:  # the first names the file
        left, right = line.split(" ")
        merges[ids[left], ids[right]] = ids[left + right] = len(pieces)
        pieces.append(pieces[ids[left]] + pieces[ids[right]])
    byte_ids = sorted(range(256), key=lambda token: pieces[token])
    return _Vocabulary(byte_ids, merges, [*pieces, b"", b""])  # start and end have no text
