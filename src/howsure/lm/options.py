"""How a checkpoint is loaded and read: one frozen value, checked where it is made. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from howsure.errors import UnknownName, UsageError

DEVICES = ("auto", "cpu", "cuda")
DTYPES = ("auto", "float32", "bfloat16", "float16")
QUANTIZE = ("none", "8bit", "4bit")
ATTENTION = (
    "auto",
    "eager",
    "sdpa",
    "flash_attention_2",
    "flash_attention_3",
    "flex_attention",
)
ENGINES = ("auto", "tree", "plain")
DEVICE_MAPS = ("none", "auto", "balanced", "sequential")


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """What of loading is not the same for every checkpoint. The defaults: as it is published.

    Raises UnknownName or UsageError, with one line, for what makes no sense.
    """

    revision: str | None = None
    """Branch, tag or commit on the Hub; None: the table's for a short name, else "main"."""
    adapter: str | None = None
    """A PEFT LoRA adapter (folder or Hub id) that is merged into the weights."""
    quantize: str = "none"
    """Weights in 8 or 4 bits, by bitsandbytes."""
    attention: str = "auto"
    """The attention implementation of the plain path; "auto": the library's choice."""
    engine: str = "auto"
    """The path that reads: "tree" (each token once), "plain" (each prompt by itself), or "auto",
    the fast one wherever it gives what the plain one gives."""
    device_map: str = "none"
    """How a model is spread over several GPUs; "none": it is on one device."""
    trust_remote_code: tuple[str, ...] = ()
    """Models, by the name they are asked for, whose own Python code may run."""

    def __post_init__(self) -> None:
        for kind, value, known in (
            ("quantisation", self.quantize, QUANTIZE),
            ("attention implementation", self.attention, ATTENTION),
            ("engine", self.engine, ENGINES),
            ("device map", self.device_map, DEVICE_MAPS),
        ):
            if value not in known:
                raise UnknownName(kind, value, known)
        if self.adapter and self.quantize != "none":
            raise UsageError(
                f"--adapter {self.adapter} can't be merged into weights of --quantize "
                f"{self.quantize}; merge it into the checkpoint first, or leave one of them out"
            )

    def check(self, models: tuple[str, ...]) -> None:
        """Raises UsageError where an option does not go with the models asked for."""
        for option, value in (("--revision", self.revision), ("--adapter", self.adapter)):
            if value is not None and len(models) != 1:
                raise UsageError(f"{option} {value} belongs to one model; give exactly one --model")
        for name in self.trust_remote_code:
            if name not in models:
                raise UsageError(
                    f"--trust-remote-code {name}: no such --model is asked for; name the model "
                    "exactly as in --model"
                )
