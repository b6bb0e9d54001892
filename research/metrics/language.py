"""Metrics of language models: perplexity and bits per byte."""

import math
from collections.abc import Mapping, Sequence

from research.metrics.counts import mean


def of_tokens(nats: float, tokens: float, size: float | None = None) -> dict[str, float]:
    """Returns loss (nats per token), perplexity and, if `size` is set, bits_per_byte.

    Bits per byte do not depend on the tokenizer, so they compare models with different ones.

    Args:
        nats: the loss summed over the tokens.
        size: UTF-8 bytes of the tokens' text.

    Raises ValueError if nothing was counted.
    """
    loss = mean(nats, tokens)
    numbers = {"loss": loss, "perplexity": perplexity(loss)}
    if size is not None:
        numbers["bits_per_byte"] = mean(nats / math.log(2), size)
    return numbers


def of_predictions(counts: Mapping[str, float], names: Sequence[str]) -> dict[str, float]:
    """Returns the mean loss, its perplexity and the accuracy, under these names."""
    loss, correct = (mean(counts[key], counts["count"]) for key in ("loss", "correct"))
    return dict(zip(names, (loss, perplexity(loss), correct), strict=True))


def perplexity(loss: float) -> float:
    """Returns exp(loss), with the loss in nats per token; infinite if it overflows a float."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf
