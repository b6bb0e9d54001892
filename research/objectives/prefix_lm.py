"""Prefix language modelling (Raffel et al. 2020, arXiv:1910.10683, section 3.2.3).

The first part of a segment, of random length, attends to itself in both directions; every token
after it is predicted from all tokens before it.
"""

from research.metrics import language
from research.objectives.causal_lm import CausalLM


class PrefixLM(CausalLM):
    """Causal language modelling after a prefix, on causal language modelling's head."""

    name = "prefix_lm"
    meaning = "the same after a prefix of random length, which sees itself in both directions"
    pattern = "prefix"
    measures = ("prefix_loss", "prefix_perplexity", "prefix_accuracy")
    arrays = CausalLM.arrays | {"prefix": True}

    def prefix(self, tokens, draw):
        """Leaves at least one token to predict."""
        return int(draw("prefix").integers(1, max(2, tokens)))

    def describe_segment(self, batch, row, segment):
        first, last = int(batch["first"][row, segment]), int(batch["last"][row, segment])
        seen = batch["prefix"][row, first : last + 1].sum()
        return f"the first {seen} tokens see each other" if seen else ""

    def loss_metrics(self, counts):
        """Returns the metrics of the tokens after the prefix."""
        return language.of_predictions(counts, self.measures)
