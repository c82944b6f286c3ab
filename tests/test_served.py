"""Models on a server: one that answers for real agrees with itself loaded here."""

from __future__ import annotations

import json
import math
import signal
import socket
import subprocess
import sys
import time
from threading import Event

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_server import of_model, serving
from test_chat import INJECTED, RIVER, SHOTS, conversation
from test_plan import rows

from howsure import api
from howsure import lm as seam
from howsure.answers import answer
from howsure.asking import Asking
from howsure.errors import ApiError, ModelError, UsageError
from howsure.estimate import estimate
from howsure.lm import Hidden, Options, Passage, Place, loading, served
from howsure.lm.replies import Reply, Token, answer_of, kept, option_row, read
from howsure.lm.served import Conversation, ServedModel, messages
from howsure.methods import OF_WEIGHTS, default_spec, fit
from howsure.prompts import CORRECTNESS_QUERY, QUERY_OPTIONS, few_shot_turns, question_prompt
from howsure.questions import open_set
from howsure.run import RunFailed, RunSpec, run
from howsure.status import status
from howsure.types import Answer, GradedAnswer, Question

QUICK = api.Limits(pause=0.01, attempts=2)
WITHOUT_WEIGHTS = ("zero_shot", "likelihood", "subject_prior")
SPEC = {"methods": WITHOUT_WEIGHTS, "subjects": ("addition",), "formats": ("open",)}
SPEC |= {"limit": 8, "train_size": 20, "calibrate": "none"}


@pytest.fixture(scope="module")
def tiny():
    return seam.load("tiny-llama-s", device="cpu")


def at(url, limits=QUICK, cache=None, name="tiny-llama-s"):
    return ServedModel(api.Server(name, url), limits, cache)


def predicted(folder):
    table = pl.read_parquet(folder / "predictions.parquet")
    return table.sort("method", "calibration", "format", "id")


# a model that answers for real --------------------------------------------------------------------


@pytest.fixture(scope="module")
def both(tiny, tmp_path_factory):
    """The same run with the model on a server and with it loaded here, and what the server saw."""
    folder = tmp_path_factory.mktemp("both")
    with serving(of_model(tiny)) as (url, seen):
        spec = RunSpec(folder / "there", (f"openai:tiny-llama-s@{url}",), **SPEC)
        assert run(spec, limits=QUICK).is_complete
        asked = len(seen.bodies)
        assert run(spec, limits=QUICK).is_complete
        assert len(seen.bodies) == asked, "a run that is there asks nobody again"
    here = RunSpec(folder / "here", ("tiny-llama-s",), **SPEC)
    assert run(here, at_once=1).is_complete
    return folder, seen


def test_a_run_over_the_api_agrees_with_the_local_one(both):
    folder, _ = both
    there, here = predicted(folder / "there"), predicted(folder / "here")
    assert there.drop("p_correct").equals(here.drop("p_correct"))
    np.testing.assert_allclose(there["p_correct"], here["p_correct"], atol=1e-5)


def test_what_is_known_of_it_is_told(both):
    folder, seen = both
    card = json.loads((folder / "there" / "run.json").read_text(encoding="utf-8"))
    model = card["models"]["tiny-llama-s"]
    assert (
        model["server"].startswith("http://127.0.0.1") and "shows no weights" in model["identity"]
    )
    assert model["fingerprint"] is None and model["engine"] == "server"
    assert any("takes no conversation (status 400)" in note for note in card["notes"])
    assert {b["temperature"] for b in seen.bodies} == {0} == {b["seed"] for b in seen.bodies}
    assert any("complete" in line for line in status(folder / "there"))


