"""Every importer against what nobody would write: it reads it, or refuses it in one line.

Good files are cut, spliced and sprinkled with what tends to break parsers; so are their values. In
the long form (`-m slow`) each importer gets as many as the variable FUZZ_EXAMPLES says (2,000).
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
from contextlib import suppress

import polars as pl
import pytest
from conftest import make_model, make_tokenizer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from howsure import graded, manifest, methods
from howsure.agreement import read_pairs
from howsure.errors import BundleError, HowsureError, UsageError
from howsure.lm import loading, merging, replies
from howsure.lm.model import LanguageModel
from howsure.questions.files import read_file
from howsure.recorded import read_recorded
from howsure.scores import read_scores
from howsure.spec import RunSpec, read_recipe
from howsure.tables import PUBLISHED_COLUMNS, SCORE_COLUMNS, read_predictions

MANY = int(os.environ.get("FUZZ_EXAMPLES", "2000"))

NASTY = [
    *(b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\r", b"\n", b"\t", b'"', b"'", b",", b";", b"\\"),
    *(
        b"NaN",
        b"Infinity",
        b"-1",
        b"1e999",
        b"9" * 5000,
        b"[" * 20000,
        b"{}",
        b"[]",
        b"null",
        b"true",
    ),
    *(
        b"\\ud800",
        b"\xed\xa0\x80",
        b"../../x",
        b"=1+1",
        b"\x1b[2J",
        b"\xe2\x80\xae",
        b"0x1",
        b"1_0",
    ),
    *(b"\x1f\x8b\x08", b"PAR1", b"\x80\x04K\x01."),
]

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -1, 0, 1, 2**63])
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["", " ", "nan", "../x", "\x00", "macro", "=1", "A", "0", "1"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@st.composite
def broken(draw, good: bytes):
    """The file, changed in up to four places."""
    data = good
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        until = min(len(data), at + draw(st.integers(0, 12)))
        piece = draw(st.sampled_from(NASTY) | st.binary(max_size=6) | st.just(good))
        data = data[:at] + piece + data[until:]
    return data


@st.composite
def changed(draw, good: dict):
    """The object with other values under some of its keys, or without them."""
    made = dict(good)
    for key in draw(st.lists(st.sampled_from(list(good)), min_size=1, max_size=3)):
        if draw(st.booleans()) or key not in made:
            made[key] = draw(values)
        else:
            del made[key]
    return made


def as_bytes(value):
    return json.dumps(value).encode()


def lines_of(good):
    """JSONL files of two rows, broken by bytes or by values."""
    whole = as_bytes(good) + b"\n" + as_bytes({**good, "id": "2", "doc_id": 2})
    return broken(whole) | changed(good).map(as_bytes)


QUESTION = {"id": "1", "subject": "s", "question": "q", "choices": ["a", "b"], "answer": 0}
PREDICTION = {"id": "1", "subject": "s", "model": "m", "p_correct": 0.5, "is_correct": True}
OPTIONS = {"id": "1", "probs": [0.25, 0.75], "choice": 1, "gold": "B"}
SAMPLE = {
    "doc_id": 0,
    "doc": {"subject": "s"},
    "target": "0",
    "arguments": [["q", " a"], ["q", " b"]],
    "filtered_resps": [["-1.0", "True"], ["-2.0", "False"]],
    "filter": "none",
    "acc": 1.0,
}
LABEL = {"question": "q", "answer": "a", "reference": "b", "is_correct": True, "note": 1}
RELEASED = {"context": "Q: q", "target_prompt": "A:", "output": "a", "query_label": 1}
REPLY = {
    "choices": [
        {
            "message": {"content": "a b"},
            "logprobs": {
                "content": [
                    {"token": "a", "logprob": -0.5, "top_logprobs": [{"token": "b", "logprob": -1}]}
                ]
            },
        }
    ]
}
SCORE = {
    **dict.fromkeys(SCORE_COLUMNS, "0.5"),
    **{"model": "m", "method": "probe", "calibration": "none", "format": "choice"},
    **{"subject": "s", "n": "10", "note": ""},
}
PUBLISHED = ["m", "probe", "choice", "true", "s", "test", "9", "0.5", "0.1", "0.6"]
RECIPE = b"""
questions = "mmlu"
methods = ["zero_shot", "probe"]
formats = ["choice"]
shots = 5
calibrate = "temperature"
[load]
attention = "auto"
[settings.probe.schedule]
steps = 500
"""


def csv_of(names, *rows):
    return "\n".join(",".join(map(str, row)) for row in (names, *rows)).encode() + b"\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder, and in it a good adapter and good estimators."""
    from test_bad_input import save_estimators

    folder = tmp_path_factory.mktemp("fuzz")
    model = LanguageModel(make_model("llama"), make_tokenizer(), name="random-llama")
    name = model.adapters.add(methods.default_spec("lora").adapter, seed=0)
    model.adapters.save(name, folder / "adapter")
    model.adapters.remove(name)
    save_estimators(folder, model)
    make_model("llama").save_pretrained(folder / "model")
    return folder


