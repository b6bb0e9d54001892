"""Answers that are cut out of a context, as BERT did SQuAD (Devlin et al. 2018, section 4.2).

Axes: R rows, S slots of a row, L positions of a row.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from research.data.batch import Layout, Slot
from research.data.tokenizer import Encoding, Tokenizer
from research.errors import UserError
from research.evaluation import answers
from research.models import heads
from research.models.attention import MASKED
from research.models.config import ModelConfig
from research.objectives.protocol import Objective
from research.tasks.protocol import Example, Outputs, Prediction, Task
from research.tasks.sequence_classification import segments
from research.tasks.windows import windows

NAME = "span_qa"
SPECIALS = 3  # [CLS] question [SEP] context [SEP]


@dataclasses.dataclass(frozen=True)
class SpanQAConfig:
    """Lengths are in tokens.

    `stride`: from the start of a window of the context to the start of the next one; what a window
    holds beyond it overlaps with the next. `max_question`: a longer question loses its end.
    `max_answer`: the longest answer that is predicted. `unanswerable`: whether a question may have
    no answer; only then is an empty one predicted.
    """

    stride: int = 64
    max_question: int = 24
    max_answer: int = 48
    unanswerable: bool = False


def slot_log_probabilities(
    scores: Float[Array, "R L 2"], slots: Int[Array, "R L"], count: int
) -> Float[Array, "R S L 2"]:
    """For each of `count` slots the log-probabilities of start and end over its own positions."""
    member = slots[:, None, :] == jnp.arange(1, count + 1)[None, :, None]
    return jax.nn.log_softmax(jnp.where(member[..., None], scores[:, None], MASKED), axis=2)


def make(
    config: SpanQAConfig, model: ModelConfig, tokenizer: Tokenizer, length: int, slots: int
) -> Task:
    """The task on rows of `length` tokens with at most `slots` windows.

    In a window that does not hold the whole answer, start and end are the first token, [CLS].

    Raises UserError for a stride that would leave out tokens of the context.
    """
    room = length - SPECIALS - config.max_question
    if not 0 < config.stride <= room or config.max_question < 1 or config.max_answer < 1:
        raise UserError(
            f"config.task.stride={config.stride}: rows of config.data.length={length} with "
            f"questions of config.task.max_question={config.max_question} have room for {room} "
            "tokens of context; stride must be from 1 to that, max_question and max_answer at "
            "least 1"
        )
    head = heads.Classifier(model, classes=2)

    def logits(params, hidden):
        return head.apply({"params": params["heads"][NAME]}, hidden)

    def weight(batch):
        return jnp.sum(batch["slot_weights"])

    def loss(params, model, hidden, batch, row_keys):
        weights = batch["slot_weights"]
        logp = slot_log_probabilities(logits(params, hidden), batch["slots"], weights.shape[1])
        gold = jnp.stack([batch["start"], batch["end"]], axis=-1)  # [R, S, 2]
        picked = jnp.take_along_axis(logp, gold[:, :, None], axis=2)[:, :, 0]
        total = -jnp.sum(picked.mean(-1) * weights)
        right = jnp.all(jnp.argmax(logp, axis=2) == gold, axis=-1).astype(jnp.float32)
        return total, {"loss": total, "correct": jnp.sum(right * weights), "count": weight(batch)}

    def outputs(params, model, hidden, batch):
        scores = logits(params, hidden)
        return {"token": {"start": scores[..., 0], "end": scores[..., 1]}}

    def cut(example: Example) -> tuple[np.ndarray, Encoding, list[tuple[int, int]]]:
        """The question's ids, the context, and its windows (token start, token end)."""
        question = tokenizer.encode(example["question"]).ids[: config.max_question]
        context = tokenizer.encode(example["context"])
        here = length - SPECIALS - len(question)
        return question, context, windows(len(context.ids), here, config.stride)

    def make_slots(example: Example, number: int, labelled: bool) -> list[Slot]:
        question, context, spans = cut(example)
        gold = _gold(example, context, config.unanswerable) if labelled else None
        found = []
        for start, end in spans:
            slot = segments(tokenizer, [question, context.ids[start:end]], length)
            labels = {"start": 0, "end": 0}
            if gold and start <= gold[0] and gold[1] < end:
                shift = len(question) + 2 - start
                labels = {"start": gold[0] + shift, "end": gold[1] + shift}
            found.append(
                dataclasses.replace(slot, example=number, weight=float(labelled), labels=labels)
            )
        return found

    def predict(example: Example, slots: Sequence[Slot], outputs: Sequence[Outputs]) -> Prediction:
        question, context, spans = cut(example)
        before = len(question) + 2
        best, place, empty = -np.inf, None, np.inf
        for (start, end), found in zip(spans, outputs, strict=True):
            first, last = (_log_softmax(np.asarray(found[name])) for name in ("start", "end"))
            empty = min(empty, float(first[0] + last[0]))
            inside = slice(before, before + end - start)
            score, i, j = best_span(first[inside], last[inside], config.max_answer)
            if score > best:
                best, place = score, (start + i, start + j)
        if place is None or (config.unanswerable and empty > best):
            certain = 1.0 if place is None else float(np.exp(empty))
            return {"answer": "", "start": -1, "probability": round(certain, 6)}
        begin, finish = int(context.starts[place[0]]), int(context.ends[place[1]])
        raw = example["context"][begin:finish]
        # A byte-level token may hold the blank before its word.
        begin += len(raw) - len(raw.lstrip())
        return {"answer": raw.strip(), "start": begin, "probability": round(float(np.exp(best)), 6)}

    def counts(example: Example, prediction: Prediction) -> dict[str, float]:
        return answers.count(example["answers"]["text"], prediction["answer"])

    def show(example: Example, prediction: Prediction) -> str:
        said = prediction["answer"] or "no answer"
        return f"{example['question']} → {said} ({prediction['probability']:.0%})"

    return Task(
        NAME,
        "question",
        Layout(length, slots, labels=("start", "end")),
        Objective(NAME, "full", head, weight, loss, finish_loss, outputs),
        make_slots,
        predict,
        counts,
        answers.finish,
        "f1",
        show,
    )


