"""Fine-tuning tasks by name.

A new one is a subclass of `Task` in a file of its own, and a line in `TASKS`.
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
AUTO = "auto"  # labels: those that the training examples have


def of(options: Any) -> type[Task]:
    """The task whose options these are."""
    return next(task for task in TASKS.values() if type(options) is task.Options)


def name_of(options: Any) -> str:
    """The name by which a config file asks for the task."""
    return of(options).name


def kind_of(options: Any) -> str:
    """What a task's examples are, see `research.data.kinds`."""
    return of(options).kind_of(options)


def metrics(options: Any) -> tuple[str, ...]:
    """The names of the metrics that a task yields, but for those of its parts ("f1/PER")."""
    return of(options).score_names(options)


def measures(options: Any) -> tuple[str, ...]:
    """The names of what an evaluation of the task's loss yields."""
    return of(options).measures


def make_task(
    options: Any, model: ModelConfig, tokenizer: Tokenizer, length: int, segments: int
) -> Task:
    """The task of a config, on rows of `length` tokens with at most `segments` segments.

    Raises UserError for what does not fit, labels that are still to be read among it.
    """
    if getattr(options, "labels", ()) == AUTO:
        raise UserError(
            f"config.task.labels={AUTO} are read from the training examples, of which there are "
            "none here: list them"
        )
    return of(options)(options, model, tokenizer, length, segments)
