"""The page as bytes: template, style, script and data in one file that fetches nothing.

The policy names the hashes of the one style and the one script, so that nothing else can run or
style, whatever a text of the data holds; the data are a block that no browser runs.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from howsure.figures.labels import one_line
from howsure.report.definitions import DEFINITIONS
from howsure.report.text import UNKNOWN

SCRIPTS = (
    *("dom", "colour", "values", "state", "tooltip", "grid", "heatmap", "differences"),
    *("filters", "bars", "reliability", "risk", "main"),
)
"""The parts of the script, in the order in which they are put together."""

_HERE = files("howsure.report")


def render(data: Mapping[str, Any], **content: object) -> bytes:
    """The page in UTF-8; `data` is what the script draws, `content` what the template writes."""
    style = _HERE.joinpath("page.css").read_text(encoding="utf-8").strip()
    script = assembled_script()
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; "
        f"script-src '{_digest(script)}'; base-uri 'none'; form-action 'none'; "
        "require-trusted-types-for 'script'"
    )
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters["line"] = one_line
    template = environment.from_string(
        _HERE.joinpath("page.html.jinja").read_text(encoding="utf-8")
    )
    page = template.render(
        **content,
        # The policy holds for these as they are: they must be put in unchanged.
        style=Markup(style),
        script=Markup(script),
        data=Markup(inert_json(data)),
        policy=policy,
        definitions=DEFINITIONS,
        unknown=UNKNOWN,
    )
    return page.encode("utf-8", "replace")


def assembled_script() -> str:
    """All parts within one function, so that the page has no global names."""
    parts = [_HERE.joinpath("script", f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS]
    return '(() => {\n"use strict";\n' + "\n".join(parts) + "})();"


def inert_json(value: Any) -> str:
    """JSON that can't end its block: "<", ">", "&" and all that is not ASCII are escaped."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
