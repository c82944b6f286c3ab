"""A headless Chromium for the tests of the page, driven by chromium-driver.

Debian: `apt-get install chromium chromium-driver`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SWITCHES = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
    "--hide-scrollbars",
)

PATIENCE = 600
"""Seconds that anything may take: on a busy machine, all of it takes long."""


def installed() -> tuple[str, str] | None:
    """(browser, driver); None where either is missing."""
    browser = next((found for name in NAMES if (found := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


@contextmanager
def chromium() -> Iterator[Chrome]:
    """A browser that logs what it asks of the network and what its console says."""
    found = installed()
    assert found is not None, "needs chromium and chromedriver"
    os.environ.setdefault("SE_OFFLINE", "true")  # selenium must not look for a driver of its own
    options = ChromeOptions()
    options.binary_location = found[0]
    for switch in SWITCHES:
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=Service(found[1]))
    driver.command_executor.client_config.timeout = PATIENCE
    driver.set_script_timeout(PATIENCE)
    try:
        resize(driver, 1400)
        yield driver
    finally:
        driver.quit()


def resize(driver: Chrome, width: int, height: int = 1000) -> None:
    """The page is as wide and high as this, whatever the window's borders."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def emulate(driver: Chrome, *, medium: str = "", scheme: str = "light") -> None:
    """A medium ("print", "" for the screen) and a colour scheme."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": medium, "features": features})


def open_page(driver: Chrome, path: Path) -> None:
    """Opens the file; the logs then hold what came of this page only."""
    driver.get("about:blank")
    console(driver)
    requests(driver)
    driver.get(path.resolve().as_uri())
    # On a busy machine `get` has been seen to return while the page was still being read.
    WebDriverWait(driver, 30).until(
        lambda d: (
            d.execute_script("return document.readyState + ' ' + location.protocol")
            == "complete file:"
        )
    )


def console(driver: Chrome) -> list[str]:
    """What the console said since it was last asked."""
    return [entry["message"] for entry in driver.get_log("browser")]


def requests(driver: Chrome) -> list[str]:
    """The addresses asked for since this was last called; `data:` is none."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    urls = [str(params["request"]["url"]) for params in asked]
    return [url for url in urls if not url.startswith("data:")]


def ask(driver: Chrome, script: str, *arguments: Any) -> Any:
    """The value of a JavaScript expression; `arguments` are its a, b, c."""
    names = ", ".join("abc"[: len(arguments)])
    return driver.execute_script(f"const [{names}] = arguments; return {script};", *arguments)
