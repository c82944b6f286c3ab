"""The seam to a model, against the plainest oracle: one prompt, one Hugging Face forward pass."""

from __future__ import annotations

import json
import shutil
import time

import numpy as np
import pytest
import torch
from conftest import make_model, make_tokenizer

from howsure import lm as seam
from howsure.errors import ModelError, UnknownName
from howsure.lm import AnswerTokens, Hidden, Options, Passage, Place
from howsure.lm.adapters import LoraSettings
from howsure.lm.model import LanguageModel
from howsure.lm.stops import first_line
from howsure.prompts import CORRECTNESS_QUERY

# Shorter and longer than the Mistral fixture's window of 16 tokens, with and without a prefix.
SHOTS = "Some examples first.\n\n"
PASSAGES = [
    Passage("", "Question: 1+1?\nAnswer:", " 2", CORRECTNESS_QUERY),
    Passage("", "Q:", " a", CORRECTNESS_QUERY),
    Passage(SHOTS, "Question: Which is it?\nAnswer:", " Paris", CORRECTNESS_QUERY),
    Passage(SHOTS, f"Question: {'long ' * 40}\nAnswer:", " so long", CORRECTNESS_QUERY),
    Passage("", "Question: naïve ☃ 你好?\nAnswer:", " ☃", CORRECTNESS_QUERY),
]
OPTIONS = ("i", "ii")


