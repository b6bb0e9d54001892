"""Fine-tuning tasks by name; a new one is one file and one line here."""

from types import ModuleType
from typing import Any

from research.data.tokenizer import Tokenizer
from research.errors import UserError
from research.models.config import ModelConfig
from research.tasks import (
    chat,
    multi_label,
    multiple_choice,
    regression,
    sequence_classification,
    span_qa,
    text_generation,
    token_classification,
)
from research.tasks.protocol import Task

MODULES: dict[str, ModuleType] = {
    sequence_classification.NAME: sequence_classification,
    regression.NAME: regression,
    multi_label.NAME: multi_label,
    multiple_choice.NAME: multiple_choice,
    token_classification.NAME: token_classification,
    span_qa.NAME: span_qa,
    text_generation.NAME: text_generation,
    chat.NAME: chat,
}
AUTO = "auto"  # labels: those that the training examples have
KINDS = {  # of the examples; text generation's config says its own
    sequence_classification.NAME: "classification",
    regression.NAME: "classification",
    multi_label.NAME: "multi_label",
    multiple_choice.NAME: "multiple_choice",
    token_classification.NAME: "tokens",
    span_qa.NAME: "question",
    chat.NAME: "chat",
}
TASKS: dict[str, type] = {
    sequence_classification.NAME: sequence_classification.SequenceClassificationConfig,
    regression.NAME: regression.RegressionConfig,
    multi_label.NAME: multi_label.MultiLabelConfig,
    multiple_choice.NAME: multiple_choice.MultipleChoiceConfig,
    token_classification.NAME: token_classification.TokenClassificationConfig,
    span_qa.NAME: span_qa.SpanQAConfig,
    text_generation.NAME: text_generation.TextGenerationConfig,
    chat.NAME: chat.ChatConfig,
}


def kind_of(config: Any) -> str:
    """What a task's examples are, see `research.data.kinds`."""
    if isinstance(config, text_generation.TextGenerationConfig):
        return config.kind
    return KINDS[name_of(config)]


def metrics(config: Any) -> tuple[str, ...]:
    """The names of the metrics that a task yields, but for those of its parts ("f1/PER")."""
    return MODULES[name_of(config)].metrics(config)


def measures(config: Any) -> list[str]:
    """The names of what an evaluation of the task's loss yields."""
    ones = dict.fromkeys(("loss", "correct", "count", "examples", "bytes"), 1.0)
    return list(MODULES[name_of(config)].finish_loss(ones))


def name_of(config: Any) -> str:
    """The name by which a config file asks for the task."""
    return next(name for name, kind in TASKS.items() if type(config) is kind)


def make_task(
    config: Any, model: ModelConfig, tokenizer: Tokenizer, length: int, slots: int
) -> Task:
    """The task of a config, on rows of `length` tokens with at most `slots` slots.

    Raises UserError for what does not fit, labels that are still to be read among it.
    """
    if getattr(config, "labels", ()) == AUTO:
        raise UserError(
            f"config.task.labels={AUTO} are read from the training examples, of which there are "
            "none here: list them"
        )
    return MODULES[name_of(config)].make(config, model, tokenizer, length, slots)
