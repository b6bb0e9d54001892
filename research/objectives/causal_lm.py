"""Causal language modelling (Radford et al. 2019): every token from those before it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from research.data import plan
from research.data.batch import Slot
from research.errors import UserError
from research.metrics import language
from research.metrics.counts import mean
from research.models import heads
from research.objectives import choices, vocabulary
from research.objectives.objective import Loss, Objective, Reader

NAME = "causal_lm"


@dataclasses.dataclass(frozen=True)
class CausalLMConfig:
    """What the loss keeps in memory.

    Attributes:
      chunk: positions of a row whose logits are in memory at a time.
    """

    chunk: int = 128


class NextToken(Loss):
    """Cross-entropy of targets that the batch brings, on causal language modelling's head.

    chunk: positions of a row whose logits are in memory at a time.
    """

    pattern = "causal"
    measures = ("loss", "perplexity", "bits_per_byte", "next_token_accuracy")
    chunk: int

    @property
    def head_name(self):
        return NAME

    def head(self, model):
        return None if model.tied_embeddings else heads.OutputTable(model)

    def vocabulary_places(self, layout):
        return layout.length

    def weight(self, batch):
        return jnp.sum(batch["target_weights"])

    def loss(self, params, model, hidden, batch, row_keys):
        table = heads.output_table(params, model, self.head_name)
        total, correct = vocabulary.chunked_sums(
            hidden,
            table,
            None,
            batch["targets"],
            batch["target_weights"],
            model.vocab_size,
            self.chunk,
        )
        counts = {"loss": total, "correct": correct, "count": self.weight(batch)}
        if "target_bytes" in batch:
            counts["bytes"] = jnp.sum(batch["target_bytes"] * batch["target_weights"])
        return total, counts

    def metrics(self, counts):
        """Bits per byte only where bytes were counted."""
        numbers = language.of_tokens(counts["loss"], counts["count"], counts.get("bytes"))
        return numbers | {"next_token_accuracy": mean(counts["correct"], counts["count"])}


class CausalLM(NextToken, Objective):
    """The batch brings the targets, so that a slot may begin in the middle of a document."""

    name = NAME
    meaning = "each next token is predicted (GPT)"
    plans = True
    asks = ("text",)
    gives = "the five best next tokens"
    Options = CausalLMConfig

    @property
    def chunk(self):
        return self.options.chunk

    def check(self):
        if self.options.chunk < 1:
            chunk = f"config.objective.{self.name}.chunk={self.options.chunk}"
            raise UserError(f"{chunk} must be at least 1")

    def check_tokenizer(self, tokenizer):
        tokenizer.require("eos", "it stands between documents")

    def extend_layout(self, layout):
        return dataclasses.replace(layout, targets=True, bytes=True)

    def specials(self, tokenizer):
        return 0, 0

    def _begin(self, tokenizer):
        return tokenizer.begin("it begins every document")

    def plan(self, text, rows, rng):
        """A document's inputs are what begins it and all its tokens."""
        lengths = (text.block.lengths + len(self._begin(text.tokenizer))) * text.read
        return plan.plan_slices(lengths, rows, rng, 0)

    def prefix(self, tokens, draw):
        """How many of a slot's tokens see each other, and are not predicted."""
        return 0

    def slot(self, text, planned, draw):
        """Targets are the inputs shifted by one, <end of text> last. Of what lies in a prefix
        nothing is predicted, and nothing of what begins the text."""
        block, begin = text.block, self._begin(text.tokenizer)
        doc, start, end = (int(planned[k]) for k in ("doc", "start", "end"))
        before, size, n = len(begin), int(block.lengths[doc]), end - start
        prefix = self.prefix(n, draw)
        tokens, _ = block.slice(doc, max(0, start - before), min(size, max(0, end + 1 - before)))
        last = [text.tokenizer.eos] * (end == size + before)
        ids = np.concatenate([begin[start : end + 1], tokens, last]).astype(np.int32)
        weights = np.ones(n)
        weights[: max(0, prefix - 1, before - 1 - start)] = 0.0
        return Slot(
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
        return {"slot": choices.top(jax.nn.softmax(logits))}

    def reader(self, tokenizer, layout, examples):
        """The most probable tokens after "text": {"next": [{"token", "probability"}, …]}, best
        first.

        Of a text longer than a row the end is read; a prefix language model reads all of it in both
        directions.
        """
        begin = tokenizer.begin("every text begins with it")
        is_prefix = self.pattern == "prefix"
        layout = dataclasses.replace(layout, prefix=is_prefix)

        def make_slots(example, number, labelled):
            ids = tokenizer.encode(example["text"]).ids[-(layout.length - len(begin)) :]
            tokens = np.concatenate([begin, ids]).astype(np.int32)
            seen = len(tokens) if is_prefix else 0
            types = np.zeros(len(tokens), np.int32)
            return [Slot(tokens, types, example=number, weight=0.0, prefix=seen)]

        def predict(example, slots, outputs):
            best = outputs[0]
            return {"next": choices.listed(tokenizer, best["token"], best["probability"])}

        def show(example, prediction):
            return f"{example['text']} → {choices.line(prediction['next'])}"

        return Reader(layout, self, make_slots, predict, show)
