"""The table of scores, and its two files."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from injections import INJECTIONS
from polars.testing import assert_frame_equal

from howsure import intervals, metrics
from howsure.cells import guarded, meant
from howsure.errors import PredictionsError, UnknownName, UsageError
from howsure.scores import (
    PREDICTION_COLUMNS,
    SCORE_COLUMNS,
    read_predictions,
    read_scores,
    score,
    write_predictions,
    write_scores,
)
from howsure.types import Predictions

SIZES = {"history": 40, "algebra": 25, "law": 60}


def predictions(
    method: str = "probe", seed: int = 0, sizes: dict[str, int] = SIZES, model: str = "m"
) -> Predictions:
    """Random predictions; the subjects' questions are shuffled among each other."""
    rng = np.random.default_rng(seed)
    subjects = rng.permutation(np.repeat(list(sizes), list(sizes.values())))
    p = rng.random(len(subjects))
    return Predictions(
        model=model,
        method=method,
        format="open",
        calibration="none",
        ids=tuple(f"q{i}" for i in range(len(subjects))),
        subjects=tuple(map(str, subjects)),
        p_correct=p,
        is_correct=rng.random(len(subjects)) < 0.2 + 0.6 * p,
        answers=tuple(f"answer {i} é" for i in range(len(subjects))),
    )


def reordered(p: Predictions, order: Sequence[int]) -> Predictions:
    return replace(
        p,
        ids=tuple(p.ids[i] for i in order),
        subjects=tuple(p.subjects[i] for i in order),
        answers=tuple(p.answers[i] for i in order),
        p_correct=p.p_correct[list(order)],
        is_correct=p.is_correct[list(order)],
    )


def row(table: pl.DataFrame, subject: str, **key: str) -> dict:
    chosen = table.filter(pl.col("subject") == subject, *(pl.col(k) == v for k, v in key.items()))
    return chosen.row(0, named=True)


def test_columns_rows_and_values() -> None:
    p = predictions()
    table = score([p], resamples=200)
    assert tuple(table.columns) == SCORE_COLUMNS
    assert ",".join(SCORE_COLUMNS) == (
        "model,method,calibration,format,subject,n,accuracy,ece,ece_low,ece_high,ece_floor,"
        "ece_decision,auroc,auroc_low,auroc_high,brier,nll,aurc,note"
    )
    first_seen = list(dict.fromkeys(p.subjects))
    assert table["subject"].to_list() == [*first_seen, "macro", "pooled"]
    for subject in (*first_seen, "pooled"):
        here = np.array([s == subject or subject == "pooled" for s in p.subjects])
        x, y = p.p_correct[here], p.is_correct[here]
        got = row(table, subject)
        assert got["n"] == len(x)
        assert got["accuracy"] == pytest.approx(y.mean())
        for name in ("ece", "ece_decision", "auroc", "brier", "nll", "aurc"):
            assert got[name] == pytest.approx(getattr(metrics, name)(x, y)), name
        assert got["ece_floor"] == pytest.approx(metrics.ece_floor(x))
        for name in ("ece", "auroc"):
            assert got[f"{name}_low"] < got[name] < got[f"{name}_high"]
    assert table["note"].to_list() == [""] * 5


def test_macro_is_the_mean_over_subjects() -> None:
    table = score([predictions()], resamples=300)
    subjects, macro = table[:-2], row(table, "macro")
    for name in ("accuracy", "ece", "ece_floor", "ece_decision", "auroc", "brier", "nll", "aurc"):
        assert macro[name] == pytest.approx(subjects[name].mean()), name
    assert macro["n"] == sum(SIZES.values())
    assert macro["ece"] != pytest.approx(row(table, "pooled")["ece"])
    for name in ("ece", "auroc"):  # independent subjects: the errors shrink as their root mean
        widths = subjects[f"{name}_high"] - subjects[f"{name}_low"]
        expected = math.sqrt((widths**2).sum()) / len(subjects)
        assert macro[f"{name}_high"] - macro[f"{name}_low"] == pytest.approx(expected, rel=0.25)


def test_subjects_are_resampled_apart() -> None:
    """Sixteen subjects with the same questions: a quarter of the width, not the same width."""
    rng = np.random.default_rng(0)
    p, names = rng.random(50), [f"s{k}" for k in range(16)]
    whole = Predictions(
        *("m", "probe", "open", "none"),
        ids=tuple(f"q{i}" for i in range(800)),
        subjects=tuple(np.repeat(names, 50).tolist()),
        p_correct=np.tile(p, 16),
        is_correct=np.tile(rng.random(50) < p, 16),
    )
    table = score([whole], resamples=500)
    for name in ("ece", "auroc"):
        one, macro = row(table, "s3"), row(table, "macro")
        width = one[f"{name}_high"] - one[f"{name}_low"]
        assert macro[f"{name}_high"] - macro[f"{name}_low"] == pytest.approx(width / 4, rel=0.25)


