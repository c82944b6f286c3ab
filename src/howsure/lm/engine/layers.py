"""The decoder layers of a model: where they are, the size of what they keep of a token, and running
them again in the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def decoder_layers(body: Any) -> nn.ModuleList:
    """The list of the model's layers. Raises ValueError when there is none of the right length."""
    count = body.config.get_text_config().num_hidden_layers
    for module in body.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise ValueError("no list of decoder layers was found in it")


def kv_width(config: Any) -> int:
    """Key-value heads × their size, of the config of a text model."""
    heads = int(config.num_attention_heads)
    size = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
    return int(getattr(config, "num_key_value_heads", None) or heads) * size


@contextmanager
def with_forward(modules: Iterable[nn.Module], change: Callable[[Any], Any]) -> Iterator[None]:
    """For a while, each module computes what `change` makes of its forward function."""
    own = [(module, vars(module).get("forward")) for module in modules]
    for module, _ in own:
        module.forward = change(module.forward)
    try:
        yield
    finally:
        for module, forward in own:
            if forward is None:
                del module.forward  # what its class has comes back
            else:
                module.forward = forward


def recomputing(
    layers: Iterable[nn.Module], around: Callable[[], AbstractContextManager[None]]
) -> AbstractContextManager[None]:
    """The layers run again in the backward pass, `around` which is what the forward pass had.

    Chen et al. 2016. The random numbers of dropout are the same both times.
    """
    return with_forward(layers, lambda forward: _run_again(forward, around))


def _run_again(forward: Any, around: Callable[[], AbstractContextManager[None]]) -> Any:
    def checkpointed(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        return checkpoint(
            forward,
            *args,
            use_reentrant=False,
            context_fn=lambda: (nullcontext(), around()),
            **kwargs,
        )

    return checkpointed
