"""The page in a real browser: with the mouse, with the keyboard, on a phone, and in dark mode."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from browser import HOSTILE, SCREENSHOTS, keep, large_page, opened
from commands import Shown

from molsaki.report.page import render

WITHOUT_NUMBERS = """e => {
    const copy = e.cloneNode(true);
    copy.querySelectorAll('sub').forEach(s => s.remove());
    return copy.textContent;
}"""


def texts(page: Any, selector: str) -> list[str]:
    return [str(text) for text in page.locator(selector).all_text_contents()]


def scrolls_sideways(page: Any) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))


def test_the_page_opens_with_the_result(browser: Any, world: tuple[Path, Shown]) -> None:
    with opened(browser, world[0] / "report.html") as page:
        assert page.locator("main section").first.locator("h2").text_content() == "Result"
        assert "interval" in page.locator("#result strong").first.text_content()
        assert page.locator("figure svg[role=img]").count() == page.locator("figure").count() > 10
        assert page.locator("table").count() == page.locator("table caption").count()
        assert page.locator("th:not([scope])").count() == 0
        ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
        assert len(ids) == len(set(ids)), "ids are unique"
        named = page.evaluate(
            "[...document.querySelectorAll('[aria-labelledby]')].map(e => e.getAttribute('aria-labelledby'))"
        )
        assert set(named) <= set(ids)
        unnamed = page.evaluate(
            "[...document.querySelectorAll('button, input, select')].filter(e => !e.textContent.trim() && "
            "!e.getAttribute('aria-label') && !(e.labels && e.labels.length)).length"
        )
        assert unnamed == 0, "every control has a name"
        keep(page, "report")


SCREENS = [(1280, 800), (390, 844)]


@pytest.mark.parametrize(("width", "height"), SCREENS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_first_screen_has_a_sentence_a_table_and_a_picture(
    browser: Any, world: tuple[Path, Shown], width: int, height: int, scheme: str
) -> None:
    view = {"viewport": {"width": width, "height": height}, "color_scheme": scheme}
    with opened(browser, world[0] / "report.html", all_parts=False, **view) as page:
        assert page.locator("#result strong").count() == 1
        assert page.locator("#result > .scroll table").count() == page.locator("#result figure").count() == 1
        assert page.locator("#result table").first.is_visible()
        top = page.locator("#result figure svg").bounding_box()["y"]
        assert top < (0.65 if width > 1000 else 0.9) * height, "the picture is on the first screen"
        wrapped = "[...document.querySelectorAll('#result td bdi')].filter(e => e.getClientRects().length > 1).length"
        assert page.evaluate(wrapped) == 0, "an accuracy and its interval are on one line"
        assert not page.locator("#list").is_visible(), "the sections below are closed"
        SCREENSHOTS.mkdir(exist_ok=True)
        page.screenshot(path=str(SCREENSHOTS / f"first-screen-{width}-{scheme}.png"))
        page.evaluate("location.hash = '#problems'")
        page.wait_for_selector("#list")
        assert page.locator("#list").is_visible(), "a link opens its section"


BROKEN_WORDS = """most => {
    const broken = [], walker = document.createTreeWalker(document.querySelector('main'), NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const node = walker.currentNode;
        if (!node.parentElement.checkVisibility() || node.parentElement.closest('svg, script, pre')) continue;
        for (const word of node.textContent.matchAll(/[A-Za-z0-9]+/g)) {
            if (word[0].length > most) continue;
            const range = document.createRange();
            range.setStart(node, word.index);
            range.setEnd(node, word.index + word[0].length);
            if (new Set([...range.getClientRects()].map((box) => Math.round(box.top))).size > 1) broken.push(word[0]);
        }
    }
    return broken;
}"""


@pytest.mark.parametrize("width", [1280, 390, 320])
def test_no_word_is_broken_in_the_middle(browser: Any, world: tuple[Path, Shown], width: int) -> None:
    with opened(browser, world[0] / "report.html", viewport={"width": width, "height": 800}) as page:
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert page.evaluate(BROKEN_WORDS, 24) == []
        captions = page.locator("caption span").all()
        assert captions
        for caption in captions:
            assert caption.bounding_box()["width"] <= width, "a caption is not cut off"


def test_search_step_and_filter(browser: Any, world: tuple[Path, Shown]) -> None:
    with opened(browser, world[0] / "report.html") as page:
        assert page.locator("#count").text_content() == "12 of 12 problems"
        page.fill("#search", "apples adA")
        shown = texts(page, "#list button")
        assert 0 < len(shown) < 12
        assert all("ada" in text.lower() for text in shown)
        page.click("#clear")
        page.select_option("#set", label="in-domain")
        assert page.locator("#count").text_content() == "8 of 12 problems"
        page.locator("#list button").first.click()
        assert page.locator("#looks").is_visible()
        assert texts(page, "#views h4") == ["teacher", "student before", "after molsaki, seed 1"]
        before = page.locator("#views .key sub").all_text_contents()
        page.click("#step-on")
        assert "sentence 2" in page.locator("#step-name").text_content()
        assert page.locator("#views .key sub").all_text_contents() != before
        page.locator("#views .step").first.hover()
        assert page.locator("#step-name").text_content() == "the question"
        page.select_option("#after", label="after dss, seed 1")
        assert texts(page, "#views h4")[2] == "after dss, seed 1"
        assert texts(page, "#answers tbody th") == ["dss, seed 1", "molsaki, seed 1"]
        keep(page, "problem")
        data = json.loads(page.locator("#data-json").text_content())
        for right, wrong in (("molsaki", "dss"), ("dss", "molsaki")):
            page.click("#clear")
            page.click(f"text='{wrong} wrong, {right} right'")
            i, j = (data["students"].index([label, 1]) for label in (right, wrong))
            wanted = [p[2] for p in data["problems"] if p[5][i][1] == 1 and p[5][j][1] == 0]
            assert [text[:160] for text in wanted] == texts(page, "#list button")


def test_both_colour_schemes_and_the_button(browser: Any, world: tuple[Path, Shown]) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    for scheme, colour, other in (
        ("light", "rgb(255, 255, 255)", "rgb(20, 23, 28)"),
        ("dark", "rgb(20, 23, 28)", "rgb(255, 255, 255)"),
    ):
        with opened(browser, world[0] / "report.html", color_scheme=scheme) as page:
            assert page.evaluate(paper) == colour
            ink = page.evaluate("getComputedStyle(document.body).color")
            drawn = page.evaluate("getComputedStyle(document.querySelector('figure svg text')).fill")
            assert drawn == ink, "figures have the colour of the text"
            keep(page, f"report-{scheme}")
            page.click("#theme")
            assert page.evaluate(paper) == other


def test_a_phone_needs_no_sideways_scrolling(browser: Any, world: tuple[Path, Shown]) -> None:
    with opened(browser, world[0] / "report.html", viewport={"width": 360, "height": 740}) as page:
        assert not scrolls_sideways(page)
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        for i in range(12):
            page.locator("#list button").nth(i).click()
            assert not scrolls_sideways(page), texts(page, "#problem-title")
        page.locator(".term").first.focus()
        assert page.locator(".term .tip").first.is_visible()
        assert not scrolls_sideways(page)
        keep(page, "report-narrow")


def test_the_keyboard_is_enough(browser: Any, world: tuple[Path, Shown]) -> None:
    with opened(browser, world[0] / "report.html") as page:

        def tab_to(selector: str) -> None:
            for _ in range(400):
                page.keyboard.press("Tab")
                if page.evaluate("s => document.activeElement.matches(s)", selector):
                    return
            pytest.fail(f"{selector} cannot be reached")

        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        tab_to(".term")
        assert page.locator(".term:focus .tip").is_visible(), "terms are explained without a mouse"
        page.keyboard.press("Escape")
        assert page.locator(".tip:visible").count() == 0
        tab_to("#search")
        page.keyboard.type("more")
        assert page.locator("#count").text_content() != "12 of 12 problems"
        tab_to("#withlook")
        page.keyboard.press("ArrowDown")
        tab_to("#list button")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "problem-title"
        tab_to("#step")
        name = page.locator("#step-name").text_content()
        page.keyboard.press("ArrowLeft")
        assert page.locator("#step-name").text_content() != name


def test_hostile_text_is_text(browser: Any, world: tuple[Path, Shown]) -> None:
    with opened(browser, world[0] / "report.html") as page:
        page.select_option("#set", label="odd")
        assert page.locator("#list button").count() == 4
        for i, question in enumerate(HOSTILE):
            page.locator("#list button").nth(i).click()
            looked = page.locator("#looks").is_visible()
            shown = page.locator("#views .text").first if looked else page.locator("#question")
            assert shown.evaluate(WITHOUT_NUMBERS) == question
        assert page.evaluate("window.hacked") is None
        assert page.locator("img").count() == 0
        assert page.locator("script").count() == 2


def test_ten_thousand_problems_are_shown_in_pages(browser: Any, tmp_path: Path) -> None:
    """`benchmarks/report_page.py` measures the time."""
    path = tmp_path / "large.html"
    path.write_text(large_page(10_000), encoding="utf-8")
    with opened(browser, path) as page:
        assert page.locator("#list button").count() == 50
        page.fill("#search", "beads 99")
        page.select_option("#right", "2")
        assert page.locator("#list button").count() <= 50
        page.fill("#search", "")
        assert page.locator("#count").text_content() == "5000 of 10000 problems"
        page.click("#next")
        assert page.locator("#page").text_content() == "page 2 of 100"


def test_the_browser_opens_at_a_problem_that_tells_methods_apart(browser: Any, tmp_path: Path) -> None:
    data = {
        "sets": ["test"], "students": [["dss", 1], ["molsaki", 1]], "methods": ["dss", "molsaki"], "baseline": "dss",
        "problems": [
            [0, f"problem-{i}", f"Question {i}?", "1", "1", [["1", 1, ""], ["2", int(i != 2), ""]], -1]
            for i in range(4)
        ],
        "looks": [], "models": [], "before": [], "teacher": [],
    }  # fmt: skip
    path = tmp_path / "page.html"
    path.write_text(render("look.html.jinja", {"model": "two"}, data), encoding="utf-8")
    with opened(browser, path) as page:
        assert page.locator("#problem-title").text_content() == "problem-2"


def test_the_page_of_one_text_has_no_filters(browser: Any, tmp_path: Path) -> None:
    data = {
        "sets": ["your question"], "students": [], "methods": [], "baseline": None,
        "problems": [[0, "your question", "What is 1 + 2?", "3", "", [], -1]], "answer_name": "The model's answer",
        "looks": [], "models": [], "before": [], "teacher": [],
    }  # fmt: skip
    path = tmp_path / "page.html"
    path.write_text(render("look.html.jinja", {"model": "one"}, data), encoding="utf-8")
    with opened(browser, path) as page:
        assert page.locator("#question").is_visible()
        assert page.locator("#gold").text_content() == "The model's answer: 3", "it may be wrong"
        assert not page.locator("#problem-set").is_visible(), "the title says it"
        for part in ("#filters", "#list-box", "#pairs", "#count"):
            assert not page.locator(part).is_visible(), part
