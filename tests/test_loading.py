"""Loading with options: adapters, revisions, quantisation, remote code; what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_model, make_tokenizer
from families import shrunk_model
from loopback import listening
from transformers import LlamaConfig, LlamaForCausalLM

from howsure import lm as seam
from howsure.errors import ModelError, UnknownName, UsageError
from howsure.lm import Hidden, LoadOptions, Passage, Place
from howsure.lm.adapters import LoraSettings
from howsure.lm.model import LanguageModel
from howsure.lm.precision import pick_dtype
from howsure.spec import build, read_recipe

PASSAGES = [Passage("", "Question: Which is it?\nAnswer:", " Paris")]


def read(lm: LanguageModel) -> np.ndarray:
    return lm.read(PASSAGES, [Hidden(Place.ANSWER)])[0]


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PEFT adapter of the random Llama, that changes it; with the base's name in its config."""
    lm = LanguageModel(make_model("llama"), make_tokenizer(), name="random-llama")
    name = lm.adapters.add(LoraSettings(), seed=1)
    with torch.no_grad():
        for w in lm.adapters.weights(name):
            w.add_(0.05)
    folder = tmp_path_factory.mktemp("adapter")
    lm.adapters.save(name, folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "meta-llama/Llama-2-7b-hf"
    (folder / "adapter_config.json").write_text(json.dumps(config))
    lm.adapters.using(name)
    np.save(folder / "expected.npy", lm.read(PASSAGES, [Hidden(Place.ANSWER)], adapter=name)[0])
    return folder


def test_an_adapter_is_merged(checkpoint: Callable[[str], Path], adapter: Path) -> None:
    folder = str(checkpoint("llama"))
    plain = seam.load(folder, device="cpu")
    adapted = seam.load(folder, device="cpu", options=LoadOptions(adapter=str(adapter)))
    expected = np.load(adapter / "expected.npy")
    np.testing.assert_allclose(read(adapted), expected, atol=1e-5)
    assert np.abs(read(plain) - expected).max() > 1e-3
    assert adapted.parameters == plain.parameters
    assert adapted.fingerprint != plain.fingerprint
    assert not [n for n, _ in adapted._model.named_parameters() if "lora" in n]


def test_an_adapter_of_another_model_is_refused(
    checkpoint: Callable[[str], Path], adapter: Path, tmp_path: Path
) -> None:
    other = str(checkpoint("mistral"))
    with pytest.raises(
        ModelError, match=r"does not fit model .* belongs to 'meta-llama/Llama-2-7b"
    ):
        seam.load(other, device="cpu", options=LoadOptions(adapter=str(adapter)))
    from howsure.lm.merging import check_base, read_adapter

    config, _ = read_adapter(adapter)
    check_base(config, adapter, "llama2:7b")
    check_base(config, adapter, str(tmp_path))
    with pytest.raises(ModelError, match="was made for 'meta-llama/Llama-2-7b-hf'"):
        check_base(config, adapter, "llama2:7b-chat")


def test_unusable_adapters(
    checkpoint: Callable[[str], Path], adapter: Path, tmp_path: Path
) -> None:
    folder = str(checkpoint("llama"))

    def load(path: Path | str) -> None:
        seam.load(folder, device="cpu", options=LoadOptions(adapter=str(path)))

    with pytest.raises(ModelError, match="does not exist"):
        load(tmp_path / "none")
    broken = tmp_path / "broken"
    shutil.copytree(adapter, broken)
    (broken / "adapter_model.safetensors").write_bytes(b"no")
    with pytest.raises(ModelError, match="can't be read"):
        load(broken)
    (broken / "adapter_model.safetensors").rename(broken / "adapter_model.bin")
    with pytest.raises(ModelError, match="only pickled weights"):
        load(broken)
    (broken / "adapter_model.bin").unlink()
    with pytest.raises(ModelError, match="has no weights"):
        load(broken)
    shutil.copy(adapter / "adapter_model.safetensors", broken)
    (broken / "adapter_config.json").write_text('{"peft_type": "PREFIX_TUNING"}')
    with pytest.raises(ModelError, match="only LORA"):
        load(broken)


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    shrunk_model("llama2-7b").save_pretrained(tmp_path)
    big = make_tokenizer()
    big.add_tokens([f"word{i}" for i in range(32000)])
    big.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"ids up to 32\d+, but the model only 32000 rows"):
        seam.load(str(tmp_path), device="cpu")


