"""One photograph through our codec, and through JPEG and WebP at the same bytes.

sample ─► native at 5,000 bytes per 512x512 ─► .lci ─► decoded .png ─┐
   ├────► JPEG, the best that is no larger ─────────────────────────┼─► table, comparison.png
   └────► WebP, the best that is no larger ─────────────────────────┘
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.experiments.comparison import Panel, side_by_side
from benchmarks.experiments.equal_bytes import nearest_not_over
from benchmarks.metrics.standard import psnr, ssim
from benchmarks.peers import Jpeg, Native, Peer, WebP
from benchmarks.pictures.arrays import Pixels
from benchmarks.pictures.datasets import load
from latentcodec.errors import TargetUnreachable

__all__ = ["BYTES_PER_PIXEL", "Entry", "demo"]

BYTES_PER_PIXEL = 5_000 / 512**2  # 0.1526 bits per pixel, the rate of M. Buehlmann's Stable Diffusion codec
TOLERANCE = 1.02  # a peer may take 2 % more, since its qualities are steps


@dataclass(frozen=True)
class Entry:
    """A row of the table."""

    title: str
    path: Path
    data_bytes: int
    picture: Pixels
    encode_seconds: float | None = None
    decode_seconds: float | None = None
    remark: str | None = None

    @property
    def bpp(self) -> float:
        """Bits of the file per pixel of the picture."""
        return float(8 * self.data_bytes / (self.picture.shape[0] * self.picture.shape[1]))


def demo(sample: Path, out: Path, console: Console) -> list[Entry]:
    """Makes the files, prints the table, and returns its rows: original, ours, JPEG, WebP."""
    out.mkdir(parents=True, exist_ok=True)
    picture = load(sample)
    original = Entry("original", sample, sample.stat().st_size, picture)
    ours = _ours(Native(), picture, out / f"{sample.stem}.lci")
    peers = [
        _at_most(Jpeg(), "JPEG", range(1, 96), ours.data_bytes, picture, out / f"{sample.stem}.jpg"),
        _at_most(WebP(), "WebP", range(101), ours.data_bytes, picture, out / f"{sample.stem}.webp"),
    ]
    decoded = out / f"{sample.stem}.lci.png"
    Image.fromarray(ours.picture).save(decoded)
    entries = [original, ours, *peers]
    comparison = out / "comparison.png"
    side_by_side([_panel(entry, picture) for entry in entries]).save(comparison)
    console.print(_table(entries))
    for name, path in {"compressed": ours.path, "decompressed": decoded, "side by side": comparison}.items():
        console.print(f"{name:>13}  [bold]{path}[/bold]", highlight=False)
    return entries


def _ours(codec: Native, picture: Pixels, path: Path) -> Entry:
    size = round(BYTES_PER_PIXEL * picture.shape[0] * picture.shape[1])
    codec.decode(codec.encode(picture, 50))  # untimed: the first run of a network sets up its kernels
    remark = None
    start = time.perf_counter()
    try:
        data = codec.encode_to_size(picture, size)
    except TargetUnreachable as error:
        start = time.perf_counter()
        data = codec.encode(picture, 0)
        remark = f"{size:,} bytes are out of reach ({error}); this is quality 0"
    encoded = time.perf_counter()
    path.write_bytes(data)
    decoded = codec.decode(path.read_bytes())
    return Entry(
        "latentcodec", path, len(data), decoded, encoded - start, time.perf_counter() - encoded, remark
    )


def _at_most(
    peer: Peer, title: str, settings: Sequence[int], size: int, picture: Pixels, path: Path
) -> Entry:
    limit = size * TOLERANCE
    setting, data = nearest_not_over(lambda quality: peer.encode(picture, quality), settings, limit)
    start = time.perf_counter()
    peer.encode(picture, setting)
    encoded = time.perf_counter()
    decoded = peer.decode(data)
    seconds = encoded - start, time.perf_counter() - encoded
    path.write_bytes(data)
    remark = None
    if len(data) > limit:
        remark = f"its smallest file, {len(data) / size - 1:+.0%} against ours: it cannot go as low"
    return Entry(f"{title}, quality {setting}", path, len(data), decoded, *seconds, remark)


def _panel(entry: Entry, original: Pixels) -> Panel:
    caption = f"{entry.data_bytes:,} bytes"
    if entry.picture is not original:
        caption += f", {entry.bpp:.3f} bpp, {psnr(original, entry.picture):.2f} dB"
    return Panel(entry.title, caption, entry.picture)


def _table(entries: Sequence[Entry]) -> Table:
    original = entries[0]
    height, width = original.picture.shape[:2]
    table = Table(title=f"{original.path}, {width} x {height}", box=box.SIMPLE_HEAD, caption_justify="left")
    table.add_column("codec", no_wrap=True)
    table.add_column("file", no_wrap=True)
    for name in ("bytes", "bpp", "PSNR", "SSIM", "encode s", "decode s"):
        table.add_column(name, justify="right", no_wrap=True)
    remarks = ["latentcodec's encode time is that of a search for the size."]
    for entry in entries:
        if entry is original:
            figures = ["", "", "", ""]
        else:
            figures = [
                f"{psnr(original.picture, entry.picture):.2f}",
                f"{ssim(original.picture, entry.picture):.4f}",
                f"{entry.encode_seconds:.3f}",
                f"{entry.decode_seconds:.3f}",
            ]
        style = "bold" if entry.path.suffix == ".lci" else None
        table.add_row(
            entry.title, entry.path.name, f"{entry.data_bytes:,}", f"{entry.bpp:.3f}", *figures, style=style
        )
        if entry.remark:
            remarks.append(f"{entry.title}: {entry.remark}.")
    table.caption = "\n".join(remarks)
    return table
