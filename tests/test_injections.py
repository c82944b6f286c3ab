"""No text is ever more than text, whatever field it stands in: read back in a real browser.

Twice: with the page's policy, under which nothing may so much as try; and without it, so that the
escaping is tested by itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

pytest.importorskip("selenium")
import browser
from injections import INJECTIONS
from selenium.webdriver.support.ui import WebDriverWait
from synthetic import make_scores

from howsure.figures.labels import format_label, method_name, model_labels, one_line, subject_label
from howsure.report import Extra, Table, write, write_report
from howsure.types import Predictions

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(browser.installed() is None, reason="needs chromium and chromium-driver"),
]

N = len(INJECTIONS)
SHARE = 6
"""Subjects of each format: all strings are subjects of some format."""
WATCH = "window.ran = []; window.alert = (text) => window.ran.push(String(text));"


def hostile(i: int) -> str:
    return INJECTIONS[i % N]


def hostile_predictions() -> list[Predictions]:
    """A format for each string, with two models and two methods that are the next ones."""
    rng = np.random.default_rng(0)
    made = []
    for i in range(N):
        names = tuple(hostile(SHARE * i + k) for k in range(SHARE) for _ in range(4))
        ids = tuple(f"{hostile(i + k)} {k}" for k in range(len(names)))
        for m in (1, 2):
            right = rng.random(len(ids)) < 0.5
            for k in (3, 4):
                made.append(
                    Predictions(
                        model=hostile(i + m),
                        method=hostile(i + k),
                        format=hostile(i),
                        calibration=hostile(i + 5),
                        ids=ids,
                        subjects=names,
                        p_correct=rng.random(len(ids)),
                        is_correct=right,
                        answers=tuple(hostile(i + 6 + k) for k in range(len(ids))),
                    )
                )
    return made


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Every string in every field. The still pictures are tested with the other pictures."""
    made = hostile_predictions()
    scores = make_scores(made)
    questions = {name: hostile(i) for p in made for i, name in enumerate(p.ids)}
    table = Table(INJECTIONS[:3], tuple((s, s, s) for s in INJECTIONS))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "still_pictures", lambda *_: [])
        patch.setattr(write, "curves", lambda *_: [])
        yield write_report(
            tmp_path_factory.mktemp("hostile"),
            scores,
            made,
            title=" ".join(INJECTIONS),
            run_card={
                **{s: s for s in INJECTIONS},
                "nested": {s: {s: [s]} for s in INJECTIONS},
                "units": {
                    s: {"prompt": s, "answers": {"test": {"answers": 1}}} for s in INJECTIONS
                },
                "seconds": {"by_unit": {s: {"answer test": 1.0, s: 2.0} for s in INJECTIONS}},
            },
            categories={s: hostile(i + 1) for i, s in enumerate(INJECTIONS)},
            questions=questions,
            reference=(" ".join(INJECTIONS), scores.filter(pl.col("format").is_in(INJECTIONS[:2]))),
            notes=INJECTIONS,
            extra=[Extra("more", s, (s,), ((s, table),)) for s in INJECTIONS],
        )


@pytest.fixture(scope="module")
def driver():
    with browser.chromium() as made:
        made.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
        yield made


def touch_everything(driver) -> None:
    """Each kind of control in every section, many a cell in focus, all unfolded."""
    browser.ask(
        driver,
        """(() => {
          const all = (selector) => [...document.querySelectorAll(selector)];
          all("details").forEach((part) => (part.open = true));
          const choose = (place, label, value) => {
            const labels = [...place.querySelectorAll(".controls label")];
            const control = labels.find((l) => l.textContent.startsWith(label)).control;
            control.value = value;
            control.dispatchEvent(new Event("change"));
          };
          for (const place of all(".explore")) {
            for (const view of ["methods", "models"]) {
              choose(place, "View", view);
              place.querySelectorAll(".cell").forEach((cell, i) => i % 5 || cell.focus());
            }
            choose(place, "Sort", "name");
            place.querySelector("thead button").click();
            place.querySelector(".filters input").click();
            place.querySelector(".controls button").click();
          }
        })()""",
    )


def ran(driver) -> list[str]:
    return browser.ask(driver, "window.ran")


def test_nothing_runs_and_nothing_is_fetched(driver, page: Path) -> None:
    browser.open_page(driver, page)
    touch_everything(driver)
    assert ran(driver) == []
    assert browser.console(driver) == []
    assert browser.requests(driver) == [page.as_uri()]


def test_the_escaping_holds_without_the_policy(driver, page: Path, tmp_path: Path) -> None:
    unguarded = tmp_path / "report.html"
    html = page.read_text(encoding="utf-8")
    assert html.count('http-equiv="Content-Security-Policy"') == 1
    unguarded.write_text(html.replace('http-equiv="Content-Security-Policy"', 'name="none"'))
    browser.open_page(driver, unguarded)
    touch_everything(driver)
    assert ran(driver) == []
    assert browser.requests(driver) == [unguarded.as_uri()]
    # The test can fail: what is put in as HTML does run here.
    browser.ask(driver, "document.body.insertAdjacentHTML('beforeend', a)", INJECTIONS[8])
    WebDriverWait(driver, 10).until(ran)
    assert ran(driver) == ["a-broken-image"]


def test_every_text_is_shown_as_it_is(driver, page: Path) -> None:
    browser.open_page(driver, page)
    shown = browser.ask(
        driver,
        """Object.fromEntries(Object.entries(a).map(([name, selector]) =>
             [name, [...document.querySelectorAll(selector)].map((e) => e.textContent)]))""",
        {
            "format": "main > section > h2",
            "model": ".grid .model span",
            "method": ".grid thead .turn",
            "subject": ".grid .subject .name",
            "category": ".grid .category .name",
            "answer and question": "bdi",
            "note": "header .note",
            "card": "#run th, #run td",
            "prompt": ".prompt bdi",
            "extra": "#more h2, #more p, #more td",
            "unit": "#cost td",
        },
    )
    title = browser.ask(driver, "[document.title, document.querySelector('h1').textContent]")
    names = {s: one_line(s) for s in INJECTIONS}
    pairs = [model_labels([hostile(i + 1), hostile(i + 2)]) for i in range(N)]
    labels = {
        "format": [_capital(format_label(s)) for s in INJECTIONS],
        "model": [label for pair in pairs for label in pair.values()],
        "method": [method_name(s, short=True) for s in INJECTIONS],
        "subject": [subject_label(s) for s in INJECTIONS],
        "category": [f"Mean of {name}" for name in names.values()],
        "prompt": [s.replace("\x00", "") for s in INJECTIONS],
    }
    for field, texts in shown.items():
        missing = set(labels.get(field, names.values())) - set(texts)
        assert not missing, f"{field}: {missing}"
    assert all(name in text for name in names.values() for text in title)


def test_the_data_are_one_block(driver, page: Path) -> None:
    browser.open_page(driver, page)
    scripts = browser.ask(driver, "[...document.scripts].map((s) => s.type)")
    text = browser.ask(driver, "document.getElementById('data').textContent")
    assert scripts == ["application/json", ""]
    assert len(json.loads(text)["formats"]) == N + 2


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
