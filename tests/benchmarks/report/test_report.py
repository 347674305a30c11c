"""report.report and plot, on small files of rows."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from benchmarks.report.report import report
from benchmarks.runs.rows import ROWS, Row, write_rows
from latentcodec.errors import InvalidArgument

SETTINGS = (5, 30, 60, 90)


def row(
    picture: str, codec: str, setting: float, factor: float, error: str | None = None, pixels: int = 100
) -> Row:
    """A codec whose rate is exp(q / 5) times its factor at a PSNR of 24 + q / 6."""
    quality = 24 + setting / 6
    metrics = {} if error else {"psnr": quality, "ms_ssim": 1 - 10 ** (-quality / 20)}
    bpp = factor * 2 ** (setting / 15) / 10
    return Row(
        picture, "0", codec, f"{codec} 1", setting, "here", pixels, 10, bpp, metrics, 0.25, 0.125, error
    )


def rows_of(pictures: list[str], pixels: int = 100) -> list[Row]:
    factors = {"native": 0.75, "jpeg": 1.5}
    return [
        row(picture, codec, setting, factor, pixels=pixels)
        for picture in pictures
        for codec, factor in factors.items()
        for setting in SETTINGS
    ]


def make(out: Path, rows: list[Row]) -> tuple[dict[str, Any], str]:
    write_rows(out / ROWS, rows)
    console = Console(file=io.StringIO(), width=110)
    summary = report(out, console)
    assert isinstance(console.file, io.StringIO)
    return summary, console.file.getvalue()


def test_summary_plot_and_table(tmp_path: Path) -> None:
    summary, text = make(tmp_path, rows_of(["a.png", "b.png"]))
    written = json.loads((tmp_path / "summary.json").read_text())
    assert json.loads(json.dumps(summary)) == written
    assert written["pictures"] == 2
    assert written["kodak"] is False
    assert written["bd_rate"]["native"]["jpeg"]["psnr"]["percent"] == pytest.approx(-50)
    assert written["bd_rate"]["jpeg"]["native"]["ms_ssim"]["percent"] == pytest.approx(100)
    assert written["codecs"]["jpeg"]["encode_seconds"] == 0.25
    assert written["codecs"]["native"]["curves"]["psnr"]["setting"] == list(SETTINGS)
    assert "-50.0" in text
    assert "BD-rate of native" in text
    assert "BD-rate of jpeg" not in text  # that table is for runs without ours
    with Image.open(tmp_path / "rd.png") as image:
        assert image.width > 2 * image.height  # two panels
        colours = image.convert("RGB").getcolors(maxcolors=2**24)
    assert colours is not None
    assert {(214, 39, 40), (127, 127, 127)} <= {colour for _, colour in colours}  # both curves are drawn


@pytest.mark.slow
def test_kodak_is_set_beside_published_curves(tmp_path: Path) -> None:
    rows = rows_of([f"kodim{number:02}.png" for number in range(1, 25)], pixels=768 * 512)
    summary, text = make(tmp_path, rows)
    assert summary["kodak"] is True
    assert "percent" in summary["bd_rate"]["native"]["VVC (VTM)"]["psnr"]
    assert "ms_ssim" not in summary["bd_rate"]["native"]["ELIC (He 2022)"]
    assert "ELIC (He 2022)" in text
    assert (tmp_path / "rd.png").exists()


@pytest.mark.usefixtures("unrendered")
def test_peers_count_from_quality_5_to_90(tmp_path: Path) -> None:
    extreme = [row("a.png", "jpeg", setting, 1.5) for setting in (0, 100)]
    summary, _ = make(tmp_path, rows_of(["a.png"]) + extreme + [row("a.png", "native", 0, 0.75)])
    assert summary["bd_rate"]["native"]["jpeg"]["psnr"]["overlap"] == pytest.approx([24 + 5 / 6, 24 + 90 / 6])
    assert summary["codecs"]["jpeg"]["curves"]["psnr"]["setting"] == (0, *SETTINGS, 100)


@pytest.mark.usefixtures("unrendered")
def test_a_narrow_overlap_is_said(tmp_path: Path) -> None:
    rows = [each for each in rows_of(["a.png"]) if each.codec == "native" or each.setting <= 30]
    summary, text = make(tmp_path, rows)
    assert "4.17 wide" in summary["bd_rate"]["native"]["jpeg"]["psnr"]["warning"]
    assert "-50.0*" in text
    assert "* the overlap is 4.17 wide" in text


@pytest.mark.usefixtures("unrendered")
def test_no_overlap_is_said(tmp_path: Path) -> None:
    rows = [each for each in rows_of(["a.png"]) if (each.codec == "native") == (each.setting >= 60)]
    summary, text = make(tmp_path, rows)
    assert "share too little" in summary["bd_rate"]["native"]["jpeg"]["psnr"]["error"]
    assert "–*" in text


@pytest.mark.usefixtures("unrendered")
def test_failures_are_told(tmp_path: Path) -> None:
    broken = [row("a.png", "webp", setting, 1, error="encode: OSError: too wide") for setting in (5, 50)]
    summary, text = make(tmp_path, rows_of(["a.png"]) + broken)
    failure = {"picture": "a.png", "settings": [5, 50], "error": "encode: OSError: too wide"}
    assert summary["codecs"]["webp"]["failures"] == [failure]
    assert summary["codecs"]["webp"]["curves"] == {}
    assert "no PSNR (dB) curve of webp" in summary["bd_rate"]["native"]["webp"]["psnr"]["error"]
    assert "webp 5, 50: a.png: encode: OSError: too wide" in text
    assert "psnr: webp 50 is left out: 0 of 1 pictures" in summary["left_out"]


@pytest.mark.usefixtures("unrendered")
def test_a_picture_that_cannot_be_loaded_is_told_once(tmp_path: Path) -> None:
    broken = [row("b.png", codec, 5, 1, error="load: OSError: no") for codec in ("native", "jpeg")]
    _, text = make(tmp_path, rows_of(["a.png"]) + broken)
    assert text.count("b.png: load: OSError: no") == 1


def test_only_failures(tmp_path: Path) -> None:
    summary, text = make(tmp_path, [row("a.png", "native", 50, 1, error="load: OSError: no")])
    assert "load: OSError: no" in text
    assert summary["codecs"]["native"]["curves"] == {}
    assert not (tmp_path / "rd.png").exists()


@pytest.mark.usefixtures("unrendered")
def test_without_ours_every_codec_has_a_table(tmp_path: Path) -> None:
    rows = [each for each in rows_of(["a.png"]) if each.codec == "jpeg"]
    _, text = make(tmp_path, rows + [row("a.png", "webp", setting, 1) for setting in SETTINGS])
    assert "BD-rate of jpeg" in text
    assert "BD-rate of webp" in text


def test_no_rows(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"holds no rows; make some with: python -m benchmarks run"):
        report(tmp_path, Console(quiet=True))
