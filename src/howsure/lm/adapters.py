"""LoRA adapters on a frozen model: add, use for a while, save, load, remove without a trace."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from howsure.errors import BundleError, ModelError


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """Low-rank adaptation (Hu et al. 2022). Defaults: the published setting."""

    r: int = 8
    alpha: float = 32.0
    dropout: float = 0.1
    target_modules: tuple[str, ...] | None = None
    """Names of the linear layers; None is `lora_targets` (Llama, Mistral: q_proj, v_proj)."""


def lora_targets(model: Any, settings: LoraSettings) -> list[str]:
    """Names of the linear layers that get an adapter.

    Without any in the settings it is the library's choice for the architecture, and the fused
    projection where there is one and the library has no choice (Phi 3 and 4). Raises ModelError.
    """
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as CHOICE

    if settings.target_modules:
        return list(settings.target_modules)
    kind = str(model.config.get_text_config().model_type)
    if kind in CHOICE:
        return list(CHOICE[kind])
    last = {name.rsplit(".", 1)[-1] for name, _ in model.named_modules()}
    for names in (["q_proj", "v_proj"], ["qkv_proj"], ["query_key_value"], ["c_attn"]):
        if last.issuperset(names):
            return names
    raise ModelError(
        f"no LoRA adapter fits a model of the type {kind!r}; name its linear layers in "
        "target_modules"
    )


class Adapters:
    """The adapters of one model. The model itself is changed only while there are any."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._peft: Any = None
        self._active: str | None = None
        self._count = 0

    def add(self, settings: LoraSettings, *, seed: int) -> str:
        """A new adapter that as yet changes nothing (its B matrices are 0); returns its name."""
        import torch
        from peft import LoraConfig, TaskType

        config = LoraConfig(
            task_type=TaskType.CAUSAL_LM,
            r=settings.r,
            lora_alpha=settings.alpha,
            lora_dropout=settings.dropout,
            target_modules=lora_targets(self._model, settings),
            bias="none",
        )
        name = self._new_name()
        try:
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                self._wrap(name, config)
        except ValueError as error:
            raise ModelError(
                f"no LoRA adapter fits this model: {str(error).splitlines()[0]}; "
                "name its linear layers in target_modules"
            ) from error
        self._set(self._active)
        return name

    def _wrap(self, name: str, config: Any) -> None:
        from peft import get_peft_model

        with warnings.catch_warnings():
            # peft 0.21 asks transformers 5.23 for a property by its deprecated name.
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
            if self._peft is None:
                self._peft = get_peft_model(self._model, config, adapter_name=name)
            else:
                self._peft.add_adapter(name, config)
        # New layers come in training mode, dropout on, whatever the model's mode is.
        self._model.eval()

    def _new_name(self) -> str:
        self._count += 1
        return f"howsure_{self._count}"

    @contextmanager
    def using(self, name: str | None) -> Iterator[None]:
        """The named adapter is active (None: the bare model); afterwards what was before."""
        before = self._active
        self._set(name)
        try:
            yield
        finally:
            self._set(before)

    @contextmanager
    def mixed_precision(self) -> Iterator[None]:
        """For a while, in bfloat16 on a GPU, the active adapter is computed in bfloat16 too. Its
        weights, their gradients and the optimiser stay in float32 (Micikevicius et al. 2018)."""
        import torch

        model = self._model
        if self._active is None or model.device.type != "cuda" or model.dtype != torch.bfloat16:
            yield
            return
        from peft.helpers import disable_input_dtype_casting

        with disable_input_dtype_casting(model), torch.autocast("cuda", torch.bfloat16):
            yield

    def _set(self, name: str | None) -> None:
        if self._peft is not None:
            if name is None:
                self._peft.base_model.disable_adapter_layers()
            else:
                self._peft.base_model.enable_adapter_layers()
                self._peft.set_adapter(name)
        elif name is not None:
            raise ModelError(f"there is no adapter {name!r} on this model")
        self._active = name

    def weights(self, name: str) -> list[Any]:
        """The adapter's trainable tensors, in a fixed order."""
        mine = [(n, p) for n, p in self._model.named_parameters() if f".{name}." in n]
        return [p for _, p in sorted(mine, key=lambda item: item[0])]

    def snapshot(self, name: str) -> list[Any]:
        """A copy of the adapter's tensors, for `restore`."""
        return [p.detach().clone() for p in self.weights(name)]

    def restore(self, name: str, tensors: list[Any]) -> None:
        """Put a snapshot back."""
        import torch

        with torch.no_grad():
            for weight, kept in zip(self.weights(name), tensors, strict=True):
                weight.copy_(kept)

    def save(self, name: str, directory: Path) -> None:
        """Write the adapter as PEFT does: adapter_config.json, adapter_model.safetensors."""
        from peft import get_peft_model_state_dict
        from safetensors.torch import save_file

        directory.mkdir(parents=True, exist_ok=True)
        state = get_peft_model_state_dict(self._peft, adapter_name=name)
        tensors = {k: v.detach().cpu().contiguous() for k, v in state.items()}
        save_file(tensors, str(directory / "adapter_model.safetensors"))
        config = self._peft.peft_config[name].to_dict()
        config["base_model_name_or_path"] = None
        config["inference_mode"] = True
        plain = {k: sorted(v) if isinstance(v, set) else v for k, v in config.items()}
        text = json.dumps(plain, indent=2, sort_keys=True, default=str)
        (directory / "adapter_config.json").write_text(text + "\n")

    def load(self, directory: Path) -> str:
        """Add a saved adapter; returns its name. Raises BundleError when it doesn't fit."""
        from peft import set_peft_model_state_dict

        from howsure.lm import merging

        try:
            fields, tensors = merging.read_adapter(merging.check_adapter(directory))
            tensors = merging.drop_embeddings(self._model, tensors)
            config = merging.lora_config(fields)
        except (ModelError, TypeError, ValueError) as error:
            raise BundleError(str(error)) from error
        name = self._new_name()
        try:
            self._wrap(name, config)
        except ValueError as error:
            raise BundleError(f"adapter {str(directory)!r} does not fit: {error}") from error
        result = set_peft_model_state_dict(self._peft, tensors, adapter_name=name)
        lost = [k for k in result.missing_keys if f".{name}." in k]
        self._set(self._active)
        if lost or result.unexpected_keys:
            self.remove(name)
            raise BundleError(
                f"adapter {str(directory)!r} does not fit this model: {len(lost)} weights are "
                f"missing and {len(result.unexpected_keys)} unknown; it belongs to another one"
            )
        return name

    def remove(self, name: str) -> None:
        """Forget an adapter; after the last one the model is as it was loaded."""
        if self._peft is None or name not in self._peft.peft_config:
            raise ModelError(f"there is no adapter {name!r} on this model")
        if self._active == name:
            self._set(None)
        if len(self._peft.peft_config) == 1:
            self._peft.unload()
            self._peft = None
        else:
            with warnings.catch_warnings():
                # It says which one is active now; the next line decides that.
                warnings.filterwarnings("ignore", message="Adapter .* was active")
                self._peft.delete_adapter(name)
            self._set(self._active)
        for p in self._model.parameters():
            if p.requires_grad and self._peft is None:
                p.requires_grad_(False)
