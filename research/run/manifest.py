"""What a run is before anything of it is made, and whether that fits together.

A run that is still to be made can start from another one: then the manifest of that stands for its
checkpoint, and a tokenizer with the same special tokens for one that is to be trained.
"""

import dataclasses

from research.checkpoints.reading import read_info
from research.config import Config, of_checkpoint
from research.data import sources, tokenizer_files
from research.data.tokenizer import Tokenizer
from research.errors import UserError
from research.models import config as model_config
from research.models import lora
from research.models import params as parameters
from research.models.config import ModelConfig
from research.objectives.objective import heads_of
from research.optim import optimizer
from research.run import corpus
from research.run.loaded import objectives_of
from research.sharding import mesh as meshes

SOME_TEXT = ("some text",)
CUT = 500  # about so many examples of a split, from all over it, are cut into segments
SOME_STEPS = 100  # of a schedule that only has to be well formed


@dataclasses.dataclass(frozen=True)
class Manifest:
    """A config with the shape and the labels that the run has, and its tokenizer.

    stands_in: the tokenizer is not that of the run, which is still to be trained.
    """

    config: Config
    tokenizer: Tokenizer
    stands_in: bool = False


@dataclasses.dataclass(frozen=True)
class Seen:
    """What `check` has read and found to fit, for the next runs: splits by what they are read
    from, and the names of sources and splits."""

    splits: dict[str, corpus.Split] = dataclasses.field(default_factory=dict)
    fitting: set[str] = dataclasses.field(default_factory=set)


def resolve(config: Config, start: Manifest | None = None, dry: bool = False) -> Manifest:
    """The config with shape and tokenizer taken from `init_from` and labels from the examples where
    it says so, and checked.

    Args:
        start: of the run that it starts from, where that is still to be made; default: what the
            checkpoint `init_from` says.
        dry: no tokenizer is trained.

    Raises UserError where they do not fit the checkpoint or each other.
    """
    if start is None and config.init_from:
        info = read_info(config.init_from)
        theirs = of_checkpoint(info.config, config.init_from)
        start = Manifest(theirs, Tokenizer.from_json(info.tokenizer_json))
    tokenizer, stands_in = _tokenizer(config, start, dry)
    trained = stands_in and config.tokenizer.kind in ("wordpiece", "byte_bpe")
    entries = config.tokenizer.vocab_size if trained else tokenizer.vocab_size
    model = shape(config, start.config.model if start else None, entries)
    if start and not stands_in and not start.stands_in:
        _check_tokenizer(config, tokenizer, start)
    frozen = config.optimizer.freeze
    if model.lora_rank and lora.FREEZE not in frozen:
        changed = dataclasses.replace(config.optimizer, freeze=(*frozen, lora.FREEZE))
        config = dataclasses.replace(config, optimizer=changed)
    before = getattr(start.config.task, "labels", ()) if start else ()
    config = corpus.with_labels(dataclasses.replace(config, model=model), before)
    return Manifest(config, tokenizer, stands_in)


