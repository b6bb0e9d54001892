"""Text generation from a prompt: the rest of a story, a generated answer (Radford et al. 2018).

A segment is the tokens that begin a text (`Tokenizer.begin`), prompt, completion; the loss counts
the completion and the end-of-text token after it. Loss, head and its name are those of the causal
language model, so fine-tuning starts from a pre-trained head.
"""

import dataclasses
import math
import re
import string
from collections.abc import Iterable
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from research.data.batch import Segment
from research.data.encoding import bytes_of
from research.data.tokenizer import Tokenizer
from research.errors import UserError, nearest
from research.generation import decoding
from research.generation.decoding import DecodingConfig
from research.metrics import answers, bleu, language, rouge
from research.models import heads
from research.objectives import vocabulary
from research.objectives.causal_lm import NextToken
from research.objectives.objective import Example
from research.tasks.task import Task
from research.tasks.windows import windows
from research.values import Count, Size

NAME = "text_generation"
# Fields for prompt and completion; those for the completion only are in COMPLETION_FIELDS.
PROMPT_FIELDS = {
    "story": ("id", "title", "opening"),
    "question": ("id", "title", "context", "question"),
}
FORMS = {
    "story": ((("text",), "how the story goes on"),),
    "question": ((("question", "context"), "the answer"),),
}
COMPLETION_FIELDS = {"story": ("rest",), "question": ("answer",)}


@dataclasses.dataclass(frozen=True)
class TextGenerationConfig:
    """Texts that continue a prompt.

    `prompt` and `completion` are Python format strings over the fields of an example. A story has
    id, title, `opening` and, in the completion, `rest`. A question has id, title, context, question
    and, in the completion, `answer` (the first one).

    Attributes:
      kind: the kind of the examples.
      prompt: the text that the model reads, with fields of the example in braces.
      completion: the text that it learns to write, with fields of the example in braces.
      opening_words: words of a story's opening.
      overlap: tokens that each window of a long text repeats from the window before it; they are
        read there, not predicted.
      max_new_tokens: the maximum number of generated tokens.
      prefix: whether the prompt attends to itself in both directions, as the prefix of a prefix
        language model.
      chunk: positions of a row whose logits are in memory at a time.
      decoding: how answers and stories are generated; training does not see it.
    """

    kind: Literal["story", "question"]
    prompt: str
    completion: str
    opening_words: Count = 40
    overlap: Count = 64
    max_new_tokens: Size = 64
    prefix: bool = False
    chunk: Size = 128
    decoding: DecodingConfig = DecodingConfig()


def split_opening(text: str, words: int) -> tuple[str, str]:
    """Splits a text after `words` words; the rest begins with the white space before it."""
    ends = [match.end() for _, match in zip(range(words), re.finditer(r"\S+", text), strict=False)]
    at = ends[-1] if ends else 0
    return text[:at], text[at:]


def fields(example: Example, config: TextGenerationConfig) -> dict[str, str]:
    """Returns the fields for the templates, without `answer` if the example has none."""
    named = {"id": str(example.get("id", "")), "title": example.get("title", "")}
    if config.kind == "story":
        opening, rest = split_opening(example["text"], config.opening_words)
        return named | {"opening": opening, "rest": rest}
    named |= {"context": example["context"], "question": example["question"]}
    if "answers" in example:
        named["answer"] = (example["answers"]["text"] or [""])[0]
    return named


def _encode_completion(
    tokenizer: Tokenizer, prompt: str, begin: np.ndarray, completion: str
) -> tuple[np.ndarray, np.ndarray]:
    """Returns a completion's ids after its prompt, whose ids are `begin`, and their bytes.

    Encoded alone, the ids may differ: SentencePiece puts a space before the beginning of a text.
    If a token would cover the end of the prompt, the completion is encoded alone, as generation
    starts from the whole prompt too.
    """
    text = prompt + completion
    whole = tokenizer.encode(text)
    n = len(begin)
    if np.array_equal(whole.ids[:n], begin) and (whole.starts[n:] >= len(prompt)).all():
        return whole.ids[n:], bytes_of(text, whole)[n:]
    alone = tokenizer.encode(completion)
    return alone.ids, bytes_of(completion, alone)


