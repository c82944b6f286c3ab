"""A whole run with small random models: what it leaves, and what it does when parts of it fail."""

from __future__ import annotations

import html
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from conftest import make_model, make_tokenizer
from test_plan import rows

from howsure import answers, calibrate, lm, methods
from howsure.errors import UsageError
from howsure.run import RunFailed, RunSpec, run
from howsure.scores import SCORE_COLUMNS, read_predictions, read_scores, score

QUICK = {"schedule": {"steps": 6, "evaluations": 2, "batch_size": 8}}
SETTINGS = {"probe": QUICK, "lora": QUICK, "lora_prompt": QUICK}


class Recorder:
    """A display that keeps what it is told."""

    def __init__(self):
        self.events, self.finished = [], 0

    def update(self, *event):
        self.events.append(event)

    def reused(self, jobs, of):
        self.shards = (jobs, of)

    def say(self, text):
        self.events.append((None, text))

    def finish(self):
        self.finished += 1


def broken_copy(checkpoint: Path, folder: Path) -> Path:
    """A checkpoint whose weights are cut off: it is there, but it can't be loaded."""
    shutil.copytree(checkpoint, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory, checkpoint):
    """One run of a sound and a broken model: spec, result, display."""
    folder = tmp_path_factory.mktemp("run")
    questions = folder / "mine.jsonl"
    questions.write_text("\n".join(map(json.dumps, rows(160))))
    spec = RunSpec(
        output=folder / "out",
        models=(str(checkpoint("llama")), str(broken_copy(checkpoint("llama"), folder / "cut"))),
        questions=str(questions),
        formats=("choice",),
        choose_by="text",
        settings=SETTINGS,
        device="cpu",
        seed=5,
    )
    show = Recorder()
    return spec, run(spec, show=show, at_once=1), show


def test_the_folder_holds_what_is_promised(made):
    spec, result, _ = made
    assert result.directory == spec.output and result.report == spec.output / "report.html"
    there = {str(p.relative_to(spec.output)) for p in spec.output.rglob("*") if p.is_file()}
    assert {
        *("run.json", "predictions.parquet", "scores.csv", "report.html"),
        *("figures/heatmap.png", "figures/heatmap.svg", "figures/bars.png"),
        *("figures/reliability.png", "figures/risk_coverage.png"),
        *(f"estimators/choice/random-llama/{m}/estimator.json" for m in methods.METHODS),
        *(f"estimators/choice/random-llama/{m}/calibrator.json" for m in methods.METHODS),
    } <= there
    assert not any("shards" in name or name.endswith(".tmp") for name in there)
    assert not any(name.endswith((".pt", ".bin", ".pkl")) for name in there)


def test_a_model_that_fails_does_not_take_the_other_with_it(made):
    spec, result, _ = made
    assert not result.is_complete and len(result.failures) == 1
    (failure,) = result.failures
    assert failure.message.startswith("cut (choice): model ") and "\n" not in failure.message
    card = json.loads((spec.output / "run.json").read_text())
    assert card["status"] == "partial" and card["failures"] == [failure.message]
    assert "cut (choice)" in result.report.read_text()


def test_predictions_hold_every_method_with_and_without_calibration(made):
    spec, _, _ = made
    held = read_predictions(spec.output / "predictions.parquet")
    assert [(p.method, p.calibration) for p in held] == [
        (m, c) for m in methods.METHODS for c in ("none", "temperature")
    ]
    assert {p.model for p in held} == {"random-llama"} and {p.format for p in held} == {"choice"}
    first = held[0]
    assert len(first) > 50 and set(first.subjects) == {"sums", "words"}
    for p in held:
        assert (p.ids, p.answers) == (first.ids, first.answers)
        np.testing.assert_array_equal(p.is_correct, first.is_correct)
    for method in methods.METHODS:  # scaling moves all p by one strictly monotone map
        p, q = (h.p_correct for h in held if h.method == method)
        assert (np.diff(q[np.argsort(p)]) >= -1e-15).all()


def test_the_table_is_that_of_the_predictions(made):
    spec, _, _ = made
    table = read_scores(spec.output / "scores.csv")
    assert tuple(table.columns) == SCORE_COLUMNS
    again = score(read_predictions(spec.output / "predictions.parquet"), seed=spec.seed)
    for column in ("subject", "n", "accuracy", "ece", "auroc", "ece_low"):
        assert table[column].to_list() == again[column].to_list()
    assert set(table["subject"][:2]) == {"sums", "words"}
    assert table["subject"][2:4].to_list() == ["macro", "pooled"]
    plain = table.filter(pl.col("calibration") == "none")["auroc"]
    scaled = table.filter(pl.col("calibration") == "temperature")["auroc"]
    assert plain.to_list() == scaled.to_list()


