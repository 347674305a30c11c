"""Rate-distortion curves and speed as pictures, bits per pixel on a logarithmic axis.

curves (solid, measured) + published curves (dashed) ─┬─► rd.png: a panel a metric
                                                      └─► rd_<metric>.png, .svg: each by itself
seconds a megapixel at every setting ─► speed.png, .svg
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from benchmarks.report.curves import AXES, Curve

__all__ = ["LABELS", "colours_of", "draw", "draw_metric", "draw_speed", "save"]

COLOURS = {"native": "#d62728", "jpeg": "#7f7f7f", "webp": "#1f77b4", "avif": "#2ca02c"}
LABELS = {
    "native": "latentcodec",
    "jpeg": "JPEG",
    "mozjpeg": "JPEG (mozjpeg)",
    "webp": "WebP",
    "avif": "AVIF",
    "avif-fast": "AVIF (fast)",
    "jpegxl": "JPEG XL",
    "jpeg2000": "JPEG 2000",
}
OTHERS = ("#9467bd", "#8c564b", "#e377c2", "#bcbd22", "#17becf", "#ff7f0e", "#3b3fa0", "#00796b", "#c2185b")
TICKS = (0.03, 0.06, 0.125, 0.25, 0.5, 1, 2, 4)
Curves = Mapping[str, Curve]


def colours_of(names: Iterable[str]) -> dict[str, str]:
    """A colour for each name: known codecs have their own, others take turns."""
    others = [name for name in dict.fromkeys(names) if name not in COLOURS]
    return {**{name: OTHERS[index % len(OTHERS)] for index, name in enumerate(others)}, **COLOURS}


def draw(measured: Mapping[str, Curves], published: Mapping[str, Curves], path: Path, *, title: str) -> None:
    """Writes the plot; both mappings go from metric to codec to curve, panels in the order of
    `measured`, where every mapping holds a curve or more.
    """
    figure, panels = _figure(len(measured))
    colours = _colours(measured, published)
    for panel, (metric, curves) in zip(panels, measured.items(), strict=True):
        _panel(panel, curves, published.get(metric, {}), colours, AXES[metric].label)
    figure.suptitle(title)
    figure.savefig(path)


def draw_metric(
    metric: str, measured: Mapping[str, Curves], published: Mapping[str, Curves], stem: Path, *, title: str
) -> None:
    """Writes the plot of one metric as stem.png and stem.svg, in the colours that all metrics share."""
    figure, (panel,) = _figure(1)
    _panel(
        panel, measured[metric], published.get(metric, {}), _colours(measured, published), AXES[metric].label
    )
    panel.set_title(title)
    save(figure, stem)


def draw_speed(codecs: Mapping[str, Any], stem: Path) -> None:
    """Writes stem.png and stem.svg: seconds a megapixel against rate, from the summary's codecs."""
    figure, panels = _figure(2)
    colours = colours_of(codecs)
    for panel, direction in zip(panels, ("encode", "decode"), strict=True):
        for codec, entry in codecs.items():
            points = sorted((point["bpp"], point[direction]) for point in entry["speed"])
            if points:
                rates, seconds = zip(*points, strict=True)
                panel.plot(rates, seconds, color=colours[codec], label=LABELS.get(codec, codec), marker=".")
        panel.set_yscale("log")
        _log_rate(panel)
        panel.set_ylabel(f"{direction}: seconds per megapixel (median)")
        panel.legend(fontsize=9)
    save(figure, stem)


def save(figure: Figure, stem: Path) -> None:
    """The figure as stem.png and stem.svg; the same figure gives the same SVG."""
    figure.savefig(stem.with_name(stem.name + ".png"))
    with matplotlib.rc_context({"svg.hashsalt": "latentcodec"}):
        figure.savefig(stem.with_name(stem.name + ".svg"), metadata={"Date": None})


def _figure(panels: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(1 + 6.5 * panels, 6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, panels, squeeze=False)[0])


def _colours(measured: Mapping[str, Curves], published: Mapping[str, Curves]) -> dict[str, str]:
    return colours_of(name for curves in (*measured.values(), *published.values()) for name in curves)


def _panel(panel: Axes, curves: Curves, published: Curves, colours: Mapping[str, str], label: str) -> None:
    for codec, curve in curves.items():
        ours = codec == "native"
        panel.plot(
            curve.bpp,
            curve.quality,
            color=colours[codec],
            label=LABELS.get(codec, codec),
            marker="o" if ours else ".",
            linewidth=2.4 if ours else 1.6,
            zorder=3 if ours else 2,
        )
    for name, curve in published.items():
        panel.plot(curve.bpp, curve.quality, "--", color=colours[name], label=name, linewidth=1.1, zorder=1)
    _log_rate(panel)
    # What was measured fills the panel; published curves may leave it.
    rates = [rate for curve in curves.values() for rate in curve.bpp]
    qualities = [quality for curve in curves.values() for quality in curve.quality]
    margin = 0.05 * (max(qualities) - min(qualities)) or 1
    panel.set_xlim(min(rates) / 1.1, max(rates) * 1.1)
    panel.set_ylim(min(qualities) - margin, max(qualities) + margin)
    panel.set_ylabel(label)
    panel.legend(loc="lower right", fontsize=9)


def _log_rate(panel: Axes) -> None:
    panel.set_xscale("log")
    panel.set_xticks(TICKS)
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.set_xlabel("bits per pixel (file bytes)")
    panel.grid(alpha=0.3)
