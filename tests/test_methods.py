"""One contract for every method, and what is particular to each."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from howsure import manifest, methods
from howsure.errors import BundleError, FitError, PredictionsError, UnknownName
from howsure.lm import Hidden, Passage, Place
from howsure.lm.model import LanguageModel
from howsure.methods import checkpoint
from howsure.methods.lora_prompt import jensen_shannon
from howsure.methods.training import (
    Schedule,
    minibatches,
    train_loop,
    two_class_probability,
)
from howsure.types import Answer, Estimator, GradedAnswer

QUICK = {"schedule": {"steps": 6, "batch_size": 4, "learning_rate": 1e-3, "evaluations": 2}}
SETTINGS = {"probe": QUICK, "lora": QUICK, "lora_prompt": QUICK}


def graded(n: int, *, seed: int = 0, model: str = "m") -> list[GradedAnswer]:
    """Answers of varied length in two subjects; the longer ones are wrong more often."""
    rng = np.random.default_rng(seed)
    out = []
    for i in range(n):
        words = int(rng.integers(1, 12))
        a = Answer(
            question_id=f"q{seed}/{i}",
            subject=("short", "long")[words > 6],
            prompt=f"Examples.\n\nQuestion: {'word ' * words}{i}?\nAnswer:",
            prefix="Examples.\n\n",
            text=("Paris", "a", "7 8")[i % 3],
            model=model,
            format="open",
            likelihood=float(rng.uniform()),
        )
        out.append(GradedAnswer(a, bool(rng.uniform() < 1 - words / 14), "match"))
    return out


TRAIN, VALID = graded(24, seed=1), graded(12, seed=2)
ANSWERS = [g.answer for g in graded(9, seed=3)]


@pytest.fixture(scope="module", params=["llama", "mistral"])
def own_lm(request: pytest.FixtureRequest, make_lm: Callable[..., LanguageModel]) -> LanguageModel:
    return make_lm(request.param)


@pytest.fixture(scope="module", params=methods.METHODS)
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def fitted(own_lm: LanguageModel, method: str) -> Estimator:
    spec = methods.spec_from(method, SETTINGS.get(method, {}))
    return methods.fit(spec, own_lm, TRAIN, VALID, seed=5)


# the contract ----------------------------------------------------------------------------------


def test_probabilities_of_the_right_shape(fitted: Estimator) -> None:
    p = fitted.p_correct(ANSWERS)
    assert isinstance(fitted, Estimator)
    assert p.shape == (len(ANSWERS),)
    assert p.dtype == np.float64
    assert ((p >= 0) & (p <= 1)).all()


def test_order_does_not_matter(fitted: Estimator) -> None:
    forward, backward = fitted.p_correct(ANSWERS), fitted.p_correct(ANSWERS[::-1])
    np.testing.assert_allclose(forward, backward[::-1], atol=1e-5)


def test_alone_as_in_a_batch(fitted: Estimator) -> None:
    together = fitted.p_correct(ANSWERS * 4)
    for k, a in enumerate(ANSWERS):
        np.testing.assert_allclose(fitted.p_correct([a])[0], together[k], atol=1e-5)


def test_empty_in_empty_out(fitted: Estimator) -> None:
    assert fitted.p_correct([]).shape == (0,)


def test_saved_and_loaded_is_the_same(
    fitted: Estimator, own_lm: LanguageModel, tmp_path: Path
) -> None:
    methods.save(fitted, own_lm, tmp_path)
    back = methods.load(tmp_path, own_lm)
    np.testing.assert_array_equal(back.p_correct(ANSWERS), fitted.p_correct(ANSWERS))
    assert {f.suffix for f in tmp_path.iterdir()} <= {".json", ".safetensors"}
    methods.release(back)


def test_same_seed_same_estimator(fitted: Estimator, own_lm: LanguageModel, method: str) -> None:
    again = methods.fit(fitted.spec, own_lm, TRAIN, VALID, seed=5)
    np.testing.assert_array_equal(again.p_correct(ANSWERS), fitted.p_correct(ANSWERS))
    methods.release(again)


def test_the_model_is_left_as_it_was(make_lm, method: str) -> None:
    lm = make_lm("mistral")
    passages = [Passage.of(a) for a in ANSWERS]
    weights = {n: p.clone() for n, p in lm._model.state_dict().items()}
    (before,) = lm.read(passages, [Hidden(Place.QUERY)])
    spec = methods.spec_from(method, SETTINGS.get(method, {}))
    estimator = methods.fit(spec, lm, TRAIN, VALID, seed=5)
    estimator.p_correct(ANSWERS)
    (after,) = lm.read(passages, [Hidden(Place.QUERY)])
    np.testing.assert_array_equal(before, after)
    assert not lm._model.training
    methods.release(estimator)
    left = lm._model.state_dict()
    assert left.keys() == weights.keys()
    assert all(torch.equal(left[n], weights[n]) for n in weights)


def test_specs_know_the_published_setting() -> None:
    """Kapoor et al. 2024, section 4 and appendix; their released code's defaults."""
    lora_prompt = methods.default_spec("lora_prompt")
    assert (lora_prompt.adapter.r, lora_prompt.adapter.alpha) == (8, 32)
    assert lora_prompt.adapter.dropout == 0.1
    assert lora_prompt.divergence_weight == 1.0
    assert lora_prompt.schedule == Schedule(steps=5000, batch_size=4, learning_rate=1e-4)
    assert methods.default_spec("probe").widths == (256, 128, 64)


