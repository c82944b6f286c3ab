"""Choosing: who comes first, who can't be told from it, and what people read of it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from conftest import SHARED
from synthetic import make_predictions
from test_cli import howsure, refused  # noqa: F401 (fixtures)

from howsure.choose import Application, choose, measured_seconds, sentences, stated_costs, to_json
from howsure.choose.application import mix
from howsure.choose.candidates import Candidate, Questions, candidates
from howsure.choose.compare import behind_the_first
from howsure.choose.ranking import FOLDS, STEPS, folds_of, held_out
from howsure.errors import UnknownName, UsageError
from howsure.intervals import Interval
from howsure.scores import score, write_predictions, write_scores
from howsure.types import Predictions

TARGET = Application(target_accuracy=0.8)


def group(model, method, p, y, *, ids=None, subjects=None, calibration="none", form="open"):
    n = len(p)
    return Predictions(
        model=model,
        method=method,
        format=form,
        calibration=calibration,
        ids=ids or tuple(f"q{i}" for i in range(n)),
        subjects=subjects or ("all",) * n,
        p_correct=np.asarray(p, dtype=np.float64),
        is_correct=np.asarray(y, dtype=np.bool_),
    )


def sharp_and_dull(n=800, seed=0):
    """Two methods on the same answers: one knows much, the other little."""
    rng = np.random.default_rng(seed)
    known = rng.beta(0.6, 0.4, n)
    y = rng.random(n) < known
    dull = np.clip(0.6 + 0.1 * (known - 0.5) + rng.normal(0, 0.1, n), 0, 1)
    return [group("m", "dull", dull, y), group("m", "sharp", known, y)]


# the wish ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "--target-accuracy X"),
        ({"target_accuracy": 95.0}, "--target-accuracy is 95"),
        ({"target_accuracy": 1.0}, "at most 0.9999"),
        ({"min_coverage": 0.0}, "--min-coverage is 0"),
        ({"min_coverage": float("nan")}, "--min-coverage is nan"),
        ({"target_accuracy": 0.9, "alpha": 0.7}, "--alpha is 0.7"),
        ({"target_accuracy": 0.9, "max_cost": -1.0}, "--max-cost is -1"),
    ],
)
def test_wishes_that_make_no_sense(given, words):
    with pytest.raises(UsageError, match=words):
        Application(**given)


SUBJECTS = {"algebra": 100, "geometry": 300, "law": 50, "a=b": 10}
CATEGORIES = {"algebra": "Pure Maths", "geometry": "Pure Maths", "law": "Law"}


def test_subjects_and_categories():
    assert mix((), SUBJECTS, CATEGORIES).subjects == tuple(SUBJECTS)
    assert mix(("law", "a=b"), SUBJECTS, CATEGORIES).shares is None
    assert mix(("pure maths",), SUBJECTS, CATEGORIES).subjects == ("algebra", "geometry")
    assert mix(("Law",), SUBJECTS, CATEGORIES).subjects == ("law",)


def test_weights_are_shares_of_the_questions_met():
    found = mix(("pure_maths=3", "law"), SUBJECTS, CATEGORIES)
    assert found.shares == pytest.approx({"algebra": 3 / 16, "geometry": 9 / 16, "law": 4 / 16})
    assert mix(("a=b=2",), SUBJECTS, CATEGORIES).shares == {"a=b": 1.0}


@pytest.mark.parametrize("text", ["law=0", "law=-1", "law=much", "law=nan", "law=inf"])
def test_weights_that_are_none(text):
    with pytest.raises(UsageError, match="the weight must be a number above 0"):
        mix((text,), SUBJECTS, CATEGORIES)


def test_subjects_that_are_not_there_or_there_twice():
    with pytest.raises(UnknownName, match="did you mean 'algebra'"):
        mix(("algebr",), SUBJECTS, CATEGORIES)
    with pytest.raises(UsageError, match="'algebra' twice"):
        mix(("algebra", "Pure Maths"), SUBJECTS, CATEGORIES)


# candidates -------------------------------------------------------------------------------------


def test_questions_are_matched_by_id_and_what_is_missing_is_never_let_through():
    ids = ("c", "a", "b", "d", "e")
    a = group("m", "a", [0.1, 0.2, 0.3, 0.4, 0.5], [1, 0, 1, 1, 1], ids=ids)
    b = group("m", "b", [0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0], ids=("a", "b", "c", "e"))
    questions, (first, second), left_out = candidates([a, b], mix((), {"all": 5}, {}), {})
    assert questions.ids == ids and not left_out
    assert first.p.tolist() == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert second.p.tolist() == [0.7, 0.9, 0.8, -np.inf, 0.6]
    assert second.y.tolist() == [True, True, False, False, False]


def test_whoever_lacks_too_many_questions_is_left_out_and_named():
    full = sharp_and_dull(100)
    half = group("m", "half", [0.5] * 50, [1] * 50)
    chosen = choose([*full, half], TARGET)
    assert {r.method for r in chosen.ranked} == {"sharp", "dull"}
    assert "m, half: no confidence for 50 of the 100 questions" in " ".join(chosen.notes)


def test_other_questions_are_no_comparison():
    a, b = sharp_and_dull(100)
    b = replace(b, ids=tuple(f"other {i}" for i in range(100)))
    with pytest.raises(UsageError, match="the same questions"):
        choose([a, b], TARGET)


def test_calibrated_p_are_taken_where_there_are_any():
    plain, _ = sharp_and_dull(100)
    scaled = replace(plain, calibration="platt", p_correct=plain.p_correct * 0.9)
    for order in ([plain, scaled], [scaled, plain]):
        (row,) = choose(order, TARGET).ranked
        assert row.calibration == "platt"


def test_questions_as_they_are_met():
    subjects = ("a",) * 60 + ("b",) * 30
    weights = np.repeat([0.5, 2.0], [60, 30])
    questions = Questions(tuple(map(str, range(90))), subjects, weights)
    rows = questions.as_met(np.random.default_rng(0))
    assert np.bincount(rows >= 60).tolist() == [15, 30] and len(set(rows)) == 45


# held-out coverage ------------------------------------------------------------------------------


def naive(candidate, questions, wish):
    """The definition, fold by fold, threshold by threshold."""
    fold, w = folds_of(questions), questions.weights
    let = right = 0.0
    for k in range(FOLDS):
        train, test = fold != k, fold == k
        best = None
        for t in sorted(set(candidate.p[np.isfinite(candidate.p)])):
            through = train & (candidate.p >= t)
            if wish.target_accuracy is not None:
                share = w[through & candidate.y].sum() / w[through].sum() if through.any() else 0
                if share >= wish.target_accuracy - 1e-12:
                    best = t
                    break
            elif w[through].sum() >= wish.min_coverage * w[train].sum() - 1e-9:
                best = t
        if best is not None:
            let += w[test & (candidate.p >= best)].sum()
            right += w[test & (candidate.p >= best) & candidate.y].sum()
    return let / w.sum(), right / let if let else None


@pytest.mark.parametrize("wish", [TARGET, Application(min_coverage=0.3)])
@pytest.mark.parametrize("ties", [False, True])
def test_held_out_coverage_and_accuracy_written_out(wish, ties):
    rng = np.random.default_rng(4)
    n = 120
    p = rng.random(n).round(1) if ties else rng.random(n)
    y = rng.random(n) < p
    p[rng.random(n) < 0.1] = -np.inf
    subjects = tuple(rng.choice(["a", "b"], n))
    weights = np.where(np.array(subjects) == "a", 1.5, 0.5)
    questions = Questions(tuple(map(str, range(n))), subjects, weights)
    candidate = Candidate("m", "x", "none", p, y)
    (measured,) = held_out([candidate], questions, wish)
    coverage, accuracy = naive(candidate, questions, wish)
    assert measured.coverage == pytest.approx(coverage)
    assert measured.accuracy == pytest.approx(accuracy)


def test_many_values_are_looked_at_in_steps():
    rng = np.random.default_rng(5)
    n = 3 * STEPS
    p = rng.beta(0.5, 0.5, n)
    candidate = Candidate("m", "x", "none", p, rng.random(n) < p)
    questions = Questions(tuple(map(str, range(n))), ("s",) * n, np.ones(n))
    (measured,) = held_out([candidate], questions, TARGET)
    assert measured.coverage == pytest.approx(naive(candidate, questions, TARGET)[0], abs=0.003)


def test_the_interval_of_the_coverage_holds_the_truth():
    """Calibrated p of Beta(0.5, 0.5): at a target of 0.9 the best threshold lets 36.0% through."""
    held = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        p = rng.beta(0.5, 0.5, 300)
        candidate = Candidate("m", "x", "none", p, rng.random(300) < p)
        questions = Questions(tuple(map(str, range(300))), ("s",) * 300, np.ones(300))
        (one,) = held_out([candidate], questions, Application(target_accuracy=0.9), seed=seed)
        interval = one.coverage_interval()
        held += interval.low <= 0.36 <= interval.high
    assert held >= 17


# telling apart ----------------------------------------------------------------------------------


def test_equals_are_not_told_apart_however_many_there_are():
    """Eight equal candidates: the apparent first is told from some of them in 5% of the cases."""
    rng, wrong = np.random.default_rng(0), 0
    for _ in range(200):
        values = np.sort(rng.normal(0.5, 0.02, 8))[::-1]
        replicates = list(values[:, None] + rng.normal(0.0, 0.02, (8, 400)))
        wrong += any(b.told_apart for b in behind_the_first(values, replicates))
    assert wrong / 200 < 0.11


def test_what_is_plainly_worse_is_told_apart_and_the_same_is_not():
    chosen = choose([*sharp_and_dull(), replace(sharp_and_dull()[1], method="twin")], TARGET)
    assert [r.method for r in chosen.ranked][2] == "dull"
    assert chosen.ranked[2].behind.told_apart and not chosen.ranked[1].behind.told_apart
    assert [r.method for r in chosen.equals] == [chosen.ranked[1].method]
    assert chosen.ranked[1].behind.interval == Interval(0.0, 0.0)


# the choice -------------------------------------------------------------------------------------


def test_a_choice_does_not_depend_on_the_order_of_rows_or_candidates():
    predictions = make_predictions(subjects=("a", "b"), n=60)
    rng = np.random.default_rng(0)
    turned = []
    for p in reversed(predictions):
        i = rng.permutation(len(p))
        turned.append(
            replace(
                p,
                ids=tuple(p.ids[k] for k in i),
                subjects=tuple(p.subjects[k] for k in i),
                answers=tuple(p.answers[k] for k in i),
                p_correct=p.p_correct[i],
                is_correct=p.is_correct[i],
            )
        )
    one, other = choose(predictions, TARGET), choose(turned, TARGET)
    assert {(r.model, r.method, r.coverage) for r in one.ranked} == {
        (r.model, r.method, r.coverage) for r in other.ranked
    }
    assert {r.promised for r in one.ranked} == {r.promised for r in other.ranked}


def test_the_level_is_shared_so_that_any_candidate_may_be_taken():
    both = choose(sharp_and_dull(), TARGET)
    (one,) = choose(sharp_and_dull()[1:], TARGET).ranked
    assert both.level == TARGET.alpha / 2
    assert one.promised.coverage > both.first.promised.coverage > 0.3


def test_with_both_wishes_the_coverage_is_promised_too():
    wish = Application(target_accuracy=0.8, min_coverage=0.3)
    first = choose(sharp_and_dull(), wish).first
    assert first.promised.least_accuracy == 0.8 and first.promised.least_coverage == 0.3
    wish = Application(target_accuracy=0.8, min_coverage=0.95)
    chosen = choose(sharp_and_dull(), wish)
    assert chosen.taken is None and "Nothing can be promised" in sentences(chosen)[0]


def test_too_little_data_says_how_much_is_needed():
    chosen = choose(sharp_and_dull(60), Application(target_accuracy=0.95))
    assert chosen.taken is None and chosen.first.needed > 60
    assert "60 questions are too few; about" in sentences(chosen)[0]


def test_by_accuracy_where_only_a_coverage_is_wished():
    chosen = choose(sharp_and_dull(), Application(min_coverage=0.4))
    assert chosen.first.method == "sharp"
    assert chosen.first.coverage == pytest.approx(0.4, abs=0.03)
    assert chosen.first.promised.least_coverage == 0.4
    assert 0.8 < chosen.first.promised.least_accuracy < chosen.first.promised.accuracy


def test_weights_move_the_choice_to_their_subject():
    rng = np.random.default_rng(1)
    y = rng.random(600) < 0.6
    subjects = ("a",) * 300 + ("b",) * 300
    knows = np.where(y, 0.9, 0.1) + rng.normal(0, 0.02, 600).clip(-0.1, 0.1)
    guess = rng.random(600)
    first = np.arange(600) < 300
    good_at = {"a": np.where(first, knows, guess), "b": np.where(first, guess, knows)}
    both = [
        group("m", f"good at {s}", p.clip(0, 1), y, subjects=subjects) for s, p in good_at.items()
    ]
    for name in "ab":
        wish = Application(target_accuracy=0.9, subjects=(f"{name}=9", "a" if name == "b" else "b"))
        chosen = choose(both, wish)
        assert chosen.first.method == f"good at {name}" and chosen.tested < 600
        assert choose(both, Application(target_accuracy=0.9, subjects=(name,))).n == 300


# costs ------------------------------------------------------------------------------------------


CARD = {
    "units": {"m (open)": {"answers": {"test": {"answers": 200}, "validation": {"answers": 100}}}},
    "seconds": {
        "by_unit": {
            "m (open)": {"load": 3.0, "answer test": 20.0, "predict probe": 3.0, "fit probe": 50.0},
            "broken": 7,
        }
    },
}


def test_seconds_are_those_of_answering_and_of_predicting():
    assert measured_seconds(CARD) == {("m", "probe", "open"): pytest.approx(0.1 + 0.01)}
    for card in (None, {}, {"seconds": 3}, {"seconds": {"by_unit": {"m (open)": {}}}}):
        assert measured_seconds(card) == {}


def test_the_cost_limit_leaves_out_what_is_dearer_or_unknown():
    wish = Application(target_accuracy=0.8, max_cost=0.01)
    costs = {("m", "dull", "open"): 0.001, ("m", "sharp", "open"): 0.1}
    chosen = choose(sharp_and_dull(), wish, costs=costs)
    assert chosen.first.method == "dull" and "sharp: costs 0.1 s" in " ".join(chosen.notes)
    chosen = choose(sharp_and_dull(), wish, costs={("m", "dull", "open"): 0.001})
    assert "sharp: costs an unknown amount" in " ".join(chosen.notes)
    with pytest.raises(UsageError, match="no cost is known"):
        choose(sharp_and_dull(), wish)
    with pytest.raises(UsageError, match=r"the cheapest candidate costs 0\.02"):
        choose(sharp_and_dull(), wish, costs={("m", "dull", "open"): 0.02})


def test_costs_of_ones_own():
    assert stated_costs(["a=b=0.5", "m=2"], ["m", "a=b"]) == {"a=b": 0.5, "m": 2.0}
    with pytest.raises(UnknownName, match="unknown model 'n'"):
        stated_costs(["n=1"], ["m"])
    for text in ("m", "m=", "m=-1", "=3", "m=nan"):
        with pytest.raises(UsageError, match="give MODEL=X"):
            stated_costs([text], ["m"])


def test_of_equals_the_cheaper_comes_first():
    _, sharp = sharp_and_dull()
    twins = [sharp, replace(sharp, method="twin")]
    costs = {("m", "sharp", "open"): 2.0, ("m", "twin", "open"): 1.0}
    assert choose(twins, TARGET, costs=costs).first.method == "twin"


# what people read of it -------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """A run directory with two models, three methods and two formats."""
    path = tmp_path / "a-run"
    path.mkdir()
    predictions = make_predictions(formats=("open", "choice"), n=60)
    write_predictions(predictions, path / "predictions.parquet")
    write_scores(score(predictions, resamples=20), path / "scores.csv")
    return path


def test_the_terminal(folder, howsure):  # noqa: F811
    code, out, err = howsure("choose", folder, "--target-accuracy", "0.7", "--format", "choice")
    said = " ".join(out.split())
    assert code == 0 and err == ""
    assert "6 candidates (2 models) on 180 multiple-choice questions of 3 subjects" in said
    assert "Wanted: 70% of the answers let through are correct." in said
    assert "first" in said and "Take model-" in said and "Promised, with a chance" in said


def test_json_is_the_whole_choice(folder, howsure):  # noqa: F811
    arguments = ("choose", folder, "--min-coverage", "0.5", "--json", "--model", "model-a")
    code, out, _ = howsure(*arguments)
    made = json.loads(out)
    assert code == 0 and {r["model"] for r in made["ranked"]} == {"model-a"}
    assert made["ranked"][0]["verdict"] == "first" and made["format"] == "open"
    assert made["ranked"][0]["promised"]["least_coverage"] == 0.5
    assert "--format choice looks at the others" in " ".join(made["notes"])
    assert howsure(*arguments)[1] == out


def test_a_section_of_the_report(folder, tmp_path, howsure):  # noqa: F811
    output = tmp_path / "out"
    code, out, _ = howsure("choose", folder, "--target-accuracy", "0.7", "--output", output)
    page = (output / "report.html").read_text()
    assert code == 0 and out.strip().endswith(str(output / "report.html"))
    assert 'id="choose"' in page and "Which model and method" in page
    assert json.loads((output / "choice.json").read_text())["wish"]["target_accuracy"] == 0.7


def test_json_values_are_plain():
    made = to_json(choose(sharp_and_dull(60), Application(target_accuracy=0.99)))
    again = json.loads(json.dumps(made, allow_nan=False))
    assert again["ranked"][1]["promised"] is None and again["sentences"] == made["sentences"]


def test_names_are_only_text(folder, howsure):  # noqa: F811
    evil = [replace(p, model="[bold]<script>\n\x1b[31m") for p in sharp_and_dull(100)]
    write_predictions(evil, folder / "predictions.parquet")
    write_scores(score(evil, resamples=20), folder / "scores.csv")
    _, out, _ = howsure("choose", folder, "--target-accuracy", "0.7")
    assert "\x1b" not in out and "[bold]<script>" in "".join(out.split())
    howsure("choose", folder, "--target-accuracy", "0.7", "--output", folder)
    assert "[bold]<script>" not in (folder / "report.html").read_text()


def test_several_runs_are_compared(folder, tmp_path, howsure):  # noqa: F811
    other = tmp_path / "b-run"
    other.mkdir()
    predictions = make_predictions(models=("model-a",), n=60)
    write_predictions(predictions, other / "predictions.parquet")
    write_scores(score(predictions, resamples=20), other / "scores.csv")
    code, out, _ = howsure("choose", folder, other, "--target-accuracy", "0.7", "--json")
    models = {r["model"] for r in json.loads(out)["ranked"]}
    assert code == 0 and models == {"model-a (a-run)", "model-a (b-run)", "model-b"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "say what matters"),
        (("--target-accuracy", "90"), "--target-accuracy is 90"),
        (("--target-accuracy", "0.9", "--model", "model-c"), "did you mean"),
        (("--target-accuracy", "0.9", "--method", "prob"), "unknown method 'prob'"),
        (("--target-accuracy", "0.9", "--format", "essay"), "--format is 'essay'"),
        (("--target-accuracy", "0.9", "--subject", "chess"), "unknown subject or category 'chess'"),
        (("--target-accuracy", "0.9", "--max-cost", "1"), "no cost is known"),
        (("--target-accuracy", "0.9", "--cost", "model-a"), "give MODEL=X"),
    ],
)
def test_what_cannot_be_chosen(folder, refused, arguments, words):  # noqa: F811
    assert words in refused("choose", folder, *arguments)


def test_paths_without_predictions(folder, tmp_path, refused):  # noqa: F811
    wish = ("--target-accuracy", "0.9")
    assert "is a file" in refused("choose", folder / "scores.csv", *wish)
    assert "there is no" in refused("choose", tmp_path / "nothing", *wish)
    (folder / "predictions.parquet").unlink()
    assert "has no predictions.parquet" in refused("choose", folder, *wish)


@pytest.mark.skipif(not (SHARED / "data").is_dir(), reason="no shared data beside this checkout")
def test_verbal_confidences_of_real_models(shared_data):
    from howsure.recorded import read_recorded

    path = shared_data / "predictions" / "mmlu_pro_verbal_confidence.jsonl.gz"
    wish = Application(target_accuracy=0.7, subjects=("law",))
    chosen = choose(read_recorded(path).predictions, wish)
    assert len(chosen.ranked) + sum("left out" in n for n in chosen.notes) == 8
    assert chosen.subjects == ("law",) and chosen.n > 1000
