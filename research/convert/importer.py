"""Imports a public checkpoint."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from research.checkpoints import checkpoint
from research.config import Config, from_values, to_values
from research.convert import mapping, sentence_folder
from research.convert.families import family_of
from research.convert.family import Family
from research.convert.folder import Public, appearing, download, read_folder, require_free
from research.convert.mapping import Rule
from research.errors import UserError
from research.evaluation.embedding import Recipe
from research.metrics import entities
from research.models import config as model_config
from research.models import params as parameters
from research.models.config import ModelConfig
from research.objectives import ObjectivesConfig
from research.objectives.objective import heads_of
from research.run.loaded import objectives_of
from research.tasks import turns
from research.tasks.multiple_choice import MultipleChoiceConfig
from research.tasks.span_qa import SpanQAConfig
from research.tasks.token_classification import TokenClassificationConfig

ROW = 512  # tokens of a row, unless the model has fewer positions
CHOICES = 4
QUESTION = 64  # tokens of the longest question, as in BERT's run_squad.py
OF_HEADS = ("heads/", "backbone/pooler/")  # our paths of parameters that depend on the class
POOLER = "backbone/pooler/dense/kernel"
POOLED = ("sequence_classification", "multiple_choice")
OBJECTIVES = ("masked_lm", "next_sentence", "causal_lm")


@dataclasses.dataclass(frozen=True)
class Imported:
    """The config and params of the new checkpoint, and its source.

    vectors: the folder's recipe of vectors, if it has one. max_length: tokens of the longest text.
    notes: lines about what was left out, and what the source does not say.
    """

    config: Config
    params: Any
    architecture: str
    source: Public
    vectors: Recipe | None
    max_length: int | None
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Fit:
    """A class of the library that has the source's tensors, except those in `left_out`."""

    name: str
    config: Config
    shapes: Any  # of our parameters
    tensors: dict[str, Any]
    rules: list[Rule]
    left_out: list[str]
    notes: tuple[str, ...]


def read(source: str, labels: Sequence[str] = ()) -> Imported:
    """Reads a folder, a GGUF file, or a name of the Hugging Face hub.

    labels: names of the head's outputs in order, in place of those in config.json.

    Raises UserError for an unsupported architecture, config key, tensor or tokenizer.
    """
    path = Path(source).expanduser()
    if path.suffix == ".gguf" and path.is_file():
        from research.convert.gguf import read_gguf

        public = read_gguf(path)
    elif path.is_dir():
        public = read_folder(path)
    elif path.exists():
        raise UserError(f"{path} is neither a folder with a config.json nor a .gguf file")
    else:
        public = read_folder(download(source))
    return convert(public, labels)


def convert(public: Public, labels: Sequence[str] = ()) -> Imported:
    """Converts a public checkpoint to our parameters, with every tensor accounted for."""
    family, folder = family_of(public.hf), Path(public.where)
    vectors, max_length = sentence_folder.read(folder), sentence_folder.max_length(folder)
    if public.hf.get("quantization_config"):
        raise UserError(
            f"{public.where}: config.json has a quantization_config, so its weights are not plain "
            "numbers; take the checkpoint that it was quantised from"
        )
    model = family.to_model(public.hf)
    model_config.check(model)
    if public.tokenizer.vocab_size > model.vocab_size:
        raise UserError(
            f"{public.where}: the tokenizer has {public.tokenizer.vocab_size:,} entries, the "
            f"embedding {model.vocab_size:,} rows"
        )
    fits, errors = [], []
    for name in _candidates(family, public):
        try:
            fits.append(_fit(public, family, model, name, max_length, labels))
        except UserError as error:
            errors.append(error)
    if not fits:
        raise errors[0]
    fit = min(fits, key=lambda fit: len(fit.left_out))
    if labels and not hasattr(fit.config.task, "labels"):
        raise UserError(f"--labels: {fit.name} has no labels")
    notes = [*fit.notes, *_limits(fit.config), *_turns(public)]
    if fit.left_out:
        notes.append(f"left out, as this model has no such tensors: {mapping.listed(fit.left_out)}")
    shapes, layers = parameters.by_path(fit.shapes), model.layers
    arrays = mapping.read(fit.tensors, fit.rules, shapes, layers, family.skip, public.where)
    params = parameters.map_by_path(lambda path, _: jnp.asarray(arrays[path]), fit.shapes)
    return Imported(fit.config, params, fit.name, public, vectors, max_length, tuple(notes))


