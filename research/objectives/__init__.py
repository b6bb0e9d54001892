"""Pre-training objectives, chosen by the config's `objective`.

A new objective is a subclass of `Objective` in its own file and a line in `OBJECTIVES`.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from research.models.attention import Pattern
from research.objectives.causal_lm import CausalLM
from research.objectives.masked_lm import MaskedLM
from research.objectives.next_sentence import NextSentence
from research.objectives.objective import Objective
from research.objectives.prefix_lm import PrefixLM
from research.objectives.sentence_order import SentenceOrder
from research.values import Size

OBJECTIVES: dict[str, type[Objective]] = {
    kind.name: kind for kind in (MaskedLM, NextSentence, SentenceOrder, CausalLM, PrefixLM)
}
ABOUT = """The losses of a pre-training; None leaves one out.

Attributes:
{}
  rows: in a mixture, the proportion of rows with each kind of attention, such as {{"full": 1,
    "causal": 3}}: one of every four rows of a batch is for the losses with full attention.
"""


def config_class() -> type:
    """Returns the dataclass of the keys under `config.objective`: the options of each of
    `OBJECTIVES`, or None, and `rows`, of type Mapping[str, Size]."""
    return _config_class(tuple(OBJECTIVES.values()))


@functools.cache
def _config_class(kinds: tuple[type[Objective], ...]) -> type:
    losses = [(kind.name, kind.Options | None, None) for kind in kinds]
    config = dataclasses.make_dataclass(
        "ObjectivesConfig",
        [*losses, ("rows", Mapping[str, Size], ())],
        frozen=True,
    )
    config.__module__ = __name__  # an argument from Python 3.12 on
    config.__doc__ = ABOUT.format("\n".join(f"  {kind.name}: {kind.meaning}." for kind in kinds))
    return config


ObjectivesConfig = config_class()  # of the objectives above


def names(config: Any) -> list[str]:
    """Returns the names of a config's losses."""
    return [name for name in OBJECTIVES if getattr(config, name, None) is not None]


def measures(config: Any) -> list[str]:
    """Returns the names of the metrics of all losses."""
    return [measure for name in names(config) for measure in OBJECTIVES[name].measures]


def patterns(config: Any) -> list[Pattern]:
    """Returns the kinds of attention that the losses need, each once."""
    return list(dict.fromkeys(OBJECTIVES[name].pattern for name in names(config)))


def for_evaluation(objectives: Sequence[Objective]) -> tuple[Objective, ...]:
    """Returns the objectives with their options for evaluation."""
    return tuple(type(o)(o.eval_options(o.options), o.rows) for o in objectives)


def make_objectives(config: Any) -> tuple[Objective, ...]:
    """Returns a config's objectives in the order of `OBJECTIVES`. Each kind of attention has its
    own rows (see `Loss.rows`)."""
    shares = dict(config.rows) or dict.fromkeys(patterns(config), 1)
    places, at = {}, 0
    for pattern in patterns(config):
        places[pattern] = (at, at + shares[pattern], sum(shares.values()))
        at += shares[pattern]
    return tuple(
        OBJECTIVES[name](getattr(config, name), places[OBJECTIVES[name].pattern])
        for name in names(config)
    )
