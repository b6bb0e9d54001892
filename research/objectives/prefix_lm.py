"""Prefix language modelling (Raffel et al. 2020, arXiv:1910.10683, section 3.2.3).

The first part of a segment, of random length, sees itself in both directions; every token behind
it is predicted from all before it.
"""

from research.metrics import language
from research.objectives.causal_lm import CausalLM


class PrefixLM(CausalLM):
    """Causal language modelling behind a prefix, on causal language modelling's head."""

    name = "prefix_lm"
    meaning = "the same behind a prefix of random length, which sees itself in both directions"
    pattern = "prefix"
    measures = ("prefix_loss", "prefix_perplexity", "prefix_accuracy")
    arrays = CausalLM.arrays | {"prefix": True}

    def prefix(self, tokens, draw):
        """At least one token is left to be predicted."""
        return int(draw("prefix").integers(1, max(2, tokens)))

    def describe_segment(self, batch, row, segment):
        first, last = int(batch["first"][row, segment]), int(batch["last"][row, segment])
        seen = batch["prefix"][row, first : last + 1].sum()
        return f"the first {seen} tokens see each other" if seen else ""

    def metrics(self, counts):
        """Of what follows the prefix."""
        return language.of_predictions(counts, self.measures)
