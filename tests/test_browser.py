"""The page in a real browser: every control does what it says, quietly, on any screen."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

pytest.importorskip("selenium")
import browser
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select
from synthetic import make_predictions, make_scores, set_cell

from howsure.report import write_report
from howsure.types import Predictions

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(browser.installed() is None, reason="needs chromium and chromium-driver"),
]

MODELS = ("model-a", "model-b", "model-c")
METHODS = ("zero_shot", "lora_prompt", "likelihood")
CATEGORIES = {"us_history": "Humanities", "law": "Humanities", "addition": "Sums", "clock": "Sums"}
HERE = {"model": "model-b", "method": "lora_prompt", "format": "open", "subject": "clock"}


@pytest.fixture(scope="module")
def scores() -> pl.DataFrame:
    """One cell is empty: its AUROC is undefined."""
    made = make_scores(predictions())
    for column in ("auroc", "auroc_low", "auroc_high"):
        made = set_cell(made, HERE, column, None)
    return made


def predictions() -> list[Predictions]:
    return make_predictions(
        models=MODELS, methods=METHODS, formats=("open", "choice"), subjects=tuple(CATEGORIES), n=40
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, scores: pl.DataFrame) -> Path:
    return write_report(
        tmp_path_factory.mktemp("page"),
        scores,
        predictions(),
        categories=CATEGORIES,
        run_card={"seed": 1, "units": {"model-a (open)": {"prompt": "Question: why?\nAnswer:"}}},
        questions={"clock/0": "What time is it?"},
    )


@pytest.fixture(scope="module")
def window():
    with browser.chromium() as driver:
        yield driver


@pytest.fixture
def driver(window, page: Path):
    """The page as it opens; at the end, nothing was said to the console and nothing was fetched."""
    browser.resize(window, 1400)
    browser.emulate(window)
    browser.open_page(window, page)
    yield window
    assert browser.console(window) == []
    assert browser.requests(window) == [page.as_uri()]


# what a reader does ----------------------------------------------------------------------------


def section(driver) -> Any:
    """The first format's."""
    return driver.find_element(By.CSS_SELECTOR, "#explore-0")


def control(driver, label: str) -> Select:
    text = f".//label[span[text()='{label}']]/select"
    return Select(section(driver).find_element(By.XPATH, text))


def choose(driver, label: str, text: str) -> None:
    control(driver, label).select_by_visible_text(text)


def tick(driver, label: str) -> None:
    path = f".//label[span[text()='{label}']]/input"
    section(driver).find_element(By.XPATH, path).click()


def press(driver, text: str) -> None:
    section(driver).find_element(By.XPATH, f".//button[text()='{text}']").click()


def texts(driver, selector: str) -> list[str]:
    found = "[...document.querySelectorAll('#explore-0 ' + a)].map((e) => e.textContent)"
    return browser.ask(driver, found, selector)


def column(driver, index: int, kind: str = "subject") -> list[str]:
    """The numbers of a column, from top to bottom."""
    found = (
        "[...document.querySelectorAll(`#explore-0 tr.${a}`)]"
        ".map((row) => row.querySelectorAll('.cell')[b].textContent)"
    )
    return browser.ask(driver, found, kind, index)


def cell(driver, name: str) -> Any:
    """The cell whose spoken name begins like this."""
    return section(driver).find_element(By.CSS_SELECTOR, f".cell[aria-label^='{name}']")


def tooltip(driver) -> str:
    return driver.find_element(By.ID, "tooltip").text


def value(scores: pl.DataFrame, quantity: str, calibration: str, **where: str) -> float:
    rows = scores.filter(calibration=calibration, **{**HERE, **where})
    return rows[quantity].item()


# quiet, and fits ---------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1400, 768, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits_and_is_quiet(driver, width: int, scheme: str) -> None:
    browser.resize(driver, width)
    browser.emulate(driver, scheme=scheme)
    assert browser.ask(driver, "document.scrollingElement.scrollWidth") == width
    ground = browser.ask(driver, "getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(22, 24, 28)")
    assert len(texts(driver, ".cell")) == 9 * (1 + 2 + 4)


