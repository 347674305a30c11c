"""What made a picture: all settings, as text that other tools write and read, and as JSON.

    Parameters ─┬─► to_text ─► "a cat\\nNegative prompt: dog\\nSteps: 20, Seed: 5, ..." ─┬─► PNG, .lci
                └─► to_json ─► {"prompt": "a cat", "steps": 20, "seed": 5, ...} ──────────┘
                                         the text alone ─► EXIF UserComment of JPEG, WebP ...
    file ─► from_file ─► Parameters: of the JSON where there is one, else of the text

The text is AUTOMATIC1111's `parameters` (modules/infotext_utils.py and processing.py): prompt, negative
prompt, and one line of `Key: value` pairs, where a value with a comma, colon or line break is a JSON string.
What other programs note and this one has no field for is kept in `others`, as are samplers it has not. LoRAs
stand in the prompt as `<lora:name:weight>`, where those programs look for them.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from PIL import Image

from latentcodec import __version__
from latentcodec.codec.sidecar import unpack_sidecar, unpack_text
from latentcodec.container.chunks import DEFAULT_LIMITS
from latentcodec.container.file import unpack
from latentcodec.errors import InvalidArgument, NotLatentCodecFile
from latentcodec.generate.defaults import IMAGE_TO_IMAGE, INPAINT, SAMPLERS, TEXT_TO_IMAGE
from latentcodec.picture.directories import EXIF_IFD
from latentcodec.picture.files import open_picture
from latentcodec.picture.text import Text

TEXT_KEY, JSON_KEY = "parameters", "latentcodec"  # of a file's texts
MAX_CHARACTERS = 1 << 17  # of either; bounds the time

_USER_COMMENT = 0x9286  # Exif 2.32, 4.6.5
_LONG, _UNDEFINED_TYPE = 4, 7  # Pillow would write it as bytes, against the standard
_UNICODE, _ASCII, _UNDEFINED = b"UNICODE\0", b"ASCII\0\0\0", bytes(8)
_NEGATIVE = "Negative prompt:"
_KEY = re.compile(r"\s*(\w[\w \-/]{0,79}):\s*")
_LEAST_PAIRS = 3  # on a last line that is no more of the prompt: AUTOMATIC1111's rule
_LORA = re.compile(r" ?<lora:([^:>]{1,255})(?::([-+]?(?:\d{1,9}\.?\d{0,9}|\.\d{1,9})))?(?::[^>]{0,99})?>")
_KARRAS = "Karras"
# Texts of other programs, which hold no such parameters.
_FOREIGN = MappingProxyType({"workflow": "ComfyUI", "invokeai_metadata": "InvokeAI", "Comment": "NovelAI"})


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """The settings of one picture; None where they are not known.

    pipeline: of PIPELINES. seed: of this picture. width, height: in pixels. guidance: classifier-free.
    sampler, spacing: names of defaults.SAMPLERS and SPACINGS. strength: of pipelines that begin with a
    picture. noise_level: the upscaler's. model: its name in the store, or its file's. fingerprint: of its
    UNet. vae: an autoencoder in place of the model's own. loras: names and weights. fast_decode: by a tiny
    autoencoder. dtype: what the networks ran in. others: what another program noted, in order.
    """

    prompt: str = ""
    negative: str = ""
    pipeline: str = TEXT_TO_IMAGE
    seed: int | None = None
    steps: int | None = None
    guidance: float | None = None
    rescale: float | None = None
    sampler: str | None = None
    spacing: str | None = None
    karras: bool | None = None
    eta: float | None = None
    strength: float | None = None
    noise_level: int | None = None
    width: int | None = None
    height: int | None = None
    model: str | None = None
    fingerprint: str | None = None
    prediction: str | None = None
    vae: str | None = None
    loras: tuple[tuple[str, float], ...] = ()
    fast_decode: bool | None = None
    dtype: str | None = None
    others: tuple[tuple[str, str], ...] = ()

    def texts(self) -> Text:
        """What a PNG or .lci file holds of them."""
        return ((TEXT_KEY, to_text(self)), (JSON_KEY, to_json(self)))


# The text's keys in their order, the fields that they are, and how a value reads.
_KEYS: tuple[tuple[str, str, type], ...] = (
    ("Steps", "steps", int),
    ("Sampler", "sampler", str),
    ("Schedule type", "karras", str),
    ("CFG scale", "guidance", float),
    ("Seed", "seed", int),
    ("Size", "size", str),
    ("Model", "model", str),
    ("VAE", "vae", str),
    ("Denoising strength", "strength", float),
    ("Eta", "eta", float),
    ("Noise level", "noise_level", int),
    ("Guidance rescale", "rescale", float),
    ("Timestep spacing", "spacing", str),
    ("Prediction", "prediction", str),
    ("Pipeline", "pipeline", str),
    ("Fast decode", "fast_decode", bool),
    ("Precision", "dtype", str),
    ("UNet fingerprint", "fingerprint", str),
)
_OURS = ("RNG", "Version")  # keys that every text of ours ends with
_RNG = "CPU"  # noise is drawn on the CPU, which other programs have to be told
_VERSION = f"latentcodec {__version__}"


def to_text(parameters: Parameters) -> str:
    """AUTOMATIC1111's `parameters`: all that is known, in its words where it has any."""
    values: dict[str, str] = {}
    for key, name, _ in _KEYS:
        if name == "size":
            known = parameters.width and parameters.height
            value: Any = f"{parameters.width}x{parameters.height}" if known else None
        elif name == "karras":
            value = _KARRAS if parameters.karras else None
        elif name == "pipeline":
            value = None if parameters.pipeline == TEXT_TO_IMAGE else parameters.pipeline
        else:
            value = getattr(parameters, name)
        if value is not None and value is not False:
            value = SAMPLERS.get(value, value) if name == "sampler" else value
            values[key] = f"{value:.10g}" if isinstance(value, float) else str(value)
    values |= {key: value for key, value in parameters.others if key not in values}
    values |= dict(zip(_OURS, (_RNG, _VERSION), strict=True))
    loras = "".join(f" <lora:{name}:{weight:g}>" for name, weight in parameters.loras)
    line = ", ".join(f"{key}: {_quoted(value)}" for key, value in values.items())
    negative = f"{_NEGATIVE} {parameters.negative}" if parameters.negative else ""
    return "\n".join(part for part in (parameters.prompt + loras, negative, line) if part)


