"""Pre-training objectives; which of them a run has is its config's `objective`.

A new one is a subclass of `Objective` in a file of its own, and a line in `OBJECTIVES`.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from research.models.attention import Pattern
from research.objectives.causal_lm import CausalLM
from research.objectives.masked_lm import MaskedLM
from research.objectives.next_sentence import NextSentence
from research.objectives.objective import Objective
from research.objectives.prefix_lm import PrefixLM
from research.objectives.sentence_order import SentenceOrder

OBJECTIVES: dict[str, type[Objective]] = {
    kind.name: kind for kind in (MaskedLM, NextSentence, SentenceOrder, CausalLM, PrefixLM)
}
ABOUT = """Which losses a pre-training has; None leaves one out.

Attributes:
{}
  rows: in a mixture, how many of some rows have which attention, such as {{"full": 1,
    "causal": 3}}: of every four rows of a batch one is for the losses with full attention.
"""


def config_class() -> type:
    """The dataclass of the keys under `config.objective`: the options of each of `OBJECTIVES`, or
    None, and `rows`, of type Mapping[str, int]."""
    return _config_class(tuple(OBJECTIVES.values()))


@functools.cache
def _config_class(kinds: tuple[type[Objective], ...]) -> type:
    losses = [(kind.name, kind.Options | None, None) for kind in kinds]
    made = dataclasses.make_dataclass(
        "ObjectivesConfig",
        [*losses, ("rows", Mapping[str, int] | tuple[()], ())],
        frozen=True,
    )
    made.__module__ = __name__  # an argument from Python 3.12 on
    made.__doc__ = ABOUT.format("\n".join(f"  {kind.name}: {kind.meaning}." for kind in kinds))
    return made


ObjectivesConfig = config_class()  # of the objectives above


def names(config: Any) -> list[str]:
    """The losses that a config has."""
    return [name for name in OBJECTIVES if getattr(config, name, None) is not None]


def measures(config: Any) -> list[str]:
    """The names of what an evaluation yields, of all its losses."""
    return [measure for name in names(config) for measure in OBJECTIVES[name].measures]


def patterns(config: Any) -> list[Pattern]:
    """The kinds of attention that they need, each once."""
    return list(dict.fromkeys(OBJECTIVES[name].pattern for name in names(config)))


def places(config: Any) -> dict[Pattern, tuple[int, int, int]]:
    """Which rows of a batch have which attention, as `Objective.rows`."""
    found, at = {}, 0
    rows = dict(config.rows) or {pattern: 1 for pattern in patterns(config)}
    for pattern in patterns(config):
        found[pattern] = (at, at + rows[pattern], sum(rows.values()))
        at += rows[pattern]
    return found


def for_evaluation(config: Any) -> Any:
    """The same objectives with the options that they are measured with."""
    options = {name: OBJECTIVES[name].eval_options(getattr(config, name)) for name in names(config)}
    return dataclasses.replace(config, **options)


def make_objectives(config: Any) -> tuple[Objective, ...]:
    """The objectives of a config, in the order of `OBJECTIVES`."""
    rows = places(config)
    return tuple(
        OBJECTIVES[name](getattr(config, name), rows[OBJECTIVES[name].pattern])
        for name in names(config)
    )