def test_letters_agree_where_the_server_lists_them(make_lm, monkeypatch):
    """A random model spreads its probability: only the whole vocabulary lists all letters."""
    lm = make_lm("llama")
    monkeypatch.setattr(served, "_MOST", (360,))
    questions = asked(30)
    here = answer(lm, questions, format="choice")
    with serving(of_model(lm, most=360)) as (url, seen):
        there = answer(at(url), questions, format="choice", asking=Asking("off"))
    assert [a.choice for a in there] == [a.choice for a in here]
    assert [a.prompt for a in there] == [a.prompt for a in here]
    for name in ("likelihood", "option_mass"):
        np.testing.assert_allclose(
            [getattr(a, name) for a in there], [getattr(a, name) for a in here], rtol=1e-4
        )
    assert set(seen.paths) == {"/v1/completions"}


def asked(n):
    return [
        Question(r["id"], r["subject"], r["question"], r["answer"], tuple(r["choices"]))
        for r in rows(n)
    ]


@pytest.mark.parametrize("most", [5, 20])
def test_what_is_not_listed_is_bounded_or_unknown(tiny, most):
    """No row that is told is further from the truth than is said."""
    passages = [
        Passage("", f"Question: What is {i} + {i}?\nAnswer:", f" {2 * i}", CORRECTNESS_QUERY)
        for i in range(12)
    ]
    want = Options(Place.QUERY, QUERY_OPTIONS)
    (truth,) = tiny.read(passages, [want])
    with serving(of_model(tiny, most=most)) as (url, _):
        (told,) = at(url).read(passages, [want])
    known = ~np.isnan(told).any(axis=1)
    assert known.any()
    p, q = (np.exp(r[known, 1]) / np.exp(r[known]).sum(axis=1) for r in (told, truth))
    assert np.abs(p - q).max() <= 0.005 + 1e-5


@pytest.mark.slow  # each worker imports everything anew
def test_two_workers_ask_as_one_does(tiny, both, tmp_path):
    folder, _ = both
    with serving(of_model(tiny)) as (url, _):
        spec = RunSpec(tmp_path / "out", (f"openai:tiny-llama-s@{url}",), **SPEC)
        assert run(spec, at_once=2, limits=QUICK).is_complete
    assert predicted(tmp_path / "out").equals(predicted(folder / "there"))


# conversations ------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [True, False])
def test_turns_are_those_of_the_chat_template(options):
    turns = few_shot_turns(RIVER.subject, SHOTS, options=options)
    frame = Conversation().frame(turns)
    prompt = question_prompt(RIVER, options=options)
    p = Passage(frame.prefix, frame.question(prompt), "the Nile", Conversation.query, "")
    said = [text for turn in turns for text in turn]
    assert messages(p.upto(Place.QUESTION)) == conversation(*said, prompt)
    assert messages(p.upto(Place.QUERY)) == conversation(
        *said, prompt, "the Nile", CORRECTNESS_QUERY
    )


def test_nothing_written_in_a_question_opens_a_turn():
    frame = Conversation().frame([(f"q {INJECTED}", f"a {INJECTED}")])
    roles = [m["role"] for m in messages(frame.prefix + frame.question(INJECTED))]
    assert roles == ["user", "assistant", "user"]


def chatty(number, body):
    """A chat model that says "b" to every question and is sure of it; 70% for "ii"."""
    last = body["messages"][-1]["content"] if "messages" in body else ""
    p = {"ii": 0.7, "i": 0.2, " i": 0.1} if "proposed" in last else {"b": 0.9, "a": 0.06, "c": 0.04}
    token = max(p, key=p.get)
    top = [{"token": t, "logprob": math.log(x), "bytes": list(t.encode())} for t, x in p.items()]
    content = [{"token": token, "logprob": math.log(p[token]), "top_logprobs": top}]
    choice = {"message": {"content": token}, "logprobs": {"content": content}}
    return 200, json.dumps({"choices": [choice]}).encode()