def from_text(text: str) -> Parameters:
    """The parameters in AUTOMATIC1111's text. Raises InvalidArgument where it is too long, or is none."""
    _check_length(text)
    *lines, last = text.strip().split("\n")
    pairs = dict(_pairs(last))
    if len(pairs) < _LEAST_PAIRS:
        lines, pairs = [*lines, last], {}
    start = next((i for i, line in enumerate(lines) if line.strip().startswith(_NEGATIVE)), len(lines))
    prompt = "\n".join(line.strip() for line in lines[:start])
    negative = "\n".join(line.strip() for line in lines[start:]).removeprefix(_NEGATIVE).strip()
    loras = tuple((match[1], float(match[2] or 1)) for match in _LORA.finditer(prompt))
    values: dict[str, Any] = {"prompt": _LORA.sub("", prompt), "negative": negative, "loras": loras}
    others: dict[str, str] = {}
    known = {key: (name, kind) for key, name, kind in _KEYS}
    for key, value in pairs.items():
        name, kind = known.get(key, ("", str))
        understood = _understood(name, kind, value) if name else None
        if understood is not None:
            values |= understood
        elif not (key == "RNG" and value == _RNG) and not (key == "Version" and value.startswith(JSON_KEY)):
            others[key] = value
    if values.get("strength") is not None and "pipeline" not in values:
        values["pipeline"] = IMAGE_TO_IMAGE
    if "Hires upscale" in others or "Hires resize" in others:  # whose second pass has the strength
        values |= {"pipeline": TEXT_TO_IMAGE, "strength": None}
    elif "Mask blur" in others:
        values["pipeline"] = INPAINT
    return Parameters(**values, others=tuple(others.items()))


def to_json(parameters: Parameters) -> str:
    """All that is known as a JSON object, the version of this program with it."""
    known = {name: value for name, value in asdict(parameters).items() if value not in (None, ())}
    return json.dumps(known | {"version": __version__}, ensure_ascii=False)


def from_json(text: str) -> Parameters:
    """The inverse of to_json; unknown names are left out. Raises InvalidArgument for what is no such JSON."""
    _check_length(text)
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"text {JSON_KEY!r}: it is no JSON ({error})") from error
    if not isinstance(values, dict):
        raise InvalidArgument(f"text {JSON_KEY!r}: it is no JSON object")
    found: dict[str, Any] = {}
    for field in fields(Parameters):
        value = values.get(field.name)
        if value is None:
            continue
        found[field.name] = _checked(field.name, str(field.type), value)
    return Parameters(**found)


def from_texts(text: Text) -> Parameters | None:
    """The parameters among the texts of a file, or None. Raises InvalidArgument where they are damaged."""
    found = dict(text)
    if JSON_KEY in found:
        return from_json(found[JSON_KEY])
    return from_text(found[TEXT_KEY]) if TEXT_KEY in found else None


def from_file(path: str | os.PathLike[str]) -> Parameters:
    """What made the picture in a file: a PNG, JPEG, WebP ... or .lci file.

    Raises InvalidArgument where it says nothing of that, and what reading a picture raises.
    """
    return from_bytes(Path(path).read_bytes(), os.fspath(path))


def from_bytes(data: bytes, name: str) -> Parameters:
    """The same of a file's content; `name` is what messages call it."""
    try:
        file, limit = unpack(data, DEFAULT_LIMITS), DEFAULT_LIMITS.max_metadata_bytes
        texts, exif = unpack_text(file.text, limit), unpack_sidecar(file.exif, "EXIF", limit)
    except NotLatentCodecFile:
        picture = open_picture(io.BytesIO(data), name=name)
        texts, exif = picture.text, picture.exif
    try:
        found = from_texts(texts)
        comment = user_comment(exif) if exif and found is None else ""
        if len(dict(_pairs(comment.rpartition("\n")[2]))) >= _LEAST_PAIRS:  # cameras write comments too
            found = from_text(comment)
    except InvalidArgument as error:
        raise InvalidArgument(f"{name}: {error}") from error
    if found is None:
        others = [program for key, program in _FOREIGN.items() if key in dict(texts)]
        by = f", only {others[0]}'s own, which are not read" if others else ""
        raise InvalidArgument(f"{name}: it holds no generation parameters{by}")
    return found


