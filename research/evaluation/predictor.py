"""Predictions and continuations of a checkpoint, and the forms of examples that it accepts."""

import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping, Sequence

import jax
from jax.sharding import Mesh

from research.data import kinds
from research.data.batch import Layout, Segment
from research.data.kinds import Columns
from research.data.row import Row
from research.errors import UserError
from research.evaluation import evaluator
from research.generation import decode
from research.generation.decoding import DecodingConfig
from research.models.config import ModelConfig
from research.monitoring.progress import Progress
from research.objectives.objective import Loss, Reader, continues_with
from research.run.loaded import Loaded, require_head
from research.run.step import make_predict_step
from research.sharding import mesh as meshes
from research.tasks.task import Example, Prediction, Task

PROMPTS = 128  # prompts between two updates of progress
GREEDY = DecodingConfig()
# Greedy texts repeat themselves. The fixed seed gives the same texts every time.
SAMPLED = DecodingConfig(temperature=0.8, top_p=0.9, seed=0)


@dataclasses.dataclass(frozen=True)
class Form:
    """A form of examples that a checkpoint accepts.

    fields: the fields that an example must have; optional: those it may have; gives: what comes
    out. reader: examples -> how they become segments and predictions.
    """

    fields: tuple[str, ...]
    gives: str
    reader: Callable[[list[Example]], Task | Reader]
    optional: tuple[str, ...] = ()


def forms(loaded: Loaded) -> tuple[Form, ...]:
    """The forms of examples that this checkpoint accepts."""
    task = loaded.task
    if task is not None:
        return tuple(Form(*form, lambda _: task, task.optional) for form in task.forms)
    layout = Layout(loaded.config.data.length, loaded.config.data.segments)
    # One form per set of fields: in a mixture, masked LM takes texts; `generate` continues them.
    by_fields: dict[tuple[str, ...], Form] = {}
    for objective in filter(lambda o: o.asks, loaded.objectives):
        reader = functools.partial(objective.reader, loaded.tokenizer, layout)
        by_fields.setdefault(objective.asks, Form(objective.asks, objective.gives, reader))
    return tuple(by_fields.values())


def kind_of(loaded: Loaded) -> str:
    """The kind of a checkpoint's examples; a pre-trained one reads a text or a pair of texts."""
    return loaded.task.kind if loaded.task is not None else "classification"


def columns(loaded: Loaded, fields: Mapping[str, str], kind: str) -> Columns:
    """The columns of a file that hold the texts: those in `fields`, else the columns of the
    training files if the file has them, else our names.

    Raises UserError for a field that this kind of example does not have.
    """
    kinds.check_fields("--fields", kind, fields, labelled=False)
    train = loaded.config.data.train
    return Columns(fields, dict(train.fields) if train else {})


def example(loaded: Loaded, row: Row, columns: Columns) -> Example:
    """Reads a row's example as an evaluation does, but without its label.

    Raises UserError, with the row's place, for an example that is wrong or does not fit this
    checkpoint.
    """
    kind = kind_of(loaded)
    if fitting(loaded, kinds.names_in(row, kind, columns)) is None:
        raise UserError(f"{row.where}: {wrong_fields(loaded, row.fields)}")
    example = kinds.example(row, kind, columns, labelled=False)
    if kinds.emptiness(example):  # it has no tokens
        return example
    try:
        form = fitting(loaded, example)
        if form is None:  # it also has the fields of another form, which are read first
            raise UserError(wrong_fields(loaded, example))
        form.reader([example]).segments(example, 0, False)
    except UserError as error:  # the message names the example, not its line
        raise UserError(f"{row.where}: {error}") from error
    # The id as in the file, number or text, so that predictions can be joined to its rows.
    return example | {"id": row.fields.get(columns.column("id", row), row.fallback_id)}


def fitting(loaded: Loaded, fields: Collection[str]) -> Form | None:
    """The form with the most fields that are all in `fields`; None if there is none."""
    fit = [form for form in forms(loaded) if set(form.fields) <= set(fields)]
    return max(fit, key=lambda form: len(form.fields), default=None)


def predict(
    loaded: Loaded, examples: Sequence[Example], quiet: bool = True, labelled: bool = False
) -> list[Prediction]:
    """Returns a prediction for each example, in order; examples of different forms may be mixed.

    If the task generates, the prediction has the generated "text", decoded as its config says.

    Args:
        labelled: whether labels are read, so that a label unknown to the task is an error.

    Raises UserError for an example that fits no form, and for a checkpoint that was imported
    without a head.
    """
    require_head(loaded, "this checkpoint")
    by_fields: dict[tuple[str, ...], list[int]] = {}  # the numbers of the examples of each form
    for i, example in enumerate(examples):
        form = fitting(loaded, example)
        if form is None:
            raise UserError(f"example {i}: {wrong_fields(loaded, example)}")
        by_fields.setdefault(form.fields, []).append(i)
    requests = []
    for form in forms(loaded):
        if chosen := [examples[i] for i in by_fields.get(form.fields, ())]:
            requests.append(Request.of(form.reader(chosen), chosen, labelled))
    numbers = [i for form in forms(loaded) for i in by_fields.get(form.fields, ())]
    total = sum(len(windows) for request in requests for windows in request.segments)
    progress = Progress(total, "predict", unit="segment", active=not quiet)
    predictions = dict(zip(numbers, read(loaded, requests, progress), strict=True))
    ordered = [predictions[i] for i in range(len(examples))]
    if loaded.task is not None and loaded.task.prompt is not None:
        texts = _generated(loaded, examples, quiet)
        return [p | {"text": text} for p, text in zip(ordered, texts, strict=True)]
    return ordered


