"""Sentence order prediction (Lan et al. 2019, ALBERT, arXiv:1909.11942, section 3.1).

Both parts of a pair are from one document, one after the other; half the time they change places.
Class 0: A comes before B; 1: after it.
"""

import dataclasses
from collections.abc import Mapping

from research.evaluation import language
from research.models.config import ModelConfig
from research.objectives import pairs
from research.objectives.protocol import Objective

NAME = "sentence_order"
LABEL = "swapped"


@dataclasses.dataclass(frozen=True)
class SentenceOrderConfig:
    """How pairs are made.

    Attributes:
      short: share of pairs that fill only a random part of the room they have.
    """

    short: float = 0.1


def make(model: ModelConfig) -> Objective:
    """A classifier on the first token of each pair. Raises UserError as `pairs.make`."""
    return pairs.make(NAME, LABEL, model, finish)


def finish(counts: Mapping[str, float]) -> dict[str, float]:
    """sentence_order_accuracy and sentence_order_loss of a split."""
    return language.finish(
        {
            "sentence_order_loss": counts["loss"],
            "sentence_order_correct": counts["correct"],
            "ordered_pairs": counts["count"],
        }
    )