def exif_of(parameters: Parameters) -> bytes:
    """EXIF that has the text as its UserComment: a TIFF of two directories with an entry each."""
    comment = _UNICODE + to_text(parameters).encode("utf-16-be")
    first = struct.pack(">2sHI H HHII I", b"MM", 42, 8, 1, EXIF_IFD, _LONG, 1, 26, 0)
    return first + struct.pack(">H HHII I", 1, _USER_COMMENT, _UNDEFINED_TYPE, len(comment), 44, 0) + comment


def user_comment(exif: bytes) -> str:
    """The UserComment of EXIF (without "Exif\\0\\0"); "" where it has none, or is damaged."""
    tags = Image.Exif()
    try:
        tags.load(b"Exif\0\0" + exif)
        comment = tags.get_ifd(EXIF_IFD).get(_USER_COMMENT, b"")
    except Exception:  # noqa: BLE001 - Pillow's EXIF parser raises almost anything on damaged data
        return ""
    if isinstance(comment, str):
        return comment
    if not isinstance(comment, bytes):
        return ""
    code, content = comment[:8], comment[8:]
    if code == _UNICODE:  # of either byte order: programs disagree, and the standard is silent
        texts = [content.decode(order, "replace") for order in ("utf-16-be", "utf-16-le")]
        return max(texts, key=lambda text: sum(map(str.isascii, text))).strip("\0")
    content = content if code in (_ASCII, _UNDEFINED) else comment
    return content.decode("utf-8", "replace").strip("\0")


def _pairs(line: str) -> Iterator[tuple[str, str]]:
    """The pairs of the last line. Values of other tools may be JSON as it stands, with commas of its own."""
    place = 0
    while match := _KEY.match(line, place):
        place = match.end()
        value, end = _json_at(line, place) if line[place : place + 1] in ('"', "[", "{") else (None, place)
        if value is None:
            end = line.find(",", place)
            end = len(line) if end < 0 else end
            value = line[place:end].strip()
        yield match[1], value
        place = end + 1 if line[end : end + 1] == "," else len(line) if end >= len(line) else end
        if place < len(line) and not _KEY.match(line, place):  # no key follows: go on behind the next comma
            comma = line.find(",", place)
            place = len(line) if comma < 0 else comma + 1


def _json_at(line: str, place: int) -> tuple[str | None, int]:
    """The JSON value at a place, a string as its text, and where it ends; None where there is none."""
    try:
        value, end = json.JSONDecoder().raw_decode(line, place)
    except (ValueError, RecursionError):
        return None, place
    return value if isinstance(value, str) else line[place:end], end


def _quoted(value: str) -> str:
    needs = any(character in value for character in ',\n:"') and not value.startswith(("[", "{"))
    return json.dumps(value, ensure_ascii=False) if needs else value


def _understood(name: str, kind: type, value: str) -> dict[str, Any] | None:
    """A value of the text as fields; None where it is not understood."""
    if name == "size":
        match = re.fullmatch(r"(\d{1,6})x(\d{1,6})", value)
        return {"width": int(match[1]), "height": int(match[2])} if match else None
    if name == "karras":
        return {"karras": True} if value == _KARRAS else None
    if name == "sampler":
        plain = value.removesuffix(f" {_KARRAS}")  # "DPM++ 2M Karras", before its version 1.9
        ours = next((ours for ours, theirs in SAMPLERS.items() if theirs.lower() == plain.lower()), None)
        return None if ours is None else {"sampler": ours} | ({"karras": True} if plain != value else {})
    if kind is bool:
        return {name: value == "True"}
    try:
        number = kind(value)
    except (ValueError, OverflowError):
        return None
    return {name: number} if kind is str or math.isfinite(number) else None


def _checked(name: str, kind: str, value: Any) -> Any:
    """A value of the JSON as its field's type. Raises InvalidArgument."""
    if kind.startswith("tuple"):
        of = float if name == "loras" else str
        if isinstance(value, list) and all(_is_pair(each, of) for each in value):
            return tuple((key, of(each)) for key, each in value)
    elif kind.startswith("float"):
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    elif type(value).__name__ == kind.removesuffix(" | None"):
        return value
    raise InvalidArgument(f"text {JSON_KEY!r}: its {name} is {value!r:.60}, expected {kind}")


def _is_pair(value: Any, of: type) -> bool:
    kinds = (int, float) if of is float else (str,)
    return (
        isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and type(value[1]) in kinds
    )


def _check_length(text: str) -> None:
    if len(text) > MAX_CHARACTERS:
        raise InvalidArgument(f"parameters: {len(text):,} characters; at most {MAX_CHARACTERS:,} are read")
