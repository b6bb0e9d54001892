"""The base class of fine-tuning tasks: segments of examples, predictions, metrics."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from research.data.batch import Layout, Segment
from research.data.tokenizer import Tokenizer
from research.errors import UserError, nearest
from research.generation.decoding import DecodingConfig
from research.models.config import ModelConfig
from research.objectives.objective import Example, Loss, Outputs, Prediction

Forms = tuple[tuple[tuple[str, ...], str], ...]


class Task(Loss):
    """One task on one data set. A new task is one subclass and one line in `TASKS`.

    A subclass has `Options`, a frozen dataclass of the keys under `config.task`. An object is for
    one model, and rows of `length` tokens with at most `segments` segments.

    Attributes:
      name: its name in a config.
      kind: the kind of its examples, see `research.data.kinds`; it may depend on the options.
      forms: the sets of fields that a prediction needs, each with what it returns.
      optional: optional fields of an example.
      scores: the names of its metrics, unless they depend on the options.
      metric: the name of the metric in tables; higher_is_better: whether higher values are better.
      prompt: a method of tasks that generate: example -> the prompt, without the tokens that begin
        a text; None for other tasks. The generated text joins the prediction as its "text".
      max_new_tokens: the maximum number of generated tokens; decoding: how they are chosen.
      generates: whether the task has a prompt.
    """

    kind: str
    forms: ClassVar[Forms] = ()
    optional: ClassVar[tuple[str, ...]] = ()
    scores: ClassVar[tuple[str, ...]] = ()
    metric: str
    higher_is_better: bool = True
    Options: ClassVar[type]
    generates: ClassVar[bool] = False
    prompt: Callable[[Example], str] | None = None
    max_new_tokens: int = 0
    decoding: DecodingConfig = DecodingConfig()

    def __init__(
        self, options: Any, model: ModelConfig, tokenizer: Tokenizer, length: int, segments: int
    ):
        self.options, self.model, self.tokenizer = options, model, tokenizer
        self.layout = self.extend_layout(Layout(length, segments))
        self.check()
        self.head(model)  # raises if the model lacks a part that the head reads

    @property
    def objective(self) -> Loss:
        """The loss whose outputs `predict` reads: the task itself."""
        return self

    @classmethod
    def kind_of(cls, options: Any) -> str:
        """Returns the kind of the examples with these options."""
        return cls.kind

    @classmethod
    def score_names(cls, options: Any) -> tuple[str, ...]:
        """Returns the names of `compute_metrics`'s metrics, without those by type ("f1/PER")."""
        return cls.scores

    def check(self) -> None:
        """Raises UserError for options that are out of range or do not fit each other."""

    def segments(self, example: Example, number: int, labelled: bool) -> list[Segment]:
        """Returns an example's segments: several if it is cut into windows. With labelled False
        the example has no label, and its segments do not count in the loss."""
        raise NotImplementedError

    def predict(
        self, example: Example, segments: Sequence[Segment], outputs: Sequence[Outputs]
    ) -> Prediction:
        """Returns the prediction, a dict of JSON values. A segment's outputs are its entries of the
        "segment" arrays and of the "token" arrays at its positions."""
        raise NotImplementedError

    def counts(self, example: Example, prediction: Prediction) -> dict[str, float]:
        """Returns counts whose sums over a split `compute_metrics` turns into metrics."""
        raise NotImplementedError

    def compute_metrics(self, counts: Mapping[str, float]) -> dict[str, Any]:
        """Returns a split's metrics from the summed `counts` (for the loss, see `loss_metrics`)."""
        raise NotImplementedError

    def show(self, example: Example, prediction: Prediction) -> str:
        """Returns the prediction as one readable line."""
        raise NotImplementedError

    def label_index(self, example: Example, label: str, what: str = "label") -> int:
        """Returns the label's index in the options' labels. Raises UserError if it is not there."""
        labels = self.options.labels
        if label not in labels:
            raise UserError(
                f"example {example['id']!r}: {what} {label!r} is not one of config.task.labels"
                f"{nearest(label, labels)}"
            )
        return labels.index(label)