def test_a_chat_model_is_asked_in_conversations(tmp_path):
    file = tmp_path / "mine.jsonl"
    file.write_text("\n".join(map(json.dumps, rows(30))))
    with serving(chatty) as (url, seen):
        spec = RunSpec(
            *(tmp_path / "out", (f"openai:org/chat@{url}",), str(file)),
            methods=("zero_shot", "likelihood"),
            calibrate="none",
        )
        assert run(spec, limits=QUICK).is_complete
    assert set(seen.paths) == {"/v1/chat/completions"}
    table = predicted(tmp_path / "out")
    assert set(table["answer"]) == {"b"} and set(table["model"]) == {"org/chat"}
    for method, p in (("zero_shot", 0.7), ("likelihood", 0.9)):
        mine = table.filter(pl.col("method") == method)["p_correct"]
        np.testing.assert_allclose(mine, p, atol=1e-6)


@pytest.mark.parametrize("status", [400, 404, 500])
def test_a_server_that_takes_no_conversations_is_asked_in_plain_text(status):
    """`transformers serve` fails with 500 where a model has no chat template, others refuse."""

    def says(number, body):
        return (status, b"{}") if "messages" in body else told_nothing(number, body)

    with serving(says) as (url, seen):
        lm = at(url)
        assert lm.prompting("auto").chat is None and len(seen.bodies) == 2
        with pytest.raises(ApiError, match=f"status {status}"):
            answer(lm, asked(1), format="open", asking=Asking("on"))


