"""Pictures at one size in bytes, a codec beside the other: who wins, where, and by how much.

picture ─► 512x512 ─► each codec's best file of at most so many bytes ─► metrics ─┬─► at-size.md, at-size.json
(a smaller one: whole, at as many bits per pixel)                                 ├─► a sheet a picture
                                                                                  └─► the files themselves
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track

from benchmarks.experiments.comparison import Panel, contact_sheet
from benchmarks.experiments.equal_bytes import best_file
from benchmarks.metrics import Metric
from benchmarks.peers import Peer
from benchmarks.pictures.arrays import Pixels
from benchmarks.pictures.datasets import load
from benchmarks.report.curves import OURS
from benchmarks.report.plot import LABELS
from latentcodec.atomic import write_atomically
from latentcodec.errors import InvalidArgument

__all__ = [
    "CODECS",
    "METRICS",
    "SIDE",
    "SIZE",
    "Result",
    "at_size",
    "finite",
    "losses",
    "measure",
    "panel_of",
    "prepare",
    "save_results",
    "short",
    "square",
    "table_head",
    "wins",
]

SIDE, SIZE = 512, 5_000
CODECS = ("native", "jpeg", "webp", "avif", "jpegxl")
METRICS = ("psnr", "ms_ssim", "ssimulacra2")
NO_FILE_NAME = re.compile(r"[^\w.-]+")


@dataclass(frozen=True)
class Result:
    """What a codec made of one picture."""

    picture: str
    codec: str
    setting: float | None
    """None where the codec was asked for the size itself."""
    bytes: int
    metrics: dict[str, float]
    file: str
    remark: str | None = None


def square(picture: Pixels) -> Pixels:
    """The largest square in the picture's middle, made smaller to 512x512. Raises InvalidArgument where it
    would have to be enlarged."""
    height, width = picture.shape[:2]
    edge = min(height, width)
    if edge < SIDE:
        raise InvalidArgument(
            f"it has {width}x{height} pixels, and the experiment takes {SIDE}x{SIDE} or more"
        )
    top, left = (height - edge) // 2, (width - edge) // 2
    middle = Image.fromarray(picture[top : top + edge, left : left + edge])
    return np.array(middle if edge == SIDE else middle.resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def prepare(picture: Pixels, size: int = SIZE) -> tuple[Pixels, int]:
    """(512x512, size); a picture with a shorter side is not enlarged but taken whole, at as many bits per
    pixel."""
    height, width = picture.shape[:2]
    if min(height, width) >= SIDE:
        return square(picture), size
    return picture, round(size * height * width / SIDE**2)


def measure(
    name: str, picture: Pixels, peer: Peer, metrics: Mapping[str, Metric], size: int, out: Path
) -> tuple[Result, Pixels]:
    """Writes the codec's best file of at most `size` bytes into `out`, and returns what it decodes to."""
    setting, data, remark = best_file(peer, picture, size)
    decoded = peer.decode(data)
    file = f"{name}.{NO_FILE_NAME.sub('-', peer.name)}{peer.suffix}"
    write_atomically(out / file, data)
    values = {key: metric(picture, decoded) for key, metric in metrics.items()}
    return Result(name, peer.name, setting, len(data), values, file, remark), decoded


def at_size(
    pictures: Iterable[Path],
    peers: Sequence[Peer],
    metrics: Mapping[str, Metric],
    out: Path,
    size: int = SIZE,
    console: Console | None = None,
) -> list[Result]:
    """Writes the tables, a sheet a picture and every coded file into `out`, and returns what they show.

    A picture that is too small for one of the metrics is left out, and that is said. Raises InvalidArgument
    for a file that is no picture, for two of one name, and where no picture is left.
    """
    paths = list(pictures)
    names = [path.stem for path in paths]
    if len(set(names)) < len(names):
        raise InvalidArgument(f"two pictures are called {max(names, key=names.count)}; rename one")
    console = console or Console(stderr=True)
    least = max(metric.smallest_side for metric in metrics.values())
    out.mkdir(parents=True, exist_ok=True)
    results: list[Result] = []
    for path in track(paths, "at size", console=console):
        try:
            picture, limit = prepare(load(path), size)
        except OSError as error:
            raise InvalidArgument(f"{path}: {error}") from error
        height, width = picture.shape[:2]
        if min(height, width) < least:
            console.print(
                f"{path.name} is left out: {width}x{height} pixels, and a metric needs {least} a side"
            )
            continue
        row = [Panel(path.stem, f"original, {width}x{height}, {limit:,} bytes for each", picture)]
        for peer in peers:
            result, decoded = measure(path.stem, picture, peer, metrics, limit, out)
            results.append(result)
            row.append(panel_of(result, metrics, decoded))
        contact_sheet([row]).save(out / f"{path.stem}.png")
    if not results:
        raise InvalidArgument(f"no picture is left to measure; a metric needs {least} pixels a side")
    write_atomically(out / "at-size.md", _markdown(results, peers, metrics, size).encode())
    save_results(out / "at-size.json", results, peers, size)
    return results