def test_the_card_repeats_the_run(made):
    spec, _, _ = made
    card = json.loads((spec.output / "run.json").read_text())
    assert card["spec"] == spec.to_json()
    model = card["models"]["random-llama"]
    assert len(model["fingerprint"]) == 64 and model["parameters"] > 0
    assert (model["device"], model["dtype"]) == ("cpu", "float32")
    unit = card["units"]["random-llama (choice)"]
    assert unit["methods"]["probe"]["settings"]["schedule"]["steps"] == 6
    assert unit["methods"]["lora"]["calibrator"]["kind"] == "temperature"
    assert unit["prompt"].endswith("(ii): yes\nAnswer:") and "proposed answer" in unit["prompt"]
    assert unit["prompt"] in html.unescape((spec.output / "report.html").read_text())
    counts = {split: a["answers"] for split, a in unit["answers"].items()}
    assert counts == {k: card["questions"][k]["questions"] for k in counts}
    assert sum(counts.values()) == 160 and unit["excluded"] == {}
    seconds = card["seconds"]
    assert {"load", "answer test", "fit lora", "predict lora"} <= seconds["stages"].keys()
    assert sum(seconds["by_unit"]["random-llama (choice)"].values()) <= seconds["all"]
    tokens = card["tokens"]["by_unit"]["random-llama (choice)"]
    assert tokens["answer test"] > 100 and tokens["predict lora"] > 100
    assert tokens["predict subject_prior"] == 0 and "fit lora" not in tokens
    assert "Tokens per question" in (spec.output / "report.html").read_text()
    assert card["versions"]["torch"].startswith("2.") and card["versions"]["python"]
    assert any("split by a hash" in note for note in card["notes"])


def test_saved_estimators_say_the_same_again(made, checkpoint):
    """From the bundles alone: model, answers, estimator, calibrator → the predictions on disk."""
    from howsure.plan import prepare

    spec, _, _ = made
    plan = prepare(spec)
    model = lm.load(str(checkpoint("llama")), device="cpu")
    said = answers.answer(model, plan.test[:12], format="choice", choose_by="text")
    held = {
        (p.method, p.calibration): dict(zip(p.ids, p.p_correct, strict=True))
        for p in read_predictions(spec.output / "predictions.parquet")
    }
    for method in methods.METHODS:
        folder = spec.output / "estimators" / "choice" / "random-llama" / method
        estimator = methods.load(folder, model)
        p = estimator.p_correct(said)
        expected = [held[method, "none"][a.question_id] for a in said]
        np.testing.assert_allclose(p, expected, atol=1e-5)
        calibrator = calibrate.from_json(json.loads((folder / "calibrator.json").read_text()))
        expected = [held[method, "temperature"][a.question_id] for a in said]
        np.testing.assert_allclose(calibrator(p), expected, atol=1e-5)


def test_the_display_is_told_of_every_stage(made):
    _, _, show = made
    sound = [e[1:] for e in show.events if e[0] == 0]
    names = list(dict.fromkeys(stage for stage, _, _ in sound))
    each = [f"{verb} {m}" for m in methods.METHODS for verb in ("fit", "predict")]
    answering = ["answer training", "answer validation", "answer test"]
    assert names == ["load", *answering, *each, ""]
    for name in names:
        shares = [done / total for stage, done, total in sound if stage == name]
        assert shares == sorted(shares) and shares[-1] == 1
    assert [e[1] for e in show.events if e[0] is None] == ["scoring", "drawing the report"]
    assert show.finished == 1


def test_a_folder_keeps_the_run_of_another_spec(made):
    spec, _, _ = made
    before = (spec.output / "scores.csv").read_bytes()
    with pytest.raises(UsageError, match=r"other settings \(they differ in seed\)"):
        run(replace(spec, seed=6), show=Recorder(), at_once=1)
    assert (spec.output / "scores.csv").read_bytes() == before


def one_model(folder, checkpoint, made_rows, **settings):
    path = folder / "mine.jsonl"
    path.write_text("\n".join(map(json.dumps, made_rows)))
    asked = {"formats": ("choice",), "choose_by": "text", "settings": SETTINGS, "device": "cpu"}
    return RunSpec(
        output=folder / "out",
        models=(str(checkpoint),),
        questions=str(path),
        **(asked | settings),
    )


def test_answers_of_one_class_train_nothing_but_the_rest_is_done(tmp_path, checkpoint):
    spec = one_model(
        tmp_path,
        checkpoint("llama"),
        rows(80, choices=False),  # a random model gets all of them wrong
        formats=("open",),
        choose_by=None,
        methods=("zero_shot", "probe", "lora", "likelihood"),
    )
    result = run(spec, show=Recorder(), at_once=1)
    trained, scaled = (f.message for f in result.failures)
    assert trained.startswith("random-llama (open), probe, lora: all ")
    assert "training answers are wrong; both kinds are needed" in trained
    assert "temperature calibration: all " in scaled
    held = read_predictions(tmp_path / "out" / "predictions.parquet")
    assert [(p.method, p.calibration) for p in held] == [
        ("zero_shot", "none"),
        ("likelihood", "none"),
    ]
    assert set(result.scores["note"]) >= {"single_class"}


