"""Checks across the keys of a config, which their annotations cannot express."""

from typing import Any

from research import objectives
from research.config.schema import Config
from research.errors import UserError, nearest
from research.models import config as model_config
from research.objectives import make_objectives
from research.objectives.objective import by_pattern

RHYTHMS = ("eval_every", "eval_epochs")  # of the evaluations; at most one is set
LENGTHS = ("steps", "epochs", "examples", "tokens")  # of a run; exactly one is set


def check(config: Config, where: str) -> None:
    """Raises UserError if the values of a run do not fit together."""
    if (config.objective is None) == (config.task is None):
        raise UserError(f"{where}: give either objective (pre-training) or task (fine-tuning)")
    for name, group, value in (
        ("model.preset", "shape", config.model.preset),
        ("tokenizer.kind", "tokenizer", config.tokenizer.kind),
    ):
        if value == "checkpoint" and not config.init_from:
            raise UserError(
                f"config.{name}='checkpoint' takes the {group} from init_from, which is empty; "
                "give --config.init_from=CHECKPOINT, a run's folder or one that ships: bert, gpt"
            )
    if config.init == "fresh" and not config.init_from:
        raise UserError("config.init='fresh' needs config.init_from=CHECKPOINT")
    train, data = config.train, config.data
    lengths = ("steps", "epochs", "tokens" if config.objective else "examples")
    if sum(getattr(train, key) > 0 for key in LENGTHS) != 1:
        keys = [f"config.train.{key}={getattr(train, key)}" for key in lengths]
        raise UserError(
            f"give one of {', '.join(keys[:-1])} and {keys[-1]}, and set the others to 0"
        )
    for key in set(LENGTHS) - set(lengths):
        if getattr(train, key) > 0:
            kind = "a task" if key == "examples" else "a pre-training"
            raise UserError(
                f"config.train.{key}={getattr(train, key)} is the length of {kind}; here it is "
                f"config.train.{lengths[-1]}"
            )
    if train.eval_every and train.eval_epochs:
        raise UserError(
            f"give config.train.eval_every={train.eval_every} or "
            f"config.train.eval_epochs={train.eval_epochs}, not both"
        )
    if config.model.preset != "checkpoint":
        model_config.check(config.model)
    if config.objective is not None:
        _check_objective(config)
        check_corpus(config)
    else:
        if data.weights:
            raise UserError("config.data.weights is for the corpus of a pre-training, not a task")
        for split in ("train", "validation"):
            if getattr(data, split) is None:
                share = "; held_out:5 is 5 % of config.data.train" if data.train else ""
                raise UserError(f"config.data.{split} is missing: a task needs its examples{share}")


def _check_objective(config: Config) -> None:
    goal, data = config.objective, config.data
    if not objectives.names(goal):
        valid = ", ".join(objectives.OBJECTIVES)
        raise UserError(f"config.objective names no loss; valid: {valid}")
    _check_rows(goal)
    for group in by_pattern(make_objectives(goal)).values():
        planning = [objective.name for objective in group if objective.plans]
        if len(planning) > 1:
            raise UserError(
                f"config.objective: {' and '.join(planning)} each say what lies in a row, which "
                "cannot serve both: set one of them to None"
            )
    if config.train.batch_size % data.length:
        raise UserError(
            f"config.train.batch_size={config.train.batch_size} tokens is not a whole number of "
            f"rows of config.data.length={data.length}"
        )


def check_corpus(config: Config) -> None:
    """Raises UserError if the corpus of a pre-training is empty or does not fit its weights."""
    data = config.data
    if not data.corpus:
        raise UserError("config.data.corpus is empty: pre-training needs at least one source")
    if data.weights and len(data.weights) != len(data.corpus):
        names = ", ".join(source.name for source in data.corpus)
        raise UserError(
            f"config.data.weights has {len(data.weights)} numbers for {len(data.corpus)} sources; "
            f"give one for each of config.data.corpus, in this order: {names}"
        )


def _check_rows(goal: Any) -> None:
    """Checks that a mixture sets its rows for each kind of attention, if it has several."""
    needed, rows = objectives.patterns(goal), dict(goal.rows)
    by_pattern = {
        pattern: [n for n in objectives.names(goal) if objectives.OBJECTIVES[n].pattern == pattern]
        for pattern in needed
    }
    if len(needed) > 1 and not rows:
        kinds = "; ".join(f"{pattern}: {', '.join(names)}" for pattern, names in by_pattern.items())
        raise UserError(
            f"config.objective has losses of {len(needed)} kinds of attention ({kinds}), which "
            "need rows of their own: say how many of each, such as --config.objective.rows="
            f'"{dict.fromkeys(needed, 1)}", or set one side to None'
        )
    if rows and len(needed) == 1 and needed[0] in rows:
        raise UserError(
            f"config.objective.rows={rows} is for a mixture; all losses here have {needed[0]!r} "
            "attention: leave it out"
        )
    for pattern in rows:
        if pattern not in needed:
            raise UserError(
                f"config.objective.rows has rows of {pattern!r} attention, which no loss needs"
                f"{nearest(pattern, needed)}"
            )
    missing = [pattern for pattern in needed if rows and pattern not in rows]
    if missing:
        raise UserError(
            f"config.objective.rows has no {missing[0]!r}, which "
            f"{' and '.join(by_pattern[missing[0]])} needs"
        )
