"""Greedy continuations of many texts at once, by transformers' own generation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import GenerationConfig

from howsure.lm.passage import Generation
from howsure.lm.tokens import Tokens


def greedy(
    model: Any, tokens: Tokens, sequences: Sequence[list[int]], *, max_tokens: int
) -> list[Generation]:
    """One continuation per sequence, up to a stop token or `max_tokens` tokens.

    Here padding stands on the left, so that all rows grow at the same end. The checkpoint's own
    generation settings (sampling, penalties) are not used.
    """
    longest = max(map(len, sequences))
    pad = tokens.pad_id
    ids = torch.tensor([[pad] * (longest - len(s)) + s for s in sequences])
    mask = torch.tensor([[0] * (longest - len(s)) + [1] * len(s) for s in sequences])
    made = model.generate(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        generation_config=GenerationConfig(
            do_sample=False,
            max_new_tokens=max_tokens,
            eos_token_id=list(tokens.stop_ids),
            pad_token_id=pad,
            return_dict_in_generate=True,
            output_logits=True,
        ),
    )
    new = made.sequences[:, longest:]
    steps = torch.stack(
        [
            logits.float().log_softmax(-1).gather(1, new[:, [t]]).squeeze(1)
            for t, logits in enumerate(made.logits)
        ],
        dim=1,
    )
    stops = set(tokens.stop_ids)
    out = []
    for row, scores in zip(new.tolist(), steps.tolist(), strict=True):
        n = next((t for t, token in enumerate(row) if token in stops), len(row))
        kept = max(n, 1)
        text = tokens.decode(row[:n]).strip()
        out.append(Generation(text, float(sum(scores[:kept])), kept))
    return out