def test_unknown_method_and_setting() -> None:
    with pytest.raises(UnknownName, match="did you mean 'probe'"):
        methods.default_spec("prob")
    with pytest.raises(UnknownName, match=r"setting of probe\.schedule 'step'"):
        methods.spec_from("probe", {"schedule": {"step": 5}})


@pytest.mark.parametrize("method", ["probe", "lora", "lora_prompt"])
def test_answers_that_cannot_be_fitted_on(make_lm, method: str) -> None:
    lm = make_lm("llama")
    spec = methods.spec_from(method, QUICK)
    one_class = [replace(g, is_correct=True) for g in TRAIN]
    with pytest.raises(FitError, match="all 24 training answers of 'm' are right"):
        methods.fit(spec, lm, one_class, VALID)
    with pytest.raises(FitError, match="no training answers"):
        methods.fit(spec, lm, [], VALID)
    with pytest.raises(FitError, match="no validation answers"):
        methods.fit(spec, lm, TRAIN, [])


# bundles ---------------------------------------------------------------------------------------


def test_bundle_of_another_model_is_refused(checkpoint, tmp_path: Path) -> None:
    from howsure import lm as seam

    llama, mistral = seam.load(str(checkpoint("llama"))), seam.load(str(checkpoint("mistral")))
    methods.save(
        methods.fit(methods.spec_from("probe", QUICK), llama, TRAIN, VALID), llama, tmp_path
    )
    with pytest.raises(BundleError, match="was fitted on 'random-llama'"):
        methods.load(tmp_path, mistral)


def seal(folder: Path) -> None:
    """As if the files had been saved as they are now."""
    path = folder / manifest.NAME
    manifest.seal(path, sorted(p for p in folder.iterdir() if p != path))


