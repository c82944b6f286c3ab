"""A Figure as the bytes of a file: PNG, and SVG that comes out the same every time."""

from __future__ import annotations

import io
import re
import warnings
from typing import Any

import matplotlib
from matplotlib.figure import Figure

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


def _save(figure: Figure, kind: str, metadata: dict[str, str | None], dpi: int) -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings():
        # A model's name may hold a letter that the font lacks; it shows as a box.
        warnings.filterwarnings(
            "ignore", message="Glyph .* missing from font", category=UserWarning
        )
        figure.savefig(out, format=kind, dpi=dpi, metadata=metadata)
    return out.getvalue()


def _compact(data: bytes) -> bytes:
    """Without rotations by zero, fonts named once instead of at every text, no indentation."""
    data = re.sub(rb' transform="rotate\(-0 [^"()]*\)"', b"", data)
    data = data.replace(b"font-family: 'DejaVu Sans'; ", b"")
    data = data.replace(b"</style>", _FONTS + b"</style>", 1)
    return re.sub(rb"\n\s*", b"\n", data)
