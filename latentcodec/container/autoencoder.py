"""The V chunk: which autoencoder a file needs, and how its latents were quantised (docs/format.md, "V").

    V payload ─► AutoencoderChunk.unpack: each field checked ─► kind, fingerprint, name, quantiser, steps

Reading it needs neither PyTorch nor numpy; codec/values/scalar.py has the quantiser's arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass

from latentcodec.container.chunks import Fields, write_varint
from latentcodec.errors import LimitExceeded, MalformedFile

__all__ = ["FINGERPRINT_BYTES", "KINDS", "AutoencoderChunk", "ScalarQuantiser"]

# The number of a kind is its place; it stands in files. 0 is for configurations that the caller gave.
KINDS = (
    *("other", "taesd", "taesdxl", "taesd3", "taef1", "taef2"),
    *("kl-sd", "kl-sdxl", "kl-x4", "kl-sd3", "kl-flux"),
)
FINGERPRINT_BYTES = 8
PRIOR_HASH_BYTES = 8
MAX_NAME_BYTES = 64
# 4 to 32 pixels: 32 is the grain of tiles, and with 4 no sum of the adaptive coder reaches 2^63.
MIN_DOWNSCALE_BITS, MAX_DOWNSCALE_BITS = 2, 5
MAX_TILE_VALUES = 1 << 23  # bounds a decoder's memory

# The number of a quantiser is its place. The prior's is the scalar one, coded by a prior.
QUANTISERS = SCALAR, PALETTE, PRIOR = "scalar", "palette", "prior"
NO_NETWORKS = bytes(4)  # the header's networks hash with the palette, whose symbols depend on nothing

# Steps: eight an octave, 256 times 2^(i/8).
_MANTISSAS = (256, 279, 304, 332, 362, 395, 431, 470)
STEP_BITS = 20  # fraction bits of a step
OFFSET_BITS = 3  # an offset counts eighths of a step
MAX_BASE = 159
MAX_DELTA = 15
_NO_OFFSET = 8
MAX_VALUE = (1 << 15) - 1  # of a quantised latent


@dataclass(frozen=True)
class ScalarQuantiser:
    """One step and one offset a channel; a value v stands for the latent (v + offset / 8) * step.

    base: 0..159, the finest step in eighths of an octave above 2^-12.
    deltas: per channel 0..15, quarters of an octave above it. offsets: per channel -7..7, eighths of a step.
    """

    base: int
    deltas: tuple[int, ...]
    offsets: tuple[int, ...]

    def steps(self) -> tuple[int, ...]:
        """Per channel, in units of 2^-20."""
        indices = [self.base + 2 * delta for delta in self.deltas]
        return tuple(_MANTISSAS[index % 8] << index // 8 for index in indices)

    def pack(self) -> bytes:
        """Base, then a byte a channel: the delta in the high half, the offset + 8 in the low."""
        pairs = zip(self.deltas, self.offsets, strict=True)
        return bytes([self.base, *(delta << 4 | offset + _NO_OFFSET for delta, offset in pairs)])

    @classmethod
    def unpack(cls, fields: Fields, channels: int) -> ScalarQuantiser:
        """The inverse of pack. Raises MalformedFile."""
        base = fields.take(1, "base step")[0]
        if base > MAX_BASE:
            raise MalformedFile(f"autoencoder: base step {base} is outside 0..{MAX_BASE}")
        packed = fields.take(channels, "steps and offsets")
        if any(byte & 15 == 0 for byte in packed):
            raise MalformedFile("autoencoder: an offset is -8, outside -7..7")
        return cls(base, tuple(b >> 4 for b in packed), tuple((b & 15) - _NO_OFFSET for b in packed))


@dataclass(frozen=True)
class AutoencoderChunk:
    """What a V chunk says.

    kind: one of KINDS. latents: channels. downscale_bits: log2 of the pixels a latent position covers, along
    a side. fingerprint: the first 8 bytes of the SHA-256 over the weights. name: what the encoder's user
    called it. scalar: the quantiser; None where it is the palette. prior: the hash of the fitted prior that
    codes the latents (codec/values/prior_file.py), empty where the adaptive coder does.
    """

    kind: str
    latents: int
    downscale_bits: int
    fingerprint: bytes
    name: str
    scalar: ScalarQuantiser | None
    prior: bytes = b""

    @property
    def downscale(self) -> int:
        """Pixels of a latent position, along a side."""
        return 1 << self.downscale_bits

    @property
    def quantiser(self) -> str:
        """Its name."""
        return PALETTE if self.scalar is None else PRIOR if self.prior else SCALAR

    def describe(self) -> str:
        """For messages: name, kind and fingerprint."""
        return f"{self.name or 'without a name'} ({self.kind}, fingerprint {self.fingerprint.hex()})"

    def pack(self) -> bytes:
        """The payload of the V chunk."""
        name = self.name.encode()[:MAX_NAME_BYTES].decode(errors="ignore").encode()
        head = bytes([KINDS.index(self.kind)]) + write_varint(self.latents) + bytes([self.downscale_bits])
        tail = bytes([QUANTISERS.index(self.quantiser)])
        tail += b"" if self.scalar is None else self.scalar.pack() + self.prior
        return head + self.fingerprint + write_varint(len(name)) + name + tail

    @classmethod
    def unpack(cls, payload: bytes) -> AutoencoderChunk:
        """The chunk of a payload. Raises MalformedFile."""
        fields = Fields(payload, "autoencoder")
        kind = fields.take(1, "kind")[0]
        if kind >= len(KINDS):
            raise MalformedFile(
                f"autoencoder: kind {kind}; this release knows 0..{len(KINDS) - 1}: upgrade latentcodec"
            )
        latents, bits = fields.varint("latent channels"), fields.take(1, "downscale")[0]
        if not MIN_DOWNSCALE_BITS <= bits <= MAX_DOWNSCALE_BITS:
            raise MalformedFile(
                f"autoencoder: downscale 2^{bits} is outside 2^{MIN_DOWNSCALE_BITS}..2^{MAX_DOWNSCALE_BITS}"
            )
        if not 1 <= latents <= 1 << 2 * bits:
            raise MalformedFile(
                f"autoencoder: {latents} latent channels, outside 1..{1 << 2 * bits} at downscale {1 << bits}"
            )
        fingerprint = fields.take(FINGERPRINT_BYTES, "fingerprint")
        length = fields.varint("name length")
        if length > MAX_NAME_BYTES:
            raise MalformedFile(f"autoencoder: a name of {length} bytes, the limit is {MAX_NAME_BYTES}")
        try:
            name = fields.take(length, "name").decode()
        except UnicodeDecodeError as error:
            raise MalformedFile(f"autoencoder: the name is no UTF-8 ({error})") from error
        if not name.isprintable():
            raise MalformedFile("autoencoder: the name holds control characters")
        number = fields.take(1, "quantiser")[0]
        if number >= len(QUANTISERS):
            raise MalformedFile(f"autoencoder: quantiser {number} is outside 0..{len(QUANTISERS) - 1}")
        quantiser = QUANTISERS[number]
        scalar = ScalarQuantiser.unpack(fields, latents) if quantiser != PALETTE else None
        prior = fields.take(PRIOR_HASH_BYTES, "prior's hash") if quantiser == PRIOR else b""
        if prior and scalar is not None and any(scalar.offsets):
            raise MalformedFile("autoencoder: with a prior all offsets are 0")
        fields.finish()
        return cls(KINDS[kind], latents, bits, fingerprint, name, scalar, prior)

    def check_tile(self, height: int, width: int) -> None:
        """Raise LimitExceeded where a tile of height x width latents has more values than are allowed."""
        if (values := self.latents * height * width) > MAX_TILE_VALUES:
            raise LimitExceeded(
                f"autoencoder: a tile has {values} latent values, the limit of the format is "
                f"{MAX_TILE_VALUES}; the picture needs smaller tiles"
            )