def finish_loss(counts: Mapping[str, float]) -> dict[str, float]:
    """Mean loss of a window, and the share of windows whose start and end are both right."""
    n = counts["count"]
    return {"loss": counts["loss"] / n, "window_accuracy": counts["correct"] / n}


def best_span(start: np.ndarray, end: np.ndarray, longest: int) -> tuple[float, int, int]:
    """(score, i, j) of the best start[i] + end[j] with i <= j < i + longest; -inf for no token."""
    n = len(start)
    if n == 0:
        return -np.inf, 0, 0
    allowed = np.tril(np.triu(np.ones((n, n), bool)), longest - 1)
    total = np.where(allowed, start[:, None] + end[None, :], -np.inf)
    i, j = divmod(int(np.argmax(total)), n)
    return float(total[i, j]), i, j


def _log_softmax(x: np.ndarray) -> np.ndarray:
    shifted = x.astype(np.float64) - x.max()
    return shifted - np.log(np.exp(shifted).sum())


def _gold(example: Example, context: Encoding, unanswerable: bool) -> tuple[int, int] | None:
    """First and last token of the example's first answer; tokens that it only touches count.

    None for a question without an answer.
    """
    texts, starts = example["answers"]["text"], example["answers"]["answer_start"]
    if not texts:
        if not unanswerable:
            raise UserError(
                f"example {example['id']!r} has no answer; where questions may have none, set "
                "config.task.unanswerable=true"
            )
        return None
    begin, finish = starts[0], starts[0] + len(texts[0])
    touched = np.flatnonzero((context.ends > begin) & (context.starts < finish))
    if not touched.size:
        raise UserError(
            f"example {example['id']!r}: its answer {texts[0]!r} has no token in the context"
        )
    return int(touched[0]), int(touched[-1])