def _fit(
    public: Public,
    family: Family,
    model: ModelConfig,
    name: str,
    max_length: int | None,
    labels: Sequence[str],
) -> _Fit:
    """Fits the tensors to the class `name`. Raises UserError if they are not its tensors."""
    length = min(ROW, model.max_positions, max_length or ROW)
    tensors = _named(public, family, model, name)
    rules = family.rules_of(model, name)
    poolers = {rule.theirs for rule in rules if rule.ours[0] == POOLER}
    model = dataclasses.replace(model, pooler=bool(poolers & tensors.keys()))
    config, notes = _config(family, name, model, public, length, labels), ()
    if isinstance(config.task, TokenClassificationConfig) and not labels:
        try:
            entities.scheme(config.task.labels)
        except ValueError as error:
            config = dataclasses.replace(config, task=None, objective=ObjectivesConfig())
            notes = (f"its head is left out: {error}. To keep it, name its labels, in order: "
                     "--labels=O,B-PER,I-PER,…",)  # fmt: skip
    try:
        objectives, _ = objectives_of(config, public.tokenizer)
        shapes = parameters.shapes(model, heads_of(objectives, model))
    except UserError as error:  # labels that the task does not have
        raise UserError(f"{public.where}: its head is not supported: {error}") from error
    rules = mapping.active(rules, parameters.by_path(shapes))
    left_out = mapping.match(
        tensors,
        rules,
        model.layers,
        family.skip,
        family.ignored,
        _copies(family, model, name),
        _of_heads(family, model),
        public.where,
    )
    return _Fit(name, config, shapes, tensors, rules, left_out, notes)


def _candidates(family: Family, public: Public) -> list[str]:
    """The class that config.json names; if it has only heads of pre-training, also the other such
    classes, which may fit better: some checkpoints hold more heads."""
    named = (public.hf.get("architectures") or [next(iter(family.classes))])[0]
    if not _plain(family.heads_of(named)):
        return [named]
    others = [n for n, heads in family.classes.items() if heads and _plain(heads) and n != named]
    return [named, *others]


def _plain(heads: tuple[str, ...]) -> bool:
    """Whether all heads are of pre-training, which need no labels."""
    return all(head in OBJECTIVES for head in heads)


def _tensor_names(rules: Sequence[Rule], layers: int) -> set[str]:
    return {n for rule in rules for n in mapping.names(rule, layers, lambda path, layer: False)}


def _of_heads(family: Family, model: ModelConfig) -> set[str]:
    """The tensors of all heads and poolers of the family."""
    return {
        name
        for kind in family.classes
        for name in _tensor_names(
            [r for r in family.rules_of(model, kind) if r.ours[0].startswith(OF_HEADS)],
            model.layers,
        )
    }


def _named(public: Public, family: Family, model: ModelConfig, name: str) -> dict[str, Any]:
    """Renames the tensors as in the class `name`.

    Some files lack the backbone's prefix, or have it where the class does not, and some have only
    the copy of a tied table.
    """
    known = _tensor_names(family.rules_of(model, name), model.layers)

    def renamed(tensor: str) -> str:
        prefix = family.prefix
        candidates = (tensor, prefix + tensor, tensor.removeprefix(prefix))
        return next((candidate for candidate in candidates if candidate in known), tensor)

    tensors = {renamed(tensor): read for tensor, read in public.tensors.items()}
    for copy, original in _copies(family, model, name).items():
        if copy in tensors:
            tensors.setdefault(original, tensors[copy])
    return tensors


def _copies(family: Family, model: ModelConfig, name: str) -> dict[str, str]:
    """The family's copies, with the originals' names in the class `name`."""
    if not model.tied_embeddings:
        return {}
    bare = not family.classes[name]
    return {
        copy: original.removeprefix(family.prefix) if bare else original
        for copy, original in family.copies.items()
    }


