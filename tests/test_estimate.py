"""`howsure run --dry-run`: what is counted, against counting it the long way."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from howsure import lm as seam
from howsure.asking import Asking, ask
from howsure.cli import main
from howsure.errors import QuestionError, UnknownName
from howsure.estimate import costs, estimate
from howsure.lm import Place
from howsure.lm.devices import Device, known_devices, this_machine
from howsure.plan import prepare
from howsure.prompts import CORRECTNESS_QUERY
from howsure.spec import RunSpec, build

COLUMNS = (
    *("Llama-2-7b-hf", "Llama-2-7b-chat-hf", "Llama-2-13b-hf", "Llama-2-13b-chat-hf"),
    *("Mistral-7B-v0.1", "Mistral-7B-Instruct-v0.2"),
)


def small(questions: str, **changes: object) -> RunSpec:
    """With training questions beside the evaluated ones where a method is trained."""
    asked = {"models": ("tiny-llama-s",), "questions": questions, "formats": ("choice",)}
    if "lora" in changes.get("methods", ()):  # type: ignore[operator]
        asked["train_questions"] = (str(Path(questions).with_name("train.jsonl")),)
    return build(None, {**asked, **changes})


@pytest.fixture
def mine(tmp_path: Path) -> str:
    """Hendrycks' layout: two subjects with five examples each."""
    for split, n in (("dev", 5), ("val", 8), ("test", 12)):
        folder = tmp_path / "mine" / split
        folder.mkdir(parents=True)
        for subject in ("algebra", "geology"):
            rows = [f"{subject} {split} {'very ' * i}long?,one,two,three,four,B" for i in range(n)]
            (folder / f"{subject}_{split}.csv").write_text("\n".join(rows))
    made = [
        {"id": f"t{i}", "question": f"What is {i}?", "choices": ["a", str(i)], "answer": 1}
        for i in range(40)
    ]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, made)))
    return str(tmp_path / "mine")


@pytest.mark.parametrize("choose_by", ["letter", "text"])
def test_tokens_are_those_of_the_prompts(mine: str, choose_by: str) -> None:
    spec = small(mine, choose_by=choose_by, methods=("zero_shot", "likelihood"))
    (unit,) = estimate(spec).units
    plan, lm = prepare(spec), seam.load("tiny-llama-s", device="cpu")
    assert unit.exact and unit.size.parameters == lm.parameters
    query = len(lm.tokens.encode([CORRECTNESS_QUERY])[0]) - 1
    for stage, questions in (("validation", plan.valid), ("test", plan.test)):
        asked = ask(
            lm, questions, plan.examples, Asking(), options=choose_by == "letter", max_tokens=1
        )
        whole = [p.passage.upto(Place.QUESTION) for p in asked]
        shared = {p.passage.prefix for p in asked}
        prefix = {p: len(lm.tokens.encode([p])[0]) for p in shared}
        answers = len(questions)
        if choose_by == "text":
            answers = sum(
                len(lm.tokens.encode([f" {c}"])[0]) - 1 for q in questions for c in q.choices
            )
        expected = sum(prefix.values()) + answers + query * len(questions)
        expected += sum(
            len(ids) - prefix[p.passage.prefix]
            for ids, p in zip(lm.tokens.encode(whole), asked, strict=True)
        )
        (found,) = (s.tokens for s in unit.stages if s.name == f"answer {stage}")
        # The beginning-of-text token of each prefix is not counted; borders may split otherwise.
        assert found == pytest.approx(expected, abs=len(shared) + len(questions))


def test_what_changes_the_cost(mine: str) -> None:
    def cost(**changes: object) -> costs.UnitCost:
        (unit,) = estimate(small(mine, **changes)).units
        return unit

    plain = cost(methods=("zero_shot",))
    assert plain.adapter is None and plain.batch == 0
    assert cost(methods=("zero_shot",), shuffle_shots=True).tokens > 2 * plain.tokens
    assert cost(methods=("likelihood",)).tokens < plain.tokens
    one = cost(methods=("zero_shot", "lora"))
    two = cost(methods=("zero_shot", "lora", "lora_prompt"))
    assert [s.name for s in two.stages][-2:] == ["fit lora_prompt", "predict lora_prompt"]
    assert plain.flops < one.flops < two.flops
    assert one.memory("float32") > one.memory("bfloat16") > 0
    assert replace(one, quantize="4bit").weight_bytes("bfloat16") < one.weight_bytes("bfloat16")
    fast = Device("a", 1e12, 1e12, 1 << 40)
    assert one.seconds(fast) == pytest.approx(10 * one.seconds(replace(fast, flops=1e13)))
    written = cost(methods=("zero_shot",), formats=("open",))
    slow = replace(fast, bandwidth=1e6)
    assert written.seconds(slow) > written.seconds(fast)
    steps = sum(s.decoding_steps for s in written.stages)
    endless = replace(fast, bandwidth=1e30)
    least = written.seconds(endless) - written.flops / (costs.SHARE * endless.flops)
    assert steps and least == pytest.approx(steps * written.size.layers * costs.LAYER_SECONDS)


