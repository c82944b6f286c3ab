"""Letter answers of real MMLU questions agree with the real lm-evaluation-harness.

The harness is not a dependency: it is used where it can be imported, or by the Python that
HOWSURE_LM_EVAL_PYTHON names (an environment with `pip install lm_eval torch transformers`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from families import shrunk_model
from tokenizers_of_all_kinds import mistral

from howsure import lm as seam
from howsure.answers import answer
from howsure.asking import Asking, ask
from howsure.lm import Options, Place
from howsure.questions import open_set
from howsure.types import LETTERS, Question

pytestmark = pytest.mark.slow

SUBJECTS = ("abstract_algebra", "high_school_us_history", "machine_learning")
EACH = 12
VERSION = "0.4.13"

_QUESTION = (
    "Question:\n{{question}}\n\nChoices:\n  (a): {{choices[0]}}\n  (b): {{choices[1]}}\n"
    "  (c): {{choices[2]}}\n  (d): {{choices[3]}}\nAnswer:"
)


@pytest.fixture(scope="module")
def harness() -> str:
    """The Python that has the harness."""
    named = os.environ.get("HOWSURE_LM_EVAL_PYTHON")
    if named:
        return named
    if find_spec("lm_eval") is not None:
        return sys.executable
    pytest.skip("lm_eval can't be imported; HOWSURE_LM_EVAL_PYTHON may name a Python that has it")


@pytest.fixture(scope="module")
def questions(shared_data: Path) -> dict[str, dict[str, list[Question]]]:
    """Split → subject → its first questions."""
    mmlu = open_set("mmlu", shared_data / "questions")
    made: dict[str, dict[str, list[Question]]] = {"dev": {}, "test": {}}
    for split, most in (("dev", 5), ("test", EACH)):
        for q in mmlu.load(split):  # type: ignore[arg-type]
            mine = made[split].setdefault(q.subject, [])
            if q.subject in SUBJECTS and len(mine) < most:
                mine.append(q)
    return made


def task(subject: str, questions: dict[str, dict[str, list[Question]]], folder: Path) -> Any:
    """A subject as the harness is told of it, with the prompt of the published setting."""
    files = {}
    for split, of_subject in questions.items():
        rows = [
            {"question": q.text, "choices": list(q.choices), "answer": q.answer_index}
            for q in of_subject[subject]
        ]
        files[split] = str(folder / f"{subject}.{split}.jsonl")
        Path(files[split]).write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    about = subject.replace("_", " ").capitalize()
    return {
        "task": subject,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": files},
        "test_split": "test",
        "fewshot_split": "dev",
        "fewshot_config": {"sampler": "first_n", "doc_to_text": _QUESTION},
        "output_type": "multiple_choice",
        "description": f"The following are multiple-choice questions (with answers) about {about}."
        "\n\n",
        "doc_to_text": f"Now, answer the next question.\n\n{_QUESTION}",
        "doc_to_choice": list(LETTERS[:4]),
        "doc_to_target": "answer",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": 1.0},
    }


@pytest.mark.parametrize("family", ["llama2-7b", "mistral-7b-v0.1"])
def test_letters_are_those_of_the_harness(
    family: str, harness: str, questions: dict[str, dict[str, list[Question]]], tmp_path: Path
) -> None:
    """The same argmax on each question, and log-probabilities within 1e-4."""
    model = tmp_path / "model"
    model.mkdir()
    tokenizer = mistral("v1", None, tmp_path)
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(model)
    shrunk_model(family).save_pretrained(model)
    theirs = _harness(harness, model, [task(s, questions, tmp_path) for s in SUBJECTS], tmp_path)
    assert theirs.pop("version") == VERSION

    lm = seam.load(str(model), device="cpu")
    asked = [q for s in SUBJECTS for q in questions["test"][s]]
    prompts = ask(lm, asked, questions["dev"], Asking("off"), options=True, max_tokens=1)
    (mine,) = lm.read([p.passage for p in prompts], [Options(Place.QUESTION, tuple("abcd"))])
    expected = np.array([row for s in SUBJECTS for row in theirs[s]])
    assert mine.shape == expected.shape == (len(SUBJECTS) * EACH, 4)
    np.testing.assert_allclose(mine, expected, atol=1e-4)
    assert np.ptp(mine, axis=0).min() > 0.1  # the questions make a difference
    answers = answer(lm, asked, format="choice", examples=questions["dev"], asking=Asking("off"))
    assert [a.choice for a in answers] == expected.argmax(1).tolist()


def _harness(python: str, model: Path, tasks: Sequence[Any], folder: Path) -> Any:
    (folder / "tasks.json").write_text(json.dumps(tasks), encoding="utf-8")
    script = Path(__file__).with_name("harness_letters.py")
    out = folder / "out.json"
    made = subprocess.run(
        [python, str(script), str(model), str(folder / "tasks.json"), str(out)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": "", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"},
        timeout=1200,
    )
    assert made.returncode == 0, made.stderr[-3000:]
    return json.loads(out.read_text(encoding="utf-8"))
