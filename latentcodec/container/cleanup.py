"""The d chunk: how a file's latents may be cleaned up, and how much of it each tile bears (format.md, "d").

    d payload ─► CleanupChunk.unpack: each field checked ─► UNet, steps, seed, prompt, errors, amounts

Reading it needs neither PyTorch nor numpy. Decoders that do not clean up do not read it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from latentcodec.container.chunks import Fields, write_varint
from latentcodec.errors import InvalidArgument, MalformedFile

__all__ = ["AMOUNTS", "MAX_PROMPT_TOKENS", "CleanupChunk", "CleanupSteps", "pack_error", "unpack_error"]

METHOD = 0  # the only one so far; chunks of others are ignored
PREDICTIONS = ("epsilon", "v_prediction")  # a prediction's number is its place
AMOUNTS = ("off", "weak", "full")  # as diffusion.cleanup.Amount numbers them
FINGERPRINT_BYTES = 8
MAX_NAME_BYTES = 64
MAX_STEPS = 1000  # of a whole schedule: the timesteps that there are
MAX_STEPS_RUN = 50  # of those, the ones that are run: bounds a decoder's time
MAX_PROMPT_TOKENS = 75  # what CLIP's text encoders read besides start and end
MAX_SEED = (1 << 32) - 1  # a varint's most
MAX_TOKEN = 49405  # the last of CLIP's vocabulary before start and end
MAX_CHANNELS = 1024
MAX_TILES = 1 << 18  # bounds a reader's time; the most that a picture of 178 megapixels has are 65,536
_STRENGTH_UNIT, _ETA_UNIT = 1000, 100
_MATCHED, _STRENGTH = 0, 1

_FOUR_AMOUNTS = [bytes(byte >> shift & 3 for shift in (0, 2, 4, 6)) for byte in range(256)]

# A byte b > 0 stands for an error of 2^((b - 208) / 16), from 0.0002 to 7.7; 0 for none.
_ERROR_OCTAVE, _ERROR_ONE, _ERROR_MOST = 16, 208, 255


def pack_error(error: float) -> int:
    """The byte nearest to a root mean square error. Below and above what bytes reach it is their end."""
    if not error > 0:
        return 0
    return min(max(round(_ERROR_OCTAVE * math.log2(error)) + _ERROR_ONE, 1), _ERROR_MOST)


def unpack_error(byte: int) -> float:
    """The error that a byte stands for, in latents."""
    return float(2.0 ** ((byte - _ERROR_ONE) / _ERROR_OCTAVE)) if byte else 0.0


@dataclass(frozen=True)
class CleanupSteps:
    """The steps of a clean-up, in the file's integers: see diffusion.presets.Cleanup.

    steps: 1..1000. strength: thousandths, None where the noise level is matched. eta: hundredths, 0..100.
    """

    steps: int
    strength: int | None
    eta: int

    @classmethod
    def of(cls, steps: int, strength: float | None, eta: float) -> CleanupSteps:
        """The nearest that a file can say. Raises InvalidArgument beyond its limits."""
        rounded = None if strength is None else round(strength * _STRENGTH_UNIT)
        nearest = cls(steps, rounded, round(eta * _ETA_UNIT))
        problem = nearest.problem()
        if problem:
            raise InvalidArgument(f"clean-up: {problem}")
        return nearest

    def as_floats(self) -> tuple[int, float | None, float]:
        """Steps, strength and eta as the sampler takes them."""
        strength = None if self.strength is None else self.strength / _STRENGTH_UNIT
        return self.steps, strength, self.eta / _ETA_UNIT

    def problem(self) -> str:
        """What is out of its range, in words; empty where nothing is."""
        for name, value, low, high in (
            ("steps", self.steps, 1, MAX_STEPS),
            ("strength", self.strength or 0, 0, _STRENGTH_UNIT),
            ("eta", self.eta, 0, _ETA_UNIT),
        ):
            if not low <= value <= high:
                return f"{name} {value} is outside {low}..{high}"
        run = self.steps if self.strength is None else self.steps * self.strength // _STRENGTH_UNIT
        return f"{run} steps would be run, at most {MAX_STEPS_RUN} may" if run > MAX_STEPS_RUN else ""


@dataclass(frozen=True, kw_only=True)
class CleanupChunk:
    """What a d chunk says.

    prediction: of PREDICTIONS, what the UNet predicts. fingerprint: the first 8 bytes of the SHA-256 over the
    UNet's weights. name: what the writer called it. seed: of tile 0; tile i has seed + i, modulo 2^32.
    prompt: token ids of CLIP's vocabulary, without start and end; () is the empty prompt. errors: a byte a
    channel, see unpack_error. amounts: a tile's place in AMOUNTS, for each core of docs/latents.md, "Pieces".
    """

    prediction: str
    fingerprint: bytes
    name: str
    steps: CleanupSteps
    seed: int
    prompt: tuple[int, ...]
    errors: tuple[int, ...]
    amounts: tuple[int, ...]

    def describe(self) -> str:
        """For messages: the UNet's name and fingerprint."""
        return f"{self.name or 'without a name'} (fingerprint {self.fingerprint.hex()})"

    def pack(self) -> bytes:
        """The payload of the d chunk. Raises InvalidArgument for what it cannot hold."""
        if self.prediction not in PREDICTIONS:
            raise InvalidArgument(
                f"clean-up: prediction {self.prediction!r}; a file holds {' or '.join(PREDICTIONS)}"
            )
        if len(self.fingerprint) != FINGERPRINT_BYTES or not self.name.isprintable():
            raise InvalidArgument(
                f"clean-up: the denoiser {self.name!r} has a fingerprint of {len(self.fingerprint)} bytes; a "
                f"file holds a printable name and {FINGERPRINT_BYTES} bytes"
            )
        if len(self.amounts) > MAX_TILES:
            raise InvalidArgument(f"clean-up: {len(self.amounts)} tiles; a file holds up to {MAX_TILES}")
        if len(self.prompt) > MAX_PROMPT_TOKENS or any(not 0 <= token <= MAX_TOKEN for token in self.prompt):
            raise InvalidArgument(
                f"clean-up: a prompt of {len(self.prompt)} tokens; a file holds up to {MAX_PROMPT_TOKENS}, "
                f"from 0 to {MAX_TOKEN}: shorten it"
            )
        name = self.name.encode()[:MAX_NAME_BYTES].decode(errors="ignore").encode()
        steps, strength, eta = self.steps.steps, self.steps.strength, self.steps.eta
        mode = bytes([_MATCHED]) if strength is None else bytes([_STRENGTH])
        parts = [
            write_varint(METHOD),
            bytes([PREDICTIONS.index(self.prediction)]),
            self.fingerprint,
            *(write_varint(len(name)), name),
            *(mode, write_varint(steps), b"" if strength is None else write_varint(strength), bytes([eta])),
            write_varint(self.seed),
            *(write_varint(number) for number in (len(self.prompt), *self.prompt)),
            *(write_varint(len(self.errors)), bytes(self.errors)),
            *(write_varint(len(self.amounts)), _pack_amounts(self.amounts)),
        ]
        return b"".join(parts)

    @classmethod
    def unpack(cls, payload: bytes) -> CleanupChunk | None:
        """The chunk of a payload; None for a method that this version does not know. Raises MalformedFile."""
        fields = Fields(payload, "clean-up")
        if fields.varint("method") != METHOD:
            return None  # with fields that only a later version knows
        prediction = fields.take(1, "prediction")[0]
        if prediction >= len(PREDICTIONS):
            raise MalformedFile(f"clean-up: prediction {prediction} is outside 0..{len(PREDICTIONS) - 1}")
        fingerprint = fields.take(FINGERPRINT_BYTES, "fingerprint")
        name = _name(fields)
        steps = _steps(fields)
        seed = fields.varint("seed")
        prompt = tuple(
            _bounded(fields, "token", 0, MAX_TOKEN)
            for _ in range(_bounded(fields, "prompt length", 0, MAX_PROMPT_TOKENS))
        )
        errors = tuple(fields.take(_bounded(fields, "channels", 1, MAX_CHANNELS), "errors"))
        tiles = _bounded(fields, "tiles", 0, MAX_TILES)
        amounts = _unpack_amounts(fields.take(-(-tiles // 4), "amounts"), tiles)
        fields.finish()
        return cls(
            prediction=PREDICTIONS[prediction],
            fingerprint=fingerprint,
            name=name,
            steps=steps,
            seed=seed,
            prompt=prompt,
            errors=errors,
            amounts=amounts,
        )


def _name(fields: Fields) -> str:
    length = _bounded(fields, "name length", 0, MAX_NAME_BYTES)
    try:
        name = fields.take(length, "name").decode()
    except UnicodeDecodeError as error:
        raise MalformedFile(f"clean-up: the name is no UTF-8 ({error})") from error
    if not name.isprintable():
        raise MalformedFile("clean-up: the name holds control characters")
    return name


def _steps(fields: Fields) -> CleanupSteps:
    mode = fields.take(1, "mode")[0]
    if mode not in (_MATCHED, _STRENGTH):
        raise MalformedFile(f"clean-up: mode {mode} is neither {_MATCHED} nor {_STRENGTH}")
    count = fields.varint("steps")
    strength = fields.varint("strength") if mode == _STRENGTH else None
    steps = CleanupSteps(count, strength, fields.take(1, "eta")[0])
    problem = steps.problem()
    if problem:
        raise MalformedFile(f"clean-up: {problem}")
    return steps


def _bounded(fields: Fields, name: str, low: int, high: int) -> int:
    value = fields.varint(name)
    if not low <= value <= high:
        raise MalformedFile(f"clean-up: {name} {value} is outside {low}..{high}")
    return value


def _pack_amounts(amounts: Sequence[int]) -> bytes:
    """Two bits an amount, the first in the low bits."""
    packed = bytearray(-(-len(amounts) // 4))
    for place, amount in enumerate(amounts):
        packed[place // 4] |= amount << 2 * (place % 4)
    return bytes(packed)


def _unpack_amounts(packed: bytes, count: int) -> tuple[int, ...]:
    amounts = b"".join(map(_FOUR_AMOUNTS.__getitem__, packed))
    if any(amounts[count:]) or max(amounts, default=0) >= len(AMOUNTS):
        raise MalformedFile("clean-up: an amount is 3, or the bits after the last one are not 0")
    return tuple(amounts[:count])