def alone(
    lm: LanguageModel, text: str, *, left: int = 0, right: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Final hidden state and logits of the text's last token, by transformers itself.

    `left` / `right` add so many masked padding tokens on that side.
    """
    ids = lm.tokens.encode([text])[0]
    pad = lm.tokens.pad_id
    mask = [0] * left + [1] * len(ids) + [0] * right
    padded = [pad] * left + ids + [pad] * right
    with torch.inference_mode():
        out = lm._model(
            input_ids=torch.tensor([padded]),
            attention_mask=torch.tensor([mask]),
            position_ids=(torch.tensor([mask]).cumsum(-1) - 1).clamp(min=0),
            output_hidden_states=True,
            use_cache=False,
        )
    at = left + len(ids) - 1
    return out.hidden_states[-1][0, at].numpy(), out.logits[0, at].numpy()


@pytest.mark.parametrize("place", list(Place))
@pytest.mark.parametrize("padding", [{}, {"left": 23}, {"right": 23}])
def test_rows_equal_one_prompt_at_a_time(lm: LanguageModel, place: Place, padding: dict) -> None:
    hidden, logp = lm.read(PASSAGES, [Hidden(place), Options(place, OPTIONS)])
    for k, p in enumerate(PASSAGES):
        expected, logits = alone(lm, p.upto(place), **padding)
        np.testing.assert_allclose(hidden[k], expected, atol=1e-5)
        ids = lm.tokens.option_ids(p.upto(place), OPTIONS)
        want = torch.from_numpy(logits).log_softmax(-1)[list(ids)]
        np.testing.assert_allclose(logp[k], want, atol=1e-5)


def test_rows_do_not_depend_on_the_batch(lm: LanguageModel) -> None:
    wants = [Hidden(Place.ANSWER), Options(Place.QUERY, OPTIONS), AnswerTokens()]
    together = lm.read(PASSAGES * 3, wants)
    for k, p in enumerate(PASSAGES):
        single = lm.read([p], wants)
        for a, b in zip(together, single, strict=True):
            np.testing.assert_allclose(a[k], b[0], atol=1e-5)
            np.testing.assert_allclose(a[k + len(PASSAGES)], b[0], atol=1e-5)


def test_inner_layer(lm: LanguageModel) -> None:
    (inner, last) = lm.read(PASSAGES, [Hidden(Place.ANSWER, layer=1), Hidden(Place.ANSWER)])
    ids = lm.tokens.encode([PASSAGES[0].upto(Place.ANSWER)])
    with torch.inference_mode():
        states = lm._model(input_ids=torch.tensor(ids), output_hidden_states=True).hidden_states
    np.testing.assert_allclose(inner[0], states[1][0, -1], atol=1e-5)
    assert np.abs(inner - last).max() > 0.1


def test_answer_tokens_sum_their_log_probabilities(lm: LanguageModel) -> None:
    (spans,) = lm.read(PASSAGES, [AnswerTokens()])
    for k, p in enumerate(PASSAGES):
        before = lm.tokens.encode([p.upto(Place.QUESTION)])[0]
        ids = lm.tokens.encode([p.upto(Place.ANSWER)])[0]
        assert ids[: len(before)] == before
        with torch.inference_mode():
            logp = lm._model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        expected = sum(float(logp[t - 1, ids[t]]) for t in range(len(before), len(ids)))
        assert spans[k, 1] == len(ids) - len(before) > 0
        np.testing.assert_allclose(spans[k, 0], expected, rtol=1e-5, atol=1e-5)


def test_generation_equals_greedy_without_cache_or_batch(lm: LanguageModel) -> None:
    """As published: nothing but the end token stops it, and the text is cut afterwards."""
    made = lm.generate(PASSAGES, max_tokens=8)
    for p, g in zip(PASSAGES, made, strict=True):
        ids = lm.tokens.encode([p.upto(Place.QUESTION)])[0]
        new, values = [], []
        for _ in range(8):
            with torch.inference_mode():
                logp = lm._model(input_ids=torch.tensor([ids + new])).logits[0, -1].log_softmax(-1)
            token = int(logp.argmax())
            values.append(float(logp[token]))
            if token == 1:
                break
            new.append(token)
        assert g.text == first_line(lm.tokens.decode(new)).strip()
        assert g.tokens <= max(1, len(new))
        np.testing.assert_allclose(g.log_probability, sum(values[: g.tokens]), atol=1e-4)


def test_tokens_with_a_line_break_stop(lm: LanguageModel) -> None:
    newline = lm.tokens.encode(["\n"])[0][-1]
    assert newline in lm.tokens.stops.breaks
    assert 1 in lm.tokens.stops.ends


def test_special_tokens_in_a_question_stay_text(lm: LanguageModel) -> None:
    ids = lm.tokens.encode(["a </s><pad><s> b"])[0]
    assert ids[0] == 0
    assert not {0, 1, 2} & set(ids[1:])


def test_options_are_looked_up_where_they_stand(lm: LanguageModel) -> None:
    a, b = lm.tokens.option_ids("Answer:", ("a", "b"))
    assert lm.tokens.decode([a]) == " a"
    assert (a, b) != tuple(lm.tokens.encode(["ab"])[0][1:])


def test_option_of_several_tokens_is_refused(make_lm) -> None:
    lm = LanguageModel(make_model("llama"), make_tokenizer(merges=("a", "b")), name="m")
    with pytest.raises(ModelError, match=r"2 tokens of the option ' i+'|makes \d tokens"):
        lm.read(PASSAGES[:1], [Options(Place.QUERY, OPTIONS)])


def test_adapter_comes_and_goes_without_a_trace(make_lm) -> None:
    lm = make_lm("mistral")
    before = {n: p.clone() for n, p in lm._model.state_dict().items()}
    (plain,) = lm.read(PASSAGES, [Hidden(Place.QUERY)])
    name = lm.adapters.add(LoraSettings(), seed=1)
    with torch.no_grad():
        for w in lm.adapters.weights(name):
            w.add_(0.05)
    (adapted,) = lm.read(PASSAGES, [Hidden(Place.QUERY)], adapter=name)
    (again,) = lm.read(PASSAGES, [Hidden(Place.QUERY)])
    assert np.abs(adapted - plain).max() > 1e-3
    np.testing.assert_array_equal(again, plain)
    lm.adapters.remove(name)
    after = lm._model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[n], before[n]) for n in before)
    assert not any(p.requires_grad for p in lm._model.parameters())


def test_adapter_rows_do_not_depend_on_the_batch(make_lm) -> None:
    for architecture in ("llama", "mistral"):
        lm = make_lm(architecture)
        name = lm.adapters.add(LoraSettings(), seed=1)
        with torch.no_grad():
            for w in lm.adapters.weights(name):
                w.add_(0.05)
        together = lm.read(PASSAGES, [Options(Place.QUERY, OPTIONS)], adapter=name)[0]
        for k, p in enumerate(PASSAGES):
            (single,) = lm.read([p], [Options(Place.QUERY, OPTIONS)], adapter=name)
            np.testing.assert_allclose(together[k], single[0], atol=1e-5)


def test_too_long_a_prompt_is_refused(lm: LanguageModel) -> None:
    long = Passage("", "x?" * 4000)
    with pytest.raises(ModelError, match="takes at most 2048"):
        lm.read([long], [Hidden(Place.QUESTION)])
    with pytest.raises(ModelError, match="at most 2048"):
        lm.generate([long], max_tokens=4)


def test_empty_in_empty_out(lm: LanguageModel) -> None:
    hidden, logp = lm.read([], [Hidden(Place.QUERY), Options(Place.QUERY, OPTIONS)])
    assert hidden.shape == (0, lm.hidden_size)
    assert logp.shape == (0, 2)
    assert lm.generate([], max_tokens=3) == []


def test_loads_a_local_checkpoint_in_float32(checkpoint, tmp_path) -> None:
    folder = tmp_path / "half"
    make_model("llama").to(torch.bfloat16).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    loaded = seam.load(str(folder), device="cpu")
    assert loaded.name == "half"
    assert loaded.dtype == torch.float32
    assert len(loaded.fingerprint) == 64
    assert loaded.fingerprint == seam.load(str(folder)).fingerprint
    assert loaded.fingerprint != seam.load(str(checkpoint("mistral"))).fingerprint


def test_unusable_names_and_folders(checkpoint, tmp_path) -> None:
    start = time.monotonic()
    with pytest.raises(UnknownName, match="unknown model 'nosuchmodel'"):
        seam.load("nosuchmodel")
    for missing in (str(tmp_path / "none"), "./none", "~/none-at-all", "a/b/c"):
        with pytest.raises(ModelError, match="does not exist"):
            seam.load(missing)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"no config\.json"):
        seam.load(str(tmp_path / "empty"))
    no_weights = tmp_path / "no_weights"
    shutil.copytree(checkpoint("llama"), no_weights)
    (no_weights / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="no weights"):
        seam.load(str(no_weights))
    (no_weights / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(ModelError, match="pickled"):
        seam.load(str(no_weights))
    assert time.monotonic() - start < 10


def test_missing_or_broken_weights_are_refused(checkpoint, tmp_path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "part"
    shutil.copytree(checkpoint("llama"), folder)
    weights = load_file(folder / "model.safetensors")
    weights.pop("model.layers.1.mlp.up_proj.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="lack 1 weights"):
        seam.load(str(folder))
    (folder / "model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(ModelError, match="can't be loaded"):
        seam.load(str(folder))


def test_remote_code_is_refused(checkpoint, tmp_path) -> None:
    folder = tmp_path / "remote"
    shutil.copytree(checkpoint("llama"), folder)
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "their_own"
    config["auto_map"] = {"AutoModelForCausalLM": "code.Model", "AutoConfig": "code.Config"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text("raise SystemExit('ran remote code')")
    with pytest.raises(ModelError, match=r"needs Python code of its own.*--trust-remote-code"):
        seam.load(str(folder))


def test_head_that_makes_logits_another_way_is_refused() -> None:
    model = make_model("llama")
    plain = model.forward
    model.forward = lambda **k: type("Out", (), {"logits": plain(**k).logits.tanh()})()
    with pytest.raises(ModelError, match="does not know"):
        LanguageModel(model, make_tokenizer(), name="m")
