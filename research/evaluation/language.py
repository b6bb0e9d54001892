"""Numbers of the pre-training objectives: perplexity, bits per byte, masked accuracy, and so on.

Counts, each a sum over the tokens or pairs of a sequence, a batch or a split:

    loss, tokens, bytes        causal LM: nats, predicted tokens, UTF-8 bytes of their text
                               (bytes may be left out)
    masked_loss, masked_correct, masked
                               masked LM: nats, tokens guessed right, tokens asked for
    next_sentence_loss, next_sentence_correct, pairs
                               next sentence prediction: nats, right answers, sentence pairs
    sentence_order_loss, sentence_order_correct, ordered_pairs
                               sentence order prediction: the same
    prefix_loss, prefix_correct, continued
                               prefix LM: nats, tokens guessed right, tokens behind the prefixes

The names differ, so that the counts of a mixture of objectives live in one dict.
"""

import math
from collections.abc import Mapping

from research.evaluation.metrics import Counts

FAMILIES = {
    "tokens": ("loss",),
    "masked": ("masked_loss", "masked_correct"),
    "pairs": ("next_sentence_loss", "next_sentence_correct"),
    "ordered_pairs": ("sentence_order_loss", "sentence_order_correct"),
    "continued": ("prefix_loss", "prefix_correct"),
}
OPTIONAL = ("bytes",)


def finish(counts: Mapping[str, float]) -> dict[str, float]:
    """The numbers of every objective that was counted; losses are in nats per token or pair.

    loss, perplexity and bits_per_byte; masked_loss, masked_perplexity and masked_accuracy;
    next_sentence_loss and next_sentence_accuracy, sentence_order_loss and sentence_order_accuracy;
    prefix_loss, prefix_perplexity and prefix_accuracy. Bits per byte do not depend on the tokenizer
    and so compare models with different ones.

    Raises ValueError for a count with an unknown name, an objective whose counts are not all
    there, and one of which nothing was counted.
    """
    _check(counts)
    numbers: Counts = {}
    if "tokens" in counts:
        numbers["loss"] = counts["loss"] / counts["tokens"]
        numbers["perplexity"] = perplexity(numbers["loss"])
        if "bytes" in counts:
            numbers["bits_per_byte"] = counts["loss"] / math.log(2) / counts["bytes"]
    if "masked" in counts:
        numbers["masked_loss"] = counts["masked_loss"] / counts["masked"]
        numbers["masked_perplexity"] = perplexity(numbers["masked_loss"])
        numbers["masked_accuracy"] = counts["masked_correct"] / counts["masked"]
    if "pairs" in counts:
        numbers["next_sentence_loss"] = counts["next_sentence_loss"] / counts["pairs"]
        numbers["next_sentence_accuracy"] = counts["next_sentence_correct"] / counts["pairs"]
    if "ordered_pairs" in counts:
        of = counts["ordered_pairs"]
        numbers["sentence_order_loss"] = counts["sentence_order_loss"] / of
        numbers["sentence_order_accuracy"] = counts["sentence_order_correct"] / of
    if "continued" in counts:
        numbers["prefix_loss"] = counts["prefix_loss"] / counts["continued"]
        numbers["prefix_perplexity"] = perplexity(numbers["prefix_loss"])
        numbers["prefix_accuracy"] = counts["prefix_correct"] / counts["continued"]
    return numbers


def perplexity(loss: float) -> float:
    """exp(loss) with the loss in nats per token; infinite where a float cannot hold it."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


def _check(counts: Mapping[str, float]) -> None:
    known = {*FAMILIES, *OPTIONAL, *(name for names in FAMILIES.values() for name in names)}
    unknown = sorted(set(counts) - known)
    if unknown:
        raise ValueError(f"unknown counts {unknown}; known are {sorted(known)}")
    for weight, sums in FAMILIES.items():
        members = [weight, *sums, *(OPTIONAL if weight == "tokens" else ())]
        if not any(name in counts for name in members):
            continue
        missing = [name for name in (weight, *sums) if name not in counts]
        if missing:
            raise ValueError(f"counts {missing} are missing beside {sorted(counts)}")
        empty = [name for name in (weight, *OPTIONAL) if name in counts and not counts[name] > 0]
        if empty:
            raise ValueError(f"nothing was counted: {empty[0]} is {counts[empty[0]]}")
