"""The pictures of the page in `docs/img/`: what it looks like on a wide screen and on a phone.

    python tools/shoot_report.py PUBLISHED/report.html RECORDED/report.html

PUBLISHED: `howsure report kapoor2024_mmlu.csv`; RECORDED: a report with predictions behind it, here
`howsure score mmlu_pro_verbal_confidence.jsonl.gz`. Needs chromium and chromium-driver.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests"))

import browser  # noqa: E402

WIDE, PHONE = (1400, 1000), (390, 844)
CHOOSE = """(() => {
  const labels = [...document.querySelectorAll("#explore-0 .controls label")];
  const control = labels.find((l) => l.textContent.startsWith(a)).control;
  control.value = [...control.options].find((o) => o.text === b).value;
  control.dispatchEvent(new Event("change"));
})()"""


@dataclass(frozen=True)
class Shot:
    """What is to be seen in the window."""

    name: str
    page: int
    """Which of the pages given."""
    top: str = "body"
    """The element at the upper edge."""
    choices: Mapping[str, str] = field(default_factory=dict)
    """Label of a control → the option chosen, one after the other."""
    hover: str = ""
    """The beginning of the spoken name of the cell under the pointer."""
    scheme: str = "light"


SHOTS = (
    Shot("report", 0, "header"),
    Shot("heatmap", 0, "#explore-0", {"Show": "AUROC"}, "Astronomy, Llama-2-7b-hf, Probe"),
    Shot("difference", 1, "#explore-0", {"View": "difference of two models"}, "Law, "),
    Shot("diagrams", 1, "figure:has(.band)"),
    Shot("statements", 0, "#said"),
    Shot("dark", 0, "#explore-0", scheme="dark"),
)


def main() -> None:
    pages = [Path(name) for name in sys.argv[1:]]
    if len(pages) != 2:
        sys.exit(__doc__)
    out = REPOSITORY / "docs" / "img"
    out.mkdir(exist_ok=True)
    with browser.chromium() as driver:
        for width, height in (WIDE, PHONE):
            for shot in SHOTS:
                path = out / f"{shot.name}-{width}.png"
                path.write_bytes(taken(driver, pages[shot.page], shot, width, height))
                print(path.relative_to(REPOSITORY))


def taken(driver: browser.Chrome, page: Path, shot: Shot, width: int, height: int) -> bytes:
    """The window's contents as PNG."""
    browser.resize(driver, width, height)
    browser.emulate(driver, scheme=shot.scheme)
    browser.open_page(driver, page)
    for label, option in shot.choices.items():
        browser.ask(driver, CHOOSE, label, option)
    place = "(document.querySelector(a).scrollIntoView(), scrollBy(0, -12))"
    browser.ask(driver, place, shot.top)
    if shot.hover:
        over = "document.querySelector(a)?.dispatchEvent(new Event('mouseenter'))"
        browser.ask(driver, over, f"#explore-0 .cell[aria-label^='{shot.hover}']")
    # By its place in the page: a screenshot of the window may still show it unscrolled.
    clip = {"x": 0, "y": browser.ask(driver, "scrollY"), "width": width, "height": height}
    wanted = {"format": "png", "captureBeyondViewport": True, "clip": {**clip, "scale": 1}}
    shown = driver.execute_cdp_cmd("Page.captureScreenshot", wanted)
    return base64.b64decode(shown["data"])


if __name__ == "__main__":
    main()
