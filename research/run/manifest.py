"""Resolves a config into model shape, tokenizer and labels, without building the run; checks them.

A run may start from another one that does not exist yet: then that run's manifest replaces its
checkpoint, and a tokenizer with the same special tokens replaces one that is still to be trained.
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
CUT = 500  # `check` cuts about this many examples, spread over a split, into segments
SOME_STEPS = 100  # length of a schedule that only has to be well formed


@dataclasses.dataclass(frozen=True)
class Manifest:
    """A config with the run's model shape and labels filled in, and its tokenizer.

    stands_in: the tokenizer replaces the run's own one, which is still to be trained.
    """

    config: Config
    tokenizer: Tokenizer
    stands_in: bool = False


@dataclasses.dataclass(frozen=True)
class Seen:
    """What `check` has read and accepted, shared between runs: splits, by what they are read from,
    and the keys of accepted sources and splits."""

    splits: dict[str, corpus.Split] = dataclasses.field(default_factory=dict)
    fitting: set[str] = dataclasses.field(default_factory=set)


def resolve(config: Config, start: Manifest | None = None, dry: bool = False) -> Manifest:
    """Takes shape and tokenizer from `init_from` and labels from the examples, as the config asks,
    and checks them.

    Args:
        start: manifest of the run to start from, if that run does not exist yet; default: that of
            the checkpoint `init_from`.
        dry: trains no tokenizer.

    Raises UserError if they disagree with the checkpoint or with each other.
    """
    if start is None and config.init_from:
        info = read_info(config.init_from)
        start_config = of_checkpoint(info.config, config.init_from)
        start = Manifest(start_config, Tokenizer.from_json(info.tokenizer_json))
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
    """Raises UserError for what `build` would refuse, as far as that shows without training a
    tokenizer or tokenising a corpus. Builds nothing and touches no device.

    Args:
        devices: number of devices that the run will have.
        seen: what earlier calls have read and accepted, so that shared data is read once.
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
        train = config.data.train  # the other splits may take its fields
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
    options = config.optimizer
    if options.freeze or options.rates or options.layer_decay != 1.0:
        shapes = parameters.shapes(config.model, heads_of(objectives, config.model))
        optimizer.make(options, config.train.steps or SOME_STEPS, shapes)


def shape(config: Config, start: ModelConfig | None, entries: int) -> ModelConfig:
    """Returns the model of a config, checked.

    Args:
        start: model of the checkpoint that the run starts from.
        entries: vocabulary size of the run's tokenizer.

    Raises UserError if the model disagrees with the checkpoint or with itself.
    """
    model = config.model
    if model.preset == "checkpoint":
        changed = {key: getattr(model, key) for key in model.given}
        model = dataclasses.replace(start, **changed)
    if start is not None:
        _check_shape(model, start, config)
    vocab = max(entries, start.vocab_size if start else 0)
    model = dataclasses.replace(model, vocab_size=vocab)
    model_config.check(model)
    lora.check(model)
    check_length(model, config.data.length)
    return model


def check_length(model: ModelConfig, length: int) -> None:
    """Raises UserError if rows are longer than the model's number of learned positions."""
    if model.positions == "learned" and length > model.max_positions:
        raise UserError(
            f"config.data.length={length} is beyond the model's {model.max_positions} positions "
            "(config.model.max_positions)"
        )


def _check_shape(model: ModelConfig, start: ModelConfig, config: Config) -> None:
    differ = [
        f"  model.{key}: {getattr(start, key)!r} in the checkpoint, {getattr(model, key)!r} here"
        for key in model_config.SHAPE_KEYS
        if getattr(model, key) != getattr(start, key) and not _may_differ(key, model, start)
    ]
    if differ:
        raise UserError(
            "\n".join(
                [
                    f"the checkpoint {config.init_from} has another model shape:",
                    *differ[:8],
                    "take the checkpoint's shape with --config.model.preset=checkpoint",
                ]
            )
        )


def _may_differ(key: str, model: ModelConfig, start: ModelConfig) -> bool:
    """Whether a restored backbone can gain it: vocabulary rows, adapters, a pooler."""
    if key.startswith("lora"):
        return not start.lora_rank
    if key.startswith("pooler"):
        return not start.pooler
    return key == "vocab_size"


def _tokenizer(config: Config, start: Manifest | None, dry: bool) -> tuple[Tokenizer, bool]:
    """Returns a run's tokenizer, and whether it stands in for one that is still to be trained."""
    wanted, stands_in = config.tokenizer, False
    if wanted.kind == "checkpoint":
        tokenizer, stands_in = start.tokenizer, start.stands_in
    elif wanted.kind == "file":
        tokenizer = tokenizer_files.load(wanted.path)
    elif dry and wanted.kind != "bytes":
        tokenizer, stands_in = corpus.trained(wanted, SOME_TEXT), True
    else:
        tokenizer = corpus.make_tokenizer(wanted, config.data)
    tokenizer = tokenizer.with_tokens(wanted.add_tokens) if wanted.add_tokens else tokenizer
    return tokenizer.parsing_special() if wanted.parse_special else tokenizer, stands_in


def _check_tokenizer(config: Config, tokenizer: Tokenizer, start: Manifest) -> None:
    """Raises UserError if the tokenizer does not match the checkpoint's weights."""
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
            f"{config.init_from} was trained with, so its ids would mean other texts; use its own "
            "(--config.tokenizer.kind=checkpoint), or new weights (--config.init=fresh)"
        )