def test_prints_the_still_pictures(driver) -> None:
    shown = "getComputedStyle(document.querySelector(a)).display"
    assert browser.ask(driver, shown, ".static") == "none"
    browser.emulate(driver, medium="print")
    assert browser.ask(driver, shown, ".static") == "block"
    assert browser.ask(driver, shown, ".explore") == "none"


def test_every_control_has_a_name(driver) -> None:
    section(driver).find_element(By.CSS_SELECTOR, ".filters summary").click()
    controls = section(driver).find_elements(By.CSS_SELECTOR, "select, input, button")
    names = [control.accessible_name for control in controls]
    assert {"Show", "View", "Sort subjects by", "reversed", "Reset", "model-b", "Sums"} <= {*names}
    assert all(names)
    unnamed = browser.ask(
        driver,
        "[...document.querySelectorAll('svg, [role=grid], .scroll')]"
        ".filter((e) => !e.getAttribute('aria-label') && !e.querySelector('[aria-label]')).length",
    )
    assert unnamed == 0


def test_links_lead_to_their_sections(driver) -> None:
    for link in driver.find_elements(By.CSS_SELECTOR, "nav a"):
        link.click()
        at = link.get_attribute("href").partition("#")[2]
        top = browser.ask(driver, "document.getElementById(a).getBoundingClientRect().top", at)
        end = browser.ask(driver, "innerHeight + scrollY >= document.body.scrollHeight - 2")
        assert abs(top) < 60 or end, at
    browser.requests(driver)  # the same file, asked for by its parts
    driver.get(driver.current_url.partition("#")[0])


# values ------------------------------------------------------------------------------------------


def test_every_metric_shows_the_tables_numbers(driver, scores: pl.DataFrame) -> None:
    shown = {
        "ECE": ("ece", "temperature"),
        "ECE of the decision": ("ece_decision", "temperature"),
        "Brier score": ("brier", "temperature"),
        "AURC": ("aurc", "none"),
        "Accuracy": ("accuracy", "none"),
        "ECE before calibration": ("ece", "none"),
        "ECE of the decision before calibration": ("ece_decision", "none"),
    }
    offered = [option.text for option in control(driver, "Show").options]
    assert {*offered} == {*shown, "AUROC"}
    for label, (quantity, calibration) in shown.items():
        choose(driver, "Show", label)
        place = cell(driver, "Clock, model-b, LoRA + Prompt:")
        wanted = value(scores, quantity, calibration)
        assert abs(float(place.text) - wanted) < 0.0051, label
        assert f"{label} {wanted:.3f}" in place.get_attribute("aria-label")
        assert texts(driver, "[role=status]")[0].startswith(f"{label} ")
        assert f"Means over subjects: {label}" in texts(driver, "h3")


def test_a_cell_without_a_value_is_empty(driver) -> None:
    choose(driver, "Show", "AUROC")
    empty = cell(driver, "Clock, model-b, LoRA + Prompt:")
    assert empty.text == "" and "empty" in empty.get_attribute("class")
    assert "no value" in empty.get_attribute("aria-label")


def test_the_pointer_tells_value_interval_floor_and_n(driver, scores: pl.DataFrame) -> None:
    place = cell(driver, "Clock, model-b, LoRA + Prompt:")
    ActionChains(driver).move_to_element(place).perform()
    words = tooltip(driver)
    for quantity in ("ece", "ece_low", "ece_high", "ece_floor"):
        assert f"{value(scores, quantity, 'temperature'):.3f}" in words
    assert "Clock · model-b, LoRA + Prompt" in words and "n = 40" in words
    low, floor = (value(scores, f"ece_{end}", "temperature") for end in ("low", "floor"))
    assert ("not distinguishable from perfect" in words) == (low <= floor)
    assert ("perfect" in place.get_attribute("class")) == (low <= floor)


