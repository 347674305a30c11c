"""Where the native model fails: delta rates by kind of picture, and details enlarged, side by side.

    kinds ─► OUT/set/<kind>.<name>.png ─► run: native, WebP, AVIF ─► BD-rates of a kind's rows ─► failures.md
                                                (where ours lost nothing: bytes at equal quality)
      └────► native at QUALITY, the others' largest file not above it ─► a detail of each ─► <kind>.webp

With `docs`: the table between MARKS in docs/training.md is replaced, and the strips go to docs/pictures. The
words around them are people's.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track

from benchmarks.experiments.at_size import table_head
from benchmarks.experiments.comparison import ZOOM, Panel, contact_sheet
from benchmarks.experiments.equal_bytes import HIGHEST, best_file
from benchmarks.experiments.failure_kinds import Kind
from benchmarks.metrics import Metric
from benchmarks.metrics.standard import psnr
from benchmarks.peers import Peer
from benchmarks.pictures.arrays import Floats, Pixels
from benchmarks.pictures.datasets import DataSet
from benchmarks.pictures.regions import DETAIL, busiest
from benchmarks.report.curves import OURS
from benchmarks.report.equal_quality import percent, turns_lossless
from benchmarks.report.plot import LABELS
from benchmarks.report.summary import measured, summarise
from benchmarks.runs.rows import ROWS, Row, read_rows, write_rows
from benchmarks.runs.run import run
from latentcodec.atomic import write_atomically
from latentcodec.container.header import Box
from latentcodec.errors import InvalidArgument

__all__ = ["CODECS", "METRICS", "PHOTOGRAPHS", "QUALITIES", "failures", "publish"]

CODECS = ("native", "webp", "avif")
METRICS = ("psnr", "ms_ssim", "ssimulacra2")
PHOTOGRAPHS = ("chelsea.png", "coffee.png", "astronaut.png")
"""Those of samples/, all free to be shown."""
QUALITIES = (10.0, 30.0, 50.0, 70.0, 90.0)
QUALITY = 55
"""Of native in the strips."""
MARKS = ("<!-- failures: begin -->", "<!-- failures: end -->")
NONE = "–"
FOOTNOTE = r"\* Native keeps some without loss: bytes at equal quality, and WebP may be lossless too."


def failures(
    kinds: Mapping[str, Kind],
    peers: Sequence[Peer],
    metrics: Mapping[str, Metric],
    out: Path,
    *,
    jobs: int = 1,
    console: Console | None = None,
) -> str:
    """Writes failures.md and a strip a kind into `out`, and returns the table as Markdown.

    peers: ours and at least one other. What `out` holds of the others is not measured again.
    """
    console = console or Console(stderr=True)
    data = _write_pictures(kinds, out / "set")
    # Ours is measured again every time: its encoder may have changed, which no version shows.
    (out / "run").mkdir(parents=True, exist_ok=True)
    write_rows(out / "run" / ROWS, [row for row in read_rows(out / "run" / ROWS) if row.codec != OURS])
    rows = run(data, peers, metrics, out / "run", settings=QUALITIES, jobs=jobs, console=console)
    for name, kind in track(kinds.items(), "strips", console=console, total=len(kinds)):
        own = [row for row in rows if row.picture.startswith(f"{name}.")]
        write_atomically(out / f"{name}.webp", _lossless(strip(kind, peers, own)))
    table = _table(kinds, rows, peers, metrics)
    write_atomically(out / "failures.md", table.encode())
    return table


def publish(kinds: Mapping[str, Kind], table: str, out: Path, docs: Path) -> None:
    """Puts the table between MARKS in docs/training.md, and the strips into docs/pictures.

    Raises InvalidArgument where the marks are not there.
    """
    page = docs / "training.md"
    before, begin, rest = page.read_text(encoding="utf-8").partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not (begin and end):
        raise InvalidArgument(
            f"{page} lacks the lines {MARKS[0]} and {MARKS[1]}: the table goes between them"
        )
    (docs / "pictures").mkdir(exist_ok=True)
    for name in kinds:
        write_atomically(docs / "pictures" / f"fails-{name}.webp", (out / f"{name}.webp").read_bytes())
    write_atomically(page, f"{before}{begin}\n{table}{end}{after}".encode())


def strip(kind: Kind, peers: Sequence[Peer], rows: Sequence[Row] = ()) -> Image.Image:
    """A row for each picture of the kind that is shown: the original and every codec, a detail enlarged.

    Ours is at QUALITY, the others at their largest file not above. rows: what was measured of this kind; it
    says where to look.
    """
    ours = next(peer for peer in peers if peer.name == OURS)
    panel_rows = []
    for name in kind.enlarged:
        picture = kind.pictures[name]
        box = busiest(picture) if kind.contrast == 1 else _middle(picture)
        centre = picture[box[1] : box[3], box[0] : box[2]].mean((0, 1))
        raised = "" if kind.contrast == 1 else f", contrast x {kind.contrast}"
        panels = [Panel(name, f"original{raised}", _detail(picture, box, centre, kind.contrast))]
        limit = len(data := ours.encode(picture, QUALITY))
        for peer in peers:
            setting: float | None = QUALITY
            if peer is not ours:
                sizes = {
                    row.setting: row.bytes or 0
                    for row in rows
                    if row.codec == peer.name and row.picture.partition(".")[2] == f"{name}.png"
                }
                setting, data, _ = best_file(peer, picture, limit, _between(sizes, limit))
            decoded = peer.decode(data)
            loss = "no loss" if np.array_equal(picture, decoded) else f"{psnr(picture, decoded):.1f} dB"
            caption = f"{len(data):,} bytes, {loss}"
            title = f"{LABELS.get(peer.name, peer.name)}, quality {setting:.3g}"
            panels.append(Panel(title, caption, _detail(decoded, box, centre, kind.contrast)))
        panel_rows.append(panels)
    return contact_sheet(panel_rows)


def _between(sizes: Mapping[float, int], limit: int) -> tuple[float, float]:
    """The measured settings on both sides of the limit."""
    under = [setting for setting, size in sizes.items() if size <= limit]
    over = [setting for setting, size in sizes.items() if size > limit]
    return max(under, default=0), min(over, default=HIGHEST)


def _middle(picture: Pixels) -> Box:
    left, top = ((side - DETAIL) // 2 for side in picture.shape[1::-1])
    return Box(left, top, left + DETAIL, top + DETAIL)


def _detail(picture: Pixels, box: Box, centre: Floats, contrast: int) -> Pixels:
    cut = Image.fromarray(picture).crop(box)
    if contrast > 1:
        values = 128 + contrast * (np.asarray(cut, np.float64) - centre)
        cut = Image.fromarray(values.round().clip(0, 255).astype(np.uint8))
    return np.array(cut.resize((ZOOM * cut.width, ZOOM * cut.height), Image.Resampling.NEAREST))


def _write_pictures(kinds: Mapping[str, Kind], folder: Path) -> DataSet:
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for kind_name, kind in kinds.items():
        for name, picture in kind.pictures.items():
            path = folder / f"{kind_name}.{name}.png"
            buffer = io.BytesIO()
            Image.fromarray(picture).save(buffer, "PNG")
            write_atomically(path, buffer.getvalue())
            paths.append(path)
    return DataSet("failures", tuple(sorted(paths)))


def _lossless(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=True, quality=100, method=6)
    return buffer.getvalue()


def _table(
    kinds: Mapping[str, Kind], rows: Sequence[Row], peers: Sequence[Peer], metrics: Mapping[str, Metric]
) -> str:
    """BD-rates of ours in percent, a line a kind; those of mean curves over the kind's pictures.

    Where ours keeps some pictures without loss: benchmarks.equal_quality.
    """
    others = [peer.name for peer in peers if peer.name != OURS]
    labels = [
        f"{LABELS.get(other, other)}, {metric.label}" for other in others for metric in metrics.values()
    ]
    lines = table_head("kind", "pictures", *labels)
    marked = False
    for name, kind in kinds.items():
        own = [row for row in rows if row.picture.startswith(f"{name}.")]
        title = kind.title
        if turns_lossless(own, OURS):
            title, marked = f"{title} \\*", True
            exact = {f"{name}.{stem}.png": _webp_bpp(picture) for stem, picture in kind.pictures.items()}
            cells = [
                _signed(percent(own, OURS, other, metric, exact if other == "webp" else {}))
                for other in others
                for metric in metrics
            ]
        else:
            against = summarise(own, measured(own))["bd_rate"].get(OURS, {})
            cells = [
                _signed(against.get(other, {}).get(metric, {}).get("percent"))
                for other in others
                for metric in metrics
            ]
        lines.append(f"| {' | '.join([title, str(len(kind.pictures)), *cells])} |")
    if marked:
        lines += ["", FOOTNOTE]
    lines += ["", *(f"- {LABELS.get(peer.name, peer.name)}: {peer.version}" for peer in peers)]
    return "\n".join(lines) + "\n"


def _webp_bpp(picture: Pixels) -> float:
    """Bits per pixel of the smallest lossless WebP."""
    image = Image.fromarray(picture)
    return 8 * len(_lossless(image)) / (image.width * image.height)


def _signed(value: float | None) -> str:
    return NONE if value is None else f"{value:+.1f}"
