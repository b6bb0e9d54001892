"""Fine-tuning tasks by name.

A new task is a subclass of `Task` in its own file and a line in `TASKS`.
"""

from typing import Any

from research.data.tokenizer import Tokenizer
from research.errors import UserError
from research.models.config import ModelConfig
from research.tasks.chat import Chat
from research.tasks.multi_label import MultiLabel
from research.tasks.multiple_choice import MultipleChoice
from research.tasks.regression import Regression
from research.tasks.sequence_classification import SequenceClassification
from research.tasks.span_qa import SpanQA
from research.tasks.task import Task
from research.tasks.text_generation import TextGeneration
from research.tasks.token_classification import TokenClassification

TASKS: dict[str, type[Task]] = {
    kind.name: kind
    for kind in (
        SequenceClassification,
        Regression,
        MultiLabel,
        MultipleChoice,
        TokenClassification,
        SpanQA,
        TextGeneration,
        Chat,
    )
}
AUTO = "auto"  # labels are read from the training examples


def of(options: Any) -> type[Task]:
    """Returns the task class that these options belong to."""
    return next(task for task in TASKS.values() if type(options) is task.Options)


def name_of(options: Any) -> str:
    """Returns the task's name in a config file."""
    return of(options).name


def kind_of(options: Any) -> str:
    """Returns the kind of a task's examples, see `research.data.kinds`."""
    return of(options).kind_of(options)


def metrics(options: Any) -> tuple[str, ...]:
    """Returns the names of a task's metrics, without those by type ("f1/PER")."""
    return of(options).score_names(options)


def measures(options: Any) -> tuple[str, ...]:
    """Returns the names of the metrics of the task's loss."""
    return of(options).measures


def make_task(
    options: Any, model: ModelConfig, tokenizer: Tokenizer, length: int, segments: int
) -> Task:
    """Returns the task of a config, on rows of `length` tokens and at most `segments` segments.

    Raises UserError for options that do not fit, and for labels that are still "auto".
    """
    if getattr(options, "labels", ()) == AUTO:
        raise UserError(
            f"config.task.labels={AUTO} are read from the training examples, but there are none "
            "here; list the labels"
        )
    return of(options)(options, model, tokenizer, length, segments)