def test_broken_bundles(make_lm, tmp_path: Path) -> None:
    lm = make_lm("llama")
    with pytest.raises(BundleError, match=r"no estimator\.json"):
        methods.load(tmp_path, lm)
    methods.save(methods.fit(methods.spec_from("probe", QUICK), lm, TRAIN, VALID), lm, tmp_path)
    whole = (tmp_path / "head.safetensors").read_bytes()
    (tmp_path / "head.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BundleError, match=r"head\.safetensors is not as it was written"):
        methods.load(tmp_path, lm)
    seal(tmp_path)
    with pytest.raises(BundleError, match="can't be read"):
        methods.load(tmp_path, lm)
    about = json.loads((tmp_path / "estimator.json").read_text())
    for change, message in (
        ({"version": 99}, "version 99"),
        ({"method": "magic"}, "magic"),
        ({"spec": {"width": 3}}, "width"),
    ):
        (tmp_path / "estimator.json").write_text(json.dumps(about | change))
        seal(tmp_path)
        with pytest.raises(BundleError, match=message):
            methods.load(tmp_path, lm)
    (tmp_path / "estimator.json").write_text("{")
    seal(tmp_path)
    with pytest.raises(BundleError, match="not JSON"):
        methods.load(tmp_path, lm)


# one by one ------------------------------------------------------------------------------------


def test_subject_prior_by_hand() -> None:
    """Worked by hand: 3 of 4 right in A, 0 of 1 in B; overall 3/5, strength 5.

    A: (3 + 5 × 0.6) / (4 + 5) = 6/9; B: (0 + 3) / (1 + 5) = 0.5; unseen: 0.6.
    """
    base = ANSWERS[0]
    train = [
        GradedAnswer(replace(base, subject=s, question_id=str(i)), ok, "match")
        for i, (s, ok) in enumerate([("A", True)] * 3 + [("A", False), ("B", False)])
    ]
    e = methods.fit(methods.spec_from("subject_prior", {"strength": 5.0}), None, train, [])  # type: ignore[arg-type]
    p = e.p_correct([replace(base, subject=s) for s in "ABC"])
    np.testing.assert_allclose(p, [6 / 9, 0.5, 0.6])


def test_likelihood_needs_it() -> None:
    e = methods.fit(methods.default_spec("likelihood"), None, [], [])  # type: ignore[arg-type]
    with pytest.raises(PredictionsError, match="carries no likelihood"):
        e.p_correct([replace(ANSWERS[0], likelihood=None)])


def test_zero_shot_is_the_softmax_over_the_two_options(own_lm: LanguageModel) -> None:
    """Against one plain forward pass per prompt through transformers."""
    p = methods.fit(methods.default_spec("zero_shot"), own_lm, [], []).p_correct(ANSWERS)
    for k, a in enumerate(ANSWERS):
        text = (
            f"{a.prompt} {a.text}\n\nIs the proposed answer correct?\n"
            "Choices:\n(i): no\n(ii): yes\nAnswer:"
        )
        ids = own_lm.tokens.encode([text])
        no, yes = (own_lm.tokens.encode([text + o])[0][-1] for o in (" i", " ii"))
        with torch.inference_mode():
            logits = own_lm._model(input_ids=torch.tensor(ids)).logits[0, -1].double()
        np.testing.assert_allclose(p[k], logits[[no, yes]].softmax(0)[1], atol=1e-5)


@pytest.mark.parametrize("method", ["probe", "lora", "lora_prompt"])
def test_training_learns_what_can_be_learned(make_lm, method: str) -> None:
    """Correct exactly when the answer is "Paris": each trained method must find that."""
    lm = make_lm("llama")
    learnable = [replace(g, is_correct=g.answer.text == "Paris") for g in graded(120, seed=7)]
    schedule = {"steps": 150, "batch_size": 16, "learning_rate": 3e-3, "evaluations": 5}
    e = methods.fit(
        methods.spec_from(method, {"schedule": schedule}), lm, learnable[:80], learnable[80:100]
    )
    p = e.p_correct([g.answer for g in learnable[100:]])
    y = np.array([g.is_correct for g in learnable[100:]])
    assert p[y].min() > p[~y].max()


def test_divergence_keeps_the_answers_near_the_bare_model(make_lm) -> None:
    """A heavier Jensen-Shannon term must leave the answer distribution closer to the base's."""
    moved = []
    for weight in (0.0, 30.0):
        lm = make_lm("llama")
        passages = [Passage.of(a) for a in ANSWERS]
        schedule = {"steps": 40, "batch_size": 8, "learning_rate": 5e-3, "evaluations": 1}
        spec = methods.spec_from("lora_prompt", {"divergence_weight": weight, "schedule": schedule})
        e = methods.fit(spec, lm, TRAIN, VALID)
        (base,) = lm.read(passages, [Hidden(Place.QUESTION)])
        (adapted,) = lm.read(passages, [Hidden(Place.QUESTION)], adapter=e.adapter)
        log_p, log_q = (lm.logits(torch.from_numpy(h)).log_softmax(-1) for h in (adapted, base))
        moved.append(float(jensen_shannon(log_p, log_q).mean()))
    assert moved[1] < moved[0] / 2


@given(
    st.lists(st.floats(-30, 30), min_size=4, max_size=4),
    st.lists(st.floats(-30, 30), min_size=4, max_size=4),
)
def test_jensen_shannon_against_scipy(a: list[float], b: list[float]) -> None:
    from scipy.special import rel_entr

    x, y = (torch.tensor([v], dtype=torch.float64) for v in (a, b))
    ours = float(jensen_shannon(x.log_softmax(-1), y.log_softmax(-1)))
    p, q = x.softmax(-1).numpy(), y.softmax(-1).numpy()
    theirs = (rel_entr(p, (p + q) / 2).sum() + rel_entr(q, (p + q) / 2).sum()) / 2
    assert math.isclose(ours, theirs, abs_tol=1e-9)
    assert -1e-12 <= ours <= math.log(2) + 1e-9


@given(st.floats(-200, 200))
def test_two_class_probability_is_the_softmax(d: float) -> None:
    p = two_class_probability(torch.tensor([[0.0, d]], dtype=torch.float64))[0]
    assert math.isclose(p, torch.tensor([0.0, d], dtype=torch.float64).softmax(0)[1], rel_tol=1e-9)


def test_the_best_step_is_kept() -> None:
    """Validation loss is lowest after the first evaluation, so its weights must come back."""
    w = torch.nn.Parameter(torch.zeros(1))
    losses = iter([0.5, 0.9, 0.7, 0.8])
    seen: list[float] = []

    def valid_loss() -> float:
        seen.append(float(w.detach()))
        return next(losses)

    fitted = train_loop(
        [w],
        Schedule(steps=40, batch_size=1, learning_rate=0.1, evaluations=4, patience=2),
        lengths=[1, 1, 1],
        loss_of=lambda batch: (w - 5.0).square().sum(),
        valid_loss=valid_loss,
        seed=0,
    )
    assert fitted.best_step == 10
    assert len(fitted.curve) == 3, "two evaluations without a better one end the training"
    assert float(w.detach()) == seen[0]


class Stopped(Exception):
    """What kills a training."""


@dataclass
class Stopping:
    """A checkpoint in memory that kills its training after so many saves."""

    saves: int
    data: bytes | None = None

    def load(self) -> bytes | None:
        return self.data

    def save(self, data: bytes) -> None:
        self.data, self.saves = data, self.saves - 1
        if not self.saves:
            raise Stopped


def held(lm: LanguageModel) -> list[str]:
    """The names of all tensors of a model; its adapters' too."""
    return [name for name, _ in lm._model.named_parameters()]


@pytest.mark.parametrize("method", ["probe", "lora", "lora_prompt"])
def test_a_training_killed_anywhere_ends_in_the_same_bits(
    method: str,
    make_lm: Callable[..., LanguageModel],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lm = make_lm("llama")
    monkeypatch.setattr(checkpoint, "_LEAST", 0.0)
    monkeypatch.setattr(checkpoint, "_SHARE", math.inf)
    settings = {"schedule": QUICK["schedule"] | {"evaluations": 3}}
    if method != "probe":
        settings["adapter"] = {"dropout": 0.3}
    spec = methods.spec_from(method, settings)
    whole = methods.fit(spec, lm, TRAIN, VALID, seed=5)
    methods.save(whole, lm, tmp_path / "whole")
    kept, steps, before = Stopping(0), [], held(lm)
    for saves in (1, 2, 1, 0):  # before, between and after evaluations; then to its end
        kept.saves = saves
        try:
            again = methods.fit(
                spec,
                lm,
                TRAIN,
                VALID,
                seed=5,
                on_progress=lambda step, _: steps.append(step),
                checkpoint=kept,
            )
        except Stopped:
            torch.manual_seed(99)  # another process has other random numbers
            assert held(lm) == before, "the model is as it was"
    assert steps == [1, 2, 3, 4, 5, 6], "each step is made once"
    methods.save(again, lm, tmp_path / "again")
    files = sorted(p.name for p in (tmp_path / "whole").iterdir())
    assert any(name.endswith(".safetensors") for name in files)
    for name in files:
        ours, theirs = (tmp_path / side / name for side in ("again", "whole"))
        assert ours.read_bytes() == theirs.read_bytes(), name
    for estimator in (whole, again):
        methods.release(estimator)


def test_checkpoints_are_rare_where_they_are_dear(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes a second is worth twenty of training; none comes within five."""
    clock = [0.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: clock[0])

    class Slow:
        def __init__(self) -> None:
            self.at: list[float] = []

        def load(self) -> None:
            return None

        def save(self, data: bytes) -> None:
            self.at.append(clock[0])
            clock[0] += 1.0

    def loss_of(batch: object) -> torch.Tensor:
        clock[0] += 0.5
        return (w - 5.0).square().sum()

    w, slow = torch.nn.Parameter(torch.zeros(1)), Slow()
    schedule = Schedule(steps=200, batch_size=1, evaluations=1)
    train_loop(
        [w],
        schedule,
        lengths=[1, 1],
        loss_of=loss_of,
        valid_loss=lambda: 1.0,
        seed=0,
        checkpoint=slow,
    )
    assert slow.at == [5.0, 26.0, 47.0, 68.0, 89.0]


@pytest.mark.parametrize("grouped", [False, True])
def test_an_epoch_visits_every_example_once(grouped: bool) -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 203)
    batches = minibatches(203, 8, np.random.default_rng(1), lengths if grouped else None)
    epoch = [next(batches) for _ in range(26)]
    assert sorted(np.concatenate(epoch)) == list(range(203))
    padded = sum(len(b) * lengths[b].max() for b in epoch)
    assert (padded < 1.2 * lengths.sum()) == grouped
