"""Released adapters and graded answers, on files of the layout that their authors published."""

from __future__ import annotations

import csv
import json
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from howsure import graded, methods
from howsure import lm as seam
from howsure.answers import answer, grade
from howsure.errors import ModelError, QuestionError, UsageError
from howsure.lm import LoadOptions
from howsure.lm.adapters import LoraSettings
from howsure.lm.names import fill_in
from howsure.lm.published import find_query_adapter
from howsure.lm.stops import first_line
from howsure.prompts import correctness_query, question_prompt
from howsure.questions import open_set, select
from howsure.questions.quiz import quiz
from howsure.run import run
from howsure.scores import read_predictions
from howsure.spec import build
from howsure.types import LETTERS, Question

MODEL = "tiny-llama-s"
SUBJECTS = ("addition", "clock")
QUESTIONS = [q for q in quiz("test", 8) if q.subject in SUBJECTS]


@pytest.fixture(scope="module")
def lm() -> Any:
    return seam.load(MODEL, device="cpu")


@pytest.fixture(scope="module")
def adapters(lm: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`<model>-ct-oe` and `<model>-ct-choice`, as the authors' code pushes them to the Hub.

    Their configuration class adds fields, and the embeddings come along because a padding token had
    been added to the vocabulary.
    """
    root = tmp_path_factory.mktemp("released")
    for seed, ending in enumerate(("ct-oe", "ct-choice")):
        name = lm.adapters.add(LoraSettings(), seed=seed)
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(seed)
            for weight in lm.adapters.weights(name):
                weight.copy_(0.3 * torch.randn_like(weight))
        folder = root / f"{MODEL}-{ending}"
        lm.adapters.save(name, folder)
        lm.adapters.remove(name)
        edit(
            folder,
            peft_type="CALIBRATED_LORA",
            task_type="CALIBRATED_CAUSAL_LM",
            base_model_name_or_path="meta-llama/Llama-2-7b-hf",
            query_format="roman_choice",
            use_temperature=False,
        )
        tensors = load_file(folder / "adapter_model.safetensors")
        rows = lm._model.get_input_embeddings().weight.detach()
        padded = torch.cat([rows, rows.mean(0, keepdim=True)]).to(torch.float16)
        tensors["base_model.model.model.embed_tokens.weight"] = padded
        save_file(tensors, folder / "adapter_model.safetensors")
    return root


def edit(folder: Path, **fields: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_names_stand_for_those_of_the_run() -> None:
    template = "calibration-tuning/{model}-ct-{format}"
    for model in ("llama2:7b-chat", "meta-llama/Llama-2-7b-chat-hf"):
        assert fill_in(template, model, "open") == "calibration-tuning/Llama-2-7b-chat-hf-ct-oe"
    assert fill_in(template, "./mine/", "choice") == "calibration-tuning/mine-ct-choice"
    assert fill_in("a/b", "c", "open") == "a/b"


@pytest.mark.parametrize("format", ["open", "choice"])
def test_an_adapter_says_what_peft_says(lm: Any, adapters: Path, format: str) -> None:
    """Against PEFT's own loading of the tensors and transformers' own forward pass."""
    from peft import LoraConfig, PeftModel

    folder = adapters / f"{MODEL}-ct-{'oe' if format == 'open' else format}"
    answers = answer(lm, QUESTIONS, format=format, choose_by="letter")
    spec = methods.spec_from("lora_prompt", {"query_adapter": str(folder)})
    estimator = methods.fit(spec, lm, [], [])
    p = estimator.p_correct(answers)
    methods.release(estimator)
    assert lm.adapters._peft is None

    plain = adapters / f"plain-{format}"
    plain.mkdir(exist_ok=True)
    LoraConfig(r=8, lora_alpha=32, target_modules=["q_proj", "v_proj"]).save_pretrained(plain)
    tensors = load_file(folder / "adapter_model.safetensors")
    save_file({k: v for k, v in tensors.items() if "lora" in k}, plain / FILE)
    base = seam.load(MODEL, device="cpu")
    with warnings.catch_warnings():
        # peft 0.21 asks transformers 5.23 for a property by its deprecated name.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
        theirs = PeftModel.from_pretrained(base._model, plain).eval()
    for a, mine in zip(answers, p, strict=True):
        text = correctness_query(a.prompt, a.text)
        ids = torch.tensor(base.tokens.encode([text]))
        with torch.inference_mode():
            logits = theirs(input_ids=ids).logits[0, -1]
        two = logits[list(base.tokens.option_ids(text, ("i", "ii")))]
        assert mine == pytest.approx(float(two.double().softmax(-1)[1]), abs=1e-5)


FILE = "adapter_model.safetensors"


def small(tmp_path: Path, **changes: Any) -> Any:
    return build(
        None,
        {
            "models": (MODEL,),
            "subjects": SUBJECTS,
            "limit": 12,
            "output": tmp_path / "run",
            "device": "cpu",
            **changes,
        },
    )


def test_a_run_with_adapters_trains_nothing(adapters: Path, tmp_path: Path) -> None:
    spec = small(
        tmp_path,
        methods=("zero_shot", "lora_prompt"),
        query_adapter=str(adapters / "{model}-ct-{format}"),
        choose_by="letter",
    )
    assert spec.trained == ()
    result = run(spec, at_once=1)
    assert result.is_complete
    card = json.loads((tmp_path / "run" / "run.json").read_text())
    assert card["questions"]["training"]["questions"] == 0
    made = read_predictions(result.directory / "predictions.parquet")
    said = {(p.format, p.method): p.p_correct for p in made if p.calibration == "none"}
    assert {m for _, m in said} == {"zero_shot", "lora_prompt"}
    for format in ("open", "choice"):
        assert np.abs(said[format, "zero_shot"] - said[format, "lora_prompt"]).max() > 0.01
    kept = tmp_path / "run" / "estimators" / "choice" / MODEL / "lora_prompt"
    tensors = load_file(next(kept.rglob(FILE)))
    theirs = load_file(adapters / f"{MODEL}-ct-choice" / FILE)
    assert all(torch.equal(t, theirs[k]) for k, t in tensors.items())


def test_an_adapter_with_its_own_temperature(lm: Any, adapters: Path, tmp_path: Path) -> None:
    folder = tmp_path / "warm"
    shutil.copytree(adapters / f"{MODEL}-ct-choice", folder)
    answers = answer(lm, QUESTIONS, format="choice", choose_by="letter")

    def said() -> Any:
        spec = methods.spec_from("lora_prompt", {"query_adapter": str(folder)})
        estimator = methods.fit(spec, lm, [], [])
        methods.save(estimator, lm, tmp_path / "bundle")
        p = estimator.p_correct(answers)
        methods.release(estimator)
        again = methods.load(tmp_path / "bundle", lm)
        np.testing.assert_allclose(again.p_correct(answers), p, atol=1e-6)
        methods.release(again)
        return np.log(p / (1 - p))

    cold = said()
    edit(folder, use_temperature=True)
    with pytest.raises(ModelError, match="a pickled one is not read"):
        find_query_adapter(str(folder), MODEL)
    save_file(
        {"log_temperature": torch.tensor(np.log(2.0))}, folder / "temperature_model.safetensors"
    )
    np.testing.assert_allclose(said(), cold / 2, atol=1e-5)


def test_adapters_that_can_not_be_used(
    adapters: Path, tmp_path: Path, checkpoint: Callable[[str], Path]
) -> None:
    folder = tmp_path / "adapter"
    shutil.copytree(adapters / f"{MODEL}-ct-oe", folder)
    with pytest.raises(ModelError, match=r"was made for 'meta-llama/Llama-2-7b-hf', not for"):
        find_query_adapter(str(folder), "llama2:13b")
    with pytest.raises(ModelError, match="give it with --query-adapter instead of --adapter"):
        seam.load(MODEL, device="cpu", options=LoadOptions(adapter=str(folder)))
    other = seam.load(str(checkpoint("mistral")), device="cpu")
    spec = methods.spec_from("lora_prompt", {"query_adapter": str(folder)})
    with pytest.raises(UsageError, match=r"the adapter changes|does not fit"):
        methods.fit(spec, other, [], [])
    edit(folder, query_format="bool")
    with pytest.raises(ModelError, match="'bool'; only 'roman_choice'"):
        find_query_adapter(str(folder), MODEL)
    missing = small(
        tmp_path, methods=("lora_prompt",), query_adapter=str(tmp_path / "none-{format}")
    )
    with pytest.raises(ModelError, match="none-oe' does not exist"):
        run(missing)


# graded answers ---------------------------------------------------------------------------------


def rows_of(questions: Sequence[Question], lm: Any, format: str) -> list[dict[str, Any]]:
    """As the authors' code writes them: the question in two columns, the answer uncleaned."""
    letters = format == "choice"
    asked = grade(questions, answer(lm, questions, format=format, choose_by="letter"))
    made = []
    for q, g in zip(questions, asked, strict=True):
        prompt = question_prompt(q, options=letters)
        tail = "" if letters else "\n\nQuestion: and so on"
        made.append(
            {
                "context": prompt.removesuffix("\nAnswer:"),
                "target": LETTERS[q.answer_index] if letters else q.reference,
                "target_prompt": "\nAnswer:",
                "output": f" {g.answer.text}{tail}",
                "query_label": int(g.is_correct),
            }
        )
    return made


@pytest.fixture(scope="module")
def datasets(lm: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`<model>-20k-oe` as CSV and `<model>-20k-choice` as Parquet, with two questions of the test
    split among them."""
    root = tmp_path_factory.mktemp("released")
    mine = [q for q in quiz("train", 60) if q.subject in SUBJECTS]
    leaked = select(open_set("quickstart", None).load("test"), SUBJECTS, 12, 0)[:2]
    for format, ending in (("open", "oe"), ("choice", "choice")):
        write(root / f"{MODEL}-20k-{ending}", rows_of([*mine, *leaked], lm, format), format)
    return root


def write(folder: Path, rows: list[dict[str, Any]], format: str) -> Path:
    if format == "choice":
        file = folder / "data" / "train-00000-of-00001.parquet"
        file.parent.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(rows), file)
        return file
    file = folder / "train" / "0.csv"
    file.parent.mkdir(parents=True)
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return file


@pytest.mark.parametrize("format", ["open", "choice"])
def test_rows_are_read_as_the_answers_they_were(lm: Any, datasets: Path, format: str) -> None:
    mine = [q for q in quiz("train", 60) if q.subject in SUBJECTS]
    files = graded.find(str(datasets / f"{MODEL}-20k-{'oe' if format == 'open' else format}"))
    source = graded.choose(files, format, [], most=10_000, seed=0)
    held = graded.load(source, MODEL).graded[: len(mine)]
    expected = grade(mine, answer(lm, mine, format=format, choose_by="letter"))
    for a, b in zip(held, expected, strict=True):
        assert a.grader == "released" and a.is_correct == b.is_correct
        assert (a.answer.prompt, a.answer.lead, a.answer.text) == (
            b.answer.prompt,
            b.answer.lead,
            first_line(b.answer.text),
        )
        assert a.answer.choice == b.answer.choice and a.answer.model == MODEL


def test_a_run_trains_on_them(datasets: Path, tmp_path: Path) -> None:
    spec = small(
        tmp_path,
        methods=("probe", "subject_prior"),
        graded_answers=str(datasets / "{model}-20k-{format}"),
        choose_by="letter",
        settings={"probe": {"schedule": {"steps": 30, "evaluations": 2}}},
        train_size=100,
    )
    result = run(spec, at_once=1)
    assert result.is_complete, result.failures
    card = json.loads((tmp_path / "run" / "run.json").read_text())
    for format, name in (("open", "0.csv"), ("choice", "train-00000-of-00001.parquet")):
        unit = card["units"][f"{MODEL} ({format})"]
        assert unit["released"]["dropped_because_evaluated"] == 2
        assert unit["released"]["rows"] == unit["answers"]["training"]["answers"] == 100
        assert list(unit["released"]["files"]) == [name]
    assert card["questions"]["training"]["questions"] == 0
    scores = result.scores.filter(pl.col("method") == "probe")
    assert set(scores["format"]) == {"open", "choice"}
    # The same call goes on from there; other rows are other estimators.
    assert run(spec, at_once=1).scores.equals(result.scores)
    other = run(replace(spec, train_size=60, output=tmp_path / "other"), at_once=1)
    assert not other.scores.equals(result.scores)


def test_rows_that_can_not_be_used(tmp_path: Path) -> None:
    good = {
        "context": "Question: a?",
        "target_prompt": "\nAnswer:",
        "output": "b",
        "query_label": 1,
    }

    def read(format: str = "open", **changes: Any) -> Any:
        folder = tmp_path / "data"
        shutil.rmtree(folder, ignore_errors=True)
        row = {k: v for k, v in (good | changes).items() if v is not ...}
        write(folder, [good, row] if len(row) == len(good) else [row], format)
        graded._read_all.cache_clear()
        return graded.choose(graded.find(str(folder)), format, [], most=5, seed=0)

    assert read().rows == (0, 1)
    with pytest.raises(QuestionError, match=r"0\.csv, row 2: query_label is -1, not 0 or 1"):
        read(query_label=-1)
    with pytest.raises(QuestionError, match="row 2: it has no context"):
        read(context=" ")
    with pytest.raises(QuestionError, match="no column 'output'"):
        read(output=...)
    with pytest.raises(QuestionError, match="there is no such file"):
        graded.find(str(tmp_path / "none"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(QuestionError, match="no training files"):
        graded.find(str(tmp_path / "empty"))
    broken = tmp_path / "train.parquet"
    broken.write_bytes(b"nothing")
    with pytest.raises(QuestionError, match="can't be read as a table"):
        graded.choose(graded.find(str(broken)), "open", [], most=5, seed=0)
    read()
    asked = [Question("q", "s", "A?", "b")]
    with pytest.raises(QuestionError, match="no row is left"):
        graded.choose(graded.find(str(tmp_path / "data")), "open", asked, most=5, seed=0)


def test_options_without_effect(tmp_path: Path) -> None:
    for changes, message in (
        ({"methods": ("probe",), "query_adapter": "a/b"}, "no effect without --method lora_prompt"),
        ({"methods": ("zero_shot",), "graded_answers": "a/b"}, "no method is trained"),
        ({"graded_answers": "a/b", "train_questions": ("x",)}, "takes the place of"),
    ):
        with pytest.raises(UsageError, match=message):
            small(tmp_path, **changes)
    made = build("kapoor2024", {"graded_answers": "a/{model}"})
    assert made.train_questions == () and made.trained


def test_answers_are_cleaned_as_published() -> None:
    for given, cleaned in (
        (" Paris\n\nQuestion: next", "Paris"),
        ("It is:\nParis", "It is:Paris"),
        ("\n\nParis", "Paris"),
        ("", ""),
    ):
        assert first_line(given) == cleaned
