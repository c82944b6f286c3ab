"""The six columns of the published picture, from the recipe to the report, on real questions.

The models have the real configs in less width and depth, and random weights; the tokenizer is
Mistral 7B's (LLaMA 2's is not in any package; it has as many entries).
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from families import shrunk_model
from tokenizers_of_all_kinds import mistral

from howsure.lm.names import known_models
from howsure.methods import METHODS
from howsure.prompts import question_prompt
from howsure.questions import open_set
from howsure.run import run
from howsure.scores import read_predictions
from howsure.spec import build, load_recipe
from howsure.types import LETTERS

pytestmark = pytest.mark.slow

COLUMNS = (*tuple(known_models())[:4], "mistral:7b", "mistral:7b-instruct")
SUBJECTS = ("anatomy", "us_foreign_policy")
QUICK = {"schedule": {"steps": 4, "evaluations": 2}, "valid_size": 8}
SETTINGS = {
    "probe": {"schedule": {"steps": 20, "evaluations": 2}},
    "lora": QUICK,
    "lora_prompt": QUICK,
}


def test_they_are_those_of_the_recipe() -> None:
    ids = tuple(known_models()[name].hub_id for name in COLUMNS)
    assert ids == load_recipe("kapoor2024")["models"]


@pytest.fixture(scope="module")
def released(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Graded answers to real training questions, half of them right, as released ones are kept.

    A random model answers nothing right by itself, and no estimator learns from that.
    """
    root = tmp_path_factory.mktemp("released")
    questions = open_set("openbookqa", shared_data / "questions").load("train")[:60]
    for ending in ("choice", "oe"):
        rows = []
        for i, q in enumerate(questions):
            said = (q.answer_index + i % 2) % len(q.choices)
            prompt = question_prompt(q, options=ending == "choice")
            rows.append(
                {
                    "context": prompt.removesuffix("\nAnswer:"),
                    "target_prompt": "\nAnswer:",
                    "target": q.reference,
                    "output": LETTERS[said] if ending == "choice" else q.choices[said],
                    "query_label": 1 - i % 2,
                }
            )
        file = root / ending / "data" / "train-00000-of-00001.parquet"
        file.parent.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(rows), file)
    return root


@pytest.mark.parametrize("column", COLUMNS)
def test_a_column(column: str, released: Path, shared_data: Path, tmp_path: Path) -> None:
    known = known_models()[column]
    folder = tmp_path / known.hub_id.rsplit("/", 1)[-1]
    shrunk_model(known.config).save_pretrained(folder)
    mistral("v1", None, tmp_path).save_pretrained(folder)
    changes = {
        "models": (str(folder),),
        "subjects": SUBJECTS,
        "limit": 5,
        "data_dir": shared_data / "questions",
        "graded_answers": str(released / "{format}"),
        "calibrate": "none",
        "device": "cpu",
        "output": tmp_path / "run",
    }
    spec = replace(build("kapoor2024", changes), settings=SETTINGS)
    result = run(spec, at_once=1)
    assert result.is_complete, result.failures
    made = {
        (p.format, p.method): p for p in read_predictions(result.directory / "predictions.parquet")
    }
    assert set(made) == {(f, m) for f in ("open", "choice") for m in METHODS}
    for p in made.values():
        assert len(p) == 10 and set(p.subjects) == set(SUBJECTS)
        if p.method in ("zero_shot", "probe", "lora", "lora_prompt"):
            assert len(np.unique(p.p_correct)) == len(p)
    assert set(made["choice", "lora"].answers) <= set("abcd")
    card = json.loads((result.directory / "run.json").read_text())
    assert card["resolved"]["shots"] == 5
    for unit in card["units"].values():
        assert unit["prompting"] == "asked in plain text: --chat off"
        assert unit["released"]["rows"] == 60
    assert result.report.is_file()