def test_the_keyboard_walks_the_cells(driver) -> None:
    first = section(driver).find_element(By.CSS_SELECTOR, ".cell")
    driver.execute_script("arguments[0].focus()", first)
    seen = []
    for key in (Keys.ARROW_RIGHT, Keys.ARROW_DOWN, Keys.END, Keys.HOME, Keys.ARROW_UP):
        driver.switch_to.active_element.send_keys(key)
        seen.append(tooltip(driver).splitlines()[0])
    assert seen == [
        "Mean over subjects (macro) · model-a, LoRA + Prompt",
        "Mean of Humanities · model-a, LoRA + Prompt",
        "Mean of Humanities · model-c, Answer likelihood",
        "Mean of Humanities · model-a, Zero-Shot Classifier",
        "Mean over subjects (macro) · model-a, Zero-Shot Classifier",
    ]
    driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not driver.find_element(By.ID, "tooltip").is_displayed()
    assert len(driver.find_elements(By.CSS_SELECTOR, "#explore-0 .cell[tabindex='0']")) == 1


# order -------------------------------------------------------------------------------------------


def means_of(rows: Sequence[Sequence[str]]) -> list[float]:
    return [sum(map(float, row)) / len(row) for row in rows]


def rows_shown(driver) -> list[list[str]]:
    """The numbers of each subject's row, as the screen reader hears them: three digits."""
    found = (
        "[...document.querySelectorAll('#explore-0 tr.subject')].map((row) =>"
        " [...row.querySelectorAll('.cell')].map((e) => e.ariaLabel.match(/: .*?([0-9.]+)/)[1]))"
    )
    return browser.ask(driver, found)


def test_sorting(driver) -> None:
    choose(driver, "Sort subjects by", "order of the table")
    assert texts(driver, ".subject .name") == ["Us history", "Law", "Addition", "Clock"]
    choose(driver, "Sort subjects by", "name")
    assert texts(driver, ".subject .name") == ["Addition", "Clock", "Law", "Us history"]
    tick(driver, "reversed")
    assert texts(driver, ".subject .name") == ["Us history", "Law", "Clock", "Addition"]
    press(driver, "Reset")
    choose(driver, "Sort subjects by", "mean, best first")
    means = means_of(rows_shown(driver))
    assert means == sorted(means)
    choose(driver, "Show", "Accuracy")
    means = means_of(rows_shown(driver))
    assert means == sorted(means, reverse=True)
    choose(driver, "Sort subjects by", "spread, widest first")
    spreads = [max(map(float, r)) - min(map(float, r)) for r in rows_shown(driver)]
    assert spreads == sorted(spreads, reverse=True)


def test_a_columns_head_sorts_by_it(driver) -> None:
    def head() -> Any:
        return section(driver).find_elements(By.CSS_SELECTOR, "thead .turn")[1]

    head().click()
    once = [row[1] for row in rows_shown(driver)]
    assert once == sorted(once)
    sorted_by = "document.querySelector('#explore-0 [aria-sort]').ariaSort"
    assert browser.ask(driver, sorted_by) == "ascending"
    assert driver.switch_to.active_element == head()
    head().click()
    assert [row[1] for row in rows_shown(driver)] == once[::-1]
    assert browser.ask(driver, sorted_by) == "descending"


# differences -------------------------------------------------------------------------------------


def test_the_difference_of_two_methods(driver, scores: pl.DataFrame) -> None:
    choose(driver, "Show", "Brier score")
    choose(driver, "View", "difference of two methods")
    choose(driver, "A", "LoRA + Prompt")
    choose(driver, "minus B", "Zero-Shot Classifier")
    a, b = (value(scores, "brier", "temperature", method=m) for m in METHODS[1::-1])
    place = cell(driver, "Clock, model-b:")
    words = place.get_attribute("aria-label")
    assert float(place.text.replace("−", "-")) == pytest.approx(a - b, abs=0.0051)  # noqa: RUF001
    assert "LoRA + Prompt minus Zero-Shot Classifier is" in words and "95% interval" in words
    assert any(v in words for v in ("LoRA + Prompt is better", "is worse than", "can't tell"))
    tally = texts(driver, "[role=status]")[0]
    assert "of 12 cells (paired bootstrap over questions, 95%)" in tally
    counts = [int(n) for n in re.findall(r"\d+", tally)[:3]]
    shown = [
        e.get_attribute("class")
        for e in driver.find_elements(By.CSS_SELECTOR, "#explore-0 .subject .cell")
    ]
    assert sum(counts) == 12 and sum("unsure" in c for c in shown) == counts[2]


