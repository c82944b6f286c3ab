"""Question sets: what is read, what is refused and how it is said, what is sampled."""

from __future__ import annotations

import csv
import gzip
import io
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest
from hub_rows import HUB_ROWS
from hub_standin import COMMIT, parquet, standing_in
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from howsure.errors import QuestionError, UnknownName, UsageError
from howsure.questions import (
    CATALOGUE,
    SPLITS,
    Leaked,
    QuestionSet,
    SplitName,
    bare_text,
    hold_out,
    hub,
    mix,
    normalised_text,
    open_set,
    quickstart,
    read_file,
    select,
    training_questions,
    without,
    write_file,
)
from howsure.questions.layouts import math_options
from howsure.questions.mmlu import CATEGORIES, SUBJECTS, categories_of
from howsure.types import Question

GOOD = '{"question": "What is 1 + 1?", "choices": ["1", "2"], "answer": 1}'


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reaches a network, or depends on what this machine has installed or set."""
    monkeypatch.setattr(hub, "is_available", lambda: False)
    monkeypatch.delenv("HOWSURE_DATA", raising=False)


@pytest.fixture(scope="module")
def at_hand(shared_data: Path) -> Callable[[str], QuestionSet]:
    """Opens a set of the shared data; each is read once."""
    return cache(lambda name: open_set(name, shared_data / "questions"))


def make(
    n: int, subject: str = "s", prefix: str = "q", choices: tuple[str, ...] = ("1", "2")
) -> list[Question]:
    return [
        Question(f"{prefix}{i}", subject, f"{prefix} number {i}?", choices[0], choices)
        for i in range(n)
    ]


def save(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def message(call: Callable[[], object], error: type[UsageError] = QuestionError) -> str:
    """The text of the error, which must be one line and lead to exit code 2."""
    with pytest.raises(error) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    assert caught.value.exit_code == 2
    return text


# MMLU ---------------------------------------------------------------------------------------------


def test_mmlu_has_57_subjects_in_four_categories() -> None:
    """Counts as in Hendrycks et al. 2021, table of tasks."""
    counts = Counter(CATEGORIES.values())
    assert counts == {"STEM": 19, "Humanities": 13, "Social Sciences": 12, "Other": 13}
    assert len(SUBJECTS) == len(set(SUBJECTS)) == 57
    assert CATEGORIES["us_foreign_policy"] == "Social Sciences"
    assert CATEGORIES["virology"] == "Other"


def test_categories_of_some_subjects() -> None:
    assert list(categories_of(["virology", "anatomy"])) == ["anatomy", "virology"]
    assert categories_of(["virology", "my_subject"]) == {}
    assert categories_of([]) == {}


# Rows of MMLU that have the same choice twice, found by counting in the files.
REPEATED = {
    "dev": ("high_school_biology/dev/2",),
    "val": (
        "elementary_mathematics/val/36",
        "high_school_mathematics/val/3",
        "miscellaneous/val/9",
    ),
    "test": (
        "business_ethics/test/2",
        "electrical_engineering/test/21",
        "elementary_mathematics/test/113",
        "high_school_chemistry/test/140",
        "high_school_macroeconomics/test/183",
        "high_school_physics/test/99",
        "international_law/test/51",
        "public_relations/test/85",
        "sociology/test/197",
    ),
}


@pytest.mark.parametrize(("split", "rows"), [("dev", 285), ("val", 1531), ("test", 14_042)])
def test_all_rows_of_mmlu_are_read_or_stated_as_left_out(
    at_hand: Callable[[str], QuestionSet], split: SplitName, rows: int
) -> None:
    mmlu = at_hand("mmlu")
    questions, excluded = mmlu.load(split), mmlu.excluded(split)
    assert len(questions) + len(excluded) == rows
    assert {e.id for e in excluded} == {f"mmlu/{id}" for id in REPEATED[split]}
    assert {e.reason for e in excluded} == {"the same choice twice"}
    assert {q.subject for q in questions} == set(SUBJECTS)
    assert mmlu.categories == CATEGORIES


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_set_at_hand_is_read_whole(at_hand: Callable[[str], QuestionSet], name: str) -> None:
    try:
        known = at_hand(name)
    except QuestionError:
        pytest.skip(f"{name} is not in the shared data")
    for split in SPLITS:
        if known.has(split):
            path = Path(known.origin(split))
            raw = gzip.decompress(path.read_bytes()).strip().split(b"\n")
            assert len(known.load(split)) + len(known.excluded(split)) == len(raw)
            first = json.loads(raw[0])
            question = known.load(split)[0]
            assert (question.id, question.text) == (first["id"], first["question"])
            assert question.reference == first["choices"][first["answer"]]


def test_hendrycks_folders_give_the_same_questions_as_the_jsonl(
    at_hand: Callable[[str], QuestionSet], tmp_path: Path
) -> None:
    some = [q for q in at_hand("mmlu").load("test") if q.subject in ("anatomy", "security_studies")]
    for subject in ("anatomy", "security_studies"):
        rows = [(q.text, *q.choices, "ABCD"[q.answer_index]) for q in some if q.subject == subject]
        save_csv(tmp_path / "mmlu" / "test" / f"{subject}_test.csv", rows)
    for opened in (open_set("mmlu", tmp_path), open_set(str(tmp_path / "mmlu"))):
        assert opened.load("test") == some
        assert not opened.has("dev")
        assert opened.categories["anatomy"] == "STEM"


def test_mmlu_pro_shares_questions_with_mmlu(at_hand: Callable[[str], QuestionSet]) -> None:
    """6,691 rows share their question word for word; some more but for white space or case."""
    pro = at_hand("mmlu_pro").load("test")
    kept, leaked = without(pro, at_hand("mmlu").load("test"))
    assert 6_691 <= leaked.same < 6_900
    assert leaked.alike < 10
    assert len(kept) + leaked.total == len(pro)


# Names and paths ----------------------------------------------------------------------------------


def test_quickstart_needs_no_data() -> None:
    quiz = open_set("quickstart")
    assert [quiz.has(split) for split in SPLITS] == [False, True, True, True]
    assert Counter(Counter(q.subject for q in quiz.load("val")).values()) == {50: 28}
    assert set(quiz.categories) == {q.subject for q in quiz.load("val")}
    assert quickstart({"test": 2}, seed=1).load("test") != quickstart({"test": 2}).load("test")


def test_an_unknown_name_shows_the_nearest() -> None:
    text = message(lambda: open_set("arc_eazy"), UnknownName)
    assert "did you mean 'arc_easy'?" in text
    assert "quickstart" in text


@pytest.mark.parametrize("path", ["./nowhere", "mine.jsonl", "mine.csv", "mine.jsonl.gz", "a/b"])
def test_a_path_that_is_not_there_is_said_at_once(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "read", lambda *_: pytest.fail("looked on the network"))
    monkeypatch.setattr(hub, "check_available", lambda *_: pytest.fail("looked on the network"))
    text = message(lambda: open_set(path))
    assert text == f"{path}: there is no such file or folder; check the path"


def test_a_hub_id_is_told_its_name() -> None:
    assert "is called 'mmlu' here" in message(lambda: open_set("cais/mmlu"))


def test_a_set_is_looked_for_in_the_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file(tmp_path / "piqa.validation.jsonl.gz", make(3, prefix="val"))
    write_file(tmp_path / "piqa.train.jsonl", make(2, prefix="train"))
    for opened in (open_set("piqa", tmp_path), _by_environment(tmp_path, monkeypatch)):
        assert opened.load("test") == make(3, prefix="val")
        assert opened.load("train") == make(2, prefix="train")
        assert not opened.has("val")
        assert opened.origin("train") == str(tmp_path / "piqa.train.jsonl")


def _by_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> QuestionSet:
    monkeypatch.setenv("HOWSURE_DATA", str(folder))
    return open_set("piqa")


def test_a_data_folder_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "--data-dir" in message(lambda: open_set("piqa", tmp_path / "no"))
    monkeypatch.setenv("HOWSURE_DATA", str(tmp_path / "no"))
    assert "HOWSURE_DATA" in message(lambda: open_set("piqa"))


def test_a_set_that_is_not_at_hand_says_what_to_do(tmp_path: Path) -> None:
    text = message(lambda: open_set("mmlu", tmp_path))
    assert f"{tmp_path} holds no mmlu.dev.jsonl(.gz)" in text
    assert "--data-dir" in message(lambda: open_set("mmlu"))


def test_a_folder_of_sets_is_no_set(tmp_path: Path) -> None:
    write_file(tmp_path / "arc_easy.test.jsonl", make(1))
    text = message(lambda: open_set(str(tmp_path)))
    assert f"use --questions arc_easy --data-dir {tmp_path}" in text
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "Hendrycks' layout" in message(lambda: open_set(str(empty)))


def test_a_file_of_ones_own_has_one_split(tmp_path: Path) -> None:
    mine = open_set(str(save(tmp_path / "mine.jsonl", GOOD)))
    assert [s for s in SPLITS if mine.has(s)] == ["test"]
    assert mine.name == "mine"
    assert mine.load("test")[0] == Question("mine/1", "all", "What is 1 + 1?", "2", ("1", "2"))
    assert "has no 'train' split; it has: test" in message(lambda: mine.load("train"))
    message(lambda: mine.has("tets"), UnknownName)  # type: ignore[arg-type]


def test_a_kind_of_file_that_is_not_read(tmp_path: Path) -> None:
    assert ".jsonl, .csv" in message(lambda: open_set(str(save(tmp_path / "mine.txt", GOOD))))


# Rows of JSONL ------------------------------------------------------------------------------------


BAD_LINES = [
    ("{", "this is not JSON"),
    ("not json", "this is not JSON"),
    ("[" * 100_000, "this is not JSON"),
    ("1" * 5_000, "this is not JSON"),
    ("[1]", "a list instead of an object"),
    ('"text"', "a text instead of an object"),
    ("null", "null instead of an object"),
    ('{"answer": "x"}', "'question' is missing or empty"),
    ('{"question": " ", "answer": "x"}', "'question' is missing or empty"),
    ('{"question": 5, "answer": "x"}', "'question' is a number; it must be a text in quotes"),
    ('{"question": "q"}', "a question without the reference"),
    ('{"question": "q", "answer": null}', "a question without the reference"),
    ('{"question": "q", "answer": ""}', "a question without the reference"),
    ('{"question": "q", "choices": ["a", "b"]}', "a question without the reference"),
    ('{"question": "q", "choices": ["a", "a"], "answer": 0}', "the choice 'a' is there twice"),
    ('{"question": "q", "choices": ["a", "b", "a "], "answer": 1}', "is there twice"),
    ('{"question": "q", "choices": ["a"], "answer": 0}', "one choice"),
    ('{"question": "q", "choices": ["a", ""], "answer": 0}', "'choice 1' is missing or empty"),
    ('{"question": "q", "choices": ["a", 2], "answer": 0}', "'choice 1' is a number"),
    ('{"question": "q", "choices": "ab", "answer": 0}', "'choices' is a text"),
    ('{"question": "q", "choices": {"a": 1}, "answer": 0}', "'choices' is an object"),
    ('{"question": "q", "choices": ["a", "b"], "answer": 2}', "index 2 is out of range"),
    ('{"question": "q", "choices": ["a", "b"], "answer": -1}', "index -1 is out of range"),
    ('{"question": "q", "choices": ["a", "b"], "answer": true}', "the answer is true or false"),
    ('{"question": "q", "choices": ["a", "b"], "answer": 1.0}', "a number with a point"),
    ('{"question": "q", "choices": ["a", "b"], "answer": [1]}', "the answer is a list"),
    ('{"question": "q", "choices": ["a", "b"], "answer": "c"}', "'c' is not among the choices"),
    ('{"question": "q", "choices": ["a", "b"], "answer": "A"}', "'A' is not among the choices"),
    ('{"question": "q", "answer": 3}', "the index 3, but there are no choices"),
    ('{"question": "q", "answer": "a", "subject": 3}', "'subject' is a number"),
    ('{"question": "q", "answer": "a", "subject": "macro"}', "every scores table"),
    ('{"question": "q", "answer": "a", "id": [1]}', "'id' is a list"),
    ('{"question": "\\ud800", "answer": "a"}', "half of a surrogate pair"),
    (GOOD.replace("{", '{"id": "first", '), "the id 'first' is also that of"),
]


@pytest.mark.parametrize(("line", "said"), BAD_LINES, ids=[said for _, said in BAD_LINES])
def test_a_bad_line_is_named_with_file_and_number(tmp_path: Path, line: str, said: str) -> None:
    path = save(tmp_path / "mine.jsonl", GOOD.replace("{", '{"id": "first", '), "", line)
    text = message(lambda: open_set(str(path)))
    assert text.startswith(f"{path}, line 3: ")
    assert said in text


@pytest.mark.parametrize("many", [27, 100])
def test_more_choices_than_letters(tmp_path: Path, many: int) -> None:
    row = {"question": "q", "choices": [str(i) for i in range(many)], "answer": 0}
    text = message(lambda: read_file(save(tmp_path / "a.jsonl", json.dumps(row))))
    assert f"{many} choices" in text


def test_what_may_be_left_out_or_added(tmp_path: Path) -> None:
    path = save(
        tmp_path / "mine.jsonl",
        '{"question": "Who?", "answer": "Me", "split": "train", "source": [1]}',
        '{"id": 7, "subject": "math", "question": "q", "choices": ["a", "b"], "answer": "b"}',
        '{"id": "", "subject": "", "question": "q2", "choices": [], "answer": "a"}',
        '{"id": null, "subject": null, "question": "q3", "choices": null, "answer": "a"}',
    )
    assert read_file(path).questions == (
        Question("mine/1", "all", "Who?", "Me"),
        Question("7", "math", "q", "b", ("a", "b")),
        Question("mine/3", "all", "q2", "a"),
        Question("mine/4", "all", "q3", "a"),
    )


def test_repeated_choices_are_left_out_of_published_sets_only(tmp_path: Path) -> None:
    twice = '{"id": "x", "question": "q", "choices": ["a", "a"], "answer": 0}'
    save(tmp_path / "piqa.val.jsonl", GOOD, twice)
    for piqa in (open_set("piqa", tmp_path), open_set(str(tmp_path / "piqa.val.jsonl"))):
        assert [q.id for q in piqa.load("test")] == ["piqa.val/1"]
        assert [(e.id, e.reason) for e in piqa.excluded("test")] == [("x", "the same choice twice")]
    other = save(tmp_path / "mine.val.jsonl", GOOD, twice)
    assert "line 2" in message(lambda: open_set(str(other)))


def test_published_sets_are_read_as_strictly_otherwise(tmp_path: Path) -> None:
    save(tmp_path / "piqa.val.jsonl", GOOD, '{"question": "q"}')
    piqa = open_set("piqa", tmp_path)
    assert "line 2: a question without the reference" in message(lambda: piqa.load("test"))


# Files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"\n\n  \n", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("name", ["mine.jsonl", "mine.csv"])
def test_an_empty_file(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert "holds no questions" in message(lambda: open_set(str(tmp_path / name)))


def test_byte_order_mark_and_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode() + b"\r\n" + GOOD.encode())
    assert [q.id for q in read_file(path).questions] == ["mine/1", "mine/2"]


def test_a_line_separator_inside_a_text_ends_no_line(tmp_path: Path) -> None:
    text = "one\u2028two\u0085three"
    path = save(
        tmp_path / "mine.jsonl", json.dumps({"question": text, "answer": "a"}, ensure_ascii=False)
    )
    assert read_file(path).questions[0].text == text


def test_bad_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_bytes(GOOD.encode() + b'\n{"question": "caf\xe9", "answer": "x"}\n')
    assert message(lambda: read_file(path)).startswith(f"{path}, line 2: this is not UTF-8")


def test_gzip_by_its_content(tmp_path: Path) -> None:
    plain_name = tmp_path / "mine.jsonl"
    plain_name.write_bytes(gzip.compress(GOOD.encode()))
    assert len(read_file(plain_name).questions) == 1


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _flip(data: bytes) -> bytes:
    return data[:-12] + bytes([data[-12] ^ 0xFF]) + data[-11:]


@pytest.mark.parametrize("harm", [_cut, _flip, lambda _: GOOD.encode(), lambda _: b"\x1f\x8b\x08"])
def test_a_harmed_gzip(tmp_path: Path, harm: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "mine.jsonl.gz"
    path.write_bytes(harm(gzip.compress(GOOD.encode())))
    assert message(lambda: read_file(path)).startswith(f"{path}: this is not a whole gzip file")


def test_a_folder_named_like_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "piqa.val.jsonl"
    folder.mkdir()
    assert "can't be read" in message(lambda: read_file(folder))


# CSV ----------------------------------------------------------------------------------------------


def save_csv(path: Path, rows: Sequence[Sequence[str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    out = io.StringIO(newline="")
    csv.writer(out).writerows(rows)
    path.write_text(out.getvalue(), encoding="utf-8", newline="")
    return path


def test_csv_with_a_list_of_choices(tmp_path: Path) -> None:
    path = save_csv(
        tmp_path / "mine.csv",
        [
            ("id", "subject", "question", "choices", "answer", "remark"),
            ("x", "math", "What,\nis 1 + 1?", '["one", "two"]', "1", "-"),
            ("", "", "Which?", '["a", "b"]', "b", ""),
            ("z", "", "Who?", "", "Me, 2", ""),
        ],
    )
    assert read_file(path).questions == (
        Question("x", "math", "What,\nis 1 + 1?", "two", ("one", "two")),
        Question("mine/4", "all", "Which?", "b", ("a", "b")),
        Question("z", "all", "Who?", "Me, 2"),
    )


def test_csv_with_a_column_for_each_choice(tmp_path: Path) -> None:
    path = save_csv(
        tmp_path / "mine.csv",
        [
            ("question", "A", "B", "C", "answer"),
            ("q1", "x", "y", "z", "C"),
            ("q2", "x", "y", "", "y"),
            ("q3", "", "", "", "free"),
        ],
    )
    questions = read_file(path).questions
    assert [q.reference for q in questions] == ["z", "y", "free"]
    assert [q.choices for q in questions] == [("x", "y", "z"), ("x", "y"), ()]


BAD_CSV = [
    ("question,answer", "q", "1 columns, but the header has 2"),
    ("question,answer", "q,a,b", "3 columns, but the header has 2"),
    ("question,answer", ",", "'question' is missing"),
    ("question,answer", "q,", "without the reference"),
    ("question,answer", '"q,a', "not CSV"),
    ("question,choices,answer", 'q,"[""a"", ""b""]",2', "index 2 is out of range"),
    ("question,choices,answer", 'q,"[""a"", ""b""]",c', "'c' is not among the choices"),
    ("question,choices,answer", 'q,"[""1"", ""0""]",1', "names one choice and is the text of"),
    ("question,choices,answer", "q,a|b,a", "'choices' is not a JSON list"),
    ("question,choices,answer", 'q,"[""a"", ""a""]",0', "is there twice"),
    ("question,A,B,answer", "q,x,y,C", "'C' is not among the choices"),
    ("question,A,B,answer", "q,B,A,A", "names one choice and is the text of"),
    ("question,A,B,C,answer", "q,x,,z,A", "'choice 1' is missing or empty"),
    ("question,A,B,choices,answer", 'q,x,y,"[""x"", ""y""]",x', "keep one"),
]


@pytest.mark.parametrize(("header", "row", "said"), BAD_CSV, ids=[b[2] for b in BAD_CSV])
def test_a_bad_csv_row(tmp_path: Path, header: str, row: str, said: str) -> None:
    path = save(tmp_path / "mine.csv", header, row)
    text = message(lambda: read_file(path))
    assert text.startswith(f"{path}, line 2: ")
    assert said in text


def test_a_csv_answer_whose_two_readings_agree_is_clear(tmp_path: Path) -> None:
    path = save(tmp_path / "mine.csv", "question,choices,answer", 'q,"[""0"", ""1""]",1')
    assert read_file(path).questions[0].reference == "1"


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("What is 1 + 1?,1,2,3,4,B", "the header lacks 'question' and 'answer'"),
        ("question,choices", "the header lacks 'answer'"),
        ("question,answer,answer", "the column 'answer' is there twice"),
    ],
)
def test_a_bad_csv_header(tmp_path: Path, header: str, said: str) -> None:
    path = save(tmp_path / "mine.csv", header, "q,a")
    assert f"{path}, line 1: {said}" in message(lambda: read_file(path)).replace("the the", "the")


# Hendrycks' folders -------------------------------------------------------------------------------


def test_hendrycks_layout(tmp_path: Path) -> None:
    row = ('He said "no", and\nleft?', "1", "2", "3", "4", "D")
    save_csv(tmp_path / "test" / "virology_test.csv", [row, ("q2", "a", "b", "c", "d", "A")])
    save_csv(tmp_path / "test" / "anatomy_test.csv", [("q3", "a", "b", "c", "d", "B")])
    save_csv(tmp_path / "dev" / "anatomy_dev.csv", [("q4", "a", "b", "c", "d", "C")])
    (tmp_path / "test" / "._anatomy_test.csv").write_bytes(b"\xff")
    mine = open_set(str(tmp_path))
    name = tmp_path.name
    assert [q.id for q in mine.load("test")] == [
        f"{name}/anatomy/test/0",
        f"{name}/virology/test/0",
        f"{name}/virology/test/1",
    ]
    assert mine.load("test")[1].text == row[0]
    assert mine.load("test")[1].reference == "4"
    assert mine.load("dev")[0].reference == "c"
    assert mine.categories == {"anatomy": "STEM", "virology": "Other"}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (("q", "a", "b", "c", "A"), "5 columns; Hendrycks' layout has 6"),
        (("q", "a", "b", "c", "d", "E"), "the answer is 'E'; it must be A, B, C or D"),
        (("q", "a", "b", "c", "d", ""), "without the reference"),
        (("q", "a", "", "c", "d", "A"), "'choice 1' is missing or empty"),
    ],
)
def test_a_bad_row_in_hendrycks_layout(tmp_path: Path, row: tuple[str, ...], said: str) -> None:
    good = ("q", "a", "b", "c", "d", "A")
    path = save_csv(tmp_path / "test" / "anatomy_test.csv", [good, row])
    mine = open_set(str(tmp_path))
    text = message(lambda: mine.load("test"))
    assert text.startswith(f"{path}, line 2: ")
    assert said in text


def test_repeated_choices_in_hendrycks_layout_are_left_out(tmp_path: Path) -> None:
    rows = [("q", "a", "b", "a", "d", "B"), ("q2", "a", "b", "c", "d", "A")]
    save_csv(tmp_path / "mmlu" / "test" / "anatomy_test.csv", rows)
    mmlu = open_set("mmlu", tmp_path)
    assert [q.id for q in mmlu.load("test")] == ["mmlu/anatomy/test/1"]
    assert [e.id for e in mmlu.excluded("test")] == ["mmlu/anatomy/test/0"]


def test_a_stray_file_in_hendrycks_layout(tmp_path: Path) -> None:
    save_csv(tmp_path / "test" / "anatomy.csv", [("q", "a", "b", "c", "d", "A")])
    assert "not named <subject>_test.csv" in message(lambda: open_set(str(tmp_path)))


# The Hub ------------------------------------------------------------------------------------------


@pytest.fixture
def on_hub(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Callable[[dict[str, dict[str, bytes]]], list[str]]]:
    """Puts data sets on a stand-in of the Hub, which the real download library then reads."""
    from huggingface_hub import constants

    with ExitStack() as stack:

        def serve(repositories: dict[str, dict[str, bytes]]) -> list[str]:
            address, asked = stack.enter_context(standing_in(repositories))
            template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
            monkeypatch.setattr(constants, "ENDPOINT", address)
            monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
            monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
            monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
            monkeypatch.setattr(hub, "is_available", lambda: True)
            return asked

        yield serve


def put(name: str, rows: Sequence[Mapping[str, object]]) -> dict[str, dict[str, bytes]]:
    """The rows as each split of the set on the Hub."""
    where = CATALOGUE[name].hub
    assert where is not None
    paths = [f"{where.config}/{split}/0000.parquet" for split in where.splits.values()]
    return {where.id: {path: parquet(rows) for path in paths}}


def test_every_set_on_the_hub_has_a_row_in_the_tests() -> None:
    assert [n for n, e in CATALOGUE.items() if e.hub] == [n for n in CATALOGUE if n in HUB_ROWS]
    assert {e.name for e in CATALOGUE.values() if not e.hub} == {"story_cloze"}


@pytest.mark.parametrize("name", HUB_ROWS)
def test_rows_of_the_hub(
    name: str, on_hub: Callable[[dict[str, dict[str, bytes]]], list[str]]
) -> None:
    row, text, choices, reference = HUB_ROWS[name]
    on_hub(put(name, [row]))
    opened = open_set(name)
    entry = CATALOGUE[name]
    assert entry.hub is not None and entry.licence
    assert set(opened.parts) == set(entry.hub.splits)
    (question,) = opened.load("test")
    assert (question.text, question.choices, question.reference) == (text, choices, reference)
    assert opened.origin("test") == (
        f"{entry.hub.id}@{COMMIT[:12]} ({entry.hub.config}, {entry.hub.splits['test']})"
    )


def test_mmlu_on_the_hub_has_the_ids_of_the_files(
    on_hub: Callable[[dict[str, dict[str, bytes]]], list[str]],
) -> None:
    row = HUB_ROWS["mmlu"][0]
    asked = on_hub(put("mmlu", [row, row, row | {"subject": "virology"}]))
    mmlu = open_set("mmlu")
    assert asked == []
    assert [q.id for q in mmlu.load("val")] == [
        "mmlu/anatomy/val/0",
        "mmlu/anatomy/val/1",
        "mmlu/virology/val/0",
    ]
    asked.clear()
    assert mmlu.load("val") == mmlu.load("val")
    assert asked == []


def test_what_was_read_once_is_read_offline(
    on_hub: Callable[[dict[str, dict[str, bytes]]], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    asked = on_hub(put("arc_easy", [HUB_ROWS["arc_easy"][0]]))
    online = open_set("arc_easy").load("test")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked.clear()
    again = open_set("arc_easy")
    assert again.load("test") == online and asked == []
    text = message(lambda: again.load("train"))
    assert "can't be read from the Hub as allenai/ai2_arc" in text and "--data-dir" in text
    other = open_set("piqa")
    assert "can't be read from the Hub as ybisk/piqa" in message(lambda: other.load("test"))


def test_rows_without_an_answer_are_left_out_and_said(
    on_hub: Callable[[dict[str, dict[str, bytes]]], list[str]],
) -> None:
    row = HUB_ROWS["snli"][0]
    on_hub(put("snli", [row, row | {"label": -1}, row | {"label": 0}]))
    snli = open_set("snli")
    assert [q.id for q in snli.load("test")] == ["snli/test/0", "snli/test/2"]
    assert [(e.id, e.reason) for e in snli.excluded("test")] == [
        ("snli/test/1", "no answer in the release")
    ]


@pytest.mark.parametrize(
    ("name", "changed"),
    [("hellaswag", {"label": ""}), ("winogrande", {"answer": ""}), ("arc_easy", {"answerKey": ""})],
)
def test_a_split_whose_answers_are_kept_back(
    name: str,
    changed: dict[str, str],
    on_hub: Callable[[dict[str, dict[str, bytes]]], list[str]],
) -> None:
    on_hub(put(name, [HUB_ROWS[name][0] | changed]))
    opened = open_set(name)
    text = message(lambda: opened.load("test"))
    assert "all 1 were left out: no answer in the release" in text


def test_a_set_that_the_hub_lacks(
    on_hub: Callable[[dict[str, dict[str, bytes]]], list[str]],
) -> None:
    on_hub({})
    mmlu = open_set("mmlu")
    text = message(lambda: mmlu.load("test"))
    assert "can't be read from the Hub as cais/mmlu" in text
    assert "--data-dir" in text


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("arc_easy", {"question": "q"}),
        ("arc_easy", HUB_ROWS["arc_easy"][0] | {"answerKey": "9"}),
        ("piqa", HUB_ROWS["piqa"][0] | {"goal": ["q"]}),
        ("boolq", HUB_ROWS["boolq"][0] | {"answer": "yes"}),
        ("math_qa", HUB_ROWS["math_qa"][0] | {"options": "38 or 40"}),
        ("sciq", HUB_ROWS["sciq"][0] | {"correct_answer": None}),
        ("truthfulqa_mc1", {"question": "q", "mc1_targets": {"choices": ["y"], "labels": [0]}}),
    ],
)
def test_a_row_of_the_hub_that_has_changed(
    name: str,
    row: Mapping[str, object],
    on_hub: Callable[[dict[str, dict[str, bytes]]], list[str]],
) -> None:
    on_hub(put(name, [row]))
    opened = open_set(name)
    text = message(lambda: opened.load("test"))
    assert "row 1: " in text


def test_a_split_that_the_hub_lacks(
    on_hub: Callable[[dict[str, dict[str, bytes]]], list[str]],
) -> None:
    whole = put("arc_easy", [HUB_ROWS["arc_easy"][0]])
    on_hub({id: {n: b for n, b in f.items() if "train" not in n} for id, f in whole.items()})
    arc = open_set("arc_easy")
    text = message(lambda: arc.load("train"))
    assert "has no ARC-Easy/train" in text and "--data-dir" in text


def test_a_broken_file_of_the_hub(
    on_hub: Callable[[dict[str, dict[str, bytes]]], list[str]],
) -> None:
    whole = put("piqa", [HUB_ROWS["piqa"][0]])
    on_hub({id: {n: b[:-9] for n, b in files.items()} for id, files in whole.items()})
    piqa = open_set("piqa")
    assert "can't be read" in message(lambda: piqa.load("test"))


def test_files_at_hand_come_before_the_hub(
    tmp_path: Path, on_hub: Callable[[dict[str, dict[str, bytes]]], list[str]]
) -> None:
    asked = on_hub({})
    write_file(tmp_path / "arc_easy.train.jsonl", make(2))
    assert open_set("arc_easy", tmp_path).load("train") == make(2)
    assert asked == []


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ("a ) 38 , b ) 27.675 , c ) 30", ["38", "27.675", "30"]),
        ("a ) $ 1,200 , b ) a ) , c ) x , 2", ["$ 1,200", "a )", "x , 2"]),
        ("a ) d ) 4 , b ) 5", ["d ) 4", "5"]),
    ],
)
def test_options_of_mathqa(options: str, wanted: list[str]) -> None:
    assert math_options({"options": options}) == wanted


STORY = (
    "InputStoryid,InputSentence1,InputSentence2,InputSentence3,InputSentence4,"
    "RandomFifthSentenceQuiz1,RandomFifthSentenceQuiz2,AnswerRightEnding"
)


def test_a_set_on_request_is_read_from_its_own_csv(tmp_path: Path) -> None:
    save(tmp_path / "story_cloze.val.csv", STORY, 's1,One.,Two.,Three.,Four.,"Yes, so.",No.,2')
    story = open_set("story_cloze", tmp_path)
    assert story.load("val") == [
        Question(
            "story_cloze/s1",
            "story_cloze",
            "One. Two. Three. Four.\nHow does the story end?",
            "No.",
            ("Yes, so.", "No."),
        )
    ]
    save(tmp_path / "story_cloze.test.csv", STORY, "s1,One.,Two.,Three.,Four.,Yes.,No.,3")
    other = open_set("story_cloze", tmp_path)
    assert "test.csv, line 2: the answer index 2 is out of" in message(lambda: other.load("test"))
    save(tmp_path / "story_cloze.test.csv", STORY, "s1,One.")
    short = open_set("story_cloze", tmp_path)
    assert "line 2: 2 columns" in message(lambda: short.load("test"))


def test_a_set_on_request_says_where_to_ask() -> None:
    text = message(lambda: open_set("story_cloze"))
    assert "on request only (https://cs.rochester.edu/nlp/rocstories)" in text


# Writing and reading ------------------------------------------------------------------------------

PLAIN = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
TEXTS = PLAIN.filter(lambda t: t.strip() != "")
CHOICES = st.lists(TEXTS, min_size=2, max_size=6, unique_by=str.strip).map(tuple)
SUBJECT = TEXTS.filter(lambda t: t not in ("macro", "pooled"))
OPEN = st.builds(Question, id=TEXTS, subject=SUBJECT, text=TEXTS, reference=TEXTS)
CLOSED = st.builds(
    lambda id, subject, text, choices, i: Question(
        id, subject, text, choices[i % len(choices)], choices
    ),
    TEXTS,
    SUBJECT,
    TEXTS,
    CHOICES,
    st.integers(0, 5),
)
LISTS = st.lists(st.one_of(OPEN, CLOSED), min_size=1, max_size=6, unique_by=lambda q: q.id)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50
)
@given(questions=LISTS, end=st.sampled_from([".jsonl", ".jsonl.gz"]))
def test_what_is_written_is_read_back(tmp_path: Path, questions: list[Question], end: str) -> None:
    path = tmp_path / f"mine{end}"
    write_file(path, questions)
    assert list(read_file(path).questions) == questions
    before = path.read_bytes()
    write_file(path, questions)
    assert path.read_bytes() == before


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50
)
@given(data=st.binary(max_size=80), name=st.sampled_from(["a.jsonl", "a.csv", "a.jsonl.gz"]))
def test_any_bytes_are_questions_or_one_clear_line(tmp_path: Path, data: bytes, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    try:
        assert read_file(path).questions
    except QuestionError as error:
        assert str(error).startswith(str(path))
        assert "\n" not in str(error)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.sampled_from(["", "a", "b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)
ROWS = st.fixed_dictionaries(
    {}, optional={key: JSON for key in ("id", "subject", "question", "choices", "answer")}
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50
)
@given(row=ROWS)
def test_any_object_is_a_question_or_one_clear_line(tmp_path: Path, row: object) -> None:
    path = save(tmp_path / "mine.jsonl", json.dumps(row))
    try:
        (question,) = read_file(path).questions
    except QuestionError as error:
        assert str(error).startswith(f"{path}, line 1: ")
    else:
        assert question.reference in (question.choices or (question.reference,))


# Sampling -----------------------------------------------------------------------------------------


def test_select_takes_subjects_in_order_and_limits_each() -> None:
    questions = [
        q for pair in zip(make(30, "a", "a"), make(30, "b", "b"), strict=True) for q in pair
    ]
    assert select(questions) == questions
    assert select(questions, ["b"]) == questions[1::2]
    ten, five = select(questions, limit=10), select(questions, limit=5)
    assert Counter(q.subject for q in ten) == {"a": 10, "b": 10}
    assert [q for q in questions if q in ten] == ten
    assert {q.id for q in five} < {q.id for q in ten}
    assert [q for q in ten if q.subject == "b"] == select(questions, ["b"], 10)
    assert select(questions, ["b", "b"], 3) == select(questions, ["b"], 3)
    assert select(questions, limit=10, seed=1) != ten
    assert select(questions, limit=99) == questions


def test_select_refuses_what_is_not_there() -> None:
    text = message(lambda: select(make(2, "anatomy"), ["anatomi"]), UnknownName)
    assert "did you mean 'anatomy'?" in text
    assert "--limit 0" in message(lambda: select(make(2), limit=0), UsageError)


def test_training_questions_say_when_they_are_not_the_train_split(tmp_path: Path) -> None:
    write_file(tmp_path / "arc_easy.train.jsonl", make(2))
    write_file(tmp_path / "piqa.val.jsonl", make(3))
    assert training_questions(open_set("arc_easy", tmp_path)) == (make(2), "")
    questions, note = training_questions(open_set("piqa", tmp_path))
    assert questions == make(3)
    assert note == "piqa has no train split here: test is used"


def test_mix_takes_alike_from_all_sets() -> None:
    sets = {"a": make(100, "a", "a"), "b": make(100, "b", "b"), "c": make(5, "c", "c")}
    drawn = mix(sets, 65)
    assert Counter(q.subject for q in drawn) == {"a": 30, "b": 30, "c": 5}
    assert drawn == mix(sets, 65)
    assert drawn != mix(sets, 65, seed=1)
    assert [q.subject for q in drawn] != sorted(q.subject for q in drawn)
    assert len(mix(sets)) == len(mix(sets, 10_000)) == 205
    assert mix({}, 5) == []


@given(st.lists(st.integers(0, 40), min_size=1, max_size=6), st.integers(1, 120))
def test_mix_is_as_equal_as_the_sets_allow(sizes: list[int], size: int) -> None:
    sets = {str(i): make(n, str(i), f"{i}-") for i, n in enumerate(sizes)}
    drawn = mix(sets, size)
    counts = Counter(q.subject for q in drawn)
    assert len({q.id for q in drawn}) == len(drawn) == min(size, sum(sizes))
    level = max(counts.values(), default=0)
    assert all(counts[str(i)] in (n, level, level - 1) for i, n in enumerate(sizes))


def test_mix_refuses_repeated_ids() -> None:
    text = message(lambda: mix({"one": make(3), "two": make(1)}))
    assert "training set 'two': the id 'q0' is also in 'one'" in text
    assert "--train-size 0" in message(lambda: mix({"one": make(3)}, 0), UsageError)


def test_without_leaves_out_what_is_evaluated() -> None:
    evaluated = [Question("e", "s", "What  is\nTHIS?", "a"), Question("f", "s", 'Why "not"?', "a")]
    other = Question("t2", "s", "What is that?", "a")
    kept, leaked = without(
        [
            Question("t1", "s", " what is this ", "b", ("a", "b")),
            other,
            Question("t3", "s", "Why - not?!", "b"),
            Question("t4", "s", "whatis: this", "b"),
        ],
        evaluated,
    )
    assert (kept, leaked) == ([other], Leaked(same=1, alike=2))
    assert leaked.total == 3


def test_texts_of_punctuation_only_are_not_all_alike() -> None:
    kept, leaked = without([Question("t", "s", "?!.", "a")], [Question("e", "s", "...-", "a")])
    assert (len(kept), leaked.total) == (1, 0)


@pytest.mark.parametrize(
    ("one", "other"),
    [("What is 5 + 3?", "What is 5 - 3?"), ("x?", "y?"), ("a b", "ab"), ("f(x)", "f x")],
)
def test_other_questions_are_not_the_same(one: str, other: str) -> None:
    assert normalised_text(one) != normalised_text(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("5 + 3?", "5 - 3?"),
        ("5 < 3", "5 > 3"),
        ("(a b) c", "a (b c)"),
        ("3.5 m", "35 m"),
        ("1:30", "130"),
        ("café", "cafe"),
    ],
)
def test_other_questions_are_not_alike(one: str, other: str) -> None:
    assert bare_text(one) != bare_text(other)


@given(st.text(max_size=30), st.text(max_size=30))
@example("A\u00b4", "")
def test_the_same_text_is_alike_too(one: str, other: str) -> None:
    assert bare_text(bare_text(one)) == bare_text(one)
    if normalised_text(one) == normalised_text(other):
        assert bare_text(one) == bare_text(other)


def hold(questions: list[Question], tmp_path: Path) -> QuestionSet:
    write_file(tmp_path / "mine.jsonl", questions)
    return hold_out(open_set(str(tmp_path / "mine.jsonl")))


def test_hold_out_splits_one_file_for_good(tmp_path: Path) -> None:
    questions = make(2000)
    held = hold(questions, tmp_path)
    parts = {split: held.load(split) for split in SPLITS if held.has(split)}
    assert sorted((q for p in parts.values() for q in p), key=lambda q: int(q.id[1:])) == questions
    # Four standard deviations of a binomial share.
    assert len(parts["train"]) == pytest.approx(800, abs=90)
    assert len(parts["val"]) == pytest.approx(200, abs=55)
    assert not held.has("dev")
    assert held.notes == (
        "mine was split by a hash of each question's text: "
        f"train {len(parts['train'])}, val {len(parts['val'])}, test {len(parts['test'])}",
    )
    again = hold(questions[::-1][:1500], tmp_path)
    for split, before in parts.items():
        assert set(again.load(split)) <= set(before)


def test_hold_out_keeps_like_questions_together(tmp_path: Path) -> None:
    twins = [
        q
        for i in range(200)
        for q in (
            Question(f"{i}", "s", f"What is {i}?", "a"),
            Question(f"{i}-twin", "s", f" what  IS {i} ", "a"),
        )
    ]
    held = hold(twins, tmp_path)
    test = held.load("test")
    for other in (held.load("train"), held.load("val")):
        assert without(other, test) == (other, Leaked(0, 0))


def test_hold_out_of_too_few(tmp_path: Path) -> None:
    text = message(lambda: hold(make(1), tmp_path))
    assert "of its 1 questions none falls into" in text
    assert "--train-questions" in text


def test_hold_out_keeps_the_few_shot_examples_and_what_was_left_out(tmp_path: Path) -> None:
    write_file(tmp_path / "mmlu.dev.jsonl", make(5, prefix="dev"))
    write_file(tmp_path / "mmlu.test.jsonl", make(200))
    twice = '{"id": "x", "question": "q", "choices": ["a", "a"], "answer": 0}'
    with (tmp_path / "mmlu.test.jsonl").open("a") as file:
        file.write(twice)
    held = hold_out(open_set("mmlu", tmp_path))
    assert held.load("dev") == make(5, prefix="dev")
    assert [e.id for e in held.excluded("test")] == ["x"]


def test_importing_questions_is_light() -> None:
    """Help must come at once, so no heavy library may be loaded for it."""
    heavy = ("torch", "transformers", "datasets", "polars", "sklearn", "matplotlib")
    code = f"import sys, howsure.questions; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