def test_the_intervals_are_those_of_the_metric() -> None:
    """Same construction from other draws: ends agree within the bootstrap's own noise."""
    p = predictions(sizes={"only": 200})
    table = score([p], resamples=4000)
    for name in ("ece", "auroc"):
        alone = intervals.bootstrap_interval(
            name, p.p_correct, p.is_correct, seed=9, resamples=4000
        )
        assert alone is not None
        for subject in ("only", "macro", "pooled"):
            got = row(table, subject)
            assert got[f"{name}_low"] == pytest.approx(alone.low, abs=0.006)
            assert got[f"{name}_high"] == pytest.approx(alone.high, abs=0.006)


def test_one_class_is_null_with_a_note_and_left_out_of_the_mean() -> None:
    p = predictions(sizes={"a": 30, "b": 30, "sure": 30, "lone": 30})
    y = p.is_correct.copy()
    sure, lone = (np.array([s == name for s in p.subjects]) for name in ("sure", "lone"))
    y[sure] = True
    y[lone] = np.arange(30) == 4
    table = score([replace(p, is_correct=y)], resamples=100)
    assert row(table, "sure")["note"] == "single_class"
    assert [row(table, "sure")[c] for c in ("auroc", "auroc_low", "auroc_high")] == [None] * 3
    assert row(table, "sure")["ece_low"] is not None
    assert row(table, "lone")["auroc"] is not None
    assert row(table, "lone")["auroc_low"] is None
    assert row(table, "lone")["note"] == "auroc_interval_undefined"
    macro = row(table, "macro")
    assert macro["note"] == "auroc_excluded=1"
    assert macro["auroc"] == pytest.approx(
        np.mean([row(table, s)["auroc"] for s in ("a", "b", "lone")])
    )
    assert macro["auroc_low"] < macro["auroc"] < macro["auroc_high"]
    assert row(table, "pooled")["auroc"] is not None


def test_all_of_one_class_and_single_questions() -> None:
    p = predictions(sizes={"a": 3, "b": 1})
    table = score([replace(p, is_correct=np.zeros(4, bool))], resamples=20)
    assert table["auroc"].null_count() == 4
    assert row(table, "macro")["note"] == "auroc_excluded=2"
    assert row(table, "pooled")["note"] == "single_class"
    assert row(table, "b")["ece_low"] is None
    lone = score([predictions(sizes={"a": 1})], resamples=20)
    assert lone["ece"].null_count() == 0
    assert lone["ece_low"].null_count() == 3
    assert not any(table[c].is_nan().any() for c in table.columns if table[c].dtype == pl.Float64)


def test_rows_do_not_depend_on_the_order_of_groups_questions_or_subjects() -> None:
    a, b = predictions("probe", 1), predictions("lora", 2, {"law": 40, "art": 20, "algebra": 25})
    key = ["method", "subject"]
    table = score([a, b], seed=5, resamples=100)
    swapped = score([b, a], seed=5, resamples=100)
    assert table["method"].to_list()[0] == "probe"
    assert swapped["method"].to_list()[0] == "lora"
    order = np.random.default_rng(0).permutation(len(a))
    shuffled = score([reordered(a, order), b], seed=5, resamples=100)
    for other in (swapped, shuffled):
        assert_frame_equal(table.sort(key), other.sort(key), check_exact=True)
    assert_frame_equal(
        table[:5], score([a], seed=5, resamples=100), check_exact=True
    )  # the company of others changes nothing
    again = score([a, b], seed=5, resamples=100)
    assert_frame_equal(table, again, check_exact=True)
    other_seed = score([a, b], seed=6, resamples=100)
    assert (other_seed["ece"] == table["ece"]).all()
    assert (other_seed["ece_low"] != table["ece_low"]).any()


def test_what_cannot_be_scored() -> None:
    p = predictions()
    with pytest.raises(PredictionsError, match="no predictions"):
        score([])
    with pytest.raises(PredictionsError, match="given twice"):
        score([p, p])
    with pytest.raises(PredictionsError, match="are empty"):
        score([replace(reordered(p, []), answers=())])
    with pytest.raises(PredictionsError, match="named 'pooled'"):
        score([replace(p, subjects=("pooled",) * len(p))])


