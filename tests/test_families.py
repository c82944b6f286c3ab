"""The six columns and their siblings: true shapes; all methods through each way of computing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from families import ONE_OF_EACH, WINDOW, shrunk, shrunk_lm
from transformers import AutoConfig, AutoModelForCausalLM

from howsure import methods
from howsure.answers import answer, grade
from howsure.errors import UnknownName
from howsure.lm import Hidden, Options, Passage, Place, known_models
from howsure.lm.model import LanguageModel
from howsure.lm.names import config_of, configs, find_known
from howsure.prompts import CORRECTNESS_QUERY, QUERY_OPTIONS
from howsure.types import Question

COLUMNS = (
    *("llama2:7b", "llama2:7b-chat", "llama2:13b", "llama2:13b-chat"),
    *("mistral:7b", "mistral:7b-instruct"),
)
QUICK = {"schedule": {"steps": 2, "batch_size": 4, "evaluations": 1}}
SETTINGS = {name: QUICK for name in ("probe", "lora", "lora_prompt")}
FOUR = ("zero_shot", "probe", "lora", "lora_prompt")


def ask(i: int) -> Question:
    choices = ("Rhine", "Nile", f"Po {i}", "Main")
    text = f"{'Which of them is ' * (1 + i % 3)}the longest river of number {i}?"
    return Question(f"q{i}", "rivers", text, choices[i % 4], choices)


QUESTIONS = [ask(i) for i in range(12)]
EXAMPLES = {"rivers": [ask(i) for i in (20, 21)]}


@pytest.fixture(scope="module", params=ONE_OF_EACH)
def family(request: pytest.FixtureRequest) -> LanguageModel:
    return shrunk_lm(request.param)


@pytest.mark.parametrize("name", sorted(configs()))
def test_a_full_size_model_has_the_published_number_of_weights(name: str) -> None:
    """The counts are those of the safetensors headers that the Hub shows for each checkpoint."""
    config = dict(configs()[name])
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(config.pop("model_type"), **config)
        )
    counts = {m.parameters for m in known_models().values() if m.config == name}
    assert counts == {model.num_parameters()}


def test_the_table_names_the_columns_first_and_everything_once() -> None:
    models = known_models()
    assert tuple(m for m in models if m in COLUMNS) == COLUMNS
    assert len({m.hub_id.lower() for m in models.values()}) == len(models)
    assert {m.kind for m in models.values()} == {"base", "chat"}
    assert {m.config for m in models.values()} == set(configs())
    for m in models.values():
        assert find_known(m.name) == find_known(m.hub_id.upper()) == m
    assert find_known("tiny-llama-s") is None
    assert config_of("llama2:13b-chat") == configs()["llama2-13b"]
    with pytest.raises(UnknownName, match="did you mean 'llama2:7b'"):
        config_of("llama2:7")


def test_what_is_shrunk_keeps_what_decides_how_it_computes() -> None:
    small = shrunk("gemma3-1b")
    real = configs()["gemma3-1b"]
    for key in ("rope_theta", "rope_local_base_freq", "vocab_size", "tie_word_embeddings"):
        assert small[key] == real[key]
    assert shrunk("mistral-7b-v0.1")["num_attention_heads"] == 4
    assert shrunk("llama3.1-8b")["rope_scaling"]["factor"] == 8.0
    made = shrunk_lm("gemma2-2b")
    assert made._softcap == 30.0
    assert made._model.config.layer_types == ["sliding_attention", "full_attention"]
    assert made._model.config.sliding_window == WINDOW


def test_rows_are_those_of_one_prompt_at_a_time(family: LanguageModel) -> None:
    """Against transformers' own forward pass, with prompts longer than any sliding window."""
    passages = [
        Passage("Examples.\n\n", f"Question: {q.text}\nAnswer:", " Nile", CORRECTNESS_QUERY)
        for q in QUESTIONS[:5]
    ]
    hidden, logp = family.read(
        passages, [Hidden(Place.ANSWER), Options(Place.QUERY, QUERY_OPTIONS)]
    )
    for k, p in enumerate(passages):
        states, _ = _forward(family, p.upto(Place.ANSWER))
        np.testing.assert_allclose(hidden[k], states, atol=2e-4)
        _, logits = _forward(family, p.upto(Place.QUERY))
        ids = family.tokens.option_ids(p.upto(Place.QUERY), QUERY_OPTIONS)
        expected = torch.from_numpy(logits).log_softmax(-1)[list(ids)]
        np.testing.assert_allclose(logp[k], expected, atol=2e-4)


def _forward(lm: LanguageModel, text: str) -> tuple[np.ndarray, np.ndarray]:
    ids = torch.tensor(lm.tokens.encode([text]))
    assert ids.shape[1] > WINDOW
    with torch.inference_mode():
        out = lm._model(input_ids=ids, output_hidden_states=True, use_cache=False)
    return out.hidden_states[-1][0, -1].numpy(), out.logits[0, -1].numpy()


def test_the_fast_path_takes_all_but_what_it_can_not(family: LanguageModel) -> None:
    """Gemma 2's soft cap stands inside its attention; it is read by the plain path by itself."""
    assert (family.engine, bool(family.engine_note)) == (
        ("plain", True) if family.name == "gemma2-2b" else ("tree", False)
    )


@pytest.fixture(scope="module")
def plain(family: LanguageModel) -> LanguageModel:
    """The same weights, read prompt by prompt."""
    return shrunk_lm(family.name, engine="plain")


@pytest.mark.parametrize("format", ["choice", "open"])
def test_all_methods_go_through(
    family: LanguageModel, plain: LanguageModel, format: str, tmp_path: Path
) -> None:
    """What an estimator says does not hang on the path that reads the model."""
    answers = answer(family, QUESTIONS, format=format, examples=EXAMPLES, max_tokens=3)
    again = answer(plain, QUESTIONS, format=format, examples=EXAMPLES, max_tokens=3)
    assert [a.text for a in answers] == [a.text for a in again]
    np.testing.assert_allclose(*[[a.likelihood for a in x] for x in (answers, again)], atol=1e-4)
    graded = [
        type(g)(g.answer, i % 3 == 0, g.grader) for i, g in enumerate(grade(QUESTIONS, answers))
    ]
    for method in FOUR:
        spec = methods.spec_from(method, SETTINGS.get(method, {}))
        estimator = methods.fit(spec, family, graded[:8], graded[8:], seed=1)
        p = estimator.p_correct(answers)
        assert p.shape == (len(answers),)
        assert ((p > 0) & (p < 1)).all()
        assert len(np.unique(p)) > 1
        methods.save(estimator, family, tmp_path / method)
        methods.release(estimator)
        other = methods.load(tmp_path / method, plain)
        np.testing.assert_allclose(other.p_correct(answers), p, atol=1e-4)
        methods.release(other)
    assert family.adapters._peft is None
