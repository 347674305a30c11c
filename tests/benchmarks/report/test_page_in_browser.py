"""The page in headless Chromium: it opens from a file without errors, and its parts move."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks.report.report import report
from benchmarks.runs.rows import RUN
from tests.benchmarks.report.results import make_results

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
pytestmark = pytest.mark.slow
HOSTILE = "<img src=x onerror=document.title='hit'>.png"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    program = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    with sync_api.sync_playwright() as playwright:
        if program is None and not Path(playwright.chromium.executable_path).exists():
            pytest.skip("no Chromium: apt install chromium, or playwright install chromium")
        browser = playwright.chromium.launch(executable_path=program)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("results")
    make_results(out, ["a.png", HOSTILE])
    (out / RUN).write_text(json.dumps({"command": ["python"], "skipped": {"avif": "not built in"}}))
    report(out, Console(file=io.StringIO()))
    return (out / "report.html").as_uri()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """The page, open; at the end, nothing was written to the console and nothing was fetched."""
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "request",
        lambda request: None if request.url.startswith(("file:", "data:")) else problems.append(request.url),
    )
    page.goto(address)
    page.wait_for_selector("html[data-ready]", state="attached")
    yield page
    assert problems == []
    page.close()


def clip(page: Any) -> str:
    return str(page.eval_on_selector(".stage .right-side", "each => getComputedStyle(each).clipPath"))


def test_the_figures_are_there(page: Any) -> None:
    assert page.locator("#charts svg[role=img]").count() == 3  # PSNR, SSIM, feature distance
    assert page.locator("#charts .curve").count() == 3 * 3
    assert page.locator("#speed-charts .curve").count() == 2 * 3
    assert page.locator("#rates-table tbody tr").count() == 2
    assert page.locator("#codecs-table tbody tr").count() == 3
    page.locator("#legend button").first.click()
    assert page.locator("#charts .curve").count() == 3 * 2


def test_pictures_are_decoded(page: Any) -> None:
    page.wait_for_function(
        "[...document.querySelectorAll('.stage img')].every(each => each.naturalWidth === 160)"
    )
    sums = page.evaluate(
        "() => new Promise(done => setTimeout(() => done([...document.querySelectorAll('canvas')].map("
        "each => each.getContext('2d').getImageData(0, 0, each.width, each.height).data"
        ".reduce((a, b) => a + b))), 300))"
    )
    assert len(sums) == 3
    assert len(set(sums)) == 3  # the original and the two codecs differ


def test_the_divider_moves(page: Any) -> None:
    divider = page.get_by_role("slider")
    before = clip(page)
    divider.focus()
    page.keyboard.press("ArrowLeft")
    assert divider.get_attribute("aria-valuenow") == "48"
    by_key = clip(page)
    page.keyboard.press("Home")
    assert divider.get_attribute("aria-valuenow") == "0"
    page.keyboard.press("End")
    page.locator(".stage").scroll_into_view_if_needed()
    area = page.locator(".stage").bounding_box()
    assert area
    page.mouse.move(area["x"] + area["width"] * 0.9, area["y"] + area["height"] / 2)
    page.mouse.down()
    page.mouse.move(area["x"] + area["width"] * 0.25, area["y"] + area["height"] / 2, steps=5)
    page.mouse.up()
    assert abs(int(str(divider.get_attribute("aria-valuenow"))) - 25) <= 1
    assert len({before, by_key, clip(page)}) == 3


def test_sizes_and_sides_change_the_labels(page: Any) -> None:
    right = page.locator(".badge.right")
    sizes = page.get_by_label("Size of the files, at most", exact=True)
    texts = set()
    for index in range(sizes.locator("option").count()):
        sizes.select_option(str(index))
        texts.add(right.inner_text())
    assert len(texts) > 1
    page.get_by_label("Right", exact=True).select_option("jpeg2000")
    assert right.inner_text().startswith("JPEG 2000")
    page.get_by_role("button", name="Swap").click()
    assert page.locator(".badge.left").inner_text().startswith("JPEG 2000")
    page.get_by_label("Zoom of the crops", exact=True).select_option("8")
    page.keyboard.down("o")
    assert page.locator(".badge.left").is_hidden()
    page.keyboard.up("o")
    assert page.locator(".badge.left").is_visible()


def test_tables_sort(page: Any) -> None:
    head = page.locator("#pictures-table th button", has_text="picture")
    names = page.locator("#pictures-table tbody th")
    head.click()
    first = names.all_inner_texts()
    head.click()
    assert names.all_inner_texts() == first[::-1]
    assert set(first) == {"a.png", HOSTILE}
    assert page.title() != "hit"
    page.get_by_role("button", name=HOSTILE).click()
    assert page.get_by_label("Picture", exact=True).input_value() == HOSTILE


def test_what_is_seen_first_is_a_fair_comparison(page: Any) -> None:
    shares = page.locator(".crops dt", has_text="of the size").locator("xpath=following-sibling::dd[1]")
    sizes = page.get_by_label("Size of the files, at most", exact=True)

    def gap() -> float:
        percents = [int(text.removesuffix(" %")) for text in shares.all_inner_texts()]
        assert len(percents) == 2
        return max(100 - percent if percent <= 100 else 2 * (percent - 100) for percent in percents)

    first = gap()
    gaps = []
    for index in range(sizes.locator("option").count()):
        sizes.select_option(str(index))
        gaps.append(gap())
    assert first == min(gaps) or first <= 8


def test_notes_are_words(page: Any) -> None:
    notes = page.locator("#notes-list").inner_text()
    assert "needs at least 161x161 pixels" in notes
    assert "Skipped: avif: not built in" in notes
    assert "{" not in notes


@pytest.mark.parametrize("width", [320, 375, 1600])
def test_nothing_is_wider_than_the_window(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 700})
    page.emulate_media(color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(int(part) for part in paper.removeprefix("rgb(").removesuffix(")").split(",")) < 60
