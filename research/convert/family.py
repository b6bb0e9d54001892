"""A family of public checkpoints: conversion of its config both ways, and rules for its tensors."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from research.convert.mapping import Rule
from research.errors import UserError, nearest
from research.models.attention import Pattern
from research.models.config import ModelConfig

HfConfig = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Family:
    """One architecture of the Hugging Face library under its `model_type`.

    classes: the library's class -> our heads in it; the class without heads is the bare model.
    prefix: prefix of the backbone's tensors in the classes with heads.
    pooled: the classes with a pooler, or a dense layer in its place.
    poolings: pooling of a sequence classification, as in config.task.pooling -> the library's name
        under "classifier_pooling"; the first is the default.
    to_model: config.json -> our shape, without the pooler, which depends on the tensors.
    to_hf: our shape -> the keys of config.json that describe it.
    rules: our shape, the prefix in a class and our heads in it -> rules for the backbone and for
        all heads that any class has.
    pattern: attention pattern of the class without heads.
    ignored: patterns of tensors that hold nothing learnt.
    pad: the id that padding must have, if positions depend on it.
    copies: tensors that some files have, and the tensors that they must equal.
    skip: (path, layer) -> whether the family lacks the tensor in that layer.
    """

    model_type: str
    classes: Mapping[str, tuple[str, ...]]
    prefix: str
    pooled: tuple[str, ...]
    poolings: Mapping[str, str]
    to_model: Callable[[HfConfig], ModelConfig]
    to_hf: Callable[[ModelConfig], dict[str, Any]]
    rules: Callable[[ModelConfig, str, Sequence[str]], Sequence[Rule]]
    pattern: Pattern = "full"
    ignored: tuple[str, ...] = ()
    pad: int | None = None
    copies: Mapping[str, str] = dataclasses.field(default_factory=dict)
    skip: Callable[[str, int], bool] = lambda path, layer: False

    def heads_of(self, name: str) -> tuple[str, ...]:
        """Our heads in a class of the library. Raises UserError for an unknown class."""
        if name not in self.classes:
            raise UserError(
                f"architecture {name!r} is not known for model_type "
                f"{self.model_type!r}{nearest(name, self.classes)}"
            )
        return self.classes[name]

    def rules_of(self, model: ModelConfig, name: str) -> Sequence[Rule]:
        """The rules for a class of the library."""
        heads = self.classes[name]
        return self.rules(model, self.prefix if heads else "", heads)

    def pooling(self, hf: HfConfig) -> str:
        """Our name of the pooling in config.json. Raises UserError for an unknown one."""
        wanted = hf.get("classifier_pooling")
        for ours, theirs in self.poolings.items():
            if wanted is None or wanted == theirs:
                return ours
        raise UserError(f"config.json: classifier_pooling={wanted!r} is not supported")

    def class_with(self, heads: Sequence[str]) -> str | None:
        """The class with exactly these of our heads; None if the library has none."""
        for name, class_heads in self.classes.items():
            if set(class_heads) == set(heads):
                return name
        return None


ENCODER_HEADS = {  # suffix of the library's class with a head -> our head
    "MaskedLM": "masked_lm",
    "SequenceClassification": "sequence_classification",
    "TokenClassification": "token_classification",
    "MultipleChoice": "multiple_choice",
    "QuestionAnswering": "span_qa",
}


def encoder_classes(name: str) -> dict[str, tuple[str, ...]]:
    """The classes that most encoders have, as `Family.classes`."""
    with_head = {f"{name}For{kind}": (head,) for kind, head in ENCODER_HEADS.items()}
    return {f"{name}Model": ()} | with_head


def only(hf: HfConfig, key: str, *allowed: Any, where: str = "config.json") -> None:
    """Raises UserError if a key of a file has a value that is not supported here."""
    if key in hf and hf[key] not in allowed:
        raise UserError(
            f"{where}: {key}={hf[key]!r} is not supported; supported: "
            f"{', '.join(map(repr, allowed))}"
        )


def base_of(rope: Mapping[str, Any], default: Any) -> float:
    """The base of rotary positions. Raises UserError if it is not a number."""
    base = rope.get("rope_theta", default)
    if not isinstance(base, int | float):
        raise UserError(f"config.json: rope_theta={base!r} is not a number")
    return float(base)


def need(hf: HfConfig, key: str) -> Any:
    """The value of a key. Raises UserError if config.json lacks it."""
    if key not in hf:
        raise UserError(f"config.json lacks {key!r}")
    return hf[key]


ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
}
NAMES = {"gelu": "gelu", "gelu_tanh": "gelu_new", "silu": "silu"}  # as they are exported

REQUIRED = object()  # in place of a default: config.json must have the key
# Our key -> (their key, its default in config.json): one table for both directions.
Keys = Mapping[str, tuple[str, Any]]
SIZES: Keys = {
    "vocab_size": ("vocab_size", REQUIRED),
    "layers": ("num_hidden_layers", REQUIRED),
    "width": ("hidden_size", REQUIRED),
    "heads": ("num_attention_heads", REQUIRED),
    "mlp_width": ("intermediate_size", REQUIRED),
    "initializer_range": ("initializer_range", 0.02),
}


def read_keys(hf: HfConfig, keys: Keys) -> dict[str, Any]:
    """Values of a ModelConfig. Raises UserError for a missing key or an unknown activation."""
    values = {}
    for ours, (theirs, default) in keys.items():
        values[ours] = need(hf, theirs) if default is REQUIRED else hf.get(theirs, default)
        if ours == "activation":
            if values[ours] not in ACTIVATIONS:
                raise UserError(
                    f"config.json: {theirs}={values[ours]!r} is not supported"
                    f"{nearest(str(values[ours]), ACTIVATIONS)}"
                )
            values[ours] = ACTIVATIONS[values[ours]]
    return values


def write_keys(model: ModelConfig, keys: Keys) -> dict[str, Any]:
    """The keys of config.json from a ModelConfig, the reverse of `read_keys`."""
    values = {theirs: getattr(model, ours) for ours, (theirs, _) in keys.items()}
    if "activation" in keys:
        values[keys["activation"][0]] = NAMES[model.activation]
    return values
