"""The seed's experiment, after M. Bühlmann's comparison of 2022: 512x512 pictures at about 5 kB.

    picture ─► its middle square, 512x512 ─┬─► JPEG, WebP, AVIF: the best file of at most 5,000 bytes
                                           └─► ours: target_size=5000
    all of them ─► metrics ─► seed.png (a contact sheet), seed.md (a table), seed.json, the files themselves

He set one picture side by side at 5.68 kB as JPEG, at 5.71 kB as WebP and at 4.98 kB as quantised latents of
Stable Diffusion. This asks the same of several pictures, at equal bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from rich.console import Console
from rich.progress import track

from benchmarks.experiments.at_size import (
    SIDE,
    SIZE,
    Result,
    measure,
    panel_of,
    save_results,
    short,
    square,
    table_head,
)
from benchmarks.experiments.comparison import Panel, contact_sheet
from benchmarks.metrics import Metric
from benchmarks.peers import Peer
from benchmarks.pictures.arrays import Pixels
from benchmarks.pictures.datasets import default_pictures, load
from benchmarks.report.plot import LABELS
from latentcodec.atomic import write_atomically
from latentcodec.errors import InvalidArgument

__all__ = ["CODECS", "METRICS", "seed", "seed_pictures"]

CODECS = ("jpeg", "webp", "avif", "native")
METRICS = ("psnr", "ms_ssim", "ssimulacra2", "features")


def seed_pictures(paths: Sequence[Path] = ()) -> dict[str, Pixels]:
    """The squares of these files by their stems; without any, of the default data set's large enough ones.

    Raises InvalidArgument for one under 512 pixels and for two of one name, and what Pillow raises.
    """
    if not paths:
        loaded = {path.stem: load(path) for path in default_pictures()}
        return {name: square(picture) for name, picture in loaded.items() if min(picture.shape[:2]) >= SIDE}
    pictures: dict[str, Pixels] = {}
    for path in paths:
        if path.stem in pictures:
            raise InvalidArgument(f"{path}: another picture is called {path.stem} already; rename one")
        try:
            pictures[path.stem] = square(load(path))
        except (OSError, InvalidArgument) as error:
            raise InvalidArgument(f"{path}: {error}") from error
    return pictures


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
            result, decoded = measure(name, picture, peer, metrics, SIZE, out)
            results.append(result)
            row.append(panel_of(result, metrics, decoded))
        rows.append(row)
    contact_sheet(rows).save(out / "seed.png")
    write_atomically(out / "seed.md", _markdown(results, peers, metrics).encode())
    save_results(out / "seed.json", results, peers, SIZE)
    return results


def _markdown(results: Sequence[Result], peers: Sequence[Peer], metrics: Mapping[str, Metric]) -> str:
    """The means of each codec, then every picture."""
    labels = [
        f"{metric.label}{f' ({metric.unit})' if metric.unit else ''} "
        f"{'↑' if metric.higher_is_better else '↓'}"
        for metric in metrics.values()
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
        *table_head("codec", "bytes", *labels),
    ]
    for peer in peers:
        own = [result for result in results if result.codec == peer.name]
        means = [short(fmean(result.metrics[name] for result in own)) for name in metrics]
        size = f"{fmean(result.bytes for result in own):,.0f}{'*' * any(result.remark for result in own)}"
        lines.append(f"| {' | '.join([LABELS.get(peer.name, peer.name), size, *means])} |")
    lines += ["", "## Pictures", "", *table_head("picture", "codec", "quality", "bytes", *labels)]
    for result in results:
        cells = [
            result.picture,
            LABELS.get(result.codec, result.codec),
            "" if result.setting is None else f"{result.setting:g}",
            f"{result.bytes:,}{'*' * bool(result.remark)}",
            *(short(result.metrics[name]) for name in metrics),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    if any(result.remark for result in results):
        lines += ["", r"\* the codec's smallest file: it cannot go as low."]
    lines += ["", *(f"- {LABELS.get(peer.name, peer.name)}: {peer.version}" for peer in peers)]
    return "\n".join(lines) + "\n"
