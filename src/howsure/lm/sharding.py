"""A model whose frozen weights are divided among processes: each keeps a part of every layer.

A layer's weights are gathered when it is run and given back behind it (fully sharded data
parallelism, Zhao et al. 2023). So all processes must run equally often, whatever they read.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import distributed

from howsure.errors import ModelError
from howsure.lm.engine.layers import decoder_layers


def in_turn(read: Callable[[], tuple[Any, Any]], device: str) -> tuple[Any, Any]:
    """What `read` gives: a model in this machine's memory, and its tokenizer; the model divided
    among the members of the process group, on `device`.

    They read one after the other, so that the whole is in memory once at a time. Raises ModelError
    for a model without a list of layers.
    """
    from torch.distributed.device_mesh import init_device_mesh

    mesh = init_device_mesh(device, (distributed.get_world_size(),))
    made: tuple[Any, Any] | None = None
    for turn in range(distributed.get_world_size()):
        if turn == distributed.get_rank():
            model, tokenizer = read()
            made = _divided(model, mesh, device), tokenizer
        distributed.barrier()
    assert made is not None
    return made


def is_divided(model: Any) -> bool:
    """Whether the weights of a model, or of its body, are."""
    fsdp = sys.modules.get("torch.distributed.fsdp")  # half a second, where nothing is divided
    return fsdp is not None and any(isinstance(m, fsdp.FSDPModule) for m in model.modules())


def reading(model: Any) -> AbstractContextManager[Any]:
    """For a while, without gradients.

    Memory that a layer is gathered into is used again in training, so it must not be made in
    inference mode.
    """
    return torch.no_grad() if is_divided(model) else torch.inference_mode()


def _divided(model: Any, mesh: Any, device: str) -> Any:
    """Only layers are: embeddings and head are asked for one by one, and small beside them.

    Adapters that are added later are no part of it: they are whole in every process.
    """
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor

    body = model.base_model
    try:
        layers = decoder_layers(body)
    except ValueError as error:
        raise ModelError(
            f"a model of the type {model.config.model_type!r} can't be divided among trainers: "
            f"{error}; leave --trainers out"
        ) from error
    for layer in layers:
        fully_shard(layer, mesh=mesh, reshard_after_forward=True)
    whole = {p for p in body.parameters() if not isinstance(p, DTensor)}
    fully_shard(body, mesh=mesh, ignored_params=whole)  # it orders the gathering
    return model.to(device)
