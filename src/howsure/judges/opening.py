"""From a grader's name to the judge that does its work."""

from __future__ import annotations

from pathlib import Path

from howsure import api, lm
from howsure.api import Limits
from howsure.judges import LOCAL, MATCH, Judge, check, local_model, match


def label(grader: str) -> str:
    """The grader as each of its grades names it: no path of a folder, an address always."""
    check(grader)
    model = local_model(grader)
    if model is not None:
        return LOCAL + (Path(model).resolve().name if Path(model).is_dir() else model)
    return grader if grader == MATCH else str(api.parse(grader))


def open_judge(
    grader: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    limits: Limits | None = None,
    cache: Path | None = None,
) -> Judge:
    """Loads a local judge; a server is not asked yet. Its replies are kept in `cache`.

    Raises UnknownName or UsageError for what names no grader, ModelError as `lm.load` does.
    """
    check(grader)
    model = local_model(grader)
    if model is not None:
        from howsure.judges.local import LocalJudge

        return LocalJudge(lm.load(model, device=device, dtype=dtype))
    if grader == MATCH:
        return match
    from howsure.judges.remote import RemoteJudge

    return RemoteJudge(api.Client(api.parse(grader), limits, cache))
