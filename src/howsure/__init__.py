"""How sure is it? The probability that an answer of a language model is correct, and its worth.

questions → answers → graded answers → estimator → predictions → scores → figures

    lm = howsure.load("tiny-llama-s")
    answers = howsure.answer(lm, questions, format="open")
    graded = howsure.grade(questions, answers)
    estimator = howsure.fit(howsure.default_spec("probe"), lm, graded, valid)
    estimator.p_correct(answers)      # (n,), probabilities: higher is surer

A whole run is `howsure.run.run(howsure.run.RunSpec(...))`. Names are imported when they are first
used: importing howsure costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from howsure.answers import answer, grade
    from howsure.calibrate import Calibrated, fit_calibrator
    from howsure.errors import HowsureError, UsageError
    from howsure.figures.bars import bars
    from howsure.figures.heatmap import heatmap
    from howsure.figures.reliability import reliability
    from howsure.figures.risk import risk_coverage
    from howsure.lm import embedded_names, load
    from howsure.methods import METHODS, default_spec, fit, spec_from
    from howsure.outcome import predictions
    from howsure.questions import open_set, select
    from howsure.questions.quiz import quiz
    from howsure.report.inputs import read_source
    from howsure.report.statements import statements
    from howsure.scores import read_predictions, read_scores, score
    from howsure.types import Answer, Estimator, GradedAnswer, Predictions, Question

_HOME = {
    "answers": ("answer", "grade"),
    "calibrate": ("Calibrated", "fit_calibrator"),
    "errors": ("HowsureError", "UsageError"),
    "figures": ("bars", "heatmap", "reliability", "risk_coverage"),
    "lm": ("embedded_names", "load"),
    "methods": ("METHODS", "default_spec", "fit", "spec_from"),
    "questions": ("open_set", "select"),
    "questions.quiz": ("quiz",),
    "report.inputs": ("read_source",),
    "report.statements": ("statements",),
    "scores": ("read_predictions", "read_scores", "score"),
    "types": ("Answer", "Estimator", "GradedAnswer", "Predictions", "Question"),
    "outcome": ("predictions",),
}

__all__ = [
    "METHODS",
    "Answer",
    "Calibrated",
    "Estimator",
    "GradedAnswer",
    "HowsureError",
    "Predictions",
    "Question",
    "UsageError",
    "__version__",
    "answer",
    "bars",
    "default_spec",
    "embedded_names",
    "fit",
    "fit_calibrator",
    "grade",
    "heatmap",
    "load",
    "open_set",
    "predictions",
    "quiz",
    "read_predictions",
    "read_scores",
    "read_source",
    "reliability",
    "risk_coverage",
    "score",
    "select",
    "spec_from",
    "statements",
]


def __getattr__(name: str) -> object:
    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(f"howsure.{module}"), name)
    raise AttributeError(f"module 'howsure' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