class Generation(NextToken, Task):
    """A causal language model's loss on the learnt part of a text. Its outputs are the losses of
    positions, so that texts that are not generated are measured by their perplexity."""

    scores = ("loss", "perplexity", "bits_per_byte")
    metric = "perplexity"
    higher_is_better = False
    generates = True

    @property
    def max_new_tokens(self):
        return self.options.max_new_tokens

    @property
    def decoding(self):
        return self.options.decoding

    def outputs(self, params, model, hidden, batch):
        table = heads.output_table(params, model, self.head_name)
        at = (batch["targets"], model.vocab_size, self.options.chunk)
        return {"token": {"loss": vocabulary.token_losses(hidden, table, *at)}}

    def _start(self) -> tuple[int, ...]:
        return self.tokenizer.begin("it begins every text")

    def _check_sizes(self) -> None:
        """Raises UserError for impossible values of overlap, max_new_tokens or decoding."""
        options, length = self.options, self.layout.length
        if options.overlap >= length:
            raise UserError(
                f"config.task.overlap={options.overlap} must be below config.data.length={length}"
            )
        if options.max_new_tokens > length - 1 - len(self._start()):
            raise UserError(
                f"config.task.max_new_tokens={options.max_new_tokens} leaves no room for a prompt "
                f"in rows of config.data.length={length}"
            )
        decoding.check(options.decoding, "config.task.decoding")

    def predict(self, example, segments, outputs):
        """Returns loss in nats, tokens and bytes of an example's learnt part; {} if it has none."""
        sums = {"loss": 0.0, "tokens": 0.0, "bytes": 0.0}
        for segment, read in zip(segments, outputs, strict=True):
            weights = segment.target_weights.astype(np.float64)
            sums["loss"] += float(weights @ read["loss"])
            sums["tokens"] += float(weights.sum())
            sums["bytes"] += float(weights @ segment.target_bytes)
        return sums if sums["tokens"] else {}

    def counts(self, example, prediction):
        return {name: prediction[name] for name in ("loss", "tokens", "bytes")}

    def compute_metrics(self, counts):
        """Returns loss, perplexity and bits_per_byte, the last unless all texts were empty."""
        return language.of_tokens(counts["loss"], counts["tokens"], counts["bytes"] or None)

    def asked(self, example: Example) -> str:
        """Returns what the example asks, for `show`."""
        raise NotImplementedError

    def show(self, example, prediction):
        asked = " ".join(self.asked(example).split())
        if "text" in prediction:
            return f"{asked} → {' '.join(prediction['text'].split())}"
        sums = (prediction[name] for name in ("loss", "tokens")) if prediction else ()
        perplexity = language.of_tokens(*sums)["perplexity"] if prediction else math.nan
        return f"{asked} → (perplexity {perplexity:.1f})"


