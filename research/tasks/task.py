"""What every fine-tuning task answers: its examples as segments, their predictions, metrics."""

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
    """One task on one data set; a new task is one subclass and one line in `TASKS`.

    A subclass has `Options`, a frozen dataclass of the keys under `config.task`, and is made for a
    model and rows of `length` tokens with at most `segments` segments.

    Attributes:
      name: by which a config asks for it.
      kind: what its examples are, see `research.data.kinds`; of some tasks the options say it.
      forms: fields that an example must have to be predicted, and what comes out.
      optional: fields that it may have.
      scores: the names of its metrics, where they do not depend on the options.
      metric: the name of the one number a table shows; higher_is_better: of it.
      prompt: of a task that generates, a method: example -> the text to go on from, after what
        begins a text; None for the others. What was generated joins the prediction as its "text".
      max_new_tokens: how many tokens are generated at most; decoding: how.
      generates: whether it has a prompt.
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
        self.head(model)  # raises where the model lacks what it reads

    @property
    def objective(self) -> Loss:
        """The loss whose outputs are read: its own."""
        return self

    @classmethod
    def kind_of(cls, options: Any) -> str:
        """What the examples of a task with these options are."""
        return cls.kind

    @classmethod
    def score_names(cls, options: Any) -> tuple[str, ...]:
        """The names of what `finish` yields, but for those of its parts ("f1/PER")."""
        return cls.scores

    def check(self) -> None:
        """Raises UserError for options that are out of range or do not fit."""

    def segments(self, example: Example, number: int, labelled: bool) -> list[Segment]:
        """An example's segments, several where it is cut into windows. With labelled False the
        example has no label and its segments count nothing."""
        raise NotImplementedError

    def predict(
        self, example: Example, segments: Sequence[Segment], outputs: Sequence[Outputs]
    ) -> Prediction:
        """The prediction, a dict of JSON values. The outputs of a segment are its rows of the
        "segment" arrays and, under "token", the positions it lies on."""
        raise NotImplementedError

    def counts(self, example: Example, prediction: Prediction) -> dict[str, float]:
        """Sums that `finish` turns into the split's metrics."""
        raise NotImplementedError

    def finish(self, counts: Mapping[str, float]) -> dict[str, Any]:
        """The metrics of a split from the summed counts of its examples."""
        raise NotImplementedError

    def show(self, example: Example, prediction: Prediction) -> str:
        """One readable line."""
        raise NotImplementedError

    def label_index(self, example: Example, label: str, what: str = "label") -> int:
        """Which of the options' labels it is. Raises UserError for one that is not among them."""
        labels = self.options.labels
        if label not in labels:
            raise UserError(
                f"example {example['id']!r}: {what} {label!r} is not one of config.task.labels"
                f"{nearest(label, labels)}"
            )
        return labels.index(label)
