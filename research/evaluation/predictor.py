"""What a checkpoint makes of texts: the forms in which it can be asked, and its predictions."""

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

PROMPTS = 128  # prompts that are generated from between two lines of progress
GREEDY = DecodingConfig()
# Greedy texts go round in circles. The seed makes them the same every time.
TOLD = DecodingConfig(temperature=0.8, top_p=0.9, seed=0)


@dataclasses.dataclass(frozen=True)
class Form:
    """One way to ask a checkpoint.

    fields: what an example must have; optional: what it may have; gives: what comes out.
    reader: examples -> how they are laid out in rows and read.
    """

    fields: tuple[str, ...]
    gives: str
    reader: Callable[[list[Example]], Task | Reader]
    optional: tuple[str, ...] = ()


def forms(loaded: Loaded) -> tuple[Form, ...]:
    """The ways in which this checkpoint can be asked."""
    task = loaded.task
    if task is not None:
        return tuple(Form(*form, lambda _: task, task.optional) for form in task.forms)
    layout = Layout(loaded.config.data.length, loaded.config.data.segments)
    # Each fields in one way: of a mixture that fills masks, `generate` shows what comes next.
    by_fields: dict[tuple[str, ...], Form] = {}
    for objective in filter(lambda o: o.asks, loaded.objectives):
        reader = functools.partial(objective.reader, loaded.tokenizer, layout)
        by_fields.setdefault(objective.asks, Form(objective.asks, objective.gives, reader))
    return tuple(by_fields.values())


def kind_of(loaded: Loaded) -> str:
    """The kind of example that it reads; a pre-trained one reads a text or a pair of texts."""
    return loaded.task.kind if loaded.task is not None else "classification"


def columns(loaded: Loaded, fields: Mapping[str, str], kind: str) -> Columns:
    """Where the texts of a file stand: as `fields` says, else as in the files it was trained on if
    the file has those columns, else under our names.

    Raises UserError for a field that this kind of example does not have.
    """
    kinds.check_fields("--fields", kind, fields, labelled=False)
    train = loaded.config.data.train
    return Columns(fields, dict(train.fields) if train else {})


def example(loaded: Loaded, row: Row, columns: Columns) -> Example:
    """The example that is asked of a row, as an evaluation reads it, but without its label.

    Raises UserError, with the row's place, for one that is not right or does not fit this
    checkpoint.
    """
    kind = kind_of(loaded)
    if fitting(loaded, kinds.names_in(row, kind, columns)) is None:
        raise UserError(f"{row.where}: {wrong_fields(loaded, row.fields)}")
    example = kinds.example(row, kind, columns, labelled=False)
    if kinds.emptiness(example):  # nothing that could be laid out
        return example
    try:
        form = fitting(loaded, example)
        if form is None:  # it has another one's fields too, which are read first
            raise UserError(wrong_fields(loaded, example))
        form.reader([example]).segments(example, 0, False)
    except UserError as error:  # which names the example, not its line
        raise UserError(f"{row.where}: {error}") from error
    # As it stands in the file, number or text, so that the predictions can be joined to its rows.
    return example | {"id": row.fields.get(columns.column("id", row), row.fallback_id)}


def fitting(loaded: Loaded, fields: Collection[str]) -> Form | None:
    """The form whose fields are all given, more of them before fewer; None if there is none."""
    fit = [form for form in forms(loaded) if set(form.fields) <= set(fields)]
    return max(fit, key=lambda form: len(form.fields), default=None)


