"""Fine-tuning tasks by name; a new one is one file and one line here."""

from types import ModuleType
from typing import Any

from research.data.tokenizer import Tokenizer
from research.models.config import ModelConfig
from research.tasks import (
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
}
TASKS: dict[str, type] = {
    sequence_classification.NAME: sequence_classification.SequenceClassificationConfig,
    regression.NAME: regression.RegressionConfig,
    multi_label.NAME: multi_label.MultiLabelConfig,
    multiple_choice.NAME: multiple_choice.MultipleChoiceConfig,
    token_classification.NAME: token_classification.TokenClassificationConfig,
    span_qa.NAME: span_qa.SpanQAConfig,
    text_generation.NAME: text_generation.TextGenerationConfig,
}


def make_task(
    config: Any, model: ModelConfig, tokenizer: Tokenizer, length: int, slots: int
) -> Task:
    """The task of a config, on rows of `length` tokens with at most `slots` slots."""
    name = next(name for name, kind in TASKS.items() if type(config) is kind)
    return MODULES[name].make(config, model, tokenizer, length, slots)