def test_scores_travel_through_csv_unchanged(tmp_path: Path) -> None:
    p = predictions(sizes={"a, quoted": 20, "b": 2})
    table = score([p, replace(p, method="lora", is_correct=np.ones(22, bool))], resamples=20)
    path = tmp_path / "scores.csv"
    write_scores(table, path)
    assert path.read_text().splitlines()[0] == ",".join(SCORE_COLUMNS)
    assert '""' not in path.read_text()
    assert ",None" not in path.read_text()
    assert_frame_equal(read_scores(path), table, check_exact=True)
    assert [f.name for f in tmp_path.iterdir()] == ["scores.csv"]
    with pytest.raises(UsageError, match="columns"):
        write_scores(table.drop("note"), path)
    with pytest.raises(UsageError, match="can't write"):
        write_scores(table, path / "below.csv")


@pytest.mark.parametrize(
    "text", [*INJECTIONS, "'=1", "''+1", "'", "'quoted'", "\r\n=1", " -1", "\uff1d1", "\n@", "a=b"]
)
def test_no_cell_is_a_formula(tmp_path: Path, text: str) -> None:
    """Excel and LibreOffice take what begins with =, +, -, @, a tab or a break for a formula."""
    p = predictions(sizes={text: 4, "b": 2}, model=text)
    table = score([replace(p, method=text, format=text)], resamples=20)
    write_scores(table, tmp_path / "scores.csv")
    with (tmp_path / "scores.csv").open(encoding="utf-8", newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not [c for c in cells if c.strip(" ").startswith((*"=+-@\t\r\n", "\uff1d"))]
    assert_frame_equal(read_scores(tmp_path / "scores.csv"), table, check_exact=True)


@given(st.text(alphabet="'=+-@\t\r\n a\uff1d"))
def test_what_is_guarded_comes_back(text: str) -> None:
    (cell,) = guarded(pl.DataFrame({"a": [text]}, schema={"a": pl.String}))["a"]
    assert meant(cell) == text
    assert not re.match(r"[=+\-@\t\r\n]", cell.strip(" "))


GOOD = "m,probe,none,open,law,40,0.5,0.1,0.05,0.15,0.08,0.1,0.7,0.6,0.8,0.2,0.6,0.3,"
HEADER = ",".join(SCORE_COLUMNS)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "is empty"),
        ([HEADER], "no rows"),
        ([HEADER.replace("note", "remark"), GOOD], "lacks .'note'.*'remark'"),
        (["a,b", "1,2"], "no scores table"),
        ([HEADER, GOOD, GOOD[:20]], "line 3: 5 fields"),
        ([HEADER, GOOD, GOOD], "two rows for m, probe, none, open, law"),
        ([HEADER, GOOD.replace("0.7", "often")], "line 2, auroc is 'often'"),
        ([HEADER, GOOD.replace("0.7", "1.7")], "line 2, auroc is '1.7'"),
        ([HEADER, GOOD.replace("0.7", "nan")], "line 2, auroc is 'nan'"),
        ([HEADER, GOOD.replace("0.6,0.3,", "inf,0.3,")], "line 2, nll is 'inf'"),
        ([HEADER, GOOD.replace("0.7", "0.9")], "auroc_low, auroc, auroc_high are not rising"),
        ([HEADER, GOOD.replace(",40,", ",0,")], "line 2, n is '0'"),
        ([HEADER, GOOD.replace(",40,0.5,", ",40,,")], "line 2: no accuracy"),
        ([HEADER, GOOD.replace("probe", " ")], "line 2, method is empty"),
        ([HEADER, GOOD.replace("probe", '"pro')], "not a CSV"),
    ],
)
def test_a_bad_scores_file_is_one_clear_line(
    tmp_path: Path, lines: list[str], message: str
) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("\n".join(lines) + ("\n" if lines else ""))
    with pytest.raises(PredictionsError, match=message) as caught:
        read_scores(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_scores_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(PredictionsError, match=r"can't read .*No such file"):
        read_scores(tmp_path / "absent.csv")
    with pytest.raises(PredictionsError, match="can't read"):
        read_scores(tmp_path)
    (tmp_path / "latin.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PredictionsError, match="not a CSV file in UTF-8"):
        read_scores(tmp_path / "latin.csv")


PUBLISHED = """model,method,format,temperature_scaled,subject,split,n,accuracy,ece,auroc
org/A,zero_shot_classifier,oe,True,law,test,100,0.4,0.2,0.6
org/A,zero_shot_classifier,oe,True,law,validation,11,0.5,0.9,0.9
org/A,zero_shot_classifier,oe,True,art,test,300,0.6,0.1,
org/A,zero_shot_classifier,oe,True,sky,test,50,1.0,,
org/A,lora,choice,False,law,test,100,0.25,0.3,0.7
"""


def test_the_published_table_becomes_scores(tmp_path: Path) -> None:
    path = tmp_path / "published.csv"
    path.write_text(PUBLISHED)
    table = read_scores(path)
    assert tuple(table.columns) == SCORE_COLUMNS
    assert table["subject"].to_list() == ["law", "art", "sky", "macro", "law", "macro"]
    assert table["method"].to_list() == ["zero_shot"] * 4 + ["lora"] * 2
    assert table["calibration"].to_list() == ["temperature"] * 4 + ["none"] * 2
    assert table["format"].to_list() == ["open"] * 4 + ["choice"] * 2
    assert table["n"].to_list() == [100, 300, 50, 450, 100, 100]
    assert table["ece_decision"].to_list() == [0.2, 0.1, None, pytest.approx(0.15), 0.3, 0.3]
    assert table["auroc"].to_list() == [0.6, None, None, 0.6, 0.7, 0.7]
    assert table["accuracy"].to_list()[3] == pytest.approx(2 / 3)
    for column in ("ece", "ece_low", "ece_floor", "auroc_low", "auroc_high", "brier", "aurc"):
        assert table[column].null_count() == 6
    assert table["note"].to_list() == [
        "ece_not_published",
        "ece_not_published;auroc_not_published",
        "ece_not_published;single_class",
        "ece_not_published;ece_decision_excluded=1;auroc_excluded=2",
        "ece_not_published",
        "ece_not_published",
    ]
    write_scores(table, tmp_path / "scores.csv")
    assert_frame_equal(read_scores(tmp_path / "scores.csv"), table, check_exact=True)


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        ("zero_shot_classifier,oe,True,art", "magic,oe,True,art", UnknownName, "method 'magic'"),
        ("lora,choice", "lora,letters", UnknownName, "format 'letters'.*line 6"),
        ("choice,False", "choice,perhaps", UnknownName, "'perhaps'"),
        ("0.4,0.2,0.6", "0.4,0.2,6", PredictionsError, "line 2, auroc is '6'"),
        ("0.4,0.2,0.6", ",0.2,0.6", PredictionsError, "line 2: no accuracy"),
        (",test,", ",validation,", PredictionsError, "no rows"),
    ],
)
def test_a_bad_published_table_is_refused(
    tmp_path: Path, old: str, new: str, error: type[UsageError], message: str
) -> None:
    assert old in PUBLISHED
    path = tmp_path / "published.csv"
    path.write_text(PUBLISHED.replace(old, new))
    with pytest.raises(error, match=message):
        read_scores(path)