def test_a_sentencepiece_file_alone_is_not_trusted(tmp_path: Path) -> None:
    """transformers orders the merges of Mistral's tokenizer.model wrongly; see `_check_pieces`."""
    pytest.importorskip("mistral_common", reason="mistral-common is not installed")
    from tokenizers_of_all_kinds import mistral

    right = mistral("v1", None, tmp_path)
    shrunk_model("mistral-7b-v0.1").save_pretrained(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    with pytest.raises(ModelError, match=r"put the published tokenizer\.json into its folder"):
        seam.load(str(tmp_path), device="cpu")
    right.save_pretrained(tmp_path)
    assert (tmp_path / "tokenizer.json").is_file()
    lm = seam.load(str(tmp_path), device="cpu")
    # "Choices:", line break, one space, " (", "a", "):"
    assert lm.tokens.encode(["Choices:\n  (a):"])[0][-4:] == [28705, 325, 28708, 1329]


def test_a_revision_of_a_folder_is_refused(checkpoint: Callable[[str], Path]) -> None:
    with pytest.raises(ModelError, match="--revision v1 has no effect on the local model"):
        seam.load(str(checkpoint("llama")), options=LoadOptions(revision="v1"))


def test_short_names_are_looked_up_on_the_hub() -> None:
    with pytest.raises(ModelError, match=r"'meta-llama/Llama-2-7b-hf' at revision 'main' is not"):
        seam.load("llama2:7b")
    with pytest.raises(UnknownName, match="did you mean 'llama2:7b'"):
        seam.load("llama2:7")


def test_options_that_make_no_sense() -> None:
    for options, message in (
        ({"quantize": "3bit"}, "unknown quantisation"),
        ({"attention": "sparse"}, "unknown attention implementation"),
        ({"device_map": "everywhere"}, "unknown device map"),
        ({"quantize": "8bit", "adapter": "a/b"}, "can't be merged"),
    ):
        with pytest.raises(UsageError, match=message):
            LoadOptions(**options)
    for options, message in (
        ({"revision": "v1"}, "belongs to one model"),
        ({"revision": "v1", "models": ("a/b", "c/d")}, "belongs to one model"),
        ({"trust_remote_code": ("a/b",), "models": ("a/c",)}, "no such --model is asked for"),
    ):
        with pytest.raises(UsageError, match=message):
            build(None, options)
    spec = build(None, {"models": ("a/b",), "quantize": "4bit", "attention": "sdpa"})
    assert spec.load == LoadOptions(quantize="4bit", attention="sdpa")


def test_recipes_hold_load_options() -> None:
    made = read_recipe('[load]\nquantize = "8bit"\ntrust_remote_code = ["a/b"]', "r")
    assert made["load"] == LoadOptions(quantize="8bit", trust_remote_code=("a/b",))
    with pytest.raises(UnknownName, match=r"load\.quantise"):
        read_recipe('[load]\nquantise = "8bit"', "r")


def test_remote_code_runs_only_by_name(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tmp_path / "remote"
    shutil.copytree(checkpoint("llama"), folder)
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "their_own"}
    config["auto_map"] = {"AutoConfig": "code.Config"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text("raise ValueError('their code ran')")
    with pytest.raises(ModelError, match="--trust-remote-code"):
        seam.load(str(folder), options=LoadOptions(trust_remote_code=("another",)))
    with pytest.raises(ModelError, match="their code ran"):
        seam.load(str(folder), options=LoadOptions(trust_remote_code=(str(folder),)))


@pytest.mark.parametrize("kind", ["eager", "sdpa"])
def test_attention_is_what_was_asked_for(checkpoint: Callable[[str], Path], kind: str) -> None:
    lm = seam.load(str(checkpoint("mistral")), options=LoadOptions(attention=kind))
    assert lm._model.config._attn_implementation == kind
    plain = seam.load(str(checkpoint("mistral")))
    np.testing.assert_allclose(read(lm), read(plain), atol=1e-5)


def test_flash_attention_is_not_fetched(checkpoint: Callable[[str], Path]) -> None:
    with pytest.raises(ModelError, match=r"needs the package 'flash_attn'.*--attention sdpa"):
        seam.load(str(checkpoint("llama")), options=LoadOptions(attention="flash_attention_2"))


def test_a_device_map_gives_the_same_model(checkpoint: Callable[[str], Path]) -> None:
    folder = str(checkpoint("llama"))
    spread = seam.load(folder, device="cpu", options=LoadOptions(device_map="auto"))
    np.testing.assert_allclose(read(spread), read(seam.load(folder, device="cpu")), atol=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["8bit", "4bit"])
def test_quantised_weights_are_near_the_stored_ones(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("bitsandbytes", reason="the extra 'quant' is not installed")
    # Its shapes are those that the library's kernels can take: multiples of 64.
    wide = LlamaConfig(
        vocab_size=360,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        initializer_range=0.1,
    )
    LlamaForCausalLM(wide).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    folder = str(tmp_path)
    plain = seam.load(folder, device="cpu")
    small = seam.load(folder, device="cpu", options=LoadOptions(quantize=kind))
    assert small.parameters == plain.parameters
    a, b = read(plain), read(small)
    assert 0 < np.abs(a - b).max() < (0.2 if kind == "8bit" else 2.0) * np.abs(a).max()
    name = small.adapters.add(LoraSettings(), seed=1)
    small.adapters.remove(name)
    np.testing.assert_array_equal(read(small), b)


def test_quantisation_without_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    from howsure.lm import precision

    monkeypatch.setattr(precision, "find_spec", lambda _: None)
    with pytest.raises(ModelError, match=r"pip install 'howsure\[quant\]'"):
        precision.quantisation("8bit", torch.float32)


def test_dtypes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pick_dtype("auto", "cpu", "bfloat16") == torch.float32
    assert pick_dtype("float16", "cpu") == torch.float16
    with pytest.raises(UnknownName, match="unknown dtype"):
        pick_dtype("float8", "cpu")
    has = True
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has)
    assert pick_dtype("auto", "cuda", "float16") == torch.bfloat16
    has = False
    assert pick_dtype("auto", "cuda", "float16") == torch.float16
    assert pick_dtype("auto", "cuda", "bfloat16") == torch.float32


# the Hub, by a server of our own on loopback ----------------------------------------------------


class _Hub(BaseHTTPRequestHandler):
    """Answers as the Hub does to what can't be had: a code and its name in a header."""

    def do_GET(self) -> None:
        code, error = 404, "RepoNotFound"
        if "gated" in self.path:
            code, error = 403, "GatedRepo"
        elif "some/model" in self.path:
            code, error = 404, "RevisionNotFound"
        self.send_response(code)
        self.send_header("X-Error-Code", error)
        self.send_header("X-Error-Message", error)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815


@pytest.fixture
def hub() -> Iterator[str]:
    with listening(_Hub) as address:
        yield address


def test_what_the_hub_refuses_is_said_in_one_line(hub: str, tmp_path: Path) -> None:
    code = """
from howsure.errors import ModelError
from howsure.lm.loading import find_checkpoint
from howsure.lm.options import LoadOptions
for name, revision in (("some/gated", None), ("some/model", "v9"), ("some/none", None)):
    try:
        find_checkpoint(name, LoadOptions(revision=revision))
    except ModelError as error:
        print(error)
"""
    environment = {
        "HF_ENDPOINT": hub,
        "HF_HOME": str(tmp_path),
        "HF_HUB_OFFLINE": "0",
        "PATH": "",
        "PYTHONPATH": str(Path(seam.__file__).parents[2]),
        "no_proxy": "127.0.0.1",
    }
    made = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120
    )
    gated, revision, missing = made.stdout.splitlines()
    assert "'some/gated' is gated: accept its licence" in gated and "HF_TOKEN" in gated
    assert "'some/model' has no revision 'v9'" in revision
    assert "'some/none' is no local folder and not on the Hub" in missing
