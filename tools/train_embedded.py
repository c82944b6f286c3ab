"""Train the embedded models from scratch.

    python tools/train_embedded.py --out build/embedded                      # all six
    python tools/train_embedded.py --out build/embedded tiny-llama-s         # one of them

Seeded and counted in steps, so a run can be repeated. One thread each: on two cores, two
processes beat two threads. On a GPU it takes minutes. Chat models need their base in --out.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from embedded_corpus import CHAT_TEMPLATE, batches, corpus_hash, train_tokenizer
from embedded_specs import CONTEXT, MODELS, VOCABULARY, EmbeddedModel
from muon import Muon
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)


def build(spec: EmbeddedModel, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    shape = {
        "vocab_size": VOCABULARY,
        "hidden_size": spec.hidden,
        "num_hidden_layers": spec.layers,
        "num_attention_heads": spec.heads,
        "num_key_value_heads": spec.kv_heads,
        "head_dim": spec.hidden // spec.heads,
        "intermediate_size": spec.intermediate,
        "max_position_embeddings": CONTEXT,
        "rope_theta": 1000.0,
        "tie_word_embeddings": True,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if spec.architecture == "mistral":
        return MistralForCausalLM(MistralConfig(**shape, sliding_window=spec.sliding_window))
    return LlamaForCausalLM(LlamaConfig(**shape))


def weighted_loss(model: PreTrainedModel, ids: Tensor, weights: Tensor) -> Tensor:
    """Mean cross-entropy over tokens, weighted; logits only where a weight is."""
    hidden = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
    targets, weight = ids[:, 1:], weights[:, 1:]
    where = weight > 0
    logits = model.lm_head(hidden[where])
    losses = torch.nn.functional.cross_entropy(logits, targets[where], reduction="none")
    return (losses * weight[where]).sum() / weight.sum()


def train(spec: EmbeddedModel, out: Path, device: str) -> None:
    torch.manual_seed(spec.seed)
    tokenizer = train_tokenizer()
    if spec.start_from is None:
        model = build(spec, tokenizer)
    else:
        model = AutoModelForCausalLM.from_pretrained(
            out / spec.start_from, dtype=torch.float32, use_safetensors=True
        )
    model = model.to(device).train()
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if not (p.ndim == 2 and "embed" not in n)]
    optimizers = [
        Muon(matrices, lr=spec.muon_lr),
        torch.optim.AdamW(others, lr=spec.adam_lr, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    peaks = (spec.muon_lr, spec.adam_lr)
    tokens, started, recent = 0, time.perf_counter(), 0.0
    stream = batches(tokenizer, spec.mixture, spec.seed, spec.batch_tokens)
    for step in range(spec.steps):
        rate = min(1.0, (step + 1) / 100, 2 * (spec.steps - step) / spec.steps)
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * rate
        ids, weights = (torch.from_numpy(a).to(device) for a in next(stream))
        loss = weighted_loss(model, ids, weights)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        tokens += ids.numel()
        recent += loss.item()
        if (step + 1) % 200 == 0:
            seconds = time.perf_counter() - started
            print(
                f"{spec.name} step {step + 1}/{spec.steps} loss {recent / 200:.4f} "
                f"{tokens / 1e6:.1f}M tokens {tokens / seconds:.0f} tokens/s",
                flush=True,
            )
            recent = 0.0
        if (step + 1) % 2000 == 0 or step + 1 == spec.steps:
            save(spec, model, tokenizer, out / spec.name, tokens, step + 1)


def save(
    spec: EmbeddedModel,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
    tokens: int,
    steps: int,
) -> None:
    """The model as float16 safetensors with its tokenizer, and what it was trained on."""
    folder.mkdir(parents=True, exist_ok=True)
    half = build(spec, tokenizer)
    half.load_state_dict(model.state_dict())
    half.to(torch.float16).save_pretrained(folder)
    if spec.is_chat:
        tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    record = {
        "name": spec.name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "tokens": tokens,
        "steps": steps,
        "seed": spec.seed,
        "start_from": spec.start_from,
        "grading_share": spec.mixture.grading,
        "chat_share": spec.mixture.chat,
        "corpus_sha256": corpus_hash(spec.seed),
    }
    (folder / "training.json").write_text(json.dumps(record, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="models to train (default: all)")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, help="fewer steps, for a trial")
    args = parser.parse_args()
    known = {m.name: m for m in MODELS}
    for name in args.names or known:
        if name not in known:
            parser.error(f"unknown model {name!r}; known: {', '.join(known)}")
        spec = known[name]
        if args.steps:
            spec = type(spec)(**{**spec.__dict__, "steps": args.steps})
        train(spec, args.out, args.device)


if __name__ == "__main__":
    main()
