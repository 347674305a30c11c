"""The seed's experiment, after M. Bühlmann's comparison of 2022: 512x512 pictures at about 5 kB.

    picture ─► its middle square, 512x512 ─┬─► JPEG, WebP, AVIF: the best file of at most 5,000 bytes
                                           └─► ours: target_size=5000
    all of them ─► metrics ─► seed.png (a contact sheet), seed.md (a table), seed.json, the files themselves

He set one picture side by side at 5.68 kB as JPEG, at 5.71 kB as WebP and at 4.98 kB as quantised latents of
Stable Diffusion. This asks the same of several pictures, at equal bytes.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track

from benchmarks.comparison import Panel, contact_sheet
from benchmarks.datasets import Pixels, default_pictures, load
from benchmarks.demo import nearest_not_over
from benchmarks.metrics import Metric
from benchmarks.peers import Peer
from benchmarks.plot import LABELS
from latentcodec.atomic import write_atomically
from latentcodec.errors import InvalidArgument, TargetUnreachable

__all__ = ["CODECS", "METRICS", "SIDE", "SIZE", "Result", "seed", "seed_pictures", "square"]

SIDE, SIZE = 512, 5_000
CODECS = ("jpeg", "webp", "avif", "native")
METRICS = ("psnr", "ms_ssim", "ssimulacra2", "features")
NO_FILE_NAME = re.compile(r"[^\w.-]+")
QUALITIES = range(100)


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


def seed_pictures(paths: Sequence[Path] = ()) -> dict[str, Pixels]:
    """The squares of these files by their stems; without any, of the default data set's large enough ones.

    Raises InvalidArgument for one under 512 pixels and for two of one name, and what Pillow raises.
    """
    if not paths:
        loaded = {path.stem: load(path) for path in default_pictures()}
        return {name: square(each) for name, each in loaded.items() if min(each.shape[:2]) >= SIDE}
    pictures: dict[str, Pixels] = {}
    for path in paths:
        if path.stem in pictures:
            raise InvalidArgument(f"{path}: another picture is called {path.stem} already; rename one")
        try:
            pictures[path.stem] = square(load(path))
        except (OSError, InvalidArgument) as error:
            raise InvalidArgument(f"{path}: {error}") from error
    return pictures


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


def seed(
    pictures: Mapping[str, Pixels],
    peers: Sequence[Peer],
    metrics: Mapping[str, Metric],
    out: Path,
    console: Console | None = None,
) -> list[Result]:
    """Writes the sheet, the tables and every coded file into `out`, and returns what they show.

    pictures: by name, each uint8 (512, 512, 3). A codec that cannot go as low as 5,000 bytes shows its
    smallest file, and a remark says so.
    """
    out.mkdir(parents=True, exist_ok=True)
    results: list[Result] = []
    rows: list[list[Panel]] = []
    console = console or Console(stderr=True)
    for name, picture in track(pictures.items(), "seed", console=console, total=len(pictures)):
        row = [Panel(name, "original, 786,432 bytes of pixels", picture)]
        for peer in peers:
            setting, data, remark = _at_size(peer, picture)
            decoded = peer.decode(data)
            file = f"{name}.{NO_FILE_NAME.sub('-', peer.name)}{peer.suffix}"
            write_atomically(out / file, data)
            values = {each: metric(picture, decoded) for each, metric in metrics.items()}
            results.append(Result(name, peer.name, setting, len(data), values, file, remark))
            row.append(Panel(_title(results[-1]), _figures(values, metrics), decoded))
        rows.append(row)
    contact_sheet(rows).save(out / "seed.png")
    write_atomically(out / "seed.md", _markdown(results, peers, metrics).encode())
    about = {
        "side": SIDE,
        "target_bytes": SIZE,
        "versions": {peer.name: peer.version for peer in peers},
        "results": [
            {**asdict(result), "metrics": {name: _finite(value) for name, value in result.metrics.items()}}
            for result in results
        ],
    }
    write_atomically(out / "seed.json", (json.dumps(about, indent=2, allow_nan=False) + "\n").encode())
    return results


def _at_size(peer: Peer, picture: Pixels) -> tuple[float | None, bytes, str | None]:
    """The setting, the best file of at most SIZE bytes, and a remark where there is none."""
    to_size = getattr(peer, "encode_to_size", None)
    if to_size is not None:
        try:
            return None, to_size(picture, SIZE), None
        except TargetUnreachable:
            setting: float = 0 if len(peer.encode(picture, 0)) > SIZE else 100
            data = peer.encode(picture, setting)
    else:
        setting, data = nearest_not_over(lambda each: peer.encode(picture, each), QUALITIES, SIZE)
    if len(data) > SIZE:
        return setting, data, "its smallest file: it cannot go as low"
    return setting, data, None


def _title(result: Result) -> str:
    quality = "" if result.setting is None else f", quality {result.setting:g}"
    smallest = " (its smallest)" if result.remark else ""
    return f"{LABELS.get(result.codec, result.codec)}{quality}: {result.bytes:,} bytes{smallest}"


def _figures(values: Mapping[str, float], metrics: Mapping[str, Metric]) -> str:
    return ", ".join(f"{metrics[name].label} {_short(value)}" for name, value in values.items())


def _markdown(results: Sequence[Result], peers: Sequence[Peer], metrics: Mapping[str, Metric]) -> str:
    """The means of each codec, then every picture."""
    labels = [
        f"{each.label}{f' ({each.unit})' if each.unit else ''} {'↑' if each.higher_is_better else '↓'}"
        for each in metrics.values()
    ]
    lines = [
        f"# {SIDE}x{SIDE} pictures at {SIZE:,} bytes",
        "",
        f"Each codec's best file of at most {SIZE:,} bytes ({8 * SIZE / SIDE**2:.3f} bits per pixel). The",
        "comparison of 2022 had 5.68 kB as JPEG, 5.71 kB as WebP and 4.98 kB as Stable Diffusion's latents.",
        "Arrows point to the better side.",
        "",
        f"## Means of {len({result.picture for result in results})} pictures",
        "",
        *_head("codec", "bytes", *labels),
    ]
    for peer in peers:
        own = [result for result in results if result.codec == peer.name]
        means = [_short(fmean(result.metrics[name] for result in own)) for name in metrics]
        size = f"{fmean(result.bytes for result in own):,.0f}{'*' * any(result.remark for result in own)}"
        lines.append(f"| {' | '.join([LABELS.get(peer.name, peer.name), size, *means])} |")
    lines += ["", "## Pictures", "", *_head("picture", "codec", "quality", "bytes", *labels)]
    for result in results:
        cells = [
            result.picture,
            LABELS.get(result.codec, result.codec),
            "" if result.setting is None else f"{result.setting:g}",
            f"{result.bytes:,}{'*' * bool(result.remark)}",
            *(_short(result.metrics[name]) for name in metrics),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    if any(result.remark for result in results):
        lines += ["", r"\* the codec's smallest file: it cannot go as low."]
    lines += ["", *(f"- {LABELS.get(peer.name, peer.name)}: {peer.version}" for peer in peers)]
    return "\n".join(lines) + "\n"


def _head(*names: str) -> list[str]:
    return [f"| {' | '.join(names)} |", "|" + "---|" * len(names)]


def _short(value: float) -> str:
    return f"{value:.2f}" if abs(value) >= 2 else f"{value:.3f}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