def predict(
    loaded: Loaded, examples: Sequence[Example], quiet: bool = True, labelled: bool = False
) -> list[Prediction]:
    """A prediction for each example, in their order; those of other forms may be mixed.

    Where the task generates, the prediction has the generated "text", decoded as its config says.

    Args:
        labelled: labels are looked at, so that one which the task does not know is an error.

    Raises UserError for an example that has the fields of no form, and for a checkpoint that was
    imported without a head.
    """
    require_head(loaded, "this checkpoint")
    by_fields: dict[tuple[str, ...], list[int]] = {}  # the numbers of the examples of each form
    for i, example in enumerate(examples):
        form = fitting(loaded, example)
        if form is None:
            raise UserError(f"example {i}: {wrong_fields(loaded, example)}")
        by_fields.setdefault(form.fields, []).append(i)
    asked = []
    for form in forms(loaded):
        if chosen := [examples[i] for i in by_fields.get(form.fields, ())]:
            asked.append(Asked.of(form.reader(chosen), chosen, labelled))
    numbers = [i for form in forms(loaded) for i in by_fields.get(form.fields, ())]
    total = sum(len(windows) for part in asked for windows in part.segments)
    progress = Progress(total, "predict", unit="segment", active=not quiet)
    predictions = dict(zip(numbers, read(loaded, asked, progress), strict=True))
    ordered = [predictions[i] for i in range(len(examples))]
    if loaded.task is not None and loaded.task.prompt is not None:
        texts = _generated(loaded, examples, quiet)
        return [p | {"text": text} for p, text in zip(ordered, texts, strict=True)]
    return ordered


@dataclasses.dataclass(frozen=True)
class Asked:
    """Examples that are read in one way, and their segments."""

    reader: Task | Reader
    examples: Sequence[Example]
    segments: list[list[Segment]]

    @staticmethod
    def of(reader: Task | Reader, examples: Sequence[Example], labelled: bool = False) -> "Asked":
        segments = [reader.segments(example, i, labelled) for i, example in enumerate(examples)]
        return Asked(reader, examples, segments)


def read(loaded: Loaded, asked: Sequence[Asked], progress: Progress) -> list[Prediction]:
    """A prediction for each example of all that is asked, in order; progress: of their segments."""
    mesh, done = loaded.mesh, 0
    predictions: list[Prediction] = []
    with meshes.use(mesh, loaded.placement), progress:
        for part in asked:
            predictions += evaluator.predictions(
                _step(loaded.model, part.reader.objective, mesh),
                loaded.params,
                part.reader,
                part.examples,
                part.segments,
                loaded.tokenizer.pad,
                meshes.batch_sharding(mesh),
                row_multiple=meshes.row_multiple(mesh),
                progress=lambda count, before=done: progress.update(before + count),
            )
            done += sum(map(len, part.segments))
    return predictions


def wrong_fields(loaded: Loaded, fields: Collection[str]) -> str:
    """That these fields are of no use here, and which are."""
    takes = " or ".join(" with ".join(form.fields) for form in forms(loaded))
    there = ", ".join(fields) or "nothing"
    return f"{trained_for(loaded)} takes {takes}; given: {there}"


def trained_for(loaded: Loaded) -> str:
    """The checkpoint in a few words."""
    names = loaded.task.name if loaded.task else " and ".join(o.name for o in loaded.objectives)
    return f"a checkpoint of {names}"


def show(loaded: Loaded, example: Example, prediction: Prediction) -> str:
    """An example and its prediction in one readable line."""
    return fitting(loaded, example).reader([example]).show(example, prediction)


def show_text(loaded: Loaded, example: Example) -> str:
    """One example with what the checkpoint makes of it, in one line."""
    return show(loaded, example, predict(loaded, [example])[0])


def continuation(loaded: Loaded, prompt: str, max_tokens: int = 24) -> str:
    """How a causal model goes on from a prompt, sampled with a fixed seed."""
    return generate(loaded, [prompt], max_tokens, TOLD)[0]


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
    """How each prompt goes on, without the prompt itself.

    Args:
        max_tokens: new tokens at most.
        numbers: what keys the random draws of each prompt; default: 0, 1, 2, …

    Raises UserError for a checkpoint that does not continue texts, and as `decode.generate`.
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
    """Jitted once, however often a run is asked."""
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