def test_those_who_train_together_share_training_alone(mine: str) -> None:
    device = Device("a", 1e12, 1e12, 1 << 40)
    alone, together = (
        estimate(small(mine, methods=("zero_shot", "lora"), trainers=n)) for n in (1, 4)
    )
    assert not any("such devices at once" in note for note in alone.notes)
    assert any("on 4 such devices at once" in note for note in together.notes)
    (one,), (four,) = alone.units, together.units
    fit = sum(s.flops for s in one.stages if s.name.startswith("fit"))
    saved = one.seconds(device) - four.seconds(device)
    assert saved == pytest.approx(0.75 * fit / (costs.SHARE * device.flops))
    long_one, long_four = (replace(u, batch=10**7).memory("float32") for u in (one, four))
    assert four.flops == one.flops and long_four < long_one


def test_training_is_steps_times_batch(mine: str) -> None:
    schedule = {"steps": 10, "batch_size": 4, "evaluations": 0}
    settings = {"lora": {"schedule": schedule}}
    spec = small(mine, methods=("lora",))
    (once,) = estimate(replace(spec, settings=settings)).units
    schedule["steps"] = 20
    (twice,) = estimate(replace(spec, settings=settings)).units
    fits = [next(s for s in u.stages if s.name == "fit lora") for u in (once, twice)]
    assert fits[1].tokens == 2 * fits[0].tokens and fits[1].flops == 2 * fits[0].flops
    # Forwards and backwards: twice a reading's FLOPs, 2 per token and weight each.
    assert fits[0].flops > 4 * fits[0].tokens * once.size.matmul_parameters


def test_the_six_columns_offline(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOWSURE_DATA", raising=False)
    with pytest.raises(SystemExit) as ended:
        main(["run", "kapoor2024", "--dry-run"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    lines = [line.split() for line in text.splitlines()]
    rows = {(w[0], w[1]): w[2:] for w in lines if w and w[0] in COLUMNS}
    assert set(rows) == {(m, f) for m in COLUMNS for f in ("open", "choice")}
    assert rows["Llama-2-13b-chat-hf", "choice"][:2] == ["13,015,864,320", "6,553,600"]
    assert rows["Mistral-7B-v0.1", "open"][:2] == ["7,241,732,096", "3,407,872"]
    assert rows["Llama-2-7b-hf", "open"][4] == "524,288"
    assert "…" not in text, "a figure is cut short"
    for line in ("q_proj 4096 → 4096 (×32), v_proj 4096 → 1024 (×32)", "H100 SXM", "A100 80GB"):
        assert line in text
    assert "counts of the published setting stand in" in text


@pytest.mark.parametrize("format", ["open", "choice"])
def test_published_counts_are_those_of_the_real_questions(shared_data: Path, format: str) -> None:
    """What stands in for MMLU where it is not at hand, against MMLU."""
    changes = {
        "models": ("llama2:7b",),
        "methods": ("zero_shot",),
        "formats": (format,),
        "questions": "mmlu",
    }
    real = build("kapoor2024", {**changes, "data_dir": shared_data / "questions"})
    real = replace(real, train_questions=())
    (counted,), (stand_in,) = (
        estimate(real).units,
        (costs.of_unit(real, None, "llama2:7b", format),),
    )
    assert not counted.exact and not stand_in.exact
    for a, b in zip(counted.stages, stand_in.stages, strict=True):
        assert a.name == b.name
        assert a.tokens == pytest.approx(b.tokens, rel=0.05)
        assert a.flops == pytest.approx(b.flops, rel=0.05)


def test_what_can_not_be_told(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="unknown model 'llama9:7b'"):
        estimate(build(None, {"models": ("llama9:7b",), "limit": 2}))
    with pytest.raises(QuestionError, match="there is no such file"):
        estimate(small(str(tmp_path / "none.jsonl"), methods=("zero_shot",)))


def test_devices() -> None:
    machine = this_machine("cpu", "auto")
    assert machine.measured and machine.dtype == "float32" and machine.name == "this machine"
    assert 1e8 < machine.flops < 1e15 and 1e7 < machine.bandwidth < 1e14
    assert machine.memory > 1 << 28
    names = [d.name for d in known_devices()]
    assert len(set(names)) == len(names)
    rates = np.array([(d.flops, d.bandwidth, d.memory) for d in known_devices()])
    assert (rates > 1e10).all()


def test_a_dry_run_reads_no_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder with a config and weights that are no weights."""
    import shutil

    import howsure

    source = Path(howsure.__file__).parent / "embedded" / "tiny-mistral"
    folder = tmp_path / "model"
    shutil.copytree(source, folder)
    (folder / "model.safetensors").write_bytes(b"nothing")
    config = json.loads((folder / "config.json").read_text())
    with pytest.raises(SystemExit) as ended:
        main(["run", "--dry-run", "--model", str(folder), "--limit", "2", "--train-size", "40"])
    assert ended.value.code == 0
    kv = 2 * 4 * config["num_hidden_layers"] // 2 * config["num_key_value_heads"]
    head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    assert f"{kv * head:,}" in capsys.readouterr().out
