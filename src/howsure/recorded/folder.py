"""The folder that `howsure score` writes to: whose results are in it already?

`score.json` names the files that its results are of, and holds what was said of them, for whoever
draws the report again. Scoring the same files again replaces them; anything else stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from howsure import strict_json
from howsure.errors import UsageError
from howsure.report.files import as_json, make_folder, write
from howsure.report.inputs import CARD, PREDICTIONS, RECORDED, SCORES

_WRITTEN = (CARD, PREDICTIONS, SCORES, "statements.json", "report.html", "figures")
"""What would be replaced, or belongs to a run."""


def claim(folder: Path, files: Sequence[Path], notes: Sequence[str] = ()) -> None:
    """Makes the folder, and says in it that its results are those of `files`.

    Raises UsageError where it holds something else already, or can't be written to.
    """
    sources = [str(file.resolve()) for file in files]
    held = [name for name in _WRITTEN if (folder / name).exists()]
    if held and (CARD in held or _sources(folder / RECORDED) != sources):
        raise UsageError(
            f"{folder} holds {held[0]}, but not of these files, and scoring would replace it; give "
            "another folder with --output, or remove it"
        )
    make_folder(folder)
    write(folder / RECORDED, as_json({"files": sources, "notes": list(notes)}))


def _sources(mark: Path) -> object:
    """The files named there; None where it can't be told."""
    try:
        made = strict_json.loads(mark.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return made.get("files") if isinstance(made, dict) else None