def test_too_few_training_answers_fail_in_one_line(tmp_path, checkpoint):
    spec = one_model(tmp_path, checkpoint("llama"), rows(35), methods=("probe",), calibrate="none")
    with pytest.raises(
        RunFailed, match=r"random-llama \(choice\), probe: \d+ training answers are"
    ):
        run(spec, show=Recorder(), at_once=1)
    assert json.loads((tmp_path / "out" / "run.json").read_text())["status"] == "failed"


def test_options_that_are_no_single_token_fail_in_one_line(tmp_path):
    folder = tmp_path / "split-tokens"
    make_model("llama").save_pretrained(folder)
    make_tokenizer(merges=()).save_pretrained(folder)
    spec = one_model(tmp_path, folder, rows(40), methods=("zero_shot",), calibrate="none")
    with pytest.raises(RunFailed, match="split-tokens") as caught:
        run(spec, show=Recorder(), at_once=1)
    assert caught.value.exit_code == 2 and "token" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_models_of_one_name_are_refused(tmp_path, checkpoint):
    again = shutil.copytree(checkpoint("llama"), tmp_path / "copy" / "random-llama")
    spec = one_model(tmp_path, checkpoint("llama"), rows(40))
    with pytest.raises(UsageError, match="two models are called 'random-llama'"):
        run(replace(spec, models=(*spec.models, str(again))), show=Recorder())
    assert not spec.output.exists()


@pytest.fixture(scope="module")
def in_one_process(tmp_path_factory, checkpoint):
    """A run of two models in both formats: its spec, and what it came to."""
    folder = tmp_path_factory.mktemp("one")
    spec = one_model(folder, checkpoint("llama"), rows(120), formats=("choice", "open"))
    spec = replace(spec, models=(*spec.models, str(checkpoint("mistral"))))
    spec = replace(spec, methods=("zero_shot", "probe"), calibrate="none")
    run(spec, show=Recorder(), executor="process", threads_each=1)
    return spec


@pytest.mark.parametrize("executor", ["processes", pytest.param("ray", marks=pytest.mark.slow)])
def test_wherever_it_is_done_the_tables_are_the_same_bytes(in_one_process, tmp_path, executor):
    if executor == "ray":
        pytest.importorskip("ray")
    spec = replace(in_one_process, output=tmp_path / "out")
    run(spec, show=Recorder(), executor=executor, at_once=2, threads_each=1)
    for name in ("predictions.parquet", "scores.csv"):
        theirs = (in_one_process.output / name).read_bytes()
        assert (spec.output / name).read_bytes() == theirs, name
    resolved = json.loads((spec.output / "run.json").read_text())["resolved"]
    assert (resolved["executor"], resolved["threads_each"]) == (executor, 1)


def test_questions_whose_logits_are_not_finite_are_rows_with_a_reason(tmp_path):
    """Some embeddings are NaN: the questions with such a token are told, the others unharmed."""
    tokenizer, model = make_tokenizer(), make_model("llama")
    assert not model.config.tie_word_embeddings
    asked = rows(90)
    marked = {row["id"] for i, row in enumerate(asked) if i % 9 == 4}
    for row in asked:
        row["question"] += " §" if row["id"] in marked else ""
    results = {}
    for name in ("sound", "broken"):
        folder = tmp_path / name / "model"
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        own = {"methods": ("zero_shot", "likelihood"), "calibrate": "none"}
        spec = one_model(tmp_path / name, folder, asked, **own)
        run(spec, show=Recorder(), at_once=1)
        results[name] = spec.output
        with torch.no_grad():
            for token in tokenizer("§", add_special_tokens=False).input_ids:
                model.get_input_embeddings().weight[token] = torch.nan
    card = json.loads((results["broken"] / "run.json").read_text())
    (unit,) = card["units"].values()
    assert unit["excluded"] == dict.fromkeys(sorted(marked), "nonfinite_logits")
    sound, broken = (read_predictions(f / "predictions.parquet") for f in results.values())
    for theirs, ours in zip(sound, broken, strict=True):
        kept = [i for i, name in enumerate(theirs.ids) if name not in marked]
        assert ours.ids == tuple(theirs.ids[i] for i in kept)
        np.testing.assert_allclose(ours.p_correct, theirs.p_correct[kept], atol=1e-5)
    page = (results["broken"] / "report.html").read_text()
    assert f"{len(marked)}" in page and "nonfinite_logits" in page