@dataclasses.dataclass(frozen=True)
class Request:
    """Examples of one form, their reader and their segments."""

    reader: Task | Reader
    examples: Sequence[Example]
    segments: list[list[Segment]]

    @staticmethod
    def of(reader: Task | Reader, examples: Sequence[Example], labelled: bool = False) -> "Request":
        segments = [reader.segments(example, i, labelled) for i, example in enumerate(examples)]
        return Request(reader, examples, segments)


def read(loaded: Loaded, requests: Sequence[Request], progress: Progress) -> list[Prediction]:
    """Returns a prediction for each example of all requests, in order; progress counts segments."""
    mesh, done = loaded.mesh, 0
    predictions: list[Prediction] = []
    with meshes.use(mesh, loaded.placement), progress:
        for request in requests:
            predictions += evaluator.predictions(
                _step(loaded.model, request.reader.objective, mesh),
                loaded.params,
                request.reader,
                request.examples,
                request.segments,
                loaded.tokenizer.pad,
                meshes.batch_sharding(mesh),
                row_multiple=meshes.row_multiple(mesh),
                progress=lambda count, before=done: progress.update(before + count),
            )
            done += sum(map(len, request.segments))
    return predictions


def wrong_fields(loaded: Loaded, fields: Collection[str]) -> str:
    """Says which fields the checkpoint takes, and which it was given."""
    takes = " or ".join(" with ".join(form.fields) for form in forms(loaded))
    names = ", ".join(fields) or "nothing"
    return f"{trained_for(loaded)} takes {takes}; given: {names}"


def trained_for(loaded: Loaded) -> str:
    """Describes the checkpoint for a message: "a checkpoint of masked_lm"."""
    names = loaded.task.name if loaded.task else " and ".join(o.name for o in loaded.objectives)
    return f"a checkpoint of {names}"


def show(loaded: Loaded, example: Example, prediction: Prediction) -> str:
    """Formats an example and its prediction as one line."""
    return fitting(loaded, example).reader([example]).show(example, prediction)


def show_text(loaded: Loaded, example: Example) -> str:
    """Predicts one example and formats it with its prediction as one line."""
    return show(loaded, example, predict(loaded, [example])[0])


def continuation(loaded: Loaded, prompt: str, max_tokens: int = 24) -> str:
    """Continues a prompt with a causal model, sampled with a fixed seed."""
    return generate(loaded, [prompt], max_tokens, SAMPLED)[0]


def generates(loaded: Loaded) -> bool:
    """Whether the checkpoint was trained to continue texts."""
    task = loaded.task
    return any(o.pattern != "full" for o in loaded.objectives) and (task is None or task.prompt)


def generate(
    loaded: Loaded,
    prompts: Sequence[str],
    max_tokens: int = 64,
    decoding: DecodingConfig = GREEDY,
    numbers: Sequence[int] | None = None,
) -> list[str]:
    """Continues each prompt; returns the new texts without the prompts.

    Args:
        max_tokens: most new tokens.
        numbers: keys of each prompt's random draws; default: 0, 1, 2, …

    Raises UserError for a checkpoint that does not continue texts, and as `decode.generate` does.
    """
    if not generates(loaded):
        raise UserError(f"{trained_for(loaded)} does not continue texts")
    return decode.continue_texts(
        loaded.params,
        loaded.model,
        loaded.tokenizer,
        prompts,
        max_tokens=max_tokens,
        decoding=decoding,
        pattern=continues_with(loaded.objectives),
        ids=numbers,
    )


@functools.lru_cache(maxsize=4)
def _step(model: ModelConfig, objective: Loss, mesh: Mesh) -> Callable:
    """The predict step, jitted once per model, objective and mesh."""
    return jax.jit(make_predict_step(model, objective), out_shardings=meshes.replicated(mesh))


def _generated(loaded: Loaded, examples: Sequence[Example], quiet: bool) -> list[str]:
    task = loaded.task
    prompts = [task.prompt(example) for example in examples]
    texts: list[str] = []
    with Progress(len(prompts), "generate", unit="text", active=not quiet) as progress:
        for first in range(0, len(prompts), PROMPTS):
            part = prompts[first : first + PROMPTS]
            numbers = range(first, first + len(part))
            texts += generate(loaded, part, task.max_new_tokens, task.decoding, numbers)
            progress.update(len(texts))
    return texts if task.kind == "story" else [text.strip() for text in texts]