def test_the_published_macro_means(shared_data: Path) -> None:
    """The means over 57 test subjects and six models that the data's README states."""
    table = read_scores(shared_data.parent / "reference" / "kapoor2024_mmlu.csv")
    assert len(table) == 6 * 4 * 2 * 2 * (57 + 1)
    stated = {
        ("choice", "ece_decision", "temperature"): (0.173, 0.100, 0.109, 0.097),
        ("choice", "auroc", "none"): (0.542, 0.716, 0.704, 0.711),
        ("open", "ece_decision", "temperature"): (0.216, 0.100, 0.142, 0.101),
        ("open", "auroc", "none"): (0.568, 0.649, 0.616, 0.716),
    }
    names = [m.rpartition("/")[2] for m in table["model"].unique(maintain_order=True)]
    assert names == [
        *("Llama-2-7b-hf", "Llama-2-7b-chat-hf", "Llama-2-13b-hf", "Llama-2-13b-chat-hf"),
        *("Mistral-7B-v0.1", "Mistral-7B-Instruct-v0.2"),
    ]
    macro = table.filter(pl.col("subject") == "macro")
    for (form, column, calibration), means in stated.items():
        for method, mean in zip(("zero_shot", "probe", "lora", "lora_prompt"), means, strict=True):
            six = macro.filter(
                pl.col("format") == form,
                pl.col("calibration") == calibration,
                pl.col("method") == method,
            )
            assert len(six) == 6
            assert round(six[column].mean(), 3) == mean, (form, column, method)