@pytest.fixture(scope="module")
def lm():
    return LanguageModel(make_model("llama"), make_tokenizer(), name="random-llama")


def tolerant(read, *args):
    """Reads, or refuses in one short line."""
    try:
        read(*args)
    except HowsureError as error:
        assert str(error).strip()


def read_released(path):
    """Each call anew: what was read once is remembered by its path."""
    graded._read_all.__wrapped__((path,), "open")


def read_reply(path):
    with suppress(ValueError):  # which the model on the server tells as its own error
        replies.answer_of(replies.kept(replies.read(path.read_bytes())))


def parquet_of(folder):
    pl.DataFrame([PREDICTION, {**PREDICTION, "id": "2"}]).write_parquet(folder / "good.parquet")
    return (folder / "good.parquet").read_bytes()


def spec_of(text):
    made = read_recipe(text, "fuzzed")
    spec = RunSpec(**{"output": "x", **made})
    for method in spec.methods:
        methods.spec_from(method, spec.settings.get(method, {}))
    spec.to_json()


def read_adapter(folder):
    fields, _ = merging.read_adapter(merging.check_adapter(folder))
    with suppress(TypeError, ValueError):  # `Adapters.load` and `merge` refuse these
        merging.lora_config(fields)


SOURCES = {
    "questions-jsonl": (lines_of(QUESTION), "q.jsonl", read_file),
    "questions-csv": (
        broken(csv_of(("id", "question", "A", "B", "answer"), (1, "q", "a", "b", "A"))),
        "q.csv",
        read_file,
    ),
    "questions-gz": (broken(gzip.compress(as_bytes(QUESTION), mtime=0)), "q.jsonl.gz", read_file),
    "predictions-jsonl": (lines_of(PREDICTION) | lines_of(OPTIONS), "p.jsonl", read_recorded),
    "predictions-csv": (
        broken(csv_of(PREDICTION, PREDICTION.values(), [2, "t", "m", 0.1, 0])),
        "p.csv",
        read_recorded,
    ),
    "sample-logs": (lines_of(SAMPLE), "samples_t.jsonl", read_recorded),
    "labels-jsonl": (lines_of(LABEL), "l.jsonl", read_pairs),
    "labels-csv": (broken(csv_of(LABEL, LABEL.values())), "l.csv", read_pairs),
    "released-csv": (broken(csv_of(RELEASED, RELEASED.values())), "r.csv", read_released),
    "reply": (broken(as_bytes(REPLY)), "reply.json", read_reply),
    "scores": (
        broken(csv_of(SCORE, SCORE.values())) | broken(csv_of(PUBLISHED_COLUMNS, PUBLISHED)),
        "s.csv",
        read_scores,
    ),
}
OBJECTS = {
    "estimator": {
        "version": 1,
        "method": "subject_prior",
        "spec": {"strength": 1.0},
        "model": "m",
        "model_fingerprint": "",
        "state": {"overall": 0.5, "by_subject": {"a": 0.5}},
    },
    "probe": {
        "version": 1,
        "method": "probe",
        "spec": {"layer": -1, "schedule": {"steps": 1}},
        "model": "m",
        "model_fingerprint": "",
        "state": {"best_step": 1, "curve": [[1, 0.5]]},
    },
    "adapter": {"peft_type": "LORA", "r": 8, "lora_alpha": 32, "target_modules": ["q_proj"]},
    "checkpoint": {"model_type": "llama", "dtype": "float32", "text_config": {}},
}


def fuzz_file(name, place, examples):
    made, file, read = SOURCES[name]

    @settings(max_examples=examples, deadline=20_000, suppress_health_check=list(HealthCheck))
    @given(made)
    def check(data):
        (place / file).write_bytes(data)
        tolerant(read, place / file)

    check()


