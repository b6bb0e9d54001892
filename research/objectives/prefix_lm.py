"""Prefix language modelling (Raffel et al. 2020, arXiv:1910.10683, section 3.2.3).

The first part of a slot, of random length, sees itself in both directions; every token behind it is
predicted from all before it.
"""

import dataclasses

from research.metrics.counts import mean
from research.metrics.language import perplexity
from research.objectives.causal_lm import CausalLM


@dataclasses.dataclass(frozen=True)
class PrefixLMConfig:
    """What the loss keeps in memory.

    Attributes:
      chunk: positions of a row whose logits are in memory at a time.
    """

    chunk: int = 128


class PrefixLM(CausalLM):
    """Causal language modelling behind a prefix, on causal language modelling's head."""

    name = "prefix_lm"
    meaning = "the same behind a prefix of random length, which sees itself in both directions"
    pattern = "prefix"
    measures = ("prefix_loss", "prefix_perplexity", "prefix_accuracy")
    Options = PrefixLMConfig

    def extend_layout(self, layout):
        return dataclasses.replace(super().extend_layout(layout), prefix=True)

    def prefix(self, tokens, draw):
        """At least one token is left to be predicted."""
        return int(draw("prefix").integers(1, max(2, tokens)))

    def describe_slot(self, batch, row, slot):
        first, last = int(batch["first"][row, slot]), int(batch["last"][row, slot])
        seen = batch["prefix"][row, first : last + 1].sum()
        return f"the first {seen} tokens see each other" if seen else ""

    def metrics(self, counts):
        """Of what follows the prefix."""
        loss = mean(counts["loss"], counts["count"])
        accuracy = mean(counts["correct"], counts["count"])
        return dict(zip(self.measures, (loss, perplexity(loss), accuracy), strict=True))