class TextGeneration(Generation):
    """A prompt that leaves no room for the completion is cut to its end: at least half a row, more
    if the completion is short; to generate, it leaves room for `max_new_tokens`. A completion
    longer than the row continues in further windows, so each of its tokens is predicted once."""

    name = NAME
    optional = ("title",)
    Options = TextGenerationConfig

    @property
    def kind(self):
        return self.options.kind

    @classmethod
    def kind_of(cls, options):
        return options.kind

    @property
    def forms(self):
        return FORMS[self.kind]

    @property
    def pattern(self):
        return "prefix" if self.options.prefix else "causal"

    @property
    def metric(self):
        return "perplexity" if self.kind == "story" else "f1"

    @property
    def higher_is_better(self):
        return self.kind != "story"

    @classmethod
    def score_names(cls, options):
        if options.kind == "story":
            return super().score_names(options)
        return ("exact_match", "f1", "rouge_l", "bleu")

    def check(self):
        """Raises UserError for impossible sizes, and for templates with fields that an example does
        not have."""
        self.tokenizer.require("eos", "it ends every text")
        self._check_sizes()
        options = self.options
        allowed = PROMPT_FIELDS[options.kind]
        _check_template("prompt", options.prompt, allowed, options.kind)
        allowed = (*allowed, *COMPLETION_FIELDS[options.kind])
        _check_template("completion", options.completion, allowed, options.kind)

    @property
    def arrays(self):
        return super().arrays | {"prefix": self.options.prefix}

    def prompt(self, example):
        text = self.options.prompt.format(**fields(example, self.options))
        room = self.layout.length - len(self._start()) - self.options.max_new_tokens
        while len((encoding := self.tokenizer.encode(text)).ids) > room:
            text = text[max(1, int(encoding.starts[-room])) :]
        return text

    def segments(self, example, number, labelled):
        options, tokenizer, length = self.options, self.tokenizer, self.layout.length
        known, start = fields(example, options), self._start()
        asking = options.prompt.format(**known)
        begin = tokenizer.encode(asking).ids
        end, bytes_ = np.zeros(0, np.int32), np.zeros(0)
        complete = labelled or bool(known.get(COMPLETION_FIELDS[options.kind][0]))
        if complete:
            text = options.completion.format(**known)
            end, bytes_ = _encode_completion(tokenizer, asking, begin, text)
        begin = begin[-max(length - len(start) - len(end), length // 2) :]
        text = np.concatenate([start, begin, end, [tokenizer.eos]]).astype(np.int32)
        asked = len(start) + len(begin)
        weights, sizes = np.zeros(len(text) - 1, np.float32), np.zeros(len(text) - 1, np.float32)
        if complete:
            weights[asked - 1 :] = 1.0
            sizes[asked - 1 : -1] = bytes_
        prefix = asked if options.prefix else 0
        return in_windows(text, weights, sizes, length, options.overlap, number, labelled, prefix)

    def counts(self, example, prediction):
        if self.kind == "story":
            return super().counts(example, prediction)
        golds, text = example["answers"]["text"], prediction["text"]
        return answers.count(golds, text) | rouge.count(golds, text) | bleu.count(golds, text)

    def compute_metrics(self, counts):
        """Returns exact_match, f1, rouge_l and bleu of generated answers, from 0 to 1. Stories have
        their perplexity instead, since there is no single right ending."""
        if self.kind == "story":
            return super().compute_metrics(counts)
        return answers.compute(counts) | rouge.compute(counts) | bleu.compute(counts)

    def asked(self, example):
        return self.prompt(example) if self.kind == "story" else example["question"]


def in_windows(
    text: Int[np.ndarray, " N+1"],
    weights: Float[np.ndarray, " N"],
    sizes: Float[np.ndarray, " N"],
    length: int,
    overlap: int,
    number: int,
    labelled: bool,
    prefix: int = 0,
) -> list[Segment]:
    """Returns the segments of one text: windows of at most `length` tokens, whose targets are the
    next tokens.

    Args:
        weights, sizes: loss weight and bytes of each token from the second one on.
        overlap: tokens that a window shares with the one before it, which predicts them.
        number, labelled, prefix: of the example; prefix counts tokens of the text.
    """
    segments, done = [], 0
    for first, last in windows(len(weights), length, length - overlap):
        here = weights[first:last].copy()
        here[: max(0, done - first)] = 0.0
        done = last
        segments.append(
            Segment(
                text[first:last],
                np.zeros(last - first, np.int32),
                example=number,
                weight=float(labelled),
                targets=text[first + 1 : last + 1],
                target_weights=here,
                target_bytes=sizes[first:last],
                prefix=max(0, prefix - first),
            )
        )
    return segments


def _check_template(key: str, template: str, allowed: Iterable[str], kind: str) -> None:
    try:
        names = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise UserError(f"config.task.{key}={template!r}: {error}") from error
    for name in names:
        if name not in allowed:
            raise UserError(
                f"config.task.{key}={template!r} names {{{name}}}, which the {key} of a {kind} "
                f"does not have{nearest(name, allowed)}"
            )
    try:
        template.format(**dict.fromkeys(allowed, "x"))
    except (ValueError, KeyError, IndexError) as error:
        raise UserError(f"config.task.{key}={template!r}: {error}") from error
