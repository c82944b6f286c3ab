"""Tokenizers and chat templates of the kinds that published models have.

The templates are written here after the formats that the models' cards describe. Mistral's
tokenizers are the real ones, from the package mistral-common.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import make_tokenizer

ALTERNATE = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}"
)
LLAMA_2 = ALTERNATE + (
    "{% for m in messages %}{% if m.role == 'user' %}"
    "{{ bos_token + '[INST] ' + m.content.strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
MISTRAL = (
    "{{ bos_token }}"
    + ALTERNATE
    + (
        "{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
        "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
    )
)
CHATML = (
    "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}"
    "{% endif %}{% for m in messages %}"
    "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# As Qwen 3 does without reasoning: the opening holds an empty stretch of it, later turns don't.
THINKING = CHATML.replace(
    "{{ '<|im_start|>assistant\n' }}",
    "{{ '<|im_start|>assistant\n' }}{% if enable_thinking is false %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}",
)
LLAMA_3 = (
    "{{ bos_token }}{% if not date_string is defined %}"
    "{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "{{ '<|im_start|>system<|im_sep|>\n\nToday: ' + date_string + '<|im_end|>' }}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '<|im_sep|>\n\n' + m.content | trim"
    " + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>\n\n' }}{% endif %}"
)
NO_SPECIALS = (
    "{% for m in messages %}{{ m.role.upper() + ': ' + m.content + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


def byte_level(template: str, *, bos: bool, strips: bool = False, pad: bool = True) -> Any:
    """Byte-level BPE; with or without a BOS of its own; an end-of-turn token that swallows the
    white space behind it, as Phi 3 has."""
    from tokenizers import AddedToken, processors

    made = make_tokenizer(("i", "ii", "a", "b", "c", "d", "\nii", "\nii"))
    made.add_special_tokens(
        {
            "additional_special_tokens": [
                AddedToken("<|im_start|>", special=True, normalized=False),
                AddedToken("<|im_end|>", special=True, normalized=False, rstrip=strips),
                AddedToken("<|im_sep|>", special=True, normalized=False),
            ]
        }
    )
    if not bos:
        made.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    if not pad:
        made.pad_token = None
    made.chat_template = template
    return made


def mistral(version: str, template: str | None, folder: Path) -> Any:
    """A real Mistral tokenizer with BOS in front; v1: [INST] is text, v3: a special token."""
    pytest.importorskip("mistral_common", reason="mistral-common is not installed")
    for needed in ("sentencepiece", "google.protobuf"):
        pytest.importorskip(needed, reason=f"{needed} is not installed")
    import mistral_common
    from transformers import LlamaTokenizer

    file = {"v1": "tokenizer.model.v1", "v3": "mistral_instruct_tokenizer_240323.model.v3"}[version]
    source = Path(mistral_common.__file__).parent / "data" / file
    (folder / "tokenizer.model").write_bytes(source.read_bytes())
    made = LlamaTokenizer.from_pretrained(folder, add_bos_token=True, add_eos_token=False)
    _order_merges(made, source)
    made.chat_template = template
    return made


def _order_merges(tokenizer: Any, file: Path) -> None:
    """Merges by the pieces' scores, as in the tokenizer.json that is published beside the file.

    transformers 5.23 puts them in the order of the ids, in which runs of spaces come first.
    """
    import json

    from sentencepiece import SentencePieceProcessor
    from tokenizers import Tokenizer
    from transformers.convert_slow_tokenizer import generate_merges

    pieces = SentencePieceProcessor(str(file))
    scores = [(pieces.id_to_piece(i), pieces.get_score(i)) for i in range(len(pieces))]
    whole = json.loads(tokenizer.backend_tokenizer.to_str())
    merges = generate_merges(whole["model"]["vocab"], scores)
    whole["model"]["merges"] = [list(pair) for pair in merges]
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(whole))


def append_eos(template: str | None = None) -> Any:
    """A tokenizer that ends every text with its end token, as some are saved."""
    from tokenizers import processors

    made = make_tokenizer()
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    made.chat_template = template
    return made


KINDS = (
    *("chatml", "chatml-pad", "thinking", "llama3", "phi3", "plain"),
    *("mistral-v1", "mistral-v3", "llama2"),
)


def of_kind(kind: str, folder: Path) -> Any:
    match kind:
        case "chatml":
            return byte_level(CHATML, bos=False)
        case "chatml-pad":
            return byte_level(CHATML, bos=True, pad=False)
        case "thinking":
            return byte_level(THINKING, bos=False)
        case "llama3":
            return byte_level(LLAMA_3, bos=True)
        case "phi3":
            return byte_level(CHATML, bos=False, strips=True)
        case "plain":
            return byte_level(NO_SPECIALS, bos=True)
        case "mistral-v1":
            return mistral("v1", MISTRAL, folder)
        case "mistral-v3":
            return mistral("v3", MISTRAL, folder)
        case "llama2":
            return mistral("v1", LLAMA_2, folder)
    raise AssertionError(kind)
