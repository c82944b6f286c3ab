"""Names of graders, and from a name to the judge that does its work.

match                normalised match, as `answers.grade` does it: no judge
judge:MODEL          a local model reads both answers and says yes or no
openai:NAME[@URL]    a model on an OpenAI-compatible server does
"""

from __future__ import annotations

from pathlib import Path

from howsure import api, lm
from howsure.api import Limits
from howsure.errors import UnknownName, UsageError
from howsure.judges import Judge

MATCH = "match"
LOCAL = "judge:"


def check(grader: str) -> None:
    """Raises UnknownName or UsageError for what names no grader."""
    if grader == MATCH:
        return
    if api.is_server(grader):
        api.parse(grader)
    elif not grader.startswith(LOCAL):
        raise UnknownName("grader", grader, (MATCH, f"{LOCAL}MODEL", f"{api.PREFIX}NAME@URL"))
    elif api.is_server(grader.removeprefix(LOCAL)):
        raise UsageError(
            f"--grader {LOCAL}... is for a model that is loaded here; name a server as "
            f"{api.PREFIX}NAME@URL"
        )
    elif not grader.removeprefix(LOCAL):
        raise UsageError(f"--grader {grader}: name the model, for example {LOCAL}qwen2.5:7b-chat")


def local_model(grader: str) -> str | None:
    """The model of a local judge; None for every other grader."""
    return grader.removeprefix(LOCAL) if grader.startswith(LOCAL) else None


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

    Raises UnknownName or UsageError for what names no judge, ModelError as `lm.load` does.
    """
    model = local_model(grader)
    if model:
        from howsure.judges.local import LocalJudge

        return LocalJudge(lm.load(model, device=device, dtype=dtype))
    from howsure.judges.remote import RemoteJudge

    return RemoteJudge(api.Client(api.parse(grader), limits, cache))