def same(a: Predictions, b: Predictions) -> bool:
    names = ("model", "method", "calibration", "format", "ids", "subjects", "answers")
    return all(getattr(a, n) == getattr(b, n) for n in names) and bool(
        (a.p_correct == b.p_correct).all() and (a.is_correct == b.is_correct).all()
    )


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, 1), st.booleans(), st.text(max_size=5), st.sampled_from("ab")),
        min_size=1,
        max_size=8,
    )
)
def test_predictions_travel_through_parquet(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[float, bool, str, str]]
) -> None:
    def of(method: str, answers: tuple[str, ...]) -> Predictions:
        return Predictions(
            *("m", method, "choice", "none"),
            ids=tuple(f"q{i}" for i in range(len(rows))),
            subjects=tuple(r[3] for r in rows),
            p_correct=np.array([r[0] for r in rows]),
            is_correct=np.array([r[1] for r in rows]),
            answers=answers,
        )

    path = tmp_path_factory.mktemp("p") / "predictions.parquet"
    texts = tuple(r[2].encode(errors="replace").decode() for r in rows)
    written = [of("probe", texts), of("lora", ())]
    write_predictions(written, path)
    got = read_predictions(path)
    assert len(got) == 2
    assert all(same(a, b) for a, b in zip(written, got, strict=True))


def test_the_predictions_file_is_what_the_contract_names(tmp_path: Path) -> None:
    path = tmp_path / "predictions.parquet"
    path.write_text("an older file")
    write_predictions([predictions("probe"), predictions("lora")], path)
    assert [f.name for f in tmp_path.iterdir()] == ["predictions.parquet"]
    file = pq.ParquetFile(path)
    assert ",".join(PREDICTION_COLUMNS) == (
        "model,method,calibration,format,id,subject,answer,is_correct,p_correct"
    )
    assert tuple(file.schema_arrow.names) == PREDICTION_COLUMNS
    assert file.metadata.num_rows == 250
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"
    assert [p.method for p in read_predictions(path)] == ["probe", "lora"]


def test_every_damage_to_a_predictions_file_is_noticed(tmp_path: Path) -> None:
    """A flipped bit either raises one clear line or changes nothing that is read."""
    written = [predictions("probe"), predictions("lora", 1)]
    path = tmp_path / "predictions.parquet"
    write_predictions(written, path)
    whole, rng, raised = path.read_bytes(), np.random.default_rng(0), 0
    for at in rng.integers(0, len(whole), 300):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            got = read_predictions(path)
        except PredictionsError as error:
            raised += 1
            assert str(path) in str(error)
            assert "\n" not in str(error)
        else:
            assert len(got) == 2
            assert all(same(a, b) for a, b in zip(written, got, strict=True)), at
    assert raised > 200
    for size in (0, 3, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(PredictionsError, match="damaged or no Parquet file"):
            read_predictions(path)


def test_a_row_count_that_shrank_in_the_footer_is_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "predictions.parquet"
    write_predictions([predictions()], path)
    read = pq.ParquetFile.read
    monkeypatch.setattr(pq.ParquetFile, "read", lambda self, columns: read(self, columns).slice(1))
    with pytest.raises(PredictionsError, match=r"124 of 125 rows"):
        read_predictions(path)


def drop(table: pa.Table, name: str) -> pa.Table:
    return table.drop_columns([name])


def put(table: pa.Table, name: str, values: list) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, pa.array(values))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: drop(t, "answer"), "has the columns"),
        (lambda t: t.slice(0, 0), "holds no predictions"),
        (lambda t: put(t, "p_correct", ["high"] * 125), "wrong type"),
        (lambda t: put(t, "p_correct", [0.5] * 124 + [None]), "row 124: no p_correct"),
        (lambda t: put(t, "p_correct", [0.5] * 124 + [1.5]), "probability in"),
        (lambda t: put(t, "id", ["q"] * 125), "occurs twice"),
        (lambda t: put(t, "answer", ["x"] * 124 + [None]), "have no text"),
    ],
)
def test_a_parquet_file_with_other_contents_is_refused(
    tmp_path: Path, spoil: Callable[[pa.Table], pa.Table], message: str
) -> None:
    path = tmp_path / "predictions.parquet"
    write_predictions([predictions()], path)
    pq.write_table(spoil(pq.read_table(path)), path)
    with pytest.raises(PredictionsError, match=message):
        read_predictions(path)


def test_predictions_that_cannot_be_written_or_found(tmp_path: Path) -> None:
    path = tmp_path / "predictions.parquet"
    with pytest.raises(PredictionsError, match="no predictions to write"):
        write_predictions([], path)
    with pytest.raises(PredictionsError, match="given twice"):
        write_predictions([predictions(), predictions()], path)
    with pytest.raises(UsageError, match=r"can't write .*absent"):
        write_predictions([predictions()], tmp_path / "absent" / "predictions.parquet")
    with pytest.raises(PredictionsError, match="there is no"):
        read_predictions(path)
    with pytest.raises(PredictionsError, match="damaged or no Parquet"):
        read_predictions(tmp_path)
