"""Pre-training objectives; which of them a run has is its config's `objective`."""

import dataclasses
from collections.abc import Mapping

from research.models.attention import Pattern
from research.models.config import ModelConfig
from research.objectives import causal_lm, masked_lm, next_sentence, prefix_lm, sentence_order
from research.objectives.causal_lm import CausalLMConfig
from research.objectives.masked_lm import MaskedLMConfig
from research.objectives.next_sentence import NextSentenceConfig
from research.objectives.prefix_lm import PrefixLMConfig
from research.objectives.protocol import Objective
from research.objectives.sentence_order import SentenceOrderConfig

MODULES = {m.NAME: m for m in (masked_lm, next_sentence, sentence_order, causal_lm, prefix_lm)}
# The attention that each objective needs; a mixture has rows of several.
PATTERNS: dict[str, Pattern] = {
    masked_lm.NAME: "full",
    next_sentence.NAME: "full",
    sentence_order.NAME: "full",
    causal_lm.NAME: "causal",
    prefix_lm.NAME: "prefix",
}


@dataclasses.dataclass(frozen=True)
class ObjectivesConfig:
    """Which losses a pre-training has; None leaves one out.

    Attributes:
      masked_lm: hidden tokens are predicted (BERT); full attention.
      next_sentence: whether B is the sentence after A (BERT); full attention.
      sentence_order: whether A and B have changed places (ALBERT); full attention.
      causal_lm: each next token is predicted (GPT).
      prefix_lm: the same behind a prefix of random length, which sees itself in both directions.
      rows: in a mixture, how many of some rows have which attention, such as {"full": 1,
        "causal": 3}: of every four rows of a batch one is for the losses with full attention.
    """

    masked_lm: MaskedLMConfig | None = None
    next_sentence: NextSentenceConfig | None = None
    sentence_order: SentenceOrderConfig | None = None
    causal_lm: CausalLMConfig | None = None
    prefix_lm: PrefixLMConfig | None = None
    rows: Mapping[str, int] | tuple[()] = ()


def names(config: ObjectivesConfig) -> list[str]:
    """The losses that a config has."""
    return [name for name in PATTERNS if getattr(config, name) is not None]


def measures(config: ObjectivesConfig) -> list[str]:
    """The names of what an evaluation yields, of all its losses."""
    ones = dict.fromkeys(("loss", "correct", "count", "bytes"), 1.0)
    return [measure for name in names(config) for measure in MODULES[name].finish(ones)]


def patterns(config: ObjectivesConfig) -> list[Pattern]:
    """The kinds of attention that they need, each once."""
    return list(dict.fromkeys(PATTERNS[name] for name in names(config)))


def places(config: ObjectivesConfig) -> dict[Pattern, tuple[int, int, int]]:
    """Which rows of a batch have which attention, as `Objective.rows`."""
    found, at = {}, 0
    rows = dict(config.rows) or {pattern: 1 for pattern in patterns(config)}
    for pattern in patterns(config):
        found[pattern] = (at, at + rows[pattern], sum(rows.values()))
        at += rows[pattern]
    return found


def only(config: ObjectivesConfig, pattern: Pattern) -> ObjectivesConfig:
    """The objectives of one kind of attention."""
    others = [name for name in names(config) if PATTERNS[name] != pattern]
    return dataclasses.replace(config, rows=(), **dict.fromkeys(others))


def for_evaluation(config: ObjectivesConfig) -> ObjectivesConfig:
    """The same objectives as they are measured: masked LM by tokens at 15 %."""
    if config.masked_lm is None:
        return config
    return dataclasses.replace(config, masked_lm=MaskedLMConfig(masked_lm.EVAL_RATE, "token"))


def make_objectives(config: ObjectivesConfig, model: ModelConfig) -> tuple[Objective, ...]:
    """The objectives as functions, in a fixed order."""
    made = []
    if config.masked_lm:
        made.append(masked_lm.make(model))
    if config.next_sentence:
        made.append(next_sentence.make(model))
    if config.sentence_order:
        made.append(sentence_order.make(model))
    if config.causal_lm:
        made.append(causal_lm.make(model, config.causal_lm))
    if config.prefix_lm:
        made.append(prefix_lm.make(model, config.prefix_lm))
    rows = places(config)
    return tuple(dataclasses.replace(o, rows=rows[o.pattern]) for o in made)
