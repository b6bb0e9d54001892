"""Next sentence prediction (Devlin et al. 2018). Class 0: B follows A; 1: B is random."""

import dataclasses
from collections.abc import Mapping

from research.evaluation import language
from research.models.config import ModelConfig
from research.objectives import pairs
from research.objectives.protocol import Objective

NAME = "next_sentence"
LABEL = "random_next"


@dataclasses.dataclass(frozen=True)
class NextSentenceConfig:
    """How pairs are made.

    Attributes:
      short: share of pairs that fill only a random part of the room they have.
    """

    short: float = 0.1


def make(model: ModelConfig) -> Objective:
    """A classifier on the first token of each pair. Raises UserError as `pairs.make`."""
    return pairs.make(NAME, LABEL, model, finish)


def finish(counts: Mapping[str, float]) -> dict[str, float]:
    """next_sentence_accuracy and next_sentence_loss of a split."""
    return language.finish(
        {
            "next_sentence_loss": counts["loss"],
            "next_sentence_correct": counts["correct"],
            "pairs": counts["count"],
        }
    )