def test_the_other_way_round_it_has_the_other_sign(driver) -> None:
    choose(driver, "View", "difference of two models")
    once = column(driver, 0)
    a, b = (control(driver, name).first_selected_option.text for name in ("A", "minus B"))
    choose(driver, "A", b)
    assert "Choose two different models" in texts(driver, "[role=status]")[0]
    choose(driver, "minus B", a)
    turned = [t.translate({ord("−"): "+", ord("+"): "−"}) for t in column(driver, 0)]  # noqa: RUF001
    assert turned == once


# filters -----------------------------------------------------------------------------------------


def test_filters_go_through_everything(driver) -> None:
    section(driver).find_element(By.CSS_SELECTOR, ".filters summary").click()
    tick(driver, "model-b")
    tick(driver, "LoRA + Prompt")
    tick(driver, "Sums")
    assert texts(driver, ".filters summary") == ["Filters (3 left out)"]
    assert texts(driver, ".grid .model") == ["model-a", "model-c"]
    assert texts(driver, ".grid .turn") == ["Zero-shot", "Likelihood"] * 2
    assert texts(driver, ".subject .name") == ["Us history", "Law"]
    captions = " ".join(texts(driver, "figcaption"))
    assert "model-b" not in captions and "LoRA" not in captions
    assert len(texts(driver, ".panels.dense figure")) == 4
    assert "LoRA + Prompt" not in " ".join(texts(driver, ".legend"))
    tick(driver, "model-a")
    tick(driver, "model-c")
    assert texts(driver, ".cell") == []
    assert "Nothing is left to show" in section(driver).text
    press(driver, "Reset")
    assert len(texts(driver, ".cell")) == 9 * 7
    assert texts(driver, ".filters summary") == ["Filters"]


def test_the_two_formats_are_apart(driver) -> None:
    before = browser.ask(driver, "document.querySelector('#explore-1').textContent")
    choose(driver, "Show", "AUROC")
    assert browser.ask(driver, "document.querySelector('#explore-1').textContent") == before


# diagrams ----------------------------------------------------------------------------------------


def test_reliability_before_calibration(driver) -> None:
    after = texts(driver, ".panels.dense figcaption")
    tick(driver, "before calibration")
    before = texts(driver, ".panels.dense figcaption")
    assert len(before) == len(after) == 9 and before != after


def test_curves_and_bars_are_drawn(driver) -> None:
    kinds = {
        ".panels .curve": 9,
        ".panels rect.count": 1,
        ".panels .whisker": 9,
        ".panels .floor": 9,
    }
    for selector, least in kinds.items():
        assert len(driver.find_elements(By.CSS_SELECTOR, f"#explore-0 {selector}")) >= least
    broken = (
        "[...document.querySelectorAll('svg *')]"
        ".filter((e) => /NaN|undefined|Infinity/.test(e.outerHTML)).length"
    )
    for label in [option.text for option in control(driver, "Show").options]:
        choose(driver, "Show", label)
        assert browser.ask(driver, broken) == 0, label


def test_the_words_of_a_picture_are_small_and_within_it(driver) -> None:
    """Names below the bars end above the next row of pictures."""
    sizes = """[...document.querySelectorAll("svg text")]
      .map((text) => getComputedStyle(text).fontSize)"""
    assert set(browser.ask(driver, sizes)) == {"9.5px"}
    beyond = """[...document.querySelectorAll(".panels figure")].filter((figure) => {
      const foot = (e) => e.getBoundingClientRect().bottom;
      return [...figure.querySelectorAll("text")].some((text) => foot(text) > foot(figure) + 2);
    }).length"""
    assert browser.ask(driver, beyond) == 0