def save_results(path: Path, results: Sequence[Result], peers: Sequence[Peer], size: int) -> None:
    """What a sheet shows, as JSON."""
    about = {
        "side": SIDE,
        "target_bytes": size,
        "versions": {peer.name: peer.version for peer in peers},
        "results": [{**asdict(result), "metrics": finite(result.metrics)} for result in results],
    }
    write_atomically(path, (json.dumps(about, indent=2, allow_nan=False) + "\n").encode())


def wins(results: Sequence[Result], metrics: Mapping[str, Metric], codec: str) -> dict[str, int]:
    """In how many pictures ours is better than the codec, by metric; under "all" in all metrics at once."""
    pairs = _pairs(results, codec)
    better = [{name for name in metrics if _gain(metrics[name], name, *pair) > 0} for pair in pairs]
    counts = {name: sum(name in names for names in better) for name in metrics}
    return {**counts, "all": sum(len(names) == len(metrics) for names in better)}


def losses(
    results: Sequence[Result], metrics: Mapping[str, Metric], codec: str
) -> list[tuple[str, str, float]]:
    """(picture, metric, how much worse ours is), wherever it is not better than the codec."""
    lost = []
    for ours, other in _pairs(results, codec):
        for name, metric in metrics.items():
            gain = _gain(metric, name, ours, other)
            if not gain > 0:
                lost.append((ours.picture, name, -gain))
    return lost


def _pairs(results: Sequence[Result], codec: str) -> list[tuple[Result, Result]]:
    """(ours, the codec's) of every picture."""
    others = {result.picture: result for result in results if result.codec == codec}
    return [(result, others[result.picture]) for result in results if result.codec == OURS]


def _gain(metric: Metric, name: str, ours: Result, other: Result) -> float:
    if ours.metrics[name] == other.metrics[name]:  # both may be infinite
        return 0.0
    difference = ours.metrics[name] - other.metrics[name]
    return difference if metric.higher_is_better else -difference


def _markdown(
    results: Sequence[Result], peers: Sequence[Peer], metrics: Mapping[str, Metric], size: int
) -> str:
    """Wins and losses of ours, then every picture, the best of each metric in bold."""
    labels = [metric.label for metric in metrics.values()]
    pictures = list(dict.fromkeys(result.picture for result in results))
    lines = [
        f"# {len(pictures)} pictures at {size:,} bytes per {SIDE}x{SIDE}",
        "",
        f"Each codec's best file of at most so many bytes ({8 * size / SIDE**2:.3f} bits per pixel); a",
        f"picture with a side under {SIDE} is taken whole, at as many bits per pixel. A codec that has no",
        r"file so small is taken at its smallest, which \* marks.",
    ]
    others = [peer.name for peer in peers if peer.name != OURS]
    if others and len(others) < len(peers):
        lines += ["", "## Pictures in which latentcodec is better", ""]
        lines += table_head("than", *labels, "in all")
        for codec in others:
            counts = wins(results, metrics, codec)
            cells = [f"{counts[name]} of {len(pictures)}" for name in (*metrics, "all")]
            lines.append(f"| {' | '.join([_label(codec), *cells])} |")
        lines += ["", "## Where it is not, and by how much", ""]
        for codec in others:
            places = [
                f"{name} {metrics[metric].label} {-loss:.3g}"
                for name, metric, loss in losses(results, metrics, codec)
            ]
            lines.append(f"- {_label(codec)}: {'; '.join(places) or 'nowhere'}")
    lines += ["", "## Pictures", "", *table_head("picture", "codec", "bytes", *labels)]
    for name in pictures:
        own = [result for result in results if result.picture == name]
        best = {
            key: (max if metric.higher_is_better else min)(result.metrics[key] for result in own)
            for key, metric in metrics.items()
        }
        for result in own:
            marks = {key: "**" * (result.metrics[key] == best[key]) for key in metrics}
            cells = [f"{mark}{short(result.metrics[key])}{mark}" for key, mark in marks.items()]
            bytes_ = f"{result.bytes:,}{'*' * bool(result.remark)}"
            lines.append(f"| {' | '.join([name, _label(result.codec), bytes_, *cells])} |")
    lines += ["", *(f"- {_label(peer.name)}: {peer.version}" for peer in peers)]
    return "\n".join(lines) + "\n"


def panel_of(result: Result, metrics: Mapping[str, Metric], decoded: Pixels) -> Panel:
    """The decoded picture under the codec's name, its bytes and its figures."""
    quality = "" if result.setting is None else f", quality {result.setting:.3g}"
    smallest = " (its smallest)" if result.remark else ""
    title = f"{_label(result.codec)}{quality}: {result.bytes:,} bytes{smallest}"
    figures = ", ".join(f"{metrics[name].label} {short(value)}" for name, value in result.metrics.items())
    return Panel(title, figures, decoded)


def table_head(*names: str) -> list[str]:
    """The two lines that a Markdown table begins with."""
    return [f"| {' | '.join(names)} |", "|" + "---|" * len(names)]


def short(value: float) -> str:
    """Four significant digits or so."""
    return f"{value:.2f}" if abs(value) >= 2 else f"{value:.3f}"


def finite(values: Mapping[str, float]) -> dict[str, float | None]:
    """The metrics as JSON takes them: null for infinity."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _label(codec: str) -> str:
    return LABELS.get(codec, codec)