def fuzz_parquet(place, examples):
    @settings(max_examples=examples, deadline=20_000, suppress_health_check=list(HealthCheck))
    @given(broken(parquet_of(place)))
    def check(data):
        (place / "p.parquet").write_bytes(data)
        tolerant(read_recorded, place / "p.parquet")
        tolerant(read_predictions, place / "p.parquet")
        tolerant(read_pairs, place / "p.parquet")
        tolerant(read_released, place / "p.parquet")

    check()


FIELDS = {
    **{"models": ["a"], "questions": "mmlu", "methods": ["probe"], "subjects": ["s"], "shots": 5},
    **{"limit": 1, "seed": 0, "calibrate": "none", "device": "cpu", "data_dir": "d", "chat": "on"},
    **{"train_questions": ["a"], "formats": ["open"], "choose_by": "text", "shuffle_shots": True},
    **{"load": 1, "settings": 1, "query_adapter": "x", "graded_answers": "y", "output": "z"},
}


def toml(fields):
    """Of JSON values all but null and objects are TOML values, too, as long as they are plain."""
    return "\n".join(f"{key} = {json.dumps(value)}" for key, value in fields.items())


def fuzz_recipe(examples):
    @settings(max_examples=examples, deadline=20_000, suppress_health_check=list(HealthCheck))
    @given(
        broken(RECIPE).map(lambda data: data.decode("utf-8", "replace")) | changed(FIELDS).map(toml)
    )
    def check(text):
        tolerant(spec_of, text)

    check()


def load_sealed(folder, lm):
    """Loads an estimator that somebody wrote with care: its manifest is that of its files."""
    path = folder / manifest.NAME
    manifest.seal(path, sorted(p for p in folder.iterdir() if p != path))
    return methods.load(folder, lm)


def fuzz_object(name, place, lm, examples):
    good = OBJECTS[name]
    places = {
        "estimator": (place / "prior", "estimator.json", lambda f: load_sealed(f, lm)),
        "probe": (place / "probe", "estimator.json", lambda f: load_sealed(f, lm)),
        "adapter": (place / "adapter", "adapter_config.json", read_adapter),
        "checkpoint": (place / "model", "config.json", loading.check_folder),
    }
    folder, file, read = places[name]
    inner = [k for k in good if isinstance(good[k], dict)]
    nested = st.sampled_from(inner or [None]).flatmap(
        lambda k: (
            st.just(good)
            if k is None or not good[k]
            else changed(good[k]).map(lambda v: {**good, k: v})
        )
    )
    either = broken(as_bytes(good)) | changed(good).map(as_bytes) | nested.map(as_bytes)

    @settings(max_examples=examples, deadline=20_000, suppress_health_check=list(HealthCheck))
    @given(either)
    def check(data):
        (folder / file).write_bytes(data)
        tolerant(read, folder)

    kept = shutil.copy(folder / file, folder.parent / "kept")
    try:
        check()
    finally:
        shutil.copy(kept, folder / file)


@pytest.mark.parametrize("examples", [60, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", [*SOURCES, "parquet", "recipe", *OBJECTS])
def test_importers(name, examples, place, lm):
    if name in SOURCES:
        fuzz_file(name, place, examples)
    elif name == "parquet":
        fuzz_parquet(place, examples)
    elif name == "recipe":
        fuzz_recipe(examples)
    else:
        fuzz_object(name, place, lm, examples)


# what it found ----------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", ["load = 1", "settings.probe = 1", "shots = 'x'", "seed = true"])
def test_values_of_the_wrong_kind_in_a_recipe(recipe):
    with pytest.raises(UsageError, match="it must be"):
        read_recipe(recipe, "mine")


def test_a_share_beyond_float64(place, lm):
    state = {"overall": 10**400, "by_subject": {}}
    shutil.copytree(place / "prior", place / "large")
    about = {**OBJECTS["estimator"], "state": state}
    (place / "large" / "estimator.json").write_bytes(as_bytes(about))
    with pytest.raises(BundleError, match="is not valid"):
        load_sealed(place / "large", lm)


def test_a_damaged_parquet_file_of_predictions(place):
    """Some such files make polars panic, which no `except Exception` catches."""
    good = parquet_of(place)
    for at in range(4, len(good) - 8, 7):
        (place / "p.parquet").write_bytes(good[:at] + b"\x15" * 4 + good[at + 4 :])
        tolerant(read_recorded, place / "p.parquet")