@pytest.mark.slow
def test_against_a_server_of_someone_else(tmp_path):
    """`transformers serve` tells no log-probabilities; its answers are those of the model here."""
    pytest.importorskip("fastapi", reason="transformers serve needs it")
    pytest.importorskip("uvicorn", reason="transformers serve needs it")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    model = str(loading.find_checkpoint("tiny-llama-s"))
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", model]
    command += ["--port", str(port), "--device", "cpu"]
    changes = {**SPEC, "methods": ("subject_prior",)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert any("running on" in line for line in process.stderr)
            there = RunSpec(
                tmp_path / "there", (f"openai:{model}@http://localhost:{port}/v1",), **changes
            )
            assert run(there).is_complete
        finally:
            process.terminate()
    assert run(RunSpec(tmp_path / "here", ("tiny-llama-s",), **changes), at_once=1).is_complete
    found = (predicted(tmp_path / name).drop("model") for name in ("there", "here"))
    assert next(found).equals(next(found))


# what a row of options says -----------------------------------------------------------------------


def row(top, options=("i", "ii"), *, chat=False, known=("ii",)):
    made = tuple((t, math.log(p)) for t, p in top)
    return option_row(
        Reply("", (Token(*made[0], made),)), options, chat=chat, known=known
    )  # the first is said


def test_listed_options_are_taken_as_they_are():
    np.testing.assert_allclose(np.exp(row([(" ii", 0.6), (" i", 0.3), ("i", 0.05)])), [0.3, 0.6])


def test_a_server_that_cuts_spaces_off_is_understood():
    np.testing.assert_allclose(np.exp(row([("ii", 0.6), ("i", 0.3)])), [0.3, 0.6])
    np.testing.assert_allclose(np.exp(row([("\u2581ii", 0.6), ("\u0120i", 0.3)])), [0.3, 0.6])


def test_a_conversation_counts_both_spellings():
    found = row([("ii", 0.5), (" ii", 0.1), ("i", 0.3)], chat=True)
    np.testing.assert_allclose(np.exp(found), [0.3, 0.6])


def test_an_option_that_is_not_listed_is_unknown_unless_it_is_unlikely():
    told = np.exp(row([(" ii", 0.9), (" x", 0.096), (" y", 0.003)]))
    np.testing.assert_allclose(told, [0.0005, 0.9], atol=1e-6)  # half of what is left over
    assert np.isnan(row([(" ii", 0.6), (" x", 0.3)])[0])
    assert np.isnan(row([(" x", 0.6), (" y", 0.3)])).all()


def test_an_option_that_may_be_no_single_token_is_never_taken_for_unlikely():
    top = [(" i", 0.999), (" x", 0.0009)]
    assert np.isnan(row(top, known=())[1]) and not np.isnan(row(top)[1])


def test_tokens_that_read_alike_are_not_mixed_up():
    """A mapping has one entry for two tokens; the one that was said is the likelier."""
    said = Token("ii", math.log(0.6), (("ii", math.log(0.001)), ("i", math.log(0.3))))
    found = option_row(Reply("ii", (said,)), ("i", "ii"), chat=False, known=("ii",))
    np.testing.assert_allclose(np.exp(found), [0.3, 0.6], rtol=1e-6)


def test_what_is_no_number_is_unknown():
    said = Token(" ii", math.log(0.6), ((" ii", math.log(0.6)), (" i", None)))
    assert np.isnan(option_row(Reply("", (said,)), ("i", "ii"), chat=False, known=())).all()
    assert np.isnan(option_row(Reply("", ()), ("i", "ii"), chat=False, known=())).all()


# free answers -------------------------------------------------------------------------------------


def reply(text, *tokens):
    return Reply(text, tuple(Token(t, p) for t, p in tokens))


@pytest.mark.parametrize(
    ("said", "means"),
    [
        (reply(" Paris", (" Par", -1.0), ("is", -0.5)), ("Paris", -1.5, 2)),
        (reply(" Paris\nLondon", (" Paris", -1.0), ("\n", -2.0), ("L", -3.0)), ("Paris", -1.0, 1)),
        (reply(" Paris", (" Paris", -1.0), ("</s>", -0.1)), ("Paris", -1.0, 1)),
        (reply(" Paris", (" Paris", -1.0), ("", -0.1)), ("Paris", -1.0, 1)),
        (reply("\nParis", ("\n", -1.0), ("Paris", -1.0)), ("Paris", -2.0, 2)),
        (reply("Hi.\nX", ("Hi", -1.0), (".\n", -2.0), ("X", -3.0)), ("Hi.", -3.0, 2)),
        (reply("", ("</s>", -0.3)), ("", -0.3, 1)),
        (reply("", ), ("", None, 1)),
        (Reply("Paris", None), ("Paris", None, 1)),
        (reply("Paris", ("Paris", None)), ("Paris", None, 1)),
        (reply("Paris", ("Lo", -1.0), ("ndon", -1.0)), ("Paris", None, 1)),
        (reply("é", ("\udcc3", -1.0), ("\udca9", -0.5)), ("é", -1.5, 2)),
    ],
)  # fmt: skip
def test_a_free_answer_and_its_tokens(said, means):
    assert answer_of(said) == means


# replies of another shape -------------------------------------------------------------------------


def chat_reply(content):
    choice = {"message": {"content": "b"}, "logprobs": {"content": content}}
    return json.dumps({"choices": [choice]}).encode()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"<html>", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[]", "another shape"),
        (b'{"choices": []}', "another shape"),
        (b'{"choices": null}', "another shape"),
        (b'{"choices": [{"text": 7}]}', "no text"),
        (b'{"choices": [{"message": null}]}', "another shape"),
        (chat_reply([{"token": "b"}]), "log-probabilities of another shape"),
        (chat_reply([{"token": "b", "logprob": "x"}]), "log-probabilities of another shape"),
        (chat_reply([{"token": 7, "logprob": -1}]), "log-probabilities of another shape"),
        (chat_reply([{"token": "b", "logprob": 0.9}]), "above 0"),
        (chat_reply([{"token": "b", "logprob": True}]), "log-probabilities of another shape"),
        (chat_reply("x"), "log-probabilities of another shape"),
    ],
)
def test_a_reply_of_another_shape(data, says):
    with pytest.raises(ValueError, match=says):
        read(data)


def test_both_layouts_say_the_same():
    content = [{"token": "b", "logprob": -1, "top_logprobs": [{"token": "a", "logprob": -2}]}]
    legacy = {"tokens": ["b"], "token_logprobs": [-1], "top_logprobs": [{"a": -2}]}
    text = json.dumps({"choices": [{"text": "b", "logprobs": legacy}]}).encode()
    assert kept(read(chat_reply(content))) == kept(read(text)) == reply_of(-1.0)
    assert kept(read(b'{"choices": [{"text": "b"}]}')) == Reply("b", None)
    assert kept(read(chat_reply(content).replace(b"-1", b"NaN"))) == reply_of(None)


