"""Shared fixtures: small random models of the architectures in use, made on the spot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from howsure.lm.model import LanguageModel

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real questions and recorded predictions beside the checkout, where they are present."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the shared data folder is not beside this checkout")
    return SHARED / "data"


def make_tokenizer(merges: tuple[str, ...] = ("i", "ii", "a", "b", "c", "d")):
    """Byte-level BPE that knows " i", " ii", " a" … as single tokens; BOS in front."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    words = [
        "Question",
        "Answer",
        "correct",
        "proposed",
        "Choices",
        "What",
        "is",
        "the",
        "of",
        "and",
        "Which",
        "Paris",
    ]
    texts = [" ".join(["x", *merges]) for _ in range(50)] + [" ".join(["x", *words])] * 20
    core.train_from_iterator(texts, trainer)
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )


def make_model(architecture: str, *, sliding_window: int = 16, seed: int = 0):
    """A random Llama, or a Mistral with grouped-query attention and a small sliding window."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

    shape = {
        "vocab_size": 360,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 2048,
        "initializer_range": 0.2,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 2,
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if architecture == "llama":
            config = LlamaConfig(**shape, num_key_value_heads=4, tie_word_embeddings=False)
            return LlamaForCausalLM(config).eval()
        config = MistralConfig(
            **shape, num_key_value_heads=2, tie_word_embeddings=True, sliding_window=sliding_window
        )
        return MistralForCausalLM(config).eval()


@pytest.fixture(scope="session")
def make_lm() -> Callable[..., LanguageModel]:
    """A function that makes a new LanguageModel: `make_lm("llama")`, `make_lm("mistral")`."""

    def make(architecture: str, *, engine: str = "auto", **settings: int) -> LanguageModel:
        return LanguageModel(
            make_model(architecture, **settings),
            make_tokenizer(),
            name=f"random-{architecture}",
            engine=engine,
        )

    return make


@pytest.fixture(scope="session", params=["llama", "mistral"])
def lm(request: pytest.FixtureRequest, make_lm: Callable[..., LanguageModel]) -> LanguageModel:
    """One random model of each architecture; tests must leave it as they found it."""
    return make_lm(request.param)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function that gives a saved random checkpoint's folder."""
    made: dict[str, Path] = {}

    def save(architecture: str) -> Path:
        if architecture not in made:
            folder = tmp_path_factory.mktemp("checkpoints") / f"random-{architecture}"
            make_model(architecture).save_pretrained(folder)
            make_tokenizer().save_pretrained(folder)
            made[architecture] = folder
        return made[architecture]

    return save