def check(manifest: Manifest, devices: int, seen: Seen | None = None) -> None:
    """Raises UserError for what `build` would refuse, as far as it can be known without training a
    tokenizer and tokenising a corpus. Nothing is made, and no device is touched.

    Args:
        devices: how many the run will have.
        seen: what other runs share with this one is read once.
    """
    config, seen = manifest.config, seen or Seen()
    sizes = dict(zip(meshes.AXES, meshes.axis_sizes(config.mesh, devices), strict=True))
    meshes.check_length(config.mesh, sizes, config.data.length)
    objectives, task = objectives_of(config, manifest.tokenizer)
    if task is None:
        rows = sizes["data"] * sizes["fsdp"]
        corpus.check_pretraining(config.data, config.train, objectives, manifest.tokenizer, rows)
        for source in config.data.corpus:
            if repr(source) not in seen.fitting:
                sources.fingerprint(source)  # raises where there is nothing to read
                seen.fitting.add(repr(source))
    else:
        train = config.data.train  # whose fields may be those of the others
        for name in ("train", "validation", "test"):
            if getattr(config.data, name) is None:
                continue
            source = config.data.source(name)
            key = f"{task.kind} {source} {train.fields} {train.label_names}"
            if key not in seen.splits:
                seen.splits[key] = corpus.split(config.data, task.kind, name)
            if f"{key} {config.task}" not in seen.fitting:
                split = seen.splits[key]
                corpus.task_segments(task, split, max(1, len(split.examples) // CUT))
                seen.fitting.add(f"{key} {config.task}")
    given = config.optimizer
    if given.freeze or given.rates or given.layer_decay != 1.0:
        shapes = parameters.shapes(config.model, heads_of(objectives, config.model))
        optimizer.make(given, config.train.steps or SOME_STEPS, shapes)


def shape(config: Config, theirs: ModelConfig | None, entries: int) -> ModelConfig:
    """The model of a config, checked.

    Args:
        theirs: that of the checkpoint it starts from.
        entries: of its tokenizer.

    Raises UserError where it does not fit the checkpoint, or its own values each other.
    """
    model = config.model
    if model.preset == "checkpoint":
        changed = {key: getattr(model, key) for key in model.given}
        model = dataclasses.replace(theirs, **changed)
    if theirs is not None:
        _check_shape(model, theirs, config)
    vocab = max(entries, theirs.vocab_size if theirs else 0)
    model = dataclasses.replace(model, vocab_size=vocab)
    model_config.check(model)
    lora.check(model)
    check_length(model, config.data.length)
    return model


def check_length(model: ModelConfig, length: int) -> None:
    """Raises UserError for rows longer than the model has positions."""
    if model.positions == "learned" and length > model.max_positions:
        raise UserError(
            f"config.data.length={length} is beyond the model's {model.max_positions} positions "
            "(config.model.max_positions)"
        )


def _check_shape(model: ModelConfig, theirs: ModelConfig, config: Config) -> None:
    differ = [
        f"  model.{key}: {getattr(theirs, key)!r} in the checkpoint, {getattr(model, key)!r} here"
        for key in model_config.SHAPE_KEYS
        if getattr(model, key) != getattr(theirs, key) and not _may_differ(key, model, theirs)
    ]
    if differ:
        raise UserError(
            "\n".join(
                [
                    f"the checkpoint {config.init_from} is of another model shape:",
                    *differ[:8],
                    "take the checkpoint's shape with --config.model.preset=checkpoint",
                ]
            )
        )


def _may_differ(key: str, model: ModelConfig, theirs: ModelConfig) -> bool:
    """What can be added to a restored backbone: rows, adapters, a pooler."""
    if key.startswith("lora"):
        return not theirs.lora_rank
    if key.startswith("pooler"):
        return not theirs.pooler
    return key == "vocab_size"


def _tokenizer(config: Config, start: Manifest | None, dry: bool) -> tuple[Tokenizer, bool]:
    """The tokenizer of a run, and whether it only stands in for one that is not there yet."""
    wanted, stands_in = config.tokenizer, False
    if wanted.kind == "checkpoint":
        found, stands_in = start.tokenizer, start.stands_in
    elif wanted.kind == "file":
        found = tokenizer_files.load(wanted.path)
    elif dry and wanted.kind != "bytes":
        found, stands_in = corpus.trained(wanted, SOME_TEXT), True
    else:
        found = corpus.make_tokenizer(wanted, config.data)
    found = found.with_tokens(wanted.add_tokens) if wanted.add_tokens else found
    return found.parsing_special() if wanted.parse_special else found, stands_in


def _check_tokenizer(config: Config, tokenizer: Tokenizer, start: Manifest) -> None:
    """Raises UserError for a tokenizer that the weights of a checkpoint do not fit."""
    size, rows = tokenizer.vocab_size, start.config.model.vocab_size
    if not config.tokenizer.add_tokens and size > rows:
        raise UserError(
            f"the tokenizer has {size:,} entries, the embedding of {config.init_from} has "
            f"{rows:,} rows; use its own tokenizer (tokenizer.kind='checkpoint') or list new "
            "tokens in tokenizer.add_tokens"
        )
    own = start.tokenizer.with_tokens(config.tokenizer.add_tokens)
    if config.init == "restore" and tokenizer.fingerprint() != own.fingerprint():
        raise UserError(
            f"the tokenizer (tokenizer.kind={config.tokenizer.kind!r}) is not the one that "
            f"{config.init_from} was trained with, so its ids would stand for other texts; "
            "use its own (--config.tokenizer.kind=checkpoint), or new weights "
            "(--config.init=fresh)"
        )