def reply_of(logp):
    return Reply("b", (Token("b", logp, (("a", -2.0),)),))


@given(st.recursive(st.none() | st.floats() | st.text(max_size=3), st.lists) | st.binary())
def test_nothing_that_a_server_says_breaks_it(value):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    for whole in (data, b'{"choices": [{"text": "b", "logprobs": {"content": ' + data + b"}}]}"):
        try:
            made = kept(read(whole))
        except ValueError:
            continue
        assert isinstance(answer_of(made)[0], str)


# servers that misbehave ---------------------------------------------------------------------------


def refused(says, *, limits=QUICK):
    """The line with which questions can't be asked, and what the server was asked."""
    with serving(says) as (url, seen), pytest.raises(ApiError) as caught:
        answer(at(url, limits), asked(3), format="choice")
    assert caught.value.exit_code == 1
    assert "\n" not in str(caught.value) and url in str(caught.value)
    return str(caught.value), seen


def told_nothing(number, body):
    """A server that tells no log-probabilities; to questions it says "b"."""
    if "messages" in body:
        return 200, json.dumps({"choices": [{"message": {"content": "(b)"}}]}).encode()
    return 200, json.dumps({"choices": [{"text": " (b)", "logprobs": None}]}).encode()


def test_no_log_probabilities(tmp_path):
    """Told before any question is asked; without the methods that need them the run is done."""
    with serving(told_nothing) as (url, seen):
        with pytest.raises(RunFailed, match="no log-probabilities, which zero_shot and likelihood"):
            run(RunSpec(tmp_path / "one", (f"openai:m@{url}",), **SPEC), limits=QUICK)
        assert len(seen.bodies) == 1
        changes = {**SPEC, "methods": ("subject_prior",), "formats": ("open", "choice")}
        assert run(
            RunSpec(tmp_path / "two", (f"openai:m@{url}",), **changes), limits=QUICK
        ).is_complete
    table = predicted(tmp_path / "two")
    assert set(table["answer"]) == {"(b)", "b"}


def test_log_probabilities_that_a_server_refuses():
    def refuses(number, body):
        if "logprobs" in body:
            return 400, b'{"error": {"message": "logprobs is not supported with this model"}}'
        return told_nothing(number, body)

    with serving(refuses) as (url, seen):
        lm = at(url)
        assert not lm.tells_probabilities("auto") and len(seen.bodies) == 3
        made = answer(lm, asked(3), format="choice")
    assert [(a.choice, a.likelihood, a.note) for a in made] == [(1, None, "")] * 3


@pytest.mark.parametrize(
    ("status", "says", "requests"),
    [
        (401, "no key was sent: set HOWSURE_API_KEY", 1),
        (403, "no key was sent", 1),
        (404, "check the model's name and the address", 2),  # conversations, then plain text
        (429, "no usable reply in 2 attempts (last: status 429", 2),
        (500, "no usable reply in 2 attempts (last: status 500", 3),
    ],
)
def test_statuses(status, says, requests, monkeypatch):
    monkeypatch.delenv(api.KEY, raising=False)
    line, seen = refused(lambda n, b: (status, b'{"error": {"message": "no"}}'))
    assert says in line and len(seen.bodies) == requests


@pytest.mark.parametrize("data", [b"<html>", b'{"choices": []}', b"{}"])
def test_replies_without_a_choice(data):
    line, _ = refused(lambda n, b: (200, data))
    assert "no usable reply in 2 attempts" in line


def test_a_server_that_is_down():
    with pytest.raises(ApiError, match=r"no usable reply in 2 attempts.*refused"):
        answer(at("http://127.0.0.1:9/v1"), asked(3), format="choice")


def test_a_server_that_says_nothing_in_time():
    def slow(number, body):
        time.sleep(2)
        return chatty(number, body)

    line, _ = refused(slow, limits=api.Limits(deadline=1.0, pause=0.01))
    assert "within 1 seconds" in line


