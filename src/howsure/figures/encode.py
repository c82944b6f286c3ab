"""A Figure as the bytes of a file, PNG, SVG or PDF, that comes out the same every time."""

from __future__ import annotations

import io
import re
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from howsure.figures.style import any_letters

DPI = 150
_FONTS = b"text{font-family:'DejaVu Sans',Verdana,sans-serif}"
"""Verdana has nearly the same widths, for readers without DejaVu."""


def png(figure: Figure, dpi: int = DPI) -> bytes:
    """The figure as PNG; the same figure gives the same bytes."""
    return _save(figure, "png", {"Software": None}, dpi)


def svg(figure: Figure) -> bytes:
    """The figure as SVG, text as text; the same figure gives the same bytes."""
    settings: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "howsure"}
    with matplotlib.rc_context(settings):
        return _compact(_save(figure, "svg", {"Date": None, "Creator": "howsure"}, 72))


def pdf(figure: Figure) -> bytes:
    """The figure as PDF, with TrueType fonts, as publishers ask; the same bytes for the same."""
    settings: dict[Any, Any] = {"pdf.fonttype": 42}
    with matplotlib.rc_context(settings):
        return _save(figure, "pdf", {"CreationDate": None, "Creator": "howsure"}, 72)


def _save(figure: Figure, kind: str, metadata: dict[str, str | None], dpi: int) -> bytes:
    out = io.BytesIO()
    with any_letters():
        figure.savefig(out, format=kind, dpi=dpi, metadata=metadata)
    return out.getvalue()


def _compact(data: bytes) -> bytes:
    """A third of the size: fonts named once instead of at every text, hundredths of a point, and
    neither rotations by zero nor a group around each text. What stands between tags is kept.
    """
    data = re.sub(rb"<[^>]*>", lambda tag: _compact_tag(tag.group()), data)
    data = data.replace(b"</style>", _FONTS + b"</style>", 1)
    return re.sub(rb'<g id="text_\d+">\s*(<text [^>]*>[^<]*</text>)\s*</g>', rb"\1", data)


def _compact_tag(tag: bytes) -> bytes:
    tag = re.sub(rb' transform="rotate\(-0 [^"()]*\)"', b"", tag)
    tag = tag.replace(b"font-family: 'DejaVu Sans'; ", b"")
    return re.sub(rb"(\d\.\d\d)\d+", rb"\1", tag)
