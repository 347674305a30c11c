"""Rate-distortion curves as a picture: one panel a metric, bits per pixel on a logarithmic axis.

curves (solid, measured) + published curves (dashed) ─► rd.png
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from benchmarks.curves import AXES, Curve

__all__ = ["draw"]

COLOURS = {"native": "#d62728", "jpeg": "#7f7f7f", "webp": "#1f77b4", "avif": "#2ca02c"}
LABELS = {"native": "latentcodec", "jpeg": "JPEG", "webp": "WebP", "avif": "AVIF"}
OTHERS = ("#9467bd", "#8c564b", "#e377c2", "#bcbd22", "#17becf")
TICKS = (0.03, 0.06, 0.125, 0.25, 0.5, 1, 2, 4)


def draw(
    measured: Mapping[str, Mapping[str, Curve]],
    published: Mapping[str, Mapping[str, Curve]],
    path: Path,
    *,
    title: str,
) -> None:
    """Writes the plot; both mappings go from metric to codec to curve, panels in the order of
    `measured`, where every mapping holds a curve or more.
    """
    figure = Figure(figsize=(1 + 6.5 * len(measured), 6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(measured), squeeze=False)[0]
    names = list(dict.fromkeys(name for curves in published.values() for name in curves))
    colours = {**{name: OTHERS[index % len(OTHERS)] for index, name in enumerate(names)}, **COLOURS}
    for panel, (metric, curves) in zip(panels, measured.items(), strict=True):
        _panel(panel, curves, published.get(metric, {}), colours, AXES[metric].label)
    figure.suptitle(title)
    figure.savefig(path)


def _panel(
    panel: Axes,
    curves: Mapping[str, Curve],
    published: Mapping[str, Curve],
    colours: Mapping[str, str],
    label: str,
) -> None:
    panel.set_xscale("log")
    panel.set_xticks(TICKS)
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.xaxis.set_minor_formatter(NullFormatter())
    for codec, curve in curves.items():
        ours = codec == "native"
        panel.plot(
            curve.bpp,
            curve.quality,
            color=colours.get(codec, "black"),
            label=LABELS.get(codec, codec),
            marker="o" if ours else ".",
            linewidth=2.4 if ours else 1.6,
            zorder=3 if ours else 2,
        )
    for name, curve in published.items():
        panel.plot(curve.bpp, curve.quality, "--", color=colours[name], label=name, linewidth=1.1, zorder=1)
    # What was measured fills the panel; published curves may leave it.
    rates = [rate for curve in curves.values() for rate in curve.bpp]
    qualities = [quality for curve in curves.values() for quality in curve.quality]
    margin = 0.05 * (max(qualities) - min(qualities)) or 1
    panel.set_xlim(min(rates) / 1.1, max(rates) * 1.1)
    panel.set_ylim(min(qualities) - margin, max(qualities) + margin)
    panel.set_xlabel("bits per pixel (file bytes)")
    panel.set_ylabel(label)
    panel.grid(alpha=0.3)
    panel.legend(loc="lower right", fontsize=9)
