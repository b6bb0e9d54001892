"""Causal language modelling (Radford et al. 2019): predicts every token from those before it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from research.data import plan
from research.data.batch import Segment
from research.metrics import language
from research.metrics.counts import mean
from research.models import heads
from research.objectives import choices, vocabulary
from research.objectives.objective import Loss, Objective
from research.values import Size

NAME = "causal_lm"
BEGINS = "it begins every document"  # the reason in the error if the token is missing


@dataclasses.dataclass(frozen=True)
class CausalLMConfig:
    """The memory of the loss.

    Attributes:
      chunk: positions of a row whose logits are in memory at a time.
    """

    chunk: Size = 128


class NextToken(Loss):
    """Cross-entropy of the batch's targets, on causal language modelling's head. `options` has
    `chunk`: positions of a row whose logits are in memory at a time."""

    pattern = "causal"
    measures = ("loss", "perplexity", "bits_per_byte", "next_token_accuracy")
    arrays = {"targets": True, "bytes": True}
    weights = "target_weights"

    @property
    def head_name(self):
        return NAME

    def head(self, model):
        return None if model.tied_embeddings else heads.OutputTable(model)

    def vocabulary_places(self, layout):
        return layout.length

    def loss(self, params, model, hidden, batch, row_keys):
        table = heads.output_table(params, model, self.head_name)
        total, correct = vocabulary.chunked_sums(
            hidden,
            table,
            None,
            batch["targets"],
            batch["target_weights"],
            model.vocab_size,
            self.options.chunk,
        )
        counts = {"loss": total, "correct": correct, "count": self.weight(batch)}
        if "target_bytes" in batch:
            counts["bytes"] = jnp.sum(batch["target_bytes"] * batch["target_weights"])
        return total, counts

    def loss_metrics(self, counts):
        """Includes bits per byte only if bytes were counted."""
        numbers = language.of_tokens(counts["loss"], counts["count"], counts.get("bytes"))
        return numbers | {"next_token_accuracy": mean(counts["correct"], counts["count"])}


class CausalLM(NextToken, Objective):
    """Targets are part of the batch, so a segment may begin in the middle of a document."""

    name = NAME
    meaning = "each next token is predicted (GPT)"
    plans = True
    asks = ("text",)
    gives = "the five best next tokens"
    Options = CausalLMConfig

    def check_tokenizer(self, tokenizer):
        tokenizer.require("eos", "it stands between documents")

    def specials(self, tokenizer):
        return 0, 0

    def plan(self, text, rows, rng):
        """A document's inputs are its begin tokens and all its tokens."""
        lengths = (text.block.lengths + len(text.tokenizer.begin(BEGINS))) * text.read
        return plan.plan_slices(lengths, rows, rng, 0)

    def prefix(self, tokens, draw):
        """Returns how many first tokens of a segment see each other and are not predicted."""
        return 0

    def segment(self, text, planned, draw):
        """Targets are the inputs shifted by one, with the end-of-text token last. Tokens of the
        prefix and begin tokens are not predicted."""
        block, begin = text.block, text.tokenizer.begin(BEGINS)
        doc, start, end = (int(planned[k]) for k in ("doc", "start", "end"))
        before, size, n = len(begin), int(block.lengths[doc]), end - start
        prefix = self.prefix(n, draw)
        tokens, _ = block.slice(doc, max(0, start - before), min(size, max(0, end + 1 - before)))
        last = [text.tokenizer.eos] * (end == size + before)
        ids = np.concatenate([begin[start : end + 1], tokens, last]).astype(np.int32)
        weights = np.ones(n)
        weights[: max(0, prefix - 1, before - 1 - start)] = 0.0
        return Segment(
            ids[:-1],
            np.zeros(n, np.int32),
            targets=ids[1:],
            target_weights=weights,
            target_bytes=text.byte_lengths()[ids[1:]],
            prefix=prefix,
        )

    def outputs(self, params, model, hidden, batch):
        last = jnp.take_along_axis(hidden, batch["last"][:, :, None], axis=1)
        table = heads.output_table(params, model, self.head_name)
        logits = heads.vocabulary_logits(last, table, None, model.vocab_size)
        return {"segment": choices.top(jax.nn.softmax(logits))}

    def asked_layout(self, tokenizer, layout, examples):
        return dataclasses.replace(layout, prefix=self.pattern == "prefix")

    def ask(self, tokenizer, layout, example):
        """Keeps the end of a text longer than a row. A prefix language model reads the whole text
        in both directions."""
        begin = tokenizer.begin("every text begins with it")
        ids = tokenizer.encode(example["text"]).ids[-(layout.length - len(begin)) :]
        tokens = np.concatenate([begin, ids]).astype(np.int32)
        prefix = len(tokens) if layout.prefix else 0
        return Segment(tokens, np.zeros(len(tokens), np.int32), prefix=prefix)

    def read(self, tokenizer, outputs):
        """Returns the most probable next tokens: {"next": [{"token", "probability"}, …]}, best
        first."""
        return {"next": choices.listed(tokenizer, outputs["token"], outputs["probability"])}

    def show(self, example, prediction):
        return f"{example['text']} → {choices.line(prediction['next'])}"