def _config(
    family: Family,
    name: str,
    model: ModelConfig,
    public: Public,
    length: int,
    labels: Sequence[str],
) -> Config:
    values: dict[str, Any] = {
        "model": dataclasses.asdict(model),
        "tokenizer": {"kind": "file", "path": public.where},
        "data": {"length": length},
    }
    heads = family.heads_of(name)
    if _plain(heads):
        values["objective"] = {head: {} for head in heads}
    else:
        values["task"] = _task(family, heads[0], public, length, labels)
    return from_values(values, public.where, to_run=False)


def _task(
    family: Family, head: str, public: Public, length: int, names: Sequence[str]
) -> dict[str, Any]:
    hf = public.hf
    if head == "span_qa":
        room = length - len(public.tokenizer.frame(2))
        stride = min(SpanQAConfig.stride, max(1, room // 2))
        return {"name": head, "max_question": QUESTION, "stride": stride}
    pooling = {"pooling": family.pooling(hf)} if head in POOLED else {}
    if head == "multiple_choice":  # config.json does not say how many
        return {"name": head, "choices": CHOICES} | pooling
    problem = hf.get("problem_type")
    count = hf.get("num_labels") or 2
    labels = hf.get("id2label") or {str(i): f"LABEL_{i}" for i in range(count)}
    if pooling and (problem == "regression" or (problem is None and len(labels) == 1)):
        return {"name": "regression"} | pooling
    wanted = [str(number) for number in range(len(labels))]
    if set(labels) != set(wanted):
        raise UserError(f"config.json: id2label has the ids {', '.join(labels)}, expected 0 to "
                        f"{len(labels) - 1}")  # fmt: skip
    name = "multi_label" if problem == "multi_label_classification" and pooling else head
    if names and len(names) != len(labels):
        raise UserError(
            f"--labels={','.join(names)} has {len(names)} names; the head has {len(labels)} "
            f"outputs: {', '.join(labels[number] for number in wanted)}"
        )
    return {"name": name, "labels": names or [labels[number] for number in wanted]} | pooling


def _limits(config: Config) -> list[str]:
    """Lines about the keys that the import has set because the source does not say them."""
    length = config.data.length
    lines = [f"--config.data.length={length}: a longer text is cut, or read in windows"]
    if isinstance(config.task, SpanQAConfig):
        task = config.task
        lines += [
            f"--config.task.max_question={task.max_question}: a longer question loses its end, if "
            "it does not fit in a row with its context",
            f"--config.task.stride={task.stride}: tokens between the starts of two windows",
            f"--config.task.max_answer={task.max_answer}: tokens of the longest answer",
            "--config.task.unanswerable=false: every question has an answer",
        ]
    if isinstance(config.task, MultipleChoiceConfig):
        lines.append(f"--config.task.choices={config.task.choices}: each has its share of a row")
    return ["set by this import; predict and evaluate can change them:", *lines]


def _turns(public: Public) -> list[str]:
    """A line that says whether the task chat writes turns as the source's template does."""
    if not public.chat_template:
        return []
    try:
        form = turns.form(public.tokenizer)
        if public.chat_template == turns.template(public.tokenizer):
            return ["its chat_template is how the task chat writes turns"]
        shown = repr(turns.write(form, [{"role": "user", "content": "…"}])[0])
    except UserError:
        return ["its chat_template is kept for an export; the task chat needs an end token"]
    return [f"its chat_template is kept for an export and not run: the task chat writes {shown}"]


def save(imported: Imported, output: str) -> None:
    """Writes the checkpoint as step 0. Raises UserError if OUTPUT is not empty."""
    folder = Path(output)
    require_free(folder)
    meta = {
        "metrics": {},
        "source": imported.source.where,
        "architecture": imported.architecture,
        "pattern": family_of(imported.source.hf).pattern,
        "max_length": imported.max_length,
        "chat_template": imported.source.chat_template,
        "vectors": imported.vectors and dataclasses.asdict(imported.vectors),
    }
    config, tokenizer = to_values(imported.config), imported.source.tokenizer.to_json()
    with appearing(folder) as part:
        checkpoint.write_checkpoint(
            str(part / "checkpoints"), 0, imported.params, config, tokenizer, meta
        )
