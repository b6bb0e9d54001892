"""Evaluates a checkpoint on a split of its own config."""

import dataclasses
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
from etils import epath

from research import bucket
from research import config as configs
from research.checkpoints import folder as checkpoint_folder
from research.checkpoints.reading import read_info
from research.config import Config
from research.config import check as config_check
from research.data import store
from research.errors import UserError, nearest
from research.evaluation import evaluator, predictor
from research.metrics.counts import total
from research.run import corpus
from research.run.loaded import Loaded, load_model, with_config
from research.run.manifest import check_length
from research.run.step import make_eval_step
from research.sharding import mesh as meshes
from research.tasks.task import Example, Prediction

SPLITS = ("validation", "test")
GROUPS = ("data", "mesh", "train")  # groups of a checkpoint's config that an evaluation may change
# Keys that change how its outputs are read, not what it has learnt.
DECISIONS = (
    *("data.length", "task.max_question", "task.stride", "task.max_answer", "task.choices"),
    *("task.unanswerable", "task.null_threshold", "task.max_new_tokens", "task.decoding"),
)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """metrics: of the whole split. examples, predictions: of a task; empty for a pre-training.
    left_out: lines about the rows that were not used. sources: source name -> the metrics of that
    source alone, for a pre-training's corpus."""

    metrics: dict[str, float]
    examples: list[Example]
    predictions: list[Prediction]
    left_out: Sequence[str] = ()
    sources: Mapping[str, dict[str, float]] = dataclasses.field(default_factory=dict)


def load(
    path: str,
    overrides: Mapping[str, str],
    free: Sequence[str] = (*GROUPS, *DECISIONS),
) -> Loaded:
    """Loads a checkpoint with its config changed by `overrides` ("data.test" -> text).

    The mesh is not that of the training: all devices share the rows, unless overrides change it.

    Args:
        free: the keys and groups of keys that may be changed.

    Raises UserError for another key, and as `load_model` and `config.load` do.
    """
    for key in overrides:
        if not any(f"{key}.".startswith(f"{group}.") for group in free):
            raise UserError(
                f"config.{key} belongs to the checkpoint; only these keys can change here: "
                f"config.{', config.'.join(free)}{nearest(key, free)}"
            )
    values = read_info(path).config | {"mesh": {}}
    configs.of_checkpoint(values, path)  # checked before the overrides are mixed in
    config = configs.override(values, overrides, f"the config of {path}", to_run=False)
    loaded = load_model(path, config.mesh)
    check_length(loaded.model, config.data.length)
    return with_config(loaded, config)


def evaluate(loaded: Loaded, split: str, quiet: bool = False) -> Evaluation:
    """Evaluates a split: a task by its predictions, a pre-training by its losses.

    Raises UserError for a split that the config does not have.
    """
    if split not in SPLITS:
        raise UserError(f"no split {split!r}{nearest(split, SPLITS)}")
    if loaded.task is None:
        if split != "validation":
            raise UserError(
                f"a pre-training holds out one split of its corpus: validation, not {split!r}"
            )
        whole, *each = _losses(loaded, [None, *range(len(_sources(loaded)))], quiet)
        return Evaluation(whole, [], [], sources=_by_name(loaded, each))
    task, config = loaded.task, loaded.config
    if getattr(config.data, split) is None:
        raise UserError(
            f"config.data.{split} is not set in this checkpoint's config; give "
            f"--config.data.{split}=files:… (or bundled:…, tfds:…)"
        )
    read = corpus.split(config.data, task.kind, split)
    try:
        predicted = predictor.predict(loaded, read.examples, quiet, labelled=True)
    except UserError:
        corpus.task_segments(task, read)  # its error names the place of the example
        raise
    metrics = task.compute_metrics(total(evaluator.task_counts(task, read.examples, predicted)))
    return Evaluation(metrics, read.examples, predicted, read.left_out.lines())


def of_sources(loaded: Loaded, quiet: bool = False) -> dict[str, dict[str, float]]:
    """A pre-training's metrics on the held-out text of each source of its corpus alone.

    Empty if the corpus has one source. It lacks sources without held-out text, and metrics for
    which a source has nothing to measure (pairs of sentences).
    """
    count = len(_sources(loaded))
    return _by_name(loaded, _losses(loaded, range(count), quiet)) if count else {}


def _sources(loaded: Loaded) -> list[str]:
    """The names of a corpus's sources; empty if it has only one."""
    names = [source.name for source in loaded.config.data.corpus]
    return names if len(names) > 1 else []


def _by_name(loaded: Loaded, metrics: Iterable[dict]) -> dict[str, dict[str, float]]:
    return {name: each for name, each in zip(_sources(loaded), metrics, strict=True) if each}


def _losses(loaded: Loaded, wanted: Iterable[int | None], quiet: bool) -> Iterator[dict]:
    """Yields the metrics on the held-out text of each source number; None: the whole corpus."""
    config, mesh = loaded.config, loaded.mesh
    config_check.check_corpus(config)
    data = config.data
    held_out = store.build(
        data.corpus, "validation", data.held_out_percent, loaded.tokenizer, data.cache, quiet
    )
    step = jax.jit(
        make_eval_step(loaded.model, loaded.objectives), out_shardings=meshes.replicated(mesh)
    )
    for source in wanted:
        batches = corpus.evaluation_batches(
            *(data, config.train, loaded.objectives, loaded.tokenizer, held_out),
            *(meshes.row_multiple(mesh), source),
        )
        if not batches.epoch_batches(0, most=1):
            yield {}
            continue
        with meshes.use(mesh, loaded.placement):
            yield evaluator.losses(
                step,
                loaded.params,
                batches,
                loaded.objectives,
                meshes.batch_sharding(mesh),
                config.train.eval_steps,
            )


def record(path: str, split: str, loaded: Loaded, evaluation: Evaluation, overrides: Any) -> str:
    """Writes `evaluation_SPLIT.json` into the run's folder.

    Returns the file's name. Raises UserError if it cannot be written.
    """
    content = {
        "step": loaded.info.step,
        "split": split,
        "config": dict(overrides),
        "examples": len(evaluation.examples),
        "metrics": _finite(evaluation.metrics),
    }
    if evaluation.sources:
        content["sources"] = {
            name: _finite(metrics) for name, metrics in evaluation.sources.items()
        }
    file = _folder(path) / f"evaluation_{split}.json"
    try:
        bucket.write_whole(file, json.dumps(content, indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror}") from error
    return str(file)


def _finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Replaces infinite values, which a perplexity may have and JSON cannot hold, by None."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


def records(path: str, step: int) -> list[dict[str, Any]]:
    """The files that `record` wrote for this step with an unchanged config."""
    files = (_folder(path) / f"evaluation_{split}.json" for split in SPLITS)
    contents = [json.loads(file.read_text()) for file in files if file.exists()]
    for content in contents:
        finite = content["metrics"]
        content["metrics"] = {k: math.inf if v is None else v for k, v in finite.items()}
    return [each for each in contents if each["step"] == step and not each["config"]]


def _folder(path: str) -> epath.Path:
    """The run's folder, if `path` is any folder of the run."""
    folder = checkpoint_folder.locate(path)[0]
    return folder.parent if folder.name == "checkpoints" else folder


def source_of(config: Config, split: str) -> str:
    """The name of a split's source, or of the sources of the corpus."""
    if config.task is None:
        return ", ".join(source.name for source in config.data.corpus)
    return getattr(config.data, split).name
