"""Where a model computes, and in which numbers: device, dtype, quantisation."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from howsure.errors import ModelError, UnknownName
from howsure.lm.options import DEVICES, DTYPES


def pick_device(device: str) -> str:
    """ "auto" → "cuda" where there is one, else "cpu"."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise ModelError("--device cuda: no CUDA device is visible here; use --device cpu or auto")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device not in DEVICES:
        raise UnknownName("device", device, DEVICES)
    return device


def visible_gpus() -> tuple[str, ...]:
    """The GPUs of this process, as CUDA_VISIBLE_DEVICES names them one by one."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return tuple(named.split(",")[:count]) if named else tuple(map(str, range(count)))


def thread_count() -> int:
    """On how many threads this process computes."""
    import torch

    return int(torch.get_num_threads())


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Within, this process computes on so many threads; None leaves it as it is.

    The last bits of a sum hang on how many threads share it.
    """
    if count is None:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def pick_dtype(dtype: str, device: str, stored: str | None = None) -> Any:
    """The torch dtype to compute in; `stored` is the checkpoint's own ("float16"), if known.

    "auto" is float32 on a CPU whatever the checkpoint stores, because a CPU without bfloat16
    units computes it some 200 times slower. On a GPU it is bfloat16 where the GPU has it (not
    merely emulates it); on an older one float16 for checkpoints that are stored so, because
    weights trained in bfloat16 can overflow in it, and else float32.
    """
    import torch

    if dtype not in DTYPES:
        raise UnknownName("dtype", dtype, DTYPES)
    if dtype != "auto":
        return getattr(torch, dtype)
    if device != "cuda":
        return torch.float32
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return torch.float16 if stored == "float16" else torch.float32


def quantisation(kind: str, dtype: Any) -> Any:
    """The library's configuration for "8bit" or "4bit" weights; None for "none".

    8 bits: LLM.int8() (Dettmers et al. 2022); 4 bits: NF4 (Dettmers et al. 2023), computed in
    `dtype`. The head stays as it is. Raises ModelError where the library is missing.
    """
    if kind == "none":
        return None
    if find_spec("bitsandbytes") is None:
        raise ModelError(
            f"--quantize {kind} needs the library bitsandbytes; pip install 'howsure[quant]'"
        )
    from transformers import BitsAndBytesConfig

    if kind == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
    )


def attention(kind: str) -> str | None:
    """The library's name of the implementation; None lets it choose.

    Raises ModelError where the package that a kind needs is missing: the library would otherwise
    fetch a compiled kernel from the Hub.
    """
    needs = {"flash_attention_2": "flash_attn", "flash_attention_3": "flash_attn_interface"}
    package = needs.get(kind)
    if package is not None and find_spec(package) is None:
        raise ModelError(
            f"--attention {kind} needs the package {package!r}, which is not installed; install "
            "it, or use --attention sdpa"
        )
    return None if kind == "auto" else kind
