"""The words and colours that pictures and pages share."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence

METHOD_NAMES: dict[str, str] = {
    "zero_shot": "Zero-Shot Classifier",
    "probe": "Probe",
    "lora": "LoRA",
    "lora_prompt": "LoRA + Prompt",
    "likelihood": "Answer likelihood",
    "subject_prior": "Subject prior",
}
"""Method → its display name, in display order."""

SHORT_NAMES: dict[str, str] = {
    "zero_shot": "Zero-shot",
    "probe": "Probe",
    "lora": "LoRA",
    "lora_prompt": "LoRA+Prompt",
    "likelihood": "Likelihood",
    "subject_prior": "Subj. prior",
}

BASELINES = ("likelihood", "subject_prior")
"""Shown beside the methods in muted colours: what any estimator has to beat."""

FORMAT_NAMES = {
    "open": "open-ended questions",
    "choice": "multiple-choice questions",
    "recorded": "recorded answers",
}

CALIBRATION_NAMES = {
    "none": "without scaling",
    "temperature": "after temperature scaling",
    "platt": "after Platt scaling",
    "isotonic": "after isotonic regression",
}

# Okabe and Ito's palette: told apart by colour-blind readers too.
_COLOURS = {
    "zero_shot": "#e69f00",
    "probe": "#56b4e9",
    "lora": "#009e73",
    "lora_prompt": "#0072b2",
    "likelihood": "#8d8d8d",
    "subject_prior": "#c2c2c2",
}
_MORE_COLOURS = ("#d55e00", "#cc79a7", "#7a6a00", "#6a4c93", "#8c564b", "#1b7837")


def method_name(method: str, *, short: bool = False) -> str:
    """ "lora_prompt" → "LoRA + Prompt" (short: "LoRA+Prompt"); a user's own name as it is."""
    return (SHORT_NAMES if short else METHOD_NAMES).get(method, one_line(method))


def method_order(methods: Sequence[str]) -> list[str]:
    """Distinct methods for display: the four published, others as they come, baselines last."""
    known = [m for m in METHOD_NAMES if m not in BASELINES]
    distinct = list(dict.fromkeys(methods))
    other = [m for m in distinct if m not in METHOD_NAMES]
    return [m for m in (*known, *other, *BASELINES) if m in distinct]


def method_colours(methods: Sequence[str]) -> dict[str, str]:
    """A colour for each method; the same method has the same colour in every picture."""
    other = [m for m in methods if m not in _COLOURS]
    extra = {m: _MORE_COLOURS[i % len(_MORE_COLOURS)] for i, m in enumerate(other)}
    return {m: _COLOURS.get(m) or extra[m] for m in methods}


def one_line(text: str) -> str:
    """`text` without control characters, line breaks and doubled spaces."""
    printable = (" " if unicodedata.category(c)[0] in "CZ" else c for c in text)
    return " ".join("".join(printable).split())


def subject_label(subject: str) -> str:
    """ "us_foreign_policy" → "Us foreign policy", as the prompts name it; others unchanged."""
    text = one_line(subject.replace("_", " "))
    return text[:1].upper() + text[1:] if text == text.lower() else text


def model_labels(models: Sequence[str]) -> dict[str, str]:
    """Model → the part after the last "/", where that still tells all models apart."""
    short = {m: one_line(m.rstrip("/").rsplit("/", 1)[-1]) or one_line(m) for m in models}
    clash = len(set(short.values())) < len(set(models))
    return {m: one_line(m) for m in models} if clash else short


def format_label(format: str) -> str:
    """ "open" → "open-ended questions"; a format of the user's own stands as it is."""
    return FORMAT_NAMES.get(format, one_line(format))


def calibration_label(calibration: str) -> str:
    """ "temperature" → "after temperature scaling"."""
    return CALIBRATION_NAMES.get(calibration, f"calibrated by {one_line(calibration)}")


def wrap(text: str, width: float, measure: Callable[[str], float], lines: int) -> list[str]:
    """`text` cut into at most `lines` lines of about equal length, none wider than `width`.

    Breaks after spaces, hyphens, slashes and underscores where it can, else anywhere; what does
    not fit ends in an ellipsis.
    """
    best = _greedy(text, width, measure, lines)
    if len(best) == 1 or best[-1].endswith("…"):
        return best
    for share in (0.5, 0.6, 0.7, 0.8, 0.9):
        tried = _greedy(text, share * width, measure, len(best))
        if not tried[-1].endswith("…") and all(line[-1] in " -/_" for line in tried[:-1]):
            return tried
    return best


def _greedy(text: str, width: float, measure: Callable[[str], float], lines: int) -> list[str]:
    """As many characters a line as fit."""
    done: list[str] = []
    rest = text
    while rest and len(done) < lines:
        take = _fits(rest, width, measure)
        if take < len(rest):
            cut = max(rest.rfind(c, 0, take) for c in " -/_") + 1
            take = cut or take
        done.append(rest[:take].strip())
        rest = rest[take:].lstrip()
    if rest:
        last = done[-1] + rest
        done[-1] = last[: max(1, _fits(last, width - measure("…"), measure))].rstrip() + "…"
    return done


def _fits(text: str, width: float, measure: Callable[[str], float]) -> int:
    """The most leading characters of `text` that are at most `width` wide; at least one."""
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (
            (middle, high) if measure(text[:middle].rstrip()) <= width else (low, middle - 1)
        )
    return low