def test_numbers_that_are_none(tmp_path):
    """An answer whose log-probabilities are NaN counts nowhere, and run.json says why."""

    def broken(number, body):
        status, data = chatty(number, body)
        last = body["messages"][-1]["content"]
        return status, data.replace(b'"logprob": -', b'"logprob": NaN, "x": -') if (
            "3 plus 3?" in last
        ) else data

    file = tmp_path / "mine.jsonl"
    file.write_text("\n".join(map(json.dumps, rows(30))))
    with serving(broken) as (url, _):
        model = (f"openai:m@{url}",)
        spec = RunSpec(
            *(tmp_path / "out", model, str(file)), methods=("likelihood",), calibrate="none"
        )
        assert run(spec, limits=QUICK).is_complete
    card = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    assert card["units"]["m (choice)"]["excluded"] == {"q3": "not_among_likeliest_tokens"}


def test_the_key_is_in_no_file(tmp_path, monkeypatch):
    monkeypatch.setenv(api.KEY, "sk-very-secret")
    with serving(chatty) as (url, seen):
        run(RunSpec(tmp_path / "out", (f"openai:m@{url}",), **SPEC), limits=QUICK)
    assert {h["Authorization"] for h in seen.headers} == {"Bearer sk-very-secret"}
    files = [f for f in tmp_path.rglob("*") if f.is_file()]
    assert files and not [f for f in files if b"very-secret" in f.read_bytes()]


def test_a_stopped_run_goes_on_from_the_replies_that_came(tiny, tmp_path):
    """It stops within seconds although the server is silent, and asks again only what was under
    way."""
    says, silent, over = of_model(tiny), Event(), Event()

    def halting(number, body):
        if number >= 30 and not over.is_set():
            silent.set()
            over.wait(60)
        return says(number, body)

    with serving(halting) as (url, seen):
        command = [sys.executable, "-m", "howsure", "run", "--output", str(tmp_path / "out")]
        command += ["--model", f"openai:tiny-llama-s@{url}", "--subject", "addition"]
        command += ["--format", "open", "--method", "likelihood", "--calibrate", "none"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            try:
                assert silent.wait(60)
                process.send_signal(signal.SIGINT)
                begin = time.monotonic()
                _, said = process.communicate(timeout=30)
                assert time.monotonic() - begin < 20
            finally:
                over.set()
                process.kill()
        assert process.returncode == 130, said
        first = [json.dumps(b, sort_keys=True) for b in seen.bodies[:30]]
        made = subprocess.run(command, capture_output=True, text=True)
        assert made.returncode == 0, made.stderr
        later = {json.dumps(b, sort_keys=True) for b in seen.bodies[30 + 8 :]}
    assert len(later & set(first)) <= 8, "only what was under way"


# what can't be asked of a server ------------------------------------------------------------------


@pytest.mark.parametrize("method", OF_WEIGHTS)
def test_methods_that_need_weights_say_so(method, tmp_path):
    with pytest.raises(UsageError, match=f"which {method} need; ask for --method zero_shot"):
        RunSpec(tmp_path, ("openai:m@http://h/v1",), methods=(method,))
    lm = at("http://127.0.0.1:9/v1")
    with pytest.raises(ModelError, match="no hidden states"):
        lm.read([Passage("", "q")], [Hidden(Place.QUESTION)])
    graded = [
        GradedAnswer(Answer(str(i), "s", "q", "a", "m", "open"), i > 9, "x") for i in range(20)
    ]
    with pytest.raises(ModelError, match=f"{method} needs hidden states or training"):
        fit(default_spec(method), lm, graded, graded)


def test_what_it_would_cost_is_told(tmp_path):
    spec = RunSpec(tmp_path, ("openai:m@http://h/v1",), methods=("zero_shot",), limit=20)
    found = estimate(spec)
    assert not found.units and not found.devices
    n = len(open_set("quickstart").load("test"))
    (one, *_) = found.served
    assert one.model == "m" and 2 * 20 <= one.requests <= 4 * n
    assert one.sent > one.received > 0
