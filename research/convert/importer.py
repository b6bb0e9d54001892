"""A public checkpoint into one of ours."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from research.config import Config, from_values, to_values
from research.convert import mapping
from research.convert.families import family_of
from research.convert.family import Family
from research.convert.folder import Public, download, read_folder, require_free
from research.errors import UserError
from research.models import config as model_config
from research.models import params as parameters
from research.models.config import ModelConfig
from research.objectives.protocol import heads_of
from research.tasks.span_qa import SpanQAConfig
from research.training import checkpoint
from research.training.inference import objectives_of

ROW = 512  # tokens of a row, unless the model has fewer positions
CHOICES = 4
POOLED = ("sequence_classification", "multiple_choice")
OBJECTIVES = ("masked_lm", "next_sentence", "causal_lm")


@dataclasses.dataclass(frozen=True)
class Imported:
    """What was read: the config of the new checkpoint, its params, and what the source is."""

    config: Config
    params: Any
    architecture: str
    source: Public


def read(source: str) -> Imported:
    """Reads a folder, a GGUF file, or a name of the Hugging Face hub.

    Raises UserError for whatever is not understood: architecture, config key, tensor, tokenizer.
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
    return convert(public)


def convert(public: Public) -> Imported:
    """The parameters of a public checkpoint in our tree, every tensor accounted for."""
    family = family_of(public.hf)
    model = family.to_model(public.hf, frozenset(public.tensors))
    model_config.check(model)
    if public.tokenizer.vocab_size > model.vocab_size:
        raise UserError(
            f"{public.where}: the tokenizer has {public.tokenizer.vocab_size:,} entries, the "
            f"embedding {model.vocab_size:,} rows"
        )
    errors = []
    for name in _candidates(family, public):
        try:
            return Imported(*_as_class(public, family, model, name), name, public)
        except UserError as error:
            errors.append(error)
    raise errors[0]


def _as_class(public: Public, family: Family, model: ModelConfig, name: str) -> tuple[Config, Any]:
    """Config and params, if the tensors are those of the class."""
    config = _config(family, name, model, public)
    tree = parameters.shapes(model, _heads(config, public))
    shapes = parameters.by_path(tree)
    rules = mapping.active(family.rules(model, name), shapes)
    found = mapping.read(
        _with_prefix(public, family, rules, model),
        rules,
        shapes,
        model.layers,
        lambda path, layer: family.skip(model, path, layer),
        family.ignored,
        family.copies,
        public.where,
    )
    return config, jax.tree.unflatten(
        jax.tree.structure(tree), [jnp.asarray(found[path]) for path in shapes]
    )


def _candidates(family: Family, public: Public) -> list[str]:
    """The class that config.json names, then the others: some checkpoints hold more heads."""
    named = (public.hf.get("architectures") or [next(iter(family.classes))])[0]
    family.heads_of(named)
    others = [n for n, heads in family.classes.items() if heads and _plain(heads) and n != named]
    return [named, *others]


def _plain(heads: tuple[str, ...]) -> bool:
    """Heads of pre-training alone, which need no labels."""
    return all(head in OBJECTIVES for head in heads)


def _with_prefix(public: Public, family: Family, rules: Any, model: ModelConfig) -> dict:
    """The tensors under the names of the rules, some files leave the backbone's prefix out."""
    known = {
        name
        for rule in rules
        for name in mapping.names(rule, model.layers, lambda path, layer: False)
    }
    return {
        name if name in known or family.prefix + name not in known else family.prefix + name: read
        for name, read in public.tensors.items()
    }


def _config(family: Family, name: str, model: ModelConfig, public: Public) -> Config:
    length = min(ROW, model.max_positions)
    values: dict[str, Any] = {
        "model": dataclasses.asdict(model),
        "tokenizer": {"kind": "file", "path": public.where},
        "data": {"length": length},
    }
    heads = family.heads_of(name)
    if _plain(heads):
        values["objective"] = {head: {} for head in heads}
    else:
        values["task"] = _task(family, heads[0], public, length)
    return from_values(values, public.where, to_run=False)


def _task(family: Family, head: str, public: Public, length: int) -> dict[str, Any]:
    hf = public.hf
    if head == "span_qa":
        question = min(SpanQAConfig.max_question, length // 4)
        room = length - len(public.tokenizer.frame(2)) - question
        stride = min(SpanQAConfig.stride, max(1, room // 2))
        return {"name": head, "max_question": question, "stride": stride}
    pooling = {"pooling": family.pooling(hf)} if head in POOLED else {}
    if head == "multiple_choice":  # how many there are, no config.json says
        return {"name": head, "choices": CHOICES} | pooling
    problem = hf.get("problem_type")
    labels = hf.get("id2label") or {str(i): f"LABEL_{i}" for i in range(2)}
    if pooling and (problem == "regression" or (problem is None and len(labels) == 1)):
        return {"name": "regression"} | pooling
    wanted = [str(number) for number in range(len(labels))]
    if set(labels) != set(wanted):
        raise UserError(f"config.json: id2label has the ids {', '.join(labels)}, expected 0 to "
                        f"{len(labels) - 1}")  # fmt: skip
    name = "multi_label" if problem == "multi_label_classification" and pooling else head
    return {"name": name, "labels": [labels[number] for number in wanted]} | pooling


def _heads(config: Config, public: Public) -> dict[str, Any]:
    try:
        objectives, _ = objectives_of(config, public.tokenizer)
    except UserError as error:  # of labels that the task does not have
        raise UserError(f"{public.where}: its head is not supported: {error}") from error
    return heads_of(objectives)


def save(imported: Imported, output: str) -> None:
    """Writes the checkpoint as step 0. Raises UserError where OUTPUT holds something already."""
    require_free(Path(output))
    meta = {
        "metrics": {},
        "source": imported.source.where,
        "architecture": imported.architecture,
        "pattern": family_of(imported.source.hf).pattern,
    }
    folder = Path(output) / "checkpoints"
    try:
        checkpoint.write_checkpoint(
            str(folder),
            0,
            imported.params,
            to_values(imported.config),
            imported.source.tokenizer.to_json(),
            meta,
        )
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
