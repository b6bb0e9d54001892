"""What a checkpoint makes of texts: the forms in which it can be asked, and its predictions."""

import ast
import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping, Sequence

import jax
from jax.sharding import Mesh

from research.config import Config
from research.data import kinds
from research.data.batch import Layout, Slot
from research.data.kinds import Columns
from research.data.row import Row
from research.errors import UserError
from research.evaluation import evaluator
from research.generation import decode
from research.generation.decoding import DecodingConfig
from research.models.config import ModelConfig
from research.monitoring.progress import Progress
from research.objectives.objective import Loss, Reader, continues_with
from research.run import corpus
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
    layout = Layout(loaded.config.data.length, loaded.config.data.slots)
    # Each fields in one way: of a mixture that fills masks, `generate` shows what comes next.
    found: dict[tuple[str, ...], Form] = {}
    for objective in filter(lambda o: o.asks, loaded.objectives):
        reader = functools.partial(objective.reader, loaded.tokenizer, layout)
        found.setdefault(objective.asks, Form(objective.asks, objective.gives, reader))
    return tuple(found.values())


def kind_of(loaded: Loaded) -> str:
    """The kind of example that it reads; a pre-trained one reads a text or a pair of texts."""
    return loaded.task.kind if loaded.task is not None else "classification"


def parsed_fields(text: str) -> dict[str, str]:
    """What --fields says: our names -> a file's columns. Raises UserError for another value."""
    try:
        found = ast.literal_eval(text or "{}")
    except (ValueError, SyntaxError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
        raise UserError(f'--fields={text} must be a dict, such as \'{{"text": "review"}}\'')
    return found


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
        form.reader([example]).slots(example, 0, False)
    except UserError as error:  # which names the example, not its line
        raise UserError(f"{row.where}: {error}") from error
    # As it stands in the file, number or text, so that the predictions can be joined to its rows.
    return example | {"id": row.fields.get(columns.theirs("id", row), row.fallback_id)}


def fitting(loaded: Loaded, given: Collection[str]) -> Form | None:
    """The form whose fields are all given, more of them before fewer; None if there is none."""
    fit = [form for form in forms(loaded) if set(form.fields) <= set(given)]
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
    found: list[Prediction] = [{} for _ in examples]
    asked = [_ask(form, chosen, examples, labelled) for form, chosen in _by_form(loaded, examples)]
    total = sum(len(windows) for part in asked for windows in part.slots)
    with Progress(total, "predict", unit="slot", active=not quiet) as progress:
        done = 0
        for part in asked:
            read = _read(loaded, part, _counting(progress, done))
            for i, prediction in zip(part.numbers, read, strict=True):
                found[i] = prediction
            done += sum(map(len, part.slots))
    if loaded.task is not None and loaded.task.prompt is not None:
        texts = _generated(loaded, examples, quiet)
        found = [p | {"text": text} for p, text in zip(found, texts, strict=True)]
    return found


@dataclasses.dataclass(frozen=True)
class _Asked:
    """Examples of one form: their numbers among all, how they are read, and their slots."""

    numbers: list[int]
    examples: list[Example]
    reader: Task | Reader
    slots: list[list[Slot]]


def _by_form(loaded: Loaded, examples: Sequence[Example]) -> list[tuple[Form, list[int]]]:
    """The numbers of the examples of each form that occurs."""
    by_fields: dict[tuple[str, ...], list[int]] = {}
    for i, example in enumerate(examples):
        form = fitting(loaded, example)
        if form is None:
            raise UserError(f"example {i}: {wrong_fields(loaded, example)}")
        by_fields.setdefault(form.fields, []).append(i)
    return [(f, by_fields[f.fields]) for f in forms(loaded) if f.fields in by_fields]


def _ask(form: Form, numbers: list[int], examples: Sequence[Example], labelled: bool) -> _Asked:
    chosen = [examples[i] for i in numbers]
    reader = form.reader(chosen)
    slots = [reader.slots(example, i, labelled) for i, example in enumerate(chosen)]
    return _Asked(numbers, chosen, reader, slots)


def _counting(progress: Progress, before: int) -> Callable[[int], None]:
    return lambda done: progress.update(before + done)


def wrong_fields(loaded: Loaded, given: Collection[str]) -> str:
    """That these fields are of no use here, and which are."""
    takes = " or ".join(" with ".join(form.fields) for form in forms(loaded))
    there = ", ".join(given) or "nothing"
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
        sampling=decoding.sampling,
        beams=decoding.search,
        stop=decoding.stop,
        pattern=continues_with(loaded.objectives),
        ids=numbers,
    )


def split_examples(config: Config, task: Task, split: str) -> list[Example]:
    """The examples of a task's "validation" or "test" split, of validation where it has no test."""
    return corpus.split(config, split).examples


def _read(loaded: Loaded, asked: _Asked, progress: Callable[[int], None]) -> list[Prediction]:
    reader, mesh = asked.reader, loaded.mesh
    with meshes.use(mesh, loaded.placement):
        return evaluator.predictions(
            _step(loaded.model, reader.objective, mesh),
            loaded.params,
            reader,
            asked.examples,
            loaded.tokenizer.pad,
            meshes.batch_sharding(mesh),
            row_multiple=meshes.row_multiple(mesh),
            progress=progress,
            slots=asked.slots,
        )


@functools.lru_cache(maxsize=4)
def _step(model: ModelConfig, objective: Loss, mesh: Mesh) -> Callable:
    """Jitted once, however often a run is asked."""
    return jax.jit(make_predict_step(model, objective), out_shardings=meshes.replicated(mesh))


def _generated(loaded: Loaded, examples: Sequence[Example], quiet: bool) -> list[str]:
    task = loaded.task
    prompts = [task.prompt(example) for example in examples]
    made: list[str] = []
    with Progress(len(prompts), "generate", unit="text", active=not quiet) as progress:
        for first in range(0, len(prompts), PROMPTS):
            part = prompts[first : first + PROMPTS]
            numbers = range(first, first + len(part))
            made += generate(loaded, part, task.max_new_tokens, task.decoding, numbers)
            progress.update(len(made))
    return made if task.kind == "story" else [text.strip() for text in made]
