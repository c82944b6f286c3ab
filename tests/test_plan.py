"""Specs, recipes, and which questions a run asks: no leaks, nothing ignored in silence."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from howsure.errors import FitError, QuestionError, UnknownName, UsageError
from howsure.lm import embedded_names
from howsure.methods import METHODS
from howsure.plan import DEFAULT_SHOTS, VALID_SHARE, prepare
from howsure.questions import CATALOGUE, normalised_text
from howsure.spec import TRAIN_SIZE, RunSpec, build, load_recipe, read_recipe, recipe_names

OUT = Path("runs/x")


def rows(n, *, subjects=("sums", "words"), start=0, choices=True):
    made = []
    for i in range(start, start + n):
        row = {
            "id": f"q{i}",
            "subject": subjects[i % len(subjects)],
            "question": f"What is {i} plus {i % 7}?",
            "answer": str(i + i % 7),
        }
        if choices:
            row["choices"] = [str(i + i % 7), str(i + i % 7 + 1), str(i + 50)]
        made.append(row)
    return made


@pytest.fixture
def file_of(tmp_path):
    def write(name, made):
        path = tmp_path / name
        path.write_text("\n".join(map(json.dumps, made)))
        return str(path)

    return write


def spec(questions, **settings):
    return RunSpec(output=OUT, questions=questions, **settings)


# specs and recipes ------------------------------------------------------------------------------


def test_recipes_are_whole():
    assert recipe_names() == ("kapoor2024", "quickstart")
    for name in recipe_names():
        made = RunSpec(**load_recipe(name))
        assert made.methods == METHODS and made.calibrate == "temperature"
        json.dumps(made.to_json())


def test_the_published_recipe_says_what_the_paper_says():
    made = RunSpec(**load_recipe("kapoor2024"))
    assert len(made.models) == 6 and made.questions == "mmlu" and made.chat == "off"
    assert (made.shots or DEFAULT_SHOTS) == 5 and (made.train_size or TRAIN_SIZE) == 20_000
    assert made.formats == ("open", "choice") and made.choose_by == "letter"
    assert all(CATALOGUE[name].files["train"] for name in made.train_questions)
    assert made.settings == {}  # the published settings are the methods' own defaults


def test_without_anything_it_is_the_quickstart():
    made = build(None, {})
    assert made == RunSpec(**load_recipe("quickstart"))
    assert made.formats == ("open", "choice") and made.choose_by == "text"
    assert made.output == Path("runs/quickstart")


def test_options_change_the_recipe():
    made = build("quickstart", {"formats": ("open",), "seed": 3, "output": Path("there")})
    assert made.formats == ("open",) and made.choose_by is None
    assert made.seed == 3 and made.output == Path("there")


def test_other_questions_are_asked_as_published():
    made = build(None, {"questions": "data/mine.v2.jsonl.gz"})
    assert made.formats == () and made.choose_by is None and made.output == Path("runs/mine")
    assert build(None, {"questions": "mmlu"}).output == Path("runs/mmlu")


@pytest.mark.parametrize("questions", ["quickstart", "mmlu"])
def test_other_models_take_the_published_settings_unless_the_recipe_is_named(questions):
    tiny = load_recipe("quickstart")["settings"]
    asked = {"questions": questions}
    assert build(None, asked).settings == tiny
    assert build(None, {**asked, "models": embedded_names()[:1]}).settings == tiny
    assert build(None, {**asked, "models": ("./large",)}).settings == {}
    assert build(None, {**asked, "models": ("./large", *embedded_names())}).settings == {}
    assert build("quickstart", {**asked, "models": ("./large",)}).settings == tiny


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"methods": ("prob",)}, "unknown method 'prob'; did you mean 'probe'"),
        ({"methods": ()}, "no method"),
        ({"methods": ("probe", "probe")}, "--method probe is given twice"),
        ({"formats": ("closed",)}, "unknown format 'closed'"),
        ({"choose_by": "dice"}, "unknown way to choose 'dice'"),
        ({"formats": ("open",), "choose_by": "text"}, "--choose-by text has no effect"),
        ({"calibrate": "plat"}, "unknown calibration 'plat'; did you mean 'platt'"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"dtype": "int8"}, "unknown dtype 'int8'"),
        ({"shots": -1}, "--shots -1: it must be at least 0"),
        ({"limit": 0}, "--limit 0: it must be at least 1"),
        ({"train_size": 0}, "--train-size 0"),
        ({"seed": -1}, "--seed -1"),
        ({"models": ("a", "a")}, "--model a is given twice"),
        ({"subjects": ("a", "a")}, "--subject a is given twice"),
        ({"settings": {"probee": {}}}, "unknown method 'probee'"),
    ],
)
def test_a_spec_that_makes_no_sense_is_refused(given, words):
    with pytest.raises(UsageError) as caught:
        RunSpec(output=OUT, **given)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_broken_recipe_is_refused():
    with pytest.raises(UnknownName, match="unknown recipe 'quikstart'; did you mean 'quickstart'"):
        build("quikstart", {})
    with pytest.raises(UnknownName, match="setting of recipe 'mine' 'metods'"):
        read_recipe('metods = ["probe"]', "mine")
    with pytest.raises(UsageError, match="not TOML"):
        read_recipe("metods = [", "mine")


def test_a_spec_tells_all_its_fields():
    made = RunSpec(output=OUT, settings={"probe": {"schedule": {"steps": 3}}})
    assert set(made.to_json()) == {f.name for f in fields(RunSpec)}
    assert made.to_json()["settings"] == {"probe": {"schedule": {"steps": 3}}}


# questions --------------------------------------------------------------------------------------


def test_quickstart_splits_share_nothing():
    plan = prepare(RunSpec(output=OUT))
    texts = [{q.text for q in split} for split in (plan.train, plan.valid, plan.test)]
    assert all(texts) and not (texts[0] & texts[1] | texts[1] & texts[2] | texts[0] & texts[2])
    assert len({q.subject for q in plan.test}) >= 24
    per_subject = [sum(q.subject == s for q in plan.test) for s in plan.categories]
    assert min(per_subject) >= 150
    assert plan.examples == {} and plan.card["training"]["dropped_because_evaluated"] == 0


def test_a_file_alone_is_split_three_ways(file_of):
    plan = prepare(spec(file_of("mine.jsonl", rows(200))))
    assert len(plan.train) + len(plan.valid) + len(plan.test) == 200
    assert len(plan.test) > len(plan.train) > len(plan.valid) > 0
    assert any("split by a hash" in note for note in plan.notes)
    assert any("noisy" in note for note in plan.notes)
    assert plan.formats == ("choice",) and plan.choose_by == "letter"


def test_where_nothing_is_fitted_all_questions_are_tested(file_of):
    asked = spec(file_of("mine.jsonl", rows(50)), methods=("likelihood",), calibrate="none")
    plan = prepare(asked)
    assert (len(plan.train), len(plan.valid), len(plan.test)) == (0, 0, 50) and plan.notes == ()


def test_training_questions_of_another_set(file_of):
    mine, other = file_of("mine.jsonl", rows(30)), file_of("other.jsonl", rows(100, start=20))
    plan = prepare(spec(mine, train_questions=(other,)))
    assert len(plan.test) == 30
    # Ten of the other hundred are evaluated too, so they are left out.
    assert len(plan.train) + len(plan.valid) == 90
    assert plan.card["training"]["dropped_because_evaluated"] == 10
    assert plan.card["training"]["dropped_by_set"] == {"other": {"same": 10, "alike": 0}}
    assert any(note.startswith("10 of the 100 questions of other are") for note in plan.notes)
    assert len(plan.valid) == round(VALID_SHARE * 90)
    texts = {normalised_text(q.text) for q in plan.test}
    assert not texts & {normalised_text(q.text) for q in (*plan.train, *plan.valid)}
    assert not {q.id for q in plan.train} & {q.id for q in plan.valid}


def test_what_is_drawn_does_not_hang_on_where_a_file_lies(file_of, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    plans = [
        prepare(spec(file_of(f"{folder}mine.jsonl", rows(120)), train_size=20))
        for folder in ("", "elsewhere/")
    ]
    assert plans[0].train == plans[1].train and plans[0].test == plans[1].test


def test_training_files_may_share_a_name(file_of, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    mine = file_of("mine.jsonl", rows(30))
    others = [
        file_of("other.jsonl", rows(60, start=30)),
        file_of("elsewhere/other.jsonl", rows(40, start=90)),
    ]
    plan = prepare(spec(mine, train_questions=tuple(others)))
    assert plan.card["training"]["by_set"] == {"other": 60, "other (2)": 40}


def test_validation_is_made_even_when_only_calibration_needs_it(file_of):
    mine, other = file_of("mine.jsonl", rows(30)), file_of("other.jsonl", rows(100, start=30))
    plan = prepare(spec(mine, train_questions=(other,), methods=("zero_shot",)))
    assert plan.train == () and len(plan.valid) == 15


def test_limits_and_subjects(file_of):
    path = file_of("mine.jsonl", rows(300, subjects=("a", "b", "c")))
    plan = prepare(spec(path, subjects=("a", "c"), limit=5, train_size=20))
    for split in (plan.test, plan.valid):
        assert {q.subject for q in split} <= {"a", "c"}
        assert max(sum(q.subject == s for q in split) for s in "ac") <= 5
    assert len(plan.train) == 20 and {q.subject for q in plan.train} == {"a", "c"}
    assert prepare(spec(path, limit=5)).test == prepare(spec(path, limit=5)).test


def test_open_ended_where_some_question_has_no_choices(file_of):
    mixed = [*rows(40), *rows(40, start=40, choices=False)]
    path = file_of("mine.jsonl", mixed)
    assert prepare(spec(path)).formats == ("open",)
    with pytest.raises(QuestionError, match="has no choices; give it some, or ask with --format"):
        prepare(spec(path, formats=("choice",)))
    with pytest.raises(UsageError, match="--choose-by text has no effect"):
        prepare(spec(path, choose_by="text"))


@pytest.fixture
def hendrycks(tmp_path):
    """A folder with dev, val and test of two subjects; geology lacks an example."""
    for split, counts in {"dev": (5, 4), "val": (8, 8), "test": (20, 20)}.items():
        folder = tmp_path / "mine" / split
        folder.mkdir(parents=True)
        for subject, n in zip(("algebra", "geology"), counts, strict=True):
            lines = [f"{subject} {split} {i}?,one,two,three,four,B" for i in range(n)]
            (folder / f"{subject}_{split}.csv").write_text("\n".join(lines))
    return str(tmp_path / "mine")


def test_few_shot_examples_come_from_dev(hendrycks):
    untrained = {"methods": ("zero_shot",)}
    plan = prepare(spec(hendrycks, **untrained))
    assert [q.text for q in plan.examples["algebra"]] == [f"algebra dev {i}?" for i in range(5)]
    assert len(plan.examples["geology"]) == 4
    assert any("fewer few-shot examples than 5 in 1 subjects" in note for note in plan.notes)
    assert prepare(spec(hendrycks, shots=0, **untrained)).examples == {}
    two = prepare(spec(hendrycks, shots=2, **untrained)).examples
    assert {s: len(q) for s, q in two.items()} == {"algebra": 2, "geology": 2}
    with pytest.raises(UsageError, match="--shots 5: the dev split has 4 examples of 'geology'"):
        prepare(spec(hendrycks, shots=5, **untrained))


def test_validation_comes_from_val(hendrycks, file_of):
    other = file_of("other.jsonl", rows(100))
    plan = prepare(spec(hendrycks, train_questions=(other,)))
    assert len(plan.train) == 100 and len(plan.valid) == 16
    assert all(" val " in q.text for q in plan.valid)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({}, UsageError, "no training questions: 'mine' has no train split; name sets with"),
        ({"methods": ("zero_shot",), "train_size": 5}, UsageError, "--train-size has no effect"),
        ({"data_dir": Path()}, UsageError, "--data-dir . has no effect"),
        ({"subjects": ("algbra",)}, UnknownName, "did you mean 'algebra'"),
    ],
)
def test_what_cannot_be_done_as_asked_is_refused(hendrycks, given, error, words):
    with pytest.raises(error) as caught:
        prepare(spec(hendrycks, **given))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_refusals_about_training_sets(file_of):
    mine, other = file_of("mine.jsonl", rows(30)), file_of("other.jsonl", rows(30))
    with pytest.raises(UsageError, match="--train-questions has no effect"):
        asked = spec(mine, train_questions=(other,), methods=("likelihood",), calibrate="none")
        prepare(asked)
    with pytest.raises(FitError, match="no training questions are left: all 30"):
        prepare(spec(mine, train_questions=(other,)))
    with pytest.raises(UsageError, match="--shots 2: 'mine' has no dev split"):
        prepare(spec(mine, methods=("likelihood",), shots=2))


def test_the_published_recipe_takes_all_of_real_mmlu(shared_data):
    at_hand = ("arc_easy", "boolq_no_passage", "openbookqa")
    changes = {"data_dir": shared_data / "questions", "train_questions": at_hand}
    plan = prepare(build("kapoor2024", changes))
    assert plan.formats == ("open", "choice") and len(plan.examples) == 57
    # Left out: nine questions of the test split, and one example, with the same choice twice.
    assert len(plan.test) == 14_042 - 9
    shots = {s: len(q) for s, q in plan.examples.items() if len(q) != 5}
    assert shots == {"high_school_biology": 4}
    assert any("'high_school_biology', not 5" in note for note in plan.notes)


def test_real_mmlu_with_real_training_sets(shared_data):
    asked = RunSpec(
        output=OUT,
        questions="mmlu",
        data_dir=shared_data / "questions",
        train_questions=("arc_easy", "openbookqa"),
        subjects=("anatomy", "us_foreign_policy"),
        train_size=1000,
    )
    plan = prepare(asked)
    assert plan.formats == ("choice",) and len(plan.train) == 1000
    assert plan.card["training"]["by_set"] == {"arc_easy": 500, "openbookqa": 500}
    assert {q.subject for q in plan.test} == {"anatomy", "us_foreign_policy"}
    assert {s: len(q) for s, q in plan.examples.items()} == dict.fromkeys(asked.subjects, 5)
    assert len(plan.test) == 235 and plan.categories["anatomy"] == "STEM"
    assert prepare(replace(asked, shots=0)).examples == {}
